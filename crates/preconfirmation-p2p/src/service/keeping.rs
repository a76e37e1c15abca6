//! Finding and keeping peers: whom to dial, whom to remember, whom to let go.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr, UdpSocket},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use discv5::Enr;
use enr::CombinedKey;
use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};
use tokio::sync::watch;

use super::{NetworkService, dials::Dialling, files::Files};
use crate::{
    config::{NetworkConfig, after},
    discovery::{self, Discovery, Found, Kind, Setup, record},
    error::{DiscoveryError, NetworkError},
    ip::{Host, Scope, ip_of},
    metrics,
    peer_book::{PeerBook, Source},
    rate_limiter::Start,
    redial::{Redial, peer_of},
    twins::{DuplicateIdentity, DuplicateSign, OwnKey, Twins},
    watermarks::{self, Standing},
};

/// What the service knows about finding and keeping peers.
pub(super) struct Keeping {
    pub(super) redial: Redial,
    /// Static addresses with this node's own name that have not been dialled.
    own_name: Vec<Multiaddr>,
    pub(super) book: PeerBook,
    trusted: HashSet<PeerId>,
    /// Dials under way, at most `connections.max_pending` and as many as there are static peers.
    pub(super) dialling: HashMap<ConnectionId, Dialling>,
    /// Discovery, once all listeners are bound; what it begins with until then.
    pub(super) discovery: Option<Discovery>,
    prepared: Option<Prepared>,
    watch: Watch,
    pub(super) twins: Twins,
    duplicate: watch::Sender<Option<DuplicateIdentity>>,
    /// Who answered last at the address of a static peer with another key; at most as many as there are of these.
    pub(super) other_keys: HashMap<Multiaddr, PeerId>,
    /// Our own record.
    pub(super) record: Option<Enr>,
    shown: watch::Sender<Option<String>>,
    pub(super) files: Option<Files>,
    /// Whether an earlier run may have asked peers.
    pub(super) start: Start,
}

/// How discovery is doing.
#[derive(Default)]
struct Watch {
    /// It has ended: when it is begun again.
    again: Option<Instant>,
    /// It has begun with a record without an address: when that is said.
    unreachable: Option<Instant>,
}

/// From the end of discovery to its next beginning.
const DISCOVERY_AGAIN: Duration = Duration::from_secs(60);

/// How long others have to tell the node its address.
const ADDRESS_TOLD: Duration = Duration::from_secs(5 * 60);

/// What discovery waits with for the ports of the listeners.
struct Prepared {
    socket: UdpSocket,
    address: SocketAddr,
    key: CombinedKey,
    records: Vec<Enr>,
}

impl Prepared {
    /// Binds the socket, if there is to be discovery.
    fn new(config: &NetworkConfig, records: Vec<Enr>) -> Result<Option<Self>, DiscoveryError> {
        let Some(discovery) = &config.discovery else {
            return Ok(None);
        };
        let (socket, address) = discovery::bind(discovery).map_err(DiscoveryError::Socket)?;
        let key = record::key(&config.identity).ok_or(DiscoveryError::Record)?;
        Ok(Some(Self { socket, address, key, records }))
    }
}

impl Keeping {
    /// Reads the data directory, binds the socket of discovery. Blocks on the disk.
    pub(super) fn new(
        config: &NetworkConfig,
        shown: watch::Sender<Option<String>>,
        duplicate: watch::Sender<Option<DuplicateIdentity>>,
        own_key: OwnKey,
        now: Instant,
    ) -> Result<Self, NetworkError> {
        let seed = config.effective_seed();
        let local = config.identity.public().to_peer_id();
        let (own_name, others): (Vec<_>, Vec<_>) =
            config.static_peers.iter().cloned().partition(|address| peer_of(address) == Some(local));
        for address in &own_name {
            tracing::warn!(%address, "a static peer is this node itself: it is dialled once, in case another node has its key");
        }
        let redial = Redial::new(&others, config.redial, seed, now);
        let mut book = PeerBook::new(config.peers, config.connections, seed);
        let mut records = Vec::new();
        let mut own = None;
        let mut files = None;
        let mut start = Start::Restart;
        if let Some(directory) = &config.data_dir {
            let failed = |source| NetworkError::DataDir { path: directory.clone(), source };
            let opened = Files::open(directory.clone()).map_err(failed)?;
            let known = opened.peers(config.chain_id);
            records.extend(known.iter().filter_map(|known| known.record.as_ref()?.parse::<Enr>().ok()));
            book.restore(known, now);
            own = opened.record();
            start = opened.start();
            files = Some(opened);
        }
        for bootnode in &config.bootnodes {
            match &bootnode.0 {
                Kind::Record(of) => {
                    records.push((**of).clone());
                    if let Some(peer) = record::peer_id(of)
                        && record::chain(of) == Some(config.chain_id)
                    {
                        let text = Some(of.to_base64());
                        book.heard(peer, record::addresses(of), text, Source::Bootnode, now);
                    }
                }
                Kind::Peer(peer, address) => {
                    book.heard(*peer, [address.clone()], None, Source::Bootnode, now);
                }
                Kind::Contact(_) => {}
            }
        }
        let prepared = Prepared::new(config, records)?;
        Ok(Self {
            redial,
            own_name,
            book,
            trusted: config.trusted_peers.iter().copied().collect(),
            dialling: HashMap::new(),
            twins: Twins::new(now, unix_nanos(), own_key),
            duplicate,
            other_keys: HashMap::new(),
            discovery: None,
            prepared,
            watch: Watch::default(),
            record: own,
            shown,
            files,
            start,
        })
    }

