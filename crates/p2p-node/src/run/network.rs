//! Turns the options into the network's configuration, and its errors into the words of the options.

use std::{
    fmt::Display,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use p2p_client::P2pClientError;
use preconfirmation_p2p::{
    ConfigError, DiscoveryConfig, DiscoveryError, Multiaddr, NetworkConfig, NetworkError, RateLimit,
};

use super::{
    args::{PeerRateLimit, RunArgs},
    datadir::NETWORK,
    error::RunError,
    list::flat,
    peers,
};

/// The UDP port of discovery, unless another is given.
const DISCOVERY: u16 = 9222;

/// Takes over what the options say.
pub(super) fn configure(config: &mut NetworkConfig, args: &RunArgs) -> Result<(), RunError> {
    let ips = listen_ips(args);
    config.listen = ips.iter().filter_map(|ip| address(*ip, "tcp", args.listen_tcp)).collect();
    config.listen.extend(ips.iter().filter_map(|ip| quic(*ip, args.listen_quic?)));
    config.static_peers = flat(&args.static_peers).into_iter().map(|peer| peer.0).collect();
    config.bootnodes = flat(&args.bootnodes);
    config.data_dir = match &args.peers.peerstore {
        Some(path) => Some(path.clone()),
        None => args.datadir.as_ref().map(|path| path.join(NETWORK)),
    };
    args.peers.configure(config);
    config.discovery = discovery(args).map(DiscoveryConfig::new);
    config.advertise = advertised(args)?;
    config.rate_limits = flat(&args.rate_limits)
        .into_iter()
        .map(|PeerRateLimit { peer, requests, window }| (peer, RateLimit { requests, window }))
        .collect();
    Ok(())
}

/// Warns of what cannot do what its operator expects.
pub(super) fn warn(config: &NetworkConfig, args: &RunArgs) {
    let ips = listen_ips(args);
    if config.discovery.is_some()
        && config.advertise.is_empty()
        && let Some(ip) = ips.first().filter(|ip| ip.is_unspecified())
    {
        tracing::warn!(
            "--p2p.listen.ip {ip} does not say where others reach this node: until enough peers have told it, its record \
             (ENR) has no address and is of no use as a bootnode; set --p2p.advertise.ip"
        );
    }
    if config.static_peers.is_empty() && config.discovery.is_none() {
        tracing::warn!(
            "neither --p2p.static nor --p2p.bootnodes: this node dials nobody and waits for others to dial it"
        );
    }
}

/// Where discovery listens, if there is any.
pub(super) fn discovery(args: &RunArgs) -> Option<SocketAddr> {
    let port = args.listen_udp.or((!flat(&args.bootnodes).is_empty()).then_some(DISCOVERY))?;
    let ip = listen_ips(args).first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    Some(SocketAddr::new(ip, port))
}

/// Where to listen; everywhere, where the option is empty.
pub(super) fn listen_ips(args: &RunArgs) -> Vec<IpAddr> {
    let ips = flat(&args.listen_ips);
    if ips.is_empty() { vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)] } else { ips }
}

/// Where others reach this node.
fn advertised(args: &RunArgs) -> Result<Vec<Multiaddr>, RunError> {
    let mut addresses = Vec::new();
    for ip in flat(&args.advertise_ips) {
        if ip.is_unspecified() || ip.is_multicast() {
            return Err(RunError::AdvertisedIp { ip });
        }
        let tcp = args.advertise_tcp.or((args.listen_tcp != 0).then_some(args.listen_tcp));
        addresses.extend(address(ip, "tcp", tcp.ok_or(RunError::AdvertisedPort { ip })?));
        addresses.extend(args.listen_quic.filter(|port| *port != 0).and_then(|port| quic(ip, port)));
        addresses.extend(args.advertise_udp.and_then(|port| address(ip, "udp", port)));
    }
    Ok(addresses)
}

/// As libp2p writes it.
fn address(ip: IpAddr, protocol: &str, port: u16) -> Option<Multiaddr> {
    let family = if ip.is_ipv4() { "ip4" } else { "ip6" };
    format!("/{family}/{ip}/{protocol}/{port}").parse().ok()
}

fn quic(ip: IpAddr, port: u16) -> Option<Multiaddr> {
    format!("{}/quic-v1", address(ip, "udp", port)?).parse().ok()
}

/// What listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listener {
    Tcp,
    Quic,
    Discovery,
}

impl Listener {
    /// Why it cannot listen, in the words of its option.
    pub(super) fn refused(self, port: u16, address: &dyn Display, source: io::Error) -> RunError {
        let is_of_port = matches!(source.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied);
        let (option, value) = match self {
            Self::Discovery => ("--p2p.listen.udp", port.to_string()),
            _ if !is_of_port => ("--p2p.listen.ip", address.to_string()),
            Self::Tcp => ("--p2p.listen.tcp", format!("{port} ({address})")),
            Self::Quic => ("--p2p.listen.quic", format!("{port} ({address})")),
        };
        RunError::Bind { option, value, source }
    }
}

/// Why the network cannot start, in the words of the options.
pub(super) fn failed(error: P2pClientError, args: &RunArgs, key: &'static str) -> RunError {
    let source = match &error {
        P2pClientError::Network(source) => source,
        P2pClientError::Config(p2p_client::ConfigError::ForgetfulStore) => return RunError::Forgetful,
        _ => return error.into(),
    };
    match &**source {
        NetworkError::Listen { address, source } => {
            let quic = args.listen_quic.filter(|_| address.protocol_stack().any(|part| part == "quic-v1"));
            let listener = if quic.is_some() { Listener::Quic } else { Listener::Tcp };
            listener.refused(quic.unwrap_or(args.listen_tcp), address, same(source))
        }
        NetworkError::Discovery(DiscoveryError::Socket(source)) => {
            let socket = discovery(args).unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, DISCOVERY).into());
            Listener::Discovery.refused(socket.port(), &socket, same(source))
        }
        NetworkError::DataDir { path, source } => {
            let option = if args.peers.peerstore.is_some() { "--p2p.peerstore.path" } else { "--datadir" };
            RunError::NetworkDir { option, path: path.clone(), source: same(source) }
        }
        NetworkError::Config(ConfigError::DiscoveryIdentity) => RunError::KeyType { option: key },
        NetworkError::Config(error) => RunError::Setting(peers::explain(error)),
        _ => error.into(),
    }
}

/// The same error of the system, which cannot be cloned, and which QUIC's transport only passes on as text.
fn same(error: &io::Error) -> io::Error {
    let text = error.to_string();
    let told = text.rsplit_once("(os error ").and_then(|(_, code)| code.strip_suffix(')')?.parse().ok());
    let code = error.raw_os_error().or(told);
    code.map_or_else(|| io::Error::new(error.kind(), text), io::Error::from_raw_os_error)
}
