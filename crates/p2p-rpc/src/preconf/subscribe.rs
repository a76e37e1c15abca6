//! Blocks and events as they come. A subscriber of blocks has each once and in order, from any height on, however slow it is;
//! a subscriber of events is told how many it has missed.

use std::{sync::Arc, time::Duration};

use jsonrpsee::{
    core::{RegisterMethodError, server::SubscriptionCloseResponse},
    server::{PendingSubscriptionSink, SubscriptionSink},
    types::Params,
};
use p2p_client::{B256, BlockFeed, BlockNumber, BlockUpdate, Lagged, SdkEvent, Subscription};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use super::chain::{Commitment, Evidence, height};
use crate::{
    failure::{Code, Failure},
    method::{About, Maybe, Parameters as _, Registry},
    metrics::{self, OpenSubscription},
    node::Node,
    value::{Data, Hash, Quantity},
};

/// How long a message may wait for room before its subscription ends.
const SLOWEST: Duration = Duration::from_secs(30);

const NAME: &str = "preconf_subscribe";

/// What to subscribe to.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SubscribeRequest {
    /// Blocks, or all events.
    kind: Kind,
    /// The first block; the one after the head if absent. To go on after a reconnect: the last block received and one.
    from: Option<Quantity>,
    /// The hash of the block below `from` that the subscriber has. If another one is canonical now, or none, the subscription
    /// is refused with −32026, or ends before it has sent a block, and the subscriber goes back.
    parent_hash: Option<Hash>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum Kind {
    /// The chain, block by block.
    #[default]
    Blocks,
    /// Every event of the client from now on.
    Events,
}

/// A message of a subscription.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Notification {
    /// The next block, complete.
    Block {
        #[serde(flatten)]
        commitment: Commitment,
        tx_list: Data,
    },
    /// The next block is known and lacks its transaction list; it follows when that is there.
    Waiting { block: Quantity, hash: Hash, tx_list_hash: Hash },
    /// Blocks that were sent have left the chain. What stands there now follows from this height on.
    Reorg { from: Quantity, dropped: Vec<Hash> },
    /// These heights are settled and not in the store: nothing will bring them here.
    Settled { from: Quantity, through: Quantity },
    /// So many events were missed because they were taken too slowly.
    Lagged { missed: u64 },
    /// Two commitments of a preconfer contradict each other.
    Evidence { evidence: Evidence },
    /// Any other event, as the node writes it on its standard output.
    Event {
        #[schemars(with = "serde_json::Value")]
        event: SdkEvent,
    },
}

impl Notification {
    fn of_update(update: BlockUpdate) -> Option<Self> {
        Some(match update {
            BlockUpdate::Block(block) => {
                let commitment = Commitment::new(block.block, &block.commitment);
                Self::Block { commitment, tx_list: Data(block.txlist.bytes().clone().into()) }
            }
            BlockUpdate::Waiting { block, hash, raw_tx_list_hash } => {
                Self::Waiting { block: block.into(), hash: Hash(hash), tx_list_hash: Hash(raw_tx_list_hash) }
            }
            BlockUpdate::Reorg { from, dropped } => {
                Self::Reorg { from: from.into(), dropped: dropped.into_iter().map(Hash).collect() }
            }
            BlockUpdate::Settled { from, through } => {
                Self::Settled { from: from.into(), through: through.into() }
            }
            _ => return None,
        })
    }

    fn of_event(event: SdkEvent) -> Self {
        match event {
            SdkEvent::Evidence { kind, signer, block, first, second } => {
                let evidence = Evidence::new(kind, signer, block, [first.signed(), second.signed()]);
                Self::Evidence { evidence }
            }
            event => Self::Event { event },
        }
    }
}

pub(super) fn register(registry: &mut Registry) -> Result<(), RegisterMethodError> {
    registry.describe::<Maybe<SubscribeRequest>, Notification>(About {
        name: NAME,
        summary: "Over a WebSocket: answers with an id, then sends messages named preconf_subscription, each with one result; preconf_unsubscribe ends it.",
        errors: &[Code::Busy, Code::Reorged],
    });
    let Some(module) = registry.module() else { return Ok(()) };
    module.register_subscription(NAME, "preconf_subscription", "preconf_unsubscribe", subscribe)?;
    Ok(())
}

/// Where the messages come from.
enum Source {
    Blocks(Box<Blocks>),
    Events(Subscription),
}

/// A feed, and what its first block has to stand on.
struct Blocks {
    feed: BlockFeed,
    /// The height of that block, and the hash of the one below that the subscriber has.
    stands_on: Option<(BlockNumber, B256)>,
}

impl Blocks {
    async fn next(&mut self) -> Result<Option<BlockUpdate>, Failure> {
        let update = self.feed.next().await?;
        if let Some(BlockUpdate::Block(block)) = &update
            && let Some((first, theirs)) = self.stands_on.take()
        {
            let parent = block.commitment.signed().preconf().parent_preconfirmation_hash;
            // A zero parent hash names none.
            if block.block == first && parent != theirs && !parent.is_zero() {
                return Err(reorged(first.saturating_sub(1), Some(parent)));
            }
        }
        Ok(update)
    }
}

