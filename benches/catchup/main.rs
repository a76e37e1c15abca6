//! Catching up over real sockets: `cargo xtask bench --suite catchup` runs this and reads the JSON on stdout.
//! Without `--bench` it runs once and small, that it does not rot.

#![allow(clippy::disallowed_methods, reason = "what measures time reads the clock")]
#![allow(clippy::indexing_slicing, clippy::cast_precision_loss, reason = "a bench that panics ends the run")]

mod chain;
mod deployed;
mod raw;
mod serve;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use libp2p::Multiaddr;
use p2p_client::P2pClient;
use p2p_storage::{MemoryStorage, SdkStorage, TxListStore};
use p2p_types::HeadSyncStatus;
use preconfirmation_types::{Container, MAX_TXLIST_BYTES, keccak256};
use serde::Serialize;

use chain::Shape;
use raw::{All, Lists};
use serve::{Server, Wares};

/// Anything that ends the run.
type Failed = Box<dyn std::error::Error + Send + Sync>;

const KIB: usize = 1024;
const MIB: f64 = 1024.0 * 1024.0;

/// What came out; throughputs are a second's.
#[derive(Debug, Serialize)]
struct Figures {
    commitments_vs_bound: f64,
    txlists_vs_serial_25ms: f64,
    txlists_vs_raw: f64,
    txlists_2mib_vs_floor: f64,
    txlists_vs_checked: f64,
    txlists_vs_same: f64,
    txlists_2mib_vs_checked: f64,
    txlists_2mib_vs_same: f64,
    paced_1_peer: f64,
    paced_4_peers: f64,
    refusals: u64,
    peak_extra_mib: f64,
    /// What the ratios are made of.
    details: Details,
}

