//! Coalesces the events of reorgs that follow one another closely.
//!
//! A preconfer that signs two branches of its turn, and extends them in turns, makes each block a reorg of the whole turn. Told
//! one by one, the events grow with the square of the turn, and an application that executes blocks does all that work. So a
//! reorg that was told pays for itself: for each block that it dropped, the next one waits a second. What happens meanwhile is
//! folded into its net effect against what the application knows. Blocks that were told again are then at most about as many
//! as blocks that are new.
//!
//! The store and the handles are not held back, and neither is a chain that only grows.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use p2p_types::{Address, B256, BlockNumber, Head, Origin, SdkEvent};

/// How long the next reorg waits for each block that the last one dropped.
const PER_DROPPED_BLOCK: Duration = Duration::from_secs(1);

/// Holds back the second of two reorgs that follow one another closely. What it holds is bounded by the chain above the base.
#[derive(Debug, Default)]
pub(super) struct ReorgCoalescer {
    /// Until then the next reorg waits.
    quiet_until: Option<Instant>,
    /// Signers of blocks that have come since the last reorg was told.
    signers: Vec<Address>,
    held: Option<Held>,
}

/// What has changed against the chain that the application knows.
#[derive(Debug, Default)]
struct Held {
    /// The lowest height that has changed.
    from: BlockNumber,
    /// The blocks that the application knows from there on, which have left the chain.
    dropped: Vec<B256>,
    /// What stands there now, by height: its hash and its events.
    applied: BTreeMap<BlockNumber, (B256, Vec<SdkEvent>)>,
    /// The head, if that has moved.
    head: Option<Option<Head>>,
}

impl ReorgCoalescer {
    /// Takes an event, and adds to `out` what the application is to be told now.
    pub(super) fn push(&mut self, now: Instant, event: SdkEvent, out: &mut Vec<SdkEvent>) {
        let is_quiet = self.quiet_until.is_some_and(|until| now < until);
        match (event, &mut self.held) {
            (SdkEvent::Reorg { dropped, from }, Some(held)) => held.fold(dropped, from),
            (SdkEvent::Reorg { dropped, from }, None) if is_quiet => {
                self.held = Some(Held { from, dropped, ..Held::default() });
            }
            (SdkEvent::Reorg { dropped, from }, None) => {
                self.told(now, dropped.len());
                out.push(SdkEvent::Reorg { dropped, from });
            }
            (event @ (SdkEvent::L1Reorg { .. } | SdkEvent::ScheduleReorg { .. }), _) => {
                self.release(now, out);
                out.push(event);
            }
            (SdkEvent::Commitment { block, commitment, origin }, held) => {
                let (hash, signer) = (commitment.hash(), commitment.signer());
                let is_known = self.signers.contains(&signer);
                if is_quiet && !is_known {
                    self.signers.push(signer);
                }
                let event = SdkEvent::Commitment { block, commitment, origin };
                match held {
                    Some(held) => drop(held.applied.insert(block, (hash, vec![event]))),
                    None => return out.push(event),
                }
                // The next preconfer has decided which branch stands, or the application itself.
                if !is_known || origin == Origin::Local {
                    self.release(now, out);
                }
            }
            (SdkEvent::BlockReady { block, hash, raw_tx_list_hash }, held) => {
                let event = SdkEvent::BlockReady { block, hash, raw_tx_list_hash };
                match held.as_mut().and_then(|held| held.applied.get_mut(&block)) {
                    Some((applied, events)) if *applied == hash => events.push(event),
                    _ => out.push(event),
                }
            }
            (SdkEvent::Head { head }, Some(held)) => held.head = Some(head),
            (event, _) => out.push(event),
        }
    }

    /// When [`release`](Self::release) is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held.as_ref().and(self.quiet_until)
    }

    /// Adds to `out` what was held back.
    pub(super) fn release(&mut self, now: Instant, out: &mut Vec<SdkEvent>) {
        let Some(Held { from, dropped, applied, head }) = self.held.take() else { return };
        self.told(now, dropped.len());
        if !dropped.is_empty() {
            out.push(SdkEvent::Reorg { dropped, from });
        }
        out.extend(applied.into_values().flat_map(|(_, events)| events));
        out.extend(head.map(|head| SdkEvent::Head { head }));
    }

    /// A reorg is told that drops this many blocks.
    fn told(&mut self, now: Instant, dropped: usize) {
        let dropped = u32::try_from(dropped).unwrap_or(u32::MAX);
        self.quiet_until = now.checked_add(PER_DROPPED_BLOCK.saturating_mul(dropped));
        self.signers.clear();
    }
}

impl Held {
    /// Adds a reorg. Blocks that it drops and that the application does not know need not be told at all.
    fn fold(&mut self, dropped: Vec<B256>, from: BlockNumber) {
        drop(self.applied.split_off(&from));
        if let Some(below @ 1..) = self.from.checked_sub(from) {
            let below = usize::try_from(below).unwrap_or(usize::MAX);
            self.dropped.splice(..0, dropped.into_iter().take(below));
            self.from = from;
        }
    }
}

#[cfg(test)]
mod tests;
