//! What all parts of the machine share: settings, chance, peers, open requests and the way out.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use fastrand::Rng;
use p2p_types::{B256, BlockNumber, Offence, PeerId};

use crate::{
    Backoff, CatchUpConfig, Output, Request, RequestId,
    dismissed::Dismissed,
    lanes::Kind,
    peers::{PATIENCE, Peer, Peers},
    time::{Agenda, after},
};

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Head,
    /// The page of the slot that starts here.
    Page(BlockNumber),
    /// The next page of the walk below the head.
    Walk,
    TxList(B256),
}

/// A request without a reply so far.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) peer: PeerId,
    pub(crate) purpose: Purpose,
    at: Instant,
    deadline: Instant,
}

impl Purpose {
    const fn kind(self) -> Kind {
        match self {
            Self::Head => Kind::Head,
            Self::Page(_) | Self::Walk => Kind::Page,
            Self::TxList(_) => Kind::TxList,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: CatchUpConfig,
    pub(crate) rng: Rng,
    pub(crate) peers: Peers,
    pub(crate) outputs: VecDeque<Output>,
    open: BTreeMap<RequestId, Asked>,
    last_id: u64,
}

impl Context {
    pub(crate) fn new(config: CatchUpConfig, seed: u64) -> Self {
        Self {
            config,
            rng: Rng::with_seed(seed),
            peers: Peers::default(),
            outputs: VecDeque::new(),
            open: BTreeMap::new(),
            last_id: 0,
        }
    }

    pub(crate) fn ask(&mut self, now: Instant, to: PeerId, purpose: Purpose, request: Request) -> RequestId {
        self.last_id = self.last_id.saturating_add(1);
        let id = RequestId(self.last_id);
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.lane_mut(purpose.kind()).asked(now, self.config.pace);
            if purpose == Purpose::Head {
                peer.head_asked = Some(now);
            }
        }
        let deadline = after(now, self.config.request_deadline);
        self.open.insert(id, Asked { peer: to, purpose, at: now, deadline });
        self.outputs.push_back(Output::Send { id, to, request });
        id
    }

    /// Ends a request of `from`; none if it has no such request open.
    pub(crate) fn close(&mut self, id: RequestId, from: &PeerId) -> Option<Asked> {
        self.open.get(&id).filter(|asked| asked.peer == *from)?;
        let asked = self.open.remove(&id)?;
        if let Some(peer) = self.peers.get_mut(from) {
            peer.lane_mut(asked.purpose.kind()).closed();
        }
        Some(asked)
    }

    /// Notes how long an answer took.
    pub(crate) fn answered(&mut self, now: Instant, asked: &Asked) {
        if let Some(peer) = self.peers.get_mut(&asked.peer) {
            let took = now.saturating_duration_since(asked.at);
            peer.lane_mut(asked.purpose.kind()).answered(took);
        }
    }

    /// When a request was made, if it is open.
    pub(crate) fn asked_at(&self, id: RequestId) -> Option<Instant> {
        self.open.get(&id).map(|asked| asked.at)
    }

    /// Open requests whose deadline has come; the first of the others goes into the agenda.
    pub(crate) fn overdue(&self, agenda: &mut Agenda) -> Vec<(RequestId, PeerId)> {
        let late = self.open.iter().filter(|(_, asked)| agenda.due(asked.deadline));
        late.map(|(id, asked)| (*id, asked.peer)).collect()
    }

    pub(crate) fn open_of(&self, peer: &PeerId) -> Vec<RequestId> {
        self.open.iter().filter(|(_, asked)| asked.peer == *peer).map(|(id, _)| *id).collect()
    }

    pub(crate) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// A request was not answered: a pause, no penalty. Several at once make one pause. A page counts as
    /// a promise that was not kept.
    pub(crate) fn unanswered(&mut self, now: Instant, id: &PeerId, page: bool) {
        self.hold_back(now, id, |peer| {
            peer.failures = peer.failures.saturating_add(1);
            peer.misses = peer.misses.saturating_add(1);
            peer.break_promises(now, u32::from(page));
        });
    }

    /// `promises` were not kept: a pause, and with [`PATIENCE`] of them its claims stop to count.
    pub(crate) fn unkept(&mut self, now: Instant, id: &PeerId, promises: u32) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.break_promises(now, promises);
        }
        self.hold_back(now, id, |_| {});
    }

    /// The peer has not served `height`, although it claims to have it: others are asked, and it is asked again after a
    /// pause, longer and longer. `top`: it has claimed no more than this.
    pub(crate) fn not_served(
        &mut self,
        now: Instant,
        id: &PeerId,
        (height, applied): (BlockNumber, BlockNumber),
        top: bool,
    ) {
        self.note_unavailable(now, id, (height, applied), (true, top));
    }

    /// What the peer has served at `height` could not be judged: it is asked again after a pause, longer and longer, and
    /// it costs the peer nothing.
    pub(crate) fn not_judged(&mut self, now: Instant, id: &PeerId, at: (BlockNumber, BlockNumber)) {
        self.note_unavailable(now, id, at, (false, false));
    }

    fn note_unavailable(
        &mut self,
        now: Instant,
        id: &PeerId,
        at: (BlockNumber, BlockNumber),
        why: (bool, bool),
    ) {
        let Self { peers, rng, config, .. } = self;
        // The longest pause is far longer for what the peer itself has shown not to have.
        let (shown, _) = why;
        let max = if shown { config.leave_out.max(config.backoff.max) } else { config.backoff.max };
        let backoff = Backoff { max, ..config.backoff };
        if let Some(peer) = peers.get_mut(id) {
            peer.not_served(now, at, why, |times| backoff.pause(times, rng));
        }
    }

    /// The claim of a peer does not count while it is repeated: its branch, of which it has shown the block `tip`, is not the
    /// chain. Its pages are asked for again after a pause of some seconds, which grows.
    pub(crate) fn dismiss(
        &mut self,
        now: Instant,
        id: &PeerId,
        (height, tip): (BlockNumber, B256),
        linked: bool,
    ) {
        let Self { peers, rng, config, .. } = self;
        let Some(peer) = peers.get_mut(id) else { return };
        // What it has shown above its claim is the next that it will claim.
        let Some(claim) = peer.claim.map(|claim| claim.max(height)) else { return };
        peer.claim = Some(claim);
        let times = peer.dismissed.map_or(0, |before| before.times).saturating_add(1);
        let retry_at = after(now, config.backoff.pause(times.saturating_add(4), rng));
        peer.dismissed = Some(Dismissed { claim, tip, linked, times, retry_at });
    }

    /// A pause for this peer that is no fault of its own.
    pub(crate) fn pause(&mut self, now: Instant, id: &PeerId) {
        let until = after(now, self.config.backoff.pause(1, &mut self.rng));
        if let Some(peer) = self.peers.get_mut(id) {
            peer.backoff_until = peer.backoff_until.max(Some(until));
        }
    }

    /// The peer has no more than `to` of what it claims.
    pub(crate) fn lower_claim(&mut self, id: &PeerId, to: BlockNumber) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.lower_claim(to);
        }
    }

    /// An offence, charged or not. With three (by default) the peer is left out for a while.
    pub(crate) fn strike(&mut self, now: Instant, id: &PeerId) {
        self.unkept(now, id, PATIENCE);
        let (max, until) = (self.config.max_strikes.get(), after(now, self.config.leave_out));
        if let Some(peer) = self.peers.get_mut(id) {
            peer.strikes = peer.strikes.saturating_add(1);
            if peer.strikes >= max {
                peer.left_out = Some(until);
            }
        }
    }

    pub(crate) fn report(&mut self, now: Instant, peer: PeerId, offence: Offence) {
        self.outputs.push_back(Output::Report { peer, offence });
        self.strike(now, &peer);
    }

    /// A pause for this peer alone; a long one where its budget of failures is used up.
    fn hold_back(&mut self, now: Instant, id: &PeerId, record: impl FnOnce(&mut Peer)) {
        let backoff = self.config.backoff;
        let Some(peer) = self.peers.get_mut(id) else { return };
        if peer.backoff_until.is_some_and(|until| until > now) {
            return;
        }
        record(peer);
        let pause = backoff.pause(peer.failures.saturating_add(peer.unkept), &mut self.rng);
        let from = peer.spent.spend(now, &backoff).unwrap_or(now);
        peer.backoff_until = Some(after(from, pause));
    }
}
