//! Transaction lists, unpacked: zlib over an RLP list of transactions, legacy ones as lists, typed ones as byte strings.
//!
//! Only the envelopes are read: the hash of a transaction is that of its envelope, whatever its type.

use alloy_primitives::{B256, keccak256};
use alloy_rlp::Header;
use flate2::{Decompress, FlushDecompress, Status};
use p2p_types::MAX_UNPACKED_TXLIST_BYTES;

/// Most transactions that a list may have. Each costs 21,000 gas at the least, so 1,376 M gas in all, more than a block has.
const TRANSACTIONS: usize = 1 << 16;

/// The lowest first byte of an RLP list: a type is below (EIP-2718).
const LEGACY: u8 = 0xc0;
/// The highest type of a transaction (EIP-2718).
const LAST_TYPE: u8 = 0x7f;

/// Why a list has no transactions to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is no list of transactions.
    Malformed,
    /// It is larger than what is unpacked, or has more transactions.
    TooLarge,
}

/// The hashes of a list's transactions, in order.
pub(super) fn transactions(txlist: &[u8]) -> Result<Vec<B256>, Unreadable> {
    hashes(&unpack(txlist, MAX_UNPACKED_TXLIST_BYTES)?)
}

/// Unpacks up to a limit. A stream that does not end, or that something follows, is malformed.
pub(super) fn unpack(txlist: &[u8], limit: usize) -> Result<Vec<u8>, Unreadable> {
    let mut zlib = Decompress::new(true);
    let mut rlp = Vec::with_capacity(txlist.len().saturating_mul(2).min(limit).saturating_add(1));
    let mut rest = txlist;
    loop {
        let before = (zlib.total_in(), zlib.total_out());
        let status = zlib.decompress_vec(rest, &mut rlp, FlushDecompress::None);
        let read = usize::try_from(zlib.total_in() - before.0).unwrap_or(usize::MAX);
        rest = rest.get(read..).unwrap_or_default();
        match status {
            _ if rlp.len() > limit => return Err(Unreadable::TooLarge),
            Ok(Status::StreamEnd) if rest.is_empty() => return Ok(rlp),
            Ok(Status::StreamEnd) | Err(_) => return Err(Unreadable::Malformed),
            Ok(Status::Ok | Status::BufError) if rlp.len() == rlp.capacity() => {
                let room = rlp.len().min(limit - rlp.len()).saturating_add(1);
                rlp.reserve_exact(room);
            }
            // There was room and nothing has come of it, so it lacks input.
            Ok(_) if (zlib.total_in(), zlib.total_out()) == before => return Err(Unreadable::Malformed),
            Ok(_) => {}
        }
    }
}

pub(super) fn hashes(mut rlp: &[u8]) -> Result<Vec<B256>, Unreadable> {
    let malformed = |_| Unreadable::Malformed;
    let mut items = Header::decode_bytes(&mut rlp, true).map_err(malformed)?;
    if !rlp.is_empty() {
        return Err(Unreadable::Malformed);
    }
    let mut hashes = Vec::new();
    while let Some(first) = items.first() {
        let (whole, is_legacy) = (items, *first >= LEGACY);
        let payload = Header::decode_bytes(&mut items, is_legacy).map_err(malformed)?;
        let envelope = if is_legacy {
            whole.get(..whole.len().saturating_sub(items.len())).unwrap_or_default()
        } else {
            payload
        };
        let is_typed = envelope.first().is_some_and(|kind| *kind <= LAST_TYPE);
        if !is_legacy && !is_typed {
            return Err(Unreadable::Malformed);
        }
        if hashes.len() == TRANSACTIONS {
            return Err(Unreadable::TooLarge);
        }
        hashes.push(keccak256(envelope));
    }
    Ok(hashes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::ZlibEncoder};

    use super::*;
    use crate::l2::fixtures::{legacy, list, packed, typed};

    #[test]
    fn transactions_have_the_hashes_of_their_envelopes() {
        let all = [legacy(0), typed(1), legacy(2), typed(3)];
        let expected: Vec<B256> = all.iter().map(|transaction| *transaction.hash()).collect();
        assert_eq!(transactions(&list(&all)), Ok(expected));
        assert_eq!(transactions(&list(&[])), Ok(vec![]));
    }

    #[test]
    fn what_is_no_list_of_transactions_is_malformed() {
        let good = list(&[legacy(0), typed(1)]);
        let mut longer = good.to_vec();
        longer.push(0);
        // Without its checksum, and without its end.
        let shorter = [&good[..good.len() - 4], &good[..good.len() / 2]];
        for bytes in [&[][..], b"neither zlib nor RLP", &longer, shorter[0], shorter[1]] {
            assert_eq!(transactions(bytes), Err(Unreadable::Malformed), "{} bytes", bytes.len());
        }
        for rlp in [
            // A string where the list should be, one byte too many, one too few, an empty string in the list.
            &[0x80][..],
            &[0xc0, 0],
            &[0xc2, 0xc0],
            &[0xc1, 0x80],
            // A single byte is no envelope; a length that is not there.
            &[0xc2, 0x81, 0x80],
            &[0xff; 9],
        ] {
            assert_eq!(transactions(&packed(rlp)), Err(Unreadable::Malformed), "{rlp:?}");
        }
    }

    #[test]
    fn no_more_transactions_than_a_block_has_are_hashed() {
        // Empty lists have the form of legacy transactions, a byte each.
        let of = |count: usize| {
            let mut rlp = Vec::new();
            Header { list: true, payload_length: count }.encode(&mut rlp);
            rlp.resize(rlp.len() + count, LEGACY);
            transactions(&packed(&rlp)).map(|hashes| hashes.len())
        };
        assert_eq!(of(TRANSACTIONS), Ok(TRANSACTIONS));
        assert_eq!(of(TRANSACTIONS + 1), Err(Unreadable::TooLarge));
        assert_eq!(of(MAX_UNPACKED_TXLIST_BYTES - 8), Err(Unreadable::TooLarge));
    }

    #[test]
    fn no_more_than_the_limit_is_unpacked() {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
        zlib.write_all(&vec![0; 1_000_000]).unwrap();
        let bomb = zlib.finish().unwrap();
        assert!(bomb.len() < 2_000, "{} bytes", bomb.len());
        assert_eq!(unpack(&bomb, 999_999), Err(Unreadable::TooLarge));
        assert_eq!(unpack(&bomb, 1_000_000).map(|rlp| rlp.len()), Ok(1_000_000));
    }
}
