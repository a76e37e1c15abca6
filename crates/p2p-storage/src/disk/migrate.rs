//! From the schemas of older versions to the present one.

use preconfirmation_types::{PRECONFIRMATION_BYTES, keccak256};
use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::{
    evidence::seal_evidence,
    fault::fault,
    rows::{CHECKSUM_BYTES, record},
    state::{STATE_KEY, State},
    tables::{COMMITMENTS, EVIDENCE, HEIGHTS, META, PROMISES, Place, entry},
};
use crate::StorageError;

/// Brings a file from one schema to the next.
pub(super) type Migration = fn(&WriteTransaction) -> Result<(), StorageError>;

/// The way from schema `n + 1` to `n + 2` is at index `n`. Nothing is older than the first.
pub(super) const MIGRATIONS: &[Migration] = &[evidence, packed, promises];

/// Schema 2 keeps evidence, and lists that have no row among the bytes are files.
fn evidence(transaction: &WriteTransaction) -> Result<(), StorageError> {
    transaction.open_table(EVIDENCE).map(drop).map_err(fault)
}

/// Schema 4 keeps promises.
fn promises(transaction: &WriteTransaction) -> Result<(), StorageError> {
    transaction.open_table(PROMISES).map(drop).map_err(fault)
}

/// The commitments of schema 1 and 2.
pub(super) const UNPACKED: TableDefinition<'static, Place, &'static [u8]> =
    TableDefinition::new("commitments");
/// Their index: whole hashes.
pub(super) const PLACES: TableDefinition<'static, &'static [u8; 32], Place> = TableDefinition::new("places");

/// The checksum of schema 1 and 2, at the end of each record, was the beginning of a keccak hash.
fn keccak_checked(bytes: &[u8]) -> Option<&[u8]> {
    let (body, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
    keccak256(body).starts_with(sum).then_some(body)
}

/// Schema 3 packs the commitments, finds them by the beginning of their hash, and does not write down what the tables
/// say themselves.
fn packed(transaction: &WriteTransaction) -> Result<(), StorageError> {
    {
        let old = transaction.open_table(UNPACKED).map_err(fault)?;
        let mut new = transaction.open_table(COMMITMENTS).map_err(fault)?;
        let mut heights = transaction.open_table(HEIGHTS).map_err(fault)?;
        for row in old.iter().map_err(fault)? {
            const WHAT: StorageError = StorageError::Corrupt { what: "a commitment" };
            let (place, bytes) = row.map_err(fault)?;
            let (block, slot) = place.value();
            // Height, arrival, signer, commitment, perhaps the parent.
            let body = keccak_checked(bytes.value()).ok_or(WHAT)?;
            let body = body.strip_prefix(&block.to_be_bytes()).ok_or(WHAT)?;
            let preconf = body.get(8 + 20..).and_then(|ssz| ssz.get(..PRECONFIRMATION_BYTES)).ok_or(WHAT)?;
            new.insert((block, slot), &*record(block, body)).map_err(fault)?;
            heights.insert(entry(&keccak256(preconf), block), ()).map_err(fault)?;
        }
    }
    transaction.delete_table(UNPACKED).map_err(fault)?;
    transaction.delete_table(PLACES).map_err(fault)?;
    reseal_evidence(transaction)?;
    let mut meta = transaction.open_table(META).map_err(fault)?;
    let old = meta.get(STATE_KEY).map_err(fault)?.map(|bytes| bytes.value().to_vec());
    if let Some(old) = old {
        let new = keccak_checked(&old).and_then(State::of_schema_2);
        let new = new.ok_or(StorageError::Corrupt { what: "the state" })?;
        meta.insert(STATE_KEY, &*new).map_err(fault)?;
    }
    Ok(())
}

/// Gives evidence the checksum of schema 3.
fn reseal_evidence(transaction: &WriteTransaction) -> Result<(), StorageError> {
    let mut table = transaction.open_table(EVIDENCE).map_err(fault)?;
    let mut all = Vec::new();
    for piece in table.iter().map_err(fault)? {
        const WHAT: StorageError = StorageError::Corrupt { what: "evidence" };
        let (place, bytes) = piece.map_err(fault)?;
        let (signer, block, label) = place.value();
        let (body, sum) = bytes.value().split_last_chunk::<CHECKSUM_BYTES>().ok_or(WHAT)?;
        let sealed = [&signer[..], &block.to_be_bytes(), label.as_bytes(), body, sum].concat();
        keccak_checked(&sealed).ok_or(WHAT)?;
        all.push((*signer, block, label.to_owned(), body.to_vec()));
    }
    for (signer, block, label, body) in &all {
        let place = (signer, *block, &**label);
        table.insert(place, &*seal_evidence(place, body)).map_err(fault)?;
    }
    Ok(())
}
