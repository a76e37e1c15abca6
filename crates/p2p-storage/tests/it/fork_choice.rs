//! Nodes that have the same blocks show the same chain, whatever the order in which they came and wherever their bases
//! are.

use std::cmp::Reverse;

use fastrand::Rng;
use p2p_storage::{
    MemoryStorage, SdkStorage,
    fixtures::{Judge, block, in_window, signer_of},
};
use p2p_types::{Address, B256, Base, Preconfirmation, U256};
use p2p_validation::ValidationOutcome;

/// The rule, word for word: which of the blocks stand above a base of any hash at height 0.
fn naive(blocks: &[Preconfirmation]) -> Vec<B256> {
    fn signer(block: &Preconfirmation) -> Address {
        signer_of(block).address()
    }
    fn best(of: &Preconfirmation, blocks: &[Preconfirmation]) -> (u64, U256) {
        let children = blocks.iter().filter(|child| child.parent_preconfirmation_hash == of.hash());
        children.fold((1, of.block_number), |(turns, highest), child| {
            let (above, top) = best(child, blocks);
            (turns.max(above + u64::from(signer(child) != signer(of))), highest.max(top))
        })
    }
    let (mut chain, mut at) = (Vec::new(), B256::ZERO);
    let children = |at: B256| blocks.iter().filter(move |block| block.parent_preconfirmation_hash == at);
    while let Some(stands) = children(at).max_by_key(|block| {
        let (turns, highest) = best(block, blocks);
        (turns, block.submission_window_end, highest, block.timestamp, Reverse(block.hash()))
    }) {
        at = stands.hash();
        chain.push(at);
    }
    chain
}

/// Two to four branches of up to six turns.
fn random(rng: &mut Rng) -> Vec<Preconfirmation> {
    let mut blocks: Vec<Preconfirmation> = Vec::new();
    for window in 0..rng.u8(2..=6) {
        for salt in 1..=rng.u8(0..=4) {
            let recent = blocks.len().saturating_sub(rng.usize(1..=6));
            let parent = blocks.get(recent).filter(|_| rng.u8(..) > 20);
            let number = parent.map_or(0, |parent| parent.block_number.to::<u64>()) + 1;
            let hash = parent.map_or(B256::ZERO, Preconfirmation::hash);
            blocks.push(in_window(window, block(number, 100 * number + rng.u64(0..3), hash, salt)));
        }
    }
    blocks
}

/// Gives a node everything in some order; its base moves up along the chain that stands in the end, as its application
/// learns of that.
fn run(rng: &mut Rng, node: &dyn SdkStorage, blocks: &[Preconfirmation], stands: &[B256]) {
    let judge = Judge::default();
    node.set_base(Base { number: 0, hash: Some(B256::ZERO) }).unwrap();
    let mut waiting = blocks.to_vec();
    rng.shuffle(&mut waiting);
    loop {
        let base = node.base().unwrap().unwrap();
        let mut next = None;
        for (index, block) in waiting.iter().enumerate() {
            match judge.judge(node, block.clone()) {
                ValidationOutcome::Accept(linked) => {
                    next = Some((index, linked));
                    break;
                }
                ValidationOutcome::Defer(_) | ValidationOutcome::Ignore(_) | ValidationOutcome::Reject(_) => {
                }
            }
        }
        let Some((index, linked)) = next else { break };
        waiting.remove(index);
        drop(node.insert(linked).unwrap());
        let higher = base.number + rng.u64(0..=3);
        if rng.u8(..) < 40
            && let Some(settled) =
                usize::try_from(higher).ok().and_then(|higher| stands.get(higher.checked_sub(1)?))
        {
            // That its own block was settled, it may be told by number alone.
            let known = node.by_block(higher).unwrap().is_some_and(|stored| stored.hash() == *settled);
            let hash = (!known || rng.bool()).then_some(*settled);
            node.set_base(Base { number: higher, hash }).unwrap();
        }
    }
    let base = usize::try_from(node.base().unwrap().unwrap().number).unwrap();
    let shown = node.range(base as u64 + 1, 1_000).unwrap();
    let shown: Vec<B256> = shown.iter().map(|stored| stored.hash()).collect();
    assert_eq!(shown, stands[base..], "base {base}");
}

fn nodes_agree(seed: u64, sets: usize, nodes: usize, make: impl Fn() -> Box<dyn SdkStorage>) {
    let mut rng = Rng::with_seed(seed);
    for _ in 0..sets {
        let blocks = random(&mut rng);
        let stands = naive(&blocks);
        for _ in 0..nodes {
            run(&mut rng, &*make(), &blocks, &stands);
        }
    }
}

#[test]
fn nodes_with_other_orders_and_bases_agree() {
    nodes_agree(1, 500, 4, || Box::new(MemoryStorage::default()));
}

#[cfg(feature = "disk")]
#[test]
fn nodes_with_a_disk_agree() {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use p2p_storage::{DiskConfig, DiskStorage, Durability, fixtures::DOMAIN};

    let (folder, count) = (tempfile::tempdir().unwrap(), AtomicUsize::new(0));
    let config = DiskConfig { durability: Durability::Relaxed, ..DiskConfig::recommended(DOMAIN) };
    nodes_agree(2, 40, 3, || {
        let name = count.fetch_add(1, Ordering::Relaxed).to_string();
        Box::new(DiskStorage::open(folder.path().join(name), config).unwrap())
    });
}
