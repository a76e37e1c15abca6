//! The other side, in a process of its own, so that memory is told apart.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use libp2p::{Multiaddr, multiaddr::Protocol};
use p2p_fixtures::relay;
use serde::{Deserialize, Serialize};

use crate::{
    Failed,
    chain::{self, Shape},
    raw,
};

/// Serving peers.
const PEERS: usize = 4;

/// How long a relay holds a byte back, each way.
pub(crate) const DELAY: Duration = Duration::from_millis(25);

/// What a process serves.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Wares {
    Chain(Shape),
    /// Answers of so many bytes, by libp2p alone.
    Raw(usize),
    /// The same, beside all else that the protocol asks nodes to speak.
    Same(usize),
}

/// Where.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) direct: Vec<Multiaddr>,
    pub(crate) relayed: Vec<Multiaddr>,
}

/// A process that serves until this is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) addresses: Addresses,
}

impl Server {
    pub(crate) fn start(wares: Wares) -> Result<Self, Failed> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--serve", &serde_json::to_string(&wares)?])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no stdout")?).read_line(&mut line)?;
        Ok(Self { child, addresses: serde_json::from_str(&line)? })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What such a process does: serves, says where, and ends when nobody listens any more.
pub(crate) async fn serve(wares: &str) -> Result<(), Failed> {
    let mut addresses = Addresses::default();
    let mut nodes = Vec::new();
    match serde_json::from_str(wares)? {
        Wares::Chain(shape) => {
            let store = chain::stored(shape)?;
            for _ in 0..PEERS {
                let node = chain::node(store.clone(), false).await?;
                node.chain().l2_synced(chain::BASE).await?;
                let direct = node.network().listen_addrs().await?.into_iter().next().ok_or("no address")?;
                addresses.relayed.push(through_relay(&direct)?);
                addresses.direct.push(direct);
                nodes.push(node);
            }
        }
        Wares::Raw(bytes) => {
            for _ in 0..PEERS {
                addresses.direct.push(raw::serve::<raw::Lists>(bytes).await?);
            }
        }
        Wares::Same(bytes) => {
            for _ in 0..PEERS {
                addresses.direct.push(raw::serve::<raw::All>(bytes).await?);
            }
        }
    }
    println!("{}", serde_json::to_string(&addresses)?);
    std::io::stdout().flush()?;
    tokio::task::spawn_blocking(|| std::io::stdin().lines().count()).await?;
    Ok(())
}

fn through_relay(address: &Multiaddr) -> Result<Multiaddr, Failed> {
    let (mut host, mut port, mut rest) = (None, None, Multiaddr::empty());
    for part in address {
        match part {
            Protocol::Ip4(ip) => host = Some(ip),
            Protocol::Tcp(number) => port = Some(number),
            other => rest.push(other),
        }
    }
    let to = SocketAddr::from((host.ok_or("no host")?, port.ok_or("no port")?));
    let at = relay(to, DELAY)?;
    let mut relayed = Multiaddr::empty().with(at.ip().into()).with(Protocol::Tcp(at.port()));
    rest.into_iter().for_each(|part| relayed.push(part));
    Ok(relayed)
}