/// The subscriber has a block that is not canonical now.
fn reorged(block: BlockNumber, ours: Option<B256>) -> Failure {
    let now = ours.map_or_else(|| "gone".to_owned(), |ours| format!("{ours} now"));
    Failure::new(Code::Reorged, format_args!("block {block} is {now}: subscribe from a lower one"))
}

impl Source {
    /// The next message; none after the client has ended.
    async fn next(&mut self) -> Result<Option<Notification>, Failure> {
        match self {
            Self::Blocks(blocks) => loop {
                let Some(update) = blocks.next().await? else { return Ok(None) };
                if let Some(notification) = Notification::of_update(update) {
                    return Ok(Some(notification));
                }
            },
            Self::Events(events) => Ok(match events.next_event().await {
                Ok(event) => event.map(Notification::of_event),
                Err(Lagged { missed }) => Some(Notification::Lagged { missed }),
            }),
        }
    }
}

async fn subscribe(
    params: Params<'static>,
    pending: PendingSubscriptionSink,
    node: Arc<Node>,
    _: jsonrpsee::Extensions,
) -> SubscriptionCloseResponse {
    let (source, _room) = match open(&params, &node).await {
        Ok(opened) => opened,
        Err(failure) => {
            pending.reject(failure).await;
            return SubscriptionCloseResponse::None;
        }
    };
    let Ok(sink) = pending.accept().await else { return SubscriptionCloseResponse::None };
    let _counted = OpenSubscription::new();
    match send_all(source, &sink).await {
        Ok(()) => SubscriptionCloseResponse::None,
        Err(failure) => SubscriptionCloseResponse::NotifErr(failure.message.as_str().into()),
    }
}

async fn open(params: &Params<'static>, node: &Node) -> Result<(Source, OwnedSemaphorePermit), Failure> {
    let Maybe(request) = Maybe::<SubscribeRequest>::read(params)?;
    let SubscribeRequest { kind, from, parent_hash } = request.unwrap_or_default();
    let room = node.subscriptions.clone().try_acquire_owned();
    let room = room.map_err(|_| Failure::new(Code::Busy, "too many subscriptions"))?;
    if kind == Kind::Events {
        return Ok((Source::Events(node.client.subscribe()), room));
    }
    let chain = node.client.chain();
    let from = match from {
        Some(from) => height(from.0)?,
        None => {
            let base = chain.base().await?.map(|base| base.number);
            chain.head().map(|head| head.number).or(base).unwrap_or_default().saturating_add(1)
        }
    };
    let stands_on = parent_hash.map(|theirs| (from, theirs.0));
    if let Some((_, theirs)) = stands_on {
        let below = from.saturating_sub(1);
        let ours = chain.block(below).await?.map(|block| block.hash());
        // What is settled may have left the store.
        let is_settled = chain.base().await?.is_some_and(|base| below <= base.number);
        if ours != Some(theirs) && (ours.is_some() || !is_settled) {
            return Err(reorged(below, ours));
        }
    }
    let feed = node.client.events_from(from);
    Ok((Source::Blocks(Box::new(Blocks { feed, stands_on })), room))
}

/// Sends messages until there are no more, or nobody takes them.
async fn send_all(mut source: Source, sink: &SubscriptionSink) -> Result<(), Failure> {
    loop {
        let next = tokio::select! {
            biased;
            () = sink.closed() => return Ok(()),
            next = source.next() => next?,
        };
        let Some(notification) = next else { return Ok(()) };
        let message = serde_json::value::to_raw_value(&notification);
        let message = message.map_err(|error| Failure::new(Code::Internal, error))?;
        if let Err(error) = sink.send_timeout(message, SLOWEST).await {
            if matches!(error, jsonrpsee::core::server::SendTimeoutError::Timeout(_)) {
                metrics::slow_subscriber();
                return Err(Failure::new(
                    Code::Busy,
                    "messages were not taken: subscribe again from the last block",
                ));
            }
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use p2p_fixtures::{DOMAIN, key, sign};

    use super::*;

    #[test]
    fn evidence_is_told_as_such() {
        let recovered = Arc::new(sign(&key(1), Default::default()).recover(&DOMAIN).unwrap());
        let event = SdkEvent::Evidence {
            kind: p2p_client::Misbehaviour::Equivocation,
            signer: recovered.signer(),
            block: 7,
            first: Arc::clone(&recovered),
            second: recovered,
        };
        let told = serde_json::to_string(&Notification::of_event(event)).unwrap();
        assert!(
            told.starts_with(r#"{"kind":"evidence","evidence":{"kind":"equivocation","signer":"#),
            "{told}"
        );
    }
}
