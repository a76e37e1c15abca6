//! What happens to a network, and whether its nodes agree about it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use alloy_primitives::hex;
use p2p_fixtures::{
    key,
    node::{Node, now, within},
    sign,
};
use preconfirmation_types::{Address, B256, Container as _, Preconfirmation, U256, keccak256};
use serde::Serialize;
use serde_json::{Value, json};

use crate::network::{Generation, Network, OPERATORS, SETTLED, address};

/// A transaction list without transactions: zlib of an empty RLP list.
const NO_TRANSACTIONS: [u8; 9] = [0x78, 0x9c, 0x3b, 0, 0, 0, 0xc1, 0, 0xc1];

/// Blocks of L1 by which anchors are behind its head: more than the reorg replaces.
const ANCHORED: u64 = 8;

/// The L1 blocks that the reorg replaces.
const REORG: u64 = 3;

/// What became of a network.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Blocks that were published.
    blocks: u64,
    /// Those of them that both nodes have in their chains, or have both taken out.
    agreed: u64,
    /// Those that both have taken out, because L1 has replaced what elected their signers.
    unelected: u64,
    /// Turns that the statuses of both nodes have told at the same time.
    turns: u64,
    /// Windows that a preconfer has ended by a handover (EOP).
    handovers: u64,
    /// Reorgs of L1 that both nodes have seen.
    reorgs: u64,
    /// Peers that were seen with a score below zero, or banned.
    penalties: u64,
    /// Blocks of which L2 has shown to both nodes that they were settled.
    settled: u64,
    /// Those of them that both nodes say are as promised.
    kept: u64,
    /// Questions to L1 in an epoch of 32 blocks, of the node that asks more.
    calls_per_epoch: u64,
}

impl Report {
    pub(crate) const fn is_good(&self) -> bool {
        let all = self.blocks > 0
            && self.agreed == self.blocks
            && self.unelected > 0
            && self.unelected < self.blocks;
        let kept = self.settled > 0 && self.kept == self.settled;
        // The first operator's turn comes back after the removal, the second one's after the reorg.
        let told = self.turns >= 5 && self.turns >= self.handovers;
        all && kept && told && self.handovers >= 3 && self.reorgs == 1 && self.penalties == 0
    }
}

/// A window and whose it is, as a node tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turn {
    operator: u8,
    end: u64,
}

impl Turn {
    fn now(status: &Value) -> Option<Self> {
        let turn = &status["schedule"]["now"];
        let signer: Address = turn["signer"].as_str()?.parse().ok()?;
        let operator = OPERATORS.into_iter().find(|operator| address(*operator) == signer)?;
        Some(Self { operator, end: turn["end"].as_u64()? })
    }
}

/// The last settled block that a node has heard of; 0 if none.
fn settled(status: &Value) -> u64 {
    status["l2"]["seen"]["number"].as_u64().unwrap_or_default()
}

/// How many promises a node has seen the end of.
fn told(status: &Value) -> u64 {
    ["kept", "broken", "unproven"].iter().filter_map(|of| status["promises"][of].as_u64()).sum()
}

struct Play {
    network: Network,
    /// The first one publishes for the first operator, the second one for the second.
    nodes: [Node; 2],
    /// What was signed, in order.
    signed: Vec<B256>,
    /// The timestamps of what was signed.
    timestamps: BTreeMap<String, u64>,
    gas_limit: u64,
    /// Windows that were handed over.
    handed_over: BTreeSet<u64>,
    anchor: u64,
    /// Whose turn both statuses have told, and until when.
    turns: BTreeSet<(u64, u8)>,
    penalised: BTreeSet<String>,
}

