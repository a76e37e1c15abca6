//! What of our own the network has taken.

use p2p_types::B256;

use crate::traits::SENT;

/// Adds hashes, and forgets the oldest. Returns whether there was anything to add.
pub(crate) fn remember(sent: &mut Vec<B256>, hashes: &[B256]) -> bool {
    let before = sent.len();
    for hash in hashes {
        if !sent.contains(hash) {
            sent.push(*hash);
        }
    }
    let new = sent.len() > before;
    sent.drain(..sent.len().saturating_sub(SENT));
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered_once() {
        let hash = |byte: usize| B256::with_last_byte(u8::try_from(byte).unwrap());
        let mut sent = Vec::new();
        assert!(remember(&mut sent, &[hash(1), hash(2), hash(1)]));
        assert!(!remember(&mut sent, &[hash(2)]));
        assert_eq!(sent, [hash(1), hash(2)]);
        for byte in 3..=SENT + 1 {
            assert!(remember(&mut sent, &[hash(byte)]));
        }
        assert_eq!((sent.len(), sent.first()), (SENT, Some(&hash(2))), "the oldest is forgotten");
    }
}
