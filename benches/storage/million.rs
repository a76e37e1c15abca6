//! A store of one million commitments: what reading it costs, and what it takes of memory and disk.

use std::{
    fs,
    io::{Seek as _, Write as _},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use p2p_storage::{CommitmentStore, DiskConfig, DiskStorage, SdkStorage, StorageLimits};
use p2p_types::{B256, Base};
use preconfirmation_benches::DOMAIN;
use preconfirmation_types::SIGNED_COMMITMENT_BYTES;

use crate::{Effort, blocks::Blocks};

/// The argument that makes a process the one whose memory is measured.
pub(crate) const CHILD: &str = "--memory-of";

fn open(folder: &Path) -> DiskStorage {
    let limits = StorageLimits { commitments: 2_000_000, ..StorageLimits::default() };
    DiskStorage::open(folder, DiskConfig { limits, ..DiskConfig::recommended(DOMAIN) }).unwrap()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

pub(crate) fn run(effort: Effort, note: &mut impl FnMut(String, f64)) {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("store"), folder.path().join("copy"));
    let store = open(&path);
    store.set_base(Base::at(0)).unwrap();
    let (mut blocks, mut inserted) = (Blocks::new(), Duration::ZERO);
    while store.stats().unwrap().commitments < usize::try_from(effort.million).unwrap() {
        let batch = blocks.take(1_000);
        let start = Instant::now();
        for applied in store.apply(batch.into()).commitments {
            drop(applied.inserted.unwrap());
        }
        inserted += start.elapsed();
    }
    note("million_inserted_s".into(), inserted.as_secs_f64());
    let size = fs::metadata(path.join("store.redb")).unwrap().len();
    note("disk_ratio".into(), size as f64 / (effort.million * SIGNED_COMMITMENT_BYTES as u64) as f64);
    let mut dice = fastrand::Rng::with_seed(1);
    let mut times: Vec<Duration> = (0..500)
        .map(|_| {
            let from = dice.u64(1..effort.million - 256);
            let start = Instant::now();
            assert_eq!(store.range(from, 256).unwrap().len(), 256);
            start.elapsed()
        })
        .collect();
    times.sort();
    note("range_256_ms".into(), ms(times[times.len() / 2]));
    note("range_256_p99_ms".into(), ms(times[times.len() * 99 / 100]));
    // As it is on disk in the middle of its life: whoever opens this finds what a kill leaves.
    fs::create_dir(&copy).unwrap();
    fs::copy(path.join("store.redb"), copy.join("store.redb")).unwrap();
    // What was copied is no part of the opening.
    fs::File::open(copy.join("store.redb")).unwrap().sync_all().unwrap();
    let start = Instant::now();
    drop(open(&copy));
    note("reopen_killed_ms".into(), ms(start.elapsed()));
    pruning(&store, &mut blocks, effort, note);
    drop(store);
    let out = Command::new(std::env::current_exe().unwrap()).arg(CHILD).arg(&copy).output().unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    note("memory_mib".into(), said.trim().parse().unwrap());
}

/// What a writer waits while somebody else prunes a fifth of the store.
fn pruning(store: &DiskStorage, blocks: &mut Blocks, effort: Effort, note: &mut impl FnMut(String, f64)) {
    let (settled, done) = (effort.million / 5, AtomicBool::new(false));
    let mut insert = || {
        let next = blocks.take(1);
        let start = Instant::now();
        for applied in store.apply(next.into()).commitments {
            drop(applied.inserted.unwrap());
        }
        start.elapsed()
    };
    let mut disk = Disk::new();
    let (mut alone, mut syncs): (Vec<_>, Vec<_>) = (0..200).map(|_| (insert(), disk.sync())).unzip();
    store.set_base(Base::at(settled)).unwrap();
    let mut beside = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            store.prune_below(settled).unwrap();
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            beside.push(insert());
        }
    });
    for (name, times) in
        [("fdatasync", &mut syncs), ("insert_alone", &mut alone), ("insert_beside_pruning", &mut beside)]
    {
        times.sort();
        note(format!("{name}_ms"), ms(times[times.len() / 2]));
        note(format!("{name}_p99_ms"), ms(times[times.len() * 99 / 100]));
    }
}

/// What the disk takes for the least that is durable.
struct Disk(fs::File);

impl Disk {
    fn new() -> Self {
        Self(tempfile::tempfile().unwrap())
    }

    fn sync(&mut self) -> Duration {
        self.0.rewind().unwrap();
        let start = Instant::now();
        self.0.write_all(&[1; 4096]).unwrap();
        self.0.sync_data().unwrap();
        start.elapsed()
    }
}

/// Opens the store, reads all of it by height and some of it by hash, and says how many MiB that took.
pub(crate) fn child(folder: &str) {
    let before = resident();
    let store = open(Path::new(folder));
    let (mut from, mut hashes) = (1, Vec::new());
    loop {
        let run = store.range(from, 256).unwrap();
        let Some(last) = run.last() else { break };
        hashes.push(last.hash());
        from = last.block + 1;
    }
    for hash in &hashes {
        assert!(store.by_hash(hash).unwrap().is_some());
        assert!(store.by_hash(&B256::from_slice(&[&hash[1..], &[0]].concat())).unwrap().is_none());
    }
    println!("{}", (resident() - before) / 1024.0);
}

/// The memory that this process has in RAM, in KiB.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}