/// Plays everything for a generation.
pub(crate) fn run(generation: Generation, program: &Path) -> Report {
    let network = Network::new(generation);
    let first = network.epoch() + 2;
    // The stores elect in the second and the third epoch; in the others the whitelist does.
    for (epoch, operator) in (first..).zip([1, 2, 1, 2, 2]) {
        network.draw(epoch, operator);
    }
    let mut play = Play::new(network, program);
    play.publish_until(first);
    play.network.post(first + 1, &[(1, 8), (2, 16), (1, 24), (2, 31)]);
    play.publish_until(first + 1);
    let (calls, epoch) = (play.calls(), play.network.epoch());
    play.network.post(first + 2, &[(2, 16), (1, 31)]);
    play.publish_until(first + 3);
    let asked = play.calls().into_iter().zip(calls).map(|(after, before)| after - before);
    let epochs = play.network.epoch() - epoch;
    let calls_per_epoch = asked.max().unwrap_or_default().div_ceil(epochs.max(1));

    // The second operator has this epoch, until it is removed.
    play.publish_for(6);
    play.settle();
    let removed = play.network.remove(2);
    play.until_turn_of(1);
    let replacement = play.signed.len();
    play.publish_for(1);
    // L1 takes the removal back, and with it what the first operator has signed since.
    within("blocks of L1", || (play.network.anvil.height() + 1 >= removed + REORG).then_some(()));
    let replaced = play.network.anvil.replace_from(removed);
    assert!(replaced >= REORG, "{replaced}");
    // The second operator builds on none of that: it could not sign these heights again once they fall.
    play.until_unelected(replacement);
    play.until_turn_of(2);
    play.publish_until(first + 4);
    play.publish_for(4);
    play.report(calls_per_epoch)
}

impl Play {
    fn new(network: Network, program: &Path) -> Self {
        let (file, ws) = (network.file().to_string_lossy().into_owned(), network.anvil.ws());
        let l2 = network.l2.http();
        let node = || {
            let mut command = Command::new(program);
            command.args(["run", "--p2p.listen.ip", "127.0.0.1", "--p2p.listen.tcp", "0"]);
            command.args(["--network", &file, "--l1.rpc", &ws, "--l2.rpc", &l2]);
            command
        };
        let first = Node::start(&mut node(), &network.path("blocks-1"));
        let join = ["--p2p.static", &first.listen];
        let second = Node::start(node().args(join), &network.path("blocks-2"));
        let nodes = [first, second];
        for node in &nodes {
            within("a schedule", || Turn::now(&node.status()));
            assert_eq!(node.status()["l1"]["generation"], network.generation.name());
            within("the base", || (settled(&node.status()) == SETTLED).then_some(()));
        }
        let latest = network.l2.rpc("eth_getBlockByNumber", json!(["latest", false]));
        let gas_limit = latest["gasLimit"].as_str().unwrap().trim_start_matches("0x");
        let gas_limit = u64::from_str_radix(gas_limit, 16).unwrap();
        Self {
            network,
            nodes,
            signed: Vec::new(),
            timestamps: BTreeMap::new(),
            gas_limit,
            handed_over: BTreeSet::new(),
            anchor: 0,
            turns: BTreeSet::new(),
            penalised: BTreeSet::new(),
        }
    }

    /// Publishes a block a second until an epoch begins.
    fn publish_until(&mut self, epoch: u64) {
        while self.network.epoch() < epoch {
            self.publish_one();
        }
    }

    /// Publishes for so many seconds.
    fn publish_for(&mut self, seconds: u64) {
        let end = now() + seconds;
        let signed = self.signed.len();
        // At least one, however busy the machine is.
        while now() < end || self.signed.len() == signed {
            self.publish_one();
        }
    }

    /// Waits until both nodes tell that it is an operator's turn.
    fn until_turn_of(&mut self, operator: u8) {
        within("a turn", || self.agreed_turn().filter(|turn| turn.operator == operator));
    }

    /// Waits until both nodes have taken out all that was signed after so many.
    fn until_unelected(&self, signed: usize) {
        for hash in self.signed.iter().skip(signed).map(B256::to_string) {
            for node in &self.nodes {
                let taken_out = || node.shown(|shown| shown.unelected.contains(&hash)).then_some(());
                within("a block that is elected no more", taken_out);
            }
        }
    }

    /// Whose turn it is now, if both nodes say the same and have the same head.
    fn agreed_turn(&mut self) -> Option<Turn> {
        let statuses = self.nodes.each_ref().map(Node::status);
        for peer in statuses.iter().flat_map(|status| status["peers"].as_array().into_iter().flatten()) {
            if peer["score"].as_f64().is_some_and(|score| score < 0.0) || !peer["banned_for"].is_null() {
                self.penalised.insert(peer["peer"].to_string());
            }
        }
        let [first, second] = statuses.each_ref().map(Turn::now);
        let agree = first == second && statuses[0]["head"] == statuses[1]["head"];
        let turn = first.filter(|_| agree)?;
        self.turns.insert((turn.end, turn.operator));
        Some(turn)
    }

