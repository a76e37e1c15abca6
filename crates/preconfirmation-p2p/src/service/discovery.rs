//! Discovery as the service runs it: what it starts with, what it finds, and its restart when it has ended.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use discv5::Enr;
use enr::CombinedKey;
use libp2p::Multiaddr;
use tokio::sync::{oneshot, watch};

use super::{NetworkService, unix_now};
use crate::{
    bootnode::Kind,
    config::{NetworkConfig, after},
    discovery::{self, Discovery, Found, Setup, record},
    error::DiscoveryError,
    identity,
    ip::{Scope, ip_of},
    peer_manager::{AddressSource, KnownPeer, PeerManager},
};

/// From the end of discovery to its restart.
const RESTART_AFTER: Duration = Duration::from_secs(60);

/// How long other nodes have to report this node's address, before it is logged that nobody has.
const ADDRESS_WITHIN: Duration = Duration::from_secs(5 * 60);

/// Discovery, and this node's own record (ENR).
pub(super) struct DiscoveryState {
    /// Discovery, once all listeners are bound; what it starts with until then.
    running: Option<Discovery>,
    prepared: Option<Prepared>,
    /// It has ended: when it is restarted.
    restart_at: Option<Instant>,
    /// It has started with an ENR without an address: when that is logged.
    address_deadline: Option<Instant>,
    /// This node's ENR.
    pub(super) enr: Option<Enr>,
    published: watch::Sender<Option<String>>,
}

/// What discovery starts with, while it waits for the ports of the listeners.
struct Prepared {
    socket: UdpSocket,
    address: SocketAddr,
    key: CombinedKey,
    enrs: Vec<Enr>,
}

impl Prepared {
    /// Binds the socket, if there is to be discovery.
    fn new(config: &NetworkConfig, enrs: Vec<Enr>) -> Result<Option<Self>, DiscoveryError> {
        let Some(discovery) = &config.discovery else {
            return Ok(None);
        };
        let (socket, address) = discovery::bind(discovery).map_err(DiscoveryError::Socket)?;
        let key = identity::enr_key(&config.identity).ok_or(DiscoveryError::Record)?;
        Ok(Some(Self { socket, address, key, enrs }))
    }
}

impl DiscoveryState {
    /// Binds the socket of discovery, and tells the peer manager of the bootnodes. `known` and `enr` are of an earlier run.
    pub(super) fn new(
        config: &NetworkConfig,
        known: &[KnownPeer],
        enr: Option<Enr>,
        peers: &mut PeerManager,
        published: watch::Sender<Option<String>>,
        now: Instant,
    ) -> Result<Self, DiscoveryError> {
        let mut enrs: Vec<Enr> = known.iter().filter_map(|known| known.enr.as_ref()?.parse().ok()).collect();
        for bootnode in &config.bootnodes {
            match &bootnode.0 {
                Kind::Record(of) => {
                    enrs.push((**of).clone());
                    if let Some(peer) = record::peer_id(of)
                        && record::chain(of) == Some(config.chain_id)
                    {
                        let (addresses, text) = (record::addresses(of), Some(of.to_base64()));
                        peers.on_discovered(peer, addresses, text, AddressSource::Bootnode, now);
                    }
                }
                Kind::Peer(peer, address) => {
                    peers.on_discovered(*peer, [address.clone()], None, AddressSource::Bootnode, now);
                }
                Kind::Contact(_) => {}
            }
        }
        let prepared = Prepared::new(config, enrs)?;
        let (restart_at, address_deadline) = (None, None);
        Ok(Self { running: None, prepared, restart_at, address_deadline, enr, published })
    }

    /// Waits for what discovery finds; indefinitely if it is not running. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Found, DiscoveryError> {
        match &mut self.running {
            Some(running) => {
                let found = running.next().await;
                if found.is_err() {
                    // It has ended; there is nothing to wait for any more.
                    self.running = None;
                }
                found
            }
            None => std::future::pending().await,
        }
    }

    /// Says whether more peers are wanted.
    pub(super) fn want(&self, more: bool) {
        if let Some(running) = &self.running {
            running.want(more);
        }
    }

    /// Answers with the routing table; with none where discovery does not run.
    pub(super) fn table(&self, reply: oneshot::Sender<Option<Vec<String>>>) {
        match &self.running {
            Some(running) => running.table(reply),
            None => drop(reply.send(None)),
        }
    }

    pub(super) async fn end(&mut self) {
        if let Some(running) = self.running.take() {
            running.end().await;
        }
    }

    fn has_address(&self) -> bool {
        self.enr.as_ref().is_some_and(has_address)
    }
}

