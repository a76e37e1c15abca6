//! The records of the database, for fuzzing. Bytes are sealed with the checksum that they need, as no mutation hits on one.

use p2p_types::{B256, Promise, SigningDomain};

use super::{
    DiskStorage,
    branches::is_withdrawn,
    evidence::{decode_evidence, seal_evidence},
    fault::fault,
    index::find,
    promises, published,
    rows::{self, Row, seal},
    state::State,
    tables::{COMMITMENTS, HEIGHTS},
};
use crate::{StorageError, StoredCommitment, StoredEvidence};

/// What zero bytes are packed to and unpacked from: the bytes of packed ones.
///
/// # Panics
/// If they would not be packed so, or do not come back.
#[must_use]
pub fn packed(bytes: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut packed = Vec::new();
    rows::pack(bytes, &mut packed);
    assert_eq!(rows::unpack(&packed, bytes.len()).as_deref(), Some(bytes), "what is packed comes back");
    let unpacked = rows::unpack(bytes, limit)?;
    assert!(unpacked.len() <= limit, "unpacked beyond the limit");
    packed.clear();
    rows::pack(&unpacked, &mut packed);
    assert_eq!(packed, bytes, "nothing packs to this");
    Some(unpacked)
}

/// The record of a commitment: as it is, or of these bytes, packed and sealed. With what it is written as again.
///
/// # Errors
/// [`StorageError::Corrupt`].
///
/// # Panics
/// If its signer is read in another way, or what is written is read otherwise.
pub fn commitment(
    key: (u64, u64),
    bytes: &[u8],
    is_sealed: bool,
    domain: &SigningDomain,
) -> Result<StoredCommitment, StorageError> {
    let record = if is_sealed { bytes.to_vec() } else { rows::record(key.0, bytes) };
    let row = Row::decode(key, &record, domain)?;
    assert_eq!(Row::signer(key.0, &record), Ok(row.stored.recovered.signer()));
    let again = row.encode();
    let read = Row::decode(key, &again, domain).map(|row| (row.arrival, row.stored));
    assert_eq!(read, Ok((row.arrival, row.stored.clone())), "what is written is read again");
    Ok(row.stored)
}

/// As [`is_withdrawn`](crate::fuzz::is_withdrawn).
///
/// # Errors
/// [`StorageError`] if the store cannot be read.
pub fn is_withdrawn_on_disk(store: &DiskStorage, hash: &B256) -> Result<bool, StorageError> {
    store.read(|file| {
        let commitments = file.open_table(COMMITMENTS).map_err(fault)?;
        let heights = file.open_table(HEIGHTS).map_err(fault)?;
        let found = find(&commitments, &heights, &store.arrivals, hash, &store.config.domain)?;
        Ok(found.is_some_and(|(key, _)| is_withdrawn(key)))
    })
}

/// The record of a promise.
///
/// # Errors
/// [`StorageError::Corrupt`].
pub fn promise(promise: &Promise, bytes: &[u8]) -> Result<Promise, StorageError> {
    promises::decode(promises::row_key(promise), bytes)
}

/// The record of a promise as it is written.
#[must_use]
pub fn written_promise(promise: &Promise) -> Vec<u8> {
    promises::record(promise)
}

/// The record of a piece of evidence, of these bytes.
///
/// # Errors
/// [`StorageError::Corrupt`].
pub fn evidence(
    signer: &[u8; 20],
    block: u64,
    label: &str,
    bytes: &[u8],
) -> Result<StoredEvidence, StorageError> {
    let key = (signer, block, label);
    decode_evidence(key, &seal_evidence(key, bytes))
}

/// The record of the state, of these bytes; whether there is one.
///
/// # Panics
/// If it would be written otherwise.
#[must_use]
pub fn state(bytes: &[u8]) -> bool {
    let Some(state) = State::decode(&seal(0, bytes.to_vec())) else { return false };
    let again = State::decode(&state.encode());
    assert_eq!(again, Some(state), "what is written is read again");
    true
}

/// The record of the publish log, of these bytes: how many hashes it has.
#[must_use]
pub fn published(bytes: &[u8]) -> Option<usize> {
    published::decode(&seal(0, bytes.to_vec())).map(|hashes| hashes.len())
}
