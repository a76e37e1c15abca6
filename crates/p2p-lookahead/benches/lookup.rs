//! How long whoever judges a commitment waits for the schedule: `cargo bench -p p2p-lookahead`.

#![allow(missing_docs, reason = "criterion's macros write public functions")]
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "it waits for another process in real time")]

use std::{
    thread::sleep,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alloy_primitives::U256;
use criterion::{Criterion, criterion_group, criterion_main};
use p2p_fixtures::{Anvil, calls, key};
use p2p_lookahead::{L1Config, L1Lookahead, Source};
use p2p_types::UnixSeconds;
use p2p_validation::{Admission, Lookahead as _};
use tokio::runtime::Runtime;

/// The chain id of a local Ethereum node.
const CHAIN: u64 = 31_337;

/// A schedule that follows a whitelist on a local Ethereum node, asked about the present epoch.
fn lookup(c: &mut Criterion) {
    let Some(anvil) = Anvil::start() else { return };
    let genesis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - 60;
    let whitelist = anvil.deploy("Whitelist", U256::from(genesis));
    for operator in [1, 2] {
        anvil.send(whitelist, calls::addCall { operator: key(operator).address() });
    }
    let (endpoint, contract) = (anvil.ws().parse().unwrap(), Source::Contract(whitelist));
    let config = L1Config::recommended(vec![endpoint], CHAIN, UnixSeconds::new(genesis), contract);
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let (lookahead, service) = L1Lookahead::start(config).unwrap();
    let following = runtime.spawn(service.run());
    let (timestamp, end) = (UnixSeconds::new(genesis + 30), UnixSeconds::new(genesis + 384 - 12));
    let ask = || lookahead.admissible(timestamp, end).unwrap();
    while !matches!(ask(), Admission::Open { .. }) {
        assert!(!following.is_finished(), "{:?}", lookahead.status());
        sleep(Duration::from_millis(20));
    }
    let mut group = c.benchmark_group("lookahead");
    group.bench_function("admissible", |b| b.iter(ask));
    group.bench_function("turn", |b| b.iter(|| lookahead.turn(timestamp).unwrap()));
    group.finish();
    following.abort();
}

criterion_group!(benches, lookup);
criterion_main!(benches);
