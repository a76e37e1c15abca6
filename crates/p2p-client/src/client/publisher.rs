//! [`Publisher`]: checks what the application publishes by the rules that peers apply, stores it, emits its events, and
//! sends it; in this order.

use std::sync::Arc;

use p2p_storage::StorageError;
use p2p_types::{B256, Bytes, MessageId, Origin, Recovered, SignedCommitment, Topic, TxList};
use p2p_validation::{Authenticated, Draft, Rejection, Validator};
use preconfirmation_types::{Container, RawTxListGossip};
use tokio::sync::{mpsc, oneshot};
use tracing::{Instrument as _, Span, field::Empty};

use super::{Inner, PublishOutcome};
use crate::{
    Component, Conflict, P2pClientError, Publishing,
    blocking::spawn_blocking,
    chain::{Command, PublishDecision, VerifiedTxList},
    command::ServiceCommand,
    state::State,
};

/// What a caller of the publisher has waived.
#[derive(Debug, Clone, Copy, Default)]
struct Waived {
    /// This conflict.
    conflict: Option<Conflict>,
    /// That the client must be live.
    live: bool,
}

/// What is asked of the chain before anything is published.
#[derive(Debug, Clone, Copy, Default)]
struct Question {
    /// Whether it may be published only on the head.
    on_head: bool,
    /// Whether its promise is to be recorded if it may.
    record: bool,
}

/// What is to be published.
enum Publication {
    /// As it was signed. Its signer and the hash of its list are computed on a blocking thread.
    Signed(SignedCommitment, Option<Bytes>),
    /// The same, of which both are known.
    Recovered(Recovered, Option<TxList>),
}

impl Publication {
    const fn signed(&self) -> &SignedCommitment {
        match self {
            Self::Signed(signed, _) => signed,
            Self::Recovered(recovered, _) => recovered.signed(),
        }
    }

    /// Checks it by the rules that every peer checks.
    async fn check(
        self,
        validator: Validator,
        limit: usize,
    ) -> Result<(Authenticated, Option<TxList>), P2pClientError> {
        match self {
            Self::Signed(signed, txlist) => {
                let check = spawn_blocking(move || {
                    let commitment = validator.authenticate_signed(signed).map_err(invalid)?;
                    let txlist = match (commitment.txlist_hash(), txlist) {
                        (Some(hash), Some(bytes)) => Some(TxList::verify(hash, bytes, limit)?),
                        (None, Some(_)) => return Err(P2pClientError::UnexpectedTxList),
                        (_, None) => None,
                    };
                    Ok((commitment, txlist))
                });
                check.await.map_err(|_| P2pClientError::Panicked(Component::Publishing))?
            }
            // What is left takes some microseconds.
            Self::Recovered(recovered, txlist) => {
                let commitment = validator.authenticate_recovered(&recovered).map_err(invalid)?;
                match (commitment.txlist_hash(), &txlist) {
                    (Some(hash), Some(list)) if list.hash() != hash || list.bytes().len() > limit => {
                        // It tells what is wrong.
                        TxList::verify(hash, list.bytes().clone(), limit)?;
                    }
                    (None, Some(_)) => return Err(P2pClientError::UnexpectedTxList),
                    _ => {}
                }
                Ok((commitment, txlist))
            }
        }
    }
}

/// Room for a command in the queue, reserved before any work is done.
type CommandPermit = mpsc::OwnedPermit<ServiceCommand>;

/// Publishes blocks, handovers and transaction lists. See [`P2pClient::publisher`](crate::P2pClient::publisher). A clone
/// is another handle of the same client.
///
/// Commitments are published only where [`P2pClientConfig::publishing`](crate::P2pClientConfig::publishing) allows it.
#[derive(Debug, Clone)]
pub struct Publisher {
    pub(super) client: Arc<Inner>,
}

impl Publisher {
    #[cfg(feature = "preconfer")]
    pub(crate) const fn new(client: Arc<Inner>) -> Self {
        Self { client }
    }

