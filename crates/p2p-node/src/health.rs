//! `p2p-node health`: asks a running node how it is, for the health checks of containers, which have no shell.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use clap::Args;

/// For the connection, and for each part of the answer.
const LIMIT: Duration = Duration::from_secs(5);

/// Most bytes of an answer that are read.
const ANSWER: u64 = 64 * 1024;

/// Ask a running node whether it is well: exit code 0 if it is, 1 if not
///
/// For health checks of containers. Asks /healthz, which answers as long as the process works.
#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// The address that the node was given with --status.addr
    #[arg(value_name = "ADDR:PORT")]
    address: SocketAddr,

    /// Ask whether the node is ready instead (/readyz): live, with peers, whose turn it is, and news from L1 and L2
    ///
    /// Do not restart a node because it is not ready: that does not bring back a peer.
    #[arg(long)]
    ready: bool,
}

/// Why a node is not well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HealthError {
    #[error("{address} does not answer: {source}")]
    Silent { address: SocketAddr, source: io::Error },
    #[error("{address} does not answer as a node does")]
    Foreign { address: SocketAddr },
    #[error("{path} answers {code}: {reasons}")]
    Unwell { path: &'static str, code: u16, reasons: String },
}

/// Asks the node.
///
/// # Errors
/// [`HealthError`] says why it is not well.
pub(crate) fn run(args: &HealthArgs) -> Result<ExitCode, HealthError> {
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let address = args.address;
    let answer = get(address, path).map_err(|source| HealthError::Silent { address, source })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let code = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.split(' ').next()?.parse().ok());
    match code {
        Some(200) => Ok(ExitCode::SUCCESS),
        Some(code) => Err(HealthError::Unwell { path, code, reasons: body.trim().to_owned() }),
        None => Err(HealthError::Foreign { address }),
    }
}

/// The answer to a request, head and body.
fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
