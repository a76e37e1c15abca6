//! Publishing: judged as peers would, stored, shown, sent; in this order.

use p2p_storage::StorageError;
use p2p_types::{B256, Bytes, MessageId, Origin, SignedCommitment, Topic, TxList};
use p2p_validation::Rejection;
use preconfirmation_p2p::Published;
use preconfirmation_types::{Container, RawTxListGossip};
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
};
use tracing::{Instrument as _, Span, field::Empty};

use crate::{
    Conflict, P2pClient, P2pClientError, Publishing,
    chain::{Command, PublishDecision, VerifiedTxList},
    command::ServiceCommand,
};

/// What became of something that was published. It is stored in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Sent {
    /// It is on its way.
    Sent {
        /// The peers that it was addressed to; of a block, the peers of its commitment or of its transaction
        /// list, whichever are fewer.
        peers: usize,
    },
    /// It is on its way, and another branch is the chain here (§7): it stands only if the next preconfer builds on it.
    NonCanonical {
        /// As of `Sent`; zero where no peer could take it so far.
        peers: usize,
    },
    /// No peer could take it. It goes out once when one can, as long as it is of use; who comes later finds it
    /// by catching up.
    Queued,
    /// Nothing to do: it is in our store already, from before the last restart or since, and has gone out or a
    /// successor has; or it is too late for it; or the network has sent, received or queued the very same bytes.
    Duplicate,
}

impl Sent {
    /// One outcome for a transaction list and its commitment.
    fn and(self, commitment: Self) -> Self {
        match (self, commitment) {
            (Self::Queued, _) | (_, Self::Queued) => Self::Queued,
            (Self::Sent { peers: some }, Self::Sent { peers: others }) => {
                Self::Sent { peers: some.min(others) }
            }
            (_, commitment) => commitment,
        }
    }

    /// The same, of a block that is not in the chain.
    const fn beside_the_chain(self) -> Self {
        match self {
            Self::Sent { peers } => Self::NonCanonical { peers },
            Self::Queued => Self::NonCanonical { peers: 0 },
            Self::NonCanonical { .. } | Self::Duplicate => self,
        }
    }
}

/// How a commitment is to be published.
#[derive(Debug, Clone, Copy, Default)]
struct Waived {
    /// This conflict.
    conflict: Option<Conflict>,
    /// That the client is live.
    live: bool,
}

/// A place in the queue of commands, taken before any work is done.
type Place = mpsc::OwnedPermit<ServiceCommand>;

impl P2pClient {
    /// Publishes a block (§6): judged by the rules that peers apply, stored, shown to subscribers, then sent,
    /// the transaction list first and the commitment right after. Goes on if the caller gives up waiting.
    ///
    /// Refused while the client is not live, as the block might stand on what others have left behind; a client without
    /// peers that knows of nothing above its head may publish.
    ///
    /// What the signer has promised before binds it: a second, different commitment for a height of a window,
    /// or a block of a window that it has handed over, is refused, after a restart too.
    ///
    /// What was stored and did not go out, because the process died in between or the network could not keep it, goes
    /// out when it is published again. Of what was queued when the process ended, the same holds.
    ///
    /// # Errors
    /// The rule that peers would refuse it for, or [`P2pClientError::Conflict`], before anything is stored or
    /// sent; after that [`P2pClientError::Publish`] if the network could neither take nor keep it.
    pub async fn publish_block(
        &self,
        signed: SignedCommitment,
        txlist: Bytes,
    ) -> Result<Sent, P2pClientError> {
        self.publish(self.place().await?, signed, Some(txlist), Waived::default()).await
    }

    /// As [`publish_block`](Self::publish_block), but where that would wait for a place in the queue of
    /// commands it fails.
    ///
    /// # Errors
    /// [`P2pClientError::Backpressure`] at once if the queue is full, and as `publish_block`.
    pub async fn try_publish_block(
        &self,
        signed: SignedCommitment,
        txlist: Bytes,
    ) -> Result<Sent, P2pClientError> {
        self.publish(self.try_place()?, signed, Some(txlist), Waived::default()).await
    }

    /// Publishes a commitment alone: a handover without a block, or a block whose transaction list was
    /// published before.
    ///
    /// # Errors
    /// As [`publish_block`](Self::publish_block).
    pub async fn publish_commitment(&self, signed: SignedCommitment) -> Result<Sent, P2pClientError> {
        self.publish(self.place().await?, signed, None, Waived::default()).await
    }