    /// Static and trusted peers are never pruned and never banned.
    pub(super) fn is_protected(&self, peer: &PeerId) -> bool {
        self.trusted.contains(peer) || self.redial.contains(peer)
    }

    /// All of them that have a name.
    pub(super) fn protected(&self) -> Vec<PeerId> {
        self.trusted.iter().copied().chain(self.redial.peers()).collect()
    }

    /// Waits for discovery; for ever if there is none. Cancel-safe.
    pub(super) async fn found(discovery: &mut Option<Discovery>) -> Result<Found, DiscoveryError> {
        match discovery {
            Some(running) => {
                let found = running.next().await;
                if found.is_err() {
                    // It has ended; there is nothing to wait for any more.
                    *discovery = None;
                }
                found
            }
            None => std::future::pending().await,
        }
    }
}

impl NetworkService {
    /// Tells the half-open connections which hosts have places of their own: those of the addresses of static peers,
    /// and those at which static and trusted peers are connected.
    pub(super) fn reserve_places(&mut self) {
        let named = self.config.static_peers.iter().filter_map(Host::at);
        let connected = self.swarm.behaviour().limits.protected_hosts();
        self.half_open.reserve(named.chain(connected).collect());
    }

    /// A connection to a peer stands.
    pub(super) fn arrived(&mut self, peer: PeerId) {
        if self.keeping.is_protected(&peer) {
            self.reserve_places();
        }
        let Some(record) = self.peers.get(&peer) else { return };
        let mut ips: Vec<_> = record.addresses().filter_map(ip_of).collect();
        ips.dedup();
        // One of each IP version is one node.
        if let [.., one, other] = ips.as_slice()
            && one.is_ipv4() == other.is_ipv4()
        {
            metrics::twin("two_addresses");
            if self.keeping.twins.should_tell(Instant::now()) {
                tracing::warn!(%peer, %one, %other, "a peer is connected from two addresses: two nodes may use its key");
            }
        }
    }

    /// Another node uses this node's key.
    pub(super) fn twin(&mut self, sign: DuplicateSign, now: Instant) {
        metrics::twin(sign.label());
        self.keeping.duplicate.send_replace(Some(DuplicateIdentity { sign, at: now }));
        if self.keeping.twins.should_tell(now) {
            let sign = sign.label();
            tracing::error!(sign, "another node uses the key of this one: give each node a key of its own");
        }
    }

    /// A message under this node's name has come from a peer.
    pub(super) fn own_message(&mut self, number: Option<u64>) {
        let now = Instant::now();
        if self.keeping.twins.has_published(number, now) {
            self.twin(DuplicateSign::Published, now);
        }
    }

    /// The last connection to a peer has closed.
    pub(super) fn lost(&mut self, peer: &PeerId) {
        let now = Instant::now();
        self.keeping.book.parted(peer, unix_now(), now);
        if self.keeping.redial.lost(peer, now) {
            tracing::warn!(%peer, "static peer is lost: it is dialled until it is back");
        }
    }

