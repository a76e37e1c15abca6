//! The peer store's file: the peers of an earlier run, as JSON.

use std::{io, path::Path};

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

use crate::disk;

/// Of the layout below.
const VERSION: u32 = 1;

/// Largest file that is read: some thousand peers.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Why a file of peers was not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeersFileError {
    #[error("cannot read or write it")]
    Io(#[from] io::Error),
    #[error("not the JSON that is expected")]
    Json(#[from] serde_json::Error),
    #[error("version {found}, not {VERSION}")]
    Version { found: u32 },
    #[error("of chain {found}, not of {expected}")]
    Chain { found: u64, expected: u64 },
    #[error("a peer id is malformed")]
    Peer(#[from] libp2p::identity::ParseError),
    #[error("an address is malformed")]
    Address(#[from] libp2p::multiaddr::Error),
}

/// A peer of this chain that was connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownPeer {
    pub(crate) peer: PeerId,
    /// The one that worked last comes first.
    pub(crate) addresses: Vec<Multiaddr>,
    /// Its node record (ENR), for discovery to begin with.
    pub(crate) enr: Option<String>,
    /// Unix seconds.
    pub(crate) last_seen: u64,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    chain_id: u64,
    peers: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    peer: String,
    addresses: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record: Option<String>,
    last_seen: u64,
}

/// Reads the file; no file knows nobody. Blocks on the disk.
pub(crate) fn load(path: &Path, chain_id: u64) -> Result<Vec<KnownPeer>, PeersFileError> {
    match disk::read(path, MAX_FILE_BYTES)? {
        Some(text) => parse(&text, chain_id),
        None => Ok(Vec::new()),
    }
}

pub(crate) fn parse(text: &str, chain_id: u64) -> Result<Vec<KnownPeer>, PeersFileError> {
    let document: Document = serde_json::from_str(text)?;
    if document.version != VERSION {
        return Err(PeersFileError::Version { found: document.version });
    }
    if document.chain_id != chain_id {
        return Err(PeersFileError::Chain { found: document.chain_id, expected: chain_id });
    }
    let peers = document.peers.into_iter().map(|line| {
        let addresses = line.addresses.iter().map(|address| address.parse());
        Ok(KnownPeer {
            peer: line.peer.parse()?,
            addresses: addresses.collect::<Result<_, libp2p::multiaddr::Error>>()?,
            enr: line.record,
            last_seen: line.last_seen,
        })
    });
    peers.collect()
}

/// Writes the file anew. Blocks on the disk.
pub(crate) fn save(path: &Path, chain_id: u64, known: &[KnownPeer]) -> Result<(), PeersFileError> {
    Ok(disk::replace(path, &render(chain_id, known)?)?)
}

pub(crate) fn render(chain_id: u64, known: &[KnownPeer]) -> Result<Vec<u8>, PeersFileError> {
    let lines = known.iter().map(|known| Line {
        peer: known.peer.to_string(),
        addresses: known.addresses.iter().map(ToString::to_string).collect(),
        record: known.enr.clone(),
        last_seen: known.last_seen,
    });
    let document = Document { version: VERSION, chain_id, peers: lines.collect() };
    let mut text = serde_json::to_vec_pretty(&document)?;
    text.push(b'\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("peers.json");
        assert_eq!(load(&path, 7).unwrap(), []);
        let peer = |last_seen, record: Option<&str>| KnownPeer {
            peer: PeerId::random(),
            addresses: vec![
                "/ip4/192.0.2.1/tcp/1".parse().unwrap(),
                "/dns4/a/udp/2/quic-v1".parse().unwrap(),
            ],
            enr: record.map(str::to_owned),
            last_seen,
        };
        let known = [peer(2, Some("enr:-x")), peer(1, None)];
        save(&path, 7, &known).unwrap();
        assert_eq!(load(&path, 7).unwrap(), known);
        assert!(matches!(load(&path, 8), Err(PeersFileError::Chain { found: 7, expected: 8 })));
    }

    #[test]
    fn what_is_damaged_is_refused_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("peers.json");
        let refused = |text: &str| {
            fs::write(&path, text).unwrap();
            load(&path, 7).unwrap_err()
        };
        assert!(matches!(refused(""), PeersFileError::Json(_)));
        assert!(matches!(refused("{\"version\":1,"), PeersFileError::Json(_)));
        let with = |version: u32, peer: &str, address: &str| {
            format!(
                r#"{{"version":{version},"chain_id":7,"peers":[{{"peer":"{peer}","addresses":["{address}"],"last_seen":1}}]}}"#
            )
        };
        let (peer, address) = (PeerId::random().to_string(), "/ip4/192.0.2.1/tcp/1");
        assert!(matches!(refused(&with(2, &peer, address)), PeersFileError::Version { found: 2 }));
        assert!(matches!(refused(&with(1, "nobody", address)), PeersFileError::Peer(_)));
        assert!(matches!(refused(&with(1, &peer, "nowhere")), PeersFileError::Address(_)));
        fs::write(&path, with(1, &peer, address)).unwrap();
        assert_eq!(load(&path, 7).unwrap().len(), 1);
        fs::write(&path, vec![b' '; 4 * 1024 * 1024 + 1]).unwrap();
        assert!(matches!(load(&path, 7), Err(PeersFileError::Io(_))));
    }
}
