//! Leader and standby.

use std::{
    env,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use p2p_guard_postgres::{
    GuardConfig, Lease, LeaseConfig, LeaseControl, LeaseState, PostgresGuard, Role, Why,
};
use p2p_types::{GuardError, SigningGuard as _};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{sync::mpsc, time::timeout};

use crate::server::{CHAIN, DEADLINE, DOMAIN, Guarded as _, Server, promise};

/// A slot: with the defaults a standby has taken over by then.
const SLOT: Duration = Duration::from_secs(12);

async fn node(server: &Server, name: &str) -> (PostgresGuard, Lease) {
    server.guard().await.with_lease(LeaseConfig::new(name)).await.unwrap()
}

/// Waits until a node sees what is expected.
async fn sees(lease: &Lease, expected: impl Fn(&LeaseState) -> bool) -> LeaseState {
    let mut watch = lease.watch();
    let state = timeout(DEADLINE, watch.wait_for(|state| expected(state))).await;
    state.unwrap_or_else(|_| panic!("{:?}", lease.state())).unwrap().clone()
}

async fn leads(lease: &Lease) -> LeaseState {
    sees(lease, |state| state.role == Role::Leader).await
}

fn not_leader(leader: &str) -> Result<(), GuardError> {
    Err(GuardError::NotLeader { leader: Some(leader.to_owned()) })
}

#[tokio::test]
async fn the_first_node_leads_and_the_others_stand_by() {
    let Some(server) = Server::start() else { return };
    let (a, lease_a) = node(&server, "a").await;
    let state = leads(&lease_a).await;
    assert_eq!((state.leader.as_deref(), state.token, state.why), (Some("a"), 1, Why::First));
    // One that has the same name by mistake is another one all the same.
    let (twin, lease_of_twin) = node(&server, "a").await;
    let state = sees(&lease_of_twin, |state| state.why != Why::Starting).await;
    assert_eq!((state.role, state.leader.as_deref(), state.why), (Role::Standby, Some("a"), Why::Other));
    assert_eq!(a.permit(promise(1, 100, 1, 1)).await, Ok(()));
    assert_eq!(twin.permit(promise(1, 100, 2, 1)).await, not_leader("a"));
    // Not even what the leader has signed.
    assert_eq!(twin.permit(promise(1, 100, 1, 1)).await, not_leader("a"));
    // Nor does one that knows of no lease.
    assert_eq!(server.guard().await.permit(promise(1, 100, 2, 1)).await, not_leader("a"));
    let control = LeaseControl::new(GuardConfig::for_lease(&server.url()).unwrap()).unwrap();
    let status = control.status().await.unwrap();
    assert_eq!((status.node.as_deref(), status.is_held, status.token), (Some("a"), true, 1));
    assert!(status.remaining <= Duration::from_secs(8) && !status.remaining.is_zero(), "{status:?}");
}

#[tokio::test]
async fn a_lease_is_renewed_for_as_long_as_its_node_lives() {
    let Some(server) = Server::start() else { return };
    let mut config = LeaseConfig::new("a");
    (config.term, config.poll) = (Duration::from_secs(1), Duration::from_millis(50));
    let (a, lease) = server.guard().await.with_lease(config).await.unwrap();
    leads(&lease).await;
    let admin = server.client().await;
    let query = "SELECT clock_timestamp() > taken_at + interval '3 s' FROM preconf_guard.lease";
    let mut height = 0;
    while !admin.query_one(query, &[]).await.unwrap().get::<_, bool>(0) {
        height += 1;
        assert_eq!(a.permit(promise(1, 100, height, 1)).await, Ok(()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(lease.state().token, 1);
    // And ends with it.
    drop(lease);
    let (_b, lease) = node(&server, "b").await;
    let state = leads(&lease).await;
    assert_eq!((state.token, state.why), (2, Why::AfterExpiry));
    assert_eq!(a.permit(promise(1, 100, height + 1, 1)).await, not_leader("b"));
}

#[tokio::test]
async fn a_planned_hand_over_takes_less_than_a_second() {
    let Some(server) = Server::start() else { return };
    let (a, lease_a) = node(&server, "a").await;
    leads(&lease_a).await;
    let (b, lease_b) = node(&server, "b").await;
    sees(&lease_b, |state| state.why == Why::Other).await;
    assert_eq!(a.permit(promise(1, 100, 1, 1)).await, Ok(()));

    let begun = Instant::now();
    lease_a.release().await.unwrap();
    // From here on, the one that has let go signs nothing, whatever it knows.
    assert!(matches!(a.permit(promise(1, 100, 2, 1)).await, Err(GuardError::NotLeader { .. })));
    while b.permit(promise(1, 100, 2, 2)).await.is_err() {}
    let took = begun.elapsed();
    println!("planned hand-over: {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(leads(&lease_b).await.why, Why::AfterRelease);
    let state = sees(&lease_a, |state| state.leader.as_deref() == Some("b")).await;
    assert_eq!((state.role, state.token, state.why), (Role::Standby, 2, Why::Other));

    // The same from a third place.
    let begun = Instant::now();
    let control = LeaseControl::new(GuardConfig::for_lease(&server.url()).unwrap()).unwrap();
    assert_eq!(control.release().await.unwrap().as_deref(), Some("b"));
    while a.permit(promise(1, 100, 3, 1)).await.is_err() {}
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(leads(&lease_a).await.token, 3);
}

#[tokio::test]
async fn a_node_whose_database_is_silent_says_that_it_does_not_know_who_leads() {
    let Some(server) = Server::start() else { return };
    let mut config = server.config();
    config.deadline = Duration::from_millis(300);
    let guard = PostgresGuard::open(config).await.unwrap();
    let mut config = LeaseConfig::new("a");
    (config.term, config.poll) = (Duration::from_secs(2), Duration::from_millis(50));
    let (guard, lease) = guard.with_lease(config).await.unwrap();
    leads(&lease).await;
    server.signal(Signal::STOP);
    let state = sees(&lease, |state| state.role == Role::Unknown).await;
    assert_eq!((state.leader, state.why), (None, Why::NoAnswer));
    assert!(matches!(guard.permit(promise(1, 100, 1, 1)).await, Err(GuardError::Unavailable(_))));
    server.signal(Signal::CONT);
    // The lease of before, or a new one where that has ended meanwhile.
    let state = leads(&lease).await;
    assert_eq!(state.why, if state.token == 1 { Why::First } else { Why::AfterExpiry });
    let answers = async { while guard.permit(promise(1, 100, 1, 1)).await.is_err() {} };
    timeout(DEADLINE, answers).await.expect("it answers again");
}

#[tokio::test]
async fn a_lease_that_makes_no_sense_is_refused() {
    let Some(server) = Server::start() else { return };
    for (name, term) in [("", 8_000), ("a\nb", 8_000), ("a", 900)] {
        let mut config = LeaseConfig::new(name);
        config.term = Duration::from_millis(term);
        assert!(server.guard().await.with_lease(config).await.is_err(), "{name:?} {term}");
    }
}

/// A node in a process of its own.
struct Process {
    child: Child,
    answers: mpsc::UnboundedReceiver<String>,
}

impl Process {
    fn start(server: &Server, name: &str) -> Self {
        use std::io::{BufRead as _, BufReader};

        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "leases::process", "--ignored", "--nocapture"])
            .env("GUARD_URL", server.url())
            .env("GUARD_NODE", name)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, answers) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some((_, answer)) = line.split_once("answer: ") {
                    drop(sender.send(answer.to_owned()));
                }
            }
        });
        Self { child, answers }
    }

    /// Waits for an answer of its guard.
    async fn hears(&mut self, expected: &str) {
        let hears = async {
            loop {
                let answer = self.answers.recv().await.expect("the process lives");
                if answer == expected {
                    return;
                }
            }
        };
        timeout(DEADLINE, hears).await.unwrap_or_else(|_| panic!("no {expected}"));
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What [`Process`] runs: it asks for one height after the other, and prints each answer.
#[tokio::test]
#[ignore = "a process of other tests"]
async fn process() {
    let (url, name) = (env::var("GUARD_URL").unwrap(), env::var("GUARD_NODE").unwrap());
    let guard = PostgresGuard::open(GuardConfig::new(&url, CHAIN, DOMAIN).unwrap()).await.unwrap();
    let (guard, _lease) = guard.with_lease(LeaseConfig::new(&*name)).await.unwrap();
    let mut height = 0;
    loop {
        match guard.permit(promise(1, 100, height, name.as_bytes()[0])).await {
            Ok(()) => println!("answer: yes"),
            Err(GuardError::NotLeader { leader }) => println!("answer: {}", leader.unwrap_or_default()),
            Err(GuardError::Conflict(_)) => {}
            Err(error) => println!("answer: {error}"),
        }
        height += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_standby_takes_over_within_a_slot_of_a_kill() {
    let Some(server) = Server::start() else { return };
    let mut a = Process::start(&server, "a");
    a.hears("yes").await;
    let mut b = Process::start(&server, "b");
    b.hears("a").await;
    a.signal(Signal::KILL);
    let killed = Instant::now();
    b.hears("yes").await;
    let took = killed.elapsed();
    println!("take-over after kill -9: {took:?}");
    assert!(took < SLOT, "{took:?}");
}

#[tokio::test]
async fn a_leader_that_wakes_after_its_lease_has_ended_is_refused() {
    let Some(server) = Server::start() else { return };
    let mut a = Process::start(&server, "a");
    a.hears("yes").await;
    let (b, lease) = node(&server, "b").await;
    sees(&lease, |state| state.why == Why::Other).await;
    a.signal(Signal::STOP);
    leads(&lease).await;
    assert_eq!(b.permit(promise(1, 200, 1, 1)).await, Ok(()));
    a.signal(Signal::CONT);
    a.hears("b").await;
    // Whatever it was about to record when it was stopped: nothing has come after the first of the new leader.
    let query = "SELECT count(*) FROM preconf_guard.promise p \
        WHERE p.token = 1 AND p.seq > (SELECT min(seq) FROM preconf_guard.promise WHERE token = 2)";
    let late: i64 = server.client().await.query_one(query, &[]).await.unwrap().get(0);
    assert_eq!(late, 0);
}
