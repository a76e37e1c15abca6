//! What the scenarios share.

use std::{collections::VecDeque, future::Future, time::Duration};

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use preconfirmation_p2p::{
    Bytes, GossipMessage, InboundRequest, Keypair, Network, NetworkConfig, NetworkError, NetworkEvent,
    NetworkEvents, NetworkHandle, NetworkService, PeerId, PeerInfo, Verdict, VerdictToken,
};
use preconfirmation_types::{
    B256, Container as _, PreconfCommitment, Preconfirmation, RawTxListGossip, SignedCommitment,
    SigningDomain, SigningKey, Topic, U256,
};
use tokio::task::JoinHandle;

pub(crate) const CHAIN: u64 = 167_000;
/// A busy machine is slow; what never comes is late all the same.
const DEADLINE: Duration = Duration::from_secs(60);

/// Fails the test if it takes too long.
#[track_caller]
pub(crate) fn soon<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(DEADLINE, future).await {
            Ok(output) => output,
            Err(_) => panic!("nothing happened for {DEADLINE:?} at {caller}"),
        }
    }
}

/// Asks again and again until there is an answer.
#[track_caller]
pub(crate) fn eventually<T, F: Future<Output = Option<T>>>(ask: impl Fn() -> F) -> impl Future<Output = T> {
    soon(async move {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
}

/// As [`NetworkConfig::local`], but on a busy machine a verdict may take a minute and still be in time.
pub(crate) fn config() -> NetworkConfig {
    let mut config = NetworkConfig::local(CHAIN, Keypair::generate_ed25519());
    config.gossip.history = 120.try_into().unwrap();
    config
}

pub(crate) struct Node {
    pub(crate) handle: NetworkHandle,
    pub(crate) events: NetworkEvents,
    pub(crate) running: JoinHandle<Result<(), NetworkError>>,
    /// Gossip that came before its peer had said what it speaks.
    early: VecDeque<NetworkEvent>,
}

impl Node {
    pub(crate) fn start(config: NetworkConfig) -> Self {
        Self::of(Network::new(config).unwrap())
    }

    pub(crate) fn of((handle, events, service): (NetworkHandle, NetworkEvents, NetworkService)) -> Self {
        Self { handle, events, running: tokio::spawn(service.run()), early: VecDeque::new() }
    }

    pub(crate) fn local() -> Self {
        Self::start(config())
    }

    pub(crate) fn id(&self) -> PeerId {
        self.handle.local_peer_id()
    }

    /// Dials another node and waits until both know each other and each other's topics.
    pub(crate) async fn meet(&mut self, other: &mut Self) {
        let address = soon(other.handle.listen_addrs()).await.unwrap().remove(0);
        soon(self.handle.dial(address)).await.unwrap();
        assert_eq!(self.peer_connected().await, other.id());
        assert_eq!(other.peer_connected().await, self.id());
        self.subscribed(other.id()).await;
        other.subscribed(self.id()).await;
    }

    pub(crate) async fn subscribed(&self, peer: PeerId) {
        eventually(|| async {
            let status = self.status(peer).await?;
            (status.topics.len() == 2).then_some(())
        })
        .await;
    }

    pub(crate) async fn status(&self, peer: PeerId) -> Option<PeerInfo> {
        let peers = self.handle.peers().await.unwrap();
        peers.into_iter().find(|status| status.peer == peer)
    }

    /// Waits until the application score of a peer is below `score`, and returns it.
    pub(crate) async fn charged(&self, peer: PeerId, score: f64) -> f64 {
        eventually(|| async {
            let actual = self.status(peer).await?.application_score;
            (actual < score).then_some(actual)
        })
        .await
    }

    pub(crate) async fn next(&mut self) -> NetworkEvent {
        match self.early.pop_front() {
            Some(event) => event,
            None => soon(self.events.next()).await.unwrap(),
        }
    }

    pub(crate) async fn peer_connected(&mut self) -> PeerId {
        loop {
            match soon(self.events.next()).await.unwrap() {
                NetworkEvent::PeerConnected { peer, .. } => return peer,
                event @ NetworkEvent::Gossip { .. } => self.early.push_back(event),
                event => panic!("{event:?}"),
            }
        }
    }

    pub(crate) async fn peer_disconnected(&mut self) -> PeerId {
        match self.next().await {
            NetworkEvent::PeerDisconnected(peer) => peer,
            event => panic!("{event:?}"),
        }
    }

    pub(crate) async fn gossip(&mut self) -> (PeerId, GossipMessage, VerdictToken) {
        match self.next().await {
            NetworkEvent::Gossip { from, message, verdict } => (from, message, verdict),
            event => panic!("{event:?}"),
        }
    }

    /// The next message, judged.
    pub(crate) async fn judge(&mut self, verdict: Verdict) -> GossipMessage {
        let (_, message, token) = self.gossip().await;
        token.settle(verdict);
        message
    }

    pub(crate) async fn request(&mut self) -> (PeerId, InboundRequest) {
        match self.next().await {
            NetworkEvent::Request { from, request } => (from, request),
            event => panic!("{event:?}"),
        }
    }
}

pub(crate) fn commitment(block: u64) -> SignedCommitment {
    let preconf = Preconfirmation {
        block_number: U256::from(block),
        raw_tx_list_hash: B256::repeat_byte(1),
        ..Preconfirmation::default()
    };
    let commitment = PreconfCommitment { preconf, ..PreconfCommitment::default() };
    commitment.sign(&SigningKey::from_bytes([7; 32]).unwrap(), &SigningDomain::PLACEHOLDER)
}

/// A message of the commitments topic.
pub(crate) fn ssz(block: u64) -> Bytes {
    commitment(block).to_ssz().into()
}

pub(crate) fn txlist(bytes: usize) -> RawTxListGossip {
    RawTxListGossip { raw_tx_list_hash: B256::repeat_byte(9), txlist: vec![9; bytes].into() }
}

pub(crate) const COMMITMENTS: Topic = Topic::Commitments;

/// Counts what happens on this thread, which is that of all nodes of a test.
pub(crate) struct Metrics {
    snapshotter: Snapshotter,
    seen: std::cell::RefCell<std::collections::HashMap<String, u64>>,
    gauges: std::cell::RefCell<std::collections::HashMap<String, f64>>,
    _installed: metrics::LocalRecorderGuard<'static>,
}

impl Metrics {
    pub(crate) fn install() -> Self {
        let recorder: &'static DebuggingRecorder = Box::leak(Box::default());
        Self {
            snapshotter: recorder.snapshotter(),
            seen: Default::default(),
            gauges: Default::default(),
            _installed: metrics::set_default_local_recorder(recorder),
        }
    }

    /// The count of a metric with this label value, or of any label.
    pub(crate) fn count(&self, name: &str, label: &str) -> u64 {
        self.look();
        let seen = self.seen.borrow();
        seen.iter()
            .filter(|(key, _)| key.starts_with(name) && key.contains(label))
            .map(|(_, value)| value)
            .sum()
    }

    fn look(&self) {
        for (key, _, _, value) in self.snapshotter.snapshot().into_vec() {
            let labels: Vec<_> = key.key().labels().map(metrics::Label::value).collect();
            let key = format!("{} {}", key.key().name(), labels.join(" "));
            match value {
                // A snapshot takes the counters along.
                DebugValue::Counter(value) => *self.seen.borrow_mut().entry(key).or_default() += value,
                // A snapshot leaves zero behind.
                DebugValue::Gauge(value) if value.into_inner() == 0.0 => {}
                DebugValue::Gauge(value) => {
                    self.gauges.borrow_mut().insert(key, value.into_inner());
                }
                DebugValue::Histogram(_) => {}
            }
        }
    }

    /// The last value but zero of a gauge with this label value, or of any label.
    pub(crate) fn gauge(&self, name: &str, label: &str) -> Option<f64> {
        self.look();
        let gauges = self.gauges.borrow();
        let gauge = gauges.iter().find(|(key, _)| key.starts_with(name) && key.contains(label));
        gauge.map(|(_, value)| *value)
    }

    pub(crate) async fn reaches(&self, name: &str, label: &str, least: u64) {
        eventually(|| async { (self.count(name, label) >= least).then_some(()) }).await;
    }
}
