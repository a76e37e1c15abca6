//! What judging costs, our way and the naive way, as criterion sees it.

#![allow(missing_docs, reason = "criterion's macros write public functions")]

use criterion::{Criterion, criterion_group, criterion_main};
use preconfirmation_benches::pairs;

fn validation(c: &mut Criterion) {
    for mut pair in pairs::all() {
        let mut group = c.benchmark_group(format!("validate::{}", pair.name));
        group.bench_function("ours", |b| b.iter_custom(&mut pair.ours));
        group.bench_function("baseline", |b| b.iter_custom(&mut pair.baseline));
        group.finish();
    }
}

criterion_group!(benches, validation);
criterion_main!(benches);
