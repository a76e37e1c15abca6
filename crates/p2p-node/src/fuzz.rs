//! What is read of files and answers, for the fuzz targets of this workspace. Nothing here is stable.

pub use crate::{
    config::fuzz::{Config, config},
    db::fuzz::export_line,
    run::fuzz::{block, options, preset, rotation},
};

/// The answer of a node's `/status`; whether it is one.
#[cfg(unix)]
#[must_use]
pub fn status(json: &[u8]) -> bool {
    crate::watch::fuzz_status(json)
}
