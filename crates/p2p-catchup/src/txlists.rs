//! Missing transaction lists: requested by hash, those of the oldest blocks first, until they are stored or not needed any more.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use p2p_types::{B256, BlockNumber, PeerId};

use crate::{
    Request, RequestId,
    context::{Context, Purpose},
    deadlines::{Deadlines, after},
    protocol_state::Protocol,
};

/// Most lists that one plan skips of those that were skipped before, and again of the others: what a preconfer withholds must not
/// make every input cost more.
const MAX_SKIPPED: usize = 32;

/// When the rest is looked at: soon, but after other inputs that have come.
const CONTINUE_AFTER: Duration = Duration::from_millis(1);

/// The state of a missing list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It is not requested before this: gossip may bring it, or it could not be stored.
    Held(Instant),
    /// It is requested as soon as a peer can be asked that has not denied it.
    Ready,
    Requested(RequestId),
    /// The caller is storing it: so many bytes.
    Storing(usize),
}

/// A list that is not stored.
#[derive(Debug)]
struct MissingTxList {
    blocks: BTreeSet<BlockNumber>,
    /// The end of its grace, while that lasts.
    grace: Option<Instant>,
    stage: Stage,
    /// Peers that do not have it, since the last pause.
    denied: BTreeSet<PeerId>,
    /// When these are asked again, once all available peers were among them.
    retry_at: Option<Instant>,
    /// How often no peer had it, or it could not be stored.
    rounds: u32,
}

impl MissingTxList {
    fn lowest(&self) -> BlockNumber {
        self.blocks.first().copied().unwrap_or_default()
    }
}

/// All missing lists. One leaves only when it is stored or not needed any more.
#[derive(Debug, Default)]
pub(crate) struct TxLists {
    lists: HashMap<B256, MissingTxList>,
    /// By the lowest block that needs it.
    order: BTreeSet<(BlockNumber, B256)>,
    /// Those that gossip may still bring, by the end of their grace.
    in_grace: BTreeSet<(Instant, B256)>,
    held: BTreeSet<(Instant, B256)>,
    /// Ready ones that are to be looked at.
    ready: BTreeSet<(BlockNumber, B256)>,
    /// Ready ones that no free peer could be asked for.
    skipped: BTreeSet<(BlockNumber, B256)>,
    /// Some peer could now.
    look_again: bool,
    /// Ready ones that all available peers have denied. They are asked again later, and one that comes before that at once.
    denied: BTreeSet<(BlockNumber, B256)>,
    /// Those that all available peers have denied at some time, by when these are asked again.
    retries: BTreeSet<(Instant, B256)>,
    /// The available peers, and those of them that could be asked, when lists were skipped or denied last.
    available: BTreeSet<PeerId>,
    free: BTreeSet<PeerId>,
    in_flight: usize,
    /// Bytes of the lists that the caller is storing.
    storing: usize,
}

impl TxLists {
    /// How many are not stored.
    pub(crate) fn count(&self) -> usize {
        self.lists.len()
    }

    /// How many are missing: not stored, and their grace is over.
    pub(crate) fn missing(&self) -> usize {
        self.lists.len() - self.in_grace.len()
    }

    /// The lowest block that lacks its list.
    pub(crate) fn lowest(&self) -> Option<BlockNumber> {
        self.order.first().map(|(block, _)| *block)
    }

    /// Whether the caller is storing any.
    pub(crate) const fn is_storing(&self) -> bool {
        self.storing > 0
    }

    /// Most bytes of the lists in flight and those being stored. One in flight counts as the largest possible, as its size is not
    /// known.
    pub(crate) const fn bytes(&self, largest: usize) -> usize {
        self.in_flight.saturating_mul(largest).saturating_add(self.storing)
    }

    /// A block lacks its list. If the caller was storing it for this very block, that has failed: it is requested again after a
    /// pause.
    pub(crate) fn add(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        block: BlockNumber,
        hash: B256,
        live: bool,
    ) {
        let not_before = if live { after(now, ctx.config.txlist_grace) } else { now };
        let mut list = self.take(&hash).unwrap_or_else(|| MissingTxList {
            blocks: BTreeSet::new(),
            grace: Some(not_before).filter(|end| *end > now),
            stage: Stage::Held(not_before),
            denied: BTreeSet::new(),
            retry_at: None,
            rounds: 0,
        });
        list.grace.take_if(|_| !live);
        let again = !list.blocks.insert(block);
        match list.stage {
            Stage::Held(until) => list.stage = Stage::Held(until.min(not_before)),
            Stage::Storing(_) if again => {
                list.rounds = list.rounds.saturating_add(1);
                list.stage = Stage::Held(after(now, ctx.config.backoff.pause(list.rounds, &mut ctx.rng)));
            }
            _ => {}
        }
        self.put(hash, list);
    }