/// The record (ENR) that a node of this configuration says first, at the addresses and ports of its configuration.
///
/// # Errors
/// [`DiscoveryError::Record`] without discovery, and for an identity that is no secp256k1 key.
pub fn first_enr(config: &NetworkConfig) -> Result<String, DiscoveryError> {
    let of = config.discovery.zip(identity::enr_key(&config.identity));
    let (discovery, key) = of.ok_or(DiscoveryError::Record)?;
    let reach = record::Reach::new(&discovery, discovery.listen, &config.advertise, &config.listen);
    let record = record::build(&key, config.chain_id, reach, None, unix_now());
    record.map(|record| record.to_base64()).map_err(|_| DiscoveryError::Record)
}

fn has_address(enr: &Enr) -> bool {
    enr.ip4().is_some() || enr.ip6().is_some()
}

impl NetworkService {
    /// All listeners are bound: the ENR can be made, and discovery starts.
    pub(super) fn start_discovery(&mut self, bound: &[Multiaddr]) {
        let (Some(prepared), Some(config)) = (self.discovery.prepared.take(), self.config.discovery) else {
            return;
        };
        let Prepared { socket, address, key, enrs } = prepared;
        let reach = record::Reach::new(&config, address, &self.config.advertise, bound);
        let previous = self.discovery.enr.as_ref();
        let own = match record::build(&key, self.config.chain_id, reach, previous, unix_now()) {
            Ok(own) => own,
            Err(error) => {
                tracing::error!(%error, "cannot make the node's ENR: discovery does not start");
                return;
            }
        };
        let contacts = self.config.bootnodes.iter().filter_map(|bootnode| match &bootnode.0 {
            Kind::Contact(address) => Some(address.clone()),
            Kind::Record(_) | Kind::Peer(..) => None,
        });
        if !has_address(&own) {
            self.discovery.address_deadline = Some(after(Instant::now(), ADDRESS_WITHIN));
        }
        self.discovery.running = Some(Discovery::spawn(Setup {
            config,
            chain_id: self.config.chain_id,
            socket,
            key,
            record: own,
            learns_ip: reach.is_unknown(),
            records: enrs,
            contacts: contacts.collect(),
            seed: self.config.effective_seed(),
        }));
    }

    pub(super) fn on_discovered(&mut self, found: Found) {
        let now = Instant::now();
        match found {
            Found::Peer { peer, mut addresses, record } => {
                addresses.retain(|address| self.may_dial(address));
                if self.peers.on_discovered(peer, addresses, Some(record), AddressSource::Discovery, now) {
                    tracing::debug!(%peer, "found by discovery");
                    self.dial_known(now);
                }
            }
            Found::Own(enr) => {
                let text = enr.to_base64();
                self.discovery.published.send_replace(Some(text.clone()));
                let known = self.discovery.enr.replace(*enr);
                if known.is_none_or(|known| known.to_base64() != text)
                    && let Some(files) = &mut self.files
                {
                    files.enr_changed(now);
                }
            }
        }
    }

    /// Whether an untrusted peer may send the node to an address: to one on the open internet, and to one of the network
    /// that this node says it is in itself.
    fn may_dial(&self, address: &Multiaddr) -> bool {
        let Some(scope) = ip_of(address).map(Scope::of) else { return false };
        if self.swarm.behaviour().limits.blocked.is_outside(address) {
            return false;
        }
        let own = self.discovery.enr.iter();
        let mut own = own.flat_map(|own| [own.ip4().map(IpAddr::V4), own.ip6().map(IpAddr::V6)]).flatten();
        match scope {
            Scope::Global => true,
            Scope::Nowhere => false,
            Scope::Private if self.config.peers.dial_private => true,
            Scope::Private | Scope::Loopback => own.any(|own| Scope::of(own) == scope),
        }
    }

    /// Discovery has ended: the node goes on with the peers that it knows, and restarts it after a while.
    pub(super) fn on_discovery_ended(&mut self, error: &DiscoveryError, now: Instant) {
        tracing::error!(%error, restart_in = ?RESTART_AFTER, "discovery has ended");
        self.discovery.restart_at = Some(after(now, RESTART_AFTER));
    }

