//! Linked commitments, many of them.

use std::sync::Arc;

use p2p_types::{Address, B256, Base, Preconfirmation, SignedCommitment, TxList, U256, UnixSeconds};
use p2p_validation::{
    Arrival, Facts, Linked, Lookahead, LookaheadError, Parent, Slot, ValidationConfig, ValidationOutcome,
    Validator, Window,
};
use preconfirmation_benches::{DOMAIN, commitment, signed};

/// Elects anyone at any time: stores care for neither.
struct Anyone;

impl Lookahead for Anyone {
    fn turn(&self, window_end: UnixSeconds) -> Result<Option<Slot>, LookaheadError> {
        let window = Window { start: UnixSeconds::new(0), end: window_end };
        Ok(Some(Slot { signer: Address::ZERO, window }))
    }

    fn elects_anyone(&self) -> bool {
        true
    }
}

/// A chain from block 1 on, judged by the validator as any other. All carry the same signature, of which a signer
/// recovers from each, another every time: to recover them is the price of validation, to sign them is not.
pub(crate) struct Blocks {
    validator: Validator,
    last: Option<Preconfirmation>,
    next: u64,
    template: SignedCommitment,
}

impl Blocks {
    pub(crate) fn new() -> Self {
        let template = signed(1).unwrap();
        let config = ValidationConfig::new(DOMAIN, template.commitment.slasher_address);
        Self { validator: Validator::new(config, Arc::new(Anyone)), last: None, next: 1, template }
    }

    /// The next ones.
    pub(crate) fn take(&mut self, count: usize) -> Vec<Linked> {
        let mut parent = self.last.as_ref().map_or(B256::ZERO, Preconfirmation::hash);
        let page: Vec<SignedCommitment> = (self.next..)
            .take(count)
            .map(|number| {
                let mut made = self.template.clone();
                made.commitment = commitment(number);
                made.commitment.preconf.timestamp = U256::from(number);
                made.commitment.preconf.submission_window_end = U256::from(number);
                made.commitment.preconf.parent_preconfirmation_hash = parent;
                parent = made.preconf().hash();
                made
            })
            .collect();
        let arrival = Arrival::History(UnixSeconds::new(u64::MAX));
        let judged = self.validator.authenticate_page(&page);
        let mut linked = Vec::with_capacity(count);
        for commitment in judged {
            let block = self.next - 1;
            let parent = self.last.as_ref().map(|preconf| Parent { block, preconf });
            let facts = Facts { base: Base::at(0), parent, before: None };
            let outcome = self
                .validator
                .elect(commitment.unwrap(), arrival)
                .and_then(|next| self.validator.link(next, &facts));
            let ValidationOutcome::Accept(next) = outcome else { unreachable!("{outcome:?}") };
            self.last = Some(next.preconf().clone());
            self.next += 1;
            linked.push(next);
        }
        linked
    }
}

/// A list of so many bytes that a number names.
pub(crate) fn list(number: u64, bytes: usize) -> TxList {
    let bytes: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(bytes).collect();
    TxList::new(bytes.into(), usize::MAX).unwrap()
}
