//! Subscribers that lose no event. Each has a bounded queue; what does not fit overflows into a list here, and while there
//! is overflow, ingestion pauses, so that no more comes than the running batch brings.

use std::{collections::VecDeque, future::poll_fn, task::Poll};

use futures::{FutureExt as _, future::BoxFuture};
use p2p_types::SdkEvent;
use tokio::sync::mpsc::{OwnedPermit, Sender};

/// Half a queue of one subscriber is free, or it has gone.
type Room = BoxFuture<'static, Option<Vec<OwnedPermit<SdkEvent>>>>;

struct Subscriber {
    events: Sender<SdkEvent>,
    overflow: VecDeque<SdkEvent>,
    /// Waited for while there is overflow.
    room: Option<Room>,
    gone: bool,
}

/// All lossless subscribers.
#[derive(Default)]
pub(super) struct LosslessSubscribers {
    subscribers: Vec<Subscriber>,
}

impl LosslessSubscribers {
    pub(super) fn add(&mut self, events: Sender<SdkEvent>) {
        self.subscribers.push(Subscriber { events, overflow: VecDeque::new(), room: None, gone: false });
    }

    /// Sends an event to every subscriber, or keeps it for those whose queue is full.
    pub(super) fn push(&mut self, event: &SdkEvent) {
        for subscriber in &mut self.subscribers {
            if !subscriber.overflow.is_empty() {
                subscriber.overflow.push_back(event.clone());
                continue;
            }
            match subscriber.events.try_reserve() {
                Ok(permit) => permit.send(event.clone()),
                Err(tokio::sync::mpsc::error::TrySendError::Full(())) => {
                    subscriber.overflow.push_back(event.clone())
                }
                Err(tokio::sync::mpsc::error::TrySendError::Closed(())) => subscriber.gone = true,
            }
        }
        self.subscribers.retain(|subscriber| !subscriber.gone);
    }

    /// Events that wait for the slowest subscriber, beyond its queue.
    pub(super) fn overflow(&self) -> usize {
        self.subscribers.iter().map(|subscriber| subscriber.overflow.len()).max().unwrap_or(0)
    }

    /// Events that the slowest subscriber has not read.
    pub(super) fn lag(&self) -> usize {
        let unread = |subscriber: &Subscriber| {
            subscriber.events.max_capacity() - subscriber.events.capacity() + subscriber.overflow.len()
        };
        self.subscribers.iter().map(unread).max().unwrap_or(0)
    }

    /// Waits until a subscriber with overflow has half of its queue free, and fills that. Cancel-safe.
    pub(super) async fn fill_room(&mut self) {
        poll_fn(|context| {
            for subscriber in self.subscribers.iter_mut().filter(|subscriber| !subscriber.overflow.is_empty())
            {
                let room = subscriber.room.get_or_insert_with(|| wait_for_room(subscriber.events.clone()));
                let Poll::Ready(permits) = room.poll_unpin(context) else { continue };
                subscriber.room = None;
                let Some(permits) = permits else {
                    subscriber.gone = true;
                    return Poll::Ready(());
                };
                for permit in permits {
                    if let Some(event) = subscriber.overflow.pop_front() {
                        drop(permit.send(event));
                    }
                }
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
        self.subscribers.retain(|subscriber| !subscriber.gone);
    }
}

/// Waits for half a queue, so that a subscriber that is a little slow does not pause and resume ingestion with every event.
fn wait_for_room(events: Sender<SdkEvent>) -> Room {
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
