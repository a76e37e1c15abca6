//! What must hold, and what is told where it does not.

use std::fmt;

use serde::Serialize;

/// What must hold all through a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Invariant {
    /// No node shows a commitment that is not valid, or whose signer is not elected.
    Valid,
    /// Each block that a node shows stands on the one before.
    Linked,
    /// The chain that a node shows is the one that the protocol chooses among the blocks that the node has; what its handle tells
    /// is what its store holds.
    ForkChoice,
    /// What is anchored to L1 blocks that were replaced has left the chain, unless something signed since stands on it; nothing else
    /// has.
    Withdrawn,
    /// What was published and acknowledged is still there, unless a rule of the protocol has replaced it.
    Acknowledged,
    /// No honest signer has made two promises that contradict each other.
    Guarded,
    /// A node that says that it is live has all that there is.
    Live,
    /// All are live on one chain soon after the last fault.
    Converged,
    /// No honest node is banned, or charged with what it has not done.
    Charged,
    /// Nothing grows over its bound.
    Bounded,
    /// No client ends by itself, no call goes without an answer, nothing panics.
    Running,
}

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Violation {
    /// The seed of the run.
    pub seed: u64,
    /// Milliseconds from the beginning.
    pub at: u64,
    /// Where, if it is of one node.
    pub node: Option<usize>,
    /// Which one.
    pub invariant: Invariant,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, at, node, invariant, detail } = self;
        let at = *at as f64 / 1000.0;
        let place = node.map_or_else(String::new, |node| format!(" node {node},"));
        write!(f, "seed {seed}, {at:.3} s,{place} {invariant:?}: {detail}")
    }
}

/// The same before it is known when.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) node: Option<usize>,
    pub(crate) invariant: Invariant,
    pub(crate) detail: String,
}

/// Holds, or not, at a node.
pub(crate) fn holds(
    holds: bool,
    node: impl Into<Option<usize>>,
    invariant: Invariant,
    detail: impl FnOnce() -> String,
) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken { node: node.into(), invariant, detail: detail() }) }
}
