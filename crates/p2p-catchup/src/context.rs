//! What all parts of the machine share: configuration, random numbers, peers, pending requests, and the queue of outputs.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use fastrand::Rng;
use p2p_types::{B256, BlockNumber, Offence, PeerId};

use crate::{
    Backoff, CatchUpConfig, Output, Request, RequestId,
    deadlines::{Deadlines, after},
    dismissed::Dismissed,
    peer::{MAX_FAILED_PROMISES, Peer},
    peers::Peers,
    protocol_state::Protocol,
};

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Head,
    /// The page of the range that starts here.
    Page(BlockNumber),
    /// The next page of the ancestor search.
    Ancestors,
    TxList(B256),
}

/// A request whose reply has not come yet.
#[derive(Debug)]
pub(crate) struct PendingRequest {
    pub(crate) peer: PeerId,
    pub(crate) purpose: Purpose,
    at: Instant,
    deadline: Instant,
}

impl Purpose {
    const fn protocol(self) -> Protocol {
        match self {
            Self::Head => Protocol::Head,
            Self::Page(_) | Self::Ancestors => Protocol::Page,
            Self::TxList(_) => Protocol::TxList,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: CatchUpConfig,
    pub(crate) rng: Rng,
    pub(crate) peers: Peers,
    pub(crate) outputs: VecDeque<Output>,
    pending: BTreeMap<RequestId, PendingRequest>,
    last_id: u64,
}

impl Context {
    pub(crate) fn new(config: CatchUpConfig, seed: u64) -> Self {
        Self {
            config,
            rng: Rng::with_seed(seed),
            peers: Peers::default(),
            outputs: VecDeque::new(),
            pending: BTreeMap::new(),
            last_id: 0,
        }
    }

    /// Sends a request.
    pub(crate) fn request(
        &mut self,
        now: Instant,
        to: PeerId,
        purpose: Purpose,
        request: Request,
    ) -> RequestId {
        self.last_id = self.last_id.saturating_add(1);
        let id = RequestId(self.last_id);
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.protocol_mut(purpose.protocol()).sent(now, &self.config);
            if purpose == Purpose::Head {
                peer.head_requested = Some(now);
            }
        }
        let deadline = after(now, self.config.request_deadline);
        self.pending.insert(id, PendingRequest { peer: to, purpose, at: now, deadline });
        self.outputs.push_back(Output::Send { id, to, request });
        id
    }

    /// Removes a pending request to `from`; none if there is no such request.
    pub(crate) fn take_pending(&mut self, id: RequestId, from: &PeerId) -> Option<PendingRequest> {
        self.pending.get(&id).filter(|asked| asked.peer == *from)?;
        let asked = self.pending.remove(&id)?;
        if let Some(peer) = self.peers.get_mut(from) {
            peer.protocol_mut(asked.purpose.protocol()).ended();
        }
        Some(asked)
    }

    /// Records how long the response took.
    pub(crate) fn answered(&mut self, now: Instant, asked: &PendingRequest) {
        if let Some(peer) = self.peers.get_mut(&asked.peer) {
            let took = now.saturating_duration_since(asked.at);
            peer.protocol_mut(asked.purpose.protocol()).answered(took);
        }
    }

    /// When a request was sent, if it is pending.
    pub(crate) fn sent_at(&self, id: RequestId) -> Option<Instant> {
        self.pending.get(&id).map(|asked| asked.at)
    }

    /// Pending requests whose deadline has passed. The earliest deadline of the others is noted.
    pub(crate) fn overdue(&self, deadlines: &mut Deadlines) -> Vec<(RequestId, PeerId)> {
        let late = self.pending.iter().filter(|(_, asked)| deadlines.due(asked.deadline));
        late.map(|(id, asked)| (*id, asked.peer)).collect()
    }

    pub(crate) fn pending_of(&self, peer: &PeerId) -> Vec<RequestId> {
        self.pending.iter().filter(|(_, asked)| asked.peer == *peer).map(|(id, _)| *id).collect()
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// A request was not answered: the peer pauses, without a penalty. Several at once make one pause. A page counts as a
    /// failed promise.
    pub(crate) fn unanswered(&mut self, now: Instant, id: &PeerId, page: bool) {
        self.back_off(now, id, |peer| {
            peer.failures = peer.failures.saturating_add(1);
            peer.misses = peer.misses.saturating_add(1);
            peer.add_failed_promises(now, u32::from(page));
        });
    }

    /// Counts failed promises: the peer pauses, and with [`MAX_FAILED_PROMISES`] of them its claims no longer count.
    pub(crate) fn promises_failed(&mut self, now: Instant, id: &PeerId, promises: u32) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.add_failed_promises(now, promises);
        }
        self.back_off(now, id, |_| {});
    }

