//! Missing transaction lists: requested by hash, those of the oldest blocks first, until they are stored or not needed any more.

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use p2p_types::{B256, BlockNumber, PeerId};

use crate::{
    Request, RequestId,
    context::{Context, Purpose},
    deadlines::{Deadlines, after},
    protocol_state::Protocol,
};

/// The state of a missing list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    AwaitingRequest,
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
    /// It is not requested before this: gossip may bring it, or it could not be stored.
    not_before: Instant,
    stage: Stage,
    /// Peers that do not have it, since the last pause.
    denied: BTreeSet<PeerId>,
    /// When these can be asked again, once no peer has it.
    retry_at: Option<Instant>,
    /// How often no peer had it, or it could not be stored.
    rounds: u32,
}

/// All missing lists. One leaves only when it is stored or not needed any more.
#[derive(Debug, Default)]
pub(crate) struct TxLists {
    lists: HashMap<B256, MissingTxList>,
    /// By the lowest block that needs it.
    order: BTreeSet<(BlockNumber, B256)>,
    /// Those that gossip may still bring, by the end of their grace.
    in_grace: BTreeSet<(Instant, B256)>,
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
        let new = !self.lists.contains_key(&hash);
        let list = self.lists.entry(hash).or_insert_with(|| MissingTxList {
            blocks: BTreeSet::new(),
            grace: None,
            not_before,
            stage: Stage::AwaitingRequest,
            denied: BTreeSet::new(),
            retry_at: None,
            rounds: 0,
        });
        list.not_before = list.not_before.min(not_before);
        if new && not_before > now {
            list.grace = Some(not_before);
            self.in_grace.insert((not_before, hash));
        } else if let Some(grace) = list.grace.take_if(|_| !live) {
            self.in_grace.remove(&(grace, hash));
        }
        if let Some(&first) = list.blocks.first() {
            self.order.remove(&(first, hash));
        }
        let known = !list.blocks.insert(block);
        self.order.insert((list.blocks.first().copied().unwrap_or(block), hash));
        if let Stage::Storing(bytes) = list.stage
            && known
        {
            self.storing -= bytes;
            list.stage = Stage::AwaitingRequest;
            list.rounds = list.rounds.saturating_add(1);
            list.not_before = after(now, ctx.config.backoff.pause(list.rounds, &mut ctx.rng));
        }
    }

    /// It is stored. False if it was not missing.
    pub(crate) fn stored(&mut self, hash: &B256) -> bool {
        let Some(list) = self.lists.remove(hash) else {
            return false;
        };
        if let Some(&first) = list.blocks.first() {
            self.order.remove(&(first, *hash));
        }
        if let Some(grace) = list.grace {
            self.in_grace.remove(&(grace, *hash));
        }
        match list.stage {
            Stage::AwaitingRequest => {}
            Stage::Requested(_) => self.in_flight -= 1,
            Stage::Storing(bytes) => self.storing -= bytes,
        }
        true
    }

    /// It was received for this request and the caller stores it. False if it is not missing any more.
    pub(crate) fn handed_out(&mut self, id: RequestId, hash: &B256, bytes: usize) -> bool {
        let Some(list) = self.requested(id, hash) else {
            return false;
        };
        list.stage = Stage::Storing(bytes);
        self.in_flight -= 1;
        self.storing = self.storing.saturating_add(bytes);
        true
    }

    pub(crate) fn not_needed(&mut self, block: BlockNumber, hash: B256) {
        let Some(list) = self.lists.get_mut(&hash) else {
            return;
        };
        let first = list.blocks.first().copied();
        if !list.blocks.remove(&block) {
            return;
        }
        match list.blocks.first() {
            None => {
                list.blocks.insert(block);
                self.stored(&hash);
            }
            Some(&next) if first == Some(block) => {
                self.order.remove(&(block, hash));
                self.order.insert((next, hash));
            }
            Some(_) => {}
        }
    }

    /// A request has failed. `denied`: the peer does not have the list, and need not be asked again soon.
    pub(crate) fn failed(&mut self, id: RequestId, hash: &B256, peer: PeerId, denied: bool) {
        let Some(list) = self.requested(id, hash) else {
            return;
        };
        list.stage = Stage::AwaitingRequest;
        if denied {
            list.denied.insert(peer);
        }
        self.in_flight -= 1;
    }

    /// The missing list that this request is for.
    fn requested(&mut self, id: RequestId, hash: &B256) -> Option<&mut MissingTxList> {
        self.lists.get_mut(hash).filter(|list| list.stage == Stage::Requested(id))
    }

    /// Lists whose grace is over count as missing. Whether any is still within its grace.
    fn end_grace(&mut self, deadlines: &mut Deadlines) -> bool {
        while let Some(&(grace, hash)) = self.in_grace.first() {
            if !deadlines.due(grace) {
                return true;
            }
            self.in_grace.pop_first();
            if let Some(list) = self.lists.get_mut(&hash) {
                list.grace = None;
            }
        }
        false
    }

    /// Sends the requests that can be sent. Whether any list only waits for its grace, or for a pause of our own.
    pub(crate) fn plan(&mut self, ctx: &mut Context, deadlines: &mut Deadlines) -> bool {
        let (limit, largest) = (ctx.config.txlists_in_flight.get(), ctx.config.max_txlist_bytes.get());
        let room = ctx.config.txlist_bytes();
        let now = deadlines.now();
        let mut in_grace = self.end_grace(deadlines);
        for (block, hash) in &self.order {
            if self.in_flight >= limit || self.bytes(largest).saturating_add(largest) > room {
                break;
            }
            let Some(list) = self.lists.get_mut(hash).filter(|list| list.stage == Stage::AwaitingRequest)
            else {
                continue;
            };
            if !deadlines.due(list.not_before) {
                in_grace = true;
                continue;
            }
            if list.retry_at.is_some_and(|at| deadlines.due(at)) {
                list.denied.clear();
                list.retry_at = None;
            }
            let denied = &list.denied;
            let chosen =
                ctx.peers.pick(&ctx.config, Protocol::TxList, deadlines, &mut ctx.rng, |id, peer| {
                    // A peer whose head is not known is as good as one that claims the block.
                    (!denied.contains(id)).then(|| peer.claim.is_some_and(|claim| claim < *block))
                });
            if let Some(peer) = chosen {
                let purpose = Purpose::TxList(*hash);
                list.stage =
                    Stage::Requested(ctx.request(now, peer, purpose, Request::TxList { hash: *hash }));
                self.in_flight += 1;
            } else if list.retry_at.is_none()
                && !list.denied.is_empty()
                && ctx.peers.available().all(|(id, _)| list.denied.contains(id))
            {
                list.rounds = list.rounds.saturating_add(1);
                let at = after(now, ctx.config.backoff.pause(list.rounds, &mut ctx.rng));
                list.retry_at = Some(at);
                deadlines.due(at);
            } else if !ctx.peers.any_free(&ctx.config, Protocol::TxList, deadlines) {
                break;
            }
        }
        in_grace
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use super::*;
    use crate::CatchUpConfig;

    fn lists(blocks: &[BlockNumber]) -> (TxLists, Context, Instant) {
        let (mut ctx, now) = (Context::new(CatchUpConfig::recommended(), 1), Instant::now());
        let mut lists = TxLists::default();
        for block in blocks {
            lists.add(&mut ctx, now, *block, B256::ZERO, false);
        }
        (lists, ctx, now)
    }

    /// A request is sent for the one list.
    fn requested(lists: &mut TxLists) -> RequestId {
        let id = RequestId(1);
        lists.lists.get_mut(&B256::ZERO).unwrap().stage = Stage::Requested(id);
        lists.in_flight += 1;
        id
    }

    #[test]
    fn bytes_count_while_a_list_is_requested_or_being_stored() {
        let (mut lists, mut ctx, now) = lists(&[5]);
        assert_eq!(lists.bytes(1_000), 0);
        let id = requested(&mut lists);
        assert_eq!(lists.bytes(1_000), 1_000);
        assert!(lists.handed_out(id, &B256::ZERO, 7));
        assert_eq!((lists.bytes(1_000), lists.is_storing()), (7, true));
        lists.add(&mut ctx, now, 5, B256::ZERO, false);
        assert_eq!((lists.bytes(1_000), lists.is_storing()), (0, false), "it is missing again");
        requested(&mut lists);
        assert!(lists.stored(&B256::ZERO));
        assert_eq!((lists.bytes(1_000), lists.count()), (0, 0), "it came by another way");
        lists.add(&mut ctx, now, 5, B256::ZERO, false);
        let id = requested(&mut lists);
        assert!(lists.handed_out(id, &B256::ZERO, 7) && lists.stored(&B256::ZERO));
        assert_eq!((lists.bytes(1_000), lists.is_storing()), (0, false));
    }

    #[test]
    fn a_shared_list_is_as_old_as_the_lowest_block_that_needs_it() {
        let (mut lists, ..) = lists(&[7, 5, 9]);
        assert_eq!(lists.lowest(), Some(5));
        lists.not_needed(9, B256::ZERO);
        assert_eq!(lists.lowest(), Some(5));
        lists.not_needed(5, B256::ZERO);
        assert_eq!((lists.lowest(), lists.order.len()), (Some(7), 1));
        lists.not_needed(7, B256::ZERO);
        assert_eq!((lists.lowest(), lists.count()), (None, 0));
    }
}
