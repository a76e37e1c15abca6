//! `/status`, `/healthz` and `/readyz`, answered from a snapshot: however many clients ask, the network's task is asked once
//! a second.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use p2p_client::{P2pClient, PeerInfo, PromiseStats};
use p2p_lookahead::{L1Lookahead, L1Status, L2Handle, L2Status};
use p2p_rpc::LeaseReport;
use p2p_types::{Address, BlockNumber, Head, HeadSyncStatus, PeerId, UnixSeconds};
use p2p_validation::{Lookahead, Slot};
use preconfirmation_p2p::Multiaddr;
use serde::Serialize;
use tokio::{sync::watch, time::interval};

use super::{
    endpoint::{Cut, Endpoint},
    journal::{self, Delivered, Journal, Recent, SAMPLE_SECONDS},
    page,
};
use crate::{
    clock::{now, now_ms},
    run::{guard::LeaseView, l2::Promises},
};

/// Between two looks at the peers.
const REFRESH: Duration = Duration::from_secs(1);

/// L1 has a block every 12 s, and misses one now and then.
const L1_STALE_SECONDS: u64 = 120;

/// A node of L2 is asked every few seconds.
const L2_STALE_SECONDS: u64 = 60;

/// What does not change while a node runs.
#[derive(Debug, Clone, Serialize)]
pub(in super::super) struct Policies {
    pub(in super::super) lookahead: String,
    pub(in super::super) storage: String,
    /// Rules that are loosened.
    pub(in super::super) leniencies: Vec<String>,
}

/// Peers, addresses and promises as they were when they were last asked for.
#[derive(Default)]
struct Snapshot {
    listen: Vec<Multiaddr>,
    peers: Vec<PeerInfo>,
    at: UnixSeconds,
    promises: Option<PromiseStats>,
}

/// What a node is, beside its client.
pub(in super::super) struct About {
    pub(in super::super) chain_id: u64,
    pub(in super::super) p2p_chain_id: u64,
    pub(in super::super) policies: Policies,
    pub(in super::super) lookahead: Arc<dyn Lookahead>,
    /// None where the schedule does not come from L1.
    pub(in super::super) l1: Option<Arc<L1Lookahead>>,
    /// None where L2 does not tell what is settled.
    pub(in super::super) l2: Option<L2Handle>,
    /// None where no lease says who publishes.
    pub(in super::super) lease: Option<LeaseView>,
}

/// What `/status` is made of.
pub(in super::super) struct Node {
    client: P2pClient,
    about: About,
    snapshot: watch::Sender<Arc<Snapshot>>,
    journal: Mutex<Journal>,
    started: UnixSeconds,
}

/// A node, once it runs.
pub(in super::super) type Shown = Arc<OnceLock<Node>>;

/// The answer at `/status`.
#[derive(Serialize)]
struct Status<'a> {
    version: &'static str,
    /// When this node started, in unix seconds.
    started: UnixSeconds,
    /// This answer's time, by the node's clock.
    time_ms: u64,
    readiness: Readiness,
    peer: PeerId,
    chain_id: u64,
    p2p_chain_id: u64,
    listen: &'a [Multiaddr],
    /// Highest height that an elected preconfer has signed, as far as this node knows.
    seen: Option<BlockNumber>,
    /// Newest height that is linked, stored and shown.
    applied: Option<BlockNumber>,
    head: Option<Head>,
    sync: HeadSyncStatus,
    clock: Clock,
    /// Whether several peers sign what our lookahead, clock or slasher does not expect, and no commitment passes.
    suspects_itself: bool,
    /// Another node uses this node's key; null if nothing has shown that since the start.
    duplicate_identity: Option<Duplicate>,
    peers: Vec<Peer<'a>>,
    /// When the peers were last asked for, in unix seconds.
    peers_at: UnixSeconds,
    schedule: Schedule,
    /// How the follower of L1 is doing; null where the schedule does not come from L1.
    l1: Option<L1Status>,
    /// What L2 has told last, and how its follower is doing; null without one.
    l2: Option<L2Status>,
    /// Which of several nodes with one key publishes; null where no lease decides.
    lease: Option<LeaseReport>,
    /// Which promises were kept, since the start; null where L2 is not followed.
    promises: Option<Promises>,
    policies: &'a Policies,
    #[serde(flatten)]
    recent: Recent<'a>,
    drops: Drops,
}

