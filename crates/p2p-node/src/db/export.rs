//! `db export`: writes everything in a store as JSON lines.

use std::io::{self, BufWriter, Write};

use p2p_storage::{CommitmentStore, DiskStorage, EvidenceStore, TxListStore};
use p2p_types::SigningDomain;
use serde::Serialize;

use super::{
    error::DbError,
    lines::{Header, Line, VERSION},
};

/// Writes everything to stdout. A reader that has gone ends it quietly.
pub(super) fn run(store: &DiskStorage, domain: &SigningDomain) -> Result<(), DbError> {
    let mut output = BufWriter::new(io::stdout().lock());
    match write(store, domain, &mut output).and_then(|()| output.flush().map_err(DbError::Output)) {
        Err(DbError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn write(store: &DiskStorage, domain: &SigningDomain, output: &mut impl Write) -> Result<(), DbError> {
    let mut next = store.next_height(0)?;
    let header = Header {
        version: VERSION,
        domain: (*domain.as_bytes()).into(),
        lowest: next,
        base: store.base()?,
        head: store.head()?,
    };
    line(output, &header)?;
    while let Some(height) = next {
        for stored in store.at(height)? {
            line(output, &Line::Commitment(Box::new(stored.recovered.signed().clone())))?;
        }
        next = match height.checked_add(1) {
            Some(above) => store.next_height(above)?,
            None => None,
        };
    }
    let mut after = None;
    loop {
        let page = store.txlists_after(after, 256)?;
        for &(block, hash) in &page {
            if let Some(list) = store.get(&hash)? {
                line(output, &Line::Txlist { block, hash, txlist: list.bytes().clone() })?;
            }
        }
        match page.last() {
            Some(&last) => after = Some(last),
            None => break,
        }
    }
    for found in store.evidence()? {
        line(output, &Line::Evidence { record: Box::new(found.record) })?;
    }
    Ok(())
}

fn line(output: &mut impl Write, line: &impl Serialize) -> Result<(), DbError> {
    serde_json::to_writer(&mut *output, line).map_err(|error| DbError::Output(error.into()))?;
    output.write_all(b"\n").map_err(DbError::Output)
}
