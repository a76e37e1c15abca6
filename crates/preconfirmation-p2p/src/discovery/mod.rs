//! Finding unknown peers by discv5. One task drives it and ends with the service; what it finds comes through
//! a bounded channel.

pub(crate) mod record;

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use discv5::{ConfigBuilder, Discv5, Enr, Event, ListenConfig, QueryError, RateLimiterBuilder, RequestError};
use enr::{CombinedKey, NodeId};
use futures::{
    StreamExt as _,
    future::{BoxFuture, FutureExt as _, OptionFuture},
    stream::FuturesUnordered,
};
use libp2p::{Multiaddr, PeerId};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use socket2::{Domain, Socket, Type};

use crate::{config::DiscoveryConfig, error::DiscoveryError, ip::ip_of, metrics};

/// Finds that wait to be read. When it is full, a find is dropped: a later query finds it again.
const FINDS: usize = 64;

/// Callers who wait for the routing table. Beyond them, one is told nothing.
const TABLES: usize = 4;

/// Nodes of this chain that end a query.
const ENOUGH: usize = 16;

/// Between two pings of a neighbour, in intervals of queries. It answers at which address it sees this node: in a small
/// network nobody else tells.
const PING_EVERY: u32 = 6;

/// What a neighbour says of this node's address lasts until the next ping but one, so that few agree at the same time.
const VOTES_LAST: u32 = 2 * PING_EVERY;

/// An address that has sent too many packets is heard again after this, to the nearest five minutes. Anybody can send
/// packets in its name; what this node asks it is answered all the same.
const DEAF_FOR: Duration = Duration::from_secs(60);

/// Known nodes that are pinged at a time.
const PINGED: usize = 16;

/// What discovery tells the service.
#[derive(Debug)]
pub(crate) enum Found {
    /// A node that says it is of this chain, and that has answered at the IP of these addresses.
    Peer { peer: PeerId, addresses: Vec<Multiaddr>, record: String },
    /// The node's own record: the first one, or one with an address that others agree on.
    Own(Box<Enr>),
}

/// All that discovery begins with.
pub(crate) struct Setup {
    pub(crate) config: DiscoveryConfig,
    pub(crate) chain_id: u64,
    pub(crate) socket: UdpSocket,
    pub(crate) key: CombinedKey,
    pub(crate) record: Enr,
    /// Whether others have to tell the node its IP.
    pub(crate) learns_ip: bool,
    /// Nodes to begin with.
    pub(crate) records: Vec<Enr>,
    /// Nodes to ask for their record first.
    pub(crate) contacts: Vec<Multiaddr>,
    pub(crate) seed: u64,
}

/// Where the records of the routing table are sent.
type Table = oneshot::Sender<Option<Vec<String>>>;

/// Discovery that runs. Dropping it ends the task.
pub(crate) struct Discovery {
    found: mpsc::Receiver<Found>,
    wanted: watch::Sender<bool>,
    tables: mpsc::Sender<Table>,
    task: JoinHandle<Result<(), DiscoveryError>>,
}

impl Discovery {
    pub(crate) fn spawn(setup: Setup) -> Self {
        let (finds, found) = mpsc::channel(FINDS);
        let (wanted, is_wanted) = watch::channel(true);
        let (tables, asked_for) = mpsc::channel(TABLES);
        let task = tokio::spawn(run(setup, finds, is_wanted, asked_for));
        Self { found, wanted, tables, task }
    }

    /// The next find; an error if discovery has ended. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Found, DiscoveryError> {
        match self.found.recv().await {
            Some(found) => Ok(found),
            None => match (&mut self.task).await {
                Ok(Err(error)) => Err(error),
                Ok(Ok(())) | Err(_) => Err(DiscoveryError::Ended),
            },
        }
    }

    /// Says whether more peers are wanted.
    pub(crate) fn want(&self, more: bool) {
        self.wanted.send_if_modified(|wanted| std::mem::replace(wanted, more) != more);
    }

    /// Sends the records of the routing table.
    pub(crate) fn table(&self, reply: Table) {
        // Whoever is not answered is told so by the channel.
        drop(self.tables.try_send(reply));
    }

    /// Ends discovery and waits until it has ended.
    pub(crate) async fn end(self) {
        drop((self.wanted, self.tables));
        drop(self.found);
        drop(self.task.await);
    }
}

