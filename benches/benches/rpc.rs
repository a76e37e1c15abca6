//! Publishing over JSON-RPC against the client's own API: `cargo xtask bench --suite rpc` runs this and reads the JSON on
//! stdout.

use preconfirmation_benches::rpc::{Effort, measure};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Cargo says so when it measures; without, a little of it runs, that it does not rot.
    let measured = std::env::args().any(|arg| arg == "--bench");
    let effort = if measured {
        Effort { turns: 30, blocks: 100, steady: 5_000, hostile_turns: 8 }
    } else {
        Effort { turns: 1, blocks: 16, steady: 64, hostile_turns: 1 }
    };
    let figures = tokio::runtime::Runtime::new()?.block_on(measure(effort));
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}