#[derive(Debug, Default, Serialize)]
struct Details {
    commitments: f64,
    commitments_bound: f64,
    txlists_10kib: f64,
    txlists_10kib_raw: f64,
    txlists_10kib_checked: f64,
    txlists_10kib_same: f64,
    txlists_25ms: f64,
    txlists_25ms_serial: f64,
    txlists_2mib: f64,
    txlists_2mib_raw: f64,
    txlists_2mib_checked: f64,
    txlists_2mib_same: f64,
    keccak_2mib: f64,
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Effort {
    blocks: u64,
    large: u64,
    serial: Duration,
    first_window: Duration,
    paced: Duration,
    rounds: usize,
}

fn main() -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut args = std::env::args().skip(1);
    if let Some(wares) = args.find(|arg| arg == "--serve").and_then(|_| args.next()) {
        return runtime.block_on(serve::serve(&wares));
    }
    let measured = std::env::args().any(|arg| arg == "--bench");
    let effort = if measured {
        Effort {
            blocks: 10_000,
            large: 160,
            serial: Duration::from_secs(5),
            first_window: Duration::from_secs(10),
            paced: Duration::from_secs(60),
            rounds: 3,
        }
    } else {
        let moment = Duration::from_millis(300);
        Effort { blocks: 300, large: 4, serial: moment, first_window: moment, paced: moment, rounds: 1 }
    };
    let figures = runtime.block_on(measure(effort))?;
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

async fn measure(effort: Effort) -> Result<Figures, Failed> {
    let mut details = Details::default();
    let small = Shape { blocks: effort.blocks, txlist_bytes: 10 * KIB, one_list: false };
    let large = Shape { blocks: effort.large, txlist_bytes: MAX_TXLIST_BYTES, one_list: false };
    let alone = Shape { one_list: true, ..small };
    let (in_flight, blocks) = (8, usize::try_from(effort.blocks)?);
    // Least first: what the allocator keeps of one run hides nothing of the next.
    let mut peak: f64 = 0.0;

    // Ours and the ceiling take turns; the best of each counts, as noise only ever slows.
    let server = Server::start(Wares::Chain(alone))?;
    for _ in 0..effort.rounds {
        let synced = sync(&server.addresses.direct, alone).await?;
        details.commitments = details.commitments.max(synced.commitments);
        details.commitments_bound = details.commitments_bound.max(bound(alone)?);
    }
    drop(server);
    eprintln!("commitments {:.0}/s, bound {:.0}/s", details.commitments, details.commitments_bound);

    let (server, raw) = (Server::start(Wares::Chain(small))?, Server::start(Wares::Raw(10 * KIB))?);
    let all = Server::start(Wares::Same(10 * KIB))?;
    for _ in 0..effort.rounds {
        let synced = sync(&server.addresses.direct, small).await?;
        details.txlists_10kib = details.txlists_10kib.max(synced.txlists);
        peak = peak.max(synced.peak_extra);
        let ceiling = raw::ceiling::<Lists>(&raw.addresses.direct, in_flight, blocks, None).await?;
        details.txlists_10kib_raw = details.txlists_10kib_raw.max(ceiling);
        let checked = raw::ceiling::<Lists>(&raw.addresses.direct, in_flight, blocks, Some(check()?)).await?;
        details.txlists_10kib_checked = details.txlists_10kib_checked.max(checked);
        let same = raw::ceiling::<All>(&all.addresses.direct, in_flight, blocks, Some(check()?)).await?;
        details.txlists_10kib_same = details.txlists_10kib_same.max(same);
    }
    drop((raw, all));
    eprintln!(
        "10 KiB lists {:.0}/s, raw {:.0}/s, checked {:.0}/s, same {:.0}/s",
        details.txlists_10kib,
        details.txlists_10kib_raw,
        details.txlists_10kib_checked,
        details.txlists_10kib_same
    );
    details.txlists_25ms_serial = serial(&server.addresses.relayed, small, effort.serial).await?;
    let synced = sync(&server.addresses.relayed, small).await?;
    details.txlists_25ms = synced.txlists;
    peak = peak.max(synced.peak_extra);
    drop(server);
    eprintln!("25 ms away: {:.0}/s, serial {:.1}/s", details.txlists_25ms, details.txlists_25ms_serial);

    let (server, raw) = (Server::start(Wares::Chain(large))?, Server::start(Wares::Raw(MAX_TXLIST_BYTES))?);
    let all = Server::start(Wares::Same(MAX_TXLIST_BYTES))?;
    for _ in 0..effort.rounds {
        let synced = sync(&server.addresses.direct, large).await?;
        details.txlists_2mib = details.txlists_2mib.max(synced.txlists);
        peak = peak.max(synced.peak_extra);
        let answers = usize::try_from(effort.large)?;
        let ceiling = raw::ceiling::<Lists>(&raw.addresses.direct, in_flight, answers, None).await?;
        details.txlists_2mib_raw = details.txlists_2mib_raw.max(ceiling);
        let checked =
            raw::ceiling::<Lists>(&raw.addresses.direct, in_flight, answers, Some(check()?)).await?;
        details.txlists_2mib_checked = details.txlists_2mib_checked.max(checked);
        let same = raw::ceiling::<All>(&all.addresses.direct, in_flight, answers, Some(check()?)).await?;
        details.txlists_2mib_same = details.txlists_2mib_same.max(same);
        details.keccak_2mib = details.keccak_2mib.max(keccak(large).await?);
    }
    drop((server, raw, all));
    eprintln!(
        "2 MiB lists {:.0}/s, raw {:.0}/s, checked {:.0}/s, same {:.0}/s, keccak {:.0}/s",
        details.txlists_2mib,
        details.txlists_2mib_raw,
        details.txlists_2mib_checked,
        details.txlists_2mib_same,
        details.keccak_2mib
    );

    let refused = Arc::new(AtomicU64::new(0));
    let ((one, _), (four, lowest)) =
        tokio::try_join!(paced(1, effort, &refused), paced(4, effort, &refused))?;
    eprintln!("paced {one:.3} and {four:.3}, lowest score {lowest}");

    Ok(Figures {
        commitments_vs_bound: details.commitments / details.commitments_bound,
        txlists_vs_serial_25ms: details.txlists_25ms / details.txlists_25ms_serial,
        txlists_vs_raw: details.txlists_10kib / details.txlists_10kib_raw,
        txlists_2mib_vs_floor: details.txlists_2mib / details.txlists_2mib_raw.min(details.keccak_2mib),
        txlists_vs_checked: details.txlists_10kib / details.txlists_10kib_checked,
        txlists_vs_same: details.txlists_10kib / details.txlists_10kib_same,
        txlists_2mib_vs_checked: details.txlists_2mib / details.txlists_2mib_checked,
        txlists_2mib_vs_same: details.txlists_2mib / details.txlists_2mib_same,
        paced_1_peer: one,
        paced_4_peers: four,
        refusals: refused.load(Ordering::Relaxed),
        peak_extra_mib: peak,
        details,
    })
}

/// What a run of catching up came to.
struct Synced {
    /// A second.
    commitments: f64,
    txlists: f64,
    /// MiB in memory beyond what there was before and what is stored.
    peak_extra: f64,
}

async fn joined(peers: &[Multiaddr], paced: bool) -> Result<(P2pClient, Arc<MemoryStorage>), Failed> {
    let storage = Arc::new(MemoryStorage::default());
    let client = chain::node(storage.clone(), paced).await?;
    for peer in peers {
        client.network().dial(peer.clone()).await?;
    }
    client.network().wait_for_peers(peers.len()).await?;
    Ok((client, storage))
}

/// Catches up with peers from nothing.
async fn sync(peers: &[Multiaddr], shape: Shape) -> Result<Synced, Failed> {
    let (client, storage) = joined(peers, false).await?;
    let before = resident()?;
    let (begun, mut commitments, mut peak_extra) = (Instant::now(), None, 0.0_f64);
    let mut sampled = begun;
    client.chain().l2_synced(chain::BASE).await?;
    let all = loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if commitments.is_none() && client.chain().head().is_some_and(|head| head.number >= shape.blocks) {
            commitments = Some(begun.elapsed());
        }
        let lacking = match client.status() {
            HeadSyncStatus::Live { .. } => 0,
            // The status comes after the head, so that none missing is not all there yet.
            HeadSyncStatus::Syncing { txlists_missing, .. } if commitments.is_some() => {
                txlists_missing.max(1)
            }
            _ => usize::MAX,
        };
        if sampled.elapsed() > Duration::from_millis(20) || lacking == 0 {
            sampled = Instant::now();
            let stored = stored_mib(&storage)?;
            peak_extra = peak_extra.max(resident()? - before - stored);
        }
        if lacking == 0 {
            break begun.elapsed();
        }
        if begun.elapsed() > Duration::from_secs(300) {
            return Err(format!("not there after five minutes: {}", client.status()).into());
        }
    };
    client.shutdown().await?;
    let per_second = |took: Duration| shape.blocks as f64 / took.as_secs_f64();
    Ok(Synced { commitments: per_second(commitments.unwrap_or(all)), txlists: per_second(all), peak_extra })
}

