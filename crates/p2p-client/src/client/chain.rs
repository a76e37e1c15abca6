//! [`ChainApi`]: the chain as the application reads it, and what the application tells of L1 and L2.

use std::sync::Arc;

use p2p_storage::{StoredCommitment, StoredEvidence};
use p2p_types::{B256, Base, BlockNumber, Head, TxList, UnixSeconds};
use p2p_validation::Slot;

use super::Inner;
use crate::{L1Reorg, P2pClientError, ScheduleReorg, chain::Command, command::ServiceCommand};

/// The preconfirmed chain: its blocks, and what the application declares about L1 and L2. See
/// [`P2pClient::chain`](crate::P2pClient::chain). A clone is another handle of the same client.
#[derive(Debug, Clone)]
pub struct ChainApi {
    pub(super) client: Arc<Inner>,
}

impl ChainApi {
    #[cfg(feature = "preconfer")]
    pub(crate) const fn new(client: Arc<Inner>) -> Self {
        Self { client }
    }

    /// The newest block of the chain above the base; none while there is no block above it.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.client.state.borrow().head
    }

    /// The settled block, as declared last; none before that.
    ///
    /// # Errors
    /// [`P2pClientError::Storage`].
    pub async fn base(&self) -> Result<Option<Base>, P2pClientError> {
        self.client.with_store(|store| store.base()).await
    }

    /// The canonical block at a height, from the store.
    ///
    /// # Errors
    /// [`P2pClientError::Storage`].
    pub async fn block(&self, block: BlockNumber) -> Result<Option<StoredCommitment>, P2pClientError> {
        self.client.with_store(move |store| store.by_block(block)).await
    }

    /// The canonical blocks from a height on, without a gap, at most `limit`, from the store.
    ///
    /// # Errors
    /// [`P2pClientError::Storage`].
    pub async fn blocks(
        &self,
        from: BlockNumber,
        limit: usize,
    ) -> Result<Vec<StoredCommitment>, P2pClientError> {
        self.client.with_store(move |store| store.range(from, limit)).await
    }

    /// The commitment with this preconfirmation hash, from the store: a block, canonical or not, or a handover.
    ///
    /// # Errors
    /// [`P2pClientError::Storage`].
    pub async fn commitment(&self, hash: B256) -> Result<Option<StoredCommitment>, P2pClientError> {
        self.client.with_store(move |store| store.by_hash(&hash)).await
    }

    /// A transaction list, from the store. One that is damaged there counts as missing, and is fetched again.
    ///
    /// # Errors
    /// [`P2pClientError::Storage`].
    pub async fn txlist(&self, hash: B256) -> Result<Option<TxList>, P2pClientError> {
        self.client.txlist(hash).await
    }

    /// Proofs of misbehaviour that the store holds, by signer and height.
    ///
    /// # Errors
    /// [`P2pClientError::Storage`].
    pub async fn evidence(&self) -> Result<Vec<StoredEvidence>, P2pClientError> {
        self.client.with_store(|store| store.evidence()).await
    }

    /// The slot of the preconfer to expect now: the elected one, or the next if that one has handed over
    /// (EOP, §6). None where the lookahead does not know.
    ///
    /// # Errors
    /// [`P2pClientError::Lookahead`], [`P2pClientError::Closed`].
    pub async fn expected_preconfer(&self) -> Result<Option<Slot>, P2pClientError> {
        let moment = self.client.clock.now();
        let slot = self.client.ask(|reply| Command::Expected { moment, reply }).await?;
        slot.map_err(P2pClientError::Lookahead)
    }

    /// The L2 execution has reached the on-chain tip (§6): `base` is the settled block, and catching up above it
    /// starts.
    ///
    /// # Errors
    /// [`P2pClientError::Storage`], [`P2pClientError::Closed`].
    pub async fn l2_synced(&self, base: Base) -> Result<(), P2pClientError> {
        self.client.ask(|reply| Command::SetBase { base, open: true, reply }).await?.map_err(Into::into)
    }

    /// The settled block has moved to `base`. Nothing at or below it is replaced any more, and blocks above it that do
    /// not stand on it are dropped. Does not start catching up: [`l2_synced`](Self::l2_synced) does.
    ///
    /// # Errors
    /// [`P2pClientError::Storage`], [`P2pClientError::Closed`].
    pub async fn update_head(&self, base: Base) -> Result<(), P2pClientError> {
        self.client.ask(|reply| Command::SetBase { base, open: false, reply }).await?.map_err(Into::into)
    }

    /// The head of L1 has moved. Until the client is told of one, no anchor is too old.
    ///
    /// # Errors
    /// [`P2pClientError::Closed`].
    pub async fn update_l1_head(&self, l1_head: BlockNumber) -> Result<(), P2pClientError> {
        self.client.command(ServiceCommand::Chain(Command::L1Head(l1_head))).await
    }

    /// L1 has replaced its blocks from `anchor` on. Every block above the base that is anchored to one of
    /// them (`anchorBlockNumber` at or above `anchor`) leaves the chain, with all that build on it. The answer
    /// names them, [`SdkEvent::L1Reorg`](crate::SdkEvent::L1Reorg) tells all subscribers, and the head falls.
    ///
    /// The store keeps them as non-canonical blocks and does not serve them. A copy that a peer still has does not bring
    /// them back: only a block that is signed after this call and builds on them does, or
    /// [`notify_anchor_restored`](Self::notify_anchor_restored). Catch-up asks peers for the blocks that replace them.
    ///
    /// # Errors
    /// [`P2pClientError::Storage`], [`P2pClientError::Closed`].
    pub async fn notify_reorg(&self, anchor: BlockNumber) -> Result<L1Reorg, P2pClientError> {
        self.client.ask(|reply| Command::L1Reorg { anchor, reply }).await?.map_err(Into::into)
    }

    /// The L1 blocks from `anchor` on that an earlier [`notify_reorg`](Self::notify_reorg) named are canonical again.
    /// The blocks that left the chain because of that call can be canonical again.
    ///
    /// # Errors
    /// [`P2pClientError::Storage`], [`P2pClientError::Closed`].
    pub async fn notify_anchor_restored(&self, anchor: BlockNumber) -> Result<(), P2pClientError> {
        self.client.ask(|reply| Command::L1Restored { anchor, reply }).await?.map_err(Into::into)
    }

    /// The lookahead answers otherwise than before about what was signed at or after `since`: an L1 reorg has changed an
    /// election, or an operator was removed. Every block and handover above the base that was signed since then is judged
    /// again. What its signer may not have signed leaves the store, with all that stand on it. The answer names the blocks
    /// that have left the chain, and [`SdkEvent::ScheduleReorg`](crate::SdkEvent::ScheduleReorg) tells all subscribers.
    ///
    /// What the lookahead does not tell yet stays until it does. What has left comes back if a later change elects its
    /// signers again. Of each kind the client remembers 4,096 commitments. Nobody is penalised.
    ///
    /// A call that is given up, or that fails, has judged a part of them: repeat it.
    ///
    /// # Errors
    /// [`P2pClientError::Storage`], [`P2pClientError::Closed`].
    pub async fn notify_schedule_changed(&self, since: UnixSeconds) -> Result<ScheduleReorg, P2pClientError> {
        let (mut reorg, mut next) = (ScheduleReorg::none(since), Some(0));
        // A slice of the chain at a time, between which the client does what else there is to do.
        while let Some(from) = next {
            let rejudged = self.client.ask(|reply| Command::ScheduleChanged { since, from, reply }).await??;
            reorg.append(rejudged.reorg);
            next = rejudged.next;
        }
        Ok(reorg)
    }
}
