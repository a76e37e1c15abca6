//! Finding and keeping peers: whom to dial, whom to remember, whom to let go.

use std::{
    collections::{HashMap, HashSet},
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use discv5::Enr;
use enr::CombinedKey;
use libp2p::{
    Multiaddr, PeerId,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};

use super::NetworkService;
use crate::{
    config::{NetworkConfig, after},
    discovery::{self, Discovery, Found, Kind, Setup, record},
    disk,
    error::{DiscoveryError, NetworkError},
    metrics,
    peer_book::{self, PeerBook, Source},
    redial::{Redial, Target, peer_of},
    watermarks::Standing,
};

const PEERS_FILE: &str = "peers.json";
const RECORD_FILE: &str = "enr";

/// A record has at most 300 bytes, a third more as text.
const MAX_RECORD_TEXT: u64 = 1024;

/// What the service knows about finding and keeping peers.
pub(super) struct Keeping {
    pub(super) redial: Redial,
    pub(super) book: PeerBook,
    trusted: HashSet<PeerId>,
    /// Dials under way, at most `connections.max_pending` and as many as there are static peers.
    dialling: HashMap<ConnectionId, Dialling>,
    /// Discovery, once all listeners are bound; what it begins with until then.
    pub(super) discovery: Option<Discovery>,
    prepared: Option<Prepared>,
    /// Our own record.
    record: Option<Enr>,
    shown: watch::Sender<Option<String>>,
    files: Option<Files>,
}

/// A dial under way.
struct Dialling {
    source: Source,
    peer: Option<PeerId>,
    address: Multiaddr,
    target: Option<Target>,
    reply: Option<oneshot::Sender<Result<(), NetworkError>>>,
}

/// What discovery waits with for the ports of the listeners.
struct Prepared {
    socket: UdpSocket,
    address: SocketAddr,
    key: CombinedKey,
    records: Vec<Enr>,
}

/// The files of the data directory. At most one write is under way.
struct Files {
    directory: PathBuf,
    /// When the change that waits will be written.
    due: Option<Instant>,
    writing: Option<JoinHandle<bool>>,
    record_changed: bool,
    /// Whether the last write failed, so that an outage is told once.
    failing: bool,
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
        if let Some(directory) = &config.data_dir {
            let failed = |source| NetworkError::DataDir { path: directory.clone(), source };
            std::fs::create_dir_all(directory).map_err(failed)?;
            let known = load_peers(directory.join(PEERS_FILE), config.chain_id);
            records.extend(known.iter().filter_map(|known| known.record.as_ref()?.parse::<Enr>().ok()));
            book.restore(known, now);
            own = load_record(directory.join(RECORD_FILE));
            let directory = directory.clone();
            files =
                Some(Files { directory, due: None, writing: None, record_changed: false, failing: false });
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
    /// Dials the static peers that are due.
    pub(super) fn dial_static(&mut self, now: Instant) {
        while let Some((target, dial)) = self.keeping.redial.due(now) {
            let Some(address) = dial.addresses.first().cloned() else { continue };
            let options = match dial.peer {
                // A second connection does no harm, a dial left out would end nothing.
                Some(peer) => {
                    DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(dial.addresses).build()
                }
                None => DialOpts::unknown_peer_id().address(address.clone()).build(),
            };
            let (source, target) = (Source::Static, Some(target));
            self.start_dial(options, Dialling { source, peer: dial.peer, address, target, reply: None });
        }
    }

    /// Dials what the application asks for.
    pub(super) fn dial(&mut self, address: Multiaddr, reply: oneshot::Sender<Result<(), NetworkError>>) {
        let peer = peer_of(&address);
        if peer.is_some_and(|peer| self.swarm.is_connected(&peer)) {
            drop(reply.send(Ok(())));
            return;
        }
        let options = DialOpts::from(address.clone());
        let source = Source::Application;
        self.start_dial(options, Dialling { source, peer, address, target: None, reply: Some(reply) });
    }

    fn start_dial(&mut self, options: DialOpts, dialling: Dialling) {
        let connection = options.connection_id();
        self.keeping.dialling.insert(connection, dialling);
        if let Err(error) = self.swarm.dial(options) {
            self.dial_failed(connection, error);
        }
    }

    pub(super) fn dial_failed(&mut self, connection: ConnectionId, error: DialError) {
        let Some(dialling) = self.keeping.dialling.remove(&connection) else {
            return;
        };
        let Dialling { source, peer, address, target, reply } = dialling;
        metrics::dialled(source, outcome(&error));
        tracing::debug!(?peer, %address, source = source.label(), %error, "dial failed");
        let now = Instant::now();
        if let Some(peer) = peer {
            self.keeping.book.failed(&peer, now);
        }
        if let Some(target) = target
            && self.keeping.redial.failed(target, now)
        {
            tracing::warn!(%address, %error, "static peer cannot be reached: it is dialled until it can");
        }
        if let Some(reply) = reply {
            let source = error.into();
            drop(reply.send(Err(NetworkError::Dial { address, source })));
        }
    }

    /// A connection stands, whoever made it.
    pub(super) fn dial_succeeded(&mut self, connection: ConnectionId, peer: PeerId) {
        if let Some(Dialling { source, target, reply, .. }) = self.keeping.dialling.remove(&connection) {
            metrics::dialled(source, "connected");
            if let Some(target) = target {
                self.keeping.redial.reached(target, peer);
                self.swarm.behaviour_mut().limits.bypass_peer_id(&peer);
            }
            if let Some(reply) = reply {
                drop(reply.send(Ok(())));
            }
        }
        if let Some(back) = self.keeping.redial.connected(&peer, Instant::now()) {
            tracing::info!(%peer, after = ?back.after, attempts = back.attempts, "static peer is back");
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
                    files.record_changed = true;
                    files.due = Some(now);
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

    /// Dials peers of the book while there are too few, and lets discovery look for more.
    fn dial_known(&mut self, now: Instant) {
        let config = self.config.peers;
        let useful = self.peers.values().filter(|peer| !peer.is_foreign()).count();
        let under_way = self.keeping.dialling.values().filter(|dialling| dialling.target.is_none()).count();
        let missing = config.missing(useful);
        if let Some(discovery) = &self.keeping.discovery {
            discovery.want(missing > 0);
        }
        let room = config.dials.get().saturating_sub(under_way);
        let count = missing.saturating_sub(under_way).min(room);
        if count == 0 {
            return;
        }
        let (keeping, peers, bans, local) = (&mut self.keeping, &self.peers, &self.bans, self.local);
        let under_way: HashSet<_> = keeping.dialling.values().filter_map(|dialling| dialling.peer).collect();
        let skip = |peer: &PeerId| {
            *peer == local || peers.contains_key(peer) || under_way.contains(peer) || bans.contains(peer)
        };
        for (peer, addresses, source) in keeping.book.due(count, now, skip) {
            let Some(address) = addresses.first().cloned() else { continue };
            let options = DialOpts::peer_id(peer).addresses(addresses).build();
            self.start_dial(
                options,
                Dialling { source, peer: Some(peer), address, target: None, reply: None },
            );
        }
    }

    /// Hands what has changed to a thread that may wait for the disk.
    fn write_down(&mut self, now: Instant) {
        let Some(files) = &mut self.keeping.files else {
            return;
        };
        if let Some(writing) = files.writing.take_if(|writing| writing.is_finished()) {
            // It has ended, so its result is there at once.
            let written = futures::FutureExt::now_or_never(writing);
            files.failing = !matches!(written, Some(Ok(true)));
        }
        if self.keeping.book.take_changed() && files.due.is_none() {
            files.due = Some(after(now, self.config.peers.save_after));
        }
        if files.writing.is_none() && files.due.is_some_and(|due| due <= now) {
            self.write();
        }
    }

    fn write(&mut self) {
        let peers = &self.peers;
        let known = self.keeping.book.known(unix_now(), |peer| peers.contains_key(peer));
        let Some(files) = &mut self.keeping.files else {
            return;
        };
        files.due = None;
        let record_changed = std::mem::take(&mut files.record_changed);
        let record = self.keeping.record.as_ref().filter(|_| record_changed).map(Enr::to_base64);
        let (directory, chain_id, was_failing) =
            (files.directory.clone(), self.config.chain_id, files.failing);
        files.writing = Some(tokio::task::spawn_blocking(move || {
            let mut written = peer_book::save(&directory.join(PEERS_FILE), chain_id, &known);
            if let Some(record) = record {
                let path = directory.join(RECORD_FILE);
                written = written.and(disk::replace(&path, record.as_bytes()).map_err(Into::into));
            }
            if let Err(error) = &written
                && !was_failing
            {
                tracing::warn!(directory = %directory.display(), %error, "the known peers cannot be written down");
            }
            written.is_ok()
        }));
    }

    /// The end: what is known is written down, discovery ends.
    pub(super) async fn end_keeping(&mut self) {
        if let Some(discovery) = self.keeping.discovery.take() {
            discovery.end().await;
        }
        if let Some(writing) = self.keeping.files.as_mut().and_then(|files| files.writing.take()) {
            drop(writing.await);
        }
        self.write();
        if let Some(writing) = self.keeping.files.as_mut().and_then(|files| files.writing.take()) {
            drop(writing.await);
        }
        self.keeping.dialling.clear();
    }
}

/// The peers of an earlier run. A file that cannot be used is told of, kept aside, and the book starts empty.
fn load_peers(path: PathBuf, chain_id: u64) -> Vec<peer_book::KnownPeer> {
    match peer_book::load(&path, chain_id) {
        Ok(known) => known,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the known peers cannot be used, starting without");
            set_aside(&path);
            Vec::new()
        }
    }
}

/// Our own record of an earlier run.
fn load_record(path: PathBuf) -> Option<Enr> {
    let text = match disk::read(&path, MAX_RECORD_TEXT) {
        Ok(text) => text?,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the node's record cannot be read, making a new one");
            set_aside(&path);
            return None;
        }
    };
    match text.trim().parse() {
        Ok(record) => Some(record),
        Err(reason) => {
            tracing::warn!(path = %path.display(), %reason, "the node's record is damaged, making a new one");
            set_aside(&path);
            None
        }
    }
}

fn set_aside(path: &std::path::Path) {
    match disk::set_aside(path) {
        Ok(aside) => tracing::warn!(aside = %aside.display(), "kept for you to look at"),
        Err(error) => tracing::warn!(path = %path.display(), %error, "cannot be kept aside"),
    }
}

/// A short label of what became of a dial.
fn outcome(error: &DialError) -> &'static str {
    match error {
        DialError::LocalPeerId { .. } => "self",
        DialError::NoAddresses => "no_address",
        DialError::DialPeerConditionFalse(_) => "already",
        DialError::Aborted => "aborted",
        DialError::WrongPeerId { .. } => "wrong_peer",
        DialError::Denied { .. } => "denied",
        DialError::Transport(_) => "unreachable",
    }
}

/// Seconds since the epoch; zero for a clock before it.
fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
