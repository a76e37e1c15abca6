//! A client that follows a view of L2.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use p2p_client::{
    Address, B256, Base, Breach, Difference, HeadSyncStatus, L2Tip, L2View, P2pClientError, PromiseOutcome,
    Promised, SdkEvent, SettledBlock, UnixSeconds,
};
use p2p_storage::{
    CommitmentStore as _, MemoryStorage, StorageError,
    fixtures::{self, Call, Intercepted, Judge},
};
use preconfirmation_p2p::sim::SimNetwork;
use tokio::{sync::mpsc, task::JoinHandle, time::sleep};

use crate::world::{Block, Node, Voice};

/// What L2 has, by height. A block keeps a promise if its timestamp is the promised one.
#[derive(Clone, Default)]
struct L2 {
    blocks: Arc<Mutex<HashMap<u64, SettledBlock>>>,
}

impl L2 {
    /// Settles a block with a timestamp.
    fn settle(&self, number: u64, timestamp: u64) {
        let block = SettledBlock {
            number,
            hash: hash(number),
            timestamp: UnixSeconds::new(timestamp),
            fee_recipient: Address::ZERO,
            gas_limit: None,
            anchor: None,
            transactions: vec![],
        };
        self.blocks.lock().unwrap().insert(number, block);
    }

    fn settle_as_promised(&self, blocks: &[Block]) {
        blocks.iter().for_each(|block| self.settle(block.number(), block.signed.preconf().timestamp.to()));
    }
}

/// Hash of a block on L2.
fn hash(number: u64) -> B256 {
    B256::left_padding_from(&number.to_be_bytes())
}

struct View {
    l2: L2,
    tips: mpsc::Receiver<L2Tip>,
}

impl L2View for View {
    async fn next_tip(&mut self) -> Option<L2Tip> {
        self.tips.recv().await
    }

    async fn block(&mut self, number: u64) -> Option<SettledBlock> {
        self.l2.blocks.lock().unwrap().get(&number).cloned()
    }

    async fn compare(&self, block: &SettledBlock, promised: Promised) -> PromiseOutcome {
        let (promised, settled) =
            (promised.commitment.signed().preconf().timestamp.to::<u64>(), block.timestamp.get());
        if promised == settled {
            return PromiseOutcome::Kept;
        }
        let timestamp = Some(Difference { promised, settled });
        PromiseOutcome::Broken(Breach { timestamp, ..Breach::default() })
    }
}

/// A node that has blocks 11 to 16 and follows L2.
struct Rig {
    node: Node,
    l2: L2,
    tips: mpsc::Sender<L2Tip>,
    following: JoinHandle<Result<(), P2pClientError>>,
    chain: Vec<Block>,
    voice: Voice,
}

impl Rig {
    async fn new() -> Self {
        let world = SimNetwork::new(1);
        let mut node = Node::start(&world, 1).await;
        let voice = Voice::start(&world, 2, &[&node]).await;
        let chain = Block::chain(6);
        for block in &chain {
            voice.tell(block).await;
        }
        node.has(&chain).await;
        let (l2, (tips, receiver)) = (L2::default(), mpsc::channel(1));
        let (view, handle) = (View { l2: l2.clone(), tips: receiver }, node.client.chain());
        let following = tokio::spawn(async move { handle.follow_l2(view).await });
        Self { node, l2, tips, following, chain, voice }
    }

    async fn tip(&self, number: u64) {
        self.tip_seen(number, None).await;
    }

    async fn tip_seen(&self, number: u64, lower_at: Option<u64>) {
        let lower_at = lower_at.map(UnixSeconds::new);
        self.tips.send(L2Tip { number, hash: hash(number), synced: true, lower_at }).await.unwrap();
    }

    /// What is told of settled blocks up to a height.
    async fn settled(&mut self, up_to: u64) -> Vec<(u64, &'static str, bool, bool)> {
        let mut told = Vec::new();
        self.node
            .until(|event| {
                if let SdkEvent::Settled { block, promise, hash, late, .. } = event {
                    told.push((*block, promise.label(), hash.is_some(), *late));
                }
                told.last().filter(|(block, ..)| *block == up_to).map(drop)
            })
            .await;
        told
    }

    fn head(&self) -> Option<u64> {
        self.node.client.chain().head().map(|head| head.number)
    }

    async fn counts(&self) -> (u64, u64, u64) {
        let stats = self.node.client.chain().promises().await.unwrap().unwrap();
        (stats.total.kept, stats.total.broken, stats.unpromised)
    }
}