/// MiB of what the store holds: lists, and commitments at the 700 bytes that it says they take.
fn stored_mib(storage: &MemoryStorage) -> Result<f64, Failed> {
    let stored = storage.stats()?;
    Ok((stored.commitments as f64 * 700.0 + stored.txlist_bytes as f64) / MIB)
}

/// MiB of this process in memory.
fn resident() -> Result<f64, Failed> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: f64 = line.split_whitespace().next().ok_or("no VmRSS")?.parse()?;
    Ok(kib / 1024.0)
}

/// Lists a second from one peer, one request after the other.
async fn serial(peers: &[Multiaddr], shape: Shape, length: Duration) -> Result<f64, Failed> {
    let (client, _) = joined(&peers[..1], false).await?;
    let peer = client.network().ready_peers().first().copied();
    let hashes = (1..=shape.blocks)
        .map(|block| Ok(shape.txlist(block)?.hash()))
        .collect::<Result<Vec<_>, Failed>>()?;
    let (begun, mut got) = (Instant::now(), 0_u32);
    while begun.elapsed() < length {
        let hash = hashes[usize::try_from(got)? % hashes.len()];
        client.network().request_raw_txlist(peer, hash).await?.data.ok_or("a list that is not there")?;
        got += 1;
    }
    let took = begun.elapsed();
    client.shutdown().await?;
    Ok(f64::from(got) / took.as_secs_f64())
}