    /// Waits until the client knows what a new block would build on, so that publishing is not refused with
    /// [`P2pClientError::NotLive`]: it is live, or has no peers and has seen nothing above its head.
    ///
    /// What a peer says right afterwards can change that: [`publish_when_ready`](Self::publish_when_ready) waits again.
    ///
    /// # Errors
    /// [`P2pClientError::Closed`] if the client ends before.
    pub async fn ready(&self) -> Result<(), P2pClientError> {
        self.client.wait_for(State::is_ready).await
    }

    /// Publishes a block (§6): checks it by the rules that peers apply, stores it, emits its events, then sends the
    /// transaction list and right after it the commitment. Dropping the future does not stop it.
    ///
    /// Refused while the client is not live, because the block could stand on one that others have left behind. A client
    /// without peers that has seen nothing above its head may publish.
    ///
    /// Earlier promises bind the signer, after a restart too: a second, different commitment for a height of a window,
    /// or a block of a window that it has handed over, is refused.
    ///
    /// A block that was stored and not sent, because the process died in between or the network's queues were full, is
    /// sent when it is published again. The same holds for what was queued when the process ended.
    ///
    /// # Errors
    /// [`P2pClientError::Invalid`] for the rule that peers would refuse it for, [`P2pClientError::Conflict`],
    /// [`P2pClientError::Guard`], [`P2pClientError::NotLive`] and [`P2pClientError::NotPublisher`] before anything is stored
    /// or sent; after that
    /// [`P2pClientError::Publish`] if the network could neither send nor queue it.
    pub async fn publish_block(
        &self,
        signed: SignedCommitment,
        txlist: Bytes,
    ) -> Result<PublishOutcome, P2pClientError> {
        let publication = Publication::Signed(signed, Some(txlist));
        self.publish(self.permit().await?, publication, Waived::default()).await
    }

    /// Publishes a block, or without a transaction list a handover or a block whose list was published before, as soon as
    /// the client knows what it builds on. Where it is refused with [`P2pClientError::NotLive`], because a peer has just named
    /// a higher head for instance, it waits and tries again.
    ///
    /// It waits as long as the client is not ready: give it a deadline. A block that has become too late is refused by the
    /// rules.
    ///
    /// # Errors
    /// As [`publish_block`](Self::publish_block), but for `NotLive`.
    pub async fn publish_when_ready(
        &self,
        signed: SignedCommitment,
        txlist: Option<Bytes>,
    ) -> Result<PublishOutcome, P2pClientError> {
        let mut state = self.client.state.clone();
        loop {
            // Seen before it is asked for: what refuses the block shows in the state at once or soon, and wakes us.
            state.borrow_and_update();
            self.ready().await?;
            let (permit, publication) =
                (self.permit().await?, Publication::Signed(signed.clone(), txlist.clone()));
            match self.publish(permit, publication, Waived::default()).await {
                Err(P2pClientError::NotLive(_)) => {
                    state.changed().await.map_err(|_| P2pClientError::Closed)?
                }
                outcome => return outcome,
            }
        }
    }

    /// As [`publish_block`](Self::publish_block), but does not wait for room in the queue of commands.
    ///
    /// # Errors
    /// [`P2pClientError::Backpressure`] at once if the queue is full, and as `publish_block`.
    pub async fn try_publish_block(
        &self,
        signed: SignedCommitment,
        txlist: Bytes,
    ) -> Result<PublishOutcome, P2pClientError> {
        let publication = Publication::Signed(signed, Some(txlist));
        self.publish(self.try_permit()?, publication, Waived::default()).await
    }

