use std::sync::Mutex;

use alloy_primitives::{Bytes, keccak256};

use super::*;
use crate::l2::rpc::RawBlock;

/// An execution node in memory.
#[derive(Default)]
struct Node {
    state: Mutex<State>,
}

#[derive(Default, Clone)]
struct State {
    /// Salts of the blocks, by height: another salt is another block.
    chain: Vec<u64>,
    settled: Option<u64>,
    serves_origin: bool,
    syncing: bool,
    /// Why every call fails.
    down: bool,
    /// Which endpoint it is, and which one answers the second question of a poll.
    endpoint: usize,
    fails_over_to: Option<usize>,
    calls: usize,
}

impl Node {
    /// A chain up to a height, of which some is settled.
    fn new(height: usize, settled: u64) -> Self {
        let node = Self::default();
        node.set(|state| {
            state.chain = vec![0; height + 1];
            (state.settled, state.serves_origin) = (Some(settled), true);
        });
        node
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    fn ask(&self) -> Result<State, L1Error> {
        let mut state = self.state.lock().unwrap();
        state.calls += 1;
        if state.down { Err(L1Error::Unavailable) } else { Ok(state.clone()) }
    }

    fn at(&self, number: u64) -> Option<L1Head> {
        let state = self.state.lock().unwrap();
        let salt = *state.chain.get(usize::try_from(number).unwrap())?;
        let hash = keccak256([number.to_be_bytes(), salt.to_be_bytes()].concat());
        Some(L1Head { number, hash, parent: B256::ZERO, timestamp: 1_000 + number })
    }
}

impl L2 for Node {
    fn endpoint(&self) -> usize {
        self.state.lock().unwrap().endpoint
    }

    async fn origin(&self) -> Result<Option<u64>, L1Error> {
        let state = self.ask()?;
        let refused = L1Error::Refused { code: NO_METHOD, message: "".into() };
        if state.serves_origin { Ok(state.settled) } else { Err(refused) }
    }

    async fn safe(&self) -> Result<Option<L1Head>, L1Error> {
        Ok(self.ask()?.settled.and_then(|number| self.at(number)))
    }

    async fn header(&self, number: u64) -> Result<Option<L1Head>, L1Error> {
        self.ask()?;
        self.set(|state| state.endpoint = state.fails_over_to.take().unwrap_or(state.endpoint));
        Ok(self.at(number))
    }

    async fn reached(&self) -> Result<u64, L1Error> {
        Ok(self.ask()?.chain.len() as u64 - 1)
    }

    async fn is_syncing(&self) -> Result<bool, L1Error> {
        Ok(self.ask()?.syncing)
    }

    async fn block(&self, _: u64) -> Result<Option<RawBlock>, L1Error> {
        unreachable!("the tracker reads no blocks")
    }

    async fn first_input(&self, _: B256) -> Result<Option<Bytes>, L1Error> {
        unreachable!("the tracker reads no blocks")
    }

    async fn came(&self, head: L1Head) -> Result<L1Head, L1Error> {
        Ok(head)
    }
}

const REGRESS_AFTER: RegressAfter =
    RegressAfter { same: Duration::from_secs(36), other: Duration::from_secs(384) };

/// A tracker, asked every 4 s.
struct Rig {
    tracker: Tracker,
    at: Moment,
}

impl Rig {
    fn new() -> Self {
        let at = Moment { now: Instant::now(), unix: UnixSeconds::new(5_000) };
        Self { tracker: Tracker::new(REGRESS_AFTER), at }
    }

    async fn poll(&mut self, node: &Node) -> Result<Option<L2Tip>, L1Error> {
        self.at.now += Duration::from_secs(4);
        self.at.unix = self.at.unix.saturating_add(Duration::from_secs(4));
        let polled = self.tracker.poll(node, self.at).await;
        if polled.is_err() {
            self.tracker.interrupted();
        }
        polled
    }