    /// The peer has not served `height`, although it claims to have it: other peers are asked, and this one again after a
    /// growing pause. `top`: its claim is no higher.
    pub(crate) fn not_served(
        &mut self,
        now: Instant,
        id: &PeerId,
        (height, applied): (BlockNumber, BlockNumber),
        top: bool,
    ) {
        self.note_unavailable(now, id, (height, applied), (true, top));
    }

    /// What the peer has served at `height` could not be validated: it is asked again after a growing pause, at no cost to
    /// the peer.
    pub(crate) fn not_validated(&mut self, now: Instant, id: &PeerId, at: (BlockNumber, BlockNumber)) {
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
        // The pause grows far longer for what the response itself has shown to be missing.
        let (shown, _) = why;
        let max = if shown { config.exclude_for.max(config.backoff.max) } else { config.backoff.max };
        let backoff = Backoff { max, ..config.backoff };
        if let Some(peer) = peers.get_mut(id) {
            peer.not_served(now, at, why, |times| backoff.pause(times, rng));
        }
    }

    /// The peer's claim does not count while it is repeated: its branch, up to `tip`, is not the chain. Its pages are requested
    /// again after a growing pause, at first of some seconds.
    pub(crate) fn dismiss(
        &mut self,
        now: Instant,
        id: &PeerId,
        (height, tip): (BlockNumber, B256),
        linked: bool,
    ) {
        let Self { peers, rng, config, .. } = self;
        let Some(peer) = peers.get_mut(id) else {
            return;
        };
        // The next head that it tells is the highest block that it has served.
        let Some(claim) = peer.claim.map(|claim| claim.max(height)) else {
            return;
        };
        peer.claim = Some(claim);
        let times = peer.dismissed.map_or(0, |before| before.times).saturating_add(1);
        let retry_at = after(now, config.backoff.pause(times.saturating_add(4), rng));
        peer.dismissed = Some(Dismissed { claim, tip, linked, times, retry_at });
    }

    /// Pauses a peer for a failure of our own.
    pub(crate) fn pause(&mut self, now: Instant, id: &PeerId) {
        let until = after(now, self.config.backoff.pause(1, &mut self.rng));
        if let Some(peer) = self.peers.get_mut(id) {
            peer.backoff_until = peer.backoff_until.max(Some(until));
        }
    }

    /// The peer has shown that it has nothing above `to`.
    pub(crate) fn lower_claim(&mut self, id: &PeerId, to: BlockNumber) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.lower_claim(to);
        }
    }

    /// Counts an offence, reported or not. With three (by default) the peer is excluded for a while.
    pub(crate) fn add_fault(&mut self, now: Instant, id: &PeerId) {
        self.promises_failed(now, id, MAX_FAILED_PROMISES);
        let (max, until) = (self.config.max_faults.get(), after(now, self.config.exclude_for));
        if let Some(peer) = self.peers.get_mut(id) {
            peer.faults = peer.faults.saturating_add(1);
            if peer.faults >= max {
                peer.excluded_until = Some(until);
            }
        }
    }

    pub(crate) fn report(&mut self, now: Instant, peer: PeerId, offence: Offence) {
        self.outputs.push_back(Output::Report { peer, offence });
        self.add_fault(now, &peer);
    }

    /// Pauses this peer alone; for long if its failure budget is used up.
    fn back_off(&mut self, now: Instant, id: &PeerId, record: impl FnOnce(&mut Peer)) {
        let backoff = self.config.backoff;
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        if peer.backoff_until.is_some_and(|until| until > now) {
            return;
        }
        record(peer);
        let pause = backoff.pause(peer.failures.saturating_add(peer.failed_promises), &mut self.rng);
        let from = peer.failure_budget.record(now, &backoff).unwrap_or(now);
        peer.backoff_until = Some(after(from, pause));
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_response_tells_the_round_trip_of_its_protocol() {
        let (mut ctx, now) = (Context::new(CatchUpConfig::recommended(), 1), Instant::now());
        let [slow, other] = [1, 2].map(|n| PeerId::from_bytes(&[0, 1, n]).unwrap());
        assert!([slow, other].iter().all(|peer| ctx.peers.up(*peer, now, &ctx.config)));
        let asked = [slow, other, slow].map(|peer| ctx.request(now, peer, Purpose::Head, Request::Head));
        assert_eq!(ctx.pending_of(&slow), [asked[0], asked[2]]);
        assert_eq!(ctx.pending_of(&other), [asked[1]]);
        assert!(ctx.take_pending(asked[0], &other).is_none(), "it was asked of another peer");
        let pending = ctx.take_pending(asked[0], &slow).unwrap();
        ctx.answered(now + Duration::from_millis(70), &pending);
        assert_eq!(ctx.pending_of(&slow), [asked[2]]);
        let micros = |peer, protocol| ctx.peers.get(peer).unwrap().protocol(protocol).round_trip_micros();
        assert_eq!(micros(&slow, Protocol::Head), Some(70_000));
        assert_eq!((micros(&slow, Protocol::Page), micros(&other, Protocol::Head)), (None, None));
    }
}
