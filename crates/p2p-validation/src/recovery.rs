//! What was signed, and whose signature it is. Elected signers sign hundreds of commitments in a row: with the feature
//! `known-signers`, those that come together are hashed beside each other, signatures are verified against tables of the
//! signers' keys, and only the others are recovered.

#[cfg(feature = "known-signers")]
pub(crate) use known::{Batch, Recovery, Unsigned};
#[cfg(not(feature = "known-signers"))]
pub(crate) use plain::{Batch, Recovery, Unsigned};

#[cfg(feature = "known-signers")]
mod known {
    use std::sync::Arc;

    use p2p_fastverify::{Claim, Counts, KnownSigners, Signature, hash_all};
    use p2p_types::{Address, Recovered, SigningDomain};
    use preconfirmation_types::{HashBatch, Hashed, SignatureError, Unrecovered};

    use crate::{Signers, page};

    /// Commitments that are hashed together.
    pub(crate) struct Batch<'a>(HashBatch<'a>);

    impl<'a> Batch<'a> {
        pub(crate) fn new(domain: &'a SigningDomain, commitments: usize) -> Self {
            Self(HashBatch::with_capacity(domain, commitments))
        }

        pub(crate) fn push(&mut self, commitment: Unrecovered<'_>) -> Result<(), SignatureError> {
            self.0.push(commitment)
        }

        /// Each that was pushed, in order.
        pub(crate) fn hash(self) -> impl Iterator<Item = Hashed> {
            self.0.hash(hash_all)
        }
    }

    /// A commitment that waits for its signer, and who should have signed it.
    #[derive(Debug)]
    pub(crate) struct Unsigned {
        hashed: Hashed,
        expected: Option<Address>,
    }

    /// The tables of signers, shared by the clones of a validator. They change how long an answer takes, never the answer.
    #[derive(Debug, Clone)]
    pub(crate) struct Recovery(Arc<KnownSigners>);

    impl Recovery {
        pub(crate) fn new(bytes: usize) -> Self {
            Self(Arc::new(KnownSigners::new(bytes)))
        }

        pub(crate) fn counts(&self) -> Counts {
            self.0.counts()
        }

        /// Of those elected, the one to expect is the one whose table is known, or whose turn it is.
        pub(crate) fn unsigned(&self, hashed: Hashed, elected: Option<&Signers>) -> Unsigned {
            let expected = elected.map(|signers| {
                let known = signers.as_slice().iter().find(|signer| self.0.knows(**signer));
                known.copied().unwrap_or_else(|| signers.first())
            });
            Unsigned { hashed, expected }
        }

        /// Allocates nothing, but when a signer is learnt.
        pub(crate) fn recover(&self, unsigned: Unsigned) -> Result<Recovered, SignatureError> {
            let signer = self.0.recover(&claim(&unsigned));
            if self.0.wants_tables() {
                self.build_wanted();
            }
            signed(unsigned, signer)
        }

        /// The answer to each, in order.
        pub(crate) fn recover_all(&self, all: Vec<Unsigned>) -> Vec<Result<Recovered, SignatureError>> {
            let claims: Vec<Claim> = all.iter().map(claim).collect();
            // Several new signers are learnt beside each other.
            let new = self.0.worth_learning(&claims);
            page::map(&new, 1, |new, _| {
                for (signer, samples) in new {
                    self.0.learn(*signer, samples);
                }
                Vec::<()>::new()
            });
            let signers = page::map(&claims, page::share(claims.len()), |claims, _| {
                self.0.recover_all(claims, page::give_way)
            });
            if self.0.wants_tables() {
                self.build_wanted();
            }
            all.into_iter().zip(signers).map(|(unsigned, signer)| signed(unsigned, signer)).collect()
        }

        fn build_wanted(&self) {
            let known = Arc::clone(&self.0);
            page::in_background(move || known.build_wanted());
        }
    }

    fn claim(Unsigned { hashed, expected }: &Unsigned) -> Claim {
        let signature = Signature::new(hashed.signing_hash().0, hashed.signature().0);
        Claim { signature, expected: *expected }
    }

    fn signed(
        Unsigned { hashed, .. }: Unsigned,
        signer: Option<Address>,
    ) -> Result<Recovered, SignatureError> {
        signer.map(|signer| hashed.signed_by(signer)).ok_or(SignatureError::Unrecoverable)
    }
}

#[cfg(not(feature = "known-signers"))]
mod plain {
    use p2p_types::{Recovered, SigningDomain};
    use preconfirmation_types::{Hashed, SignatureError, Unrecovered};

    use crate::{Signers, page};

    /// Hashes each commitment when it comes.
    pub(crate) struct Batch<'a> {
        domain: &'a SigningDomain,
        hashed: Vec<Hashed>,
    }

    impl<'a> Batch<'a> {
        pub(crate) fn new(domain: &'a SigningDomain, commitments: usize) -> Self {
            Self { domain, hashed: Vec::with_capacity(commitments) }
        }

        pub(crate) fn push(&mut self, commitment: Unrecovered<'_>) -> Result<(), SignatureError> {
            self.hashed.push(commitment.hash(self.domain)?);
            Ok(())
        }

        /// Each that was pushed, in order.
        pub(crate) fn hash(self) -> impl Iterator<Item = Hashed> {
            self.hashed.into_iter()
        }
    }

    /// A commitment that waits for its signer.
    pub(crate) type Unsigned = Hashed;

    /// Recovers every signature.
    #[derive(Debug, Clone)]
    pub(crate) struct Recovery;

    impl Recovery {
        pub(crate) fn new(_: usize) -> Self {
            Self
        }

        pub(crate) fn unsigned(&self, hashed: Hashed, _: Option<&Signers>) -> Unsigned {
            hashed
        }

        pub(crate) fn recover(&self, unsigned: Unsigned) -> Result<Recovered, SignatureError> {
            unsigned.recover()
        }

        pub(crate) fn recover_all(&self, all: Vec<Unsigned>) -> Vec<Result<Recovered, SignatureError>> {
            page::map(&all, page::PIECE, |all, _| {
                all.iter().map(|unsigned| unsigned.clone().recover()).collect()
            })
        }
    }
}
