//! Parents that commitments wait for. Any signer can invent them, so each has a share, and a pause that grows with what
//! has been looked for in vain.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use p2p_types::{Address, B256, BlockNumber, PeerId};

use crate::{
    chain::Chain,
    context::Context,
    lanes::Kind,
    time::{Agenda, after},
    waiting::{Missing, Phase, phase},
};

/// Most parents of one signer. The lowest are kept: what stands on them follows.
const PER_SIGNER: usize = 8;

/// Most parents in all. Beyond, whoever has most loses its highest.
const TOTAL: usize = 16 * PER_SIGNER;

/// Signers that are remembered for what was looked for in vain, beyond those that have orphans. The one that was looked
/// for longest ago goes first.
const REMEMBERED: usize = 64;

/// Searches of a signer without a find that follow each other without a pause: three peers can be asked.
const FREE_SEARCHES: u32 = 3;

/// A signer and the parent that its commitment waits for.
pub(crate) type OrphanId = (Address, B256);

#[derive(Debug)]
struct Orphan {
    /// The height of the missing parent.
    height: BlockNumber,
    /// Who has been asked.
    asked: BTreeSet<PeerId>,
}

/// What is remembered of a signer while it has orphans, and for a while after a search.
#[derive(Debug)]
struct Signer {
    /// When its first orphan came.
    since: Instant,
    /// Searches since the last find.
    searches: u32,
    /// When the last one began.
    searched: Option<Instant>,
    /// No search before this.
    not_before: Option<Instant>,
    /// Waiting for its orphans has been in vain: more of them do not begin anew.
    expired: bool,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    orphans: BTreeMap<OrphanId, Orphan>,
    signers: BTreeMap<Address, Signer>,
}

impl Orphans {
    /// Notes an orphan. Whether it is the first of a signer of whom nothing is remembered.
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

    /// Whoever has most loses its highest.
    fn make_room(&mut self) {
        let most = self.signers.keys().max_by_key(|signer| self.of(**signer).count());
        if let Some((_, id)) = most.and_then(|signer| self.highest_of(*signer)) {
            self.orphans.remove(&id);
        }
    }

    /// Forgets signers without orphans, unless waiting or looking for these was in vain of late.
    fn forget_signers(&mut self, now: Instant, ctx: &Context) {
        let mut idle: Vec<_> = self
            .signers
            .iter()
            .filter(|(id, _)| self.of(**id).next().is_none())
            .map(|(id, signer)| {
                let last = signer.searched.max(signer.expired.then_some(signer.since));
                (last.filter(|at| after(*at, ctx.config.leave_out) > now), *id)
            })
            .collect();
        idle.sort_unstable();
        let excess = idle.len().saturating_sub(REMEMBERED);
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

    /// Nothing at or below the base is looked for.
    pub(crate) fn settle(&mut self, base: BlockNumber) {
        self.orphans.retain(|_, orphan| orphan.height > base);
    }

    /// What a search for an orphan has found is linked: its signer has told the truth.
    pub(crate) fn found(&mut self, signer: &Address) {
        if let Some(signer) = self.signers.get_mut(signer) {
            (signer.searches, signer.searched, signer.not_before) = (0, None, None);
            signer.expired = false;
        }
    }

    /// The peer may be asked once more for this orphan: it did not answer.
    pub(crate) fn ask_again(&mut self, id: &OrphanId, peer: &PeerId) {
        if let Some(orphan) = self.orphans.get_mut(id) {
            orphan.asked.remove(peer);
        }
    }

    /// Adds what is missing to the rest of it.
    pub(crate) fn missing(
        &mut self,
        ctx: &Context,
        agenda: &mut Agenda,
        applied: BlockNumber,
        asked: Option<Instant>,
        missing: &mut Missing,
    ) {
        for ((signer, _), orphan) in &self.orphans {
            let Some(Signer { since, expired, .. }) = self.signers.get_mut(signer) else { continue };
            let phase = if *expired { Phase::Expired } else { phase(&ctx.config, agenda, *since, asked) };
            *expired |= phase == Phase::Expired;
            missing.note(phase, orphan.height, *since);
            missing.sibling |= phase == Phase::Missing && orphan.height <= applied;
        }
    }

    /// Parents at heights that are applied for which a search may begin: signers in turn, the lowest first.
    fn candidates(
        &self,
        ctx: &Context,
        agenda: &mut Agenda,
        applied: BlockNumber,
    ) -> Vec<(Option<Instant>, BlockNumber, OrphanId)> {
        let mut candidates = Vec::new();
        for (id, orphan) in self.orphans.iter().filter(|(_, orphan)| orphan.height <= applied) {
            let Some(signer) = self.signers.get(&id.0) else { continue };
            if agenda.due(after(signer.since, ctx.config.gap_grace))
                && signer.not_before.is_none_or(|at| agenda.due(at))
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
        agenda: &mut Agenda,
        applied: BlockNumber,
        signer: &Address,
    ) -> bool {
        self.candidates(ctx, agenda, applied).iter().any(|(.., (other, _))| other != signer)
    }

    /// Begins a search: the orphan, the height of its parent, and whom to ask. Orphans for which everybody has been asked
    /// are dropped, if heads have been `heard`.
    pub(crate) fn next(
        &mut self,
        ctx: &mut Context,
        agenda: &mut Agenda,
        applied: BlockNumber,
        heard: bool,
    ) -> Option<(OrphanId, BlockNumber, PeerId)> {
        for (_, height, id) in self.candidates(ctx, agenda, applied) {
            let Some(orphan) = self.orphans.get_mut(&id) else { continue };
            let asked = &orphan.asked;
            let chosen = ctx.peers.pick(&ctx.config, Kind::Page, agenda, &mut ctx.rng, |id, peer| {
                (peer.claims(height) && !asked.contains(id)).then_some(())
            });
            if let Some(peer) = chosen {
                orphan.asked.insert(peer);
                self.begin(ctx, agenda.now(), &id.0);
                return Some((id, height, peer));
            }
            let mut able = ctx.peers.askable().filter(|(_, peer)| peer.claims(height));
            if heard && able.all(|(id, _)| asked.contains(id)) {
                self.orphans.remove(&id);
            }
        }
        None
    }

    fn begin(&mut self, ctx: &mut Context, now: Instant, signer: &Address) {
        let Some(signer) = self.signers.get_mut(signer) else { return };
        signer.searches = signer.searches.saturating_add(1);
        signer.searched = Some(now);
        let paused = signer.searches.checked_sub(FREE_SEARCHES).filter(|paused| *paused > 0);
        signer.not_before = paused.map(|paused| after(now, ctx.config.backoff.pause(paused, &mut ctx.rng)));
    }
}
