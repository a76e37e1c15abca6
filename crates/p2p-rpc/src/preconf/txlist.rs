//! The form of a transaction list: a zlib stream of an RLP list.

use std::io::Read as _;

use alloy_rlp::Header;
use flate2::read::ZlibDecoder;
use p2p_client::wire::MAX_UNPACKED_TXLIST_BYTES;

/// Most bytes that a list may decompress to.
const DECOMPRESSED: u64 = MAX_UNPACKED_TXLIST_BYTES as u64;

/// What is wrong with a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormError {
    #[error("the transaction list is not a zlib stream")]
    Zlib,
    #[error("the transaction list decompresses to more than {DECOMPRESSED} bytes")]
    TooLarge,
    #[error("the decompressed transaction list is not an RLP list")]
    Rlp,
}

/// Checks the form of a list: one zlib stream, one RLP list in it, whole items in that. Takes time: tens of milliseconds
/// for the largest.
pub(crate) fn check(compressed: &[u8]) -> Result<(), FormError> {
    let mut zlib = ZlibDecoder::new(compressed);
    let mut rlp = Vec::new();
    zlib.by_ref().take(DECOMPRESSED + 1).read_to_end(&mut rlp).map_err(|_| FormError::Zlib)?;
    if rlp.len() as u64 > DECOMPRESSED {
        return Err(FormError::TooLarge);
    }
    if zlib.total_in() != compressed.len() as u64 {
        return Err(FormError::Zlib);
    }
    let mut left = rlp.as_slice();
    let header = Header::decode(&mut left).map_err(|_| FormError::Rlp)?;
    if !header.list || header.payload_length != left.len() {
        return Err(FormError::Rlp);
    }
    while !left.is_empty() {
        let item = Header::decode(&mut left).map_err(|_| FormError::Rlp)?;
        left = left.get(item.payload_length..).ok_or(FormError::Rlp)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::ZlibEncoder};

    use super::*;

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(bytes).unwrap();
        zlib.finish().unwrap()
    }

    #[test]
    fn a_list_of_whole_items_passes() {
        let lists: [&[Vec<u8>]; 3] = [&[], &[vec![1], vec![0x80; 60]], &[vec![7; 300_000]]];
        for list in lists {
            let list: Vec<alloy_rlp::Bytes> = list.iter().cloned().map(Into::into).collect();
            assert_eq!(check(&zlib(&alloy_rlp::encode(&list))), Ok(()));
        }
        // A legacy transaction is a list itself.
        assert_eq!(check(&zlib(&[0xc3, 0xc2, 1, 2])), Ok(()));
    }

    #[test]
    fn what_is_no_zlib_stream_or_no_list_is_refused() {
        let good = zlib(&[0xc0]);
        let followed = [&good[..], &[0]].concat();
        for bad in [&[][..], &[0xc0], &good[..good.len() - 1], &followed] {
            assert_eq!(check(bad), Err(FormError::Zlib), "{bad:?}");
        }
        // A string, two lists, a list that promises more, an item that does.
        for bad in [&[0x83, 1, 2, 3][..], &[0xc0, 0xc0], &[0xc2, 1], &[0xc2, 0x83, 1], &[]] {
            assert_eq!(check(&zlib(bad)), Err(FormError::Rlp), "{bad:?}");
        }
    }

    #[test]
    fn a_bomb_is_given_up_before_it_bursts() {
        let bomb = zlib(&vec![0; usize::try_from(DECOMPRESSED).unwrap() + 10]);
        assert!(bomb.len() < 100_000);
        assert_eq!(check(&bomb), Err(FormError::TooLarge));
    }
}
