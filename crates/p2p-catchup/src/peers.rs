//! What is known of each peer, and who is asked next.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use fastrand::Rng;
use p2p_types::{BlockNumber, PeerId};

use crate::{
    CatchUpConfig,
    backoff::Spent,
    dismissed::Dismissed,
    lanes::{Kind, Lane, Pace},
    time::{Agenda, after},
};

/// Unkept promises after which a peer's claims do not count. A page that is not answered is one; an empty
/// page where the peer claims to have commitments is all of them at once.
pub(crate) const PATIENCE: u32 = 3;

/// Heights at which a peer is remembered not to serve a block; the highest is forgotten first.
const UNAVAILABLE: usize = 16;

/// Peers with a bad record that are remembered after they have gone.
const REMEMBERED: usize = 1024;

/// A peer has not served a height, although it claims to have it.
#[derive(Debug, Clone, Copy)]
struct Unavailable {
    /// How often.
    times: u32,
    /// Its answers say so; otherwise we could not judge them.
    shown: bool,
    /// It has claimed no more than this height.
    top: bool,
    /// It is not asked for this height before.
    retry_at: Instant,
}

/// One peer.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    /// When it went; none while it is connected.
    gone: Option<Instant>,
    /// The height that it claims, lowered to what it delivered when it delivered less.
    pub(crate) claim: Option<BlockNumber>,
    /// The head that it said last.
    pub(crate) head: Option<BlockNumber>,
    /// When its head was last asked.
    pub(crate) head_asked: Option<Instant>,
    /// Its head must be asked in the next round, whoever else is.
    pub(crate) head_due: bool,
    /// Promises that it did not keep. Delivering commitments that link clears it, and time takes one after the other
    /// away.
    pub(crate) unkept: u32,
    /// When the last of these was noted or taken away.
    pub(crate) unkept_at: Option<Instant>,
    /// Heads that turned out to be one too high, since it last delivered.
    pub(crate) overstated: u32,
    /// A claim of it that does not count.
    pub(crate) dismissed: Option<Dismissed>,
    /// Heights that it did not serve.
    unavailable: BTreeMap<BlockNumber, Unavailable>,
    /// Requests in a row that it did not answer.
    pub(crate) failures: u32,
    /// No request before this.
    pub(crate) backoff_until: Option<Instant>,
    /// Of its budget of failures.
    pub(crate) spent: Spent,
    /// Transaction lists it did not have and requests it did not answer, halved by each success.
    pub(crate) misses: u32,
    /// Offences.
    pub(crate) strikes: u32,
    /// Left out until then.
    pub(crate) left_out: Option<Instant>,
    lanes: [Lane; Kind::COUNT],
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

    /// It says that its head is at `block`. If that is news, what was one too high before may be there now.
    pub(crate) fn says(&mut self, block: BlockNumber) {
        self.unavailable.retain(|&height, why| !why.top || height >= block);
        (self.claim, self.head, self.head_due) = (Some(block), Some(block), false);
    }

    /// Takes its claim back down to what it has shown. Its head is asked again.
    pub(crate) fn lower_claim(&mut self, to: BlockNumber) {
        self.claim = self.claim.map(|claim| claim.min(to));
        self.head_due = true;
    }

    /// What it claims, less one where that has turned out to be one too high: deployed peers count EOP-only commitments
    /// in their head. Whoever has said so several times is not believed one height above `applied`.
    pub(crate) fn likely_claim(&self, applied: BlockNumber) -> Option<BlockNumber> {
        self.claim.map(|claim| self.likely(claim, applied))
    }

    fn likely(&self, claim: BlockNumber, applied: BlockNumber) -> BlockNumber {
        let shown = self.unavailable.get(&claim).is_some_and(|height| height.shown);
        let noise = self.overstated >= PATIENCE && claim.checked_sub(1) == Some(applied);
        if shown || noise { claim.saturating_sub(1) } else { claim }
    }

    /// What it claims, if that counts: not while it has failed again and again to serve what comes after `applied`.
    pub(crate) fn counted_claim(&self, applied: BlockNumber) -> Option<BlockNumber> {
        let next = applied.checked_add(1).and_then(|next| self.unavailable.get(&next));
        let refused = next.is_some_and(|next| next.shown && next.times >= PATIENCE);
        let counts = self.is_trusted() && !refused && self.dismissed_claim().is_none();
        if counts { self.likely_claim(applied) } else { None }
    }

    /// What was found out about the very claim that it makes now.
    pub(crate) fn dismissed_claim(&self) -> Option<&Dismissed> {
        self.dismissed.as_ref().filter(|dismissed| self.claim == Some(dismissed.claim))
    }

    /// Whether all of the branch that it claims is stored beside the chain.
    fn has_lost(&self) -> bool {
        self.dismissed_claim().is_some_and(|dismissed| dismissed.linked)
    }

    /// Whether everything that it claims is stored here, in the chain or beside it.
    pub(crate) fn has_nothing_else(&self, applied: BlockNumber) -> bool {
        self.has_lost() || self.likely_claim(applied).is_some_and(|claim| claim <= applied)
    }

    /// It did not serve `height`, which is not looked for below `applied`. `shown`: its answer said so, otherwise we could
    /// not judge it. `top`: it has claimed no more, so that its head may be one too high.
    pub(crate) fn not_served(
        &mut self,
        now: Instant,
        (height, applied): (BlockNumber, BlockNumber),
        (shown, top): (bool, bool),
        pause: impl FnOnce(u32) -> Duration,
    ) {
        self.unavailable.retain(|&height, _| height > applied);
        let before = self.unavailable.get(&height).filter(|before| before.shown == shown);
        let times = before.map_or(0, |before| before.times).saturating_add(1);
        if top && times == 1 {
            self.overstated = self.overstated.saturating_add(1);
        }
        let retry_at = after(now, pause(times));
        self.unavailable.insert(height, Unavailable { times, shown, top, retry_at });
        while self.unavailable.len() > UNAVAILABLE {
            self.unavailable.pop_last();
        }
    }

    /// When it can be asked for `height` again, if it did not serve it, or if its claim was dismissed.
    pub(crate) fn retry_at(&self, height: BlockNumber) -> Option<Instant> {
        let unavailable = self.unavailable.get(&height).map(|height| height.retry_at);
        unavailable.max(self.dismissed_claim().map(|dismissed| dismissed.retry_at))
    }

    /// `promises` were not kept.
    pub(crate) fn break_promises(&mut self, now: Instant, promises: u32) {
        if promises > 0 {
            self.unkept = self.unkept.saturating_add(promises);
            self.unkept_at = Some(now);
        }
    }

    /// One broken promise is forgiven each `interval`.
    fn forgive(&mut self, agenda: &mut Agenda, interval: Duration) {
        if self.unkept > 0
            && let Some(at) = self.unkept_at
            && agenda.due(after(at, interval))
        {
            self.unkept = self.unkept.min(PATIENCE).saturating_sub(1);
            self.unkept_at = Some(agenda.now());
        }
    }

    /// A page of it links.
    pub(crate) const fn delivered(&mut self) {
        self.unkept = 0;
        self.overstated = 0;
        self.failures = 0;
        self.misses /= 2;
    }

    const fn is_clean(&self) -> bool {
        self.unkept == 0
            && self.overstated == 0
            && self.failures == 0
            && self.strikes == 0
            && self.dismissed.is_none()
            && self.left_out.is_none()
    }

    pub(crate) const fn lane(&self, kind: Kind) -> &Lane {
        let [head, page, txlist] = &self.lanes;
        match kind {
            Kind::Head => head,
            Kind::Page => page,
            Kind::TxList => txlist,
        }
    }

    pub(crate) const fn lane_mut(&mut self, kind: Kind) -> &mut Lane {
        let [head, page, txlist] = &mut self.lanes;
        match kind {
            Kind::Head => head,
            Kind::Page => page,
            Kind::TxList => txlist,
        }
    }

    /// It takes requests at this pace.
    pub(crate) fn learn(&mut self, pace: Pace) {
        self.lanes.iter_mut().for_each(|lane| lane.learn(pace));
    }

    /// Whether it can be asked something of this kind: its pause is over, it has a slot open, and the pace
    /// allows it. What time will change goes into the agenda.
    pub(crate) fn is_free(&self, config: &CatchUpConfig, kind: Kind, agenda: &mut Agenda) -> bool {
        // While it does not answer, one request at a time finds out whether it does again.
        let slots = if self.failures > 0 { 1 } else { kind.slots(config) };
        let lane = self.lane(kind);
        lane.open() < slots
            && self.backoff_until.is_none_or(|until| agenda.due(until))
            && lane.turn(config).is_none_or(|turn| agenda.due_turn(turn))
    }

    /// How long an answer can be expected to take, by what was measured, by what is on its way already and by
    /// how often it did not have what was asked for: the power of two of it, so that equals take turns.
    fn expected(&self, kind: Kind, unmeasured: u64) -> u32 {
        let lane = self.lane(kind);
        let micros = lane.round_trip_micros().unwrap_or(unmeasured).max(1);
        let queued = u64::try_from(lane.open()).unwrap_or(u64::MAX).saturating_add(1);
        let misses = u64::from(self.misses.min(8)).saturating_add(1);
        micros.saturating_mul(queued).saturating_mul(misses).ilog2()
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

    /// Forgets a peer that has gone, but for a bad record, or for one that may become so (`keep`). A bounded number of those is kept: the one that
    /// went first makes room.
    pub(crate) fn down(&mut self, id: &PeerId, now: Instant, keep: bool) {
        let Some(peer) = self.known.get_mut(id).filter(|peer| peer.gone.is_none()) else { return };
        (peer.claim, peer.head, peer.head_asked, peer.head_due) = (None, None, None, false);
        peer.unavailable.clear();
        peer.gone = Some(now);
        if peer.is_clean() && !keep {
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

    /// The highest claim that counts, of a node that has reached `applied`.
    pub(crate) fn best_claim(&self, applied: BlockNumber) -> Option<BlockNumber> {
        self.askable().filter_map(|(_, peer)| peer.counted_claim(applied)).max()
    }

    /// Whether anybody has said that there is more than `applied`, whether that counts or not.
    pub(crate) fn anybody_claims_above(&self, applied: BlockNumber) -> bool {
        let above = |peer: &Peer| peer.head.is_some_and(|head| peer.likely(head, applied) > applied);
        self.askable().any(|(_, peer)| above(peer) && !peer.has_lost())
    }

    /// Blocks that were missing have come: claims whose branches did not link count again.
    pub(crate) fn reconsider(&mut self) {
        for peer in self.known.values_mut() {
            peer.dismissed.take_if(|dismissed| !dismissed.linked);
        }
    }

    /// A reorg has made every claim doubtful: all are asked again.
    pub(crate) fn forget_claims(&mut self) {
        for peer in self.known.values_mut() {
            peer.head_due |= peer.claim.take().is_some();
            (peer.head, peer.dismissed) = (None, None);
            peer.unavailable.clear();
        }
    }

    /// Lets those back in whose time is over, with one strike left, and forgives broken promises, one an `interval`.
    pub(crate) fn readmit(&mut self, agenda: &mut Agenda, max_strikes: u32, interval: Duration) {
        for peer in self.known.values_mut() {
            if peer.left_out.is_some_and(|until| agenda.due(until)) {
                peer.left_out = None;
                peer.strikes = max_strikes.saturating_sub(1);
            }
            peer.forgive(agenda, interval);
        }
    }

    /// Whether anybody can be asked something of this kind.
    pub(crate) fn any_free(&self, config: &CatchUpConfig, kind: Kind, agenda: &mut Agenda) -> bool {
        self.askable().any(|(_, peer)| peer.is_free(config, kind, agenda))
    }

    /// Of those that can be asked and to which `rank` gives the lowest number, one that can be expected to answer
    /// soonest, and among equals the one asked least lately, by chance. Whoever has not been measured is taken
    /// for as quick as the quickest, so that it gets measured.
    pub(crate) fn pick<R: Ord>(
        &self,
        config: &CatchUpConfig,
        kind: Kind,
        agenda: &mut Agenda,
        rng: &mut Rng,
        rank: impl Fn(&PeerId, &Peer) -> Option<R>,
    ) -> Option<PeerId> {
        let measured = self.askable().filter_map(|(_, peer)| peer.lane(kind).round_trip_micros());
        let quickest = measured.min().unwrap_or(1);
        let mut best: Option<((R, u32, usize, usize), PeerId)> = None;
        let mut ties = 0_usize;
        for (id, peer) in self.askable() {
            let Some(rank) = rank(id, peer) else { continue };
            if !peer.is_free(config, kind, agenda) {
                continue;
            }
            let lane = peer.lane(kind);
            let key = (rank, peer.expected(kind, quickest), lane.open(), lane.asked_lately(agenda.now()));
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
        peers.down(&liar, now, false);
        peers.down(&clean, now, false);
        assert!(peers.get(&clean).is_none());
        assert!(peers.up(liar));
        assert_eq!(peers.get(&liar).unwrap().strikes, 2);
        peers.down(&liar, now, false);
        for after in 1..=u32::try_from(REMEMBERED).unwrap() {
            let id = id(after + 1);
            peers.up(id);
            peers.get_mut(&id).unwrap().strikes = 1;
            peers.down(&id, now + Duration::from_millis(after.into()), false);
        }
        assert!(peers.get(&liar).is_none(), "the oldest makes room");
        assert_eq!(peers.known.len(), REMEMBERED);
    }

    fn pick(peers: &Peers, now: Instant, rng: &mut Rng) -> Option<PeerId> {
        let config = CatchUpConfig::recommended();
        peers.pick(&config, Kind::TxList, &mut Agenda::new(now), rng, |_, _| Some(()))
    }

    fn lane(peers: &mut Peers, n: u32) -> &mut Lane {
        peers.get_mut(&id(n)).unwrap().lane_mut(Kind::TxList)
    }

    #[test]
    fn the_pick_spreads_over_the_least_loaded() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        (0..4).map(id).for_each(|id| assert!(peers.up(id)));
        lane(&mut peers, 0).asked(now, None);
        let mut rng = Rng::with_seed(3);
        let mut hits = BTreeMap::<_, u32>::new();
        for _ in 0..600 {
            *hits.entry(pick(&peers, now, &mut rng).unwrap()).or_default() += 1;
        }
        assert!(!hits.contains_key(&id(0)));
        assert!(hits.len() == 3 && hits.values().all(|&n| n > 120), "{hits:?}");
    }

    #[test]
    fn equals_take_turns_for_a_while() {
        let (mut peers, start) = (Peers::default(), Instant::now());
        (0..3).map(id).for_each(|id| assert!(peers.up(id)));
        let mut rng = Rng::with_seed(3);
        let mut hits = BTreeMap::<_, u32>::new();
        for _ in 0..30 {
            let peer = pick(&peers, start, &mut rng).unwrap();
            let lane = peers.get_mut(&peer).unwrap().lane_mut(Kind::TxList);
            lane.asked(start, None);
            lane.closed();
            *hits.entry(peer).or_default() += 1;
        }
        assert!(hits.values().all(|&n| n == 10), "{hits:?}");
    }

    #[test]
    fn the_quick_get_more_than_the_slow_and_whoever_misses_much_gets_less() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        (0..3).map(id).for_each(|id| assert!(peers.up(id)));
        for (n, millis) in [(0, 10), (1, 80), (2, 10)] {
            lane(&mut peers, n).answered(Duration::from_millis(millis));
        }
        peers.get_mut(&id(2)).unwrap().misses = 8;
        let mut rng = Rng::with_seed(3);
        let mut hits = [0_u32; 3];
        // As many as there are slots for with the quick one, and two more.
        for _ in 0..10 {
            let peer = pick(&peers, now, &mut rng).unwrap();
            peers.get_mut(&peer).unwrap().lane_mut(Kind::TxList).asked(now, None);
            hits[(0..3).position(|n| id(n) == peer).unwrap()] += 1;
        }
        assert!(hits[0] >= 7 && hits[1] > 0, "{hits:?}");
    }

    #[test]
    fn whoever_has_not_been_measured_is_tried() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        (0..2).map(id).for_each(|id| assert!(peers.up(id)));
        lane(&mut peers, 0).asked(now, None);
        lane(&mut peers, 0).closed();
        lane(&mut peers, 0).answered(Duration::from_millis(1));
        assert_eq!(pick(&peers, now, &mut Rng::with_seed(1)), Some(id(1)));
    }

    fn pause(times: u32) -> Duration {
        Duration::from_secs(times.into())
    }

    #[test]
    fn a_claim_that_was_one_too_high_counts_as_one_less_until_there_is_news() {
        let (mut peer, now) = (Peer::default(), Instant::now());
        peer.says(11);
        assert_eq!(peer.counted_claim(10), Some(11));
        peer.not_served(now, (11, 10), (true, true), pause);
        assert_eq!((peer.likely_claim(10), peer.counted_claim(10)), (Some(10), Some(10)));
        assert_eq!((peer.overstated, peer.retry_at(11)), (1, Some(now + pause(1))));
        peer.not_served(now, (11, 10), (true, true), pause);
        assert_eq!((peer.overstated, peer.retry_at(11)), (1, Some(now + pause(2))), "the same once more");
        peer.says(11);
        assert_eq!(peer.counted_claim(10), Some(10), "no news");
        peer.not_served(now, (11, 10), (true, true), pause);
        assert_eq!(peer.counted_claim(10), None, "three times in vain");
        peer.says(12);
        assert_eq!((peer.counted_claim(10), peer.retry_at(11)), (Some(12), None));
    }

    #[test]
    fn whoever_is_one_too_high_again_and_again_is_not_believed_so_far_until_it_delivers() {
        let (mut peer, now) = (Peer::default(), Instant::now());
        for height in 11..=13 {
            peer.says(height);
            assert_eq!(peer.counted_claim(height - 1), Some(height));
            peer.not_served(now, (height, height - 1), (true, true), pause);
        }
        peer.says(14);
        assert_eq!((peer.counted_claim(13), peer.counted_claim(12)), (Some(13), Some(14)));
        assert!(!peer.is_clean());
        peer.delivered();
        assert_eq!(peer.counted_claim(13), Some(14));
        assert!(peer.is_clean());
    }

    #[test]
    fn whoever_fails_to_serve_the_next_block_three_times_does_not_count_while_it_is_the_next() {
        let (mut peer, now) = (Peer::default(), Instant::now());
        peer.says(20);
        for _ in 0..2 {
            peer.not_served(now, (11, 10), (true, false), pause);
        }
        assert_eq!((peer.counted_claim(10), peer.overstated), (Some(20), 0));
        peer.not_served(now, (11, 10), (true, false), pause);
        assert_eq!((peer.counted_claim(10), peer.counted_claim(11)), (None, Some(20)));
        peer.says(21);
        assert_eq!(peer.counted_claim(10), None, "more of its claims is no block");
    }

    #[test]
    fn what_we_could_not_judge_takes_nothing_from_a_claim() {
        let (mut peer, now) = (Peer::default(), Instant::now());
        peer.says(11);
        for times in 1..=5 {
            peer.not_served(now, (11, 10), (false, false), pause);
            assert_eq!((peer.counted_claim(10), peer.retry_at(11)), (Some(11), Some(now + pause(times))));
        }
        peer.not_served(now, (11, 10), (true, false), pause);
        assert_eq!(peer.retry_at(11), Some(now + pause(1)), "that is another reason");
    }

    #[test]
    fn heights_that_a_peer_does_not_serve_are_remembered_within_bounds() {
        let (mut peer, now) = (Peer::default(), Instant::now());
        for height in 11..=40 {
            peer.not_served(now, (height, 10), (true, false), pause);
        }
        assert_eq!(peer.unavailable.len(), UNAVAILABLE);
        assert!(peer.retry_at(11).is_some() && peer.retry_at(40).is_none());
        peer.not_served(now, (30, 20), (true, false), pause);
        assert!(peer.retry_at(20).is_none() && peer.retry_at(21).is_some());
    }

    #[test]
    fn broken_promises_are_forgiven_one_by_one() {
        let (mut peers, start) = (Peers::default(), Instant::now());
        peers.up(id(0));
        let interval = Duration::from_secs(600);
        peers.get_mut(&id(0)).unwrap().break_promises(start, 0);
        assert_eq!(peers.get(&id(0)).unwrap().unkept_at, None);
        peers.get_mut(&id(0)).unwrap().break_promises(start, 9);
        let mut unkept = |seconds| {
            let now = start + Duration::from_secs(seconds);
            peers.readmit(&mut Agenda::new(now), 3, interval);
            peers.get(&id(0)).unwrap().unkept
        };
        assert_eq!([599, 600, 1_199, 1_200, 1_800, 2_400].map(&mut unkept), [9, 2, 2, 1, 0, 0]);
        let mut agenda = Agenda::new(start + Duration::from_secs(3_000));
        peers.readmit(&mut agenda, 3, interval);
        assert_eq!(agenda.next(), None);
        assert_eq!(
            peers.get(&id(0)).unwrap().unkept_at,
            Some(start + Duration::from_secs(1_800)),
            "nothing to forgive"
        );
    }

    #[test]
    fn whoever_does_not_answer_is_asked_one_thing_at_a_time() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        assert!(peers.up(id(0)));
        let mut rng = Rng::with_seed(1);
        lane(&mut peers, 0).asked(now, None);
        assert_eq!(pick(&peers, now, &mut rng), Some(id(0)));
        peers.get_mut(&id(0)).unwrap().failures = 1;
        assert_eq!(pick(&peers, now, &mut rng), None);
    }
}
