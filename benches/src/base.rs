//! `update_head` on a long chain: two whole clients with the same unsettled blocks, one of them over a store on disk,
//! whose application declares a newer base every second.
//!
//! A call is timed from the application's side, so it is never less than what the chain's owner spends on it: the command,
//! the change of thread, the store with its sync, and the answer. As the device decides how long a sync takes, a plain one
//! in the same folder is timed after each call.

use std::{
    fs::File,
    io::Write as _,
    num::NonZeroU64,
    sync::Arc,
    time::{Duration, Instant},
};

use p2p_client::{Keypair, P2pClient, P2pClientConfig, Subscription};
use p2p_storage::{DiskConfig, DiskStorage, MemoryStorage, SdkStorage, StorageLimits};
use p2p_types::{Address, Base, SdkEvent, UnixSeconds};
use p2p_validation::{
    Arrival, Facts, Linked, Parent, RotatingSchedule, ValidationConfig, ValidationOutcome, Validator,
};
use preconfirmation_types::{B256, PreconfCommitment, Preconfirmation, SigningKey, TxList, U256};
use serde::Serialize;
use tokio::time::{interval, timeout};

use crate::{DOMAIN, key, txlist};

const CHAIN: u64 = 167_000;
const SLASHER: Address = Address::repeat_byte(0x51);
/// Two signers take turns of so many seconds, with a block each second.
const WINDOW: NonZeroU64 = NonZeroU64::new(32).unwrap();
/// How long anything may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Blocks above the base at the beginning.
    pub blocks: u64,
    /// Calls of `update_head`, each of which settles one block more.
    pub calls: u64,
    /// From one call to the next.
    pub every: Duration,
}

/// What a run came to.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// Calls of `update_head`.
    pub calls: u64,
    /// What the middle one took, in milliseconds.
    pub median_ms: f64,
    /// What the slowest in a hundred took, in milliseconds.
    pub p99_ms: f64,
    /// What the middle one of plain writes of a page with a sync took, in milliseconds.
    pub sync_ms: f64,
    /// What the middle call took beyond that: the owner's own time, and what the database syncs and writes beyond a page.
    pub owner_ms: f64,
    /// How often the status was something else than live from the first time it was.
    pub live_flaps: usize,
}

/// Builds the chain, starts both clients, waits until they are live, and moves the base.
pub async fn measure(effort: Effort) -> Figures {
    let folder = tempfile::tempdir().unwrap();
    let limits = StorageLimits { commitments: 2 * 100_000, ..StorageLimits::default() };
    let config = DiskConfig { limits, ..DiskConfig::recommended(DOMAIN) };
    let disk = Arc::new(DiskStorage::open(folder.path(), config).unwrap());
    let memory = Arc::new(MemoryStorage::new(limits));
    fill(&[&*disk, &*memory], effort.blocks);
    let (measured, peer) = (client(disk, effort).await, client(memory, effort).await);
    let address = peer.network().listen_addrs().await.unwrap().into_iter().next().unwrap();
    measured.network().dial(address).await.unwrap();
    timeout(PATIENCE, measured.network().wait_for_peers(1)).await.unwrap().unwrap();
    let mut events = measured.subscribe();
    for client in [&peer, &measured] {
        client.chain().l2_synced(Base::at(0)).await.unwrap();
    }
    timeout(PATIENCE, live(&mut events)).await.unwrap();
    let flaps = tokio::spawn(flaps(events));
    let (mut times, mut syncs) = (Vec::new(), Vec::new());
    let mut plain = File::create(folder.path().join("plain")).unwrap();
    let mut ticks = interval(effort.every.max(Duration::from_millis(1)));
    for number in 1..=effort.calls {
        ticks.tick().await;
        let start = Instant::now();
        measured.chain().update_head(Base::at(number)).await.unwrap();
        times.push(start.elapsed().as_secs_f64() * 1_000.0);
        let start = Instant::now();
        plain.write_all(&[0; 4096]).unwrap();
        plain.sync_data().unwrap();
        syncs.push(start.elapsed().as_secs_f64() * 1_000.0);
    }
    let head = measured.chain().head().unwrap();
    assert_eq!(head.number, effort.blocks, "nothing above the base has gone");
    assert!(measured.status().is_live());
    for client in [measured, peer] {
        client.shutdown().await.unwrap();
    }
    times.sort_by(f64::total_cmp);
    syncs.sort_by(f64::total_cmp);
    let (median_ms, sync_ms) = (times[times.len() / 2], syncs[syncs.len() / 2]);
    Figures {
        calls: effort.calls,
        median_ms,
        sync_ms,
        owner_ms: median_ms - sync_ms,
        p99_ms: times[times.len() * 99 / 100],
        live_flaps: flaps.await.unwrap(),
    }
}

