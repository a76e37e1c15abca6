//! The validator: three steps, each pure.

use std::{fmt, sync::Arc, time::Duration};

use p2p_types::{
    Address, Base, BlockNumber, Preconfirmation, Recovered, SignedCommitment, SigningDomain, UnixSeconds,
};

use crate::{
    Authenticated, BlockRules, Elected, IgnoreReason, Linked, Lookahead, Missing, Rejection, TaikoRules,
    ValidationOutcome,
};

/// What to do with a commitment that names no parent at all. The protocol links every block by its parent's
/// hash; some deployed sidecars send zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ZeroParent {
    /// It waits for a parent that cannot come, like any other with an unknown parent.
    #[default]
    Unknown,
    /// It follows whatever block is known at the height before: order by height, without linkage. An
    /// operator's explicit choice, shown in the status.
    FollowsHeight,
}

/// What the rules take from the chain's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidationConfig {
    /// Under which commitments are signed.
    pub domain: SigningDomain,
    /// The chain's slasher.
    pub slasher: Address,
    /// How long after its window's end a commitment may still arrive live (`executor_slot_grace`), in whole
    /// seconds.
    pub executor_slot_grace: Duration,
    /// How far a block's time may be ahead of our clock, in whole seconds. Keeps an elected preconfer from
    /// filling its future windows today.
    pub clock_drift: Duration,
    /// What a zero parent hash means.
    pub zero_parent: ZeroParent,
}

impl ValidationConfig {
    /// The rules of the protocol for a chain, with 4 s of grace and 2 s of drift.
    #[must_use]
    pub const fn new(domain: SigningDomain, slasher: Address) -> Self {
        Self {
            domain,
            slasher,
            executor_slot_grace: Duration::from_secs(4),
            clock_drift: Duration::from_secs(2),
            zero_parent: ZeroParent::Unknown,
        }
    }
}

/// When and how a commitment came, by the caller's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// By gossip or from the application: it can be late.
    Live(UnixSeconds),
    /// From a peer's history.
    History(UnixSeconds),
}

/// A block that a commitment may build on.
#[derive(Debug, Clone, Copy)]
pub struct Parent<'a> {
    /// Its height.
    pub block: BlockNumber,
    /// Its parameters.
    pub preconf: &'a Preconfirmation,
}

/// What the caller knows of the chain around one commitment.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What the contracts have settled.
    pub base: Base,
    /// The known commitment whose hash is the commitment's parent hash.
    pub parent: Option<Parent<'a>>,
    /// The block at the height before, whatever its hash. Only [`ZeroParent::FollowsHeight`] looks at it.
    pub before: Option<Parent<'a>>,
}

/// Judges commitments. Cheap to clone, free of state: the same facts always give the same outcome.
#[derive(Clone)]
pub struct Validator {
    config: ValidationConfig,
    lookahead: Arc<dyn Lookahead>,
    rules: Arc<dyn BlockRules>,
}

impl Validator {
    /// A validator with Taiko's block rules.
    #[must_use]
    pub fn new(config: ValidationConfig, lookahead: Arc<dyn Lookahead>) -> Self {
        Self::with_rules(config, lookahead, Arc::new(TaikoRules))
    }

    /// A validator with other block rules.
    #[must_use]
    pub fn with_rules(
        config: ValidationConfig,
        lookahead: Arc<dyn Lookahead>,
        rules: Arc<dyn BlockRules>,
    ) -> Self {
        Self { config, lookahead, rules }
    }

    /// What the rules were configured with.
    #[must_use]
    pub const fn config(&self) -> &ValidationConfig {
        &self.config
    }

