//! What a signature costs on this machine, by libsecp256k1 and by tables, and what a hash, alone and among eight.
//!
//! `cargo run --release -p p2p-fastverify --example speed`

#![allow(clippy::disallowed_methods, reason = "what measures time reads the clock")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use alloy_primitives::keccak256;
use p2p_fastverify::{Claim, KnownSigners, Method, Signature, Table, Verdict, hash_all};
use secp256k1::{Error, Message, SecretKey, ecdsa::RecoverableSignature};

/// The least of many turns, as a neighbour on the same cores only ever adds time, in microseconds for each of `count`.
fn microseconds<T>(count: u32, mut work: impl FnMut() -> T) -> f64 {
    let turn = || {
        let start = Instant::now();
        black_box(work());
        start.elapsed()
    };
    let least = std::iter::repeat_with(turn).take(400).min().unwrap_or(Duration::MAX);
    least.as_secs_f64() * 1e6 / f64::from(count)
}

fn main() -> Result<(), Error> {
    let secret = SecretKey::from_secret_bytes([7; 32])?;
    let key = secret.public_key();
    let table = Table::new(&key);
    let signatures: Vec<Signature> = (0..=255)
        .map(|block| {
            let digest = [block; 32];
            let signature =
                RecoverableSignature::sign_ecdsa_recoverable(Message::from_digest(digest), &secret);
            let (v, rs) = signature.serialize_compact();
            let mut bytes = [v.to_u8(); 65];
            bytes.iter_mut().zip(rs).for_each(|(to, from)| *to = from);
            Signature::new(digest, bytes)
        })
        .collect();
    let none = KnownSigners::new(0);
    let recover = |signature: &Signature| none.recover(&Claim { signature: *signature, expected: None });

    println!("table       {:8.2} µs, {} KiB", microseconds(1, || Table::new(&key)), Table::BYTES / 1024);
    let some = signatures.iter().take(8);
    println!("recover     {:8.2} µs", microseconds(8, || some.clone().filter_map(recover).count()));
    let mut methods = vec![("words", Method::PORTABLE)];
    if Method::fastest() != Method::PORTABLE {
        methods.push(("vectors", Method::fastest()));
    }
    for (by, method) in methods {
        let alone = |signature: &&Signature| method.verify(&table, signature) == Verdict::Signed;
        println!("verify      {:8.2} µs by {by}", microseconds(8, || some.clone().filter(alone).count()));
        for count in [4, 16, 64, 256] {
            let some: Vec<_> =
                signatures.iter().take(count as usize).map(|signature| (&table, *signature)).collect();
            let each = microseconds(count, || method.verify_all(&some));
            println!("verify {count:<4} {each:8.2} µs each by {by}");
        }
    }
    for bytes in [300, 10 << 10, 2 << 20] {
        let list = vec![7; bytes];
        let (one, eight) = (&list[..], [&list[..]; 8]);
        let alone = microseconds(1, || keccak256(one));
        println!("keccak {bytes:<8} {alone:8.2} µs, of eight {:.2} µs", microseconds(8, || hash_all(&eight)));
    }
    Ok(())
}
