//! The ways to name a node to begin with.

use std::{fmt, net::IpAddr, str::FromStr};

use discv5::Enr;
use libp2p::{
    Multiaddr, PeerId,
    identity::{PublicKey, secp256k1},
    multiaddr::Protocol,
};

use crate::ip::peer_of;

/// A node that is asked, or dialled, first. Parsed from
///
/// | text | what happens |
/// |---|---|
/// | `enr:…` | discovery asks it for others; it is dialled if its record is of this chain |
/// | `enode://<public key>@<ip>:<port>[?discport=<udp port>]` | discovery asks it for its record first |
/// | `/ip4/…/udp/…/p2p/…` | the same |
/// | `/ip4/…/tcp/…/p2p/…`, `/ip4/…/udp/…/quic-v1/p2p/…`, `/dns4/…` | it is dialled |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootnode(pub(crate) Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A signed record.
    Record(Box<Enr>),
    /// The UDP address of a node whose record has to be asked for, with `/p2p/`.
    Contact(Multiaddr),
    /// A peer and where libp2p reaches it.
    Peer(PeerId, Multiaddr),
}

/// Why a text names no bootnode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BootnodeError {
    /// It begins like none of the three kinds.
    #[error("bootnode `{bootnode}` is no `enr:`, no `enode://` and no `/…` multiaddr")]
    Unknown {
        /// The text.
        bootnode: Box<str>,
    },
    /// The record is damaged, or its signature is wrong.
    #[error("bootnode `{bootnode}` is no valid node record (ENR)")]
    Record {
        /// The text.
        bootnode: Box<str>,
    },
    /// The record has no address at which it can be asked.
    #[error("the record (ENR) of bootnode `{bootnode}` has no ip and udp port")]
    Unreachable {
        /// The text.
        bootnode: Box<str>,
    },
    /// The enode is not `enode://<128 hexadecimal digits>@<ip>:<port>`, or its key is no point of the curve.
    #[error("bootnode `{bootnode}` has a wrong {part}")]
    Enode {
        /// The text.
        bootnode: Box<str>,
        /// Which part of it.
        part: EnodePart,
    },
    /// The multiaddr cannot be parsed.
    #[error("bootnode `{bootnode}` is no valid multiaddr")]
    Multiaddr {
        /// The text.
        bootnode: Box<str>,
    },
    /// The multiaddr does not say who should be there.
    #[error("bootnode `{bootnode}` does not end in /p2p/<peer id>")]
    NoPeer {
        /// The text.
        bootnode: Box<str>,
    },
    /// The multiaddr is for discovery, and its peer id is not that of a secp256k1 key.
    #[error("bootnode `{bootnode}` is asked by discovery, which needs the peer id of a secp256k1 key")]
    KeyType {
        /// The text.
        bootnode: Box<str>,
    },
}

/// A part of an enode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnodePart {
    /// The digits before the `@`.
    PublicKey,
    /// The IP address; names are not resolved.
    Ip,
    /// The port, or the `discport`.
    Port,
}

impl fmt::Display for EnodePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PublicKey => "public key",
            Self::Ip => "ip",
            Self::Port => "port",
        })
    }
}

impl FromStr for Bootnode {
    type Err = BootnodeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.starts_with("enr:") {
            record(text)
        } else if let Some(enode) = text.strip_prefix("enode://") {
            let failed = |part| BootnodeError::Enode { bootnode: text.into(), part };
            enode_contact(enode).map(|contact| Self(Kind::Contact(contact))).map_err(failed)
        } else if text.starts_with('/') {
            multiaddr(text)
        } else {
            Err(BootnodeError::Unknown { bootnode: text.into() })
        }
    }
}

impl fmt::Display for Bootnode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Record(record) => record.fmt(f),
            Kind::Contact(address) | Kind::Peer(_, address) => address.fmt(f),
        }
    }
}

impl Bootnode {
    /// Whether only discovery can make use of it.
    pub(crate) const fn needs_discovery(&self) -> bool {
        matches!(self.0, Kind::Contact(_))
    }
}

fn record(text: &str) -> Result<Bootnode, BootnodeError> {
    let record: Enr = text.parse().map_err(|_| BootnodeError::Record { bootnode: text.into() })?;
    if record.udp4_socket().is_none() && record.udp6_socket().is_none() {
        return Err(BootnodeError::Unreachable { bootnode: text.into() });
    }
    Ok(Bootnode(Kind::Record(Box::new(record))))
}

/// `<128 digits>@<ip>:<port>[?discport=<port>]` as `/ip…/udp/…/p2p/…`.
fn enode_contact(enode: &str) -> Result<Multiaddr, EnodePart> {
    let (digits, place) = enode.split_once('@').ok_or(EnodePart::PublicKey)?;
    let peer = peer_of_key(digits).ok_or(EnodePart::PublicKey)?;
    let (place, query) = place.split_once('?').unwrap_or((place, ""));
    let (ip, port) = place.rsplit_once(':').ok_or(EnodePart::Port)?;
    let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    let ip: IpAddr = ip.parse().map_err(|_| EnodePart::Ip)?;
    // The port of TCP; that of UDP is the same unless the query tells another.
    let port: u16 = port.parse().map_err(|_| EnodePart::Port)?;
    let discport = query.split('&').find_map(|pair| pair.strip_prefix("discport="));
    let port = discport.map_or(Ok(port), str::parse).map_err(|_| EnodePart::Port)?;
    if port == 0 {
        return Err(EnodePart::Port);
    }
    Ok(Multiaddr::from(ip).with(Protocol::Udp(port)).with(Protocol::P2p(peer)))
}

