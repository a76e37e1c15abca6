//! A network on an Ethereum node: the contracts of a generation, two operators, and who is elected when.

use std::{
    fs,
    path::{Path, PathBuf},
};

use p2p_fixtures::{Anvil, calls, key, node::now};
use preconfirmation_types::{Address, U256};
use serde_json::{Value, json};

/// Seconds of a slot, and slots of an epoch: short, so that a run of several epochs takes two minutes.
const SLOT: u64 = 1;
const SLOTS: u64 = 32;
const EPOCH: u64 = SLOT * SLOTS;

/// The chain id of L2.
const L2_CHAIN: u64 = 7;

/// L2 blocks that are settled from the start.
pub(crate) const SETTLED: u64 = 9;

/// Which contracts tell the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generation {
    V1,
    V2,
    Whitelist,
}

impl Generation {
    pub(crate) const ALL: [Self; 3] = [Self::V1, Self::V2, Self::Whitelist];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Whitelist => "whitelist",
        }
    }
}

/// The operators, by the numbers of their keys.
pub(crate) const OPERATORS: [u8; 2] = [1, 2];

pub(crate) fn address(operator: u8) -> Address {
    key(operator).address()
}

pub(crate) struct Network {
    pub(crate) anvil: Anvil,
    /// The execution node of L2. Its safe block is the one below its head.
    pub(crate) l2: Anvil,
    /// A snapshot of it at its last settled block, until something is promised.
    start: Option<Value>,
    pub(crate) generation: Generation,
    whitelist: Address,
    /// The lookahead contract, which is the whitelist where there is no store.
    checker: Address,
    inbox: Address,
    genesis: u64,
    folder: tempfile::TempDir,
}

impl Network {
    pub(crate) fn new(generation: Generation) -> Self {
        let anvil = Anvil::start().unwrap();
        let genesis = now();
        let l2 = Anvil::rollup(L2_CHAIN, genesis - 2 * SETTLED, 1).unwrap();
        let mine = |number| l2.mine_at(genesis - 2 * SETTLED + number);
        (1..=SETTLED).for_each(mine);
        let start = Some(l2.rpc("evm_snapshot", json!([])));
        // Makes the block below it a safe one, and gives way to what is promised for its height.
        mine(SETTLED + 1);
        let whitelist = anvil.deploy("Whitelist", U256::from(genesis));
        anvil.send(whitelist, calls::setEpochSecondsCall { seconds_: U256::from(EPOCH) });
        for operator in OPERATORS {
            anvil.send(whitelist, calls::addCall { operator: address(operator) });
        }
        let checker = match generation {
            Generation::Whitelist => whitelist,
            Generation::V1 => anvil.deploy("StoreV1", whitelist),
            Generation::V2 => anvil.deploy("StoreV2", whitelist),
        };
        let inbox = anvil.deploy("Inbox", checker);
        let folder = tempfile::tempdir().unwrap();
        let toml = format!(
            "chain_id = {L2_CHAIN}\ndomain = \"placeholder\"\nslasher = \"0x5151515151515151515151515151515151515151\"\n\n[l1]\n\
             chain_id = 31337\ngenesis = {genesis}\nslot_seconds = {SLOT}\nslots_per_epoch = {SLOTS}\ninbox = \"{inbox}\"\n"
        );
        let network = Self { anvil, l2, start, generation, whitelist, checker, inbox, genesis, folder };
        fs::write(network.file(), toml).unwrap();
        network
    }

    /// The file that describes it to a node.
    pub(crate) fn file(&self) -> PathBuf {
        self.path("network.toml")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        Path::join(self.folder.path(), name)
    }

    /// L2 takes in these blocks, by height, with their timestamps. The last one is not settled yet.
    pub(crate) fn settle(&mut self, blocks: impl Fn(u64) -> Vec<u64>) {
        if let Some(start) = self.start.take() {
            self.l2.rpc("evm_revert", json!([start]));
        }
        let from = self.l2.height() + 1;
        blocks(from).into_iter().for_each(|timestamp| self.l2.mine_at(timestamp));
    }

    pub(crate) fn epoch(&self) -> u64 {
        (now() - self.genesis) / EPOCH
    }

    pub(crate) fn start_of(&self, epoch: u64) -> u64 {
        self.genesis + EPOCH * epoch
    }

    /// Has the whitelist draw an operator for an epoch.
    pub(crate) fn draw(&self, epoch: u64, operator: u8) {
        let draw = calls::drawCall { epoch: U256::from(epoch), operator: address(operator) };
        self.anvil.send(self.whitelist, draw);
    }

    /// Has slots posted for an epoch, where there is a store: who, and in which slot its window ends.
    pub(crate) fn post(&self, epoch: u64, slots: &[(u8, u64)]) {
        let start = self.start_of(epoch);
        let slots: Vec<_> =
            slots.iter().map(|(operator, slot)| (address(*operator), start + SLOT * slot)).collect();
        match self.generation {
            Generation::Whitelist => {}
            Generation::V1 => drop(self.anvil.post(self.checker, start, &slots)),
            Generation::V2 => drop(self.anvil.propose(self.inbox, start, &slots)),
        }
    }

    /// Removes an operator. Returns the height of the block of L1 that does.
    pub(crate) fn remove(&self, operator: u8) -> u64 {
        self.anvil.send(self.whitelist, calls::removeCall { operator: address(operator) })
    }
}
