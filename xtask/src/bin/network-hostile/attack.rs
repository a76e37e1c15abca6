//! Attacks run in processes of their own, at the lowest priority: on a machine with few cores that measures what an attack
//! costs the honest nodes, not what it costs to attack.

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, Command, Stdio},
    sync::atomic::Ordering,
    time::Duration,
};

use libp2p::Multiaddr;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    cases::{self, Case},
    peer::{self, WRITTEN},
    rig::{CHAIN, Failure},
};

/// How long an adversary may take to prepare and to connect.
const PREPARATION: Duration = Duration::from_secs(60);

/// A running attack. Ends when this is dropped.
pub(crate) struct Attack {
    child: Child,
}

impl Attack {
    /// Returns when the adversary of this number, or the first of its crowd, is connected. `aside`: it only
    /// gets the processor time that nobody else wants.
    pub(crate) async fn start(
        case: &Case,
        number: u32,
        seconds: u32,
        victims: &[Multiaddr],
        aside: bool,
    ) -> Result<Self, Failure> {
        let mut command = Command::new("nice");
        command.args(["-n", if aside { "19" } else { "0" }]).arg(env::current_exe()?);
        command.arg("--attack").arg(case.name);
        command.arg("--number").arg(number.to_string()).arg("--seconds").arg(seconds.to_string());
        for victim in victims {
            command.arg("--victim").arg(victim.to_string());
        }
        let mut attack = Self { child: command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()? };
        let mut stdout = BufReader::new(attack.child.stdout.take().ok_or("no stdout")?);
        let ready = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            stdout.read_line(&mut line).map(|_| (line, stdout.into_inner()))
        });
        let (line, stdout) = tokio::time::timeout(PREPARATION, ready).await???;
        if line.trim() != "connected" {
            return Err(format!("{} has not connected", case.name).into());
        }
        attack.child.stdout = Some(stdout);
        Ok(attack)
    }

    /// Ends it. How many frames it has written.
    pub(crate) async fn stop(mut self) -> Result<u64, Failure> {
        drop(self.child.stdin.take());
        let mut stdout = self.child.stdout.take().ok_or("no stdout")?;
        let rest = tokio::task::spawn_blocking(move || {
            let mut rest = String::new();
            stdout.read_to_string(&mut rest).map(|_| rest)
        });
        let rest = tokio::time::timeout(PREPARATION, rest).await???;
        Ok(rest.trim().parse()?)
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        // One that has ended by itself cannot be killed.
        let _running = self.child.kill().is_ok();
        drop(self.child.wait());
    }
}

/// Attacks these nodes until stdin ends: what the process of an [`Attack`] does.
pub(crate) async fn carry_out(
    case: &Case,
    number: u32,
    seconds: u32,
    victims: &[Multiaddr],
) -> Result<(), Failure> {
    let (connects, mut connected) = mpsc::channel(1);
    let mut peers = JoinSet::new();
    for number in number..number + case.crowd {
        let identity = cases::identity(number)?;
        let plan = case.plan(&identity, seconds)?;
        for victim in victims {
            peers.spawn(peer::run(CHAIN, identity.clone(), victim.clone(), plan.clone(), connects.clone()));
        }
    }
    connected.recv().await.ok_or("nobody connects")?;
    println!("connected");
    std::io::stdout().flush()?;
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    println!("{}", WRITTEN.load(Ordering::Relaxed));
    Ok(())
}
