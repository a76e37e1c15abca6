//! Verification of recoverable secp256k1 signatures against *known* signers, and keccak-256 of many messages at once
//! ([`hash_all`]).
//!
//! Whoever checks an Ethereum-style signature (r ‖ s ‖ v over a digest) recovers the key that made it, and compares its
//! address with the expected one. Recovery takes a square root and two multiplications of points that nobody has seen before.
//! Where the same few keys sign again and again, the multiples of their keys can be kept instead: a [`Table`] of a key
//! answers whether that key made a signature by some sixty additions, several times faster; [`verify_all`] shares
//! inversions between many signatures and is faster again.
//!
//! [`KnownSigners`] puts this behind the interface of recovery: it answers like libsecp256k1 for each signature, learns
//! the tables of expected signers by itself, keeps them within a bound of bytes, and recovers whatever a table does not
//! answer.
//!
//! ```
//! use p2p_fastverify::{Claim, KnownSigners, LEARNT_AFTER, Signature, Table};
//! use secp256k1::{Message, SecretKey, ecdsa::RecoverableSignature};
//!
//! let secret = SecretKey::from_secret_bytes([7; 32])?;
//! let signer = Table::new(&secret.public_key()).signer();
//! let sign = |digest| {
//!     let signature = RecoverableSignature::sign_ecdsa_recoverable(Message::from_digest(digest), &secret);
//!     let (v, rs) = signature.serialize_compact();
//!     let mut bytes = [v.to_u8(); 65];
//!     bytes[..64].copy_from_slice(&rs);
//!     Claim { signature: Signature::new(digest, bytes), expected: Some(signer) }
//! };
//!
//! let known = KnownSigners::new(16 << 20);
//! for block in 0..10 {
//!     assert_eq!(known.recover(&sign([block; 32])), Some(signer));
//!     if known.wants_tables() {
//!         known.build_wanted(); // on another thread, where there is one
//!     }
//! }
//! assert_eq!(known.counts().recoveries, u64::from(LEARNT_AFTER));
//! assert_eq!(known.counts().hits, 2);
//! # Ok::<(), secp256k1::Error>(())
//! ```
//!
//! # The equation
//!
//! A signature (r, s, v) of the digest z names the key Q for which s·R = z·G + r·Q, where R is the point with x(R) = r and the
//! parity v. For a Q that is given, this holds exactly if u₁·G + u₂·Q = R with u₁ = z/s and u₂ = r/s. So this crate computes
//! P = u₁·G + u₂·Q and compares x(P) with r, as numbers and not modulo n, and the parity of y(P) with v. Where both are equal,
//! recovery gives Q; where they are not, it gives another key or none.
//!
//! # What is not decided here
//!
//! A table is [`Undecided`](Verdict::Undecided) about an r or s outside 1 … n − 1, an s in the upper half, a v other than 0 and 1
//! (which is the only way to say r = x − n), and about a sum in which two equal or opposite points meet, which the formula
//! for additions does not cover. [`KnownSigners`] asks libsecp256k1 then, about that one signature. Only a signer itself can
//! make points meet, as it takes its secret key; where vectors find that they did, the 64 signatures that were added up
//! together are verified one by one.
//!
//! # Why no constant time
//!
//! Everything here is public: digests, signatures and keys come from the network, and whoever can time this code has them
//! all. There is no secret key, no nonce and no blinding, so a branch or an index into a table that depends on the data tells
//! nobody anything. What may depend on time are the choices of the caller, never an answer: a table that is tried, passed over
//! or not there gives the same answer sooner or later. **Do not sign with any of this**, and do not use it for a key
//! agreement.
//!
//! What anybody can do is waste time: a forgery in the name of a known signer costs a verification beside the recovery.
//! Credit bounds that (see [`KnownSigners`]): each forgery takes some of its table's, and while there is none, claims are
//! recovered at once, until a genuine one gives some back. Tables are learnt only of signers whom the caller expected, by signatures of theirs.
//!
//! # For an auditor
//!
//! In this order, the costliest mistakes first:
//!
//! 1. `verify.rs`, `Numbers`: which signatures are looked at (ranges, low s, v), and the comparison with r and v.
//!    Accepting what recovery would give another key is the one mistake that forges.
//! 2. `curve.rs`, `Sums`: that a refused addition ends in `Undecided` for its own row, whatever stands in its neighbours, and
//!    that a factor of zero never gets into the product that all share.
//! 3. `field.rs` and `scalar.rs`, `reduce` and `mul`: the carries, each with the bound that it rests on.
//! 4. `scalar.rs`, `signed_digits`: that the highest digit takes every carry.
//! 5. `inverse.rs`: an inverse that is wrong makes a verdict wrong in one direction only, *not signed*, but `Sums` shares it.
//! 6. `known.rs`: that only libsecp256k1's answer or `Signed` names a signer.
//! 7. `ifma/field.rs`: that every limb that is multiplied is below 2⁵², and every sum below 2⁶⁴, each with its bound; a limb
//!    that is too long is cut by the instruction and nobody is told.
//! 8. `ifma/sums.rs`: which lanes an addition counts for, and that a Z or a product of zero ends in `Met`.
//! 9. The blocks of `unsafe`, all of them in `ifma/mod.rs` and `keccak/lanes.rs`.
//!
//! `tests/differential.rs` compares both ways, by words and by vectors, with libsecp256k1 and `k256`, on random and on
//! constructed signatures; by `FASTVERIFY_CASES` as many as there is time for. `tests/wycheproof.rs` runs the vectors of
//! Project Wycheproof.
//!
//! # Why its own field
//!
//! `k256` exports its field elements, and they are what this crate would build on. Measured in one process on an x86-64
//! server: a product takes 17.9 ns here and 38.5 ns there, a square 17.3 and 33.7 ns, four products beside each other 18.9 and
//! 30.2 ns each, an inverse in variable time 1.6 and 2.3 µs. Sixty additions are four hundred products, so the difference is
//! most of what a signature costs. The test `products_and_inverses_are_faster_than_those_of_k256`, ignored unless asked for,
//! measures it again and fails where it is no longer so.
//!
//! # Vectors
//!
//! On x86-64 processors with AVX-512 and its IFMA instructions, points are added up eight at a time: signatures that are
//! verified together have a lane each, and a single one spreads its points over all lanes. On such a server, shared with others,
//! the example `speed` printed 7.3 µs for a signature alone and 2.1 µs for one of 256, where recovery took 54 µs; and eight
//! messages of 10 KiB were hashed in the time of 1.4 by `alloy_primitives`. [`hash_all`] uses AVX-512 or AVX2. What
//! the processor can do is detected when it is asked for; [`Method`] tells the two ways apart for tests and measurements.
//!
//! Only the modules `ifma` and `keccak::lanes` have `unsafe`: to call code that needs such instructions, once they have been
//! detected, and to look at a vector as words. Neither has a pointer.
//!
//! The hash is ours because no crate was found that offers this: `keccak` 0.2 hashes several messages at once on a nightly
//! compiler alone; `asmcrypto` 0.1 is 5 times faster than one stream with AVX-512, but has nothing for AVX2 and brings a
//! recovery of signatures of its own.
//!
//! This crate knows no runtime and no clock, and spawns no thread.

// Arithmetic on arrays of fixed length: an index beyond them is a mistake that every test would find, and numbers are cut
// to limbs on purpose.
#[allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "arithmetic"
)]
mod curve;
#[allow(clippy::cast_possible_truncation, reason = "arithmetic")]
mod field;
#[allow(clippy::indexing_slicing, reason = "arithmetic")]
#[cfg_attr(not(target_arch = "x86_64"), path = "no_ifma.rs")]
mod ifma;
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "arithmetic"
)]
mod inverse;
#[allow(clippy::indexing_slicing, reason = "indices made here")]
mod keccak;
mod known;
#[allow(clippy::cast_possible_truncation, reason = "arithmetic")]
mod limbs;
#[allow(clippy::cast_possible_truncation, reason = "arithmetic")]
mod scalar;
mod table;
#[allow(clippy::indexing_slicing, reason = "indices made here")]
mod verify;

pub use keccak::{hash_all, hashes_at_once};
pub use known::{Claim, Counts, KnownSigners, LEARNT_AFTER};
pub use table::Table;
pub use verify::{Method, Signature, Verdict, verify_all};
