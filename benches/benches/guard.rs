//! What a signing guard costs: `cargo xtask bench --suite guard` runs this and reads the JSON on stdout.

use preconfirmation_benches::guard::measure;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Cargo says so when it measures; without, a little of it runs, that it does not rot.
    let measured = std::env::args().any(|arg| arg == "--bench");
    let (turns, blocks) = if measured { (30, 100) } else { (1, 4) };
    match tokio::runtime::Runtime::new()?.block_on(measure(turns, blocks)) {
        Some(figures) => println!("{}", serde_json::to_string(&figures)?),
        None if measured => return Err("there is no PostgreSQL to measure".into()),
        None => {}
    }
    Ok(())
}
