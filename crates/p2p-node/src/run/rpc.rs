//! JSON-RPC: its options, and the server from its start to its end.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use p2p_client::P2pClient;
use p2p_lookahead::{L1Lookahead, L2Handle};
use p2p_rpc::{
    Host, JwtSecret, L1Report, L2Report, LeaseReport, LogFilterError, Namespace, RpcConfig, RpcError,
    RpcHandle, RpcServer, SlowMessage,
};
use tokio::task::{JoinHandle, spawn_blocking};

use super::{
    datadir::JWT,
    error::RunError,
    guard::LeaseView,
    list::{List, flat},
};
use crate::{log, slow_spans};

/// Options of the JSON-RPC server. Any of --rpc.addr, --rpc.port and --rpc.api turns it on.
#[derive(Debug, Args)]
#[command(next_help_heading = "JSON-RPC over HTTP and WebSocket")]
pub(super) struct RpcArgs {
    /// IP address to serve JSON-RPC on; 127.0.0.1 where only --rpc.port or --rpc.api is given
    ///
    /// Callers from other hosts need a token: with an address that is not loopback, --rpc.jwt-secret counts.
    #[arg(long = "rpc.addr", value_name = "IP")]
    address: Option<IpAddr>,

    /// TCP port to serve JSON-RPC on [default: 8550]; 0 takes a free one, which the first line on stdout tells
    #[arg(long = "rpc.port", value_name = "PORT")]
    port: Option<u16>,

    /// What is served, of `preconf`, `opp2p` and `debug`, separated by commas [default: preconf]
    ///
    /// With `preconf` callers can publish, if there is a --datadir where what was published is remembered, or with
    /// --forget-on-restart.
    #[arg(long = "rpc.api", value_name = "NAMESPACE")]
    namespaces: Vec<List<Namespace>>,

    /// File with the secret that callers sign their tokens with (HS256, as of the Engine API); made where there is none
    ///
    /// With it callers from this host need a token, too. Where --rpc.addr is not loopback and this is not given, the file is
    /// `jwt.hex` in --datadir.
    #[arg(long = "rpc.jwt-secret", value_name = "FILE")]
    secret: Option<PathBuf>,

    /// Names that requests may be for, beside localhost and IP addresses, separated by commas
    #[arg(long = "rpc.vhosts", value_name = "NAME")]
    hosts: Vec<List<String>>,
}

impl RpcArgs {
    /// Where to serve, if at all.
    fn listen(&self) -> Option<SocketAddr> {
        let is_on = self.address.is_some() || self.port.is_some() || !self.namespaces.is_empty();
        let ip = self.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        is_on.then(|| SocketAddr::new(ip, self.port.unwrap_or_else(|| RpcConfig::default().address.port())))
    }

    fn namespaces(&self) -> Vec<Namespace> {
        let given = flat(&self.namespaces);
        if given.is_empty() { vec![Namespace::Preconf] } else { given }
    }

    /// The file with the secret, if callers need one.
    fn secret_file(&self, address: SocketAddr, datadir: Option<&Path>) -> Option<PathBuf> {
        let by_default = datadir.filter(|_| !address.ip().is_loopback()).map(|path| path.join(JWT));
        self.secret.clone().or(by_default)
    }

    /// Reads the secret, if there is one: what is wrong with it is told before anything is made.
    pub(super) fn check(&self, datadir: Option<&Path>) -> Result<(), RunError> {
        let Some(address) = self.listen() else { return Ok(()) };
        match self.secret_file(address, datadir) {
            Some(path) if path.exists() => {
                JwtSecret::load_or_create(&path).map(drop).map_err(RunError::JwtSecret)
            }
            None if !address.ip().is_loopback() => Err(RunError::Rpc(RpcError::SecretRequired { address })),
            _ => Ok(()),
        }
    }

    /// The same, and whether the address is free.
    pub(super) fn probe(&self, datadir: Option<&Path>) -> Result<(), RunError> {
        self.check(datadir)?;
        let bound = self.listen().map(TcpListener::bind).transpose();
        bound.map(drop).map_err(|source| self.refused(source))
    }

    /// Why the address cannot be listened on.
    fn refused(&self, source: io::Error) -> RunError {
        let value = self.listen().map(|address| address.to_string()).unwrap_or_default();
        RunError::Bind { option: "--rpc.addr", value, source }
    }

    /// Whether callers can look into the node.
    pub(super) fn debugs(&self) -> bool {
        self.listen().is_some() && self.namespaces().contains(&Namespace::Debug)
    }

    /// Whether callers can publish.
    pub(super) fn publishes(&self) -> bool {
        self.listen().is_some() && self.namespaces().contains(&Namespace::Preconf)
    }
}

