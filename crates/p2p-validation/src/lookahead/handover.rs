//! The expected preconfer after handovers (EOP).

use std::{collections::BTreeMap, num::NonZeroUsize};

use p2p_types::{Address, UnixSeconds};

use super::{Lookahead, LookaheadError, Slot};
use crate::Elected;

/// Who has ended its preconfirmations early (EOP, §6). From then on the preconfer of the next window is the
/// one to expect, for as long as the window lasts.
///
/// This says whom to wait for, not who may sign: a commitment still belongs to the window that it names, and
/// its time has to fall in it (§4), so that a node which missed the handover judges alike. Remembers at most
/// `limit` windows; the oldest goes first.
#[derive(Debug)]
pub struct Handovers {
    limit: NonZeroUsize,
    over: BTreeMap<UnixSeconds, Address>,
}

impl Handovers {
    /// Nobody has handed over yet.
    #[must_use]
    pub const fn new(limit: NonZeroUsize) -> Self {
        Self { limit, over: BTreeMap::new() }
    }

    /// Notes what an elected preconfer has signed. Returns whether that hands over a window that had not
    /// been handed over.
    pub fn note(&mut self, commitment: &Elected) -> bool {
        let (end, signer) = (commitment.window_end(), commitment.recovered().signer());
        if !commitment.preconf().eop || self.over.insert(end, signer) == Some(signer) {
            return false;
        }
        if self.over.len() > self.limit.get() {
            self.over.pop_first();
        }
        true
    }

    /// The slot of the preconfer to expect at a moment: the one that the lookahead elected, or, if that one
    /// has handed over, the next that has not. None where the lookahead does not know.
    ///
    /// # Errors
    /// [`LookaheadError`] of the lookahead.
    pub fn expected(
        &self,
        lookahead: &dyn Lookahead,
        moment: UnixSeconds,
    ) -> Result<Option<Slot>, LookaheadError> {
        let mut moment = moment;
        // One step more than there are handovers, whatever the lookahead answers.
        for _ in 0..=self.over.len() {
            let Some(slot) = lookahead.turn(moment)? else { return Ok(None) };
            let signer = self.over.get(&slot.window.end);
            if signer.is_none_or(|signer| *signer != slot.signer && !lookahead.elects_anyone()) {
                return Ok(Some(slot));
            }
            let Some(next) = slot.window.end.get().checked_add(1) else { return Ok(None) };
            moment = UnixSeconds::new(next);
        }
        Ok(None)
    }
}