    /// As [`try_publish_block`](Self::try_publish_block), or without a transaction list as
    /// [`try_publish_commitment`](Self::try_publish_commitment), for applications that have recovered the signer and hashed the
    /// list themselves: neither is done again.
    ///
    /// # Errors
    /// [`P2pClientError::Backpressure`] at once if the queue is full, and as [`publish_block`](Self::publish_block).
    pub async fn try_publish_recovered(
        &self,
        recovered: Recovered,
        txlist: Option<TxList>,
    ) -> Result<PublishOutcome, P2pClientError> {
        let publication = Publication::Recovered(recovered, txlist);
        self.publish(self.try_permit()?, publication, Waived::default()).await
    }

    /// As [`try_publish_recovered`](Self::try_publish_recovered), but waits for room in the queue of commands.
    ///
    /// # Errors
    /// As [`publish_block`](Self::publish_block).
    pub async fn publish_recovered(
        &self,
        recovered: Recovered,
        txlist: Option<TxList>,
    ) -> Result<PublishOutcome, P2pClientError> {
        let publication = Publication::Recovered(recovered, txlist);
        self.publish(self.permit().await?, publication, Waived::default()).await
    }

    /// Publishes a commitment alone: a handover without a block, or a block whose transaction list was
    /// published before.
    ///
    /// # Errors
    /// As [`publish_block`](Self::publish_block).
    pub async fn publish_commitment(
        &self,
        signed: SignedCommitment,
    ) -> Result<PublishOutcome, P2pClientError> {
        self.publish(self.permit().await?, Publication::Signed(signed, None), Waived::default()).await
    }

    /// As [`publish_commitment`](Self::publish_commitment), without waiting for room in the queue.
    ///
    /// # Errors
    /// [`P2pClientError::Backpressure`] at once if the queue is full, and as `publish_commitment`.
    pub async fn try_publish_commitment(
        &self,
        signed: SignedCommitment,
    ) -> Result<PublishOutcome, P2pClientError> {
        self.publish(self.try_permit()?, Publication::Signed(signed, None), Waived::default()).await
    }

    /// Publishes a commitment that was refused with this [`Conflict`]. Both signatures together prove that the signer
    /// misbehaved and may cost its stake. Any other conflict is refused as before.
    ///
    /// # Errors
    /// As [`publish_block`](Self::publish_block).
    pub async fn publish_despite_conflict(
        &self,
        signed: SignedCommitment,
        txlist: Option<Bytes>,
        acknowledged: Conflict,
    ) -> Result<PublishOutcome, P2pClientError> {
        let waived = Waived { conflict: Some(acknowledged), live: false };
        self.publish(self.permit().await?, Publication::Signed(signed, txlist), waived).await
    }

    /// Publishes although the client is not live, so that the block may stand on one that others have left behind. For
    /// applications that know the head from elsewhere, such as their execution node. All other rules hold.
    ///
    /// # Errors
    /// As [`publish_block`](Self::publish_block), but for [`P2pClientError::NotLive`].
    pub async fn publish_while_behind(
        &self,
        signed: SignedCommitment,
        txlist: Option<Bytes>,
    ) -> Result<PublishOutcome, P2pClientError> {
        let waived = Waived { conflict: None, live: true };
        self.publish(self.permit().await?, Publication::Signed(signed, txlist), waived).await
    }

    /// Publishes a transaction list alone. It is stored, and its event emitted, once a commitment names it.
    ///
    /// # Errors
    /// [`P2pClientError::TxList`] if it is too large, [`P2pClientError::Publish`].
    pub async fn publish_raw_txlist(&self, txlist: Bytes) -> Result<PublishOutcome, P2pClientError> {
        self.publish_txlist(self.permit().await?, txlist).await
    }

    /// As [`publish_raw_txlist`](Self::publish_raw_txlist), without waiting for room in the queue.
    ///
    /// # Errors
    /// [`P2pClientError::Backpressure`] at once if the queue is full, and as `publish_raw_txlist`.
    pub async fn try_publish_raw_txlist(&self, txlist: Bytes) -> Result<PublishOutcome, P2pClientError> {
        self.publish_txlist(self.try_permit()?, txlist).await
    }

