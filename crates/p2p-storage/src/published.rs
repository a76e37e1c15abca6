//! The publish log: which of our own messages the network has taken.

use p2p_types::B256;

use crate::traits::PUBLISHED;

/// Adds hashes, and forgets the oldest. Returns whether there was anything to add.
pub(crate) fn record(published: &mut Vec<B256>, hashes: &[B256]) -> bool {
    let before = published.len();
    for hash in hashes {
        if !published.contains(hash) {
            published.push(*hash);
        }
    }
    let new = published.len() > before;
    published.drain(..published.len().saturating_sub(PUBLISHED));
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_publish_log_keeps_the_last_hashes_once_each() {
        let hash = |byte: usize| B256::with_last_byte(u8::try_from(byte).unwrap());
        let mut published = Vec::new();
        assert!(record(&mut published, &[hash(1), hash(2), hash(1)]));
        assert!(!record(&mut published, &[hash(2)]));
        assert_eq!(published, [hash(1), hash(2)]);
        for byte in 3..=PUBLISHED + 1 {
            assert!(record(&mut published, &[hash(byte)]));
        }
        assert_eq!(
            (published.len(), published.first()),
            (PUBLISHED, Some(&hash(2))),
            "the oldest is forgotten"
        );
    }
}
