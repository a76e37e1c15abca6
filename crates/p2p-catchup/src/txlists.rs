//! Transaction lists that are missing: oldest first, from whoever has them, for as long as they matter.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use p2p_types::{B256, BlockNumber, PeerId};

use crate::{
    Request, RequestId,
    context::{Context, Purpose},
    lanes::Kind,
    time::{Agenda, after},
};

/// How far the fetching of a list has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    ToAsk,
    Asked(RequestId),
    /// The caller is storing it: so many bytes.
    Handed(usize),
}

/// A list that is missing.
#[derive(Debug)]
struct Want {
    blocks: BTreeSet<BlockNumber>,
    /// The end of its grace, while that lasts.
    grace: Option<Instant>,
    /// Not before this: the time that gossip has to bring it, or a pause because it could not be stored.
    not_before: Instant,
    stage: Stage,
    /// Who has said no since the last pause.
    denied: BTreeSet<PeerId>,
    /// When those can be asked again, once all have said no.
    retry_at: Option<Instant>,
    /// How often all have said no, or it could not be stored.
    rounds: u32,
}

/// Every missing list. Nothing is ever dropped from here but what arrived or is wanted no more.
#[derive(Debug, Default)]
pub(crate) struct TxLists {
    wants: BTreeMap<B256, Want>,
    /// By the lowest block that wants it.
    order: BTreeSet<(BlockNumber, B256)>,
    /// Those that gossip may still bring, by the end of their grace.
    in_grace: BTreeSet<(Instant, B256)>,
    asked: usize,
    /// Bytes of the lists that the caller is storing.
    handed: usize,
}

impl TxLists {
    /// How many are not here.
    pub(crate) fn wanted(&self) -> usize {
        self.wants.len()
    }

    /// How many are missing: not here, and their grace is over.
    pub(crate) fn missing(&self) -> usize {
        self.wants.len() - self.in_grace.len()
    }

    /// The lowest block that lacks its list.
    pub(crate) fn lowest(&self) -> Option<BlockNumber> {
        self.order.first().map(|(block, _)| *block)
    }

    /// Whether the caller is storing any.
    pub(crate) const fn is_storing(&self) -> bool {
        self.handed > 0
    }

    /// Most bytes that the lists on their way and those being stored can come to: one on its way is taken for
    /// the largest that there can be, as its size is not known before.
    pub(crate) const fn bytes(&self, largest: usize) -> usize {
        self.asked.saturating_mul(largest).saturating_add(self.handed)
    }

    /// A block wants a list. If the caller was storing it for this very block, that has failed: it is fetched
    /// again after a pause.
    pub(crate) fn want(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        block: BlockNumber,
        hash: B256,
        live: bool,
    ) {
        let not_before = if live { after(now, ctx.config.txlist_grace) } else { now };
        let new = !self.wants.contains_key(&hash);
        let want = self.wants.entry(hash).or_insert_with(|| Want {
            blocks: BTreeSet::new(),
            grace: None,
            not_before,
            stage: Stage::ToAsk,
            denied: BTreeSet::new(),
            retry_at: None,
            rounds: 0,
        });
        want.not_before = want.not_before.min(not_before);
        if new && not_before > now {
            want.grace = Some(not_before);
            self.in_grace.insert((not_before, hash));
        } else if let Some(grace) = want.grace.take_if(|_| !live) {
            self.in_grace.remove(&(grace, hash));
        }
        if let Some(&first) = want.blocks.first() {
            self.order.remove(&(first, hash));
        }
        let known = !want.blocks.insert(block);
        self.order.insert((want.blocks.first().copied().unwrap_or(block), hash));
        if let Stage::Handed(bytes) = want.stage
            && known
        {
            self.handed -= bytes;
            want.stage = Stage::ToAsk;
            want.rounds = want.rounds.saturating_add(1);
            want.not_before = after(now, ctx.config.backoff.pause(want.rounds, &mut ctx.rng));
        }
    }

    /// It is stored. False if it was not wanted.
    pub(crate) fn arrived(&mut self, hash: &B256) -> bool {
        let Some(want) = self.wants.remove(hash) else { return false };
        if let Some(&first) = want.blocks.first() {
            self.order.remove(&(first, *hash));
        }
        if let Some(grace) = want.grace {
            self.in_grace.remove(&(grace, *hash));
        }
        match want.stage {
            Stage::ToAsk => {}
            Stage::Asked(_) => self.asked -= 1,
            Stage::Handed(bytes) => self.handed -= bytes,
        }
        true
    }