    /// Once a second: restarts discovery when it is time, and logs when nobody has reported this node's address.
    pub(super) fn watch_discovery(&mut self, now: Instant) {
        if self.discovery.restart_at.take_if(|at| *at <= now).is_some() {
            let enrs = self.peers.enrs().filter_map(|enr| enr.parse().ok()).collect();
            match Prepared::new(&self.config, enrs) {
                Ok(prepared) => {
                    self.discovery.prepared = prepared;
                    self.publish_listeners();
                }
                Err(error) => self.on_discovery_ended(&error, now),
            }
        }
        if self.discovery.address_deadline.take_if(|at| *at <= now).is_some() && !self.discovery.has_address()
        {
            tracing::warn!(
                "no other node has reported this node's address, so its ENR has none and others cannot use it as a \
                 bootnode: set the address that others reach (advertise; p2p.advertise.ip)"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;
    use crate::{DiscoveryConfig, Network, NetworkHandle, service::Input};

    fn service(advertise_ip: Option<IpAddr>) -> (NetworkHandle, NetworkService) {
        service_with(advertise_ip, |_| ())
    }

    fn service_with(
        advertise_ip: Option<IpAddr>,
        change: impl FnOnce(&mut NetworkConfig),
    ) -> (NetworkHandle, NetworkService) {
        let mut config = NetworkConfig::local(1, Keypair::generate_secp256k1());
        change(&mut config);
        config.discovery = Some(DiscoveryConfig { advertise_ip, ..DiscoveryConfig::local() });
        let (handle, _events, service) = Network::new(config).unwrap();
        (handle, service)
    }

    /// Handles inputs until the node has an ENR of its own.
    async fn has_enr(service: &mut NetworkService) {
        let begun = async {
            while service.discovery.enr.is_none() || service.discovery.running.is_none() {
                let input = service.input().await;
                assert!(service.handle(input).unwrap());
            }
        };
        tokio::time::timeout(Duration::from_secs(60), begun).await.unwrap();
    }

    #[tokio::test]
    async fn a_node_goes_on_without_discovery_and_restarts_it() {
        let (_handle, mut service) = service(None);
        has_enr(&mut service).await;
        service.discovery.running.take().unwrap().end().await;
        assert!(
            service.handle(Input::Discovered(Err(DiscoveryError::Ended))).unwrap(),
            "the service goes on"
        );
        let now = Instant::now();
        service.watch_discovery(now);
        assert!(service.discovery.running.is_none());
        service.watch_discovery(now + RESTART_AFTER);
        assert!(service.discovery.running.is_some());
        service.discovery.end().await;
    }

    #[tokio::test]
    async fn untrusted_peers_do_not_send_a_node_into_its_own_network() {
        for (own, allowed) in [
            ("8.8.8.8", vec!["1.1.1.1"]),
            ("10.0.0.1", vec!["1.1.1.1", "10.0.0.5", "192.168.1.1"]),
            ("127.0.0.1", vec!["1.1.1.1", "127.0.0.5"]),
        ] {
            let (_handle, mut service) = service(Some(own.parse().unwrap()));
            has_enr(&mut service).await;
            let may_dial = |ip: &&str| service.may_dial(&format!("/ip4/{ip}/tcp/22").parse().unwrap());
            let all = ["1.1.1.1", "127.0.0.5", "10.0.0.5", "192.168.1.1", "169.254.169.254", "0.0.0.0"];
            assert_eq!(
                all.into_iter().filter(may_dial).collect::<std::collections::BTreeSet<_>>(),
                allowed.into_iter().collect(),
                "as {own}"
            );
            service.discovery.end().await;
        }
    }
    #[tokio::test]
    async fn private_addresses_are_dialled_where_that_is_set() {
        let (_handle, mut service) = service_with(Some([8, 8, 8, 8].into()), |config| {
            config.peers.dial_private = true;
        });
        has_enr(&mut service).await;
        let may_dial = |ip| service.may_dial(&format!("/ip4/{ip}/tcp/22").parse().unwrap());
        assert_eq!(["1.1.1.1", "10.0.0.5", "127.0.0.5"].map(may_dial), [true, true, false]);
        service.discovery.end().await;
    }
}