async fn client(storage: Arc<dyn SdkStorage>, effort: Effort) -> P2pClient {
    let rules = ValidationConfig::new(DOMAIN, SLASHER);
    let mut config = P2pClientConfig::local(CHAIN, Keypair::generate_ed25519(), rules);
    config.clock = Arc::new(move || UnixSeconds::new(effort.blocks + 1));
    P2pClient::start(config.with_storage(storage), Arc::new(schedule())).await.unwrap()
}

async fn live(events: &mut Subscription) {
    while let Some(event) = events.next_event().await.unwrap() {
        if matches!(event, SdkEvent::Status { status } if status.is_live()) {
            return;
        }
    }
}

/// Statuses that are not live, until the client ends.
async fn flaps(mut events: Subscription) -> usize {
    let mut flaps = 0;
    while let Some(event) = events.next_event().await.unwrap() {
        flaps += usize::from(matches!(event, SdkEvent::Status { status } if !status.is_live()));
    }
    flaps
}

fn keys() -> [SigningKey; 2] {
    [key().unwrap(), SigningKey::from_bytes([0x43; 32]).unwrap()]
}

fn schedule() -> RotatingSchedule {
    let preconfers = keys().iter().map(SigningKey::address).collect();
    RotatingSchedule::new(preconfers, UnixSeconds::new(0), WINDOW).unwrap()
}

/// Stores the blocks from 1 on, whose one transaction list is there, above a base of 0.
fn fill(stores: &[&dyn SdkStorage], blocks: u64) {
    let (validator, keys, list) = (
        Validator::new(ValidationConfig::new(DOMAIN, SLASHER), Arc::new(schedule())),
        keys(),
        txlist(300).unwrap(),
    );
    for store in stores {
        assert!(store.set_base(Base::at(0)).unwrap().is_empty());
        assert!(store.put(blocks, list.clone()).unwrap());
    }
    let mut parent = None;
    let numbers: Vec<u64> = (1..=blocks).collect();
    for numbers in numbers.chunks(256) {
        let page: Vec<Linked> =
            numbers.iter().map(|number| next(&validator, &keys, &list, *number, &mut parent)).collect();
        for store in stores {
            for applied in store.apply(page.clone().into()).commitments {
                drop(applied.inserted.unwrap());
            }
        }
    }
}

/// The next block of the chain, signed and linked to its parent.
fn next(
    validator: &Validator,
    keys: &[SigningKey; 2],
    list: &TxList,
    number: u64,
    parent: &mut Option<Preconfirmation>,
) -> Linked {
    let turn = number / WINDOW;
    let preconf = Preconfirmation {
        block_number: U256::from(number),
        timestamp: U256::from(number),
        submission_window_end: U256::from((turn + 1) * WINDOW.get() - 1),
        raw_tx_list_hash: list.hash(),
        parent_preconfirmation_hash: parent.as_ref().map_or(B256::ZERO, Preconfirmation::hash),
        ..Default::default()
    };
    let commitment = PreconfCommitment { preconf: preconf.clone(), slasher_address: SLASHER };
    let signed = commitment.sign(&keys[usize::try_from(turn % 2).unwrap()], &DOMAIN);
    let facts = Facts {
        base: Base::at(0),
        parent: parent.as_ref().map(|preconf| Parent { block: number - 1, preconf }),
        before: None,
    };
    let judged = validator
        .elect(validator.authenticate_signed(signed).unwrap(), Arrival::History(UnixSeconds::new(u64::MAX)))
        .and_then(|elected| validator.link(elected, &facts));
    let ValidationOutcome::Accept(linked) = judged else { unreachable!("{judged:?}") };
    *parent = Some(preconf);
    linked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_base_that_moves_again_and_again_leaves_the_client_live() {
        let effort = Effort { blocks: 600, calls: 50, every: Duration::from_millis(10) };
        let figures = measure(effort).await;
        assert_eq!((figures.calls, figures.live_flaps), (50, 0), "{figures:?}");
        assert!(figures.median_ms > 0.0 && figures.median_ms <= figures.p99_ms);
    }
}
