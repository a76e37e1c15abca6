//! What the wire costs: decoding, encoding, hashing, recovery, and transaction lists by size.

#![allow(missing_docs, reason = "criterion's macros write public functions")]
#![allow(clippy::unwrap_used, reason = "a fixture that does not build ends the run")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use preconfirmation_benches::{DOMAIN, TXLIST_SIZES, commitment, key, page, signed, txlist};
use preconfirmation_types::{
    Bytes, Container, GetCommitmentsByNumberResponse, MAX_TXLIST_BYTES, RawTxListGossip, Recovered,
    SignedCommitment,
};

fn containers(c: &mut Criterion) {
    let commitment = signed(1).unwrap();
    let wire = Bytes::from(commitment.to_ssz());
    c.bench_function("decode/SignedCommitment", |b| {
        b.iter(|| SignedCommitment::from_ssz(black_box(&wire)).unwrap());
    });
    c.bench_function("encode/SignedCommitment", |b| b.iter(|| black_box(&commitment).to_ssz()));

    let page = page(256).unwrap();
    let wire = Bytes::from(page.to_ssz());
    c.bench_function("decode/page/commitments=256", |b| {
        b.iter(|| GetCommitmentsByNumberResponse::from_ssz(black_box(&wire)).unwrap());
    });
    c.bench_function("encode/page/commitments=256", |b| b.iter(|| black_box(&page).to_ssz()));
}

fn hashes(c: &mut Criterion) {
    let commitment = commitment(1);
    c.bench_function("hash/preconfirmation", |b| {
        b.iter(|| black_box(&commitment).preconf.hash());
    });
    c.bench_function("hash/signing", |b| {
        b.iter(|| black_box(&commitment).signing_hash(&DOMAIN));
    });
}

fn signatures(c: &mut Criterion) {
    let (key, signed, page) = (key().unwrap(), signed(1).unwrap(), page(256).unwrap());
    let wire = signed.to_ssz();
    c.bench_function("sign/PreconfCommitment", |b| {
        b.iter_batched(|| commitment(1), |commitment| commitment.sign(&key, &DOMAIN), BatchSize::SmallInput);
    });
    c.bench_function("recover/from_ssz", |b| {
        b.iter(|| Recovered::from_ssz(black_box(&wire), &DOMAIN).unwrap());
    });
    c.bench_function("recover/from_value", |b| {
        b.iter_batched(|| signed.clone(), |signed| signed.recover(&DOMAIN).unwrap(), BatchSize::SmallInput);
    });
    let mut group = c.benchmark_group("recover/page");
    group.throughput(Throughput::Elements(256)).sample_size(20);
    group.bench_function("commitments=256", |b| {
        b.iter_batched(
            || page.clone().into_commitments(),
            |page| {
                for signed in page {
                    black_box(signed.recover(&DOMAIN).unwrap());
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn txlists(c: &mut Criterion) {
    for bytes in TXLIST_SIZES {
        let gossip = RawTxListGossip::from(txlist(bytes).unwrap());
        let wire = Bytes::from(gossip.to_ssz());
        for work in ["encode", "decode", "verify"] {
            let mut group = c.benchmark_group(format!("txlist::{work}"));
            group.throughput(Throughput::Bytes(u64::try_from(bytes).unwrap()));
            group.bench_function(format!("bytes={bytes}"), |b| match work {
                "encode" => b.iter(|| black_box(&gossip).to_ssz()),
                "decode" => b.iter(|| RawTxListGossip::from_ssz(black_box(&wire)).unwrap()),
                _ => b.iter(|| black_box(&gossip).clone().verify(MAX_TXLIST_BYTES).unwrap()),
            });
            group.finish();
        }
    }
}

criterion_group!(wire, containers, hashes, signatures, txlists);
criterion_main!(wire);
