//! Branches of elected preconfers beside the chain: which of the claims behind them are heights to reach, and for how long.

use std::collections::{BTreeMap, BTreeSet};

use p2p_catchup::{CatchUpConfig, ImportVerdict, Input, Reply, Request};
use p2p_types::{B256, Head, HeadSyncStatus, PeerId, Stall};
use p2p_validation::Authenticated;

use super::rig::{Ask, Rig};
use crate::chain::{SECOND, Signer, blocks, head, head_of, peer};

/// Where our chain ends.
const OURS: u64 = 12;

/// A chain that leaves ours after `fork`, up to `to`, with ours below.
fn branch(fork: u64, to: u64) -> Vec<Authenticated> {
    let mut chain = blocks(1, fork);
    chain.extend(Signer::new(7).chain(fork + 1, to, chain[fork as usize - 1].hash(), 1));
    chain
}

/// The same, but with our own block above the fork, as peers serve it that keep the last block of each height.
fn mixture(fork: u64, to: u64) -> Vec<Authenticated> {
    let mut chain = branch(fork, to);
    chain[fork as usize] = blocks(fork + 1, fork + 1)[0].clone();
    chain
}

/// Peers that answer at once, and a caller that links what it can.
struct Network {
    rig: Rig,
    /// What each peer has, by height from 1.
    shelves: BTreeMap<PeerId, Vec<Authenticated>>,
    linked: BTreeSet<B256>,
    /// The first height of each page that was asked for.
    pages: Vec<(PeerId, u64)>,
    /// A block that makes its branch the chain once it is linked.
    winner: Option<Head>,
    head: Option<Head>,
}

impl Network {
    /// A node that is live on our chain, with `honest` peers that have the same.
    fn live(honest: u8) -> Self {
        let peers: Vec<PeerId> = (100..100 + honest).map(peer).collect();
        let rig = Rig::live(OURS, &peers);
        Self::with(rig, peers, OURS)
    }

    fn with(rig: Rig, peers: Vec<PeerId>, ours: u64) -> Self {
        let head = head(ours);
        let ours = blocks(1, ours);
        let linked = ours.iter().map(Authenticated::hash).collect();
        let shelves = peers.into_iter().map(|peer| (peer, ours.clone())).collect();
        Self { rig, shelves, linked, pages: Vec::new(), winner: None, head }
    }

    /// A peer comes that has this.
    fn joins(&mut self, n: u8, shelf: Vec<Authenticated>) {
        self.shelves.insert(peer(n), shelf);
        self.rig.peer_up(peer(n));
    }

    fn answer(&mut self, ask: Ask) {
        let shelf = &self.shelves[&ask.to];
        let reply = match ask.request {
            Request::Head => Reply::Head { block: shelf.last().unwrap().block() },
            Request::Page { .. } => {
                let (from, to) = ask.range();
                self.pages.push((ask.to, from));
                let on_it = |block: &&Authenticated| (from..=to).contains(&block.block());
                Reply::Page(shelf.iter().filter(on_it).cloned().collect())
            }
            Request::TxList { .. } => panic!("no list is missing"),
        };
        self.rig.reply(ask, reply);
    }

    fn judge(&mut self, id: p2p_catchup::RequestId, page: &[Authenticated]) {
        let mut verdict = ImportVerdict::Linked;
        for (index, block) in page.iter().enumerate() {
            if block.block() > 1 && !self.linked.contains(&block.parent_hash()) {
                verdict = ImportVerdict::Unlinked { index };
                break;
            }
            self.linked.insert(block.hash());
            if self.winner.is_some_and(|winner| winner.hash == block.hash()) {
                self.head = self.winner;
            }
        }
        self.rig.imported(id, self.head, verdict);
    }

    /// Answers everything that is asked, until nothing is. No time goes by.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            if let Some((id, page)) = self.rig.import_out() {
                self.judge(id, &page);
            } else if let Some(ask) = self.rig.take_any() {
                self.answer(ask);
            } else {
                return;
            }
        }
        panic!("no end of questions: {:?}", self.pages);
    }

    /// Lets time pass in steps of a quarter of a second. In how many of them the node was live.
    fn pass(&mut self, seconds: u32) -> u32 {
        let mut live = 0;
        for _ in 0..4 * seconds {
            self.rig.advance(SECOND / 4);
            self.settle();
            live += u32::from(self.rig.status().is_live());
        }
        live
    }

    /// Waits until a peer is asked for its head.
    fn head_of(&mut self, n: u8) -> Ask {
        for _ in 0..200 {
            while let Some(ask) = self.rig.take_any() {
                if ask.request == Request::Head && ask.to == peer(n) {
                    return ask;
                }
                self.answer(ask);
                self.settle_import();
            }
            self.settle_import();
            self.rig.advance(SECOND / 4);
        }
        panic!("nobody asks");
    }

    fn settle_import(&mut self) {
        if let Some((id, page)) = self.rig.import_out() {
            self.judge(id, &page);
        }
    }

    fn pages_of(&self, n: u8) -> usize {
        self.pages.iter().filter(|(of, _)| *of == peer(n)).count()
    }

    fn expect_live_all_the_time(&mut self, seconds: u32) {
        assert_eq!(self.pass(seconds), 4 * seconds, "{}", self.rig.status());
        self.rig.expect_no_reports();
    }
}

