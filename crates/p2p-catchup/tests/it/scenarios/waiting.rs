//! Commitments that wait, and blocks that could not be stored.
