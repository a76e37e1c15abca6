//! What has been forwarded: at most one commitment per signer, window and height, and one that conflicts with
//! it as evidence.

use p2p_types::{Address, B256, BlockNumber, UnixSeconds};
use p2p_validation::Elected;
use schnellru::{ByLength, LruMap};

type Promise = (Address, UnixSeconds, BlockNumber);

/// Bounded by count; the least recently used goes first.
pub(crate) struct ForwardMemory {
    promises: LruMap<Promise, (B256, Option<B256>)>,
}

impl ForwardMemory {
    pub(crate) fn new(capacity: u32) -> Self {
        Self { promises: LruMap::new(ByLength::new(capacity)) }
    }

    /// Whether this may be forwarded; notes it if so.
    pub(crate) fn allows(&mut self, commitment: &Elected) -> bool {
        let hash = commitment.hash();
        let promise = (commitment.recovered().signer(), commitment.window_end(), commitment.block());
        match self.promises.get(&promise) {
            None => self.promises.insert(promise, (hash, None)),
            Some((first, second)) => {
                if second.is_none() && *first != hash {
                    *second = Some(hash);
                }
                *first == hash || *second == Some(hash)
            }
        }
    }

    /// Another commitment of the same signer for the same height of the same window.
    pub(crate) fn other(&self, commitment: &Elected) -> Option<B256> {
        let promise = (commitment.recovered().signer(), commitment.window_end(), commitment.block());
        let (first, second) = self.promises.peek(&promise)?;
        [Some(*first), *second].into_iter().flatten().find(|other| *other != commitment.hash())
    }
}
