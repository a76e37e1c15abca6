//! Looks at all nodes, second by second, and says what does not hold.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures::FutureExt as _;
use p2p_storage::StoredCommitment;
use p2p_types::{Address, B256, Base, PeerId, Recovered};
use preconfirmation_types::FixedBytes;

use crate::{
    node::{Node, anchor_of},
    rules::{self, Promised},
    settings::{COMMITMENTS, EVIDENCE, HELD_BYTES, PENDING, PENDING_BYTES, TXLISTS, UNTIMED},
    stage::{Owner, key},
    violation::{Broken, Invariant, holds},
};

/// Seconds that a node may say that it is live while it lacks a list: as long as gossip may bring it, and a request or two.
const LIST_WITHIN: u64 = 8;

/// Bytes that anything that waits has at least: the commitment, its hashes and its signer.
const LEAST_ENTRY: usize = size_of::<Recovered>();

/// What a publisher was told is published.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Acknowledged {
    pub(crate) node: usize,
    pub(crate) number: u64,
    pub(crate) hash: B256,
    pub(crate) window: usize,
}

/// What is known of a node from the second before.
#[derive(Debug, Default)]
struct Seen {
    base: Option<Base>,
    head: Option<B256>,
    stored: usize,
    told: Vec<Owner>,
    /// Lists that it lacks, and since when.
    lacks: BTreeMap<B256, u64>,
}

pub(crate) struct Judge {
    signers: HashMap<Owner, Address>,
    honest: HashSet<Address>,
    /// By window, whoever was ever elected.
    ever: Vec<BTreeSet<u64>>,
    read: HashMap<(B256, FixedBytes<65>), Promised>,
    /// Parents by hash.
    parents: HashMap<B256, (u64, B256)>,
    /// Of honest signers: by signer, window, height, and whether it is a handover.
    promises: HashMap<(Address, usize, u64), B256>,
    acknowledged: Vec<Acknowledged>,
    seen: Vec<Seen>,
    lenient: bool,
}

impl Judge {
    pub(crate) fn new(honest: usize, adversaries: usize, owners: &[Owner], lenient: bool) -> Self {
        let all = (0..honest).map(Owner::Honest).chain((0..adversaries).map(Owner::Adversary));
        let signers: HashMap<Owner, Address> = all.map(|owner| (owner, key(owner.key()).address())).collect();
        Self {
            honest: (0..honest).map(|index| signers[&Owner::Honest(index)]).collect(),
            signers,
            ever: owners.iter().map(|owner| BTreeSet::from([owner.key()])).collect(),
            read: HashMap::new(),
            parents: HashMap::new(),
            promises: HashMap::new(),
            acknowledged: Vec::new(),
            seen: (0..honest).map(|_| Seen::default()).collect(),
            lenient,
        }
    }

    /// L1 has elected somebody else for a window.
    pub(crate) fn reelected(&mut self, window: usize, owner: Owner) {
        self.ever[window].insert(owner.key());
        // What stands on blocks of this window may go with them.
        self.acknowledged.retain(|acknowledged| acknowledged.window < window);
    }

    pub(crate) fn acknowledge(&mut self, acknowledged: Acknowledged) {
        self.acknowledged.push(acknowledged);
    }

    /// What a node shows now.
    pub(crate) fn look(&mut self, node: &Node, now: u64) -> Result<(), Broken> {
        let Some(life) = node.alive() else {
            self.seen[node.index].lacks.clear();
            return Ok(());
        };
        let ended = life.client.closed().now_or_never();
        holds(ended.is_none(), node.index, Invariant::Running, || format!("it has ended: {ended:?}"))?;
        for shown in node.take_shown() {
            self.event(node, &shown)?;
        }
        bounds(node)?;
        let chain = node.chain();
        self.lists(node, &chain, now)?;
        let seen = &self.seen[node.index];
        let (head, stored) = (chain.last().map(StoredCommitment::hash), node.stats().commitments);
        if (seen.base, seen.head, seen.stored) == (Some(node.base), head, stored) && seen.told == node.told {
            return Ok(());
        }
        self.chain(node, &chain)?;
        let blocks = node.blocks();
        for block in &blocks {
            self.promise(node.index, &block.recovered)?;
        }
        linked(node, &blocks)?;
        withdrawn(node, &blocks)?;
        let expected = rules::fork_choice(&node.base, &blocks, |hash| node.store.is_withdrawn(hash));
        let shown: Vec<B256> = chain.iter().map(StoredCommitment::hash).collect();
        holds(shown == expected, node.index, Invariant::ForkChoice, || {
            let differs = shown.iter().zip(&expected).take_while(|(one, other)| one == other).count();
            format!(
                "above {} it shows {} blocks, and {} stand; they differ from the {differs}th on",
                node.base.number,
                shown.len(),
                expected.len()
            )
        })?;
        let told = life.client.chain().head().map(|head| head.hash);
        holds(told == head, node.index, Invariant::ForkChoice, || {
            format!("its handle tells {told:?}, its store {head:?}")
        })?;
        let seen = &mut self.seen[node.index];
        (seen.base, seen.head, seen.stored) = (Some(node.base), head, stored);
        seen.told.clone_from(&node.told);
        Ok(())
    }