    /// As [`publish_commitment`](Self::publish_commitment), without waiting for a place.
    ///
    /// # Errors
    /// [`P2pClientError::Backpressure`] at once if the queue is full, and as `publish_commitment`.
    pub async fn try_publish_commitment(&self, signed: SignedCommitment) -> Result<Sent, P2pClientError> {
        self.publish(self.try_place()?, signed, None, Waived::default()).await
    }

    /// Publishes what was refused with a [`Conflict`], which proves to everybody that the signer misbehaved
    /// and may cost its stake. Only the conflict that was shown is waived; another one is refused as before.
    ///
    /// # Errors
    /// As [`publish_block`](Self::publish_block).
    pub async fn publish_despite_conflict(
        &self,
        signed: SignedCommitment,
        txlist: Option<Bytes>,
        acknowledged: Conflict,
    ) -> Result<Sent, P2pClientError> {
        let waived = Waived { conflict: Some(acknowledged), live: false };
        self.publish(self.place().await?, signed, txlist, waived).await
    }

    /// Publishes although the client is not live, so that the block may stand on what others have left behind. For whoever
    /// knows better, from its own execution node for instance; all other rules hold.
    ///
    /// # Errors
    /// As [`publish_block`](Self::publish_block), but for [`P2pClientError::NotLive`].
    pub async fn publish_while_behind(
        &self,
        signed: SignedCommitment,
        txlist: Option<Bytes>,
    ) -> Result<Sent, P2pClientError> {
        self.publish(self.place().await?, signed, txlist, Waived { conflict: None, live: true }).await
    }

    /// Publishes a transaction list alone. It is stored and shown once a commitment names it.
    ///
    /// # Errors
    /// [`P2pClientError::TxList`] if it is too large, [`P2pClientError::Publish`].
    pub async fn publish_raw_txlist(&self, txlist: Bytes) -> Result<Sent, P2pClientError> {
        self.publish_txlist(self.place().await?, txlist).await
    }

    /// As [`publish_raw_txlist`](Self::publish_raw_txlist), without waiting for a place.
    ///
    /// # Errors
    /// [`P2pClientError::Backpressure`] at once if the queue is full, and as `publish_raw_txlist`.
    pub async fn try_publish_raw_txlist(&self, txlist: Bytes) -> Result<Sent, P2pClientError> {
        self.publish_txlist(self.try_place()?, txlist).await
    }

    async fn place(&self) -> Result<Place, P2pClientError> {
        self.commands.clone().reserve_owned().await.map_err(|_| P2pClientError::Closed)
    }

