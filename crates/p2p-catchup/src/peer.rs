//! What is known of one peer: its claims, its record of failures, and whether it can be sent a request.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use p2p_types::BlockNumber;
use preconfirmation_types::rate_limit::RateLimit;

use crate::{
    CatchUpConfig,
    backoff::FailureBudget,
    deadlines::{Deadlines, after},
    dismissed::Dismissed,
    protocol_state::{Protocol, ProtocolState},
};

/// Failed promises after which a peer's claims do not count. A page request without a response is one; an empty page where the
/// peer claims to have commitments is all of them at once.
pub(crate) const MAX_FAILED_PROMISES: u32 = 3;

/// Most heights at which a peer is remembered not to serve a block. The highest is forgotten first.
const MAX_UNAVAILABLE: usize = 16;

/// A peer has not served a height, although it claims to have it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unavailable {
    /// How often.
    times: u32,
    /// Its responses say so. Otherwise we could not validate them.
    shown: bool,
    /// Its claim was no higher.
    top: bool,
    /// This height is not requested from it before.
    retry_at: Instant,
}

/// One peer.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    /// None while it is connected.
    pub(crate) disconnected_at: Option<Instant>,
    /// The height that it claims, lowered to what it has shown to have.
    pub(crate) claim: Option<BlockNumber>,
    /// The last head that it told.
    pub(crate) head: Option<BlockNumber>,
    /// When its head was requested last.
    pub(crate) head_requested: Option<Instant>,
    /// Its head must be requested in the next round, whichever others are.
    pub(crate) head_due: bool,
    /// What it claimed and did not deliver. A page that links resets the count, and time forgives one after the other.
    pub(crate) failed_promises: u32,
    /// When the last of these was counted or forgiven.
    pub(crate) failed_promise_at: Option<Instant>,
    /// Heads that turned out to be one too high, since its last page that linked.
    pub(crate) overstated: u32,
    /// A claim of it that was found not to be the chain.
    pub(crate) dismissed: Option<Dismissed>,
    /// Heights that it did not serve.
    pub(crate) unavailable: BTreeMap<BlockNumber, Unavailable>,
    /// Consecutive requests without a response.
    pub(crate) failures: u32,
    /// No request is sent before this.
    pub(crate) backoff_until: Option<Instant>,
    pub(crate) failure_budget: FailureBudget,
    /// Transaction lists that it did not have and requests without a response, halved by each success.
    pub(crate) misses: u32,
    /// Offences.
    pub(crate) faults: u32,
    pub(crate) excluded_until: Option<Instant>,
    pub(crate) protocols: [ProtocolState; Protocol::COUNT],
}

impl Peer {
    /// Whether it is connected and not excluded.
    pub(crate) const fn is_available(&self) -> bool {
        self.disconnected_at.is_none() && self.excluded_until.is_none()
    }

    /// Whether what it claims counts.
    pub(crate) const fn is_trusted(&self) -> bool {
        self.failed_promises < MAX_FAILED_PROMISES
    }

    /// Whether it can be expected to respond.
    pub(crate) const fn is_responsive(&self) -> bool {
        self.is_trusted() && self.failures < MAX_FAILED_PROMISES
    }

    pub(crate) fn claims(&self, block: BlockNumber) -> bool {
        self.claim.is_some_and(|claim| claim >= block)
    }

    /// It has told its head. Where that is higher than before, a head that was one too high before may exist now.
    pub(crate) fn set_head(&mut self, block: BlockNumber) {
        self.unavailable.retain(|&height, why| !why.top || height >= block);
        (self.claim, self.head, self.head_due) = (Some(block), Some(block), false);
    }

    /// Lowers its claim to what it has shown to have. Its head is requested again.
    pub(crate) fn lower_claim(&mut self, to: BlockNumber) {
        self.claim = self.claim.map(|claim| claim.min(to));
        self.head_due = true;
    }

    /// Its claim, less one where that has turned out to be one too high: deployed peers count EOP-only commitments in their
    /// head. A peer with several such heads is not believed one height above `applied`.
    pub(crate) fn likely_claim(&self, applied: BlockNumber) -> Option<BlockNumber> {
        self.claim.map(|claim| self.likely(claim, applied))
    }

    pub(crate) fn likely(&self, claim: BlockNumber, applied: BlockNumber) -> BlockNumber {
        let shown = self.unavailable.get(&claim).is_some_and(|height| height.shown);
        let noise = self.overstated >= MAX_FAILED_PROMISES && claim.checked_sub(1) == Some(applied);
        if shown || noise { claim.saturating_sub(1) } else { claim }
    }

    /// Its claim, if that counts. It does not while the peer repeatedly fails to serve the height above `applied`.
    pub(crate) fn counted_claim(&self, applied: BlockNumber) -> Option<BlockNumber> {
        let next = applied.checked_add(1).and_then(|next| self.unavailable.get(&next));
        let refused = next.is_some_and(|next| next.shown && next.times >= MAX_FAILED_PROMISES);
        let counts = self.is_trusted() && !refused && self.dismissed_claim().is_none();
        if counts { self.likely_claim(applied) } else { None }
    }

