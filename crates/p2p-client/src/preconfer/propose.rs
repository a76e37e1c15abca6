//! From what the caller knows of a block to a published commitment: build, judge, record, sign, check, publish.

use std::sync::Arc;

use p2p_types::{
    Address, B256, BlockNumber, Bytes, PreconfCommitment, Preconfirmation, Recovered, SignedCommitment,
    TxList, U256, UnixSeconds,
};
use p2p_validation::{Draft, Window};
use tokio::time::timeout;

use super::{NotReady, Preconfer, ProposeError};
use crate::{ChainApi, Component, P2pClientError, PublishOutcome, Publisher, blocking::spawn_blocking};

/// What only the caller knows of a block. All else follows from the chain, the schedule and the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockFields {
    /// The block's time: in our window, after its parent's, and not ahead of the clock.
    pub timestamp: UnixSeconds,
    /// Its gas limit.
    pub gas_limit: u64,
    /// Who receives its fees.
    pub coinbase: Address,
    /// The L1 block that it is anchored to.
    pub anchor_block_number: BlockNumber,
    /// Who may prove it.
    pub prover_auth: Address,
    /// The L1 proposal that it belongs to.
    pub proposal_id: u64,
}

impl BlockFields {
    /// A block of this time, with zero everywhere else.
    #[must_use]
    pub const fn at(timestamp: UnixSeconds) -> Self {
        Self {
            timestamp,
            gas_limit: 0,
            coinbase: Address::ZERO,
            anchor_block_number: 0,
            prover_auth: Address::ZERO,
            proposal_id: 0,
        }
    }
}

/// What was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Proposed {
    /// Its height; of a handover without a block, the height that it declines.
    pub block: BlockNumber,
    /// Its preconfirmation hash.
    pub hash: B256,
    /// What became of it.
    pub outcome: PublishOutcome,
}

/// The block that a commitment is built on.
struct Parent {
    number: BlockNumber,
    hash: B256,
    /// Its time; none of the settled block.
    timestamp: Option<UnixSeconds>,
}