/// Binds the socket of discovery. One of IPv6 leaves IPv4 to others.
pub(crate) fn bind(config: &DiscoveryConfig) -> io::Result<(UdpSocket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(config.listen), Type::DGRAM, None)?;
    if config.listen.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&config.listen.into())?;
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from(socket);
    let address = socket.local_addr()?;
    Ok((socket, address))
}

/// The task: queries while peers are wanted, reads what comes in by itself, until the service is gone.
async fn run(
    setup: Setup,
    finds: mpsc::Sender<Found>,
    mut wanted: watch::Receiver<bool>,
    mut tables: mpsc::Receiver<Table>,
) -> Result<(), DiscoveryError> {
    let mut driver = Driver::start(setup, finds).await?;
    let mut events = driver.discv5.event_stream().await.map_err(|_| DiscoveryError::Ended)?;
    let mut next_query = Instant::now();
    loop {
        let idle = driver.query.is_none() && *wanted.borrow();
        tokio::select! {
            biased;
            changed = wanted.changed() => {
                if changed.is_err() {
                    driver.discv5.shutdown();
                    return Ok(());
                }
            }
            Some(reply) = tables.recv() => {
                let records = driver.discv5.table_entries_enr();
                drop(reply.send(Some(records.iter().map(Enr::to_base64).collect())));
            }
            event = events.recv() => driver.event(event.ok_or(DiscoveryError::Ended)?),
            Some(answer) = driver.asked.next() => driver.answer(answer),
            Some(answered) = driver.pinged.next() => {
                if answered {
                    // Somebody to ask, perhaps the first one.
                    next_query = Instant::now();
                }
            }
            Some(found) = OptionFuture::from(driver.query.as_mut()) => {
                driver.query = None;
                next_query = Instant::now() + driver.interval;
                driver.queried(found);
            }
            () = sleep_until(next_query), if idle => driver.look(),
        }
    }
}

/// The settings as discv5 has them.
fn stack_config(
    config: &DiscoveryConfig,
    listen: ListenConfig,
    learns_ip: bool,
) -> Result<discv5::Config, DiscoveryError> {
    let mut builder = ConfigBuilder::new(listen);
    if config.limit_subnets {
        builder.ip_limit();
    }
    if config.limit_packets {
        let (each, all) = (config.packets_per_ip.get(), config.packets.get());
        let limits = RateLimiterBuilder::new()
            .total_n_every(all, Duration::from_secs(1))
            .ip_n_every(each, Duration::from_secs(1))
            .node_n_every(each, Duration::from_secs(1))
            .build()
            .map_err(|error| DiscoveryError::Start(error.into()))?;
        builder.enable_packet_filter().filter_rate_limiter(Some(limits)).ban_duration(Some(DEAF_FOR));
    }
    // What a node says of others is nothing before they have answered themselves.
    builder.disable_report_discovered_peers();
    builder.ping_interval(config.interval.saturating_mul(PING_EVERY));
    builder.vote_duration(config.interval.saturating_mul(VOTES_LAST));
    // In a small network nobody new may come for hours; that is no reason to take the address back.
    builder.enr_peer_update_min(config.quorum).auto_nat_listen_duration(None);
    if !learns_ip {
        builder.disable_enr_update();
    }
    Ok(builder.build())
}

type Query = BoxFuture<'static, Result<Vec<Enr>, QueryError>>;
type Answer = (Multiaddr, Result<Enr, RequestError>);

struct Driver {
    discv5: Discv5,
    chain_id: u64,
    is_v4: bool,
    interval: Duration,
    records: Vec<Enr>,
    /// Contacts that have not told their record yet and are not being asked.
    contacts: Vec<Multiaddr>,
    /// At most one question to each contact.
    asked: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// Pings of known nodes, at most [`PINGED`]: whether they were answered.
    pinged: FuturesUnordered<BoxFuture<'static, bool>>,
    /// At most one query.
    query: Option<Query>,
    finds: mpsc::Sender<Found>,
    rng: fastrand::Rng,
}