/// What the node tells callers beyond its client.
#[derive(Debug)]
pub(super) struct Followed {
    /// None where the schedule does not come from L1.
    pub(super) l1: Option<Arc<L1Lookahead>>,
    /// None where L2 does not tell what is settled.
    pub(super) l2: Option<L2Handle>,
    /// None where no lease says who publishes.
    pub(super) lease: Option<LeaseView>,
}

impl Host for Followed {
    fn l1(&self) -> Option<L1Report> {
        let status = self.l1.as_ref()?.status();
        let (head, timestamp) = status.head.map(|head| (head.number, head.timestamp)).unzip();
        Some(L1Report::new(head, timestamp, status.error))
    }

    fn l2(&self) -> Option<L2Report> {
        let status = self.l2.as_ref()?.status();
        let (settled, at) = status.seen.map(|seen| (seen.number, seen.at.get())).unzip();
        Some(L2Report::new(settled, at, status.synced, status.error))
    }

    fn lease(&self) -> Option<LeaseReport> {
        self.lease.as_ref().map(LeaseView::report)
    }

    fn slow_messages(&self) -> Vec<SlowMessage> {
        slow_spans::last()
    }

    fn log_filter(&self) -> Option<String> {
        log::filter()
    }

    fn set_log_filter(&self, directives: &str) -> Result<(), LogFilterError> {
        log::set_filter(directives)
            .map_err(|problem| LogFilterError::Invalid { directives: directives.into(), problem })
    }
}

/// A server that runs.
pub(super) struct Rpc {
    handle: RpcHandle,
    serving: JoinHandle<()>,
}

impl Rpc {
    /// Starts the server that the options describe, if they describe one.
    pub(super) async fn start(
        args: &RpcArgs,
        datadir: Option<&Path>,
        chain_id: u64,
        followed: Followed,
        client: &P2pClient,
    ) -> Result<Option<Self>, RunError> {
        let Some(address) = args.listen() else { return Ok(None) };
        let mut config = RpcConfig::new(address)
            .with_namespaces(args.namespaces())
            .with_hosts(flat(&args.hosts))
            .with_version(concat!("p2p-node/", env!("CARGO_PKG_VERSION")))
            .with_chain_id(chain_id)
            .with_host(Arc::new(followed));
        if let Some(path) = args.secret_file(address, datadir) {
            tracing::info!(path = %path.display(), "callers of JSON-RPC need a token made with this secret");
            let read = spawn_blocking(move || JwtSecret::load_or_create(&path)).await;
            let secret = read.map_err(|_| RunError::Died("reading"))?.map_err(RunError::JwtSecret)?;
            config = config.with_secret(secret);
        }
        let bound = RpcServer::bind(config, client.clone()).await;
        let (handle, server) = bound.map_err(|error| match error {
            RpcError::Bind { source, .. } => args.refused(source),
            error => RunError::Rpc(error),
        })?;
        tracing::info!(address = %handle.address(), "serving JSON-RPC");
        Ok(Some(Self { handle, serving: tokio::spawn(server.run()) }))
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.handle.address()
    }

    /// Answers what is being asked, and ends.
    pub(super) async fn stop(self) {
        /// Beyond what the server itself takes to end.
        const SLACK: Duration = Duration::from_secs(1);
        self.handle.stop().await;
        if tokio::time::timeout(SLACK, self.serving).await.is_err() {
            tracing::warn!("the JSON-RPC server did not end in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        rpc: RpcArgs,
    }

    fn args(options: &[&str]) -> RpcArgs {
        Cli::try_parse_from([&["test"], options].concat()).unwrap().rpc
    }

    #[test]
    fn the_server_is_off_until_an_option_asks_for_it() {
        let listen = |options: &[&str]| args(options).listen().map(|address| address.to_string());
        assert_eq!(listen(&[]), None);
        assert_eq!(listen(&["--rpc.jwt-secret", "a"]), None);
        assert_eq!(listen(&["--rpc.port", "7"]).unwrap(), "127.0.0.1:7");
        assert_eq!(listen(&["--rpc.addr", "::"]).unwrap(), "[::]:8550");
        assert_eq!(listen(&["--rpc.api", "debug"]).unwrap(), "127.0.0.1:8550");
    }

    #[test]
    fn callers_publish_where_preconf_is_served() {
        for (options, publishes) in [
            (&[][..], false),
            (&["--rpc.port", "7"], true),
            (&["--rpc.api", "preconf,opp2p"], true),
            (&["--rpc.api", "opp2p"], false),
        ] {
            assert_eq!(args(options).publishes(), publishes, "{options:?}");
        }
        assert!(Cli::try_parse_from(["test", "--rpc.api", "admin"]).is_err());
    }
}
