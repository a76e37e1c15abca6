//! The long way to a host: a relay in the namespace of whoever dials it, which holds every byte back.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use clap::Args;

use crate::Failure;

/// Where it leads, and how long.
#[derive(Debug, Args)]
pub(crate) struct Relay {
    #[arg(long)]
    to: SocketAddr,
    #[arg(long)]
    delay_ms: u64,
}

impl Relay {
    /// Says where it listens, and relays until stdin ends.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        println!("{}", p2p_fixtures::relay(self.to, Duration::from_millis(self.delay_ms))?);
        std::io::stdin().lines().for_each(drop);
        Ok(())
    }
}

/// A relay that runs in a namespace, killed when this is dropped.
pub(crate) struct LongWay {
    process: Child,
    pub(crate) listens: SocketAddr,
}

impl LongWay {
    /// From a namespace to an address, each way as long as this.
    pub(crate) fn new(namespace: &str, to: SocketAddr, delay: Duration) -> Result<Self, Failure> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(std::env::current_exe()?);
        command.args(["relay", "--to", &to.to_string(), "--delay-ms", &delay.as_millis().to_string()]);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        if let Some(told) = process.stdout.take() {
            BufReader::new(told).read_line(&mut line)?;
        }
        Ok(Self { listens: line.trim().parse()?, process })
    }
}

impl Drop for LongWay {
    fn drop(&mut self) {
        // It has ended already where this fails.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
