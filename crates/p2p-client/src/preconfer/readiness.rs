//! Whether a block can be proposed now, and if not, why.

use std::time::Duration;

use p2p_types::{Address, HeadSyncStatus, UnixSeconds};
use p2p_validation::{LookaheadError, Window};
use tokio::time::{Instant, sleep, sleep_until};

use super::Preconfer;
use crate::{P2pClientError, Publishing};

/// How often what cannot wake us is asked again: the clock and the schedule.
const TICK: Duration = Duration::from_millis(200);

/// Why no block can be proposed now.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum NotReady {
    /// The client only follows.
    #[error("this client does not publish: set `publishing` in its configuration")]
    NotPublisher,
    /// The client does not know what a block would stand on. It waits for L2, catches up, or is not sure.
    #[error("not live: {0}; wait until the client has caught up")]
    NotLive(HeadSyncStatus),
    /// The schedule does not tell whose turn it is.
    #[error("the schedule of {now} is not known; wait until the lookahead has learned it")]
    ScheduleUnknown {
        /// The present.
        now: UnixSeconds,
    },
    /// The lookahead failed.
    #[error("lookahead: {0}; try again")]
    Lookahead(LookaheadError),
    /// It is somebody else's turn.
    #[error(
        "it is not the turn of {signer} at {now}{}",
        next.map_or_else(|| ", and no turn of it is known".to_owned(), |next| format!("; its next window is {next}"))
    )]
    NotMyTurn {
        /// Our signer.
        signer: Address,
        /// The present.
        now: UnixSeconds,
        /// Our next window, as far as the schedule is known.
        next: Option<Window>,
    },
    /// Our window has begun, and the preconfer before us has neither handed over nor is its window over.
    #[error("{predecessor} has not handed over, and its window lasts until {until}; wait for either")]
    Predecessor {
        /// The preconfer before us.
        predecessor: Address,
        /// The end of its window.
        until: UnixSeconds,
    },
    /// Our signer has handed over this window: no block of it may follow.
    #[error("{signer} has handed over its window {window}; wait for the next")]
    HandedOver {
        /// Our signer.
        signer: Address,
        /// The window.
        window: Window,
    },
    /// Nobody would hear of a block. [`propose`](Preconfer::propose) does not refuse it: it is sent when a peer connects.
    #[error("no peer is connected; a block would reach nobody yet")]
    NoPeers,
    /// The client has ended, or could not be asked.
    #[error(transparent)]
    Client(P2pClientError),
}

impl NotReady {
    /// Whether waiting can help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NotPublisher => false,
            Self::Client(error) => error.is_retryable(),
            _ => true,
        }
    }
}

impl Preconfer {
    /// Whether a block can be proposed now: the window that it would belong to, or the first reason why not.
    ///
    /// # Errors
    /// [`NotReady`].
    pub async fn readiness(&self) -> Result<Window, NotReady> {
        let window = self.may_propose().await?;
        if self.client.state.borrow().peers.is_empty() {
            return Err(NotReady::NoPeers);
        }
        Ok(window)
    }

    /// Waits until a block can be proposed, at most so long.
    ///
    /// # Errors
    /// The reason that holds when the time is over; at once one that waiting does not help.
    pub async fn wait_until_ready(&self, limit: Duration) -> Result<Window, NotReady> {
        let (mut state, until) = (self.client.state.clone(), Instant::now() + limit);
        loop {
            state.borrow_and_update();
            let why = match self.readiness().await {
                Ok(window) => return Ok(window),
                Err(why) if !why.is_retryable() => return Err(why),
                Err(why) => why,
            };
            tokio::select! {
                biased;
                () = sleep_until(until) => return Err(why),
                Ok(()) = state.changed() => {}
                () = sleep(TICK) => {}
            }
        }
    }

    /// The window that a block would belong to, whether anybody would hear of it or not.
    pub(super) async fn may_propose(&self) -> Result<Window, NotReady> {
        let window = self.own_window()?;
        let now = self.client.clock.now();
        let expected = self.chain().expected_preconfer().await.map_err(|error| match error {
            P2pClientError::Lookahead(error) => NotReady::Lookahead(error),
            error => NotReady::Client(error),
        })?;
        match expected {
            Some(slot) if slot.window == window => Ok(window),
            Some(slot) if slot.window.end < window.end && slot.window.contains(now) => {
                Err(NotReady::Predecessor { predecessor: slot.signer, until: slot.window.end })
            }
            // Whom to expect is a preconfer after us, or nobody knows.
            _ => Err(NotReady::HandedOver { signer: self.address, window }),
        }
    }

    /// Our present window, on a client that is live.
    pub(super) fn own_window(&self) -> Result<Window, NotReady> {
        if self.client.publishing == Publishing::Disabled {
            return Err(NotReady::NotPublisher);
        }
        {
            let state = self.client.state.borrow();
            if state.ended.is_some() {
                return Err(NotReady::Client(P2pClientError::Closed));
            }
            if !state.is_ready() {
                return Err(NotReady::NotLive(state.status));
            }
        }
        let (now, signer) = (self.client.clock.now(), self.address);
        if let Some(window) = self.turn_at(now).map_err(NotReady::Lookahead)? {
            return Ok(window);
        }
        if !self.client.requester.validator.knows(now) {
            return Err(NotReady::ScheduleUnknown { now });
        }
        let next = self.next_turn().map_err(NotReady::Lookahead)?;
        Err(NotReady::NotMyTurn { signer, now, next })
    }
}
