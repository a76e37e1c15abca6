//! Network namespaces that are one switched network: each host has a line of its own to the switch, shaped both ways.

use std::{fmt, net::Ipv4Addr, process::Command};

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

impl Namespaces {
    /// So many hosts on one switch, with a token bucket of this rate in each direction of each line.
    pub(crate) fn new(hosts: u8, rate: &str) -> Result<Self, Refused> {
        let pid = std::process::id();
        let mut this = Self { names: Vec::new() };
        let switch = this.add(format!("hosts-{pid}-switch"))?;
        command(&["ip", "-n", &switch, "link", "add", "switch", "type", "bridge"])?;
        command(&["ip", "-n", &switch, "link", "set", "switch", "up"])?;
        for index in 0..hosts {
            let host = this.add(format!("hosts-{pid}-{index}"))?;
            let port = format!("port{index}");
            command(&[
                "ip", "-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "line", "netns",
                &host,
            ])?;
            command(&["ip", "-n", &switch, "link", "set", &port, "master", "switch", "up"])?;
            let network = format!("{}/24", address(index));
            command(&["ip", "-n", &host, "address", "add", &network, "dev", "line"])?;
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