/// A peer, and what has come from it.
#[derive(Serialize)]
struct Peer<'a> {
    #[serde(flatten)]
    info: &'a PeerInfo,
    delivered: Delivered,
}

/// What was not kept or not answered since the start.
#[derive(Serialize)]
struct Drops {
    /// Commitments and lists that broke a rule.
    rejected: u64,
    /// Commitments of no use.
    ignored: u64,
    /// What a full queue of the client cost, or its age. Those of the network are in `/metrics`.
    dropped: u64,
    /// Events that this status has missed.
    events_missed: u64,
    /// HTTP connections closed for newer ones.
    http_displaced: u64,
    /// HTTP connections that were too slow.
    http_slow: u64,
}

/// Whose turn it is, as far as this node's schedule tells; null where it does not.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Schedule {
    now: Option<Turn>,
    next: Option<Turn>,
}

/// A preconfer and the first and the last second of its window.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Turn {
    signer: Address,
    start: UnixSeconds,
    end: UnixSeconds,
}

impl Schedule {
    fn at(lookahead: &dyn Lookahead, now: UnixSeconds) -> Self {
        // A source that fails tells no turn; `/readyz` says that it has failed.
        let turn = |moment| lookahead.turn(moment).unwrap_or_default();
        let first = turn(now);
        let current = first.filter(|slot| slot.window.contains(now));
        let next = match current {
            Some(slot) => {
                slot.window.end.get().checked_add(1).and_then(|after| turn(UnixSeconds::new(after)))
            }
            None => first,
        };
        let shown = |Slot { signer, window }| Turn { signer, start: window.start, end: window.end };
        Self { now: current.map(shown), next: next.map(shown) }
    }
}

/// Our clock against the timestamps of elected preconfers.
#[derive(Serialize)]
struct Clock {
    /// Median of arrival minus timestamp, in seconds; none while too little has come.
    offset: Option<i64>,
    /// More than clocks that are right explain.
    off: bool,
    /// Everything came too early or too late.
    unusable: bool,
}

/// The last sign that another node uses this node's key.
#[derive(Serialize)]
struct Duplicate {
    /// `dialled`: it has dialled this node; `answered`: it has answered where this node dialled; `published`: a message of
    /// this node's name has come that it did not publish.
    sign: &'static str,
    seconds_ago: u64,
}

/// The answer at `/readyz`.
#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    reasons: Vec<Reason>,
}

/// Why a node is not ready.
#[derive(Debug, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
enum Reason {
    /// It opens its store or joins the network.
    Starting,
    /// It is behind, or cannot tell.
    NotLive { sync: HeadSyncStatus },
    /// There is nobody to hear from.
    NoPeers,
    /// Nothing that a preconfer signs now can be judged.
    ScheduleUnknown,
    /// The source of the schedule has failed.
    ScheduleFailed { error: String },
    /// L1 has told nothing new for a while; how old its head is, and why the last question failed.
    L1Stale { seconds: Option<u64>, error: Option<String> },
    /// L2 has not answered for a while: for how long, and why the last question failed.
    L2Stale { seconds: Option<u64>, error: Option<String> },
}

impl Reason {
    /// Whether a head of L1 with this time is too old.
    fn l1(head: Option<u64>, error: Option<String>, now: UnixSeconds) -> Option<Self> {
        let seconds = head.map(|at| now.get().saturating_sub(at));
        seconds.is_none_or(|seconds| seconds > L1_STALE_SECONDS).then_some(Self::L1Stale { seconds, error })
    }

    /// Whether L2 was heard of too long ago.
    fn l2(at: Option<UnixSeconds>, error: Option<String>, now: UnixSeconds) -> Option<Self> {
        let seconds = at.map(|at| now.get().saturating_sub(at.get()));
        seconds.is_none_or(|seconds| seconds > L2_STALE_SECONDS).then_some(Self::L2Stale { seconds, error })
    }
}

