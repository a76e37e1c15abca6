//! The event streams of a client: a broadcast channel that drops events of slow subscribers, the chain block by block,
//! and a lossless queue for a handler.

use p2p_types::{BlockNumber, SdkEvent};
use tokio::sync::{broadcast, mpsc};

use super::{Inner, P2pClient};
use crate::{BlockFeed, P2pClientError, command::ServiceCommand};

/// A subscriber missed events because it read too slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{missed} events were missed")]
pub struct Lagged {
    /// How many.
    pub missed: u64,
}

/// A stream of events.
#[derive(Debug)]
pub struct Subscription {
    events: Option<broadcast::Receiver<SdkEvent>>,
}

impl Subscription {
    pub(crate) const fn new(events: Option<broadcast::Receiver<SdkEvent>>) -> Self {
        Self { events }
    }

    /// The next event; `None` after the client has ended. Cancel-safe.
    ///
    /// # Errors
    /// [`Lagged`] says how many events are lost; the next call returns the oldest one that is left.
    pub async fn next_event(&mut self) -> Result<Option<SdkEvent>, Lagged> {
        let Some(events) = &mut self.events else {
            return Ok(None);
        };
        match events.recv().await {
            Ok(event) => Ok(Some(event)),
            Err(broadcast::error::RecvError::Closed) => Ok(None),
            Err(broadcast::error::RecvError::Lagged(missed)) => Err(Lagged { missed }),
        }
    }
}

impl P2pClient {
    /// Events from now on; from the beginning with [`start_subscribed`](crate::P2pClientBuilder::start_subscribed). A
    /// subscriber that reads more slowly than [`events`](crate::ClientQueues::events) allows
    /// loses the oldest events and is told how many; it slows nothing down.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        Subscription::new(self.inner.events.upgrade().map(|events| events.subscribe()))
    }

    /// The chain from `block` on, block by block with its transaction list: first from the store, then as it
    /// grows, without gap or duplicate. Nothing is lost, however slow the reader is. After a restart,
    /// `events_from(last seen + 1)` resumes.
    ///
    /// A reorg of the chain or of L1 is yielded as [`BlockUpdate::Reorg`](crate::BlockUpdate::Reorg), followed
    /// by the blocks that are canonical now. A feed only takes back blocks that it has yielded itself: it cannot know
    /// what its reader saw below `block`, before a restart for instance. It holds the store open while it lives.
    #[must_use]
    pub fn events_from(&self, block: BlockNumber) -> BlockFeed {
        let Inner { storage, changes, commands, .. } = &*self.inner;
        BlockFeed::new(storage.upgrade(), changes.clone(), commands.downgrade(), block)
    }

    /// Calls `handler` with every event from now on, one after the other, and returns when the client has
    /// ended. Nothing is lost: while the handler is more than [`handler`](crate::ClientQueues::handler) events
    /// behind, ingestion of gossip and catch-up is paused. Then the network's bounded queue fills, and what does not
    /// fit there is ignored, which costs no peer anything. [`SdkEvent::Backpressure`],
    /// [`is_paused`](Self::is_paused) and the metrics report it. Commands are still executed, and peers served.
    ///
    /// The handler may call the client. Dropping the future ends the handling.
    ///
    /// # Errors
    /// The error that the client ended with; [`P2pClientError::Closed`] if it had ended before.
    pub async fn run_with_handler<F: Future<Output = ()>>(
        &self,
        mut handler: impl FnMut(SdkEvent) -> F,
    ) -> Result<(), P2pClientError> {
        let (sender, mut events) = mpsc::channel(self.inner.handler_queue.get());
        self.inner.command(ServiceCommand::SubscribeLossless(sender)).await?;
        while let Some(event) = events.recv().await {
            handler(event).await;
        }
        self.closed().await
    }
}
