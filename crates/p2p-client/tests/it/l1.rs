//! A client that follows a view of L1.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use p2p_client::{Address, L1Update, L1View, P2pClient, P2pClientError, SdkEvent, UnixSeconds};
use p2p_validation::{Lookahead, LookaheadError, Slot};
use preconfirmation_p2p::sim::SimNetwork;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::world::{BASE, Block, Node, Voice, schedule};

/// The preconfer's turn, until it is removed. Then it is another one's.
#[derive(Default)]
struct Removable {
    removed: AtomicBool,
}

impl Lookahead for Removable {
    fn turn(&self, moment: UnixSeconds) -> Result<Option<Slot>, LookaheadError> {
        let mut turn = schedule().turn(moment);
        if let Some(turn) = &mut turn
            && self.removed.load(Ordering::Relaxed)
        {
            turn.signer = Address::repeat_byte(9);
        }
        Ok(turn)
    }
}

struct View(mpsc::Receiver<L1Update>);

impl L1View for View {
    async fn next_update(&mut self) -> Option<L1Update> {
        self.0.recv().await
    }
}

/// A node with three blocks, and what it follows.
struct Rig {
    node: Node,
    schedule: Arc<Removable>,
    updates: mpsc::Sender<L1Update>,
    following: JoinHandle<Result<(), P2pClientError>>,
}

impl Rig {
    async fn new() -> Self {
        let (world, schedule) = (SimNetwork::new(1), Arc::<Removable>::default());
        let mut node = Node::electing(&world, 1, schedule.clone()).await;
        node.client.chain().l2_synced(BASE).await.unwrap();
        let voice = Voice::start(&world, 2, &[&node]).await;
        let chain = Block::chain(3);
        for block in &chain {
            voice.tell(block).await;
        }
        node.has(&chain).await;
        let (updates, receiver) = mpsc::channel(1);
        let following = follow(&node.client, receiver);
        Self { node, schedule, updates, following }
    }

    async fn update(&self, update: L1Update) {
        self.updates.send(update).await.unwrap();
    }

    /// How many blocks leave the chain next, because nobody elects their signer.
    async fn unelected(&mut self) -> usize {
        let gone = self.node.until(|event| match event {
            SdkEvent::ScheduleReorg { affected, .. } => Some(affected.len()),
            _ => None,
        });
        gone.await
    }

    fn head(&self) -> Option<u64> {
        self.node.client.chain().head().map(|head| head.number)
    }
}

fn follow(client: &P2pClient, updates: mpsc::Receiver<L1Update>) -> JoinHandle<Result<(), P2pClientError>> {
    let chain = client.chain();
    tokio::spawn(async move { chain.follow_l1(View(updates)).await })
}

#[tokio::test(start_paused = true)]
async fn what_l1_has_changed_before_is_judged_with_the_first_head() {
    let mut rig = Rig::new().await;
    rig.schedule.removed.store(true, Ordering::Relaxed);
    rig.update(L1Update::Head(7)).await;
    assert_eq!(rig.unelected().await, 3);
    assert_eq!(rig.head(), None);
}

#[tokio::test(start_paused = true)]
async fn a_changed_schedule_is_judged_with_the_head_that_follows() {
    for change in [L1Update::ScheduleChanged { since: UnixSeconds::new(12) }, L1Update::Lost] {
        let mut rig = Rig::new().await;
        rig.update(L1Update::Head(7)).await;
        rig.update(change).await;
        // It is taken out of the channel before the next one is put in, and changes nothing.
        rig.update(L1Update::ScheduleChanged { since: UnixSeconds::new(13) }).await;
        rig.update(L1Update::ScheduleChanged { since: UnixSeconds::new(14) }).await;
        assert_eq!(rig.head(), Some(13));
        rig.schedule.removed.store(true, Ordering::Relaxed);
        rig.update(L1Update::Head(8)).await;
        // Blocks 11 to 13 have timestamps 11 to 13.
        let expected = if change == L1Update::Lost { 3 } else { 2 };
        assert_eq!(rig.unelected().await, expected, "{change:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn replaced_anchors_take_their_blocks_with_them() {
    let mut rig = Rig::new().await;
    rig.update(L1Update::Reorg { lowest: 0 }).await;
    let gone = rig.node.until(|event| match event {
        SdkEvent::L1Reorg { affected, .. } => Some(affected.len()),
        _ => None,
    });
    assert_eq!(gone.await, 3);
    assert_eq!(rig.head(), None);
}

#[tokio::test(start_paused = true)]
async fn following_l1_ends_with_the_view_and_with_the_client() {
    let rig = Rig::new().await;
    drop(rig.updates);
    rig.following.await.unwrap().unwrap();
    let rig = Rig::new().await;
    rig.node.client.shutdown().await.unwrap();
    assert!(matches!(rig.following.await.unwrap(), Err(P2pClientError::Closed)));
}
