//! Finding unknown peers by discv5. One task drives it and ends with the service; what it finds comes through
//! a bounded channel.

mod bootnode;
pub(crate) mod record;

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use discv5::{ConfigBuilder, Discv5, Enr, Event, ListenConfig, QueryError, RequestError};
use enr::{CombinedKey, NodeId};
use futures::{
    StreamExt as _,
    future::{BoxFuture, FutureExt as _, OptionFuture},
    stream::FuturesUnordered,
};
use libp2p::{Multiaddr, PeerId};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use crate::{config::DiscoveryConfig, error::DiscoveryError, metrics};
pub(crate) use bootnode::Kind;
pub use bootnode::{Bootnode, BootnodeError, EnodePart};

/// Finds that wait to be read. When it is full, a find is dropped: a later query finds it again.
const FINDS: usize = 64;

/// Nodes of this chain that end a query.
const ENOUGH: usize = 16;

/// What discovery tells the service.
#[derive(Debug)]
pub(crate) enum Found {
    /// A node that says it is of this chain.
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

/// Discovery that runs. Dropping it ends the task.
pub(crate) struct Discovery {
    found: mpsc::Receiver<Found>,
    wanted: watch::Sender<bool>,
    task: JoinHandle<Result<(), DiscoveryError>>,
}

impl Discovery {
    pub(crate) fn spawn(setup: Setup) -> Self {
        let (finds, found) = mpsc::channel(FINDS);
        let (wanted, is_wanted) = watch::channel(true);
        let task = tokio::spawn(run(setup, finds, is_wanted));
        Self { found, wanted, task }
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

    /// Ends discovery and waits until it has ended.
    pub(crate) async fn end(self) {
        drop(self.wanted);
        drop(self.found);
        drop(self.task.await);
    }
}

/// Binds the socket of discovery.
pub(crate) fn bind(config: &DiscoveryConfig) -> std::io::Result<(UdpSocket, SocketAddr)> {
    let socket = UdpSocket::bind(config.listen)?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

/// The task: queries while peers are wanted, reads what comes in by itself, until the service is gone.
async fn run(
    setup: Setup,
    finds: mpsc::Sender<Found>,
    mut wanted: watch::Receiver<bool>,
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
            event = events.recv() => driver.event(event.ok_or(DiscoveryError::Ended)?),
            Some(answer) = driver.asked.next() => driver.answer(answer),
            Some(found) = OptionFuture::from(driver.query.as_mut()) => {
                driver.query = None;
                next_query = Instant::now() + driver.interval;
                driver.queried(found);
            }
            () = sleep_until(next_query), if idle => driver.look(),
        }
    }
}

type Query = BoxFuture<'static, Result<Vec<Enr>, QueryError>>;
type Answer = (Multiaddr, Result<Enr, RequestError>);

struct Driver {
    discv5: Discv5,
    chain_id: u64,
    interval: Duration,
    records: Vec<Enr>,
    /// Contacts that have not told their record yet and are not being asked.
    contacts: Vec<Multiaddr>,
    /// At most one question to each contact.
    asked: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// At most one query.
    query: Option<Query>,
    finds: mpsc::Sender<Found>,
    dice: fastrand::Rng,
}

impl Driver {
    async fn start(setup: Setup, finds: mpsc::Sender<Found>) -> Result<Self, DiscoveryError> {
        let is_v4 = setup.socket.local_addr().map_err(DiscoveryError::Socket)?.is_ipv4();
        let socket = tokio::net::UdpSocket::from_std(setup.socket).map_err(DiscoveryError::Socket)?;
        let socket = Some(Arc::new(socket));
        let (ipv4, ipv6) = if is_v4 { (socket, None) } else { (None, socket) };
        let mut config = ConfigBuilder::new(ListenConfig::FromSockets { ipv4, ipv6 });
        if setup.config.limit_subnets {
            config.ip_limit();
        }
        if setup.config.limit_packets {
            config.enable_packet_filter();
        }
        if !setup.learns_ip {
            config.disable_enr_update();
        }
        let record = setup.record.clone();
        let mut discv5 =
            Discv5::new(setup.record, setup.key, config.build()).map_err(|_| DiscoveryError::Record)?;
        discv5.start().await.map_err(|error| DiscoveryError::Start(error.to_string().into()))?;
        tracing::info!(record = %record.to_base64(), "discovery has started");
        let driver = Self {
            discv5,
            chain_id: setup.chain_id,
            interval: setup.config.interval,
            records: setup.records,
            contacts: setup.contacts,
            asked: FuturesUnordered::new(),
            query: None,
            finds,
            dice: fastrand::Rng::with_seed(setup.seed),
        };
        driver.tell(Found::Own(Box::new(record)));
        Ok(driver)
    }

    /// Asks the network for nodes close to a place by chance, and contacts for their record.
    fn look(&mut self) {
        let table = &self.discv5;
        self.records.retain(|record| match table.add_enr(record.clone()) {
            Ok(()) => true,
            // Of another IP version, or there are enough of its kind.
            Err(reason) => {
                tracing::debug!(%record, reason, "not needed in the routing table");
                false
            }
        });
        for contact in self.contacts.drain(..) {
            let answer = self.discv5.request_enr(contact.clone());
            self.asked.push(answer.map(|answer| (contact, answer)).boxed());
        }
        let mut target = [0; 32];
        self.dice.fill(&mut target);
        let chain_id = self.chain_id;
        let of_this_chain = Box::new(move |record: &Enr| record::chain(record) == Some(chain_id));
        self.query =
            Some(self.discv5.find_node_predicate(NodeId::new(&target), of_this_chain, ENOUGH).boxed());
    }

    fn answer(&mut self, (contact, answer): Answer) {
        match answer {
            Ok(record) => {
                self.seen(&record);
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
            Ok(found) => found.iter().for_each(|record| self.seen(record)),
            Err(error) => tracing::debug!(%error, "query failed"),
        }
    }

    fn event(&self, event: Event) {
        match event {
            Event::Discovered(record) | Event::SessionEstablished(record, _) => self.seen(&record),
            Event::SocketUpdated(address) => {
                tracing::info!(%address, "peers agree on the address of this node");
                self.tell(Found::Own(Box::new(self.discv5.local_enr())));
            }
            _ => {}
        }
    }

    /// Somebody's record, whose signature is right.
    fn seen(&self, record: &Enr) {
        if record.node_id() == self.discv5.local_enr().node_id() {
            return;
        }
        let outcome = match (record::chain(record), record::peer_id(record), record::addresses(record)) {
            (Some(chain), ..) if chain != self.chain_id => "other_chain",
            (None, ..) => "other_network",
            (_, Some(peer), addresses) if !addresses.is_empty() => {
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
