//! The preconfirmation node.
fn main() {}
