//! A commitment that nobody has signed yet.

use p2p_types::{Address, B256, BlockNumber, PreconfCommitment, Promise, SigningDomain, UnixSeconds};

use crate::{
    Authenticated,
    authenticated::{Claim, Numbers},
};

/// A commitment as a signer would sign it, which keeps the rules that it can keep on its own (§4). A preconfer has it
/// judged by the other rules before it signs: [`Validator::elect_draft`](crate::Validator::elect_draft),
/// [`Validator::link_draft`](crate::Validator::link_draft). It can be neither stored nor sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    commitment: PreconfCommitment,
    signer: Address,
    numbers: Numbers,
    hash: B256,
}

impl Draft {
    pub(crate) fn new(commitment: PreconfCommitment, signer: Address, numbers: Numbers) -> Self {
        let hash = commitment.preconf.hash();
        Self { commitment, signer, numbers, hash }
    }

    pub(crate) const fn claim(&self) -> Claim<'_> {
        Claim { signer: self.signer, preconf: &self.commitment.preconf, numbers: self.numbers }
    }

    /// The commitment.
    #[must_use]
    pub const fn commitment(&self) -> &PreconfCommitment {
        &self.commitment
    }

    /// Who is to sign it.
    #[must_use]
    pub const fn signer(&self) -> Address {
        self.signer
    }

    /// Its height.
    #[must_use]
    pub const fn block(&self) -> BlockNumber {
        self.numbers.block
    }

    /// The end of its submission window.
    #[must_use]
    pub const fn window_end(&self) -> UnixSeconds {
        self.numbers.window_end
    }

    /// Its preconfirmation hash.
    #[must_use]
    pub const fn hash(&self) -> B256 {
        self.hash
    }

    /// The preconfirmation hash of its parent.
    #[must_use]
    pub const fn parent_hash(&self) -> B256 {
        self.commitment.preconf.parent_preconfirmation_hash
    }

    /// What is to be signed.
    #[must_use]
    pub fn signing_hash(&self, domain: &SigningDomain) -> B256 {
        self.commitment.signing_hash(domain)
    }

    /// What its signer promises by it.
    #[must_use]
    pub fn promise(&self) -> Promise {
        Promise {
            window_end: self.numbers.window_end,
            signer: self.signer,
            block: self.numbers.block,
            hash: self.hash,
            eop: self.commitment.preconf.eop,
            eop_only: self.commitment.preconf.is_eop_only(),
        }
    }
}

impl From<&Authenticated> for Draft {
    fn from(commitment: &Authenticated) -> Self {
        Self {
            commitment: commitment.recovered().signed().commitment.clone(),
            signer: commitment.recovered().signer(),
            numbers: commitment.numbers(),
            hash: commitment.hash(),
        }
    }
}