#[test]
fn a_losing_branch_that_is_here_is_no_height_to_reach() {
    let mut network = Network::live(2);
    network.joins(1, branch(10, 20));
    network.settle();
    network.rig.expect_live(OURS);
    // Its peer repeats its claim, and is asked for its branch again now and then.
    network.expect_live_all_the_time(120);
    let pages = network.pages_of(1);
    assert!((8..40).contains(&pages), "{pages}");
}

#[test]
fn a_branch_without_ancestors_is_dismissed_after_one_search() {
    let mut network = Network::live(2);
    network.joins(1, mixture(9, 16));
    network.settle();
    network.rig.expect_live(OURS);
    let first: Vec<u64> = network.pages.iter().map(|(_, from)| *from).collect();
    assert_eq!(first, [13, 12, 11, 9, 11]);
    // No search that is made again ends live.
    network.expect_live_all_the_time(120);
    assert!(network.pages_of(1) > 2 * first.len(), "it is made again");
}

#[test]
fn a_dismissed_claim_does_not_invalidate_other_heads() {
    let mut network = Network::live(2);
    network.joins(1, mixture(9, 16));
    while let Some(ask) = network.rig.take_any() {
        assert!(ask.request != Request::Head || ask.to == peer(1), "{ask:?}");
        network.answer(ask);
        network.settle_import();
    }
    network.rig.expect_live(OURS);
}

#[test]
fn a_branch_that_grows_costs_a_page_a_claim_and_no_search() {
    let mut network = Network::live(1);
    network.joins(1, mixture(9, 13));
    network.settle();
    for last in 14..17 {
        let ask = network.head_of(1);
        let before = network.pages.len();
        network.shelves.insert(peer(1), mixture(9, last));
        network.answer(ask);
        network.settle();
        let asked: Vec<u64> = network.pages[before..].iter().map(|(_, from)| *from).collect();
        assert_eq!(asked, [13], "up to {last}");
        network.rig.expect_live(OURS);
    }
}

#[test]
fn another_claim_of_the_same_peer_counts() {
    let mut network = Network::live(2);
    network.joins(1, branch(10, 20));
    network.settle();
    for claim in [19, 21] {
        let ask = network.head_of(1);
        network.rig.claim(ask, claim);
        assert!(
            matches!(network.rig.status(), HeadSyncStatus::Syncing { target, .. } if target == claim),
            "{}",
            network.rig.status()
        );
        network.settle();
    }
}

#[test]
fn the_blocks_of_one_signer_keep_from_live_for_three_searches() {
    let mut network = Network::live(2);
    for n in 1..=3 {
        network.joins(n, mixture(9, 16));
        let ask = network.rig.take_any().unwrap();
        network.answer(ask);
        network.rig.expect_syncing();
        network.settle();
        network.rig.expect_live(OURS);
    }
    // The fourth peer is searched too, but its first page is enough to be live.
    network.joins(4, mixture(9, 16));
    let ask = network.rig.take_any().unwrap();
    network.answer(ask);
    let ask = network.rig.expect_page(13..);
    network.answer(ask);
    let (id, page) = network.rig.import_out().unwrap();
    network.judge(id, &page);
    network.rig.expect_live(OURS);
    network.settle();
    assert_eq!(network.pages_of(4), 5);
    network.expect_live_all_the_time(60);
}

#[test]
fn a_search_that_finds_the_fork_gives_its_signer_three_more() {
    let mut network = Network::live(2);
    for n in 1..=3 {
        network.joins(n, mixture(9, 16));
        network.settle();
    }
    // The fourth peer has all of it, and it wins.
    let other = branch(9, 16);
    network.winner = Some(head_of(&other[15]));
    network.joins(4, other.clone());
    network.settle();
    network.pass(2);
    assert_eq!(network.rig.status(), HeadSyncStatus::Live { head: network.winner });
    network.winner = None;
    network.linked.retain(|hash| other.iter().any(|block| block.hash() == *hash));
    let mut third = Signer::new(7).chain(10, 20, other[8].hash(), 2);
    third.remove(0);
    network.joins(5, [&other[..10], &third].concat());
    let ask = network.rig.take_any().unwrap();
    network.answer(ask);
    let ask = network.rig.expect_page(17..);
    network.answer(ask);
    let (id, page) = network.rig.import_out().unwrap();
    network.judge(id, &page);
    network.rig.expect_syncing();
    network.settle();
    assert_eq!(network.rig.status(), HeadSyncStatus::Live { head: Some(head_of(&other[15])) });
}