    /// Step 1, on wire bytes: decodes, recovers the signer and checks what a commitment can be checked for
    /// on its own. One recovery, the costliest part of all three steps: meant for a worker.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn authenticate(&self, ssz: &[u8]) -> Result<Authenticated, Rejection> {
        self.authenticated(Recovered::from_ssz(ssz, &self.config.domain)?)
    }

    /// Step 1, on a decoded commitment.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn authenticate_signed(&self, signed: SignedCommitment) -> Result<Authenticated, Rejection> {
        self.authenticated(signed.recover(&self.config.domain).map_err(Rejection::Signature)?)
    }

    fn authenticated(&self, recovered: Recovered) -> Result<Authenticated, Rejection> {
        let commitment = &recovered.signed().commitment;
        if !commitment.preconf.eop && commitment.preconf.raw_tx_list_hash.is_zero() {
            return Err(Rejection::MissingTxListHash);
        }
        let (expected, actual) = (self.config.slasher, commitment.slasher_address);
        if expected != actual {
            return Err(Rejection::Slasher { expected, actual });
        }
        Authenticated::from_recovered(recovered)
    }

    /// Step 2: was its signer elected for its window, does its time fall in it, did it come neither early
    /// nor late?
    /// What passes may be forwarded.
    pub fn elect(&self, commitment: Authenticated, arrival: Arrival) -> ValidationOutcome<Elected> {
        let claimed = commitment.window_end();
        let slot = match self.lookahead.slot(claimed) {
            Ok(Some(slot)) => slot,
            Ok(None) => return ValidationOutcome::Defer(Missing::Schedule(claimed)),
            Err(error) => return ValidationOutcome::Ignore(IgnoreReason::Lookahead(error)),
        };
        let scheduled = slot.window.end;
        if scheduled != claimed {
            return Rejection::WindowEnd { claimed, scheduled }.into();
        }
        let (elected, signer) = (slot.signer, commitment.recovered().signer());
        if elected != signer {
            return Rejection::WrongSigner { elected, signer }.into();
        }
        let (timestamp, window) = (commitment.timestamp(), slot.window);
        if !window.contains(timestamp) {
            return Rejection::OutsideWindow { timestamp, window }.into();
        }
        let (Arrival::Live(now) | Arrival::History(now)) = arrival;
        if timestamp > now.saturating_add(self.config.clock_drift) {
            return ValidationOutcome::Ignore(IgnoreReason::Early { timestamp, now });
        }
        let grace = self.config.executor_slot_grace;
        match arrival {
            Arrival::Live(arrived) if arrived > claimed.saturating_add(grace) => {
                ValidationOutcome::Ignore(IgnoreReason::Late { window_end: claimed, grace, arrived })
            }
            _ => ValidationOutcome::Accept(Elected::new(commitment, window)),
        }
    }

    /// Whether the lookahead knows the schedule at a moment: what waits for it can be judged again.
    #[must_use]
    pub fn knows(&self, moment: UnixSeconds) -> bool {
        matches!(self.lookahead.slot(moment), Ok(Some(_)))
    }

    /// Whether [`ZeroParent::FollowsHeight`] applies to a commitment: [`Facts::before`] is needed then.
    #[must_use]
    pub fn follows_height(&self, commitment: &Authenticated) -> bool {
        commitment.parent_hash().is_zero() && self.config.zero_parent == ZeroParent::FollowsHeight
    }

    /// Step 3: does it follow its parent, down to the base? What passes may be stored, shown and served.
    ///
    /// A parent that is not known defers, even where another block is known at that height: its signer may
    /// have equivocated, and the block that a later one builds on wins, wherever it arrived (§7).
    pub fn link(&self, commitment: Elected, facts: &Facts<'_>) -> ValidationOutcome<Linked> {
        let block = commitment.block();
        let Facts { base, parent, before } = *facts;
        if block <= base.number {
            return ValidationOutcome::Ignore(IgnoreReason::Settled { block, base: base.number });
        }
        let actual = commitment.parent_hash();
        let mut follows = actual;
        let parent = if block == base.next() {
            match base.hash {
                Some(expected) if expected != actual => return Rejection::Parent { expected, actual }.into(),
                // Where the application has the settled block itself, its parameters are checked as well.
                _ => parent.filter(|parent| parent.block == base.number),
            }
        } else {
            let by_height = self.follows_height(&commitment);
            let Some(parent) = (if by_height { before } else { parent }) else {
                return ValidationOutcome::Defer(Missing::Parent(actual));
            };
            if by_height {
                follows = parent.preconf.hash();
            }
            Some(parent)
        };
        if let Some(parent) = parent {
            if parent.preconf.is_eop_only() {
                return Rejection::EopOnlyParent.into();
            }
            if parent.block.checked_add(1) != Some(block) {
                return Rejection::BlockNumber { block, parent: parent.block }.into();
            }
            // A handover declines the height; the parameters of a block that never was bind nobody.
            if !commitment.is_eop_only()
                && let Err(rejection) = self.rules.check(commitment.preconf(), parent.preconf)
            {
                return rejection.into();
            }
        }
        ValidationOutcome::Accept(Linked::new(commitment, follows))
    }

    /// All three steps.
    pub fn validate(&self, ssz: &[u8], arrival: Arrival, facts: &Facts<'_>) -> ValidationOutcome<Linked> {
        match self.authenticate(ssz) {
            Ok(commitment) => {
                self.elect(commitment, arrival).and_then(|commitment| self.link(commitment, facts))
            }
            Err(rejection) => rejection.into(),
        }
    }
}

impl fmt::Debug for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Validator").field("config", &self.config).finish_non_exhaustive()
    }
}
