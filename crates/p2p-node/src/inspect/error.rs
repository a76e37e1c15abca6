//! Errors of `inspect`: of an option, of one line, of the whole run.

use std::io;

use preconfirmation_types::{DecodeError, FrameError, SignatureError};

use super::args::ContainerType;
use crate::hexadecimal::HexError;

/// Why one line is not the container. Its text is the `error` of the line's object.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    /// Longer than any message of the protocol; the line was skipped unread.
    #[error("line: more than {limit} characters, longer than the hex of any message")]
    TooLong {
        /// Most characters of a line.
        limit: usize,
    },
    /// Not hexadecimal.
    #[error(transparent)]
    Hex(#[from] HexError),
    /// Not the SSZ of the container.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Not a frame, or not a frame of the container.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A commitment that nobody signed.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// A commitment of a page that nobody signed.
    #[error("commitments[{index}]: {source}")]
    Item {
        /// Position in the page, from 0.
        index: usize,
        /// What is wrong with its signature.
        source: SignatureError,
    },
    /// The object could not be written as JSON.
    #[error("json: {0}")]
    Json(#[from] serde_json::Error),
}

/// Why the run cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InspectError {
    /// Frames of something that no request/response protocol carries.
    #[error(
        "--frame cannot be used with --type {container}: \
         only requests and responses travel in frames (PreconfHead and the Get… containers)"
    )]
    NotFramed {
        /// The container asked for.
        container: ContainerType,
    },
    /// stdin failed.
    #[error("reading stdin: {0}")]
    Input(#[source] io::Error),
    /// stdout failed, other than by being closed.
    #[error("writing stdout: {0}")]
    Output(#[source] io::Error),
}

impl InspectError {
    /// Whether the command line is to blame.
    pub(crate) const fn is_usage(&self) -> bool {
        matches!(self, Self::NotFramed { .. })
    }
}
