//! The types of a validated commitment: each can be built only by the rules of its step.

use std::ops::Deref;

use p2p_types::{Address, B256, BlockNumber, Preconfirmation, Promise, Recovered, U256, UnixSeconds};

use crate::{Arrival, Rejection, Window};

/// The numbers that rules compute with, checked to fit 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) block: BlockNumber,
    pub(crate) timestamp: UnixSeconds,
    pub(crate) window_end: UnixSeconds,
}

impl Numbers {
    pub(crate) fn of(preconf: &Preconfirmation) -> Result<Self, Rejection> {
        let fit =
            |field, value: U256| u64::try_from(value).map_err(|_| Rejection::OutOfRange { field, value });
        let block = fit("blockNumber", preconf.block_number)?;
        let timestamp = UnixSeconds::new(fit("timestamp", preconf.timestamp)?);
        let window_end = UnixSeconds::new(fit("submissionWindowEnd", preconf.submission_window_end)?);
        fit("anchorBlockNumber", preconf.anchor_block_number)?;
        fit("gasLimit", preconf.gas_limit)?;
        Ok(Self { block, timestamp, window_end })
    }
}

/// What the rules look at: who makes which promise. Whether it is signed is not theirs to ask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) signer: Address,
    pub(crate) preconf: &'a Preconfirmation,
    pub(crate) numbers: Numbers,
}

/// Step 1: its signature names a signer, its numbers fit, it keeps the rules that it can keep on its own
/// (EOP, slasher, block parameters; §4). Nothing is known yet about whether the signer was elected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    recovered: Recovered,
    numbers: Numbers,
}

impl Authenticated {
    pub(crate) const fn new(recovered: Recovered, numbers: Numbers) -> Self {
        Self { recovered, numbers }
    }

    pub(crate) const fn numbers(&self) -> Numbers {
        self.numbers
    }

    pub(crate) const fn claim(&self) -> Claim<'_> {
        Claim { signer: self.recovered.signer(), preconf: self.preconf(), numbers: self.numbers }
    }

    /// The commitment with its signer and hashes.
    #[must_use]
    pub const fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// The promise inside.
    #[must_use]
    pub const fn preconf(&self) -> &Preconfirmation {
        self.recovered.signed().preconf()
    }

    /// Its height.
    #[must_use]
    pub const fn block(&self) -> BlockNumber {
        self.numbers.block
    }

    /// Its block time.
    #[must_use]
    pub const fn timestamp(&self) -> UnixSeconds {
        self.numbers.timestamp
    }

    /// The end of the submission window that it claims.
    #[must_use]
    pub const fn window_end(&self) -> UnixSeconds {
        self.numbers.window_end
    }

    /// Its preconfirmation hash.
    #[must_use]
    pub const fn hash(&self) -> B256 {
        self.recovered.hash()
    }

    /// The preconfirmation hash of its parent.
    #[must_use]
    pub const fn parent_hash(&self) -> B256 {
        self.preconf().parent_preconfirmation_hash
    }

    /// The hash of its transaction list; none in an EOP-only commitment.
    #[must_use]
    pub fn txlist_hash(&self) -> Option<B256> {
        Some(self.preconf().raw_tx_list_hash).filter(|hash| !hash.is_zero())
    }

    /// Whether it hands over without a block.
    #[must_use]
    pub fn is_eop_only(&self) -> bool {
        self.preconf().is_eop_only()
    }
}

impl From<&Authenticated> for Promise {
    fn from(commitment: &Authenticated) -> Self {
        Self {
            window_end: commitment.window_end(),
            signer: commitment.recovered().signer(),
            block: commitment.block(),
            hash: commitment.hash(),
            eop: commitment.preconf().eop,
            eop_only: commitment.is_eop_only(),
        }
    }
}

/// Step 2: its signer was elected for its window and its time falls in it (§4). Enough to forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elected {
    authenticated: Authenticated,
    window: Window,
    arrival: Arrival,
}

impl Elected {
    pub(crate) const fn new(authenticated: Authenticated, window: Window, arrival: Arrival) -> Self {
        Self { authenticated, window, arrival }
    }

    /// When and how it came.
    #[must_use]
    pub const fn arrival(&self) -> Arrival {
        self.arrival
    }

    /// The window that its signer was elected for.
    #[must_use]
    pub const fn window(&self) -> Window {
        self.window
    }
}

impl Deref for Elected {
    type Target = Authenticated;

    fn deref(&self) -> &Authenticated {
        &self.authenticated
    }
}

/// Step 3: it follows its parent, down to the base (§5). Enough to store, show and serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linked {
    elected: Elected,
    parent: B256,
}

impl Linked {
    pub(crate) const fn new(elected: Elected, parent: B256) -> Self {
        Self { elected, parent }
    }

    /// The preconfirmation hash of the block that it follows: the one that it names, unless
    /// [`ZeroParent::FollowsHeight`](crate::ZeroParent::FollowsHeight) applies.
    #[must_use]
    pub const fn parent(&self) -> B256 {
        self.parent
    }
}

impl Deref for Linked {
    type Target = Elected;

    fn deref(&self) -> &Elected {
        &self.elected
    }
}
