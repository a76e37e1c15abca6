//! Whom the operator trusts at run time.

use libp2p::PeerId;

use super::PeerManager;

/// Most peers that can be trusted, those of the configuration included.
const MAX_TRUSTED: usize = 4096;

impl PeerManager {
    /// Trusts a peer. False if too many are trusted already.
    pub(crate) fn trust(&mut self, peer: PeerId) -> bool {
        let has_room = self.trusted.contains(&peer) || self.trusted.len() < MAX_TRUSTED;
        if has_room {
            self.trusted.insert(peer);
        }
        has_room
    }

    /// Trusts a peer no more. Whether it was trusted.
    pub(crate) fn distrust(&mut self, peer: &PeerId) -> bool {
        self.trusted.remove(peer)
    }
}
