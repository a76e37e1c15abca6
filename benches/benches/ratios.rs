//! Ours against the naive way, interleaved: `cargo xtask bench` runs this and reads the JSON on stdout. An argument
//! names the pairs to measure, by a part of their names.

use preconfirmation_benches::{
    latency, pairs,
    ratio::{Effort, measure},
};

fn main() -> Result<(), serde_json::Error> {
    // Cargo says so when it measures; without, each runs once or so, that none rots.
    let measured = std::env::args().any(|arg| arg == "--bench");
    let effort = if measured { Effort::FULL } else { Effort::ONCE };
    let named = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let mut figures = Vec::new();
    for mut pair in pairs::all().into_iter().filter(|pair| pair.name.contains(&named)) {
        let figure = measure(&mut pair, effort);
        eprintln!("{:<24} {:>8.2}×", figure.name, figure.ratio);
        figures.push(figure);
    }
    if "single_beside_pages_p99".contains(&named) {
        figures.push(latency::single_beside_pages(effort));
    }
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}
