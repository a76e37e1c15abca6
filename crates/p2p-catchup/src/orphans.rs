//! Orphans: parents that waiting commitments name and that are not stored. A signer can invent them, so each signer has a share
//! of the searches, and a pause that grows with searches that find nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use p2p_types::{Address, B256, BlockNumber, PeerId};

use crate::{
    chain::Chain,
    context::Context,
    deadlines::{Deadlines, after},
    protocol_state::Protocol,
    waiting::{Missing, Phase, phase},
};

/// Most parents of one signer. The lowest are kept, as the others build on them.
const PER_SIGNER: usize = 8;

/// Most parents in all. Beyond that, the signer with most loses its highest.
const TOTAL: usize = 16 * PER_SIGNER;

/// Most signers without orphans whose failed searches are remembered. The one of the oldest search is forgotten first.
const MAX_REMEMBERED: usize = 64;

/// Searches for a signer's parents without a find that follow each other without a pause: three peers can be asked.
const FREE_SEARCHES: u32 = 3;

/// A signer and the parent that its commitment waits for.
pub(crate) type OrphanId = (Address, B256);

#[derive(Debug)]
struct Orphan {
    /// The height of the missing parent.
    height: BlockNumber,
    /// The peers that were asked for it.
    asked: BTreeSet<PeerId>,
}

/// What is remembered of a signer while it has orphans, and for some time after a search.
#[derive(Debug)]
struct Signer {
    /// When its first orphan came.
    since: Instant,
    /// Searches since the last find.
    searches: u32,
    /// When the last one began.
    searched: Option<Instant>,
    /// No search begins before this.
    not_before: Option<Instant>,
    /// The wait for its orphans has expired: more of them do not start it again.
    expired: bool,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    orphans: BTreeMap<OrphanId, Orphan>,
    signers: BTreeMap<Address, Signer>,
}

impl Orphans {
    /// Adds an orphan. Whether it is the first of a signer of whom nothing is remembered.
    pub(crate) fn add(
        &mut self,
        ctx: &Context,
        now: Instant,
        chain: &Chain,
        (height, signer, parent): (BlockNumber, Address, B256),
    ) -> bool {
        let known_head = chain.head().is_some_and(|head| head.hash == parent);
        let id = (signer, parent);
        if height <= chain.base || known_head || self.orphans.contains_key(&id) {
            return false;
        }
        if self.of(signer).count() >= PER_SIGNER {
            match self.highest_of(signer) {
                Some((highest, id)) if highest > height => self.orphans.remove(&id),
                _ => return false,
            };
        } else if self.orphans.len() >= TOTAL {
            self.make_room();
        }
        self.forget_signers(now, ctx);
        self.orphans.insert(id, Orphan { height, asked: BTreeSet::new() });
        let new = !self.signers.contains_key(&signer);
        self.signers.entry(signer).or_insert(Signer {
            since: now,
            searches: 0,
            searched: None,
            not_before: None,
            expired: false,
        });
        new
    }

    fn of(&self, signer: Address) -> impl Iterator<Item = (&OrphanId, &Orphan)> {
        self.orphans.range((signer, B256::ZERO)..=(signer, B256::repeat_byte(u8::MAX)))
    }

    fn highest_of(&self, signer: Address) -> Option<(BlockNumber, OrphanId)> {
        self.of(signer).map(|(id, orphan)| (orphan.height, *id)).max()
    }

    /// The signer with most orphans loses its highest.
    fn make_room(&mut self) {
        let most = self.signers.keys().max_by_key(|signer| self.of(**signer).count());
        if let Some((_, id)) = most.and_then(|signer| self.highest_of(*signer)) {
            self.orphans.remove(&id);
        }
    }