    /// What a subscriber was told, whatever has become of it since.
    fn event(&mut self, node: &Node, shown: &Recovered) -> Result<(), Broken> {
        let promised = self.promise(node.index, shown)?;
        let ever = self.ever.get(promised.window);
        let elected =
            ever.is_some_and(|ever| ever.iter().any(|number| key(*number).address() == promised.signer));
        holds(elected, node.index, Invariant::Valid, || {
            format!("block {} of window {} is by nobody elected", promised.number, promised.window)
        })
    }

    fn chain(&mut self, node: &Node, chain: &[StoredCommitment]) -> Result<(), Broken> {
        let mut parent = node.base.hash;
        for (stored, number) in chain.iter().zip(node.base.next()..) {
            let promised = self.promise(node.index, &stored.recovered)?;
            let owner = node.told.get(promised.window).map(|owner| self.signers[owner]);
            holds(owner == Some(promised.signer), node.index, Invariant::Valid, || {
                let (window, signer) = (promised.window, promised.signer);
                format!("block {number} of window {window} is by {signer}, not by {owner:?}")
            })?;
            let links = parent.is_none_or(|parent| parent == promised.parent);
            holds(
                links && promised.number == number && !promised.is_handover,
                node.index,
                Invariant::Linked,
                || format!("block {} at {number} names {}, not {parent:?}", promised.number, promised.parent),
            )?;
            parent = Some(stored.hash());
        }
        Ok(())
    }

    /// Reads a commitment, and compares it with all others of its signer.
    fn promise(&mut self, node: usize, shown: &Recovered) -> Result<Promised, Broken> {
        let id = (shown.hash(), shown.signed().signature);
        if let Some(known) = self.read.get(&id) {
            return Ok(*known);
        }
        let promised = rules::read(shown).map_err(|detail| Broken {
            node: Some(node),
            invariant: Invariant::Valid,
            detail: format!("{}: {detail}", shown.hash()),
        })?;
        self.read.insert(id, promised);
        let Promised { signer, window, number, parent, is_handover } = promised;
        if !is_handover {
            self.parents.insert(shown.hash(), (number, parent));
        }
        if self.honest.contains(&signer) {
            let first = *self.promises.entry((signer, window, number)).or_insert(shown.hash());
            holds(first == shown.hash(), node, Invariant::Guarded, || {
                format!("{signer} has promised {first} and {} for {number}", shown.hash())
            })?;
        }
        Ok(promised)
    }

    /// Whoever is live lacks no list for long.
    fn lists(&mut self, node: &Node, chain: &[StoredCommitment], now: u64) -> Result<(), Broken> {
        let lacks = &mut self.seen[node.index].lacks;
        if !node.alive().is_some_and(|life| life.client.status().is_live()) {
            lacks.clear();
            return Ok(());
        }
        let missing = chain.iter().filter(|stored| !node.has_list(stored)).map(StoredCommitment::txlist_hash);
        let missing: BTreeSet<B256> = missing.collect();
        lacks.retain(|list, _| missing.contains(list));
        for list in missing {
            let since = *lacks.entry(list).or_insert(now);
            holds(now - since <= LIST_WITHIN, node.index, Invariant::Live, || {
                format!("it says that it is live and has lacked list {list} for {} s", now - since)
            })?;
        }
        Ok(())
    }