impl Preconfer {
    /// Proposes the next block on the head: builds it, has it judged by all rules, recorded as promised by the store and the
    /// [guard](crate::P2pClientConfig::with_guard), signed, and published with its transaction list. Dropping the future does
    /// not stop it.
    ///
    /// The promise is recorded before the signer is asked: wherever this ends, and whatever becomes of a signature that comes
    /// too late, no other block of this window and height is signed. The guard is asked again before the block is sent: a
    /// node that has lost its lease meanwhile does not send it.
    ///
    /// A block that nobody can hear of is queued until a peer connects.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub async fn propose(&self, fields: BlockFields, txlist: Bytes) -> Result<Proposed, ProposeError> {
        self.spawn(self.clone().block(fields, txlist, false)).await
    }

    /// The same, and hands the rest of the window over (EOP): no block of it may follow.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub async fn hand_over_with(&self, fields: BlockFields, txlist: Bytes) -> Result<Proposed, ProposeError> {
        self.spawn(self.clone().block(fields, txlist, true)).await
    }

    /// Hands the rest of our window over without a block (EOP): declines the height above the head. Again, it gives
    /// [`PublishOutcome::AlreadyPublished`].
    ///
    /// # Errors
    /// [`ProposeError`].
    pub async fn hand_over(&self) -> Result<Proposed, ProposeError> {
        self.spawn(self.clone().end()).await
    }

    pub(super) fn chain(&self) -> ChainApi {
        ChainApi::new(self.client.clone())
    }

    /// What is recorded is sent, whether anybody waits for it or not.
    async fn spawn(
        &self,
        work: impl Future<Output = Result<Proposed, ProposeError>> + Send + 'static,
    ) -> Result<Proposed, ProposeError> {
        let done = self.client.tasks.spawn(work).await;
        done.map_err(|_| P2pClientError::Panicked(Component::Publishing))?
    }

    async fn block(self, fields: BlockFields, txlist: Bytes, eop: bool) -> Result<Proposed, ProposeError> {
        let window = self.may_propose().await?;
        let limit = self.client.requester.max_txlist_bytes;
        let hashed = spawn_blocking(move || TxList::new(txlist, limit)).await;
        let txlist = hashed
            .map_err(|_| P2pClientError::Panicked(Component::Publishing))?
            .map_err(P2pClientError::from)?;
        let parent = self.parent().await?;
        let preconf = Preconfirmation {
            eop,
            timestamp: U256::from(fields.timestamp.get()),
            gas_limit: U256::from(fields.gas_limit),
            coinbase: fields.coinbase,
            anchor_block_number: U256::from(fields.anchor_block_number),
            raw_tx_list_hash: txlist.hash(),
            prover_auth: fields.prover_auth,
            proposal_id: U256::from(fields.proposal_id),
            ..on(&parent, window)
        };
        self.sign_and_publish(preconf, Some(txlist)).await
    }

    async fn end(self) -> Result<Proposed, ProposeError> {
        let window = match self.may_propose().await {
            Ok(window) | Err(NotReady::HandedOver { window, .. }) => window,
            Err(why) => return Err(why.into()),
        };
        let parent = self.parent().await?;
        // The same for the same head, so that a handover that is repeated, here or on another node, is the same promise.
        let timestamp = parent.timestamp.map_or(window.start, |timestamp| timestamp.max(window.start));
        let preconf =
            Preconfirmation { eop: true, timestamp: U256::from(timestamp.get()), ..on(&parent, window) };
        self.sign_and_publish(preconf, None).await
    }

    /// The head, or the settled block where nothing is above it.
    async fn parent(&self) -> Result<Parent, ProposeError> {
        let head = self.client.state.borrow().head;
        if let Some(head) = head {
            let stored = self.chain().commitment(head.hash).await?;
            let timestamp =
                stored.and_then(|stored| u64::try_from(stored.recovered.signed().preconf().timestamp).ok());
            return Ok(Parent {
                number: head.number,
                hash: head.hash,
                timestamp: timestamp.map(UnixSeconds::new),
            });
        }
        let status = self.client.state.borrow().status;
        let base = self.chain().base().await?.ok_or(NotReady::NotLive(status))?;
        let hash = match base.hash {
            Some(hash) => Some(hash),
            None => self.chain().block(base.number).await?.map(|stored| stored.hash()),
        };
        let hash = hash.ok_or(ProposeError::ParentUnknown { base: base.number })?;
        Ok(Parent { number: base.number, hash, timestamp: None })
    }

    async fn sign_and_publish(
        &self,
        preconf: Preconfirmation,
        txlist: Option<TxList>,
    ) -> Result<Proposed, ProposeError> {
        let validator = &self.client.requester.validator;
        let commitment = PreconfCommitment { preconf, slasher_address: validator.config().slasher };
        let draft = validator
            .draft(commitment, self.address)
            .map_err(|rejection| P2pClientError::Invalid(Box::new(rejection)))?;
        let (block, hash) = (draft.block(), draft.hash());
        self.record(&draft).await?;
        let recovered = self.sign(draft).await?;
        let publisher = Publisher::new(self.client.clone());
        let outcome = publisher.publish_recovered(recovered, txlist).await?;
        Ok(Proposed { block, hash, outcome })
    }

    /// Has the promise recorded, durably, if all rules and both guards allow it. Nothing is signed before.
    async fn record(&self, draft: &Draft) -> Result<(), ProposeError> {
        let ask = |record| self.client.ask_chain_on_head(draft.clone(), record);
        if self.client.guard.is_set() {
            // It is to record only what the chain allows.
            ask(false).await?;
            self.client.guard.permit(draft.promise()).await?;
        }
        Ok(ask(true).await?)
    }

    /// The signature, within the time that it may take, and of nobody else.
    async fn sign(&self, draft: Draft) -> Result<Recovered, ProposeError> {
        let (domain, block) = (self.client.requester.validator.config().domain, draft.block());
        let (limit, expected, to_sign) = (self.signing_timeout, self.address, draft.signing_hash(&domain));
        let signature = timeout(limit, self.signer.sign_hash(&to_sign))
            .await
            .map_err(|_| ProposeError::SignerTimeout { block, limit })?
            .map_err(|error| ProposeError::Signer { block, source: Arc::new(error) })?;
        let signed =
            SignedCommitment { commitment: draft.commitment().clone(), signature: signature.as_rsy().into() };
        let foreign = |recovered| ProposeError::ForeignSignature { block, expected, recovered };
        // Not every signer gives the low form.
        let recovered = signed.with_low_s().recover(&domain).map_err(|_| foreign(None))?;
        if recovered.signer() == expected { Ok(recovered) } else { Err(foreign(Some(recovered.signer()))) }
    }
}

/// What follows from the chain and the schedule alone.
fn on(parent: &Parent, window: Window) -> Preconfirmation {
    Preconfirmation {
        // A height that 64 bits do not hold is refused by the rules.
        block_number: U256::from(parent.number) + U256::from(1),
        parent_preconfirmation_hash: parent.hash,
        submission_window_end: U256::from(window.end.get()),
        ..Default::default()
    }
}