impl Readiness {
    const fn of(reasons: Vec<Reason>) -> Self {
        Self { ready: reasons.is_empty(), reasons }
    }
}

impl Node {
    pub(in super::super) fn new(client: P2pClient, about: About) -> Self {
        Self { client, about, snapshot: watch::Sender::default(), journal: Mutex::default(), started: now() }
    }

    /// Keeps what the status shows up to date. Ends when the client does.
    pub(in super::super) async fn refresh(&self) {
        tokio::select! {
            () = journal::keep(self.client.subscribe(), &self.journal) => {}
            () = self.look() => {}
        }
    }

    /// Asks the network for its peers, now and then.
    async fn look(&self) {
        let mut refresh = interval(REFRESH);
        let mut sampled = None;
        loop {
            refresh.tick().await;
            let (Ok(listen), Ok(peers)) =
                (self.client.network().listen_addrs().await, self.client.network().peers().await)
            else {
                return;
            };
            let at = now();
            if sampled.is_none_or(|last| at.get().abs_diff(last) >= SAMPLE_SECONDS) {
                sampled = Some(at.get());
                let applied = self.client.chain().head().map(|head| head.number);
                let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
                journal.sample(at, applied, &self.client.status());
            }
            // A store that fails tells so itself.
            let promises = self.client.chain().promises().await.unwrap_or_default();
            self.snapshot.send_replace(Arc::new(Snapshot { listen, peers, at, promises }));
        }
    }

    fn status(&self, snapshot: &Snapshot, cut: &Cut) -> Json<serde_json::Value> {
        let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = self.client.counts();
        let (head, sync) = (self.client.chain().head(), self.client.status());
        let (applied, clock) = (head.map(|head| head.number), self.client.clock());
        let seen = match sync {
            HeadSyncStatus::Syncing { seen, .. } => Some(seen),
            _ => applied,
        };
        let peers = snapshot.peers.iter();
        let status = Status {
            version: env!("CARGO_PKG_VERSION"),
            started: self.started,
            time_ms: now_ms(),
            readiness: Readiness::of(self.reasons()),
            peer: self.client.network().local_peer_id(),
            chain_id: self.about.chain_id,
            p2p_chain_id: self.about.p2p_chain_id,
            listen: &snapshot.listen,
            seen,
            applied,
            head,
            sync,
            clock: Clock { offset: clock.offset, off: clock.is_off, unusable: clock.is_unusable },
            suspects_itself: self.client.network().suspects_itself(),
            duplicate_identity: self.client.network().duplicate_identity().map(|duplicate| Duplicate {
                sign: duplicate.sign.label(),
                seconds_ago: duplicate.at.elapsed().as_secs(),
            }),
            peers: peers.map(|info| Peer { info, delivered: journal.delivered(&info.peer) }).collect(),
            peers_at: snapshot.at,
            schedule: Schedule::at(&*self.about.lookahead, now()),
            l1: self.about.l1.as_ref().map(|l1| l1.status()),
            l2: self.about.l2.as_ref().map(L2Handle::status),
            lease: self.about.lease.as_ref().map(LeaseView::report),
            promises: snapshot.promises.as_ref().map(Promises::from),
            policies: &self.about.policies,
            recent: journal.recent(),
            drops: Drops {
                rejected: counts.rejected,
                ignored: counts.ignored,
                dropped: counts.dropped,
                events_missed: journal.missed(),
                http_displaced: cut.displaced(),
                http_slow: cut.slow(),
            },
        };
        Json(serde_json::to_value(status).unwrap_or_default())
    }

    /// Where the schedule comes from.
    pub(in super::super) fn lookahead(&self) -> &dyn Lookahead {
        &*self.about.lookahead
    }

    /// Whether nothing stands between this node and following the chain now.
    pub(in super::super) fn is_ready(&self) -> bool {
        self.reasons().is_empty()
    }