    /// It is stored. False if it was not missing.
    pub(crate) fn stored(&mut self, hash: &B256) -> bool {
        self.take(hash).is_some()
    }

    /// It was received for this request and the caller stores it. False if it is not missing any more.
    pub(crate) fn handed_out(&mut self, id: RequestId, hash: &B256, bytes: usize) -> bool {
        self.ended(id, hash, |list| list.stage = Stage::Storing(bytes))
    }

    /// A request has failed. `denied`: the peer does not have the list, and need not be asked again soon.
    pub(crate) fn failed(&mut self, id: RequestId, hash: &B256, peer: PeerId, denied: bool) {
        self.ended(id, hash, |list| {
            list.stage = Stage::Ready;
            if denied {
                list.denied.insert(peer);
            }
        });
    }

    pub(crate) fn not_needed(&mut self, block: BlockNumber, hash: B256) {
        let Some(mut list) = self.take(&hash) else { return };
        list.blocks.remove(&block);
        if !list.blocks.is_empty() {
            self.put(hash, list);
        }
    }

    /// This request for a missing list has ended. False if there is no such request.
    fn ended(&mut self, id: RequestId, hash: &B256, change: impl FnOnce(&mut MissingTxList)) -> bool {
        let requested = self.lists.get(hash).is_some_and(|list| list.stage == Stage::Requested(id));
        requested && self.update(hash, change)
    }

    fn update(&mut self, hash: &B256, change: impl FnOnce(&mut MissingTxList)) -> bool {
        let Some(mut list) = self.take(hash) else { return false };
        change(&mut list);
        self.put(*hash, list);
        true
    }

    /// Takes a list out of all that tell where it is.
    fn take(&mut self, hash: &B256) -> Option<MissingTxList> {
        let list = self.lists.remove(hash)?;
        let place = (list.lowest(), *hash);
        self.order.remove(&place);
        if let Some(grace) = list.grace {
            self.in_grace.remove(&(grace, *hash));
        }
        if let Some(at) = list.retry_at {
            self.retries.remove(&(at, *hash));
        }
        match list.stage {
            Stage::Held(until) => drop(self.held.remove(&(until, *hash))),
            Stage::Ready => {
                let sets = [&mut self.ready, &mut self.skipped, &mut self.denied];
                sets.into_iter().any(|set| set.remove(&place));
            }
            Stage::Requested(_) => self.in_flight -= 1,
            Stage::Storing(bytes) => self.storing -= bytes,
        }
        Some(list)
    }

    fn put(&mut self, hash: B256, list: MissingTxList) {
        let place = (list.lowest(), hash);
        self.order.insert(place);
        if let Some(grace) = list.grace {
            self.in_grace.insert((grace, hash));
        }
        if let Some(at) = list.retry_at {
            self.retries.insert((at, hash));
        }
        match list.stage {
            Stage::Held(until) => drop(self.held.insert((until, hash))),
            Stage::Ready => drop(self.ready.insert(place)),
            Stage::Requested(_) => self.in_flight += 1,
            Stage::Storing(bytes) => self.storing = self.storing.saturating_add(bytes),
        }
        self.lists.insert(hash, list);
    }

    /// Lists whose grace is over count as missing.
    fn end_grace(&mut self, deadlines: &mut Deadlines) {
        while let Some(&(grace, hash)) = self.in_grace.first()
            && deadlines.due(grace)
        {
            self.in_grace.pop_first();
            if let Some(list) = self.lists.get_mut(&hash) {
                list.grace = None;
            }
        }
    }

    /// Lists whose pause is over, or that a peer may have which was not there, can be requested.
    fn end_pauses(&mut self, ctx: &Context, deadlines: &mut Deadlines) {
        while let Some(&(until, hash)) = self.held.first()
            && deadlines.due(until)
        {
            self.update(&hash, |list| list.stage = Stage::Ready);
        }
        while let Some(&(at, hash)) = self.retries.first()
            && deadlines.due(at)
        {
            self.update(&hash, |list| {
                list.denied.clear();
                list.retry_at = None;
            });
        }
        if !self.denied.is_empty() && ctx.peers.available().any(|(id, _)| !self.available.contains(id)) {
            self.ready.append(&mut self.denied);
        }
    }