    /// What was acknowledged is stored, unless another block was settled instead of it or of what it stands on.
    pub(crate) fn acknowledged(&self, node: &Node, settled: &BTreeMap<u64, B256>) -> Result<(), Broken> {
        if node.life.as_ref().is_some_and(|life| life.power.is_off()) {
            return Ok(());
        }
        for acknowledged in self.acknowledged.iter().filter(|acknowledged| acknowledged.node == node.index) {
            let Acknowledged { number, hash, .. } = *acknowledged;
            let is_over = number <= node.base.number || self.is_contradicted(hash, node.base, settled);
            let is_there = || node.store.by_hash(&hash).unwrap().is_some();
            holds(is_over || is_there(), node.index, Invariant::Acknowledged, || {
                format!(
                    "block {number} {hash} was published and is gone, above a base of {}",
                    node.base.number
                )
            })?;
        }
        Ok(())
    }

    /// Whether a block does not stand on what is settled.
    pub(crate) fn is_contradicted(&self, mut hash: B256, base: Base, settled: &BTreeMap<u64, B256>) -> bool {
        let settled = base.hash.or_else(|| settled.get(&base.number).copied());
        while let Some((number, parent)) = self.parents.get(&hash) {
            if *number <= base.number {
                break;
            }
            hash = *parent;
        }
        settled.is_some_and(|settled| settled != hash)
    }

    /// No honest node pays for anything. One that does not know yet that it is elected no more signs what others must refuse, so
    /// that its score falls where views of L1 or of time differ; it is banned nowhere.
    pub(crate) async fn charges(&self, node: &Node, honest: &[PeerId]) -> Result<(), Broken> {
        let Some(life) = node.alive() else { return Ok(()) };
        let Ok(peers) = life.client.network().peers().await else { return Ok(()) };
        for peer in peers.iter().filter(|peer| honest.contains(&peer.peer)) {
            let is_spared = (self.lenient || peer.score >= 0.0) && peer.banned_for.is_none();
            holds(is_spared, node.index, Invariant::Charged, || format!("{peer:?}"))?;
        }
        Ok(())
    }
}

/// Whatever is stored stands on what is settled, in the chain or beside it.
fn linked(node: &Node, blocks: &[StoredCommitment]) -> Result<(), Broken> {
    let mut stored = HashSet::new();
    for block in blocks {
        let parent = block.recovered.signed().preconf().parent_preconfirmation_hash;
        let links = if block.block == node.base.next() {
            node.base.hash.is_none_or(|hash| hash == parent)
        } else {
            stored.contains(&parent)
        };
        holds(links, node.index, Invariant::Linked, || {
            format!("block {} {} beside the chain stands on nothing", block.block, block.hash())
        })?;
        stored.insert(block.hash());
    }
    Ok(())
}

/// What was withdrawn is anchored to what L1 has replaced, and so is all that was withdrawn with it.
fn withdrawn(node: &Node, blocks: &[StoredCommitment]) -> Result<(), Broken> {
    let mut with: HashSet<B256> = HashSet::new();
    for block in blocks.iter().filter(|block| node.store.is_withdrawn(&block.hash())) {
        let is_replaced = node.replaced.iter().any(|(anchor, _)| anchor_of(block) >= *anchor);
        let stands_on = with.contains(&block.parent);
        holds(is_replaced || stands_on, node.index, Invariant::Withdrawn, || {
            format!("block {} {} is withdrawn, and L1 has its anchor", block.block, block.hash())
        })?;
        with.insert(block.hash());
    }
    Ok(())
}

/// Nothing is larger than it may be.
fn bounds(node: &Node) -> Result<(), Broken> {
    let Some(life) = node.alive() else { return Ok(()) };
    let (stats, queues) = (node.stats(), life.client.queues());
    let waiting = queues.pending_parent + queues.pending_schedule;
    let good = stats.commitments <= COMMITMENTS
        && stats.txlists <= TXLISTS
        && stats.evidence <= EVIDENCE
        && queues.pending_parent <= PENDING
        && queues.pending_schedule <= UNTIMED
        && waiting * LEAST_ENTRY <= PENDING_BYTES
        && queues.pending_txlist <= COMMITMENTS
        && queues.orphan_bytes <= HELD_BYTES;
    holds(good, node.index, Invariant::Bounded, || format!("{stats:?}, {queues:?}"))
}