    /// A peer has said what it speaks and where it listens.
    pub(super) fn identified(
        &mut self,
        peer: PeerId,
        speaks: bool,
        listens: Vec<Multiaddr>,
        address: &Multiaddr,
        inbound: bool,
    ) {
        let now = Instant::now();
        if let Some(back) = self.keeping.redial.identified(&peer, now) {
            tracing::info!(%peer, after = ?back.after, attempts = back.attempts, "static peer is back");
        }
        if !speaks {
            self.keeping.book.forget(&peer);
            return;
        }
        // An inbound connection comes from a port where nobody listens.
        let dialled = (!inbound).then(|| address.clone());
        // What it says is believed as far as it says where we see it: else it could send us to others.
        let seen_at = ip_of(address);
        let listens = listens.into_iter().filter(|address| seen_at.is_some() && ip_of(address) == seen_at);
        let source = if inbound { Source::Inbound } else { Source::Book };
        let _is_news = self.keeping.book.heard(peer, listens, None, source, now);
        self.keeping.book.met(peer, dialled, unix_now(), now);
    }

    /// All listeners are bound: the record can be made, and discovery begins.
    pub(super) fn start_discovery(&mut self, bound: &[Multiaddr]) {
        let (Some(prepared), Some(config)) = (self.keeping.prepared.take(), self.config.discovery) else {
            return;
        };
        let Prepared { socket, address, key, records } = prepared;
        let reach = record::Reach::new(&config, address, &self.config.advertise, bound);
        let previous = self.keeping.record.as_ref();
        let own = match record::build(&key, self.config.chain_id, reach, previous, unix_now()) {
            Ok(own) => own,
            Err(error) => {
                tracing::error!(%error, "the node's record cannot be made: no discovery");
                return;
            }
        };
        let contacts = self.config.bootnodes.iter().filter_map(|bootnode| match &bootnode.0 {
            Kind::Contact(address) => Some(address.clone()),
            Kind::Record(_) | Kind::Peer(..) => None,
        });
        if own.ip4().is_none() && own.ip6().is_none() {
            self.keeping.watch.unreachable = Some(after(Instant::now(), ADDRESS_TOLD));
        }
        self.keeping.discovery = Some(Discovery::spawn(Setup {
            config,
            chain_id: self.config.chain_id,
            socket,
            key,
            record: own,
            learns_ip: reach.is_unknown(),
            records,
            contacts: contacts.collect(),
            seed: self.config.effective_seed(),
        }));
    }

    pub(super) fn on_found(&mut self, found: Found) {
        let now = Instant::now();
        match found {
            Found::Peer { peer, mut addresses, record } => {
                addresses.retain(|address| self.may_dial(address));
                if self.keeping.book.heard(peer, addresses, Some(record), Source::Discovery, now) {
                    tracing::debug!(%peer, "found by discovery");
                    self.dial_known(now);
                }
            }
            Found::Own(record) => {
                let text = record.to_base64();
                self.keeping.shown.send_replace(Some(text.clone()));
                let known = self.keeping.record.replace(*record);
                if known.is_none_or(|known| known.to_base64() != text)
                    && let Some(files) = &mut self.keeping.files
                {
                    files.record_changed(now);
                }
            }
        }
    }

    /// Whether a stranger may send the node to an address: to one on the open internet, and to one of the network
    /// that this node says it is in itself.
    fn may_dial(&self, address: &Multiaddr) -> bool {
        let Some(scope) = ip_of(address).map(Scope::of) else { return false };
        let own = self.keeping.record.iter();
        let mut own = own.flat_map(|own| [own.ip4().map(IpAddr::V4), own.ip6().map(IpAddr::V6)]).flatten();
        match scope {
            Scope::Global => true,
            Scope::Nowhere => false,
            Scope::Private if self.config.peers.dial_private => true,
            Scope::Private | Scope::Loopback => own.any(|own| Scope::of(own) == scope),
        }
    }

    /// Discovery has ended: the node goes on with the peers that it knows, and begins it again after a while.
    pub(super) fn discovery_ended(&mut self, error: &DiscoveryError, now: Instant) {
        tracing::error!(%error, again_in = ?DISCOVERY_AGAIN, "discovery has ended");
        self.keeping.watch.again = Some(after(now, DISCOVERY_AGAIN));
    }

    fn watch_discovery(&mut self, now: Instant) {
        if self.keeping.watch.again.take_if(|again| *again <= now).is_some() {
            let records = self.keeping.book.records().filter_map(|record| record.parse().ok()).collect();
            match Prepared::new(&self.config, records) {
                Ok(prepared) => {
                    self.keeping.prepared = prepared;
                    self.publish_listeners();
                }
                Err(error) => self.discovery_ended(&error, now),
            }
        }
        if self.keeping.watch.unreachable.take_if(|when| *when <= now).is_some()
            && self.keeping.record.as_ref().is_none_or(|own| own.ip4().is_none() && own.ip6().is_none())
        {
            tracing::warn!(
                "nobody has told this node its address, so its record has none and others cannot use it as a \
                 bootnode: set the address that others reach (advertise; p2p.advertise.ip)"
            );
        }
    }

