//! What the view of L2 brings: settled blocks, compared with what was promised for them.

use p2p_storage::StorageError;

use super::{
    ChainProcessor, Moment,
    effects::Effects,
    settlement::{NotSettled, Refuted, Settlement},
};

impl ChainProcessor {
    /// Moves the base to what was settled. What stands on a promise that was not kept falls, and does not come back.
    pub(super) fn settle(
        &mut self,
        at: Moment,
        settlement: Settlement,
        out: &mut Effects,
    ) -> Result<(), StorageError> {
        let Settlement { base, open, refuted, events } = settlement;
        if let Some(Refuted { settled, promised }) = refuted {
            self.ledger.settle_other(base.number, settled, out)?;
            // The first one above the base may name any parent from now on, but for those.
            self.judge.not_settled = NotSettled::new(base.number, promised);
            self.base_moved(at, base, open, out)?;
        } else {
            self.set_base(at, base, open, out)?;
            if self.judge.not_settled.block != base.number || base.hash.is_some() {
                self.judge.not_settled = NotSettled::default();
            }
        }
        for event in events {
            out.settled_block(event);
        }
        Ok(())
    }
}