    /// The record of its current claim, if that was dismissed.
    pub(crate) fn dismissed_claim(&self) -> Option<&Dismissed> {
        self.dismissed.as_ref().filter(|dismissed| self.claim == Some(dismissed.claim))
    }

    /// Whether all of the branch behind its claim is stored, and is not the chain.
    pub(crate) fn has_lost(&self) -> bool {
        self.dismissed_claim().is_some_and(|dismissed| dismissed.linked)
    }

    /// Whether everything that it claims is stored, canonical or not.
    pub(crate) fn has_nothing_else(&self, applied: BlockNumber) -> bool {
        self.has_lost() || self.likely_claim(applied).is_some_and(|claim| claim <= applied)
    }

    /// It did not serve `height`. Heights up to `applied` are forgotten. `shown`: its response said so; otherwise we could not
    /// validate it. `top`: its claim was no higher, so that its head may be one too high.
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
        while self.unavailable.len() > MAX_UNAVAILABLE {
            self.unavailable.pop_last();
        }
    }

    /// When `height` can be requested from it again, if it did not serve it or its claim was dismissed.
    pub(crate) fn retry_at(&self, height: BlockNumber) -> Option<Instant> {
        let unavailable = self.unavailable.get(&height).map(|height| height.retry_at);
        unavailable.max(self.dismissed_claim().map(|dismissed| dismissed.retry_at))
    }

    pub(crate) fn add_failed_promises(&mut self, now: Instant, promises: u32) {
        if promises > 0 {
            self.failed_promises = self.failed_promises.saturating_add(promises);
            self.failed_promise_at = Some(now);
        }
    }

    /// Readmits it once its exclusion is over, one fault short of the next one, and forgives failed promises, one each
    /// [`CatchUpConfig::exclude_for`].
    pub(crate) fn readmit(&mut self, deadlines: &mut Deadlines, config: &CatchUpConfig) {
        if self.excluded_until.is_some_and(|until| deadlines.due(until)) {
            self.excluded_until = None;
            self.faults = config.max_faults.get().saturating_sub(1);
        }
        while self.failed_promises > 0
            && let Some(since) = self.failed_promise_at
            && let forgiven_at = after(since, config.exclude_for)
            && deadlines.due(forgiven_at)
        {
            self.failed_promises = self.failed_promises.min(MAX_FAILED_PROMISES).saturating_sub(1);
            self.failed_promise_at = Some(forgiven_at);
        }
    }

    /// A page of it has linked.
    pub(crate) const fn delivered(&mut self) {
        self.failed_promises = 0;
        self.overstated = 0;
        self.served();
    }

    /// It has served what was requested.
    pub(crate) const fn served(&mut self) {
        self.failures = 0;
        self.misses /= 2;
    }

    /// Whether nothing has to be remembered when it disconnects.
    pub(crate) const fn is_clean(&self) -> bool {
        self.failed_promises == 0
            && self.overstated == 0
            && self.failures == 0
            && self.faults == 0
            && self.dismissed.is_none()
            && self.excluded_until.is_none()
    }

    pub(crate) const fn protocol(&self, protocol: Protocol) -> &ProtocolState {
        let [head, page, txlist] = &self.protocols;
        match protocol {
            Protocol::Head => head,
            Protocol::Page => page,
            Protocol::TxList => txlist,
        }
    }

    pub(crate) const fn protocol_mut(&mut self, protocol: Protocol) -> &mut ProtocolState {
        let [head, page, txlist] = &mut self.protocols;
        match protocol {
            Protocol::Head => head,
            Protocol::Page => page,
            Protocol::TxList => txlist,
        }
    }

    pub(crate) fn set_rate_limit(&mut self, limit: RateLimit) {
        self.protocols.iter_mut().for_each(|state| state.set_rate_limit(limit));
    }

    /// Whether it can be sent a request: its pause is over, few enough are in flight, and the rate limit allows it. The time at
    /// which that changes is noted.
    pub(crate) fn is_free(
        &self,
        config: &CatchUpConfig,
        protocol: Protocol,
        deadlines: &mut Deadlines,
    ) -> bool {
        // One request at a time finds out whether it responds again.
        let most = if self.failures > 0 { 1 } else { protocol.max_in_flight(config) };
        let state = self.protocol(protocol);
        state.in_flight() < most
            && self.backoff_until.is_none_or(|until| deadlines.due(until))
            && state.next_allowed(config, deadlines.now()).is_none_or(|at| deadlines.allowed(at))
    }

    /// The binary logarithm of the time that a response can be expected to take, by measured round trips, requests in flight
    /// and misses. The logarithm makes equals of peers that are about as fast.
    pub(crate) fn expected(&self, protocol: Protocol, unmeasured: u64) -> u32 {
        let state = self.protocol(protocol);
        let micros = state.round_trip_micros().unwrap_or(unmeasured).max(1);
        let in_flight = u64::try_from(state.in_flight()).unwrap_or(u64::MAX).saturating_add(1);
        let misses = u64::from(self.misses.min(8)).saturating_add(1);
        micros.saturating_mul(in_flight).saturating_mul(misses).ilog2()
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use super::*;

    fn pause(times: u32) -> Duration {
        Duration::from_secs(times.into())
    }

    #[test]
    fn trust_ends_with_three_failed_promises_and_responsiveness_with_three_failures() {
        let peer = |failed_promises, failures| Peer { failed_promises, failures, ..Peer::default() };
        let says = |peer: Peer| (peer.is_trusted(), peer.is_responsive());
        assert_eq!(says(peer(2, 2)), (true, true));
        assert_eq!(says(peer(2, 3)), (true, false));
        assert_eq!(says(peer(3, 2)), (false, false));
    }

    #[test]
    fn what_a_peer_serves_halves_its_misses() {
        let mut peer = Peer { failures: 2, failed_promises: 1, misses: 5, ..Peer::default() };
        peer.served();
        assert_eq!((peer.failures, peer.failed_promises, peer.misses), (0, 1, 2));
        peer.delivered();
        assert_eq!((peer.failed_promises, peer.misses), (0, 1));
    }

    #[test]
    fn a_claim_one_too_high_counts_as_one_less_until_it_rises() {
        let (mut peer, now) = (Peer::default(), Instant::now());
        peer.set_head(11);
        assert_eq!(peer.counted_claim(10), Some(11));
        peer.not_served(now, (11, 10), (true, true), pause);
        assert_eq!((peer.likely_claim(10), peer.counted_claim(10)), (Some(10), Some(10)));
        assert_eq!((peer.overstated, peer.retry_at(11)), (1, Some(now + pause(1))));
        peer.not_served(now, (11, 10), (true, true), pause);
        assert_eq!((peer.overstated, peer.retry_at(11)), (1, Some(now + pause(2))), "the same once more");
        peer.set_head(11);
        assert_eq!(peer.counted_claim(10), Some(10), "no news");
        peer.not_served(now, (11, 10), (true, true), pause);
        assert_eq!(peer.counted_claim(10), None, "three failures");
        peer.set_head(12);
        assert_eq!((peer.counted_claim(10), peer.retry_at(11)), (Some(12), None));
    }

    #[test]
    fn repeated_heads_one_too_high_count_less_until_a_delivery() {
        let (mut peer, now) = (Peer::default(), Instant::now());
        for height in 11..=13 {
            peer.set_head(height);
            assert_eq!(peer.counted_claim(height - 1), Some(height));
            peer.not_served(now, (height, height - 1), (true, true), pause);
        }
        peer.set_head(14);
        assert_eq!((peer.counted_claim(13), peer.counted_claim(12)), (Some(13), Some(14)));
        assert!(!peer.is_clean());
        peer.delivered();
        assert_eq!(peer.counted_claim(13), Some(14));
        assert!(peer.is_clean());
    }

    #[test]
    fn a_claim_does_not_count_after_three_failures() {
        let (mut peer, now) = (Peer::default(), Instant::now());
        peer.set_head(20);
        for _ in 0..2 {
            peer.not_served(now, (11, 10), (true, false), pause);
        }
        assert_eq!((peer.counted_claim(10), peer.overstated), (Some(20), 0));
        peer.not_served(now, (11, 10), (true, false), pause);
        assert_eq!((peer.counted_claim(10), peer.counted_claim(11)), (None, Some(20)));
        peer.set_head(21);
        assert_eq!(peer.counted_claim(10), None, "more of its claims is no block");
    }

    #[test]
    fn a_page_that_we_could_not_validate_leaves_the_claim() {
        let (mut peer, now) = (Peer::default(), Instant::now());
        peer.set_head(11);
        for times in 1..=5 {
            peer.not_served(now, (11, 10), (false, false), pause);
            assert_eq!((peer.counted_claim(10), peer.retry_at(11)), (Some(11), Some(now + pause(times))));
        }
        peer.not_served(now, (11, 10), (true, false), pause);
        assert_eq!(peer.retry_at(11), Some(now + pause(1)), "that is another reason");
    }

    #[test]
    fn heights_that_a_peer_does_not_serve_are_bounded() {
        let (mut peer, now) = (Peer::default(), Instant::now());
        for height in 11..=40 {
            peer.not_served(now, (height, 10), (true, false), pause);
        }
        assert_eq!(peer.unavailable.len(), MAX_UNAVAILABLE);
        assert!(peer.retry_at(11).is_some() && peer.retry_at(40).is_none());
        peer.not_served(now, (30, 20), (true, false), pause);
        assert!(peer.retry_at(20).is_none() && peer.retry_at(21).is_some());
    }
}
