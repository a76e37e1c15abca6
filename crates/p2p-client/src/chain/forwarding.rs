//! What elected preconfers have promised: at most three blocks and one handover per signer, window and height go
//! further (§7).

use p2p_types::{Address, B256, BlockNumber, UnixSeconds};
use p2p_validation::Elected;
use schnellru::{ByLength, LruMap};

/// Blocks of one signer, window and height that go further while nobody has built on them.
const BLOCKS: usize = 3;

/// Handovers of one signer and window, whatever their heights: it has one reason to hand over, and may have to say it
/// again where a branch has changed the height.
const HANDOVERS: u32 = 8;

/// What a signer has promised for a height of a window.
#[derive(Debug, Default)]
struct Promised {
    blocks: [Option<B256>; BLOCKS],
    handover: Option<B256>,
}

/// Whether a promise goes further: is forwarded, kept and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It does.
    New,
    /// It has before, whatever bytes signed it then.
    Known,
    /// Its signer has promised too much already; it does only if somebody has built on it.
    Full,
}

/// Bounded by count; the least recently used goes first.
pub(crate) struct ForwardingMemory {
    heights: LruMap<(Address, UnixSeconds, BlockNumber), Promised>,
    handovers: LruMap<(Address, UnixSeconds), u32>,
}

impl ForwardingMemory {
    pub(crate) fn new(capacity: u32) -> Self {
        Self {
            heights: LruMap::new(ByLength::new(capacity)),
            handovers: LruMap::new(ByLength::new(capacity)),
        }
    }

    /// Notes a promise, if there is room for it.
    pub(crate) fn admit(&mut self, commitment: &Elected) -> Admission {
        let (signer, window_end) = (commitment.recovered().signer(), commitment.window_end());
        let (hash, height) = (commitment.hash(), (signer, window_end, commitment.block()));
        let Some(promised) = self.heights.get_or_insert(height, Promised::default) else {
            return Admission::Full;
        };
        if commitment.is_eop_only() {
            match promised.handover {
                Some(known) if known == hash => Admission::Known,
                Some(_) => Admission::Full,
                None => match self.handovers.get_or_insert((signer, window_end), || 0) {
                    Some(count) if *count < HANDOVERS => {
                        *count += 1;
                        promised.handover = Some(hash);
                        Admission::New
                    }
                    _ => Admission::Full,
                },
            }
        } else if promised.blocks.contains(&Some(hash)) {
            Admission::Known
        } else if let Some(free) = promised.blocks.iter_mut().find(|block| block.is_none()) {
            *free = Some(hash);
            Admission::New
        } else {
            Admission::Full
        }
    }
}
