//! What is known of each peer, and who is asked next.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use fastrand::Rng;
use p2p_types::{BlockNumber, PeerId};

use crate::time::Agenda;

/// Unkept promises after which a peer's claims do not count. A page that is not answered is one; an empty
/// page where the peer claims to have commitments is all of them at once.
pub(crate) const PATIENCE: u32 = 3;

/// Over how long requests are spread evenly.
const SPREAD: Duration = Duration::from_secs(10);

/// Peers with a bad record that are remembered after they have gone.
const REMEMBERED: usize = 1024;

/// One peer.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    /// When it went; none while it is connected.
    gone: Option<Instant>,
    /// The height that it claims, lowered to what it delivered when it delivered less.
    pub(crate) claim: Option<BlockNumber>,
    /// When its head was last asked.
    pub(crate) head_asked: Option<Instant>,
    /// Its head is on the way.
    pub(crate) head_open: bool,
    /// Its head must be asked in the next round, whoever else is.
    pub(crate) head_due: bool,
    /// Promises in a row that it did not keep. Delivering commitments that link clears it.
    pub(crate) unkept: u32,
    /// Requests in a row that it did not answer.
    pub(crate) failures: u32,
    /// No request before this.
    pub(crate) backoff_until: Option<Instant>,
    /// Transaction lists it did not have and requests it did not answer, halved by each success.
    pub(crate) misses: u32,
    /// Offences.
    pub(crate) strikes: u32,
    /// Left out until then.
    pub(crate) left_out: Option<Instant>,
    /// Open requests.
    pub(crate) open: u32,
    /// Requests since `spread_from`, so that equals take turns: servers count in windows of about this length.
    asked: u32,
    spread_from: Option<Instant>,
    /// Open requests for transaction lists.
    pub(crate) txlists_open: usize,
}

impl Peer {
    /// Connected and not left out.
    pub(crate) const fn is_askable(&self) -> bool {
        self.gone.is_none() && self.left_out.is_none()
    }

    /// Whether what it claims counts.
    pub(crate) const fn is_trusted(&self) -> bool {
        self.unkept < PATIENCE
    }

    /// Whether it can be expected to answer.
    pub(crate) const fn is_steady(&self) -> bool {
        self.is_trusted() && self.failures < PATIENCE
    }

    pub(crate) fn claims(&self, block: BlockNumber) -> bool {
        self.claim.is_some_and(|claim| claim >= block)
    }

    /// Takes its claim back down to what it has shown. Its head is asked again.
    pub(crate) fn lower_claim(&mut self, to: BlockNumber) {
        self.claim = self.claim.map(|claim| claim.min(to));
        self.head_due = true;
    }

    pub(crate) const fn delivered(&mut self) {
        self.unkept = 0;
        self.failures = 0;
        self.misses /= 2;
    }

    const fn is_clean(&self) -> bool {
        self.unkept == 0 && self.failures == 0 && self.strikes == 0 && self.left_out.is_none()
    }

    /// Notes a request.
    pub(crate) fn asked(&mut self, now: Instant) {
        if self.asked_lately(now) == 0 {
            (self.asked, self.spread_from) = (0, Some(now));
        }
        self.asked = self.asked.saturating_add(1);
        self.open = self.open.saturating_add(1);
    }

    fn asked_lately(&self, now: Instant) -> u32 {
        let lately = self.spread_from.is_some_and(|from| now.saturating_duration_since(from) < SPREAD);
        if lately { self.asked } else { 0 }
    }

    fn load(&self) -> u32 {
        self.open.saturating_add(self.misses.min(8))
    }
}

/// All peers, in the order of their ids, so that the same seed makes the same choices.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    known: BTreeMap<PeerId, Peer>,
}

impl Peers {
    /// False if it is connected already.
    pub(crate) fn up(&mut self, id: PeerId) -> bool {
        let new = self.known.get(&id).is_none_or(|peer| peer.gone.is_some());
        self.known.entry(id).or_default().gone = None;
        new
    }

    /// Forgets a peer that has gone, but for a bad record. A bounded number of those is kept: the one that
    /// went first makes room.
    pub(crate) fn down(&mut self, id: &PeerId, now: Instant) {
        let Some(peer) = self.known.get_mut(id).filter(|peer| peer.gone.is_none()) else { return };
        (peer.claim, peer.head_asked, peer.head_due) = (None, None, false);
        peer.gone = Some(now);
        if peer.is_clean() {
            self.known.remove(id);
            return;
        }
        let gone = self.known.iter().filter_map(|(id, peer)| peer.gone.map(|at| (at, *id)));
        if gone.clone().count() > REMEMBERED
            && let Some((_, oldest)) = gone.min()
        {
            self.known.remove(&oldest);
        }
    }

    pub(crate) fn get(&self, id: &PeerId) -> Option<&Peer> {
        self.known.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &PeerId) -> Option<&mut Peer> {
        self.known.get_mut(id)
    }

    /// Those that are connected and not left out.
    pub(crate) fn askable(&self) -> impl Iterator<Item = (&PeerId, &Peer)> {
        self.known.iter().filter(|(_, peer)| peer.is_askable())
    }

