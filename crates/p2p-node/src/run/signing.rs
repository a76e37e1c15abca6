//! The key and the blocks of `p2p-node preconfer`, as its options name them.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use alloy_signer_local::{LocalSignerError, PrivateKeySigner};
use clap::Args;

/// Most bytes of a keystore or of a password.
const MOST: u64 = 64 << 10;

/// What a preconfer signs with, and what.
#[derive(Debug, Clone, Args)]
pub(crate) struct SigningArgs {
    /// The encrypted keystore of the preconfer's key (Web3 Secret Storage, as geth and foundry write it)
    #[arg(long, value_name = "FILE")]
    keystore: PathBuf,

    /// The file with the keystore's password; a line break at its end does not count
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,

    /// Propose the blocks of this directory, the files *.json in the order of their names
    ///
    /// {"timestamp": 1, "gasLimit": 1, "coinbase": "0x…", "anchorBlockNumber": 1, "proverAuth": "0x…", "proposalId": 1, "txlist": hex,
    /// "eop": false}, each but `txlist` optional. `eop` hands over, without `txlist` at once. A file that is published is renamed
    /// to *.json.published; new ones may come at any time: write them under another name and rename them.
    #[arg(long, value_name = "DIR")]
    pub(super) blocks: PathBuf,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeystoreError {
    /// A file cannot be read.
    #[error("{option} {}: {source}", path.display())]
    Read {
        /// The option.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is no such thing.
    #[error("{option} {}: more than {MOST} bytes; name another file", path.display())]
    TooLong {
        /// The option.
        option: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// It cannot be decrypted.
    #[error("--keystore {}: {source}; check the file and --password-file", path.display())]
    Decrypt {
        /// The file.
        path: PathBuf,
        /// Why.
        source: LocalSignerError,
    },
}

impl SigningArgs {
    /// Decrypts the key. Takes seconds: that is what keeps its password from being tried out.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub(super) fn signer(&self) -> Result<PrivateKeySigner, KeystoreError> {
        let password = read("--password-file", &self.password_file)?;
        read("--keystore", &self.keystore)?;
        let password = password.strip_suffix(b"\n").unwrap_or(&password);
        let password = password.strip_suffix(b"\r").unwrap_or(password);
        PrivateKeySigner::decrypt_keystore(&self.keystore, password)
            .map_err(|source| KeystoreError::Decrypt { path: self.keystore.clone(), source })
    }
}

/// A file that is not too long.
fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, KeystoreError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes));
    match read {
        Err(source) => Err(KeystoreError::Read { option, path: path.to_owned(), source }),
        Ok(_) if bytes.len() as u64 > MOST => Err(KeystoreError::TooLong { option, path: path.to_owned() }),
        Ok(_) => Ok(bytes),
    }
}