#[test]
fn another_branch_of_a_dismissed_height_is_found() {
    for fork in [9, 11] {
        let mut network = Network::live(2);
        network.joins(1, mixture(9, 16));
        network.settle();
        network.rig.expect_live(OURS);
        // The peer has changed to the branch that wins; it is as long.
        let other = Signer::new(7).chain(fork + 1, 16, blocks(fork, fork)[0].hash(), 2);
        let winner = head_of(other.last().unwrap());
        network.winner = Some(winner);
        network.shelves.insert(peer(1), [blocks(1, fork), other].concat());
        network.pass(32);
        assert_eq!(network.rig.status(), HeadSyncStatus::Live { head: Some(winner) });
    }
}

#[test]
fn found_ancestors_make_dismissed_claims_count_again() {
    let mut network = Network::live(2);
    network.joins(1, mixture(9, 20));
    network.settle();
    network.rig.expect_live(OURS);
    // Another peer has all of it but for the end, and it wins already.
    let other = branch(9, 16);
    network.winner = Some(head_of(&other[15]));
    network.joins(2, other);
    let longer = branch(9, 20);
    for _ in 0..100 {
        if let Some((id, page)) = network.rig.import_out() {
            network.judge(id, &page);
            if network.head == network.winner {
                break;
            }
        } else if let Some(ask) = network.rig.take_any() {
            network.answer(ask);
        }
    }
    assert!(
        matches!(network.rig.status(), HeadSyncStatus::Syncing { target: 20, .. }),
        "{}",
        network.rig.status()
    );
    network.winner = Some(head_of(&longer[19]));
    network.settle();
    network.pass(2);
    assert_eq!(network.rig.status(), HeadSyncStatus::Live { head: network.winner });
}

#[test]
fn a_node_whose_only_peer_has_a_losing_branch_is_live() {
    let mut network = Network::live(1);
    network.joins(1, branch(10, 16));
    network.rig.input(Input::PeerDown(peer(100)));
    network.settle();
    network.pass(15);
    network.rig.expect_live(OURS);
    network.expect_live_all_the_time(60);
}

#[test]
fn a_node_with_only_an_unlinked_branch_is_stalled() {
    let mut network = Network::live(1);
    network.joins(1, mixture(9, 16));
    network.rig.input(Input::PeerDown(peer(100)));
    network.settle();
    network.pass(40);
    assert_eq!(network.pass(60), 0);
    network.rig.expect_stalled(Stall::NothingDelivered);
    network.rig.expect_no_reports();
}

/// Its requests had failed, and the other peer is asked at the same time and answers at once.
#[test]
fn the_late_head_of_an_unresponsive_peer_counts_where_all_others_were_dismissed() {
    let mut network = Network::live(1);
    network.joins(1, mixture(9, 16));
    network.settle();
    for _ in 0..160 {
        network.rig.advance(SECOND / 4);
        while let Some(ask) = network.rig.take_any() {
            if ask.to == peer(100) { network.rig.fail(ask) } else { network.answer(ask) }
            network.settle_import();
        }
    }
    network.rig.expect_stalled(Stall::NothingDelivered);
    let late = network.head_of(100);
    network.settle();
    network.rig.expect_stalled(Stall::NothingDelivered);
    network.rig.advance(SECOND);
    network.rig.claim(late, OURS);
    network.rig.expect_live(OURS);
}

#[test]
fn a_dismissed_claim_is_remembered_when_its_peer_comes_back() {
    let mut network = Network::live(2);
    network.joins(1, mixture(9, 16));
    network.settle();
    let pages = network.pages.len();
    for _ in 0..5 {
        network.rig.input(Input::PeerDown(peer(1)));
        network.rig.peer_up(peer(1));
        network.settle();
        network.rig.expect_live(OURS);
    }
    assert_eq!(network.pages.len(), pages);
}

#[test]
fn an_l1_reorg_makes_dismissed_claims_count_again() {
    let mut network = Network::live(2);
    network.joins(1, branch(10, 20));
    network.settle();
    network.head = head(11);
    network.rig.input(Input::Applied { head: head(11) });
    let before = network.pages_of(1);
    network.pass(1);
    assert!(network.pages_of(1) > before);
}

#[test]
fn a_branch_served_beyond_its_claim_is_dismissed_as_a_whole() {
    let mut network = Network::live(2);
    network.joins(1, mixture(9, 15));
    let ask = network.rig.expect_head();
    network.rig.claim(ask, 13);
    network.settle();
    let ask = network.head_of(1);
    network.answer(ask);
    network.rig.expect_live(OURS);
    network.expect_live_all_the_time(20);
}

#[test]
fn a_search_begins_some_blocks_below_the_head() {
    let config = CatchUpConfig::recommended();
    let mut rig = Rig::with(config);
    rig.input(Input::Start { base: 0, head: head(40) });
    rig.peer_up(peer(100));
    rig.all_claim(40);
    let mut network = Network::with(rig, vec![peer(100)], 40);
    network.joins(1, branch(5, 45));
    network.settle();
    let first: Vec<u64> = network.pages.iter().map(|(_, from)| *from).collect();
    assert_eq!(first, [41, 33, 25, 9, 1]);
    network.rig.expect_live(40);
}
