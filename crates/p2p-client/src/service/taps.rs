//! Readers that lose nothing. Each has a bounded queue; what does not fit waits here, and while anything
//! waits here, intake stands still, so that no more comes than the batch at work brings.

use std::{collections::VecDeque, future::poll_fn, task::Poll};

use futures::{FutureExt as _, future::BoxFuture};
use p2p_types::SdkEvent;
use tokio::sync::mpsc::{OwnedPermit, Sender};

/// Half a queue of one reader is free, or it has gone.
type Room = BoxFuture<'static, Option<Vec<OwnedPermit<SdkEvent>>>>;

struct Tap {
    events: Sender<SdkEvent>,
    backlog: VecDeque<SdkEvent>,
    /// Waited for while there is a backlog.
    room: Option<Room>,
    gone: bool,
}

/// All lossless readers.
#[derive(Default)]
pub(super) struct Taps {
    taps: Vec<Tap>,
}

impl Taps {
    pub(super) fn add(&mut self, events: Sender<SdkEvent>) {
        self.taps.push(Tap { events, backlog: VecDeque::new(), room: None, gone: false });
    }

    /// Hands an event to every reader, or keeps it for those whose queue is full.
    pub(super) fn push(&mut self, event: &SdkEvent) {
        for tap in &mut self.taps {
            if !tap.backlog.is_empty() {
                tap.backlog.push_back(event.clone());
                continue;
            }
            match tap.events.try_reserve() {
                Ok(permit) => permit.send(event.clone()),
                Err(tokio::sync::mpsc::error::TrySendError::Full(())) => tap.backlog.push_back(event.clone()),
                Err(tokio::sync::mpsc::error::TrySendError::Closed(())) => tap.gone = true,
            }
        }
        self.taps.retain(|tap| !tap.gone);
    }

    /// Events that wait for the slowest reader, beyond its queue.
    pub(super) fn backlog(&self) -> usize {
        self.taps.iter().map(|tap| tap.backlog.len()).max().unwrap_or(0)
    }

    /// Events that the slowest reader has not read.
    pub(super) fn lag(&self) -> usize {
        let unread = |tap: &Tap| tap.events.max_capacity() - tap.events.capacity() + tap.backlog.len();
        self.taps.iter().map(unread).max().unwrap_or(0)
    }

    /// Waits until a reader with a backlog has half of its queue free, and fills that. Cancel-safe.
    pub(super) async fn drained(&mut self) {
        poll_fn(|context| {
            for tap in self.taps.iter_mut().filter(|tap| !tap.backlog.is_empty()) {
                let room = tap.room.get_or_insert_with(|| room(tap.events.clone()));
                let Poll::Ready(permits) = room.poll_unpin(context) else { continue };
                tap.room = None;
                let Some(permits) = permits else {
                    tap.gone = true;
                    return Poll::Ready(());
                };
                for permit in permits {
                    if let Some(event) = tap.backlog.pop_front() {
                        drop(permit.send(event));
                    }
                }
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
        self.taps.retain(|tap| !tap.gone);
    }
}

/// Waits for half a queue, so that a reader that is a little slow does not stop and start intake with every
/// event.
fn room(events: Sender<SdkEvent>) -> Room {
    let half = (events.max_capacity() / 2).max(1);
    async move {
        let mut permits = Vec::with_capacity(half);
        for _ in 0..half {
            permits.push(events.clone().reserve_owned().await.ok()?);
        }
        Some(permits)
    }
    .boxed()
}
