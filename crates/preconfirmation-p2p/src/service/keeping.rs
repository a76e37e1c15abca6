//! Finding and keeping peers: whom to dial, whom to remember, whom to let go.

use std::{
    collections::{HashMap, HashSet},
    net::{SocketAddr, UdpSocket},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use discv5::Enr;
use enr::CombinedKey;
use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};
use tokio::sync::watch;

use super::{NetworkService, dials::Dialling, files::Files};
use crate::{
    config::NetworkConfig,
    discovery::{self, Discovery, Found, Kind, Setup, record},
    error::{DiscoveryError, NetworkError},
    metrics,
    pacing::Start,
    peer_book::{PeerBook, Source},
    redial::Redial,
    watermarks::Standing,
};

/// What the service knows about finding and keeping peers.
pub(super) struct Keeping {
    pub(super) redial: Redial,
    pub(super) book: PeerBook,
    trusted: HashSet<PeerId>,
    /// Dials under way, at most `connections.max_pending` and as many as there are static peers.
    pub(super) dialling: HashMap<ConnectionId, Dialling>,
    /// Discovery, once all listeners are bound; what it begins with until then.
    pub(super) discovery: Option<Discovery>,
    prepared: Option<Prepared>,
    /// Our own record.
    pub(super) record: Option<Enr>,
    shown: watch::Sender<Option<String>>,
    pub(super) files: Option<Files>,
    /// Whether an earlier run may have asked peers.
    pub(super) start: Start,
}

/// What discovery waits with for the ports of the listeners.
struct Prepared {
    socket: UdpSocket,
    address: SocketAddr,
    key: CombinedKey,
    records: Vec<Enr>,
}

impl Keeping {
    /// Reads the data directory, binds the socket of discovery. Blocks on the disk.
    pub(super) fn new(
        config: &NetworkConfig,
        shown: watch::Sender<Option<String>>,
        now: Instant,
    ) -> Result<Self, NetworkError> {
        let seed = config.seed();
        let redial = Redial::new(&config.static_peers, config.redial, seed, now);
        let mut book = PeerBook::new(config.peers, seed);
        let mut records = Vec::new();
        let mut own = None;
        let mut files = None;
        let mut start = Start::Again;
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
        let prepared = match &config.discovery {
            Some(discovery) => {
                let (socket, address) = discovery::bind(discovery).map_err(DiscoveryError::Socket)?;
                let key = record::key(&config.identity).ok_or(DiscoveryError::Record)?;
                Some(Prepared { socket, address, key, records })
            }
            None => None,
        };
        Ok(Self {
            redial,
            book,
            trusted: config.trusted_peers.iter().copied().collect(),
            dialling: HashMap::new(),
            discovery: None,
            prepared,
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
        if !speaks {
            self.keeping.book.forget(&peer);
            return;
        }
        let now = Instant::now();
        // An inbound connection comes from a port where nobody listens.
        let dialled = (!inbound).then(|| address.clone());
        // What it says is believed as far as it says where we see it: else it could send us to others.
        let seen_at = record::ip_of(address);
        let listens =
            listens.into_iter().filter(|address| seen_at.is_some() && record::ip_of(address) == seen_at);
        let _is_news = self.keeping.book.heard(peer, listens, None, Source::Book, now);
        self.keeping.book.met(peer, dialled, unix_now(), now);
    }

    /// All listeners are bound: the record can be made, and discovery begins.
    pub(super) fn start_discovery(&mut self, bound: &[Multiaddr]) {
        let (Some(prepared), Some(config)) = (self.keeping.prepared.take(), self.config.discovery) else {
            return;
        };
        let Prepared { socket, address, key, records } = prepared;
        let reach = record::Reach::new(address, &self.config.advertise, bound);
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
        self.keeping.discovery = Some(Discovery::spawn(Setup {
            config,
            chain_id: self.config.chain_id,
            socket,
            key,
            record: own,
            learns_ip: reach.is_unknown(),
            records,
            contacts: contacts.collect(),
            seed: self.config.seed(),
        }));
    }

    pub(super) fn on_found(&mut self, found: Found) {
        let now = Instant::now();
        match found {
            Found::Peer { peer, addresses, record } => {
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

    /// Once a second: too many peers become fewer, too few are dialled, news is written down.
    pub(super) fn keep(&mut self, now: Instant) {
        self.prune(now);
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
                in_flight: !self.requests.in_flight.is_quiet(peer, now),
                since: record.since(),
            })
            .collect();
        for peer in self.config.peers.surplus(&standings, now) {
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
