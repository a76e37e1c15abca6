//! What can be set.

use std::{fmt, net::SocketAddr, str::FromStr, sync::Arc};

use crate::{Host, JwtSecret};

/// The port that existing preconfer software expects.
const PORT: u16 = 8550;

/// A group of methods that is served or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Namespace {
    /// Preconfirmations: publish, read, subscribe, tell of L1 and L2.
    Preconf,
    /// Peers, as op-node's `opp2p`.
    Opp2p,
    /// What waits, what was counted, what is logged.
    Debug,
}

impl Namespace {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Preconf, Self::Opp2p, Self::Debug];

    /// What the names of its methods begin with, before the underscore.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Preconf => "preconf",
            Self::Opp2p => "opp2p",
            Self::Debug => "debug",
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl FromStr for Namespace {
    type Err = UnknownNamespace;

    fn from_str(text: &str) -> Result<Self, UnknownNamespace> {
        let found = Self::ALL.iter().find(|namespace| namespace.label() == text);
        found.copied().ok_or_else(|| UnknownNamespace { given: text.into() })
    }
}

/// A namespace that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no namespace `{given}`: there are preconf, opp2p and debug")]
pub struct UnknownNamespace {
    /// What was given.
    pub given: Box<str>,
}

/// Where and what a server serves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RpcConfig {
    /// Where it listens. An address other than loopback needs a [`secret`](Self::secret).
    pub address: SocketAddr,
    /// What it serves. By default `preconf` alone.
    pub namespaces: Vec<Namespace>,
    /// With it every request needs a token.
    pub secret: Option<JwtSecret>,
    /// Names that a request's `Host` may have beside `localhost` and IP addresses, without a port.
    pub hosts: Vec<String>,
    /// What `preconf_status` gives as the version.
    pub version: String,
    /// The L2 chain id that `preconf_status` tells. The one in topics and protocol ids, which can be another, is the
    /// client's.
    pub chain_id: Option<u64>,
    /// What the program around the server tells and does: its view of L1 and L2, its log.
    pub host: Option<Arc<dyn Host>>,
}

impl RpcConfig {
    /// Serves `preconf` at an address.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            namespaces: vec![Namespace::Preconf],
            secret: None,
            hosts: Vec::new(),
            version: concat!("p2p-rpc/", env!("CARGO_PKG_VERSION")).into(),
            chain_id: None,
            host: None,
        }
    }

    /// What is served.
    #[must_use]
    pub fn with_namespaces(mut self, namespaces: impl IntoIterator<Item = Namespace>) -> Self {
        self.namespaces = namespaces.into_iter().collect();
        self
    }

    /// With it every request needs a token.
    #[must_use]
    pub fn with_secret(mut self, secret: JwtSecret) -> Self {
        self.secret = Some(secret);
        self
    }

    /// Names that a request's `Host` may have.
    #[must_use]
    pub fn with_hosts(mut self, hosts: impl IntoIterator<Item = String>) -> Self {
        self.hosts = hosts.into_iter().collect();
        self
    }

    /// What `preconf_status` gives as the version.
    #[must_use]
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// The L2 chain id that `preconf_status` tells.
    #[must_use]
    pub const fn with_chain_id(mut self, chain_id: u64) -> Self {
        self.chain_id = Some(chain_id);
        self
    }

    /// What the program around the server tells and does.
    #[must_use]
    pub fn with_host(mut self, host: Arc<dyn Host>) -> Self {
        self.host = Some(host);
        self
    }
}

impl Default for RpcConfig {
    /// On port 8550 of the loopback interface.
    fn default() -> Self {
        Self::new(SocketAddr::from(([127, 0, 0, 1], PORT)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_read_as_it_is_shown() {
        for namespace in Namespace::ALL {
            assert_eq!(namespace.to_string().parse(), Ok(*namespace));
        }
        assert!("admin".parse::<Namespace>().unwrap_err().to_string().contains("`admin`"));
    }

    #[test]
    fn the_default_is_loopback_on_the_usual_port() {
        let config = RpcConfig::default();
        assert!(config.address.ip().is_loopback() && config.secret.is_none());
        assert_eq!((config.address.port(), config.namespaces), (8550, vec![Namespace::Preconf]));
    }
}
