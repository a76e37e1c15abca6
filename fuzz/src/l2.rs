//! What an execution node of L2 says, and transaction lists.

use std::{cell::RefCell, io::Write as _};

use flate2::{Compression, write::ZlibEncoder};
use p2p_lookahead::{AnchorCall, fuzz};
use p2p_rpc::fuzz::is_txlist;

use crate::input::Input;

/// Blocks, origins and the calldata of anchors.
pub fn l2_block(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 3 {
        0 => {
            let gas = input.bool().then(|| input.u64());
            let _block = fuzz::block(input.rest(), gas);
        }
        1 => drop(fuzz::origin(input.rest())),
        _ => {
            let selector = if input.bool() { [0; 4] } else { input.array() };
            let word = if input.bool() { usize::from(input.byte()) } else { usize::MAX - input.below(4) };
            let call = AnchorCall { selector, word };
            let (input, is_there) = (input.rest(), word < 256);
            let read = fuzz::anchor(&call, input);
            let start = word.saturating_mul(32).saturating_add(4);
            let has_word = is_there && input.len() >= start.saturating_add(32);
            assert!(read.is_none() || (has_word && input.starts_with(&selector)));
        }
    }
}

/// Most bytes that a list is unpacked to here.
const LIMIT: usize = 64 * 1024;

/// A transaction list, packed or not: what is read as transactions has the form that publishing asks for.
pub fn txlist(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 3 {
        0 => {
            let read = fuzz::transactions(bytes, LIMIT);
            assert!(read.is_none() || is_txlist(bytes), "transactions in what may not be published");
        }
        1 => drop(fuzz::unpacked_transactions(bytes)),
        _ => {
            let packed = packed(bytes);
            let (direct, unpacked) = (fuzz::unpacked_transactions(bytes), fuzz::transactions(&packed, LIMIT));
            assert_eq!(direct, unpacked, "packed and unpacked");
            assert!(direct.is_none() || is_txlist(&packed), "transactions in what may not be published");
            // A byte less, or one more, is another stream.
            assert!(fuzz::transactions(&packed[..packed.len() - 1], LIMIT).is_none());
            assert!(fuzz::transactions(&packed, bytes.len().saturating_sub(1)).is_none() || bytes.is_empty());
        }
    }
}

/// A zlib stream that stores the bytes as they are.
fn packed(bytes: &[u8]) -> Vec<u8> {
    thread_local! {
        static ZLIB: RefCell<ZlibEncoder<Vec<u8>>> =
            RefCell::new(ZlibEncoder::new(Vec::new(), Compression::none()));
    }
    ZLIB.with_borrow_mut(|zlib| {
        zlib.write_all(bytes).unwrap();
        zlib.reset(Vec::new()).unwrap()
    })
}