/// The peer of an uncompressed key without its prefix, in digits.
fn peer_of_key(digits: &str) -> Option<PeerId> {
    if digits.len() != 128 {
        return None;
    }
    // SEC 1: 4 stands before both coordinates.
    let mut key = vec![4];
    for pair in digits.as_bytes().chunks(2) {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| !pair.starts_with('+'))?;
        key.push(u8::from_str_radix(pair, 16).ok()?);
    }
    let key = secp256k1::PublicKey::try_from_bytes(&key).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

fn multiaddr(text: &str) -> Result<Bootnode, BootnodeError> {
    let address: Multiaddr = text.parse().map_err(|_| BootnodeError::Multiaddr { bootnode: text.into() })?;
    let peer = peer_of(&address).ok_or_else(|| BootnodeError::NoPeer { bootnode: text.into() })?;
    let parts: Vec<_> = address.iter().collect();
    let is_contact =
        matches!(parts[..], [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Udp(_), Protocol::P2p(_)]);
    if !is_contact {
        return Ok(Bootnode(Kind::Peer(peer, address)));
    }
    // Such a peer id is the key itself.
    let key = peer.to_bytes().get(2..).and_then(|key| PublicKey::try_decode_protobuf(key).ok());
    if key.and_then(|key| key.try_into_secp256k1().ok()).is_none() {
        return Err(BootnodeError::KeyType { bootnode: text.into() });
    }
    Ok(Bootnode(Kind::Contact(address)))
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;

    /// The example record of EIP-778.
    const RECORD: &str = "enr:-IS4QHCYrYZbAKWCBRlAy5zzaDZXJBGkcnh4MHcBFZntXNFrdvJjX04jRzjzCBOonrkTfj499SZuOh8R33Ls8RRcy5wBgmlkgnY0gmlwhH8AAAGJc2VjcDI1NmsxoQPKY0yuDUmstAHYpMa2_oxVtw0RW_QAdpzBQA8yWM0xOIN1ZHCCdl8";

    fn parse(text: &str) -> Result<Bootnode, BootnodeError> {
        text.parse()
    }

    #[test]
    fn a_record() {
        let bootnode = parse(RECORD).unwrap();
        assert!(matches!(&bootnode.0, Kind::Record(record) if record.udp4() == Some(30303)));
        assert_eq!(bootnode.to_string(), RECORD);
        assert!(!bootnode.needs_discovery());
        let damaged = RECORD.replace("IS4Q", "IS4R");
        assert_eq!(parse(&damaged), Err(BootnodeError::Record { bootnode: damaged.clone().into() }));
        assert!(parse(&damaged).unwrap_err().to_string().contains(&damaged));
    }

    #[test]
    fn an_enode_becomes_the_contact_of_the_same_key() {
        let Kind::Record(record) = parse(RECORD).unwrap().0 else { panic!("no record") };
        let peer = crate::discovery::record::peer_id(&record).unwrap();
        let uncompressed = enr::EnrPublicKey::encode_uncompressed(&record.public_key());
        let key: String = uncompressed.iter().map(|byte| format!("{byte:02x}")).collect();
        let contact =
            |place: &str| parse(&format!("enode://{key}@{place}")).map(|bootnode| bootnode.to_string());
        assert_eq!(contact("127.0.0.1:30303"), Ok(format!("/ip4/127.0.0.1/udp/30303/p2p/{peer}")));
        assert_eq!(contact("[::1]:30303?discport=30301"), Ok(format!("/ip6/::1/udp/30301/p2p/{peer}")));
        let part = |text: &str| match parse(text) {
            Err(BootnodeError::Enode { bootnode, part }) if *bootnode == *text => part,
            other => panic!("{other:?}"),
        };
        assert_eq!(part(&format!("enode://{key}")), EnodePart::PublicKey);
        assert_eq!(part(&format!("enode://{}@127.0.0.1:1", &key[2..])), EnodePart::PublicKey);
        assert_eq!(part(&format!("enode://{}@127.0.0.1:1", "+1".repeat(64))), EnodePart::PublicKey);
        assert_eq!(part(&format!("enode://{}@127.0.0.1:1", "00".repeat(64))), EnodePart::PublicKey);
        assert_eq!(part(&format!("enode://{key}@example.org:1")), EnodePart::Ip);
        assert_eq!(part(&format!("enode://{key}@127.0.0.1")), EnodePart::Port);
        assert_eq!(part(&format!("enode://{key}@127.0.0.1:65536")), EnodePart::Port);
        assert_eq!(part(&format!("enode://{key}@127.0.0.1:1?discport=0")), EnodePart::Port);
    }

    #[test]
    fn a_multiaddr_is_dialled_or_asked() {
        let secp256k1 = Keypair::generate_secp256k1().public().to_peer_id();
        let ed25519 = Keypair::generate_ed25519().public().to_peer_id();
        for place in ["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.1/udp/1/quic-v1", "/dns4/example.org/tcp/1"] {
            let text = format!("{place}/p2p/{ed25519}");
            let bootnode = parse(&text).unwrap();
            assert!(matches!(&bootnode.0, Kind::Peer(peer, _) if *peer == ed25519));
            assert_eq!(bootnode.to_string(), text);
            assert!(matches!(parse(place), Err(BootnodeError::NoPeer { .. })));
        }
        let asked = parse(&format!("/ip4/192.0.2.1/udp/1/p2p/{secp256k1}")).unwrap();
        assert!(asked.needs_discovery());
        let error = parse(&format!("/ip4/192.0.2.1/udp/1/p2p/{ed25519}")).unwrap_err();
        assert!(matches!(error, BootnodeError::KeyType { .. }), "{error}");
        assert!(matches!(parse("/ip4/nowhere"), Err(BootnodeError::Multiaddr { .. })));
        assert!(matches!(parse("192.0.2.1:1"), Err(BootnodeError::Unknown { .. })));
    }
}
