//! All peers, connected or remembered, and the choice of the next one to send a request to.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use fastrand::Rng;
use p2p_types::{BlockNumber, PeerId};

use crate::{CatchUpConfig, deadlines::Deadlines, peer::Peer, protocol_state::Protocol};

/// Most disconnected peers whose record of failures is remembered.
const MAX_REMEMBERED: usize = 1024;

/// All peers, in the order of their ids, so that the same seed makes the same choices.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    connected: BTreeMap<PeerId, Peer>,
    /// Those with a record of failures. Apart, as anybody can leave many of them: planning must not look at each.
    disconnected: BTreeMap<PeerId, Peer>,
    /// These, by when they disconnected.
    by_age: BTreeSet<(Instant, PeerId)>,
}

impl Peers {
    /// A peer has connected. What it did before is forgiven as if it had stayed. False if it is connected already.
    pub(crate) fn up(&mut self, id: PeerId, now: Instant, config: &CatchUpConfig) -> bool {
        if self.connected.contains_key(&id) {
            return false;
        }
        let mut peer = self.disconnected.remove(&id).unwrap_or_default();
        if let Some(at) = peer.disconnected_at.take() {
            self.by_age.remove(&(at, id));
        }
        peer.readmit(&mut Deadlines::new(now), config);
        self.connected.insert(id, peer);
        true
    }

