//! The validator: three pure steps from wire bytes to a linked commitment.

use std::{fmt, sync::Arc};

use p2p_types::{Address, B256, BlockNumber, PreconfCommitment, SignedCommitment, UnixSeconds};
use preconfirmation_types::{Recovered, SignatureError, Unrecovered};

use crate::{
    Admission, Arrival, Authenticated, BlockRules, Draft, Elected, Facts, IgnoreReason, Leniency, Linked,
    Lookahead, Missing, Parent, Rejection, Signers, TaikoRules, ValidationConfig, ValidationOutcome, Window,
    ZeroParent,
    authenticated::{Claim, Numbers},
    page,
    recovery::{Batch, Recovery, Unsigned},
};

/// What step 1 knows before the hashes: who may sign, where the schedule is known.
struct Screened {
    numbers: Numbers,
    elected: Option<Signers>,
}

/// Validates commitments. Cheap to clone: the same validator and the same facts always give the same outcome.
#[derive(Clone)]
pub struct Validator {
    config: ValidationConfig,
    lookahead: Arc<dyn Lookahead>,
    rules: Arc<dyn BlockRules>,
    l1_head: Option<BlockNumber>,
    recovery: Recovery,
}

impl Validator {
    /// A validator with Taiko's block rules.
    #[must_use]
    pub fn new(config: ValidationConfig, lookahead: Arc<dyn Lookahead>) -> Self {
        Self::with_rules(config, lookahead, Arc::new(TaikoRules::default()))
    }

    /// A validator with other block rules.
    #[must_use]
    pub fn with_rules(
        config: ValidationConfig,
        lookahead: Arc<dyn Lookahead>,
        rules: Arc<dyn BlockRules>,
    ) -> Self {
        Self { config, lookahead, rules, l1_head: None, recovery: Recovery::new(config.signer_tables) }
    }

    /// Tells this validator, not its clones, of the head of L1. Until then no anchor is too old, and none
    /// ever is in history.
    pub const fn set_l1_head(&mut self, l1_head: Option<BlockNumber>) {
        self.l1_head = l1_head;
    }

    /// What the rules were configured with.
    #[must_use]
    pub const fn config(&self) -> &ValidationConfig {
        &self.config
    }

    /// Who may sign.
    #[must_use]
    pub fn lookahead(&self) -> &dyn Lookahead {
        self.lookahead.as_ref()
    }

    /// The rules that are loosened, for the status.
    pub fn leniencies(&self) -> impl Iterator<Item = Leniency> {
        let zero_parent = self.config.zero_parent == ZeroParent::FollowsHeight;
        let any_signer = self.lookahead.elects_anyone();
        [(zero_parent, Leniency::ZeroParentFollowsHeight), (any_signer, Leniency::AnySigner)]
            .into_iter()
            .filter_map(|(applies, leniency)| applies.then_some(leniency))
    }