    /// Publishes the next block of whoever both nodes say it is the turn of, if there is time for it, and waits until both
    /// have it.
    fn publish_one(&mut self) {
        let Some(turn) = self.agreed_turn() else { return thread::sleep(Duration::from_millis(50)) };
        let head = self.nodes[0].status()["head"].clone();
        let (number, parent) = match head["number"].as_u64() {
            Some(number) => (number, head["hash"].as_str().unwrap_or_default().parse().unwrap()),
            None => (SETTLED, B256::ZERO),
        };
        self.anchor = self.anchor.max(self.network.anvil.height().saturating_sub(ANCHORED));
        let timestamp = now();
        if timestamp > turn.end || self.handed_over.contains(&turn.end) {
            return thread::sleep(Duration::from_millis(50));
        }
        // The last block of a window hands it over.
        let eop = timestamp + 1 >= turn.end;
        let preconf = Preconfirmation {
            eop,
            block_number: U256::from(number + 1),
            timestamp: U256::from(timestamp),
            gas_limit: U256::from(self.gas_limit),
            anchor_block_number: U256::from(self.anchor),
            submission_window_end: U256::from(turn.end),
            raw_tx_list_hash: keccak256(NO_TRANSACTIONS),
            parent_preconfirmation_hash: parent,
            ..Default::default()
        };
        let hash = preconf.hash();
        let commitment = hex::encode(sign(&key(turn.operator), preconf).to_ssz());
        let line = json!({ "commitment": commitment, "txlist": hex::encode(NO_TRANSACTIONS) }).to_string();
        self.nodes[usize::from(turn.operator) - 1].publish(&line);
        self.signed.push(hash);
        self.timestamps.insert(hash.to_string(), timestamp);
        if eop {
            self.handed_over.insert(turn.end);
        }
        for node in &self.nodes {
            let shown = hash.to_string();
            within("a block", || {
                node.shown(|shown_by| shown_by.chain.get(&(number + 1)) == Some(&shown)).then_some(())
            });
        }
        // Rules want time to grow from block to block.
        while now() == timestamp {
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// L2 takes in what was promised, as it was.
    fn settle(&mut self) {
        let chain = self.nodes[0].shown(|shown| shown.chain.clone());
        let timestamps = &self.timestamps;
        self.network.settle(|from| chain.range(from..).map(|(_, hash)| timestamps[hash]).collect());
    }

    /// Questions to L1 so far, of each node.
    fn calls(&self) -> [u64; 2] {
        self.nodes.each_ref().map(|node| node.status()["l1"]["calls"].as_u64().unwrap_or_default())
    }

    fn report(mut self, calls_per_epoch: u64) -> Report {
        within("one head", || self.agreed_turn().map(drop).or_else(|| self.same_heads()));
        self.settle();
        let height = self.network.l2.height() - 1;
        for node in &self.nodes {
            within("what is settled", || (told(&node.status()) >= height - SETTLED).then_some(()));
        }
        let kept = self.nodes.each_ref().map(|node| node.status()["promises"]["kept"].as_u64());
        let [first, second] = self.nodes.each_ref().map(|node| {
            node.shown(|shown| {
                let chain: BTreeSet<String> = shown.chain.values().cloned().collect();
                (chain, shown.unelected.iter().cloned().collect::<BTreeSet<String>>())
            })
        });
        let agrees = |hash: &&B256| {
            let hash = hash.to_string();
            let stands = first.0.contains(&hash) && second.0.contains(&hash);
            stands || (first.1.contains(&hash) && second.1.contains(&hash))
        };
        let reorgs = self.nodes.each_ref().map(|node| node.status()["l1"]["reorgs"].as_u64());
        let [seen, also] = reorgs.map(Option::unwrap_or_default);
        Report {
            blocks: self.signed.len() as u64,
            agreed: self.signed.iter().filter(agrees).count() as u64,
            unelected: first.1.intersection(&second.1).count() as u64,
            turns: self.turns.len() as u64,
            handovers: self.handed_over.len() as u64,
            reorgs: if seen == also { seen } else { 0 },
            penalties: self.penalised.len() as u64,
            settled: height - SETTLED,
            kept: kept.into_iter().flatten().min().unwrap_or_default(),
            calls_per_epoch,
        }
    }

    fn same_heads(&self) -> Option<()> {
        let [first, second] = self.nodes.each_ref().map(|node| node.status()["head"].clone());
        (first == second).then_some(())
    }
}
