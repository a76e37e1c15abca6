//! [`PublishOutcome`]: what became of a message that was published.

use preconfirmation_p2p::Published;

/// What became of a message that was published. It is stored in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum PublishOutcome {
    /// It was handed to the send queues of peers.
    Published {
        /// The peers that it was addressed to; of a block, the peers of its commitment or of its transaction
        /// list, whichever are fewer.
        peers: usize,
    },
    /// It was sent or queued, and another branch is canonical here (§7): the block stands only if the next preconfer
    /// builds on it.
    NonCanonical {
        /// As of `Published`; zero where it is queued.
        peers: usize,
    },
    /// No peer could take it. It is sent once when a peer can, as long as it is of use; peers that connect later
    /// find it by catching up.
    Queued,
    /// Nothing was done, because nothing was left to do: the store had it, and it has been sent or has a successor; or
    /// its window is over; or the network has sent, received or queued the same bytes.
    AlreadyPublished,
}

impl PublishOutcome {
    /// One outcome for a transaction list and its commitment.
    pub(super) fn and(self, commitment: Self) -> Self {
        match (self, commitment) {
            (Self::Queued, _) | (_, Self::Queued) => Self::Queued,
            (Self::Published { peers: some }, Self::Published { peers: others }) => {
                Self::Published { peers: some.min(others) }
            }
            (_, commitment) => commitment,
        }
    }

    /// The same, of a block that is not canonical.
    pub(super) const fn non_canonical(self) -> Self {
        match self {
            Self::Published { peers } => Self::NonCanonical { peers },
            Self::Queued => Self::NonCanonical { peers: 0 },
            Self::NonCanonical { .. } | Self::AlreadyPublished => self,
        }
    }
}

impl From<Published> for PublishOutcome {
    fn from(published: Published) -> Self {
        match published {
            Published::Sent { peers } => Self::Published { peers },
            Published::Queued => Self::Queued,
            Published::Duplicate => Self::AlreadyPublished,
        }
    }
}