    /// Once a second: too many peers become fewer, too few are dialled, news is written down.
    pub(super) fn keep(&mut self, now: Instant) {
        if let Some(sign) = self.keeping.twins.settle(now) {
            self.twin(sign, now);
        }
        self.watch_discovery(now);
        self.prune(now);
        for address in std::mem::take(&mut self.keeping.own_name) {
            self.dial_own_name(address);
        }
        self.dial_known(now);
        self.write_down(now);
    }

    fn prune(&mut self, now: Instant) {
        let standings: Vec<_> = self
            .peers
            .iter()
            .map(|(peer, record)| Standing {
                peer: *peer,
                score: self.total_score(peer, now),
                ready: record.is_ready(),
                protected: self.keeping.is_protected(peer),
                outbound: record.is_outbound(),
                in_flight: !self.requests.in_flight.is_quiet(peer, now),
                used: record.is_used(),
                since: record.since(),
            })
            .collect();
        let places = self.config.connections.max_inbound as usize;
        let surplus = self.config.peers.surplus(&standings, now);
        let unused: HashSet<_> = watermarks::unused(&standings, places, now).into_iter().collect();
        for peer in unused.union(&surplus.into_iter().collect()).copied() {
            tracing::debug!(%peer, "too many peers: this one goes");
            metrics::pruned();
            // It is connected, so it can be disconnected.
            let _connected = self.swarm.disconnect_peer_id(peer).is_ok();
        }
    }

    /// The end: discovery ends, what is known is written down.
    pub(super) async fn end_keeping(&mut self) {
        if let Some(discovery) = self.keeping.discovery.take() {
            discovery.end().await;
        }
        self.write_at_the_end().await;
        self.keeping.dialling.clear();
    }
}

/// Seconds since the epoch; zero for a clock before it.
pub(super) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Nanoseconds since the epoch, as gossipsub numbers its messages.
fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;
    use crate::{DiscoveryConfig, Network, NetworkHandle, service::Input};

    fn service(advertise_ip: Option<IpAddr>) -> (NetworkHandle, NetworkService) {
        let mut config = NetworkConfig::local(1, Keypair::generate_secp256k1());
        config.discovery = Some(DiscoveryConfig { advertise_ip, ..DiscoveryConfig::local() });
        let (handle, _events, service) = Network::new(config).unwrap();
        (handle, service)
    }

    /// Handles inputs until the node has a record of its own.
    async fn has_record(service: &mut NetworkService) {
        let begun = async {
            while service.keeping.record.is_none() || service.keeping.discovery.is_none() {
                let input = service.input().await;
                assert!(service.handle(input).unwrap());
            }
        };
        tokio::time::timeout(Duration::from_secs(60), begun).await.unwrap();
    }

    #[tokio::test]
    async fn a_node_goes_on_without_discovery_and_begins_it_again() {
        let (_handle, mut service) = service(None);
        has_record(&mut service).await;
        service.keeping.discovery.take().unwrap().end().await;
        assert!(service.handle(Input::Found(Err(DiscoveryError::Ended))).unwrap(), "the service goes on");
        let now = Instant::now();
        service.keep(now);
        assert!(service.keeping.discovery.is_none());
        service.keep(now + DISCOVERY_AGAIN);
        assert!(service.keeping.discovery.is_some());
        service.end_keeping().await;
    }

    #[tokio::test]
    async fn strangers_do_not_send_a_node_into_its_own_network() {
        for (own, allowed) in [
            ("8.8.8.8", vec!["1.1.1.1"]),
            ("10.0.0.1", vec!["1.1.1.1", "10.0.0.5", "192.168.1.1"]),
            ("127.0.0.1", vec!["1.1.1.1", "127.0.0.5"]),
        ] {
            let (_handle, mut service) = service(Some(own.parse().unwrap()));
            has_record(&mut service).await;
            let may_dial = |ip: &&str| service.may_dial(&format!("/ip4/{ip}/tcp/22").parse().unwrap());
            let all = ["1.1.1.1", "127.0.0.5", "10.0.0.5", "192.168.1.1", "169.254.169.254", "0.0.0.0"];
            assert_eq!(
                all.into_iter().filter(may_dial).collect::<std::collections::BTreeSet<_>>(),
                allowed.into_iter().collect(),
                "as {own}"
            );
            service.end_keeping().await;
        }
    }
}
