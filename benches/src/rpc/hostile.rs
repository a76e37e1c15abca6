//! Callers that send what they should not, at three servers of one node: each is told so, again and again.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use p2p_rpc::{JwtSecret, RpcConfig, RpcHandle, RpcServer};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until},
};

use super::{
    caller::{Caller, Socket, subscribe},
    chain::BASE,
    world::World,
};

/// Each case is sent as often as this.
const EVERY: Duration = Duration::from_millis(50);

/// WebSockets that are opened and say nothing.
const IDLE: usize = 1_000;

/// What is sent, and what has to come of it.
struct Case {
    name: &'static str,
    /// A header beside the usual ones.
    header: Option<String>,
    host: Option<&'static str>,
    body: String,
    status: u16,
    /// In the answer.
    says: &'static str,
}

impl Case {
    fn new(name: &'static str, body: impl Into<String>, status: u16, says: &'static str) -> Self {
        Self { name, header: None, host: None, body: body.into(), status, says }
    }
}

fn call(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
}

/// The cases for a server without tokens.
fn cases() -> Vec<Case> {
    let tip = call("preconf_tip", "[]");
    vec![
        Case { host: Some("evil.example"), ..Case::new("foreign host", tip.clone(), 403, "Host") },
        Case::new("oversized body", " ".repeat(4_325_379), 413, "-32007"),
        Case::new("batch of 10,000", format!("[{}]", vec![tip; 10_000].join(",")), 200, "-32010"),
        Case::new("malformed JSON", r#"{"jsonrpc":"#, 200, "-32700"),
        Case::new("unknown method", call("preconf_nothing", "[]"), 200, "-32601"),
        Case::new("parameters by name", call("preconf_tip", r#"{"a":1}"#), 200, "-32602"),
        Case::new("wrong length of digits", call("preconf_getTxList", r#"["0x00"]"#), 200, "-32602"),
    ]
}

/// The cases for a server with tokens.
fn token_cases() -> Vec<Case> {
    let tip = call("preconf_tip", "[]");
    let wrong = JwtSecret::from_bytes(&[2; 32]).unwrap().token(unix_now()).unwrap();
    let wrong = Some(format!("authorization: Bearer {wrong}"));
    vec![
        Case::new("no token", tip.clone(), 401, "token"),
        Case { header: wrong, ..Case::new("wrong token", tip, 401, "token") },
    ]
}

fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// Servers of a node beside its first one, for hostile callers.
pub(super) struct Hosts {
    tokens: Server,
    /// Where nobody gets in any more.
    crowded: Server,
    open: SocketAddr,
}

struct Server(RpcHandle, JoinHandle<()>);

impl Server {
    async fn start(world: &World, secret: Option<JwtSecret>) -> Self {
        let mut config = RpcConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
        config.secret = secret;
        let (handle, server) = RpcServer::bind(config, world.client.clone()).await.unwrap();
        Self(handle, tokio::spawn(server.run()))
    }

    async fn stop(self) {
        self.0.stop().await;
        self.1.await.unwrap();
    }
}

impl Hosts {
    pub(super) async fn start(world: &World) -> Self {
        let secret = JwtSecret::from_bytes(&[1; 32]).unwrap();
        Self {
            tokens: Server::start(world, Some(secret)).await,
            crowded: Server::start(world, None).await,
            open: world.address,
        }
    }

    /// Begins with all of it.
    pub(super) async fn attack(&self) -> Attack {
        // One that never reads, then a thousand that say nothing.
        let unread = subscribe(self.crowded.0.address(), BASE + 1).await;
        let (mut idle, mut refused) = (Vec::new(), 0);
        while idle.len() + refused < IDLE {
            let url = format!("ws://{}", self.crowded.0.address());
            match tokio_tungstenite::connect_async(url).await {
                Ok((socket, _)) => idle.push(socket),
                Err(_) => refused += 1,
            }
        }
        assert_eq!(idle.len() + 1, 64, "of {IDLE} idle WebSockets");
        let (stop, answers, mut tasks) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), JoinSet::new());
        let here = [(self.open, cases()), (self.tokens.0.address(), token_cases())];
        for (address, cases) in here {
            for case in cases {
                tasks.spawn(repeat(address, case, stop.clone(), answers.clone()));
            }
        }
        Attack { stop, answers, tasks, _held: (unread, idle) }
    }

    pub(super) async fn stop(self) {
        self.tokens.stop().await;
        self.crowded.stop().await;
    }
}

/// An attack, until it is ended.
pub(super) struct Attack {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    tasks: JoinSet<()>,
    _held: (Socket, Vec<Socket>),
}

impl Attack {
    /// Ends it. Returns how many calls were refused as they had to be; any other answer ends the run.
    pub(super) async fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Release);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.answers.load(Ordering::Acquire)
    }
}

/// Sends a case again and again, each time over a connection of its own: some are closed with the refusal.
async fn repeat(address: SocketAddr, case: Case, stop: Arc<AtomicBool>, answers: Arc<AtomicU64>) {
    let mut due = Instant::now();
    while !stop.load(Ordering::Acquire) {
        let mut caller = Caller::connect(address).await;
        let (status, answer) = caller.send(case.host, case.header.as_deref(), &case.body).await;
        let Case { name, status: expected, says, .. } = &case;
        assert!(status == *expected && answer.contains(says), "{name}: {status} {answer:.200}");
        answers.fetch_add(1, Ordering::AcqRel);
        due += EVERY;
        sleep_until(due).await;
    }
}