/// What nobody is spared who catches up: each list is hashed, each commitment authenticated.
fn check() -> Result<raw::Check, Failed> {
    let validator = chain::validator()?;
    let alone = Shape { blocks: 1, txlist_bytes: KIB, one_list: true };
    let (signed, _) = chain::chain(alone)?.pop().ok_or("no commitment")?;
    let ssz = signed.to_ssz();
    Ok(Arc::new(move |list| {
        std::hint::black_box((keccak256(list), validator.authenticate(&ssz).is_ok()));
    }))
}

/// Commitments a second that one core can authenticate from their bytes, in pages: nothing else done.
fn bound(shape: Shape) -> Result<f64, Failed> {
    let validator = chain::validator()?;
    let page = chain::chain(Shape { blocks: shape.blocks.min(2_560), ..shape })?;
    let page: Vec<_> = page.iter().map(|(signed, _)| signed.to_ssz()).collect();
    let begun = Instant::now();
    for ssz in &page {
        std::hint::black_box(validator.authenticate(ssz)?);
    }
    Ok(page.len() as f64 / begun.elapsed().as_secs_f64())
}

/// Lists a second that all cores together can hash.
async fn keccak(shape: Shape) -> Result<f64, Failed> {
    const EACH: u32 = 40;
    let list = Arc::new(shape.txlist(1)?);
    let cores = u32::try_from(std::thread::available_parallelism()?.get())?;
    let begun = Instant::now();
    let hashing: Vec<_> = (0..cores)
        .map(|_| {
            let list = list.clone();
            tokio::task::spawn_blocking(move || {
                for _ in 0..EACH {
                    std::hint::black_box(keccak256(list.bytes()));
                }
            })
        })
        .collect();
    for one in hashing {
        one.await?;
    }
    Ok(f64::from(EACH * cores) / begun.elapsed().as_secs_f64())
}

/// The share of 0.8 lists a second and peer that servers with the deployed limit gave us, and the lowest score
/// that we gave them. A client that has just started asks for nothing within the first window: it cannot know what it has
/// asked for before.
async fn paced(peers: u32, effort: Effort, refused: &Arc<AtomicU64>) -> Result<(f64, f64), Failed> {
    let most = 0.8 * effort.paced.as_secs_f64() * f64::from(peers);
    let shape = Shape { blocks: 400, txlist_bytes: 10 * KIB, one_list: false };
    let store = chain::stored(shape)?;
    let mut addresses = Vec::new();
    for _ in 0..peers {
        addresses.push(deployed::serve(store.clone(), refused.clone()).await?);
    }
    let (client, storage) = joined(&addresses, true).await?;
    client.chain().l2_synced(chain::BASE).await?;
    let count = || -> Result<u32, Failed> {
        let mut got = 0;
        for block in 1..=shape.blocks {
            got += u32::from(storage.contains(&shape.txlist(block)?.hash())?);
        }
        Ok(got)
    };
    tokio::time::sleep(effort.first_window).await;
    let before = count()?;
    tokio::time::sleep(effort.paced).await;
    let got = count()?.saturating_sub(before);
    let lowest = client.network().peers().await?.iter().map(|peer| peer.score).fold(f64::INFINITY, f64::min);
    client.shutdown().await?;
    Ok((f64::from(got) / most, lowest))
}