    /// What stands between this node and following the chain now.
    fn reasons(&self) -> Vec<Reason> {
        let sync = self.client.status();
        let live = (!sync.is_live()).then_some(Reason::NotLive { sync });
        let peers = self.client.network().ready_peers().is_empty().then_some(Reason::NoPeers);
        let schedule = match self.about.lookahead.turn(now()) {
            Ok(Some(_)) => None,
            Ok(None) => Some(Reason::ScheduleUnknown),
            Err(error) => Some(Reason::ScheduleFailed { error: error.to_string() }),
        };
        let l1 = self.about.l1.as_ref().and_then(|l1| {
            let status = l1.status();
            Reason::l1(status.head.map(|head| head.timestamp), status.error, now())
        });
        let l2 = self.about.l2.as_ref().and_then(|l2| {
            let status = l2.status();
            Reason::l2(status.seen.map(|seen| seen.at), status.error, now())
        });
        [live, peers, schedule, l1, l2].into_iter().flatten().collect()
    }
}

/// Serves indefinitely, from before the node runs.
pub(in super::super) async fn serve(endpoint: Endpoint, node: Shown) -> Infallible {
    type Served = (Shown, Arc<Cut>);
    async fn status(
        State((node, cut)): State<Served>,
    ) -> Result<Json<serde_json::Value>, (StatusCode, Json<Readiness>)> {
        let starting = || (StatusCode::SERVICE_UNAVAILABLE, Json(Readiness::of(vec![Reason::Starting])));
        let node = node.get().ok_or_else(starting)?;
        let snapshot = node.snapshot.borrow().clone();
        Ok(node.status(&snapshot, &cut))
    }
    async fn ready(State((node, _)): State<Served>) -> (StatusCode, Json<Readiness>) {
        let readiness = Readiness::of(node.get().map_or_else(|| vec![Reason::Starting], Node::reasons));
        let code = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (code, Json(readiness))
    }
    let cut = endpoint.cut();
    let routes = Router::new()
        .route("/", get(page::page))
        .route("/status", get(status))
        .route("/healthz", get(StatusCode::OK))
        .route("/readyz", get(ready))
        .with_state((node, cut));
    endpoint.serve(routes).await
}

#[cfg(test)]
mod tests {
    use p2p_validation::{StaticSchedule, Window};

    use super::*;

    #[test]
    fn the_schedule_tells_this_turn_and_the_next() {
        let slot = |signer, start, end| Slot {
            signer: Address::repeat_byte(signer),
            window: Window { start: UnixSeconds::new(start), end: UnixSeconds::new(end) },
        };
        let schedule = StaticSchedule::new(vec![slot(1, 10, 19), slot(2, 30, 39)]).unwrap();
        let at = |now| {
            let Schedule { now, next } = Schedule::at(&schedule, UnixSeconds::new(now));
            [now, next].map(|turn| turn.map(|turn| (turn.signer, turn.start.get(), turn.end.get())))
        };
        let first = Some((Address::repeat_byte(1), 10, 19));
        let second = Some((Address::repeat_byte(2), 30, 39));
        assert_eq!(at(10), [first, second]);
        assert_eq!(at(19), [first, second]);
        assert_eq!(at(20), [None, second], "a gap");
        assert_eq!(at(39), [second, None]);
        assert_eq!(at(40), [None, None]);
    }

    #[test]
    fn l1_is_stale_once_its_head_is_two_minutes_old() {
        let stale = |head| Reason::l1(head, None, UnixSeconds::new(1_000));
        assert!(stale(Some(880)).is_none());
        assert!(stale(Some(1_001)).is_none(), "a head from the future");
        assert!(matches!(stale(Some(879)), Some(Reason::L1Stale { seconds: Some(121), .. })));
        assert!(matches!(stale(None), Some(Reason::L1Stale { seconds: None, .. })));
    }

    #[test]
    fn l2_is_stale_once_it_has_not_answered_for_a_minute() {
        let stale = |at: Option<u64>| Reason::l2(at.map(UnixSeconds::new), None, UnixSeconds::new(1_000));
        assert!(stale(Some(940)).is_none());
        assert!(stale(Some(1_001)).is_none(), "an answer from the future");
        assert!(matches!(stale(Some(939)), Some(Reason::L2Stale { seconds: Some(61), .. })));
        assert!(matches!(stale(None), Some(Reason::L2Stale { seconds: None, .. })));
    }
}
