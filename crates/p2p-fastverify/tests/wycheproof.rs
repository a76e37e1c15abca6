//! The vectors of Project Wycheproof for ECDSA over secp256k1 with SHA-256: special keys, special r and s, malleability.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a vector that does not parse ends the test"
)]

use alloy_primitives::{U256, hex};
use p2p_fastverify::{Claim, KnownSigners, Method, Signature, Table, Verdict};
use secp256k1::PublicKey;

#[test]
fn every_vector_is_valid_or_not_as_it_says() {
    let vectors: Vec<serde_json::Value> = serde_json::from_str(include_str!("data/wycheproof.json")).unwrap();
    let (mut valid, mut hits) = (0, 0);
    for vector in &vectors {
        let bytes = |field: &str| hex::decode(vector[field].as_str().unwrap()).unwrap();
        let key = PublicKey::from_slice(&bytes("key")).unwrap();
        let known = KnownSigners::new(Table::BYTES);
        known.add(&key);
        let table = Table::new(&key);
        let expected = table.signer();
        // These have no v: any will do. As in Ethereum, an s in the upper half stands for the one in the lower.
        let mut signature = [0; 65];
        signature[..64].copy_from_slice(&bytes("signature"));
        let n = U256::from_be_bytes(secp256k1::constants::CURVE_ORDER);
        let s = U256::from_be_slice(&signature[32..64]);
        if s < n && s > n >> 1 {
            signature[32..64].copy_from_slice(&(n - s).to_be_bytes::<32>());
        }
        let signed = (0..4).any(|v| {
            signature[64] = v;
            let signature = Signature::new(bytes("digest").try_into().unwrap(), signature);
            let signed = known.recover(&Claim { signature, expected: Some(expected) }) == Some(expected);
            for method in [Method::PORTABLE, Method::fastest()] {
                let verdict = method.verify(&table, &signature);
                assert_ne!(verdict, if signed { Verdict::NotSigned } else { Verdict::Signed });
            }
            signed
        });
        assert_eq!(signed, vector["valid"].as_bool().unwrap(), "{} {}", vector["id"], vector["comment"]);
        valid += u64::from(signed);
        hits += known.counts().hits;
    }
    // All but those whose r is x − n and those with points that meet are proved by their table.
    assert_eq!((vectors.len(), valid), (234, 167));
    assert!(hits > 155, "{hits} of {valid}");
}
