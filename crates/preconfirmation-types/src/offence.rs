//! What a peer can do wrong (§7.1).

use serde::{Deserialize, Serialize};

/// Something that only a faulty or hostile peer does. What is merely unknown, missing, late or slow is not
/// among these: our ignorance costs nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Offence {
    /// Bytes that are not the container that belongs there.
    Malformed,
    /// A signature that names nobody.
    BadSignature,
    /// A commitment by somebody whom the lookahead did not elect for its window.
    WrongSigner,
    /// A commitment that breaks a rule of its own: EOP, slasher, ranges, link to its parent, block rules.
    InvalidCommitment,
    /// A transaction list that is not the one its hash names.
    HashMismatch,
    /// A message over its size limit.
    Oversize,
    /// A response to another question than the one asked.
    WrongAnswer,
}

impl Offence {
    /// A short label for metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::BadSignature => "bad_signature",
            Self::WrongSigner => "wrong_signer",
            Self::InvalidCommitment => "invalid_commitment",
            Self::HashMismatch => "hash_mismatch",
            Self::Oversize => "oversize",
            Self::WrongAnswer => "wrong_answer",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offence_has_one_name_in_metrics_and_in_json() {
        for (offence, name) in [
            (Offence::Malformed, "malformed"),
            (Offence::BadSignature, "bad_signature"),
            (Offence::WrongSigner, "wrong_signer"),
            (Offence::InvalidCommitment, "invalid_commitment"),
            (Offence::HashMismatch, "hash_mismatch"),
            (Offence::Oversize, "oversize"),
            (Offence::WrongAnswer, "wrong_answer"),
        ] {
            assert_eq!(offence.label(), name);
            assert_eq!(serde_json::to_value(offence).unwrap(), name);
        }
    }
}
