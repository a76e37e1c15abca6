//! Whole clients against raw gossipsub on the same mesh: `cargo xtask bench --suite gossip` runs this and reads the
//! JSON on stdout.

use preconfirmation_benches::gossip::{Effort, measure};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Cargo says so when it measures; without, it runs once, that it does not rot.
    let measured = std::env::args().any(|arg| arg == "--bench");
    let runtime = tokio::runtime::Runtime::new()?;
    let figures = runtime.block_on(measure(Effort { turns: if measured { 60 } else { 1 } }));
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}
