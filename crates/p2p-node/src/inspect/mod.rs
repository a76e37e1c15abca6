//! `p2p-node inspect`: decodes containers of the wire, a line of hex in, a line of JSON out.
//!
//! One bad line costs that line only: it becomes an `error` object, and the exit code tells at the end.
//! Memory is bounded whatever arrives: a line longer than the largest message is skipped, not held.
//!
//! | module | what lives there |
//! |---|---|
//! | [`args`] | the options; which container travels where |
//! | [`views`] | what is shown of a container |
//! | [`error`] | what can be wrong with a line, and with the whole run |

mod args;
mod error;
mod views;

use std::{
    io::{self, BufRead, Write},
    process::ExitCode,
};

use preconfirmation_types::{
    Bytes, Container, GetCommitmentsByNumberRequest, GetHeadRequest, GetRawTxList, GetRawTxListRequest,
    PreconfHead, Rpc, SigningDomain, frame,
};
use serde::Serialize;

pub(crate) use args::InspectArgs;
use args::{Carrier, ContainerType};
use error::{InspectError, LineError};
use views::TopicOrProtocol;

use crate::{
    hexadecimal,
    lines::{Line, Lines},
};

/// Most characters of a line: `0x`, and two digits for each byte of the largest message there is, a txlist
/// response in its frame.
const MAX_LINE: usize = 2 + 2 * (frame::MAX_PREFIX_BYTES + GetRawTxList::RESPONSE_CAP);

/// Reads stdin to its end and writes one JSON object a line. Exit code 0 if every line was good, else 1.
///
/// # Errors
/// [`InspectError`]: a command line that asks for the impossible, or stdin or stdout that fail. A stdout that
/// the reader has closed is no failure.
pub(crate) fn run(args: &InspectArgs) -> Result<ExitCode, InspectError> {
    let reader = Reader::new(args)?;
    let summary = reader.run(io::stdin().lock(), io::stdout().lock())?;
    tracing::debug!(lines = summary.lines, failed = summary.failed, "inspected");
    Ok(if summary.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How many lines were read, blank ones not counted, and how many of them were bad.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    lines: u64,
    failed: u64,
}

/// The object of a line that is wrong.
#[derive(Serialize)]
struct Failure {
    error: String,
    /// From 1, blank lines counted, as editors count.
    line: u64,
}

/// What every line is read as: the options, checked.
struct Reader {
    container: ContainerType,
    domain: SigningDomain,
    /// What the chain id adds to each object.
    carried_as: TopicOrProtocol,
    /// The cap of the message where lines are frames.
    frame_cap: Option<usize>,
}

impl Reader {
    fn new(args: &InspectArgs) -> Result<Self, InspectError> {
        let container = args.container;
        let carrier = container.carrier();
        let frame_cap = match (args.frame, &carrier) {
            (false, _) => None,
            (true, Carrier::Rpc { cap, .. }) => Some(*cap),
            (true, _) => return Err(InspectError::NotFramed { container }),
        };
        let carried_as = args.chain_id.map(|id| TopicOrProtocol::of(&carrier, id)).unwrap_or_default();
        Ok(Self { container, domain: args.domain.0, carried_as, frame_cap })
    }

    /// Each object is flushed before the next line is read, so that pipes and people see it at once.
    fn run(&self, input: impl BufRead, mut output: impl Write) -> Result<Summary, InspectError> {
        let mut lines = Lines::new(input, MAX_LINE);
        let mut summary = Summary::default();
        while let Some((number, line)) = lines.next().map_err(InspectError::Input)? {
            let shown = match line {
                Line::Text(text) => self.show(text),
                Line::TooLong => Err(LineError::TooLong { limit: MAX_LINE }),
            };
            summary.lines += 1;
            let mut object = match shown {
                Ok(object) => object,
                Err(error) => {
                    summary.failed += 1;
                    tracing::debug!(line = number, %error, "bad line");
                    let failure = Failure { error: error.to_string(), line: number };
                    serde_json::to_vec(&failure).map_err(|error| InspectError::Output(error.into()))?
                }
            };
            object.push(b'\n');
            match output.write_all(&object).and_then(|()| output.flush()) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
                written => written.map_err(InspectError::Output)?,
            }
        }
        Ok(summary)
    }

    /// The JSON object of one line.
    fn show(&self, text: &[u8]) -> Result<Vec<u8>, LineError> {
        let bytes = Bytes::from(hexadecimal::decode(text)?);
        let domain = &self.domain;
        match self.container {
            ContainerType::Preconfirmation => self.json(&views::preconfirmation(self.decode(&bytes)?)),
            ContainerType::PreconfCommitment => self.json(&views::commitment(self.decode(&bytes)?, domain)),
            ContainerType::SignedCommitment => self.json(&views::signed(self.decode(&bytes)?, domain)?),
            ContainerType::RawTxListGossip => self.json(&views::gossip(self.decode(&bytes)?)),
            ContainerType::GetHeadRequest => self.json::<GetHeadRequest>(&self.decode(&bytes)?),
            ContainerType::PreconfHead => self.json::<PreconfHead>(&self.decode(&bytes)?),
            ContainerType::GetCommitmentsByNumberRequest => {
                self.json::<GetCommitmentsByNumberRequest>(&self.decode(&bytes)?)
            }
            ContainerType::GetCommitmentsByNumberResponse => {
                self.json(&views::page(self.decode(&bytes)?, domain)?)
            }
            ContainerType::GetRawTxListRequest => self.json::<GetRawTxListRequest>(&self.decode(&bytes)?),
            ContainerType::GetRawTxListResponse => self.json(&views::response(self.decode(&bytes)?)),
        }
    }

    fn decode<C: Container>(&self, bytes: &Bytes) -> Result<C, LineError> {
        Ok(match self.frame_cap {
            Some(cap) => frame::read(bytes, cap)?,
            None => C::from_ssz(bytes)?,
        })
    }

    fn json<V: Serialize>(&self, view: &V) -> Result<Vec<u8>, LineError> {
        #[derive(Serialize)]
        struct Object<'a, V> {
            #[serde(flatten)]
            view: &'a V,
            #[serde(flatten)]
            carried_as: &'a TopicOrProtocol,
        }
        Ok(serde_json::to_vec(&Object { view, carried_as: &self.carried_as })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads() -> Reader {
        Reader {
            container: ContainerType::GetHeadRequest,
            domain: SigningDomain::PLACEHOLDER,
            carried_as: TopicOrProtocol::default(),
            frame_cap: None,
        }
    }

    /// Takes this many objects, then behaves like a pipe without a reader.
    struct Pipe {
        left: usize,
        error: io::ErrorKind,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.left == 0 {
                return Err(self.error.into());
            }
            self.left -= 1;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_stdout_ends_quietly_and_a_broken_one_does_not() {
        let input = "04000000\n".repeat(5);
        let closed = Pipe { left: 2, error: io::ErrorKind::BrokenPipe };
        assert_eq!(heads().run(input.as_bytes(), closed).unwrap(), Summary { lines: 3, failed: 0 });
        let full = Pipe { left: 2, error: io::ErrorKind::StorageFull };
        assert!(matches!(heads().run(input.as_bytes(), full), Err(InspectError::Output(_))));
    }
}
