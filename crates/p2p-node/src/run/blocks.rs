//! The blocks that `p2p-node preconfer` proposes: files of a directory.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use p2p_client::preconfer::BlockFields;
use p2p_types::{Address, BlockNumber, Bytes, UnixSeconds};
use preconfirmation_types::MAX_TXLIST_BYTES;
use serde::Deserialize;

use crate::hexadecimal::{self, HexError};

/// Most bytes of a file: two digits for each byte of the largest list, and what surrounds them.
const MOST: u64 = 2 * MAX_TXLIST_BYTES as u64 + 4096;

/// A file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[derive(Default)]
struct Entry {
    timestamp: Option<UnixSeconds>,
    gas_limit: u64,
    coinbase: Address,
    anchor_block_number: BlockNumber,
    prover_auth: Address,
    proposal_id: u64,
    txlist: Option<String>,
    eop: bool,
}

/// What is to be proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proposal {
    /// A block; `last` hands over as well.
    Block { fields: BlockFields, txlist: Bytes, last: bool },
    /// No block any more.
    Handover,
}

/// Why a file is no block.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlockFileError {
    /// It, or the directory, cannot be read or renamed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Longer than the largest block there is.
    #[error("more than {MOST} bytes, longer than any block")]
    TooLong,
    /// Not the object that it is to be.
    #[error("no block: {0}")]
    Json(#[from] serde_json::Error),
    /// The list is not hex.
    #[error("txlist: {0}")]
    Hex(#[from] HexError),
    /// Neither a list nor a handover.
    #[error("no block: it has no txlist, and eop is not true")]
    NoTxList,
}

impl Proposal {
    /// Reads a file. A block without a timestamp is of `now`.
    ///
    /// # Errors
    /// [`BlockFileError`].
    pub(super) fn read(path: &Path, now: UnixSeconds) -> Result<Self, BlockFileError> {
        let mut json = Vec::new();
        File::open(path)?.take(MOST + 1).read_to_end(&mut json)?;
        if json.len() as u64 > MOST {
            return Err(BlockFileError::TooLong);
        }
        Self::parse(&json, now)
    }

    fn parse(json: &[u8], now: UnixSeconds) -> Result<Self, BlockFileError> {
        let entry: Entry = serde_json::from_slice(json)?;
        let Some(hex) = entry.txlist else {
            return if entry.eop { Ok(Self::Handover) } else { Err(BlockFileError::NoTxList) };
        };
        let fields = BlockFields {
            timestamp: entry.timestamp.unwrap_or(now),
            gas_limit: entry.gas_limit,
            coinbase: entry.coinbase,
            anchor_block_number: entry.anchor_block_number,
            prover_auth: entry.prover_auth,
            proposal_id: entry.proposal_id,
        };
        let txlist = hexadecimal::decode(hex.trim().as_bytes())?.into();
        Ok(Self::Block { fields, txlist, last: entry.eop })
    }
}

/// The first file of the directory, by name.
///
/// # Errors
/// The directory cannot be read.
pub(super) fn first(folder: &Path) -> io::Result<Option<PathBuf>> {
    let mut first = None;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_block = path.extension().is_some_and(|extension| extension == "json");
        if is_block && first.as_ref().is_none_or(|first| path < *first) {
            first = Some(path);
        }
    }
    Ok(first)
}

/// Takes a file out of the queue that was published.
///
/// # Errors
/// It cannot be renamed.
pub(super) fn done(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".published");
    fs::rename(path, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds::new(1_000);

    #[test]
    fn a_file_is_a_block_or_a_handover_or_says_what_is_wrong_with_it() {
        let parse = |json: &str| Proposal::parse(json.as_bytes(), NOW);
        let fields = BlockFields { gas_limit: 7, ..BlockFields::at(NOW) };
        let block = Proposal::Block { fields, txlist: vec![1, 2].into(), last: false };
        assert_eq!(parse(r#"{"gasLimit": 7, "txlist": "0x0102"}"#).unwrap(), block);
        let fields = BlockFields::at(UnixSeconds::new(5));
        let last = Proposal::Block { fields, txlist: vec![1].into(), last: true };
        assert_eq!(parse(r#"{"timestamp": 5, "txlist": "01", "eop": true}"#).unwrap(), last);
        assert_eq!(parse(r#"{"eop": true}"#).unwrap(), Proposal::Handover);

        let wrong = |json: &str| parse(json).unwrap_err().to_string();
        assert!(wrong("{}").contains("no txlist"));
        assert!(wrong(r#"{"txlist": "012"}"#).starts_with("txlist: hex: 3 digits"));
        assert!(wrong(r#"{"txlist": "01", "parent": 1}"#).contains("unknown field `parent`"));
    }

    #[test]
    fn files_come_in_the_order_of_their_names_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        assert_eq!(first(folder.path()).unwrap(), None);
        for name in ["2.json", "1.json", "0.txt"] {
            fs::write(file(name), "{}").unwrap();
        }
        for name in ["1.json", "2.json"] {
            let found = first(folder.path()).unwrap().unwrap();
            assert_eq!(found, file(name));
            done(&found).unwrap();
        }
        assert_eq!(first(folder.path()).unwrap(), None);
        assert!(file("1.json.published").is_file());
    }
}
