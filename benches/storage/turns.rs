//! Ours and the raw way in turns: the same payload, made durable as often, on the same file system.

use std::{
    fs::File,
    io::Write as _,
    time::{Duration, Instant},
};

use p2p_storage::{CommitmentStore, DiskConfig, DiskStorage, SdkStorage, TxListStore};
use p2p_types::Base;
use p2p_validation::Linked;
use preconfirmation_benches::DOMAIN;
use preconfirmation_types::{Container as _, MAX_TXLIST_BYTES};
use redb::{Database, TableDefinition};

use crate::{
    Effort,
    blocks::{Blocks, list},
};

const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");
const HASHES: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("hashes");

/// The database alone: a commitment under its height and, unless it is not asked for, its height under its hash.
struct Raw {
    database: Database,
    by_hash: bool,
    next: u64,
}

impl Raw {
    fn new(file: &std::path::Path, by_hash: bool) -> Self {
        let cache = DiskConfig::recommended(DOMAIN).cache_bytes;
        Self { database: Database::builder().set_cache_size(cache).create(file).unwrap(), by_hash, next: 1 }
    }

    fn insert(&mut self, batch: &[(Vec<u8>, [u8; 32])]) {
        let transaction = self.database.begin_write().unwrap();
        {
            let mut rows = transaction.open_table(ROWS).unwrap();
            for (number, (ssz, _)) in (self.next..).zip(batch) {
                rows.insert(number, &**ssz).unwrap();
            }
            if self.by_hash {
                let mut hashes = transaction.open_table(HASHES).unwrap();
                for (number, (_, hash)) in (self.next..).zip(batch) {
                    hashes.insert(hash, number).unwrap();
                }
            }
        }
        transaction.commit().unwrap();
        self.next += batch.len() as u64;
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// How many turns like these fit into a second.
fn per_second(times: &[Duration]) -> f64 {
    1.0 / median(times.iter().map(Duration::as_secs_f64).collect())
}

/// The middle of the quotients of turns that stood next to each other, so that a neighbour disturbs both alike.
fn ratio(ours: &[Duration], theirs: &[Duration]) -> f64 {
    median(ours.iter().zip(theirs).map(|(ours, theirs)| theirs.as_secs_f64() / ours.as_secs_f64()).collect())
}

pub(crate) fn run(effort: Effort, note: &mut impl FnMut(String, f64)) {
    for (batch, per_turn) in [(1, 16), (16, 8), (64, 4), (256, 2)] {
        inserts(batch, per_turn, effort, note);
    }
    lists(effort, note);
    small_lists(effort, note);
}

fn inserts(batch: usize, per_turn: usize, effort: Effort, note: &mut impl FnMut(String, f64)) {
    let folder = tempfile::tempdir().unwrap();
    let store = DiskStorage::open(folder.path().join("ours"), DiskConfig::recommended(DOMAIN)).unwrap();
    store.set_base(Base::at(0)).unwrap();
    let mut same = Raw::new(&folder.path().join("same"), true);
    let mut least = Raw::new(&folder.path().join("least"), false);
    let (mut blocks, mut ours, mut raw, mut one_table) = (Blocks::new(), vec![], vec![], vec![]);
    for turn in 0..effort.turns {
        let batches: Vec<Vec<Linked>> = (0..per_turn).map(|_| blocks.take(batch)).collect();
        let plain = |linked: &Linked| (linked.recovered().signed().to_ssz(), linked.hash().0);
        let bytes: Vec<Vec<_>> = batches.iter().map(|batch| batch.iter().map(plain).collect()).collect();
        let mut batches = Some(batches);
        // Every way comes first as often as the others.
        for way in 0..3 {
            match (turn + way) % 3 {
                0 => ours.push(timed(|| {
                    for batch in batches.take().into_iter().flatten() {
                        for applied in store.apply(batch.into()).commitments {
                            drop(applied.inserted.unwrap());
                        }
                    }
                })),
                1 => raw.push(timed(|| bytes.iter().for_each(|batch| same.insert(batch)))),
                _ => one_table.push(timed(|| bytes.iter().for_each(|batch| least.insert(batch)))),
            }
        }
    }
    let each = (batch * per_turn) as f64;
    note(format!("insert_{batch}"), ratio(&ours, &raw));
    note(format!("insert_{batch}_one_table"), ratio(&ours, &one_table));
    note(format!("insert_{batch}_per_s"), each * per_second(&ours));
    note(format!("insert_{batch}_raw_per_s"), each * per_second(&raw));
}

fn lists(effort: Effort, note: &mut impl FnMut(String, f64)) {
    let folder = tempfile::tempdir().unwrap();
    let store = DiskStorage::open(folder.path().join("ours"), DiskConfig::recommended(DOMAIN)).unwrap();
    let mut file = File::create(folder.path().join("raw")).unwrap();
    let (mut ours, mut raw) = (vec![], vec![]);
    for turn in 0..effort.turns as u64 {
        let made = list(turn, MAX_TXLIST_BYTES);
        let mut append = || {
            raw.push(timed(|| {
                file.write_all(made.bytes()).unwrap();
                file.sync_data().unwrap();
            }));
        };
        if turn % 2 == 0 {
            append();
        }
        ours.push(timed(|| assert!(store.put(turn, made.clone()).unwrap())));
        if turn % 2 == 1 {
            append();
        }
    }
    note("txlist_2mib".into(), ratio(&ours, &raw));
    note("txlist_2mib_per_s".into(), per_second(&ours));
    note("txlist_2mib_raw_per_s".into(), per_second(&raw));
}

/// Small lists one by one, and as they come together when a node catches up.
fn small_lists(effort: Effort, note: &mut impl FnMut(String, f64)) {
    const BYTES: usize = 10 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let store = DiskStorage::open(folder.path().join("ours"), DiskConfig::recommended(DOMAIN)).unwrap();
    let (mut next, mut alone, mut together) = (0..u64::MAX, vec![], vec![]);
    for _ in 0..effort.turns {
        let mut take = |many: usize| -> Vec<_> {
            next.by_ref().take(many).map(|block| (block, list(block, BYTES))).collect()
        };
        let (few, many) = (take(8), take(64));
        alone.push(timed(|| {
            few.into_iter().for_each(|(block, list)| assert!(store.put(block, list).unwrap()))
        }));
        together.push(timed(|| {
            store.apply(many.into()).txlists.into_iter().for_each(|put| assert!(put.unwrap()))
        }));
    }
    note("txlist_10kib_per_s".into(), 8.0 * per_second(&alone));
    note("txlists_10kib_64_per_s".into(), 64.0 * per_second(&together));
}