    /// Step 1, on untrusted wire bytes: decodes, checks whatever needs no signer (ranges, EOP, slasher,
    /// block parameters, and the window, where the schedule is known), and only then recovers the signer:
    /// the costliest part of all three steps, done at most once. Meant for a worker. Allocates nothing.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn authenticate(&self, ssz: &[u8]) -> Result<Authenticated, Rejection> {
        let commitment = Unrecovered::from_ssz(ssz).map_err(Rejection::Malformed)?;
        let Screened { numbers, elected } = self.screen(commitment.signed())?;
        let hashed = commitment.hash(&self.config.domain).map_err(Rejection::Signature)?;
        let unsigned = self.recovery.unsigned(hashed, elected.as_ref());
        let recovered = self.recovery.recover(unsigned).map_err(Rejection::Signature)?;
        Ok(Authenticated::new(recovered, numbers))
    }

    /// Step 1, on a decoded commitment of our own. Its window is left to [`elect`](Self::elect), as the
    /// schedule changes nothing about who signed it.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn authenticate_signed(&self, signed: SignedCommitment) -> Result<Authenticated, Rejection> {
        let numbers = self.judge_alone(&signed.commitment)?;
        Ok(Authenticated::new(signed.recover(&self.config.domain).map_err(Rejection::Signature)?, numbers))
    }

    /// Step 1, on what a store has kept: as [`authenticate_signed`](Self::authenticate_signed), but a signature that was
    /// recovered under this domain is not recovered again.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn authenticate_recovered(&self, recovered: &Recovered) -> Result<Authenticated, Rejection> {
        let signed = recovered.signed();
        if signed.commitment.signing_hash(&self.config.domain) != recovered.signing_hash() {
            return self.authenticate_signed(signed.clone());
        }
        let numbers = self.judge_alone(&signed.commitment)?;
        Ok(Authenticated::new(recovered.clone(), numbers))
    }

    /// Step 1, on what `signer` is to sign: all of it but the signature.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn draft(&self, commitment: PreconfCommitment, signer: Address) -> Result<Draft, Rejection> {
        let numbers = self.judge_alone(&commitment)?;
        Ok(Draft::new(commitment, signer, numbers))
    }

    /// Step 1, on an untrusted page: one answer for each commitment, in order, each as
    /// [`authenticate`](Self::authenticate) would give it.
    ///
    /// With the feature `parallel` it is done by threads that all pages share, one for each core. They let other threads go
    /// first, so that a commitment of gossip does not wait behind pages. Whoever calls from a rayon pool of their own has it
    /// done by that.
    #[must_use]
    pub fn authenticate_page(&self, page: &[SignedCommitment]) -> Vec<Result<Authenticated, Rejection>> {
        let share = page::share(page.len());
        let hash = || {
            page::map(page, share, |piece, buffer| {
                let mut batch = Batch::new(&self.config.domain, piece.len());
                let screened = piece.iter().map(|signed| {
                    let commitment = Unrecovered::from_signed(signed.clone(), buffer);
                    let screened = self.screen(commitment.signed())?;
                    batch.push(commitment).map_err(Rejection::Signature)?;
                    Ok(screened)
                });
                self.hash_all(screened.collect(), batch)
            })
        };
        page::as_page(page.len(), || self.recover_all(hash()))
    }

    /// Step 1, on many messages of gossip: one answer for each, in order, each as
    /// [`authenticate`](Self::authenticate) would give it. Spreads over the cores with the feature `parallel`, and waits for
    /// no page.
    #[must_use]
    pub fn authenticate_all<T: AsRef<[u8]> + Sync>(
        &self,
        ssz: &[T],
    ) -> Vec<Result<Authenticated, Rejection>> {
        self.recover_all(page::map(ssz, page::share(ssz.len()), |piece, _| {
            let mut batch = Batch::new(&self.config.domain, piece.len());
            let screened = piece.iter().map(|ssz| {
                let commitment = Unrecovered::from_ssz(ssz.as_ref()).map_err(Rejection::Malformed)?;
                let screened = self.screen(commitment.signed())?;
                batch.push(commitment).map_err(Rejection::Signature)?;
                Ok(screened)
            });
            self.hash_all(screened.collect(), batch)
        }))
    }

    /// How signatures were checked so far, by this validator and its clones.
    #[cfg(feature = "known-signers")]
    #[must_use]
    pub fn signer_counts(&self) -> crate::SignerCounts {
        self.recovery.counts()
    }

    /// The answers of step 1, from what was hashed.
    fn recover_all(
        &self,
        hashed: Vec<Result<(Unsigned, Numbers), Rejection>>,
    ) -> Vec<Result<Authenticated, Rejection>> {
        let mut unsigned = Vec::with_capacity(hashed.len());
        let all: Vec<Result<Numbers, Rejection>> = hashed
            .into_iter()
            .map(|hashed| {
                let (commitment, numbers) = hashed?;
                unsigned.push(commitment);
                Ok(numbers)
            })
            .collect();
        let mut recovered = self.recovery.recover_all(unsigned).into_iter();
        // There is an answer for each that was hashed.
        let mut next = || recovered.next().unwrap_or(Err(SignatureError::Unrecoverable));
        all.into_iter()
            .map(|numbers| {
                numbers.and_then(|numbers| {
                    Ok(Authenticated::new(next().map_err(Rejection::Signature)?, numbers))
                })
            })
            .collect()
    }

    /// Step 1 up to the hashes.
    fn screen(&self, signed: &SignedCommitment) -> Result<Screened, Rejection> {
        let numbers = self.judge_alone(&signed.commitment)?;
        // An unknown schedule and a failing one are for step 2 to tell.
        let open = match self.lookahead.admissible(numbers.timestamp, numbers.window_end) {
            Ok(admission) => in_window(numbers, admission)?,
            Err(_) => None,
        };
        Ok(Screened { numbers, elected: open.map(|(_, signers)| signers) })
    }

    /// What was screened, with the hashes of those in the batch: each that passed.
    fn hash_all(
        &self,
        screened: Vec<Result<Screened, Rejection>>,
        batch: Batch<'_>,
    ) -> Vec<Result<(Unsigned, Numbers), Rejection>> {
        let mut hashed = batch.hash();
        let with_hashes = |screened: Result<Screened, Rejection>| {
            let Screened { numbers, elected } = screened?;
            // There is one for each that passed.
            let hashed = hashed.next().ok_or(Rejection::Signature(SignatureError::Unrecoverable))?;
            Ok((self.recovery.unsigned(hashed, elected.as_ref()), numbers))
        };
        screened.into_iter().map(with_hashes).collect()
    }

    /// The rules that a commitment keeps or breaks whoever signed it and whatever else is known.
    fn judge_alone(&self, commitment: &PreconfCommitment) -> Result<Numbers, Rejection> {
        let PreconfCommitment { preconf, slasher_address } = commitment;
        let numbers = Numbers::of(preconf)?;
        if !preconf.eop && preconf.raw_tx_list_hash.is_zero() {
            return Err(Rejection::MissingTxListHash);
        }
        let (expected, actual) = (self.config.slasher, *slasher_address);
        if expected != actual {
            return Err(Rejection::Slasher { expected, actual });
        }
        if !preconf.is_eop_only() {
            self.rules.check_alone(preconf)?;
        }
        Ok(numbers)
    }

    /// Step 2: was its signer elected for its window, does its time fall in it, did it come neither early
    /// nor late?
    /// What passes may be forwarded.
    ///
    /// While the schedule is not known, only what it could still make valid waits for it: neither far ahead of our clock
    /// nor late, and of a window that ends before the horizon.
    pub fn elect(&self, commitment: Authenticated, arrival: Arrival) -> ValidationOutcome<Elected> {
        self.elected_for(commitment.claim(), arrival)
            .and_then(|window| ValidationOutcome::Accept(Elected::new(commitment, window, arrival)))
    }

    /// Step 2, on what is not signed yet: as [`elect`](Self::elect) would judge it signed.
    pub fn elect_draft(&self, draft: &Draft, arrival: Arrival) -> ValidationOutcome<()> {
        self.elected_for(draft.claim(), arrival).and_then(|_| ValidationOutcome::Accept(()))
    }

    /// The window that a claim belongs to.
    fn elected_for(&self, claim: Claim<'_>, arrival: Arrival) -> ValidationOutcome<Window> {
        let Claim { signer, numbers: Numbers { timestamp, window_end: claimed, .. }, .. } = claim;
        let untimely = self.untimely(claim.numbers, arrival);
        let admission = match self.lookahead.admissible(timestamp, claimed) {
            Ok(admission) => in_window(claim.numbers, admission),
            Err(error) => return ValidationOutcome::Ignore(IgnoreReason::Lookahead(error)),
        };
        let (window, signers) = match admission {
            Ok(Some(open)) => open,
            Ok(None) => return self.awaiting_schedule(claim.numbers, arrival, untimely),
            Err(rejection) => return rejection.into(),
        };
        if !signers.contains(signer) && !self.lookahead.elects_anyone() {
            if self.lookahead.may_be_elected(signer, timestamp) {
                return self.awaiting_schedule(claim.numbers, arrival, untimely);
            }
            return Rejection::WrongSigner { elected: signers.first(), signer }.into();
        }
        if let Some(reason) = untimely {
            return ValidationOutcome::Ignore(reason);
        }
        let due = timestamp.saturating_sub(self.config.clock_drift);
        if due > arrival.now() {
            return ValidationOutcome::Defer(Missing::Time(due));
        }
        ValidationOutcome::Accept(window)
    }

    /// Why a commitment comes too early to be kept, or too late.
    fn untimely(&self, numbers: Numbers, arrival: Arrival) -> Option<IgnoreReason> {
        let ValidationConfig { clock_drift, slot, executor_slot_grace: grace, .. } = self.config;
        let (Numbers { timestamp, window_end, .. }, now) = (numbers, arrival.now());
        let due = timestamp.saturating_sub(clock_drift);
        if due > now && due >= now.saturating_add(slot) {
            return Some(IgnoreReason::Early { timestamp, now });
        }
        match arrival {
            Arrival::Live(arrived) if arrived > window_end.saturating_add(grace) => {
                Some(IgnoreReason::Late { window_end, grace, arrived })
            }
            Arrival::Live(_) | Arrival::History(_) => None,
        }
    }

    fn awaiting_schedule(
        &self,
        Numbers { timestamp, window_end, .. }: Numbers,
        arrival: Arrival,
        untimely: Option<IgnoreReason>,
    ) -> ValidationOutcome<Window> {
        if let Some(reason) = untimely {
            return ValidationOutcome::Ignore(reason);
        }
        let horizon = arrival.now().saturating_add(self.config.horizon);
        if window_end > horizon {
            return ValidationOutcome::Ignore(IgnoreReason::BeyondHorizon { window_end, horizon });
        }
        self.lookahead.request(timestamp, window_end);
        ValidationOutcome::Defer(Missing::Schedule(window_end))
    }

    /// Whether the lookahead knows the schedule at a moment: what waits for it can be judged again.
    #[must_use]
    pub fn knows(&self, moment: UnixSeconds) -> bool {
        matches!(self.lookahead.turn(moment), Ok(Some(_)))
    }

    /// Whether [`ZeroParent::FollowsHeight`] applies to a commitment that names this parent: [`Facts::before`] is needed
    /// then.
    #[must_use]
    pub fn follows_height(&self, parent: B256) -> bool {
        parent.is_zero() && self.config.zero_parent == ZeroParent::FollowsHeight
    }

    /// Step 3: does it follow its parent, down to the base? What passes may be stored, shown and served.
    ///
    /// A parent that is not known defers, even where another block is known at that height: its signer may
    /// have equivocated, and the block that a later one builds on wins, wherever it arrived (§7).
    pub fn link(&self, commitment: Elected, facts: &Facts<'_>) -> ValidationOutcome<Linked> {
        self.follows(commitment.claim(), commitment.arrival(), facts)
            .and_then(|follows| ValidationOutcome::Accept(Linked::new(commitment, follows)))
    }

    /// Step 3, on what is not signed yet: as [`link`](Self::link) would judge it signed.
    pub fn link_draft(&self, draft: &Draft, arrival: Arrival, facts: &Facts<'_>) -> ValidationOutcome<()> {
        self.follows(draft.claim(), arrival, facts).and_then(|_| ValidationOutcome::Accept(()))
    }

    /// The preconfirmation hash of the block that a claim follows.
    fn follows(&self, claim: Claim<'_>, arrival: Arrival, facts: &Facts<'_>) -> ValidationOutcome<B256> {
        let Facts { base, parent, before } = *facts;
        let (block, named) = (claim.numbers.block, claim.preconf.parent_preconfirmation_hash);
        if block <= base.number {
            return ValidationOutcome::Ignore(IgnoreReason::Settled { block, base: base.number });
        }
        if let Err(rejection) = self.check_anchor(claim, arrival) {
            return rejection.into();
        }
        let by_height = self.follows_height(named);
        let parent = match if by_height { before } else { parent } {
            _ if block == base.next() => self.on_base(claim, facts),
            Some(parent) => ValidationOutcome::Accept(Some(parent)),
            None => ValidationOutcome::Defer(Missing::Parent(named)),
        };
        parent.and_then(|parent| {
            if let Some(parent) = parent
                && let Err(rejection) = self.check_on(claim, parent)
            {
                return rejection.into();
            }
            let follows = match parent {
                Some(parent) if by_height => parent.preconf.hash(),
                None if by_height => base.hash.unwrap_or_default(),
                _ => named,
            };
            ValidationOutcome::Accept(follows)
        })
    }

    /// The rules for a block on its parent.
    fn check_on(&self, claim: Claim<'_>, parent: Parent<'_>) -> Result<(), Rejection> {
        let block = claim.numbers.block;
        if parent.preconf.is_eop_only() {
            return Err(Rejection::EopOnlyParent);
        }
        if parent.block.checked_add(1) != Some(block) {
            return Err(Rejection::BlockNumber { block, parent: parent.block });
        }
        if claim.preconf.is_eop_only() { Ok(()) } else { self.rules.check(claim.preconf, parent.preconf) }
    }

    /// The settled block that the first one above the base stands on, where the caller has it.
    fn on_base<'f>(&self, claim: Claim<'_>, facts: &Facts<'f>) -> ValidationOutcome<Option<Parent<'f>>> {
        let (block, actual) = (claim.numbers.block, claim.preconf.parent_preconfirmation_hash);
        let Facts { base, parent, before } = *facts;
        let settled = before.filter(|before| before.block == base.number);
        if self.follows_height(actual) {
            return ValidationOutcome::Accept(settled);
        }
        match (base.hash, settled.map(|settled| settled.preconf.hash())) {
            (Some(expected), _) if expected != actual => Rejection::Parent { expected, actual }.into(),
            // The chain has a block there and this names another one: one that was left behind, or one that we have
            // not seen, which only the application can say to be the settled one.
            (None, Some(ours)) if ours != actual => match parent {
                Some(_) => ValidationOutcome::Ignore(IgnoreReason::Settled { block, base: base.number }),
                None => ValidationOutcome::Defer(Missing::Parent(actual)),
            },
            // Where the caller has the settled block itself, its parameters are checked as well.
            _ => ValidationOutcome::Accept(parent.filter(|parent| parent.block == base.number)),
        }
    }

    fn check_anchor(&self, claim: Claim<'_>, arrival: Arrival) -> Result<(), Rejection> {
        match (arrival, self.l1_head) {
            (Arrival::Live(_), Some(l1_head)) if !claim.preconf.is_eop_only() => {
                self.rules.check_anchor(claim.preconf, l1_head)
            }
            _ => Ok(()),
        }
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
        let leniencies: Vec<Leniency> = self.leniencies().collect();
        f.debug_struct("Validator")
            .field("config", &self.config)
            .field("leniencies", &leniencies)
            .finish_non_exhaustive()
    }
}

/// The window of a commitment and who may sign in it, if the schedule tells; the rule that it breaks, if there is no
/// such window or its time is not in it (§4, rule 4).
const fn in_window(numbers: Numbers, admission: Admission) -> Result<Option<(Window, Signers)>, Rejection> {
    let Numbers { timestamp, window_end: claimed, .. } = numbers;
    match admission {
        Admission::NotKnown => Ok(None),
        Admission::NoWindow { scheduled } => Err(Rejection::WindowEnd { claimed, scheduled }),
        Admission::Outside { window } => Err(Rejection::OutsideWindow { timestamp, window }),
        Admission::Open { window, signers } => Ok(Some((window, signers))),
    }
}
