//! Writes the OpenRPC document to standard output: `cargo run -p p2p-rpc --example openrpc > docs/openrpc.json`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{}", serde_json::to_string_pretty(&p2p_rpc::document()?)?);
    Ok(())
}
