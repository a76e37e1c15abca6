//! Evidence of misbehaviour, and the witness that detects it.

use std::{collections::BTreeMap, num::NonZeroUsize};

use p2p_types::{Address, B256, BlockNumber, Misbehaviour, Promise, SignedCommitment, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::{Authenticated, Elected, Rejection, Validator};

/// Whether these two prove a misbehaviour. Of a block after an EOP, the EOP is the first.
fn prove(kind: Misbehaviour, first: &Authenticated, second: &Authenticated) -> bool {
    let one_turn = first.recovered().signer() == second.recovered().signer()
        && first.window_end() == second.window_end();
    one_turn
        && match kind {
            Misbehaviour::Equivocation => first.block() == second.block() && first.hash() != second.hash(),
            Misbehaviour::BlockAfterEop => {
                first_forbidden(first).is_some_and(|lowest| second.block() >= lowest) && !second.is_eop_only()
            }
            // A kind that this version does not know is proven by nothing.
            _ => false,
        }
}

/// The lowest height at which a handover leaves its signer no block; none if it is no handover, or if no
/// height is left.
fn first_forbidden(commitment: &Authenticated) -> Option<BlockNumber> {
    Promise::from(commitment).first_forbidden()
}

/// A proof that a preconfer misbehaved: two commitments that it has signed, both verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    kind: Misbehaviour,
    first: Authenticated,
    second: Authenticated,
}

impl Evidence {
    /// The evidence, if these two prove it. Of a block after an EOP, the EOP is the first.
    #[must_use]
    pub fn new(kind: Misbehaviour, first: Authenticated, second: Authenticated) -> Option<Self> {
        prove(kind, &first, &second).then_some(Self { kind, first, second })
    }

    /// What was done.
    #[must_use]
    pub const fn kind(&self) -> Misbehaviour {
        self.kind
    }

    /// Who did it.
    #[must_use]
    pub const fn signer(&self) -> Address {
        self.first.recovered().signer()
    }

    /// The height of the second commitment, which should not be.
    #[must_use]
    pub const fn block(&self) -> BlockNumber {
        self.second.block()
    }

    /// The commitment that came first, or the EOP.
    #[must_use]
    pub const fn first(&self) -> &Authenticated {
        &self.first
    }

    /// The commitment that should not be.
    #[must_use]
    pub const fn second(&self) -> &Authenticated {
        &self.second
    }

    /// The evidence as it is written down.
    #[must_use]
    pub fn record(&self) -> EvidenceRecord {
        let signed = |commitment: &Authenticated| commitment.recovered().signed().clone();
        EvidenceRecord { kind: self.kind, first: signed(&self.first), second: signed(&self.second) }
    }

    const fn key(&self) -> Key {
        (self.signer(), self.second.window_end(), self.kind)
    }
}

/// Evidence as it is written down and sent around: a claim until it has been verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceRecord {
    /// What is claimed.
    pub kind: Misbehaviour,
    /// The commitment that came first, or the EOP.
    pub first: SignedCommitment,
    /// The commitment that should not be.
    pub second: SignedCommitment,
}

impl EvidenceRecord {
    /// Recovers both signers again and judges whether the two commitments prove what is claimed.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub fn verify(self, validator: &Validator) -> Result<Evidence, EvidenceError> {
        let first = validator.authenticate_signed(self.first)?;
        let second = validator.authenticate_signed(self.second)?;
        Evidence::new(self.kind, first, second).ok_or(EvidenceError::Unproven(self.kind))
    }
}

/// Why a record is no evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// One of the commitments is not valid on its own.
    #[error("not a commitment of the chain: {0}")]
    Commitment(#[from] Rejection),
    /// Both are valid, and do not prove this.
    #[error("the two commitments do not prove {}", .0.label())]
    Unproven(Misbehaviour),
}

/// How much a [`Witness`] remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WitnessLimits {
    /// Commitments to compare new ones with. Full: those of the oldest window go.
    pub commitments: NonZeroUsize,
    /// Pieces of evidence. Full: the signer with most of them loses the one of its oldest window.
    pub evidence: NonZeroUsize,
}

impl Default for WitnessLimits {
    /// 4,096 commitments, 1,024 pieces of evidence.
    fn default() -> Self {
        let nz = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Self { commitments: nz(4096), evidence: nz(1024) }
    }
}

/// The window of a preconfer.
type Turn = (UnixSeconds, Address);
/// There is one piece of evidence for each of these: more of the same proves nothing more.
type Key = (Address, UnixSeconds, Misbehaviour);

/// Sees every elected commitment and notices when two of them should not both be, in whatever order they
/// come. Keeps one piece of evidence for each signer, window and kind. Only elected preconfers, in windows
/// that have begun, can fill it.
#[derive(Debug, Default)]
pub struct Witness {
    limits: WitnessLimits,
    /// The first commitment of each turn and height.
    seen: BTreeMap<(Turn, BlockNumber), Authenticated>,
    /// The EOP of each turn that leaves its signer least.
    over: BTreeMap<Turn, Authenticated>,
    evidence: BTreeMap<Key, Evidence>,
}

