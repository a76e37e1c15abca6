//! What stands for the vectors on processors that have none of theirs.

use alloy_primitives::B256;

/// Never there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Avx2 {}

impl Avx2 {
    pub(super) const fn detect() -> Option<Self> {
        None
    }

    pub(super) const fn hash(self, _: [&[u8]; 4]) -> [B256; 4] {
        match self {}
    }
}

/// Never there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Avx512 {}

impl Avx512 {
    pub(super) const fn detect() -> Option<Self> {
        None
    }

    pub(super) const fn hash(self, _: [&[u8]; 8]) -> [B256; 8] {
        match self {}
    }
}
