//! `/status`, `/healthz` and `/readyz`, answered from a snapshot: however many clients ask, the network's task is asked once
//! a second.

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use p2p_client::{P2pClient, PeerInfo};
use p2p_lookahead::{L1Lookahead, L1Status};
use p2p_types::{Address, BlockNumber, Head, HeadSyncStatus, PeerId, UnixSeconds};
use p2p_validation::{Lookahead, Slot};
use preconfirmation_p2p::Multiaddr;
use serde::Serialize;
use tokio::{sync::watch, time::interval};

use super::endpoint::Endpoint;
use crate::clock::now;

/// Between two looks at the peers.
const REFRESH: Duration = Duration::from_secs(1);

/// What does not change while a node runs.
#[derive(Debug, Clone, Serialize)]
pub(in super::super) struct Policies {
    pub(in super::super) lookahead: String,
    pub(in super::super) storage: String,
    /// Rules that are loosened.
    pub(in super::super) leniencies: Vec<String>,
}

/// The peers and addresses as they were when they were last asked for.
#[derive(Default)]
struct Snapshot {
    listen: Vec<Multiaddr>,
    peers: Vec<PeerInfo>,
    at: UnixSeconds,
}

/// What a node is, beside its client.
pub(in super::super) struct About {
    pub(in super::super) chain_id: u64,
    pub(in super::super) p2p_chain_id: u64,
    pub(in super::super) policies: Policies,
    pub(in super::super) lookahead: Arc<dyn Lookahead>,
    /// None where the schedule does not come from L1.
    pub(in super::super) l1: Option<Arc<L1Lookahead>>,
}

/// What `/status` is made of.
pub(in super::super) struct Node {
    client: P2pClient,
    about: About,
    snapshot: watch::Sender<Arc<Snapshot>>,
}

/// A node, once it runs.
pub(in super::super) type Shown = Arc<OnceLock<Node>>;

/// The answer at `/status`.
#[derive(Serialize)]
struct Status<'a> {
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
    peers: &'a [PeerInfo],
    /// When the peers were last asked for, in unix seconds.
    peers_at: UnixSeconds,
    schedule: Schedule,
    /// How the follower of L1 is doing; null where the schedule does not come from L1.
    l1: Option<L1Status>,
    policies: &'a Policies,
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
}

impl Node {
    pub(in super::super) fn new(client: P2pClient, about: About) -> Self {
        Self { client, about, snapshot: watch::Sender::default() }
    }

    /// Asks the network for its peers, now and then. Ends when the client does.
    pub(in super::super) async fn refresh(&self) {
        let mut refresh = interval(REFRESH);
        loop {
            refresh.tick().await;
            let (Ok(listen), Ok(peers)) =
                (self.client.network().listen_addrs().await, self.client.network().peers().await)
            else {
                return;
            };
            self.snapshot.send_replace(Arc::new(Snapshot { listen, peers, at: now() }));
        }
    }

    fn status(&self, snapshot: &Snapshot) -> Json<serde_json::Value> {
        let (head, sync) = (self.client.chain().head(), self.client.status());
        let (applied, clock) = (head.map(|head| head.number), self.client.clock());
        let seen = match sync {
            HeadSyncStatus::Syncing { seen, .. } => Some(seen),
            _ => applied,
        };
        let status = Status {
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
            peers: &snapshot.peers,
            peers_at: snapshot.at,
            schedule: Schedule::at(&*self.about.lookahead, now()),
            l1: self.about.l1.as_ref().map(|l1| l1.status()),
            policies: &self.about.policies,
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
        [live, peers, schedule].into_iter().flatten().collect()
    }
}

/// Serves indefinitely, from before the node runs.
pub(in super::super) async fn serve(endpoint: Endpoint, node: Shown) -> Infallible {
    async fn status(State(node): State<Shown>) -> Result<Json<serde_json::Value>, StatusCode> {
        let node = node.get().ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
        let snapshot = node.snapshot.borrow().clone();
        Ok(node.status(&snapshot))
    }
    async fn ready(State(node): State<Shown>) -> (StatusCode, Json<Readiness>) {
        let reasons = node.get().map_or_else(|| vec![Reason::Starting], Node::reasons);
        let ready = reasons.is_empty();
        let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (code, Json(Readiness { ready, reasons }))
    }
    let routes = Router::new()
        .route("/status", get(status))
        .route("/healthz", get(StatusCode::OK))
        .route("/readyz", get(ready))
        .with_state(node);
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
}