#[tokio::test(start_paused = true)]
async fn blocks_settled_as_promised_become_the_base_with_their_hash() {
    let mut rig = Rig::new().await;
    rig.l2.settle_as_promised(&rig.chain);
    rig.tip(13).await;
    let told = rig.settled(13).await;
    assert_eq!(told, [11, 12, 13].map(|block| (block, "kept", true, false)));
    assert_eq!((rig.head(), rig.counts().await), (Some(16), (3, 0, 0)));
    // Beyond the chain nothing was promised.
    rig.tip(18).await;
    let told = rig.settled(18).await;
    assert_eq!(told[..3], [14, 15, 16].map(|block| (block, "kept", true, false)));
    assert_eq!(told[3..], [17, 18].map(|block| (block, "none", false, false)));
    assert_eq!((rig.head(), rig.counts().await), (None, (6, 0, 2)));
}

#[tokio::test(start_paused = true)]
async fn a_broken_promise_takes_the_chain_above_with_it() {
    let mut rig = Rig::new().await;
    rig.l2.settle_as_promised(&rig.chain);
    rig.l2.settle(13, 99);
    rig.tip(14).await;
    let told = rig.settled(14).await;
    let [kept, kept_too] = [11, 12].map(|block| (block, "kept", true, false));
    // What was promised above it stood on it, and is no promise any more.
    assert_eq!(told, [kept, kept_too, (13, "broken", false, false), (14, "none", false, false)]);
    assert_eq!((rig.head(), rig.counts().await), (None, (2, 1, 1)));
    let stats = rig.node.client.chain().promises().await.unwrap().unwrap();
    let broken = &stats.broken[0];
    assert_eq!((broken.commitment.hash(), broken.settled.number), (rig.chain[2].hash(), 13));
    assert_eq!(broken.breach.reason(), "timestamp");
    assert_eq!(stats.signers[&crate::world::preconfer().address()], stats.total);
}

#[tokio::test(start_paused = true)]
async fn catching_up_starts_when_l2_is_synced() {
    let world = SimNetwork::new(1);
    let node = Node::start_unsynced(&world, 1).await;
    let (l2, (tips, receiver)) = (L2::default(), mpsc::channel(1));
    let (view, handle) = (View { l2, tips: receiver }, node.client.chain());
    let following = tokio::spawn(async move { handle.follow_l2(view).await });
    let tip = |synced| L2Tip { number: 10, hash: hash(10), synced, lower_at: None };
    assert!(node.client.chain().promises().await.unwrap().is_none_or(|stats| stats.total.kept == 0));
    tips.send(tip(false)).await.unwrap();
    tips.send(tip(false)).await.unwrap();
    let waits = || matches!(node.client.status(), HeadSyncStatus::Idle | HeadSyncStatus::WaitingForL2);
    assert!(waits(), "{}", node.client.status());
    tips.send(tip(true)).await.unwrap();
    drop(tips);
    following.await.unwrap().unwrap();
    assert!(!waits(), "{}", node.client.status());
}