    /// It has come for this request and the caller stores it. False if the request looks for it no more.
    pub(crate) fn hand(&mut self, id: RequestId, hash: &B256, bytes: usize) -> bool {
        let Some(want) = self.asked(id, hash) else { return false };
        want.stage = Stage::Handed(bytes);
        self.asked -= 1;
        self.handed = self.handed.saturating_add(bytes);
        true
    }

    pub(crate) fn unwant(&mut self, block: BlockNumber, hash: B256) {
        let Some(want) = self.wants.get_mut(&hash) else { return };
        let first = want.blocks.first().copied();
        if !want.blocks.remove(&block) {
            return;
        }
        match want.blocks.first() {
            None => {
                want.blocks.insert(block);
                self.arrived(&hash);
            }
            Some(&next) if first == Some(block) => {
                self.order.remove(&(block, hash));
                self.order.insert((next, hash));
            }
            Some(_) => {}
        }
    }

    /// A request ended without the list. `denied`: that peer need not be asked again soon.
    pub(crate) fn lost(&mut self, id: RequestId, hash: &B256, peer: PeerId, denied: bool) {
        let Some(want) = self.asked(id, hash) else { return };
        want.stage = Stage::ToAsk;
        if denied {
            want.denied.insert(peer);
        }
        self.asked -= 1;
    }

    /// What this request looks for.
    fn asked(&mut self, id: RequestId, hash: &B256) -> Option<&mut Want> {
        self.wants.get_mut(hash).filter(|want| want.stage == Stage::Asked(id))
    }

    /// Counts as missing what gossip has not brought in its grace. Whether something is left in its grace.
    fn end_grace(&mut self, agenda: &mut Agenda) -> bool {
        while let Some(&(grace, hash)) = self.in_grace.first() {
            if !agenda.due(grace) {
                return true;
            }
            self.in_grace.pop_first();
            if let Some(want) = self.wants.get_mut(&hash) {
                want.grace = None;
            }
        }
        false
    }

    /// Asks for what can be asked for. Says whether one is only waiting for its grace, or for a pause of our own.
    pub(crate) fn plan(&mut self, ctx: &mut Context, agenda: &mut Agenda) -> bool {
        let (limit, largest) = (ctx.config.txlists_in_flight.get(), ctx.config.max_txlist_bytes.get());
        let room = ctx.config.txlist_bytes();
        let now = agenda.now();
        let mut in_grace = self.end_grace(agenda);
        for (block, hash) in &self.order {
            if self.asked >= limit || self.bytes(largest).saturating_add(largest) > room {
                break;
            }
            let Some(want) = self.wants.get_mut(hash).filter(|want| want.stage == Stage::ToAsk) else {
                continue;
            };
            if !agenda.due(want.not_before) {
                in_grace = true;
                continue;
            }
            if want.retry_at.is_some_and(|at| agenda.due(at)) {
                want.denied.clear();
                want.retry_at = None;
            }
            let denied = &want.denied;
            let chosen = ctx.peers.pick(&ctx.config, Kind::TxList, agenda, &mut ctx.rng, |id, peer| {
                // A peer whose head was not asked is as good as one that claims the block.
                (!denied.contains(id)).then(|| peer.claim.is_some_and(|claim| claim < *block))
            });
            if let Some(peer) = chosen {
                let purpose = Purpose::TxList(*hash);
                want.stage = Stage::Asked(ctx.ask(now, peer, purpose, Request::TxList { hash: *hash }));
                self.asked += 1;
            } else if want.retry_at.is_none()
                && !want.denied.is_empty()
                && ctx.peers.askable().all(|(id, _)| want.denied.contains(id))
            {
                want.rounds = want.rounds.saturating_add(1);
                let at = after(now, ctx.config.backoff.pause(want.rounds, &mut ctx.rng));
                want.retry_at = Some(at);
                agenda.due(at);
            } else if !ctx.peers.any_free(&ctx.config, Kind::TxList, agenda) {
                break;
            }
        }
        in_grace
    }
}
