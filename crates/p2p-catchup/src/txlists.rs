//! Transaction lists that are missing: oldest first, from whoever has them, for as long as they matter.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use p2p_types::{B256, BlockNumber, PeerId};

use crate::{
    Request, RequestId,
    context::{Context, Purpose},
    time::{Agenda, after},
};

/// A list that is missing.
#[derive(Debug)]
struct Want {
    blocks: BTreeSet<BlockNumber>,
    /// The time that gossip has to bring it.
    not_before: Instant,
    open: Option<RequestId>,
    /// Who has said no since the last pause.
    denied: BTreeSet<PeerId>,
    /// When those can be asked again, once all have said no.
    retry_at: Option<Instant>,
    /// How often all have said no.
    rounds: u32,
}

/// Every missing list. Nothing is ever dropped from here but what arrived or is wanted no more.
#[derive(Debug, Default)]
pub(crate) struct TxLists {
    wants: BTreeMap<B256, Want>,
    /// By the lowest block that wants it.
    order: BTreeSet<(BlockNumber, B256)>,
    open: usize,
}

impl TxLists {
    pub(crate) fn missing(&self) -> usize {
        self.wants.len()
    }

    pub(crate) fn want(&mut self, block: BlockNumber, hash: B256, not_before: Instant) {
        let want = self.wants.entry(hash).or_insert_with(|| Want {
            blocks: BTreeSet::new(),
            not_before,
            open: None,
            denied: BTreeSet::new(),
            retry_at: None,
            rounds: 0,
        });
        want.not_before = want.not_before.min(not_before);
        if let Some(&first) = want.blocks.first() {
            self.order.remove(&(first, hash));
        }
        want.blocks.insert(block);
        self.order.insert((want.blocks.first().copied().unwrap_or(block), hash));
    }

    /// False if it was not wanted.
    pub(crate) fn arrived(&mut self, hash: &B256) -> bool {
        let Some(want) = self.wants.remove(hash) else { return false };
        if let Some(&first) = want.blocks.first() {
            self.order.remove(&(first, *hash));
        }
        self.open -= usize::from(want.open.is_some());
        true
    }

    /// Whether this request still looks for it.
    pub(crate) fn is_open(&self, id: RequestId, hash: &B256) -> bool {
        self.wants.get(hash).is_some_and(|want| want.open == Some(id))
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
        let Some(want) = self.wants.get_mut(hash).filter(|want| want.open == Some(id)) else { return };
        want.open = None;
        self.open -= 1;
        if denied {
            want.denied.insert(peer);
        }
    }

    /// Asks for what can be asked for. Says whether one is only waiting for its grace.
    pub(crate) fn plan(&mut self, ctx: &mut Context, agenda: &mut Agenda) -> bool {
        let (limit, per_peer) = (ctx.config.txlists_in_flight.get(), ctx.config.txlists_per_peer.get());
        let now = agenda.now();
        let mut in_grace = false;
        for (block, hash) in &self.order {
            if self.open >= limit {
                break;
            }
            let Some(want) = self.wants.get_mut(hash).filter(|want| want.open.is_none()) else { continue };
            if !agenda.due(want.not_before) {
                in_grace = true;
                continue;
            }
            if want.retry_at.is_some_and(|at| agenda.due(at)) {
                want.denied.clear();
                want.retry_at = None;
            }
            let denied = &want.denied;
            let chosen = ctx.peers.pick(agenda, &mut ctx.rng, |id, peer| {
                let free = peer.txlists_open < per_peer && !denied.contains(id);
                // A peer whose head was not asked is as good as one that claims the block.
                free.then(|| peer.claim.is_some_and(|claim| claim < *block))
            });
            if let Some(peer) = chosen {
                let purpose = Purpose::TxList(*hash);
                want.open = Some(ctx.ask(now, peer, purpose, Request::TxList { hash: *hash }));
                self.open += 1;
            } else if want.retry_at.is_none()
                && !want.denied.is_empty()
                && ctx.peers.askable().all(|(id, _)| want.denied.contains(id))
            {
                want.rounds = want.rounds.saturating_add(1);
                let at = after(now, ctx.backoff().pause(want.rounds, &mut ctx.rng));
                want.retry_at = Some(at);
                agenda.due(at);
            } else if !ctx.peers.askable().any(|(_, peer)| peer.txlists_open < per_peer) {
                break;
            }
        }
        in_grace
    }
}