    /// Forgets signers without orphans, unless a wait or a search for these failed recently.
    fn forget_signers(&mut self, now: Instant, ctx: &Context) {
        let mut idle: Vec<_> = self
            .signers
            .iter()
            .filter(|(id, _)| self.of(**id).next().is_none())
            .map(|(id, signer)| {
                let last = signer.searched.max(signer.expired.then_some(signer.since));
                (last.filter(|at| after(*at, ctx.config.exclude_for) > now), *id)
            })
            .collect();
        idle.sort_unstable();
        let excess = idle.len().saturating_sub(MAX_REMEMBERED);
        for (place, (last, id)) in idle.iter().enumerate() {
            if last.is_none() || place < excess {
                self.signers.remove(id);
            }
        }
    }

    pub(crate) fn contains(&self, id: &OrphanId) -> bool {
        self.orphans.contains_key(id)
    }

    /// Nobody waits for this parent any more.
    pub(crate) fn remove(&mut self, parent: &B256) {
        self.orphans.retain(|(_, waited_for), _| waited_for != parent);
    }

    /// Nothing at or below the base is searched for.
    pub(crate) fn settle(&mut self, base: BlockNumber) {
        self.orphans.retain(|_, orphan| orphan.height > base);
    }

    /// A search has found an orphan of this signer, and it is linked.
    pub(crate) fn found(&mut self, signer: &Address) {
        if let Some(signer) = self.signers.get_mut(signer) {
            (signer.searches, signer.searched, signer.not_before) = (0, None, None);
            signer.expired = false;
        }
    }

    /// The peer may be asked once more for this orphan, as it did not respond.
    pub(crate) fn ask_again(&mut self, id: &OrphanId, peer: &PeerId) {
        if let Some(orphan) = self.orphans.get_mut(id) {
            orphan.asked.remove(peer);
        }
    }

    /// Adds the missing orphans to what is missing.
    pub(crate) fn missing(
        &mut self,
        ctx: &Context,
        deadlines: &mut Deadlines,
        applied: BlockNumber,
        asked: Option<Instant>,
        missing: &mut Missing,
    ) {
        for ((signer, _), orphan) in &self.orphans {
            let Some(Signer { since, expired, .. }) = self.signers.get_mut(signer) else {
                continue;
            };
            let phase = if *expired { Phase::Expired } else { phase(&ctx.config, deadlines, *since, asked) };
            *expired |= phase == Phase::Expired;
            missing.note(phase, orphan.height, *since);
            missing.sibling |= matches!(phase, Phase::Missing { .. }) && orphan.height <= applied;
        }
    }

    /// Orphans at or below the head for which a search may begin: signers in turn, the lowest height first.
    fn candidates(
        &self,
        ctx: &Context,
        deadlines: &mut Deadlines,
        applied: BlockNumber,
    ) -> Vec<(Option<Instant>, BlockNumber, OrphanId)> {
        let mut candidates = Vec::new();
        for (id, orphan) in self.orphans.iter().filter(|(_, orphan)| orphan.height <= applied) {
            let Some(signer) = self.signers.get(&id.0) else {
                continue;
            };
            if deadlines.due(after(signer.since, ctx.config.gap_grace))
                && signer.not_before.is_none_or(|at| deadlines.due(at))
            {
                candidates.push((signer.searched, orphan.height, *id));
            }
        }
        candidates.sort_unstable();
        candidates
    }

    /// Whether a search for another signer's orphan may begin.
    pub(crate) fn others_wait(
        &self,
        ctx: &Context,
        deadlines: &mut Deadlines,
        applied: BlockNumber,
        signer: &Address,
    ) -> bool {
        self.candidates(ctx, deadlines, applied).iter().any(|(.., (other, _))| other != signer)
    }