    /// The highest claim that counts.
    pub(crate) fn best_claim(&self) -> Option<BlockNumber> {
        self.askable().filter(|(_, peer)| peer.is_trusted()).filter_map(|(_, peer)| peer.claim).max()
    }

    /// A reorg has made every claim doubtful: all are asked again.
    pub(crate) fn forget_claims(&mut self) {
        for peer in self.known.values_mut() {
            peer.head_due |= peer.claim.take().is_some();
        }
    }

    /// Lets those back in whose time is over, with one strike left.
    pub(crate) fn readmit(&mut self, agenda: &mut Agenda, max_strikes: u32) {
        for peer in self.known.values_mut() {
            if peer.left_out.is_some_and(|until| agenda.due(until)) {
                peer.left_out = None;
                peer.strikes = max_strikes.saturating_sub(1);
            }
        }
    }

    /// One of the least loaded, and among those the least asked lately, that `rank` gives the lowest number,
    /// by chance. Those in a pause are not
    /// chosen; the end of the pause goes into the agenda.
    pub(crate) fn pick<R: Ord>(
        &self,
        agenda: &mut Agenda,
        rng: &mut Rng,
        rank: impl Fn(&PeerId, &Peer) -> Option<R>,
    ) -> Option<PeerId> {
        let mut best: Option<(R, (u32, u32), PeerId)> = None;
        let mut ties = 0_usize;
        for (id, peer) in self.askable() {
            let Some(rank) = rank(id, peer) else { continue };
            if !peer.backoff_until.is_none_or(|until| agenda.due(until)) {
                continue;
            }
            let key = (rank, (peer.load(), peer.asked_lately(agenda.now())));
            match &best {
                Some((rank, load, _)) if (rank, load) < (&key.0, &key.1) => continue,
                Some((rank, load, _)) if (rank, load) == (&key.0, &key.1) => ties += 1,
                _ => ties = 1,
            }
            if rng.usize(..ties) == 0 {
                best = Some((key.0, key.1, *id));
            }
        }
        best.map(|(_, _, id)| id)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use super::*;

    fn id(n: u32) -> PeerId {
        let bytes: Vec<u8> = [0, 4].into_iter().chain(n.to_be_bytes()).collect();
        PeerId::from_bytes(&bytes).unwrap()
    }

    #[test]
    fn a_bad_record_survives_a_reconnect_and_the_memory_is_bounded() {
        let now = Instant::now();
        let mut peers = Peers::default();
        let (liar, clean) = (id(0), id(1));
        for id in [liar, clean] {
            assert!(peers.up(id));
            assert!(!peers.up(id));
        }
        peers.get_mut(&liar).unwrap().strikes = 2;
        peers.down(&liar, now);
        peers.down(&clean, now);
        assert!(peers.get(&clean).is_none());
        assert!(peers.up(liar));
        assert_eq!(peers.get(&liar).unwrap().strikes, 2);
        peers.down(&liar, now);
        for after in 1..=u32::try_from(REMEMBERED).unwrap() {
            let id = id(after + 1);
            peers.up(id);
            peers.get_mut(&id).unwrap().strikes = 1;
            peers.down(&id, now + Duration::from_millis(after.into()));
        }
        assert!(peers.get(&liar).is_none(), "the oldest makes room");
        assert_eq!(peers.known.len(), REMEMBERED);
    }

    #[test]
    fn the_pick_spreads_over_the_least_loaded() {
        let mut peers = Peers::default();
        let ids: Vec<_> = (0..4).map(id).collect();
        ids.iter().for_each(|id| assert!(peers.up(*id)));
        peers.get_mut(&ids[0]).unwrap().open = 1;
        let (mut rng, mut agenda) = (Rng::with_seed(3), Agenda::new(Instant::now()));
        let mut hits = BTreeMap::<_, u32>::new();
        for _ in 0..600 {
            *hits.entry(peers.pick(&mut agenda, &mut rng, |_, _| Some(())).unwrap()).or_default() += 1;
        }
        assert!(!hits.contains_key(&ids[0]));
        assert!(hits.len() == 3 && hits.values().all(|&n| n > 120), "{hits:?}");
    }

    #[test]
    fn equals_take_turns_for_a_while() {
        let mut peers = Peers::default();
        (0..3).map(id).for_each(|id| assert!(peers.up(id)));
        let (mut rng, start) = (Rng::with_seed(3), Instant::now());
        let mut hits = BTreeMap::<_, u32>::new();
        for _ in 0..30 {
            let peer = peers.pick(&mut Agenda::new(start), &mut rng, |_, _| Some(())).unwrap();
            peers.get_mut(&peer).unwrap().asked(start);
            peers.get_mut(&peer).unwrap().open = 0;
            *hits.entry(peer).or_default() += 1;
        }
        assert!(hits.values().all(|&n| n == 10), "{hits:?}");
        let peer = peers.get(&id(0)).unwrap();
        assert_eq!((peer.asked_lately(start + SPREAD / 2), peer.asked_lately(start + SPREAD)), (10, 0));
    }
}