    fn try_place(&self) -> Result<Place, P2pClientError> {
        self.commands.clone().try_reserve_owned().map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => P2pClientError::Backpressure,
            mpsc::error::TrySendError::Closed(_) => P2pClientError::Closed,
        })
    }

    async fn publish(
        &self,
        place: Place,
        signed: SignedCommitment,
        txlist: Option<Bytes>,
        waived: Waived,
    ) -> Result<Sent, P2pClientError> {
        if self.publishing == Publishing::Disabled {
            return Err(P2pClientError::NotPublisher);
        }
        let (this, wire) = (self.clone(), Bytes::from(signed.to_ssz()));
        let span = publishing(Topic::Commitments, || MessageId::of_commitment(&wire));
        let publish = async move {
            let (validator, limit) = (this.requester.validator.clone(), this.requester.max_txlist_bytes);
            let prepare = spawn_blocking(move || {
                let commitment = validator.authenticate_signed(signed).map_err(invalid)?;
                let txlist = match (commitment.txlist_hash(), txlist) {
                    (Some(hash), Some(bytes)) => Some(TxList::verify(hash, bytes, limit)?),
                    (None, Some(_)) => return Err(P2pClientError::UnexpectedTxList),
                    (_, None) => None,
                };
                Ok((commitment, txlist))
            });
            let (commitment, txlist) = prepare.await.map_err(|_| P2pClientError::Join("publishing"))??;
            let mut hashes = vec![commitment.hash()];
            hashes.extend(txlist.as_ref().map(TxList::hash));
            let gossip = txlist.clone().map(|txlist| Bytes::from(RawTxListGossip::from(txlist).to_ssz()));
            let ((reply, judged), span) = (oneshot::channel(), Span::current());
            let commitment = Box::new(commitment);
            let (acknowledged, allow_behind) = (waived.conflict.map(Box::new), waived.live);
            let command = Command::Publish { commitment, txlist, acknowledged, allow_behind, reply, span };
            drop(place.send(ServiceCommand::Chain(command)));
            let judged = judged.await.map_err(|_| P2pClientError::Closed)?;
            let beside_the_chain = matches!(judged, PublishDecision::NonCanonical);
            if !should_send(judged)? {
                return Ok(Sent::Duplicate);
            }
            let sent = match gossip {
                None => this.send(Topic::Commitments, wire).await?,
                Some(gossip) => {
                    let first = this.send(Topic::RawTxLists, gossip).await?;
                    first.and(this.send(Topic::Commitments, wire).await?)
                }
            };
            this.note(sent, hashes).await;
            Ok(if beside_the_chain { sent.beside_the_chain() } else { sent })
        };
        let publishing = self.tasks.spawn(publish.instrument(span));
        publishing.await.map_err(|_| P2pClientError::Join("publishing"))?
    }

    async fn publish_txlist(&self, place: Place, txlist: Bytes) -> Result<Sent, P2pClientError> {
        let (this, limit) = (self.clone(), self.requester.max_txlist_bytes);
        let publish = async move {
            let store = this.storage.clone();
            let prepare = spawn_blocking(move || {
                let txlist = TxList::new(txlist, limit)?;
                let hash = txlist.hash();
                let known = store.contains(&hash)? && store.is_sent(&hash)?;
                Ok::<_, P2pClientError>((txlist, known))
            });
            let (txlist, known) = prepare.await.map_err(|_| P2pClientError::Join("publishing"))??;
            if known {
                return Ok(Sent::Duplicate);
            }
            let (hash, span) =
                (txlist.hash(), publishing(Topic::RawTxLists, || MessageId::of_txlist(&txlist)));
            let listed =
                VerifiedTxList { txlist: txlist.clone(), origin: Origin::Local, verdict: None, span };
            drop(place.send(ServiceCommand::Chain(Command::TxLists(vec![listed]))));
            let sent = this.send(Topic::RawTxLists, RawTxListGossip::from(txlist).to_ssz().into()).await?;
            this.note(sent, vec![hash]).await;
            Ok(sent)
        };
        let publishing = self.tasks.spawn(publish);
        publishing.await.map_err(|_| P2pClientError::Join("publishing"))?
    }

    /// Notes what has gone out, so that it does not go out again. What is only queued may be lost with the process.
    async fn note(&self, sent: Sent, hashes: Vec<B256>) {
        if matches!(sent, Sent::Sent { .. })
            && let Err(error) = self.with_store(move |store| store.note_sent(&hashes)).await
        {
            tracing::warn!(%error, "what was sent may be sent again after a restart");
        }
    }

    async fn send(&self, topic: Topic, ssz: Bytes) -> Result<Sent, P2pClientError> {
        Ok(match self.network().publish(topic, ssz).await? {
            Published::Sent { peers } => Sent::Sent { peers },
            Published::Queued => Sent::Queued,
            Published::Duplicate => Sent::Duplicate,
        })
    }
}

/// The span of a message of ours.
fn publishing(topic: Topic, id: impl FnOnce() -> MessageId) -> Span {
    tracing::debug_span!("publish", topic = topic.label(), hash = %id().payload, outcome = Empty)
}

/// Whether there is anything to send.
fn should_send(judged: PublishDecision) -> Result<bool, P2pClientError> {
    match judged {
        PublishDecision::Stored | PublishDecision::NonCanonical | PublishDecision::Unpublished => Ok(true),
        PublishDecision::AlreadyStored => Ok(false),
        PublishDecision::Conflict(conflict) => Err(P2pClientError::Conflict(Box::new(conflict))),
        PublishDecision::Deferred(missing) => Err(P2pClientError::Deferred(missing)),
        PublishDecision::Ignored(reason) => Err(P2pClientError::Ignored(reason)),
        PublishDecision::Rejected(rejection) => Err(invalid(rejection)),
        PublishDecision::Failed(error) => Err(StorageError::into(error)),
        PublishDecision::Busy => Err(P2pClientError::Backpressure),
        PublishDecision::NotLive(status) => Err(P2pClientError::NotLive(status)),
    }
}

fn invalid(rejection: Rejection) -> P2pClientError {
    P2pClientError::Invalid(Box::new(rejection))
}
