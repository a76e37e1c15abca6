//! Network namespaces that are one switched network: each host has a line of its own to the switch, shaped both ways.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    process::Command,
};

/// What the system has refused.
#[derive(Debug)]
pub(crate) struct Refused {
    command: String,
    reason: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.command, self.reason)
    }
}

impl std::error::Error for Refused {}

/// Namespaces, deleted with what is in them when this is dropped.
pub(crate) struct Namespaces {
    names: Vec<String>,
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.names {
            // There is nobody to tell, and the others are still to go.
            drop(command(&["ip", "netns", "delete", name]));
        }
    }
}

/// The address of a host.
pub(crate) const fn address(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, index + 1)
}

/// The other address of a host.
pub(crate) fn address_v6(index: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(index) + 1)
}

/// Which hosts hear each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// All that nobody has moved.
    Main,
    /// Those that are cut off from the main side. Their lines stay up: what they send is lost, and nobody tells them.
    CutOff,
}

impl Side {
    const fn switch(self) -> &'static str {
        match self {
            Self::Main => "switch",
            Self::CutOff => "island",
        }
    }
}

impl Namespaces {
    /// So many hosts on one switch, with a token bucket of this rate in each direction of each line.
    pub(crate) fn new(hosts: u8, rate: &str) -> Result<Self, Refused> {
        let pid = std::process::id();
        let mut this = Self { names: Vec::new() };
        let switch = this.add(format!("hosts-{pid}-switch"))?;
        for side in [Side::Main, Side::CutOff].map(Side::switch) {
            command(&["ip", "-n", &switch, "link", "add", side, "type", "bridge"])?;
            command(&["ip", "-n", &switch, "link", "set", side, "up"])?;
        }
        for index in 0..hosts {
            let host = this.add(format!("hosts-{pid}-{index}"))?;
            let port = format!("port{index}");
            command(&[
                "ip", "-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "line", "netns",
                &host,
            ])?;
            command(&["ip", "-n", &switch, "link", "set", &port, "master", "switch", "up"])?;
            give_address(&host, &format!("{}/24", address(index)))?;
            give_address(&host, &format!("{}/64", address_v6(index)))?;
            command(&["ip", "-n", &host, "link", "set", "line", "up"])?;
            command(&["ip", "-n", &host, "link", "set", "lo", "up"])?;
            for (namespace, device) in [(&switch, port.as_str()), (&host, "line")] {
                command(&[
                    "tc", "-n", namespace, "qdisc", "add", "dev", device, "root", "tbf", "rate", rate,
                    "burst", "64kb", "latency", "50ms",
                ])?;
            }
        }
        Ok(this)
    }

    fn add(&mut self, name: String) -> Result<String, Refused> {
        command(&["ip", "netns", "add", &name])?;
        self.names.push(name.clone());
        Ok(name)
    }

    /// Moves a host to a side.
    pub(crate) fn move_to(&self, side: Side, index: u8) -> Result<(), Refused> {
        let port = format!("port{index}");
        command(&["ip", "-n", &self.names[0], "link", "set", &port, "master", side.switch()]).map(drop)
    }

    /// Takes a host's IPv4 address away.
    pub(crate) fn leave_only_v6(&self, index: u8) -> Result<(), Refused> {
        command(&["ip", "-n", self.host(index), "-4", "address", "flush", "dev", "line"]).map(drop)
    }

    /// Puts a router that translates addresses in the place of a host, and the host behind it. Nobody can call it any more; IPv6 it has
    /// none.
    pub(crate) fn put_behind_nat(&mut self, index: u8) -> Result<(), Refused> {
        let router = self.add(format!("hosts-{}-router", std::process::id()))?;
        let host = self.host(index).to_owned();
        command(&["ip", "-n", &host, "link", "set", "line", "netns", &router])?;
        command(&[
            "ip", "-n", &router, "link", "add", "inside", "type", "veth", "peer", "name", "line", "netns",
            &host,
        ])?;
        give_address(&router, &format!("{}/24", address(index)))?;
        command(&["ip", "-n", &router, "address", "add", "192.168.77.1/24", "dev", "inside"])?;
        give_address(&host, "192.168.77.2/24")?;
        for (namespace, device) in [(&router, "line"), (&router, "inside"), (&host, "line")] {
            command(&["ip", "-n", namespace, "link", "set", device, "up"])?;
        }
        command(&["ip", "-n", &host, "route", "add", "default", "via", "192.168.77.1"])?;
        command(&["ip", "netns", "exec", &router, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])?;
        let rules = "add table ip nat; add chain ip nat out { type nat hook postrouting priority 100; }; \
                     add rule ip nat out oifname line masquerade";
        command(&["ip", "netns", "exec", &router, "nft", rules]).map(drop)
    }

    /// The name of a host's namespace.
    pub(crate) fn host(&self, index: u8) -> &str {
        &self.names[usize::from(index) + 1]
    }

    /// Bytes that the switch has sent to its hosts.
    pub(crate) fn sent(&self) -> Result<u64, Refused> {
        let shown =
            command(&["ip", "-n", &self.names[0], "-json", "-stats", "link", "show", "type", "veth"])?;
        let links: Vec<serde_json::Value> = serde_json::from_str(&shown).unwrap_or_default();
        Ok(links.iter().filter_map(|link| link["stats64"]["tx"]["bytes"].as_u64()).sum())
    }
}

/// Gives a host's line an address. One of IPv6 counts at once, without a search for others that have it.
fn give_address(namespace: &str, network: &str) -> Result<(), Refused> {
    let words = ["ip", "-n", namespace, "address", "add", network, "dev", "line"];
    let nodad: &[&str] = if network.contains(':') { &["nodad"] } else { &[] };
    command(&[&words[..], nodad].concat()).map(drop)
}

fn command(words: &[&str]) -> Result<String, Refused> {
    let refused = |reason: String| Refused { command: words.join(" "), reason };
    let output =
        Command::new(words[0]).args(&words[1..]).output().map_err(|error| refused(error.to_string()))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}