impl Driver {
    async fn start(setup: Setup, finds: mpsc::Sender<Found>) -> Result<Self, DiscoveryError> {
        let is_v4 = setup.socket.local_addr().map_err(DiscoveryError::Socket)?.is_ipv4();
        let socket = tokio::net::UdpSocket::from_std(setup.socket).map_err(DiscoveryError::Socket)?;
        let socket = Some(Arc::new(socket));
        let (ipv4, ipv6) = if is_v4 { (socket, None) } else { (None, socket) };
        let listen = ListenConfig::FromSockets { ipv4, ipv6 };
        let config = stack_config(&setup.config, listen, setup.learns_ip)?;
        let record = setup.record.clone();
        let mut discv5 = Discv5::new(setup.record, setup.key, config).map_err(|_| DiscoveryError::Record)?;
        discv5.start().await.map_err(|error| DiscoveryError::Start(error.to_string().into()))?;
        tracing::info!(record = %record.to_base64(), "discovery has started");
        let driver = Self {
            discv5,
            chain_id: setup.chain_id,
            is_v4,
            interval: setup.config.interval,
            records: setup.records,
            contacts: setup.contacts,
            asked: FuturesUnordered::new(),
            pinged: FuturesUnordered::new(),
            query: None,
            finds,
            rng: fastrand::Rng::with_seed(setup.seed),
        };
        driver.tell(Found::Own(Box::new(record)));
        Ok(driver)
    }

    /// Asks the network for nodes close to a place randomly, and contacts for their record.
    fn look(&mut self) {
        self.ping_known();
        for contact in self.contacts.drain(..) {
            let answer = self.discv5.request_enr(contact.clone());
            self.asked.push(answer.map(|answer| (contact, answer)).boxed());
        }
        let mut target = [0; 32];
        self.rng.fill(&mut target);
        let chain_id = self.chain_id;
        let of_this_chain = Box::new(move |record: &Enr| record::chain(record) == Some(chain_id));
        self.query =
            Some(self.discv5.find_node_predicate(NodeId::new(&target), of_this_chain, ENOUGH).boxed());
    }

    /// Pings known nodes that are not in the routing table, a few at a time, so that they get there. To put them there
    /// would make the table take them for nodes that have contacted this one, and not count what they say of its
    /// address.
    fn ping_known(&mut self) {
        if !self.pinged.is_empty() {
            return;
        }
        let is_v4 = self.is_v4;
        self.records.retain(|record| {
            if is_v4 { record.udp4_socket().is_some() } else { record.udp6_socket().is_some() }
        });
        self.rng.shuffle(&mut self.records);
        let absent = self.records.iter().filter(|known| self.discv5.find_enr(&known.node_id()).is_none());
        for record in absent.take(PINGED) {
            self.pinged.push(self.discv5.send_ping(record.clone()).map(|pong| pong.is_ok()).boxed());
        }
    }

    fn answer(&mut self, (contact, answer): Answer) {
        match answer {
            Ok(record) => {
                self.contacted(&record);
                self.records.push(record);
            }
            Err(error) => {
                tracing::debug!(%contact, %error, "does not tell its record");
                self.contacts.push(contact);
            }
        }
    }

    fn queried(&self, found: Result<Vec<Enr>, QueryError>) {
        match found {
            Ok(found) => found.iter().for_each(|record| self.contacted(record)),
            Err(error) => tracing::debug!(%error, "query failed"),
        }
    }

    fn event(&self, event: Event) {
        match event {
            Event::SessionEstablished(record, address) => self.seen(&record, address.ip()),
            Event::SocketUpdated(address) => {
                tracing::info!(%address, "peers agree on the address of this node");
                self.tell(Found::Own(Box::new(self.discv5.local_enr())));
            }
            _ => {}
        }
    }

    /// Somebody has answered at the address of its record.
    fn contacted(&self, record: &Enr) {
        let ip = if self.is_v4 { record.ip4().map(IpAddr::V4) } else { record.ip6().map(IpAddr::V6) };
        if let Some(ip) = ip {
            self.seen(record, ip);
        }
    }

