//! The store on disk against what it stands on: `cargo xtask bench --suite storage` runs this and reads the JSON on
//! the last line of stdout.

#![allow(clippy::disallowed_methods, reason = "what measures time reads the clock")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench that cannot work ends")]

mod blocks;
mod million;
mod turns;

use serde_json::{Map, Value};

/// What is asked for; all else is a detail.
const FIGURES: [&str; 8] = [
    "insert_1",
    "insert_16",
    "insert_64",
    "insert_256",
    "txlist_2mib",
    "range_256_ms",
    "memory_mib",
    "disk_ratio",
];

/// How much is measured.
#[derive(Clone, Copy)]
struct Effort {
    /// Turns of each way.
    turns: usize,
    /// Commitments of the large store.
    million: u64,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Some(child) = args.iter().position(|arg| arg == million::CHILD) {
        return million::child(&args[child + 1]);
    }
    // Cargo says so when it measures; without, everything runs once or so, that it does not rot.
    let measured = args.iter().any(|arg| arg == "--bench");
    let effort =
        if measured { Effort { turns: 40, million: 1_000_000 } } else { Effort { turns: 2, million: 2_000 } };
    let (mut figures, mut details) = (Map::new(), Map::new());
    let mut note = |name: String, value: f64| {
        eprintln!("{name:<28} {value:.3}");
        let into = if FIGURES.contains(&&*name) { &mut figures } else { &mut details };
        into.insert(name, value.into());
    };
    turns::run(effort, &mut note);
    million::run(effort, &mut note);
    figures.insert("details".into(), Value::Object(details));
    println!("{}", Value::Object(figures));
}