    /// Begins a search: the orphan, its height, and the peer to ask. Orphans that all peers were asked for are dropped, if heads are
    /// known (`heads_known`).
    pub(crate) fn next(
        &mut self,
        ctx: &mut Context,
        deadlines: &mut Deadlines,
        applied: BlockNumber,
        heads_known: bool,
    ) -> Option<(OrphanId, BlockNumber, PeerId)> {
        for (_, height, id) in self.candidates(ctx, deadlines, applied) {
            let Some(orphan) = self.orphans.get_mut(&id) else {
                continue;
            };
            let asked = &orphan.asked;
            let chosen = ctx.peers.pick(&ctx.config, Protocol::Page, deadlines, &mut ctx.rng, |id, peer| {
                (peer.claims(height) && !asked.contains(id)).then_some(())
            });
            if let Some(peer) = chosen {
                orphan.asked.insert(peer);
                self.begin(ctx, deadlines.now(), &id.0);
                return Some((id, height, peer));
            }
            let mut able = ctx.peers.available().filter(|(_, peer)| peer.claims(height));
            if heads_known && able.all(|(id, _)| asked.contains(id)) {
                self.orphans.remove(&id);
            }
        }
        None
    }

    fn begin(&mut self, ctx: &mut Context, now: Instant, signer: &Address) {
        let Some(signer) = self.signers.get_mut(signer) else {
            return;
        };
        signer.searches = signer.searches.saturating_add(1);
        signer.searched = Some(now);
        let beyond = signer.searches.saturating_add(1).saturating_sub(FREE_SEARCHES);
        signer.not_before = (beyond > 0).then(|| after(now, ctx.config.backoff.pause(beyond, &mut ctx.rng)));
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use std::time::Duration;

    use p2p_types::Head;

    use super::*;
    use crate::CatchUpConfig;

    struct Rig {
        ctx: Context,
        chain: Chain,
        orphans: Orphans,
        now: Instant,
    }

    impl Rig {
        fn new() -> Self {
            let mut chain = Chain::default();
            chain.settle(10);
            chain.move_head(Some(Head { number: 1_000, hash: B256::ZERO }));
            let ctx = Context::new(CatchUpConfig::recommended(), 1);
            Self { ctx, chain, orphans: Orphans::default(), now: Instant::now() }
        }

        /// The parent of each signer and height is another one.
        fn add(&mut self, signer: u16, height: BlockNumber) -> bool {
            self.orphans.add(
                &self.ctx,
                self.now,
                &self.chain,
                (height, address(signer), hash(signer, height)),
            )
        }

        fn has(&self, signer: u16, height: BlockNumber) -> bool {
            self.orphans.contains(&(address(signer), hash(signer, height)))
        }

        fn missing(&mut self, asked: Option<Instant>) -> Missing {
            let mut missing = Missing::default();
            let mut deadlines = Deadlines::new(self.now);
            let applied = self.chain.applied();
            self.orphans.missing(&self.ctx, &mut deadlines, applied, asked, &mut missing);
            missing
        }
    }

    fn address(signer: u16) -> Address {
        let mut address = Address::ZERO;
        address[..2].copy_from_slice(&signer.to_be_bytes());
        address
    }

    fn hash(signer: u16, height: BlockNumber) -> B256 {
        let mut hash = B256::repeat_byte(1);
        hash[..2].copy_from_slice(&signer.to_be_bytes());
        hash[2..10].copy_from_slice(&height.to_be_bytes());
        hash
    }

    #[test]
    fn orphans_of_others_wait_for_a_search_once_their_grace_is_over() {
        let mut rig = Rig::new();
        let others_than = |rig: &Rig, signer| {
            let mut deadlines = Deadlines::new(rig.now);
            rig.orphans.others_wait(&rig.ctx, &mut deadlines, rig.chain.applied(), &address(signer))
        };
        assert!(rig.add(1, 20));
        rig.now += Duration::from_secs(60);
        assert!(!others_than(&rig, 1) && others_than(&rig, 2));
        assert!(rig.add(2, 30));
        assert!(!others_than(&rig, 1), "gossip may bring its parent");
        rig.now += Duration::from_secs(60);
        assert!(others_than(&rig, 1));
    }

    #[test]
    fn the_lowest_orphans_of_a_signer_are_kept() {
        let mut rig = Rig::new();
        for height in (100..200).rev() {
            rig.add(1, height);
        }
        rig.add(1, 500);
        assert_eq!(rig.orphans.orphans.len(), 8);
        assert!((100..108).all(|height| rig.has(1, height)));
    }

    #[test]
    fn the_signer_with_most_orphans_loses_its_highest() {
        let mut rig = Rig::new();
        for signer in 0..16 {
            for height in 100..if signer < 15 { 108 } else { 107 } {
                rig.add(signer, height);
            }
        }
        assert!(rig.add(16, 300), "there is room for one");
        assert_eq!(rig.orphans.orphans.len(), 128);
        rig.add(16, 301);
        assert_eq!(rig.orphans.orphans.len(), 128);
        assert!(rig.has(16, 300) && rig.has(16, 301) && rig.has(15, 106));
        let lost = (0..15).filter(|signer| !rig.has(*signer, 107)).count();
        assert_eq!(lost, 1);
    }

    #[test]
    fn settled_blocks_and_the_head_are_no_orphans() {
        let mut rig = Rig::new();
        assert!(!rig.add(1, 10));
        let head = (1_000, address(1), B256::ZERO);
        assert!(!rig.orphans.add(&rig.ctx, rig.now, &rig.chain, head));
        assert!(rig.add(1, 11));
        assert!(!rig.add(1, 11), "known");
        assert!(!rig.add(1, 12), "not the first of its signer");
        rig.orphans.settle(11);
        assert!(!rig.has(1, 11) && rig.has(1, 12));
        rig.orphans.remove(&hash(1, 12));
        assert!(rig.add(1, 13), "nothing is remembered of who has none and asked for nothing");
    }

    #[test]
    fn a_signer_whose_wait_expired_is_remembered_for_some_time() {
        let mut rig = Rig::new();
        assert!(rig.add(1, 1_500));
        let since = rig.now;
        rig.now += Duration::from_secs(1);
        let missing = rig.missing(None);
        assert_eq!((missing.height, missing.sibling, missing.since), (1_500, false, Some(since)));
        rig.now += Duration::from_secs(9);
        assert_eq!(rig.missing(Some(since)).height, 1_500, "not asked since");
        assert_eq!(rig.missing(Some(since + Duration::from_secs(1))).height, 0);
        rig.orphans.remove(&hash(1, 1_500));
        assert!(!rig.add(1, 1_501));
        assert_eq!(rig.missing(None).height, 0, "nothing begins anew");
        rig.orphans.remove(&hash(1, 1_501));
        rig.now = since + rig.ctx.config.exclude_for;
        assert!(rig.add(1, 1_502));
        rig.now += Duration::from_secs(1);
        assert_eq!(rig.missing(None).height, 1_502);
    }

    #[test]
    fn the_memory_of_signers_is_bounded() {
        let mut rig = Rig::new();
        for signer in 0..100 {
            rig.now += Duration::from_millis(1);
            rig.add(signer, 100);
            rig.orphans.begin(&mut rig.ctx, rig.now, &address(signer));
            rig.orphans.remove(&hash(signer, 100));
        }
        rig.add(1_000, 100);
        assert_eq!(rig.orphans.signers.len(), 64 + 1);
        assert!(rig.orphans.signers.contains_key(&address(99)));
        assert!(!rig.orphans.signers.contains_key(&address(35)));
    }

    #[test]
    fn pauses_grow_after_three_searches_until_a_find() {
        let mut rig = Rig::new();
        rig.add(1, 100);
        let (now, signer) = (rig.now, address(1));
        let mut pauses = Vec::new();
        for _ in 0..6 {
            rig.orphans.begin(&mut rig.ctx, now, &signer);
            pauses.push(rig.orphans.signers[&signer].not_before.map(|at| (at - now).as_millis()));
        }
        assert_eq!(pauses[..2], [None, None]);
        for (pause, full) in pauses[2..].iter().zip([500, 1_000, 2_000, 4_000]) {
            assert!(pause.is_some_and(|pause| pause >= full / 2 && pause <= full), "{pauses:?}");
        }
        rig.orphans.found(&signer);
        rig.orphans.begin(&mut rig.ctx, now, &signer);
        assert_eq!(rig.orphans.signers[&signer].not_before, None);
    }
}
