//! `db import`: fills a new store from an export, each line checked by the rules.

use std::{
    io::{BufRead, Read as _, Write as _},
    sync::Arc,
};

use p2p_storage::{CommitmentStore, DiskStorage, EvidenceStore, Inserted, StoredCommitment, TxListStore};
use p2p_types::{Address, Base, SignedCommitment, SigningDomain, TxList, UnixSeconds};
use p2p_validation::{
    Arrival, EvidenceRecord, Facts, Lookahead, LookaheadError, Parent, Slot, ValidationConfig,
    ValidationOutcome, Validator, Window, ZeroParent,
};
use preconfirmation_types::MAX_TXLIST_BYTES;

use super::{
    error::{DbError, LineError},
    lines::{Header, Line, VERSION},
};

/// Most bytes of a line: the hex of the longest list, and its names.
const MAX_LINE: u64 = 2 * MAX_TXLIST_BYTES as u64 + 1024;

/// A lookahead that elects everybody: an export has no schedule.
struct Offline;

impl Lookahead for Offline {
    fn turn(&self, window_end: UnixSeconds) -> Result<Option<Slot>, LookaheadError> {
        let window = Window { start: UnixSeconds::new(0), end: window_end };
        Ok(Some(Slot { signer: Address::ZERO, window }))
    }

    fn elects_anyone(&self) -> bool {
        true
    }
}

/// How the commitments are judged.
pub(super) struct Rules {
    pub(super) domain: SigningDomain,
    /// None: whatever the first commitment names.
    pub(super) slasher: Option<Address>,
    pub(super) zero_parent: ZeroParent,
    /// Blocks of the future are not taken.
    pub(super) now: UnixSeconds,
}

impl Rules {
    fn validator(&self, slasher: Address) -> Validator {
        let config =
            ValidationConfig { zero_parent: self.zero_parent, ..ValidationConfig::new(self.domain, slasher) };
        Validator::new(config, Arc::new(Offline))
    }
}

/// What an import did.
#[derive(Debug, Default)]
pub(super) struct Imported {
    pub(super) commitments: u64,
    pub(super) txlists: u64,
    pub(super) evidence: u64,
    /// Lines that were not taken.
    pub(super) refused: u64,
}

/// Reads an export into an empty store.
pub(super) fn run(store: &DiskStorage, rules: &Rules, mut input: impl BufRead) -> Result<Imported, DbError> {
    let mut text = Vec::new();
    read(&mut input, 1, &mut text)?;
    let header: Header = serde_json::from_slice(&text).map_err(DbError::Header)?;
    if header.version != VERSION {
        return Err(DbError::Version { found: header.version, known: VERSION });
    }
    if header.domain.0 != *rules.domain.as_bytes() {
        return Err(p2p_storage::StorageError::OtherDomain { found: header.domain }.into());
    }
    // What is settled by now is linked from its own beginning.
    let lowest = header.lowest.or(header.base.map(|base| base.number)).unwrap_or(0);
    store.set_base(Base::at(lowest.saturating_sub(1)))?;
    let mut import =
        Import { store, rules, validator: rules.slasher.map(|slasher| rules.validator(slasher)) };
    let mut imported = Imported::default();
    for number in 2.. {
        if !read(&mut input, number, &mut text)? {
            break;
        }
        match import.line(&text, &mut imported)? {
            Ok(()) => {}
            Err(error) => {
                imported.refused += 1;
                writeln!(std::io::stderr(), "line {number}: {error}").ok();
            }
        }
    }
    if let Some(base) = header.base {
        store.set_base(base)?;
    }
    store.sync()?;
    let found = store.head()?;
    if imported.refused == 0 && found != header.head {
        return Err(DbError::Head { found, expected: header.head });
    }
    Ok(imported)
}

/// Reads a line; whether there was one.
fn read(input: &mut impl BufRead, line: u64, text: &mut Vec<u8>) -> Result<bool, DbError> {
    text.clear();
    input.by_ref().take(MAX_LINE + 1).read_until(b'\n', text).map_err(DbError::Input)?;
    if text.len() as u64 > MAX_LINE && text.last() != Some(&b'\n') {
        return Err(DbError::TooLong { line, limit: MAX_LINE });
    }
    Ok(!text.is_empty())
}

struct Import<'a> {
    store: &'a DiskStorage,
    rules: &'a Rules,
    validator: Option<Validator>,
}

impl Import<'_> {
    /// One line: an error of the store ends the run, one of the line costs the line.
    fn line(&mut self, text: &[u8], imported: &mut Imported) -> Result<Result<(), LineError>, DbError> {
        let line = match serde_json::from_slice(text) {
            Ok(line) => line,
            Err(error) => return Ok(Err(error.into())),
        };
        match line {
            Line::Commitment(signed) => self.commitment(*signed, imported),
            Line::Txlist { block, hash, txlist } => {
                match TxList::verify(hash, txlist, MAX_TXLIST_BYTES) {
                    Ok(list) => imported.txlists += u64::from(self.store.put(block, list)?),
                    Err(error) => return Ok(Err(error.into())),
                }
                Ok(Ok(()))
            }
            Line::Evidence { record } => {
                match EvidenceRecord::clone(&record).verify(self.validator(&record.first)) {
                    Ok(evidence) => imported.evidence += u64::from(self.store.put_evidence(&evidence)?),
                    Err(error) => return Ok(Err(error.into())),
                }
                Ok(Ok(()))
            }
        }
    }

    fn validator(&mut self, signed: &SignedCommitment) -> &Validator {
        self.validator.get_or_insert_with(|| self.rules.validator(signed.commitment.slasher_address))
    }

    fn commitment(
        &mut self,
        signed: SignedCommitment,
        imported: &mut Imported,
    ) -> Result<Result<(), LineError>, DbError> {
        let (store, arrival) = (self.store, Arrival::History(self.rules.now));
        let validator = self.validator(&signed);
        let elected = match validator.authenticate_signed(signed) {
            Ok(commitment) => validator.elect(commitment, arrival),
            Err(rejection) => return Ok(Err(rejection.into())),
        };
        let outcome = match elected {
            ValidationOutcome::Accept(elected) => {
                let base = store.base()?.unwrap_or(Base::at(0));
                let parent = store.by_hash(&elected.parent_hash())?;
                let before = match elected.block().checked_sub(1) {
                    Some(block) if validator.follows_height(elected.parent_hash()) => {
                        store.by_block(block)?
                    }
                    _ => None,
                };
                let facts =
                    Facts { base, parent: parent.as_ref().map(fact), before: before.as_ref().map(fact) };
                validator.link(elected, &facts)
            }
            ValidationOutcome::Defer(missing) => ValidationOutcome::Defer(missing),
            ValidationOutcome::Ignore(reason) => ValidationOutcome::Ignore(reason),
            ValidationOutcome::Reject(rejection) => ValidationOutcome::Reject(rejection),
        };
        Ok(match outcome {
            ValidationOutcome::Accept(linked) => {
                let known = matches!(store.insert(linked)?, Inserted::Known);
                imported.commitments += u64::from(!known);
                Ok(())
            }
            ValidationOutcome::Defer(missing) => Err(LineError::Deferred(missing)),
            ValidationOutcome::Ignore(reason) => Err(LineError::Ignored(reason)),
            ValidationOutcome::Reject(rejection) => Err(rejection.into()),
        })
    }
}

fn fact(stored: &StoredCommitment) -> Parent<'_> {
    Parent { block: stored.block, preconf: stored.recovered.signed().preconf() }
}