    /// The record, whose signature is right, of somebody who has answered at this IP. Other addresses in it could
    /// be anybody's.
    fn seen(&self, record: &Enr, ip: IpAddr) {
        if record.node_id() == self.discv5.local_enr().node_id() {
            return;
        }
        let mut addresses = record::addresses(record);
        addresses.retain(|address| ip_of(address) == Some(ip.to_canonical()));
        let outcome = match (record::chain(record), record::peer_id(record)) {
            (Some(chain), _) if chain != self.chain_id => "other_chain",
            (None, _) => "other_network",
            (_, Some(peer)) if !addresses.is_empty() => {
                self.tell(Found::Peer { peer, addresses, record: record.to_base64() });
                "found"
            }
            _ => "no_address",
        };
        metrics::record_seen(outcome);
    }

    fn tell(&self, found: Found) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.finds.try_send(found) {
            metrics::dropped("finds");
        }
    }
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;
    use crate::identity::enr_key;

    const HOUR: Duration = Duration::from_secs(3600);

    async fn built(change: impl FnOnce(&mut DiscoveryConfig)) -> discv5::Config {
        let mut config = DiscoveryConfig::local();
        change(&mut config);
        stack_config(&config, ListenConfig::FromSockets { ipv4: None, ipv6: None }, true).unwrap()
    }

    #[tokio::test]
    async fn discv5_has_the_settings_of_discovery() {
        let built = built(|config| {
            (config.interval, config.quorum) = (HOUR, 7);
            (config.limit_subnets, config.limit_packets) = (true, true);
            config.packets_per_ip = 4.try_into().unwrap();
            config.packets = 50.try_into().unwrap();
        });
        let built = built.await;
        assert_eq!((built.ping_interval, built.vote_duration), (HOUR * PING_EVERY, HOUR * VOTES_LAST));
        assert!(built.ip_limit && built.enable_packet_filter && built.enr_update);
        assert_eq!((built.enr_peer_update_min, built.ban_duration), (7, Some(DEAF_FOR)));
        let limits = format!("{:?}", built.filter_rate_limiter.unwrap());
        // A second for all of them, in nanoseconds, and for one.
        for limit in [
            "total_rl: Limiter { tau: 1000000000, t: 20000000,",
            "node_rl: Some(Limiter { tau: 1000000000, t: 250000000,",
            "ip_rl: Some(Limiter { tau: 1000000000, t: 250000000,",
        ] {
            assert!(limits.contains(limit), "{limit} in {limits}");
        }
    }

    #[tokio::test]
    async fn discv5_limits_nothing_where_that_is_set() {
        let built = built(|config| (config.limit_subnets, config.limit_packets) = (false, false)).await;
        assert!(!built.ip_limit && !built.enable_packet_filter);
    }

    #[tokio::test(start_paused = true)]
    async fn queries_are_as_far_apart_as_is_set() {
        let deaf = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let config = DiscoveryConfig { interval: HOUR, ..DiscoveryConfig::local() };
        let (socket, address) = bind(&config).unwrap();
        let key = enr_key(&Keypair::generate_secp256k1()).unwrap();
        let reach = record::Reach::new(&config, address, &[], &[]);
        let record = record::build(&key, 1, reach, None, 1).unwrap();
        let peer = Keypair::generate_secp256k1().public().to_peer_id();
        let port = deaf.local_addr().unwrap().port();
        let discovery = Discovery::spawn(Setup {
            config,
            chain_id: 1,
            socket,
            key,
            record,
            learns_ip: false,
            records: Vec::new(),
            contacts: vec![format!("/ip4/127.0.0.1/udp/{port}/p2p/{peer}").parse().unwrap()],
            seed: 1,
        });
        // It is asked at each query and does not answer. Time passes at once when nothing else happens.
        let mut packet = [0; 1280];
        deaf.recv(&mut packet).await.unwrap();
        let first = Instant::now();
        deaf.recv(&mut packet).await.unwrap();
        assert!(first.elapsed() >= HOUR, "{:?}", first.elapsed());
        discovery.end().await;
    }
}
