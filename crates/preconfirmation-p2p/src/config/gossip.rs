//! Gossip: meshes, queues, and what waits for peers to come.

use std::{num::NonZeroUsize, time::Duration};

use preconfirmation_types::{MAX_TXLIST_BYTES, Topic};

use super::size;
use crate::error::ConfigError;

/// How many peers a topic's mesh has (§2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MeshConfig {
    /// D: peers wanted.
    pub size: usize,
    /// Below this, peers are added at the next heartbeat.
    pub low: usize,
    /// Above this, peers are removed at the next heartbeat.
    pub high: usize,
    /// Peers wanted among them that we dialled.
    pub outbound_min: usize,
}

impl MeshConfig {
    const fn new(size: usize, low: usize, high: usize, outbound_min: usize) -> Self {
        Self { size, low, high, outbound_min }
    }

    pub(super) fn check(self) -> Result<(), ConfigError> {
        let Self { size, low, high, outbound_min } = self;
        let fits = outbound_min <= low && low <= size && size <= high;
        if size == 0 || !fits || outbound_min.saturating_mul(2) > size {
            return Err(ConfigError::Mesh { size, low, high, outbound_min });
        }
        Ok(())
    }
}

impl Default for MeshConfig {
    /// The mesh of the deployed peers.
    fn default() -> Self {
        Self::new(8, 6, 12, 2)
    }
}

/// Gossip (§2), as the deployed peers have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GossipConfig {
    /// The mesh of the commitments' topic.
    pub mesh: MeshConfig,
    /// The mesh of the transaction lists' topic: smaller, because every peer in it may send the same list.
    pub txlist_mesh: MeshConfig,
    /// Peers outside the mesh that are told of messages at each heartbeat, at least.
    pub lazy: usize,
    /// Messages longer than this in bytes are announced with IDONTWANT to the mesh on arrival, so that
    /// fewer copies of them come. [`usize::MAX`] announces none.
    pub idontwant_threshold: usize,
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// Heartbeats that a message is remembered for. A verdict within `(history - 1) * heartbeat` less a second (4.5 s) is
    /// in time to have the message forwarded.
    pub history: NonZeroUsize,
    /// Of these, heartbeats in which it is announced.
    pub history_gossip: usize,
    /// How long a message id is known as seen.
    pub duplicate_cache: Duration,
    /// Largest gossip frame in bytes, with what surrounds a message. So much can a peer make us keep of a frame that it
    /// has not ended. The deployed peers allow 10 MiB and send one message a frame: by default it is the largest list
    /// and a MiB for what comes with it.
    pub max_frame_bytes: usize,
    /// Most messages that wait to be written to one peer; one more is not sent to it.
    pub send_queue: NonZeroUsize,
    /// Most bytes that may wait behind a message that a peer does not read; a peer behind which more may
    /// wait is disconnected. It counts what gossip was given to send, whether to this peer or not. A peer
    /// that also asks for messages itself (IWANT) can make each wait once more: it pins at most twice this.
    pub send_queue_bytes: NonZeroUsize,
    /// A peer that does not read a whole message in this time is disconnected; at most 9 s. 8 s for the
    /// largest list are 2.1 Mbit/s.
    pub send_stall: Duration,
    /// A peer that has begun a frame and has not ended it in this time is disconnected. 10 s for the largest list are
    /// 1.7 Mbit/s.
    pub frame_time: Duration,
    /// A message that has waited this long to be written to a peer is not sent to it any more.
    pub queue_time: Duration,
    /// Messages of 64 KiB or more that are written to peers at the same time; the next one begins when one of them is written, and
    /// is left out if its peer has it by then. Over a narrow line all peers have a list in a fraction of the time that copies
    /// side by side take. 0: no limit.
    pub large_sends: usize,
    /// Messages of ours that no peer could be sent yet.
    pub publish_queue: PublishQueueConfig,
    /// Commitments of signers whom nobody has elected that a peer may pass on in a minute; more, and for the rest of the
    /// minute its messages are read after everybody else's. As many of its own it may publish uncharged while this node
    /// suspects its own schedule: more than a preconfer signs in a minute.
    pub unelected_per_minute: u32,
}

/// What is kept of our own messages while no peer can be sent them. One more than fits is refused with
/// [`PublishError::QueueFull`](crate::PublishError::QueueFull).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishQueueConfig {
    /// Most messages.
    pub messages: NonZeroUsize,
    /// Most bytes of them together; at least the largest list.
    pub bytes: NonZeroUsize,
    /// One that has waited this long is dropped and counted. An L1 epoch, 32 slots of 12 s: no submission
    /// window (§4) is open for longer, and peers ignore what comes after its end.
    pub stale_after: Duration,
}

impl Default for PublishQueueConfig {
    fn default() -> Self {
        Self {
            // A thousand blocks and their transaction lists, twice.
            messages: size(4096),
            bytes: size(64 * 1024 * 1024),
            stale_after: Duration::from_secs(32 * 12),
        }
    }
}

impl GossipConfig {
    pub(crate) const fn mesh_of(&self, topic: Topic) -> &MeshConfig {
        match topic {
            Topic::Commitments => &self.mesh,
            Topic::RawTxLists => &self.txlist_mesh,
        }
    }
}

impl Default for GossipConfig {
    fn default() -> Self {
        Self {
            mesh: MeshConfig::default(),
            txlist_mesh: MeshConfig::new(4, 3, 6, 1),
            lazy: 6,
            idontwant_threshold: 1000,
            heartbeat: Duration::from_millis(500),
            history: size(12),
            history_gossip: 3,
            duplicate_cache: Duration::from_secs(120),
            max_frame_bytes: MAX_TXLIST_BYTES + 1024 * 1024,
            send_queue: size(128),
            send_queue_bytes: size(32 * 1024 * 1024),
            send_stall: Duration::from_secs(8),
            frame_time: Duration::from_secs(10),
            queue_time: Duration::from_secs(5),
            large_sends: 1,
            publish_queue: PublishQueueConfig::default(),
            unelected_per_minute: 64,
        }
    }
}
