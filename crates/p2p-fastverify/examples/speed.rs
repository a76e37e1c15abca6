//! What a signature costs on this machine, by libsecp256k1 and by tables.
//!
//! `cargo run --release -p p2p-fastverify --example speed`

#![allow(clippy::disallowed_methods, reason = "what measures time reads the clock")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use p2p_fastverify::{Claim, KnownSigners, Signature, Table, Verdict, verify_all};
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
    println!(
        "verify      {:8.2} µs",
        microseconds(8, || some
            .clone()
            .filter(|signature| table.verify(signature) == Verdict::Signed)
            .count())
    );
    for count in [4, 16, 64, 256] {
        let some: Vec<_> =
            signatures.iter().take(count as usize).map(|signature| (&table, *signature)).collect();
        println!("verify {count:<4} {:8.2} µs each", microseconds(count, || verify_all(&some)));
    }
    Ok(())
}