    /// Sends the requests that can be sent. Whether any list only waits for its grace, for a pause of our own, or to be looked at.
    pub(crate) fn plan(&mut self, ctx: &mut Context, deadlines: &mut Deadlines) -> bool {
        self.end_grace(deadlines);
        self.end_pauses(ctx, deadlines);
        if !self.skipped.is_empty() {
            let free = ctx.peers.free(&ctx.config, Protocol::TxList, deadlines);
            self.look_again |= !free.is_subset(&self.free) || available(ctx) != self.available;
        }
        let more = self.request_ready(ctx, deadlines).is_continue();
        if more {
            deadlines.due(after(deadlines.now(), CONTINUE_AFTER));
        }
        if let Some((at, _)) = self.retries.first() {
            deadlines.due(*at);
        }
        if !self.skipped.is_empty() || !self.denied.is_empty() {
            self.available = available(ctx);
        }
        if !self.skipped.is_empty() {
            self.free = ctx.peers.free(&ctx.config, Protocol::TxList, deadlines);
        }
        more || !self.in_grace.is_empty() || !self.held.is_empty()
    }

    /// Requests ready lists, lowest first. Goes on where others are still to be looked at.
    fn request_ready(&mut self, ctx: &mut Context, deadlines: &mut Deadlines) -> ControlFlow<()> {
        if self.look_again {
            let lowest: Vec<_> = self.skipped.iter().take(MAX_SKIPPED).copied().collect();
            let others = lowest.len() < self.skipped.len();
            for place in lowest {
                self.request(ctx, deadlines, place)?;
            }
            self.look_again = others;
        }
        let mut skipped = 0;
        while skipped < MAX_SKIPPED {
            if self.ready.is_empty() && mem::take(&mut self.look_again) {
                self.ready = mem::take(&mut self.skipped);
            }
            let Some(&place) = self.ready.first() else { return ControlFlow::Break(()) };
            skipped += usize::from(!self.request(ctx, deadlines, place)?);
        }
        let seen_all = self.ready.is_empty() && !self.look_again;
        if seen_all { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Requests a ready list, if a peer can be asked. Ends where nothing can be requested.
    fn request(
        &mut self,
        ctx: &mut Context,
        deadlines: &mut Deadlines,
        (block, hash): (BlockNumber, B256),
    ) -> ControlFlow<(), bool> {
        let (limit, largest) = (ctx.config.txlists_in_flight.get(), ctx.config.max_txlist_bytes.get());
        let room = self.in_flight < limit
            && self.bytes(largest).saturating_add(largest) <= ctx.config.txlist_bytes();
        let Some(list) = self.lists.get(&hash).filter(|_| room) else { return ControlFlow::Break(()) };
        let denied = &list.denied;
        let chosen = ctx.peers.pick(&ctx.config, Protocol::TxList, deadlines, &mut ctx.rng, |id, peer| {
            // A peer whose head is not known is as good as one that claims the block.
            (!denied.contains(id)).then(|| peer.claim.is_some_and(|claim| claim < block))
        });
        if let Some(peer) = chosen {
            let id = ctx.request(deadlines.now(), peer, Purpose::TxList(hash), Request::TxList { hash });
            self.update(&hash, |list| list.stage = Stage::Requested(id));
            return ControlFlow::Continue(true);
        }
        if !denied.is_empty() && ctx.peers.available().all(|(id, _)| denied.contains(id)) {
            self.pause(ctx, deadlines.now(), &hash);
            self.ready.remove(&(block, hash));
            self.denied.insert((block, hash));
        } else if ctx.peers.any_free(&ctx.config, Protocol::TxList, deadlines) {
            self.ready.remove(&(block, hash));
            self.skipped.insert((block, hash));
        } else {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(false)
    }

    /// No available peer has it: a pause, unless one has begun.
    fn pause(&mut self, ctx: &mut Context, now: Instant, hash: &B256) {
        self.update(hash, |list| {
            if list.retry_at.is_none() {
                list.rounds = list.rounds.saturating_add(1);
                list.retry_at = Some(after(now, ctx.config.backoff.pause(list.rounds, &mut ctx.rng)));
            }
        });
    }
}

fn available(ctx: &Context) -> BTreeSet<PeerId> {
    ctx.peers.available().map(|(id, _)| *id).collect()
}

#[cfg(test)]
mod tests;