    async fn permit(&self) -> Result<CommandPermit, P2pClientError> {
        self.client.room().await
    }

    fn try_permit(&self) -> Result<CommandPermit, P2pClientError> {
        self.client.commands.clone().try_reserve_owned().map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => P2pClientError::Backpressure,
            mpsc::error::TrySendError::Closed(_) => P2pClientError::Closed,
        })
    }

    async fn publish(
        &self,
        permit: CommandPermit,
        publication: Publication,
        waived: Waived,
    ) -> Result<PublishOutcome, P2pClientError> {
        if self.client.publishing == Publishing::Disabled {
            return Err(P2pClientError::NotPublisher);
        }
        let (this, wire) = (self.client.clone(), Bytes::from(publication.signed().to_ssz()));
        let span = publishing(Topic::Commitments, || MessageId::of_commitment(&wire));
        let publish = async move {
            let (validator, limit) = (this.requester.validator.clone(), this.requester.max_txlist_bytes);
            let (commitment, txlist) = publication.check(validator, limit).await?;
            let (acknowledged, allow_behind) = (waived.conflict.map(Box::new), waived.live);
            let permit = if this.guard.is_set() {
                // The chain worker must not wait for a database, so the guard is asked between two commands.
                let draft = Draft::from(&commitment);
                let promise = draft.promise();
                let (acknowledged, question) = (acknowledged.clone(), Question::default());
                this.ask_chain(permit, draft, acknowledged, allow_behind, question).await?;
                this.guard.permit(promise).await?;
                this.room().await?
            } else {
                permit
            };
            let mut hashes = vec![commitment.hash()];
            hashes.extend(txlist.as_ref().map(TxList::hash));
            let gossip = txlist.clone().map(|txlist| Bytes::from(RawTxListGossip::from(txlist).to_ssz()));
            let ((reply, judged), span) = (oneshot::channel(), Span::current());
            let commitment = Box::new(commitment);
            let command = Command::Publish { commitment, txlist, acknowledged, allow_behind, reply, span };
            drop(permit.send(ServiceCommand::Chain(command)));
            let judged = judged.await.map_err(|_| P2pClientError::Closed)?;
            let is_non_canonical = matches!(judged, PublishDecision::NonCanonical);
            if !should_send(judged)? {
                return Ok(PublishOutcome::AlreadyPublished);
            }
            let sent = match gossip {
                None => this.send(Topic::Commitments, wire).await?,
                Some(gossip) => {
                    let first = this.send(Topic::RawTxLists, gossip).await?;
                    first.and(this.send(Topic::Commitments, wire).await?)
                }
            };
            this.record_sent(sent, hashes).await;
            Ok(if is_non_canonical { sent.non_canonical() } else { sent })
        };
        let publishing = self.client.tasks.spawn(publish.instrument(span));
        publishing.await.map_err(|_| P2pClientError::Panicked(Component::Publishing))?
    }

    async fn publish_txlist(
        &self,
        permit: CommandPermit,
        txlist: Bytes,
    ) -> Result<PublishOutcome, P2pClientError> {
        let (this, limit) = (self.client.clone(), self.client.requester.max_txlist_bytes);
        let publish = async move {
            let store = this.storage.upgrade().ok_or(P2pClientError::Closed)?;
            let prepare = spawn_blocking(move || {
                let txlist = TxList::new(txlist, limit)?;
                let hash = txlist.hash();
                let known = store.contains(&hash)? && store.is_published(&hash)?;
                Ok::<_, P2pClientError>((txlist, known))
            });
            let (txlist, known) =
                prepare.await.map_err(|_| P2pClientError::Panicked(Component::Publishing))??;
            if known {
                return Ok(PublishOutcome::AlreadyPublished);
            }
            let (hash, span) =
                (txlist.hash(), publishing(Topic::RawTxLists, || MessageId::of_txlist(&txlist)));
            let listed =
                VerifiedTxList { txlist: txlist.clone(), origin: Origin::Local, verdict: None, span };
            drop(permit.send(ServiceCommand::Chain(Command::TxLists(vec![listed]))));
            let sent = this.send(Topic::RawTxLists, RawTxListGossip::from(txlist).to_ssz().into()).await?;
            this.record_sent(sent, vec![hash]).await;
            Ok(sent)
        };
        let publishing = self.client.tasks.spawn(publish);
        publishing.await.map_err(|_| P2pClientError::Panicked(Component::Publishing))?
    }
}

