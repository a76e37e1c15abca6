//! The preconfirmation node's command line; the library of the same name has all of it.

use std::process::ExitCode;

fn main() -> ExitCode {
    p2p_node::main()
}