    /// The number of the tip that is told, if one is.
    async fn told(&mut self, node: &Node) -> Option<u64> {
        self.poll(node).await.unwrap().map(|tip| tip.number)
    }
}

#[tokio::test]
async fn a_settled_block_is_told_once_and_then_each_newer_one() {
    let (mut rig, node) = (Rig::new(), Node::new(20, 10));
    let tip = rig.poll(&node).await.unwrap().unwrap();
    assert_eq!(tip, L2Tip { number: 10, hash: node.at(10).unwrap().hash, synced: true, lower_at: None });
    assert_eq!(rig.told(&node).await, None);
    node.set(|state| state.settled = Some(13));
    let tip = rig.poll(&node).await.unwrap().unwrap();
    assert_eq!((tip.number, tip.lower_at), (13, Some(UnixSeconds::new(5_008))), "10 was asked last then");
    assert_eq!(rig.tracker.seen.map(|seen| (seen.number, seen.at.get())), Some((13, 5_012)));
}

#[tokio::test]
async fn safe_is_asked_where_the_origin_is_not_served() {
    let (mut rig, node) = (Rig::new(), Node::new(20, 10));
    node.set(|state| state.serves_origin = false);
    assert_eq!(rig.told(&node).await, Some(10));
    assert_eq!(rig.tracker.source, Some(SettledSource::Safe));
    let before = node.state.lock().unwrap().calls;
    assert_eq!(rig.told(&node).await, None);
    assert_eq!(node.state.lock().unwrap().calls - before, 1, "one call each time");
    // After an outage it may be another node.
    node.set(|state| state.down = true);
    assert!(rig.poll(&node).await.is_err());
    node.set(|state| (state.down, state.serves_origin) = (false, true));
    assert_eq!(rig.told(&node).await, None);
    assert_eq!(rig.tracker.source, Some(SettledSource::HeadL1Origin));
}

#[tokio::test]
async fn nothing_is_told_before_something_is_settled() {
    let (mut rig, node) = (Rig::new(), Node::new(20, 10));
    node.set(|state| state.settled = None);
    assert_eq!(rig.told(&node).await, None);
    node.set(|state| state.settled = Some(1));
    assert_eq!(rig.told(&node).await, Some(1));
}

#[tokio::test]
async fn l2_is_synced_once_the_node_has_reached_what_is_settled() {
    let (mut rig, node) = (Rig::new(), Node::new(20, 10));
    node.set(|state| state.syncing = true);
    assert_eq!(rig.poll(&node).await.unwrap().map(|tip| tip.synced), Some(false));
    assert_eq!(rig.told(&node).await, None);
    node.set(|state| state.syncing = false);
    let tip = rig.poll(&node).await.unwrap().unwrap();
    assert_eq!((tip.number, tip.synced), (10, true));
    assert_eq!(rig.told(&node).await, None);
}

#[tokio::test]
async fn what_l2_takes_back_is_told_down_to_what_still_stands() {
    let (mut rig, node) = (Rig::new(), Node::new(60, 10));
    for settled in [10, 20, 30, 40, 50] {
        node.set(|state| state.settled = Some(settled));
        assert_eq!(rig.told(&node).await, Some(settled));
    }
    rig.tracker.remember(25, node.at(25).unwrap().hash);
    for (changed, stands, settled) in [(45, 40, 50), (26, 25, 55), (5, 9, 56)] {
        node.set(|state| {
            state.settled = Some(settled);
            state.chain[changed..].fill(settled);
        });
        let back = rig.poll(&node).await.unwrap().unwrap();
        assert_eq!((back.number, back.hash), (stands, node.at(stands).unwrap().hash), "{changed}");
        let tip = rig.poll(&node).await.unwrap().unwrap();
        assert_eq!((tip.number, tip.hash), (settled, node.at(settled).unwrap().hash));
    }
    assert_eq!(rig.tracker.reorgs, 3);
}

#[tokio::test]
async fn a_lower_tip_of_the_same_chain_is_believed_after_a_while() {
    let (mut rig, node) = (Rig::new(), Node::new(60, 20));
    assert_eq!(rig.told(&node).await, Some(20));
    node.set(|state| state.settled = Some(18));
    for _ in 0..9 {
        assert_eq!(rig.told(&node).await, None);
    }
    assert_eq!(rig.told(&node).await, Some(18), "36 s have passed");
    node.set(|state| state.settled = Some(15));
    assert_eq!(rig.told(&node).await, None);
    node.set(|state| state.settled = Some(19));
    assert_eq!(rig.told(&node).await, Some(19), "it was catching up");
    assert_eq!(rig.tracker.reorgs, 1);
}

#[tokio::test]
async fn another_endpoint_that_is_behind_takes_nothing_back() {
    let (mut rig, node) = (Rig::new(), Node::new(60, 20));
    assert_eq!(rig.told(&node).await, Some(20));
    node.set(|state| (state.endpoint, state.settled) = (1, Some(18)));
    for _ in 0..96 {
        assert_eq!(rig.told(&node).await, None);
    }
    // A third one begins anew.
    node.set(|state| state.endpoint = 2);
    for _ in 0..96 {
        assert_eq!(rig.told(&node).await, None);
    }
    node.set(|state| state.settled = Some(21));
    assert_eq!(rig.told(&node).await, Some(21));
    // What one endpoint has made up, another one takes back in the end.
    node.set(|state| (state.endpoint, state.settled) = (1, Some(19)));
    for _ in 0..96 {
        assert_eq!(rig.told(&node).await, None);
    }
    assert_eq!(rig.told(&node).await, Some(19));
}

#[tokio::test]
async fn a_node_that_synchronizes_itself_anew_takes_nothing_back() {
    let (mut rig, node) = (Rig::new(), Node::new(60, 20));
    assert_eq!(rig.told(&node).await, Some(20));
    node.set(|state| state.down = true);
    assert!(rig.poll(&node).await.is_err());
    node.set(|state| (state.down, state.syncing, state.settled) = (false, true, Some(3)));
    for _ in 0..100 {
        assert_eq!(rig.told(&node).await, None);
    }
    node.set(|state| state.syncing = false);
    assert_eq!(rig.told(&node).await, Some(3), "this is all that it has");
}

#[tokio::test]
async fn what_two_endpoints_answer_together_is_not_believed() {
    let (mut rig, node) = (Rig::new(), Node::new(60, 20));
    node.set(|state| state.fails_over_to = Some(1));
    assert_eq!(rig.poll(&node).await, Err(L1Error::Moved));
    assert_eq!((rig.tracker.seen, rig.told(&node).await), (None, Some(20)));
}

#[tokio::test]
async fn after_an_outage_nothing_is_said_of_when_a_block_was_settled() {
    let (mut rig, node) = (Rig::new(), Node::new(60, 20));
    assert_eq!(rig.told(&node).await, Some(20));
    assert_eq!(rig.told(&node).await, None);
    node.set(|state| state.down = true);
    for _ in 0..150 {
        assert_eq!(rig.poll(&node).await, Err(L1Error::Unavailable));
    }
    node.set(|state| (state.down, state.settled) = (false, Some(30)));
    let tip = rig.poll(&node).await.unwrap().unwrap();
    assert_eq!((tip.number, tip.lower_at), (30, None));
    node.set(|state| state.settled = Some(31));
    assert!(rig.poll(&node).await.unwrap().unwrap().lower_at.is_some());
}

#[tokio::test]
async fn a_tip_whose_blocks_could_not_be_read_is_told_again() {
    let (mut rig, node) = (Rig::new(), Node::new(60, 20));
    assert_eq!(rig.told(&node).await, Some(20));
    node.set(|state| state.settled = Some(22));
    let first = rig.poll(&node).await.unwrap().unwrap();
    rig.tracker.tell_again();
    assert_eq!(rig.poll(&node).await.unwrap(), Some(first));
    assert_eq!(rig.told(&node).await, None);
}

#[tokio::test]
async fn what_was_taken_back_is_told_until_it_could_be_read() {
    let (mut rig, node) = (Rig::new(), Node::new(60, 4));
    for settled in [4, 10] {
        node.set(|state| state.settled = Some(settled));
        assert_eq!(rig.told(&node).await, Some(settled));
    }
    node.set(|state| {
        state.settled = Some(12);
        state.chain[5..].fill(1);
    });
    assert_eq!(rig.told(&node).await, Some(4));
    rig.tracker.tell_again();
    assert_eq!(rig.told(&node).await, Some(4), "not 12, above which nothing would be judged again");
    assert_eq!(rig.told(&node).await, Some(12));
}

#[tokio::test]
async fn a_node_that_begins_to_synchronize_itself_takes_nothing_back() {
    let (mut rig, node) = (Rig::new(), Node::new(60, 20));
    assert_eq!(rig.told(&node).await, Some(20));
    // It has answered all the time.
    node.set(|state| (state.syncing, state.settled) = (true, Some(3)));
    for _ in 0..100 {
        assert_eq!(rig.told(&node).await, None);
    }
}

#[tokio::test]
async fn a_bounded_number_of_blocks_is_remembered() {
    let mut tracker = Tracker::new(REGRESS_AFTER);
    for number in 0..REMEMBERED as u64 + 10 {
        tracker.remember(number, B256::ZERO);
    }
    assert_eq!(
        (tracker.known.len(), tracker.known.first_key_value().map(|(lowest, _)| *lowest)),
        (REMEMBERED, Some(10))
    );
}

#[tokio::test]
async fn what_was_settled_before_a_restart_is_not_taken_back_at_once() {
    let (mut rig, node) = (Rig::new(), Node::new(20, 10));
    rig.tracker.resume(12);
    assert_eq!(rig.told(&node).await, None);
    // It was only behind.
    node.set(|state| state.settled = Some(12));
    assert_eq!(rig.told(&node).await, Some(12));
    let mut rig = Rig::new();
    rig.tracker.resume(13);
    node.set(|state| state.syncing = true);
    for _ in 0..200 {
        assert_eq!(rig.told(&node).await, None, "it synchronizes itself");
    }
    node.set(|state| state.syncing = false);
    assert_eq!((rig.told(&node).await, rig.tracker.reorgs), (Some(12), 1), "and has said so for long enough");
}
