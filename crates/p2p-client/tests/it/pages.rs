//! Gossip while pages are authenticated.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use p2p_storage::MemoryStorage;
use p2p_types::{SdkEvent, UnixSeconds};
use p2p_validation::{Admission, Lookahead, LookaheadError, RotatingSchedule, Slot};
use tokio::{sync::Notify, time::timeout};

use super::world::{BASE, Block, Node, Tcp, Voice, preconfer, schedule};

/// A schedule that answers nothing about the first seconds until it is told to.
struct Gate {
    schedule: Arc<RotatingSchedule>,
    asked: Notify,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    const SHUT_BEFORE: UnixSeconds = UnixSeconds::new(1_000);
    /// Never waited for where all is well.
    const DEADLINE: Duration = Duration::from_secs(60);

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

struct Gated(Arc<Gate>);

impl Lookahead for Gated {
    fn turn(&self, moment: UnixSeconds) -> Result<Option<Slot>, LookaheadError> {
        Ok(self.0.schedule.turn(moment))
    }

    fn admissible(&self, timestamp: UnixSeconds, end: UnixSeconds) -> Result<Admission, LookaheadError> {
        if timestamp < Gate::SHUT_BEFORE {
            self.0.asked.notify_one();
            let open = self.0.open.lock().unwrap();
            drop(self.0.opened.wait_timeout_while(open, Gate::DEADLINE, |open| !*open).unwrap());
        }
        self.0.schedule.admissible(timestamp, end)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commitment_of_gossip_does_not_wait_for_a_page() {
    let gate = Arc::new(Gate {
        schedule: schedule(),
        asked: Notify::new(),
        open: Mutex::new(false),
        opened: Condvar::new(),
    });
    let world = &Tcp;
    let a = Node::start(world, 1).await;
    // More than are authenticated at once.
    let chain = Block::chain(20);
    for block in &chain {
        a.publish(block).await;
    }
    // Its gossip has nothing left of them: they come in pages alone.
    let a = Node::back(world, a.stop().await).await;
    let storage = Arc::<MemoryStorage>::default();
    let mut b = Node::with_schedule(world, 2, storage, Arc::new(Gated(Arc::clone(&gate))), |_| ()).await;
    b.client.chain().l2_synced(BASE).await.unwrap();
    let voice = Voice::start(world, 3, &[&b]).await;
    b.dial(&a).await;
    timeout(Gate::DEADLINE, gate.asked.notified()).await.unwrap();
    // Nobody can have answered about the page: it is still being authenticated.
    let live = Block::with(None, 1, Gate::SHUT_BEFORE.get(), &preconfer());
    voice.commit(&live).await;
    b.until(|event| {
        matches!(event, SdkEvent::Commitment { commitment, .. } if commitment.hash() == live.hash())
            .then_some(())
    })
    .await;
    assert!(!*gate.open.lock().unwrap());
    gate.open();
    let head = chain.last().unwrap().hash();
    b.until(|event| matches!(event, SdkEvent::Head { head: Some(top) } if top.hash == head).then_some(()))
        .await;
}