impl Inner {
    /// Waits for room in the queue of commands.
    async fn room(&self) -> Result<CommandPermit, P2pClientError> {
        self.commands.clone().reserve_owned().await.map_err(|_| P2pClientError::Closed)
    }

    /// Asks the chain whether a commitment may be published.
    async fn ask_chain(
        &self,
        permit: CommandPermit,
        draft: Draft,
        acknowledged: Option<Box<Conflict>>,
        allow_behind: bool,
        question: Question,
    ) -> Result<(), P2pClientError> {
        let ((reply, judged), draft) = (oneshot::channel(), Box::new(draft));
        let Question { on_head, record } = question;
        let command = Command::Permit { draft, record, on_head, acknowledged, allow_behind, reply };
        drop(permit.send(ServiceCommand::Chain(command)));
        should_send(judged.await.map_err(|_| P2pClientError::Closed)?).map(drop)
    }

    /// Asks the chain whether this may be signed as the next one on the head; `record`: its promise is recorded if so.
    #[cfg(feature = "preconfer")]
    pub(crate) async fn ask_chain_on_head(&self, draft: Draft, record: bool) -> Result<(), P2pClientError> {
        let question = Question { on_head: true, record };
        self.ask_chain(self.room().await?, draft, None, false, question).await
    }

    /// Records what was sent, so that it is not sent again. What is only queued is lost if the process dies.
    async fn record_sent(&self, sent: PublishOutcome, hashes: Vec<B256>) {
        if matches!(sent, PublishOutcome::Published { .. })
            && let Err(error) = self.with_store(move |store| store.record_published(&hashes)).await
        {
            tracing::warn!(%error, "a message that was sent may be sent again after a restart");
        }
    }

    async fn send(&self, topic: Topic, ssz: Bytes) -> Result<PublishOutcome, P2pClientError> {
        Ok(self.network().publish(topic, ssz).await?.into())
    }
}

/// The span of a message of ours.
fn publishing(topic: Topic, id: impl FnOnce() -> MessageId) -> Span {
    tracing::debug_span!("publish", topic = topic.label(), hash = %id().payload, outcome = Empty)
}

/// Whether a message is to be sent after the chain has decided about it.
fn should_send(judged: PublishDecision) -> Result<bool, P2pClientError> {
    match judged {
        PublishDecision::Allowed
        | PublishDecision::Stored
        | PublishDecision::NonCanonical
        | PublishDecision::Unpublished => Ok(true),
        PublishDecision::AlreadyStored => Ok(false),
        PublishDecision::Conflict(conflict) => Err(P2pClientError::Conflict(Box::new(conflict))),
        PublishDecision::Deferred(missing) => Err(P2pClientError::Deferred(missing)),
        PublishDecision::Ignored(reason) => Err(P2pClientError::Ignored(reason)),
        PublishDecision::Rejected(rejection) => Err(invalid(rejection)),
        PublishDecision::Failed(error) => Err(StorageError::into(error)),
        PublishDecision::Busy => Err(P2pClientError::Backpressure),
        PublishDecision::NotLive(status) => Err(P2pClientError::NotLive(status)),
        PublishDecision::StaleHead(head) => Err(P2pClientError::StaleHead(head)),
    }
}

fn invalid(rejection: Rejection) -> P2pClientError {
    P2pClientError::Invalid(Box::new(rejection))
}