    /// A peer has disconnected. It is forgotten unless it has a record of failures, or may still get one (`keep`). Of those a
    /// bounded number is remembered; the one that disconnected first is forgotten first.
    pub(crate) fn down(&mut self, id: &PeerId, now: Instant, keep: bool) {
        let Some(mut peer) = self.connected.remove(id) else { return };
        (peer.claim, peer.head, peer.head_requested, peer.head_due) = (None, None, None, false);
        peer.unavailable.clear();
        peer.disconnected_at = Some(now);
        if peer.is_clean() && !keep {
            return;
        }
        self.disconnected.insert(*id, peer);
        self.by_age.insert((now, *id));
        if self.by_age.len() > MAX_REMEMBERED
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.disconnected.remove(&oldest);
        }
    }

    pub(crate) fn get(&self, id: &PeerId) -> Option<&Peer> {
        self.connected.get(id).or_else(|| self.disconnected.get(id))
    }

    pub(crate) fn get_mut(&mut self, id: &PeerId) -> Option<&mut Peer> {
        self.connected.get_mut(id).or_else(|| self.disconnected.get_mut(id))
    }

    /// Those that are connected and not excluded.
    pub(crate) fn available(&self) -> impl Iterator<Item = (&PeerId, &Peer)> {
        self.connected.iter().filter(|(_, peer)| peer.is_available())
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.connected.values_mut().chain(self.disconnected.values_mut())
    }

    /// The highest claim that counts for a node that has reached `applied`.
    pub(crate) fn best_claim(&self, applied: BlockNumber) -> Option<BlockNumber> {
        self.available().filter_map(|(_, peer)| peer.counted_claim(applied)).max()
    }

    /// Whether any peer has told a head above `applied`, whether that counts or not.
    pub(crate) fn anybody_claims_above(&self, applied: BlockNumber) -> bool {
        let above = |peer: &Peer| peer.head.is_some_and(|head| peer.likely(head, applied) > applied);
        self.available().any(|(_, peer)| above(peer) && !peer.has_lost())
    }

    /// Missing ancestors have come: claims whose branches did not link count again.
    pub(crate) fn reconsider(&mut self) {
        for peer in self.all_mut() {
            peer.dismissed.take_if(|dismissed| !dismissed.linked);
        }
    }

    /// After a reorg no claim can be relied on: all heads are requested again.
    pub(crate) fn forget_claims(&mut self) {
        for peer in self.all_mut() {
            peer.head_due |= peer.claim.take().is_some();
            (peer.head, peer.dismissed) = (None, None);
            peer.unavailable.clear();
        }
    }

    /// Readmits connected peers whose exclusion is over, and forgives what is to be forgiven.
    pub(crate) fn readmit(&mut self, deadlines: &mut Deadlines, config: &CatchUpConfig) {
        self.connected.values_mut().for_each(|peer| peer.readmit(deadlines, config));
    }

    /// Whether a request can be sent to any peer.
    pub(crate) fn any_free(
        &self,
        config: &CatchUpConfig,
        protocol: Protocol,
        deadlines: &mut Deadlines,
    ) -> bool {
        self.available().any(|(_, peer)| peer.is_free(config, protocol, deadlines))
    }

    /// The peers that a request can be sent to.
    pub(crate) fn free(
        &self,
        config: &CatchUpConfig,
        protocol: Protocol,
        deadlines: &mut Deadlines,
    ) -> BTreeSet<PeerId> {
        let free = self.available().filter(|(_, peer)| peer.is_free(config, protocol, deadlines));
        free.map(|(id, _)| *id).collect()
    }

    /// Of the peers that can be sent a request and that `rank` ranks lowest, the one that is expected to respond first; among
    /// equals the one with the fewest recent requests, then a random one. A peer without a measured round trip counts as fast
    /// as the fastest, so that it gets measured.
    pub(crate) fn pick<R: Ord>(
        &self,
        config: &CatchUpConfig,
        protocol: Protocol,
        deadlines: &mut Deadlines,
        rng: &mut Rng,
        rank: impl Fn(&PeerId, &Peer) -> Option<R>,
    ) -> Option<PeerId> {
        let measured = self.available().filter_map(|(_, peer)| peer.protocol(protocol).round_trip_micros());
        let fastest = measured.min().unwrap_or(1);
        let mut best: Option<((R, u32, usize, usize), PeerId)> = None;
        let mut ties = 0_usize;
        for (id, peer) in self.available() {
            let Some(rank) = rank(id, peer) else { continue };
            if !peer.is_free(config, protocol, deadlines) {
                continue;
            }
            let state = peer.protocol(protocol);
            let key = (
                rank,
                peer.expected(protocol, fastest),
                state.in_flight(),
                state.recent_requests(deadlines.now()),
            );
            match &best {
                Some((least, _)) if *least < key => continue,
                Some((least, _)) if *least == key => ties += 1,
                _ => ties = 1,
            }
            if rng.usize(..ties) == 0 {
                best = Some((key, *id));
            }
        }
        best.map(|(_, id)| id)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol_state::ProtocolState;

    fn id(n: u32) -> PeerId {
        let bytes: Vec<u8> = [0, 4].into_iter().chain(n.to_be_bytes()).collect();
        PeerId::from_bytes(&bytes).unwrap()
    }

    fn up(peers: &mut Peers, id: PeerId) -> bool {
        peers.up(id, Instant::now(), &CatchUpConfig::recommended())
    }

    #[test]
    fn a_head_at_the_applied_height_is_no_claim_above_it() {
        let mut peers = Peers::default();
        assert!(up(&mut peers, id(0)));
        assert!(!peers.anybody_claims_above(9), "it has told none");
        peers.get_mut(&id(0)).unwrap().set_head(10);
        assert!(peers.anybody_claims_above(9) && !peers.anybody_claims_above(10));
    }

    #[test]
    fn whose_claim_is_forgotten_is_asked_for_its_head_again() {
        let mut peers = Peers::default();
        let (claims, lowered, silent) = (id(0), id(1), id(2));
        for id in [claims, lowered, silent] {
            assert!(up(&mut peers, id));
        }
        peers.get_mut(&claims).unwrap().set_head(10);
        peers.get_mut(&lowered).unwrap().lower_claim(5);
        peers.forget_claims();
        let due = |id| peers.get(&id).map(|peer| (peer.claim, peer.head_due));
        assert_eq!(due(claims), Some((None, true)));
        assert_eq!(due(lowered), Some((None, true)), "as it was before");
        assert_eq!(due(silent), Some((None, false)));
    }

    #[test]
    fn a_peer_that_is_not_at_its_limit_is_free() {
        let (mut peers, config, now) = (Peers::default(), CatchUpConfig::recommended(), Instant::now());
        let free = |peers: &Peers| peers.any_free(&config, Protocol::TxList, &mut Deadlines::new(now));
        assert!(!free(&peers));
        assert!(up(&mut peers, id(0)));
        assert!(free(&peers));
        peers.get_mut(&id(0)).unwrap().backoff_until = Some(now + Duration::from_secs(1));
        assert!(!free(&peers));
    }

    #[test]
    fn a_record_of_faults_survives_a_reconnect_within_bounds() {
        let now = Instant::now();
        let mut peers = Peers::default();
        let (liar, clean) = (id(0), id(1));
        for id in [liar, clean] {
            assert!(up(&mut peers, id));
            assert!(!up(&mut peers, id));
        }
        peers.get_mut(&liar).unwrap().faults = 2;
        peers.down(&liar, now, false);
        peers.down(&clean, now, false);
        assert!(peers.get(&clean).is_none());
        assert!(up(&mut peers, liar));
        assert_eq!(peers.get(&liar).unwrap().faults, 2);
        peers.down(&liar, now, false);
        for after in 1..=u32::try_from(MAX_REMEMBERED).unwrap() {
            let id = id(after + 1);
            up(&mut peers, id);
            peers.get_mut(&id).unwrap().faults = 1;
            peers.down(&id, now + Duration::from_millis(after.into()), false);
        }
        assert!(peers.get(&liar).is_none(), "the oldest makes room");
        assert_eq!((peers.disconnected.len(), peers.by_age.len()), (MAX_REMEMBERED, MAX_REMEMBERED));
    }

    fn pick(peers: &Peers, now: Instant, rng: &mut Rng) -> Option<PeerId> {
        let config = CatchUpConfig::recommended();
        peers.pick(&config, Protocol::TxList, &mut Deadlines::new(now), rng, |_, _| Some(()))
    }

    fn protocol(peers: &mut Peers, n: u32) -> &mut ProtocolState {
        peers.get_mut(&id(n)).unwrap().protocol_mut(Protocol::TxList)
    }

    #[test]
    fn the_choice_spreads_over_the_least_loaded_peers() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        (0..4).map(id).for_each(|id| assert!(up(&mut peers, id)));
        protocol(&mut peers, 0).sent(now, &CatchUpConfig::recommended());
        let mut rng = Rng::with_seed(3);
        let mut hits = BTreeMap::<_, u32>::new();
        for _ in 0..600 {
            *hits.entry(pick(&peers, now, &mut rng).unwrap()).or_default() += 1;
        }
        assert!(!hits.contains_key(&id(0)));
        assert!(hits.len() == 3 && hits.values().all(|&n| n > 120), "{hits:?}");
    }

    #[test]
    fn equals_are_picked_in_turn() {
        let (mut peers, start) = (Peers::default(), Instant::now());
        (0..3).map(id).for_each(|id| assert!(up(&mut peers, id)));
        let mut rng = Rng::with_seed(3);
        let mut hits = BTreeMap::<_, u32>::new();
        for _ in 0..30 {
            let peer = pick(&peers, start, &mut rng).unwrap();
            let state = peers.get_mut(&peer).unwrap().protocol_mut(Protocol::TxList);
            state.sent(start, &CatchUpConfig::recommended());
            state.ended();
            *hits.entry(peer).or_default() += 1;
        }
        assert!(hits.values().all(|&n| n == 10), "{hits:?}");
    }

    #[test]
    fn fast_peers_get_more_requests_and_missing_ones_fewer() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        (0..3).map(id).for_each(|id| assert!(up(&mut peers, id)));
        for (n, millis) in [(0, 10), (1, 80), (2, 10)] {
            protocol(&mut peers, n).answered(Duration::from_millis(millis));
        }
        peers.get_mut(&id(2)).unwrap().misses = 8;
        let mut rng = Rng::with_seed(3);
        let mut hits = [0_u32; 3];
        // As many as may be in flight to the fast peer, and two more.
        for _ in 0..10 {
            let peer = pick(&peers, now, &mut rng).unwrap();
            peers
                .get_mut(&peer)
                .unwrap()
                .protocol_mut(Protocol::TxList)
                .sent(now, &CatchUpConfig::recommended());
            hits[(0..3).position(|n| id(n) == peer).unwrap()] += 1;
        }
        assert!(hits[0] >= 7 && hits[1] > 0, "{hits:?}");
    }

    #[test]
    fn a_peer_that_was_not_measured_is_tried() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        (0..2).map(id).for_each(|id| assert!(up(&mut peers, id)));
        protocol(&mut peers, 0).sent(now, &CatchUpConfig::recommended());
        protocol(&mut peers, 0).ended();
        protocol(&mut peers, 0).answered(Duration::from_millis(1));
        assert_eq!(pick(&peers, now, &mut Rng::with_seed(1)), Some(id(1)));
    }

    #[test]
    fn failed_promises_are_forgiven_one_by_one() {
        let (mut peers, start) = (Peers::default(), Instant::now());
        up(&mut peers, id(0));
        let config = CatchUpConfig::recommended();
        peers.get_mut(&id(0)).unwrap().add_failed_promises(start, 0);
        assert_eq!(peers.get(&id(0)).unwrap().failed_promise_at, None);
        peers.get_mut(&id(0)).unwrap().add_failed_promises(start, 9);
        let mut failed_promises = |seconds| {
            let now = start + Duration::from_secs(seconds);
            peers.readmit(&mut Deadlines::new(now), &config);
            peers.get(&id(0)).unwrap().failed_promises
        };
        assert_eq!([599, 600, 1_199, 1_200, 1_800, 2_400].map(&mut failed_promises), [9, 2, 2, 1, 0, 0]);
        let mut deadlines = Deadlines::new(start + Duration::from_secs(3_000));
        peers.readmit(&mut deadlines, &config);
        assert_eq!(deadlines.next(), None);
        assert_eq!(
            peers.get(&id(0)).unwrap().failed_promise_at,
            Some(start + Duration::from_secs(1_800)),
            "nothing to forgive"
        );
    }

    #[test]
    fn time_forgives_a_peer_also_while_it_is_disconnected() {
        let (mut peers, start, config) = (Peers::default(), Instant::now(), CatchUpConfig::recommended());
        assert!(peers.up(id(0), start, &config));
        let peer = peers.get_mut(&id(0)).unwrap();
        peer.add_failed_promises(start, 3);
        (peer.faults, peer.excluded_until) = (3, Some(start + config.exclude_for));
        peers.down(&id(0), start, false);
        let mut deadlines = Deadlines::new(start);
        peers.readmit(&mut deadlines, &config);
        assert_eq!(deadlines.next(), None, "nothing is planned for its sake");
        assert!(peers.up(id(0), start + config.exclude_for * 2, &config));
        let peer = peers.get(&id(0)).unwrap();
        assert_eq!((peer.failed_promises, peer.faults, peer.is_available()), (1, 2, true));
        assert!(peers.by_age.is_empty());
    }

    #[test]
    fn a_peer_without_responses_gets_one_request_at_a_time() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        assert!(up(&mut peers, id(0)));
        let mut rng = Rng::with_seed(1);
        protocol(&mut peers, 0).sent(now, &CatchUpConfig::recommended());
        assert_eq!(pick(&peers, now, &mut rng), Some(id(0)));
        peers.get_mut(&id(0)).unwrap().failures = 1;
        assert_eq!(pick(&peers, now, &mut rng), None);
    }
}
