//! Why there is no server.

use std::{io, net::SocketAddr};

/// Why a server cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// Others than this host could call, and nothing says which of them may.
    #[error("{address} is not a loopback address: whoever calls there needs a token, so give a JWT secret")]
    SecretRequired {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Two methods have one name.
    #[error("a method is registered twice")]
    Methods(#[from] jsonrpsee::core::RegisterMethodError),
}
