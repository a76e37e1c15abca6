//! What `update_head` every second costs a client with 100,000 unsettled blocks on disk: `cargo xtask bench --suite base`
//! runs this and reads the JSON on stdout.

use std::time::Duration;

use preconfirmation_benches::base::{Effort, measure};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Cargo says so when it measures; without, a little of it runs, that it does not rot.
    let measured = std::env::args().any(|arg| arg == "--bench");
    let effort = if measured {
        Effort { blocks: 100_000, calls: 100, every: Duration::from_secs(1) }
    } else {
        Effort { blocks: 1_000, calls: 10, every: Duration::from_millis(10) }
    };
    let figures = tokio::runtime::Runtime::new()?.block_on(measure(effort));
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}