impl Witness {
    /// Has seen nothing yet.
    #[must_use]
    pub fn new(limits: WitnessLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Looks at a commitment, as often as it comes. Returns the evidence that is new.
    pub fn note(&mut self, commitment: &Elected) -> Vec<Evidence> {
        let commitment: &Authenticated = commitment;
        let turn = (commitment.window_end(), commitment.recovered().signer());
        let forbids = first_forbidden(commitment);
        let twin = self.seen.get(&(turn, commitment.block()));
        let before = self.over.get(&turn);
        let mut found = Vec::new();
        if let Some(first) = twin {
            found.extend(self.prove(Misbehaviour::Equivocation, first, commitment));
        }
        if let Some(eop) = before {
            found.extend(self.prove(Misbehaviour::BlockAfterEop, eop, commitment));
        }
        let proven = self.evidence.contains_key(&(turn.1, turn.0, Misbehaviour::BlockAfterEop));
        if let Some(lowest) = forbids.filter(|_| !proven) {
            let mut after = self.seen.range((turn, lowest)..=(turn, BlockNumber::MAX));
            found.extend(
                after.find_map(|(_, block)| self.prove(Misbehaviour::BlockAfterEop, commitment, block)),
            );
        }
        found.retain(|evidence| self.keep(evidence.clone()));
        self.remember(turn, commitment, forbids);
        found
    }

    /// The evidence, if it is one that has not been kept.
    fn prove(&self, kind: Misbehaviour, first: &Authenticated, second: &Authenticated) -> Option<Evidence> {
        let key = (second.recovered().signer(), second.window_end(), kind);
        (!self.evidence.contains_key(&key) && prove(kind, first, second)).then(|| Evidence {
            kind,
            first: first.clone(),
            second: second.clone(),
        })
    }

    fn remember(&mut self, turn: Turn, commitment: &Authenticated, forbids: Option<BlockNumber>) {
        self.seen.entry((turn, commitment.block())).or_insert_with(|| commitment.clone());
        let known = self.over.get(&turn).and_then(first_forbidden);
        if forbids.is_some_and(|lowest| known.is_none_or(|known| lowest < known)) {
            self.over.insert(turn, commitment.clone());
        }
        shrink(&mut self.seen, self.limits.commitments);
        shrink(&mut self.over, self.limits.commitments);
    }

    /// What a new commitment would contradict of all that was seen: the misbehaviour that both would prove, and the
    /// preconfirmation hash of the other.
    #[must_use]
    pub fn conflict(&self, new: &Promise) -> Option<(Misbehaviour, B256)> {
        let turn = (new.window_end, new.signer);
        let twin = self.seen.get(&(turn, new.block)).filter(|twin| twin.hash() != new.hash);
        if let Some(twin) = twin {
            return Some((Misbehaviour::Equivocation, twin.hash()));
        }
        let forbidden = self
            .over
            .get(&turn)
            .filter(|eop| !new.eop_only && first_forbidden(eop).is_some_and(|lowest| new.block >= lowest));
        let mut above = new
            .first_forbidden()
            .into_iter()
            .flat_map(|lowest| self.seen.range((turn, lowest)..=(turn, BlockNumber::MAX)))
            .map(|(_, block)| block)
            .filter(|block| !block.is_eop_only() && block.hash() != new.hash);
        let other = forbidden.filter(|eop| eop.hash() != new.hash).or_else(|| above.next())?;
        Some((Misbehaviour::BlockAfterEop, other.hash()))
    }

    /// Keeps evidence, of one's own or from elsewhere. Returns whether it is the first for its signer,
    /// window and kind.
    pub fn keep(&mut self, evidence: Evidence) -> bool {
        let key = evidence.key();
        if self.evidence.contains_key(&key) {
            return false;
        }
        self.evidence.insert(key, evidence);
        if self.evidence.len() > self.limits.evidence.get()
            && let Some(key) = self.oldest_of_the_worst()
        {
            self.evidence.remove(&key);
        }
        true
    }

    /// All evidence, by signer and window.
    pub fn evidence(&self) -> impl Iterator<Item = &Evidence> {
        self.evidence.values()
    }

    fn oldest_of_the_worst(&self) -> Option<Key> {
        let keys: Vec<_> = self.evidence.keys().copied().collect();
        let worst = keys.chunk_by(|a, b| a.0 == b.0).max_by_key(|of_signer| of_signer.len())?;
        worst.first().copied()
    }
}

/// Drops the first entries, which are those of the oldest window.
fn shrink<K: Ord, V>(map: &mut BTreeMap<K, V>, limit: NonZeroUsize) {
    while map.len() > limit.get() {
        map.pop_first();
    }
}