#[tokio::test(start_paused = true)]
async fn a_base_that_goes_back_is_told_and_judged_again() {
    let mut rig = Rig::new().await;
    rig.l2.settle_as_promised(&rig.chain);
    rig.tip(14).await;
    assert_eq!(rig.settled(14).await.len(), 4);
    rig.tip(12).await;
    let gone = rig.node.until(|event| match event {
        SdkEvent::Unsettled { from, to } => Some((*from, *to)),
        _ => None,
    });
    assert_eq!(gone.await, (13, 14));
    assert_eq!(rig.settled(12).await, [(12, "kept", true, false)]);
    assert_eq!((rig.head(), rig.counts().await), (Some(16), (2, 0, 0)));
    // Another block is settled there now.
    rig.l2.settle(13, 99);
    rig.tip(13).await;
    assert_eq!(rig.settled(13).await, [(13, "broken", false, false)]);
    assert_eq!((rig.head(), rig.counts().await), (None, (2, 1, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_synchronizes_itself_takes_no_base_back() {
    let mut rig = Rig::new().await;
    rig.l2.settle_as_promised(&rig.chain);
    rig.tip(14).await;
    assert_eq!(rig.settled(14).await.len(), 4);
    let behind = L2Tip { number: 3, hash: hash(3), synced: false, lower_at: None };
    rig.tips.send(behind).await.unwrap();
    rig.tip(15).await;
    assert_eq!(rig.settled(15).await, [(15, "kept", true, false)]);
}

#[tokio::test(start_paused = true)]
async fn a_block_that_cannot_be_read_is_settled_with_the_next_tip() {
    let mut rig = Rig::new().await;
    rig.l2.settle_as_promised(&rig.chain[..2]);
    rig.tip(14).await;
    assert_eq!(rig.settled(12).await.len(), 2);
    assert_eq!(rig.head(), Some(16));
    rig.l2.settle_as_promised(&rig.chain);
    rig.tip(14).await;
    assert_eq!(rig.settled(14).await, [13, 14].map(|block| (block, "kept", true, false)));
}

#[tokio::test(start_paused = true)]
async fn a_block_is_late_if_it_was_seen_unsettled_after_its_window() {
    let mut rig = Rig::new().await;
    rig.l2.settle_as_promised(&rig.chain);
    let end: u64 = rig.chain[0].signed.preconf().submission_window_end.to();
    rig.tip_seen(11, Some(end + 36)).await;
    assert_eq!(rig.settled(11).await, [(11, "kept", true, false)]);
    rig.tip_seen(12, Some(end + 37)).await;
    assert_eq!(rig.settled(12).await, [(12, "kept", true, true)]);
    rig.tip_seen(13, None).await;
    assert_eq!(rig.settled(13).await, [(13, "kept", true, false)]);
    let stats = rig.node.client.chain().promises().await.unwrap().unwrap();
    assert_eq!((stats.total.kept, stats.total.late, stats.overdue), (3, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn nodes_on_different_branches_end_on_the_settled_one() {
    let mut rig = Rig::new().await;
    // Another block of the preconfer's for the first height, and only it is settled.
    let rival = Block::with(None, 7, 12, &crate::world::preconfer());
    rig.voice.tell(&rival).await;
    rig.node.until(|event| matches!(event, SdkEvent::Evidence { .. }).then_some(())).await;
    rig.l2.settle(11, 12);
    rig.tip(11).await;
    assert_eq!(rig.settled(11).await, [(11, "broken", true, false)]);
    let base = rig.node.client.chain().block(11).await.unwrap().unwrap();
    assert_eq!(base.hash(), rival.hash());
    // What stands on it goes on.
    let next = Block::with(Some(&rival), 1, 13, &crate::world::preconfer());
    rig.voice.tell(&next).await;
    rig.node.has(&[next]).await;
}

#[tokio::test(start_paused = true)]
async fn two_nodes_with_different_forks_end_on_the_settled_one() {
    let world = SimNetwork::new(1);
    let l2 = L2::default();
    let (kept, rival) = (Block::after(None, 1), Block::with(None, 7, 12, &crate::world::preconfer()));
    let [on_kept, on_rival] =
        [&kept, &rival].map(|parent| Block::with(Some(parent), 1, 13, &crate::world::preconfer()));
    let mut sides = Vec::new();
    for (key, chain) in [(1, [&kept, &on_kept]), (3, [&rival, &on_rival])] {
        let mut node = Node::start(&world, key).await;
        let voice = Voice::start(&world, key + 1, &[&node]).await;
        for block in chain {
            voice.tell(block).await;
            node.has(std::slice::from_ref(block)).await;
        }
        sides.push((node, voice));
    }
    l2.settle_as_promised(std::slice::from_ref(&kept));
    for (index, (node, voice)) in sides.iter_mut().enumerate() {
        let (tips, receiver) = mpsc::channel(1);
        let (view, chain) = (View { l2: l2.clone(), tips: receiver }, node.client.chain());
        let _following = tokio::spawn(async move { chain.follow_l2(view).await });
        tips.send(L2Tip { number: 11, hash: hash(11), synced: true, lower_at: None }).await.unwrap();
        let label = node.until(|event| match event {
            SdkEvent::Settled { block: 11, promise, .. } => Some(promise.label()),
            _ => None,
        });
        assert_eq!(label.await, ["kept", "broken"][index]);
        // The one that had the other fork takes what stands on the settled block, whose hash it does not know.
        if index == 1 {
            voice.tell(&on_kept).await;
        }
        node.has(std::slice::from_ref(&on_kept)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_tip_far_above_the_chain_costs_no_endless_search() {
    let mut rig = Rig::new().await;
    rig.l2.settle_as_promised(&rig.chain);
    let tip = u64::MAX - 1;
    rig.tip(tip).await;
    let told = rig.settled(tip).await;
    assert_eq!(told[..6], [11, 12, 13, 14, 15, 16].map(|block| (block, "kept", true, false)));
    assert_eq!(told[6..].len(), 257, "the last ones of those that nobody has promised");
    // The endpoint that has made it up gives way to one that has not.
    rig.tip(14).await;
    assert_eq!(rig.settled(14).await.len(), 1);
    assert_eq!(rig.node.client.chain().promises().await.unwrap().unwrap().total.kept, 4);
}

/// Where a list is not here, nothing is proven.
struct ListView(View);

impl L2View for ListView {
    fn resume(&mut self, settled: u64) {
        self.0.resume(settled);
    }

    async fn next_tip(&mut self) -> Option<L2Tip> {
        self.0.next_tip().await
    }

    async fn block(&mut self, number: u64) -> Option<SettledBlock> {
        self.0.block(number).await
    }

    async fn compare(&self, block: &SettledBlock, promised: Promised) -> PromiseOutcome {
        let without_list = promised.txlist.is_none();
        match self.0.compare(block, promised).await {
            PromiseOutcome::Kept if without_list => PromiseOutcome::Unproven,
            outcome => outcome,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_many_siblings_only_some_are_compared_down_to_their_lists() {
    let (world, reads) = (SimNetwork::new(1), Arc::new(AtomicUsize::new(0)));
    let filled = MemoryStorage::default();
    filled.set_base(Base::at(10)).unwrap();
    // The blocks of 100 lists as L2 has settled one, and of 50 as it has not.
    for (timestamp, salts) in [(11, 1..=100), (12, 101..=150)] {
        for salt in salts {
            let sibling = fixtures::block(11, timestamp, B256::ZERO, salt);
            assert!(Judge::default().insert(&filled, sibling).is_ok());
        }
    }
    let seen = Arc::clone(&reads);
    let store = Intercepted::new(Arc::new(filled), move |call| {
        seen.fetch_add(usize::from(call == Call::Get), Ordering::Relaxed);
        Ok(())
    });
    let mut node = Node::with_storage(&world, 1, Arc::new(store), |_| ()).await;
    let (l2, (tips, receiver)) = (L2::default(), mpsc::channel(1));
    l2.settle(11, 11);
    let (view, chain) = (ListView(View { l2, tips: receiver }), node.client.chain());
    let following = tokio::spawn(async move { chain.follow_l2(view).await });
    reads.store(0, Ordering::Relaxed);
    tips.send(L2Tip { number: 11, hash: hash(11), synced: true, lower_at: None }).await.unwrap();
    let told = |event: &SdkEvent| match event {
        SdkEvent::Settled { block: 11, promise, .. } => Some(promise.label()),
        _ => None,
    };
    assert_eq!(node.until(told).await, "broken", "what stands is the later one");
    assert_eq!(reads.load(Ordering::Relaxed), 1 + 64);
    following.abort();
}

/// A client that has begun to follow L2 with a store of which one call fails, and the switch that heals it.
struct Failing {
    node: Node,
    tips: mpsc::Sender<L2Tip>,
    following: JoinHandle<Result<(), P2pClientError>>,
    fails: Arc<AtomicBool>,
}

impl Failing {
    async fn start(fails_at: Call) -> Self {
        let (world, fails) = (SimNetwork::new(1), Arc::new(AtomicBool::new(false)));
        let is_failing = Arc::clone(&fails);
        let store = Intercepted::new(Arc::<MemoryStorage>::default(), move |call| {
            let refused = call == fails_at && is_failing.load(Ordering::Relaxed);
            if refused { Err(StorageError::NoSpace) } else { Ok(()) }
        });
        let node = Node::with_storage(&world, 1, Arc::new(store), |_| ()).await;
        fails.store(true, Ordering::Relaxed);
        let (l2, (tips, receiver)) = (L2::default(), mpsc::channel(1));
        let (view, chain) = (View { l2, tips: receiver }, node.client.chain());
        let following = tokio::spawn(async move { chain.follow_l2(view).await });
        Self { node, tips, following, fails }
    }

    /// L2 has settled blocks up to the twelfth.
    async fn settle(&self) {
        self.tips.send(L2Tip { number: 12, hash: hash(12), synced: true, lower_at: None }).await.unwrap();
    }

    async fn unpromised(&self) -> u64 {
        self.node.client.chain().promises().await.unwrap().unwrap().unpromised
    }

    async fn heal(&mut self) {
        self.fails.store(false, Ordering::Relaxed);
        self.node.until(|event| matches!(event, SdkEvent::Settled { block: 12, .. }).then_some(())).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_a_while_does_not_end_following() {
    let mut failing = Failing::start(Call::Base).await;
    sleep(Duration::from_secs(5)).await;
    assert!(!failing.following.is_finished());
    failing.settle().await;
    failing.heal().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_told_is_counted_before_and_once() {
    let mut failing = Failing::start(Call::SetBase).await;
    failing.settle().await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(failing.unpromised().await, 2, "they are not told yet");
    failing.heal().await;
    assert_eq!(failing.unpromised().await, 2);
}

#[tokio::test(start_paused = true)]
async fn following_ends_with_the_view_and_with_the_client() {
    let rig = Rig::new().await;
    drop(rig.tips);
    rig.following.await.unwrap().unwrap();
    let rig = Rig::new().await;
    rig.node.client.shutdown().await.unwrap();
    assert!(matches!(rig.following.await.unwrap(), Err(P2pClientError::Closed)));
}
