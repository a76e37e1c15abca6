//! The guide shows the program that is compiled.

const GUIDE: &str = include_str!("../../../../docs/guide.md");
const EXAMPLE: &str = include_str!("../../examples/sidecar.rs");

/// What a sidecar on two endpoints may take at most.
const LINES: usize = 40;

#[test]
fn the_sidecar_of_the_guide_is_the_compiled_example() {
    let (_, program) = EXAMPLE.split_once("\n\n").unwrap();
    assert!(GUIDE.contains(&format!("```rust,ignore\n{program}```")), "docs/guide.md has another program");
    let code = program.lines().filter(|line| !line.trim().is_empty() && !line.trim().starts_with("//"));
    assert!(code.count() <= LINES, "a sidecar of {LINES} lines");
}
