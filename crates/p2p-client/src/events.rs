//! Events: as a broadcast that a slow reader loses some of, and for a handler that loses none.

use p2p_types::{BlockNumber, SdkEvent};
use tokio::sync::{broadcast, mpsc};

use crate::{BlockFeed, P2pClient, P2pClientError, command::ServiceCommand};

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
    /// The next event; `None` after the client has ended. Cancel-safe.
    ///
    /// # Errors
    /// [`Lagged`] says how many events are lost; the call after that goes on with the oldest one kept.
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
    /// Events from now on. A reader that is slower than [`events`](crate::ClientQueues::events) allows loses
    /// the oldest and is told how many; it slows nobody.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        Subscription { events: self.events.upgrade().map(|events| events.subscribe()) }
    }

    /// The chain from `block` on, block by block with its transaction list: first what the store holds, then
    /// what comes, with no gap and no duplicate in between. Nothing is lost, however slow the reader is. After
    /// a restart, `events_from(last seen + 1)` goes on.
    ///
    /// A reorg of the chain or of L1 is yielded as [`BlockUpdate::Reorg`](crate::BlockUpdate::Reorg), followed
    /// by the blocks that stand there now. Where the reader's own memory ends (before `block`, so before a
    /// restart too) a feed cannot know what it would have to take back.
    #[must_use]
    pub fn events_from(&self, block: BlockNumber) -> BlockFeed {
        BlockFeed::new(self.storage.clone(), self.changes.clone(), self.commands.downgrade(), block)
    }

    /// Calls `handler` with every event from now on, one after the other, and returns when the client has
    /// ended. Nothing is lost: while the handler is more than [`handler`](crate::ClientQueues::handler) events
    /// behind, nothing is taken in from gossip and catch-up. Then the network's bounded queue fills, and what
    /// does not fit there is ignored, which costs no peer anything. [`SdkEvent::Backpressure`],
    /// [`is_paused`](Self::is_paused) and the metrics tell of it. Commands work on, and peers are still served.
    ///
    /// The handler may call the client. Dropping the future ends the handling.
    ///
    /// # Errors
    /// The error that the client ended with; [`P2pClientError::Closed`] if it had ended before.
    pub async fn run_with_handler<F: Future<Output = ()>>(
        &self,
        mut handler: impl FnMut(SdkEvent) -> F,
    ) -> Result<(), P2pClientError> {
        let (sender, mut events) = mpsc::channel(self.handler_queue.get());
        self.command(ServiceCommand::SubscribeLossless(sender)).await?;
        while let Some(event) = events.recv().await {
            handler(event).await;
        }
        self.ended().await
    }

    /// Whether intake stands still because a handler is slow.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.state.borrow().paused
    }
}
