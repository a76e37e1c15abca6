//! Files of promises without a database, for the fuzz targets of this workspace. Nothing here is stable.

use futures::FutureExt as _;
use p2p_types::SigningDomain;

use crate::{Error, exchange};

/// Reads a whole file as an import does: how many promises it has.
///
/// # Errors
/// Which line is wrong.
///
/// # Panics
/// If bytes are waited for that are there.
#[allow(clippy::expect_used, reason = "a failed property")]
pub fn import(mut file: &[u8], chain: u64, domain: SigningDomain) -> Result<u64, Error> {
    exchange::checked(&mut file, chain, domain).now_or_never().expect("all bytes are there")
}
