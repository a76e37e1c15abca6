//! The node record (ENR, EIP-778): what it says about a node of this network, and what is read from others.
//!
//! | key | value |
//! |---|---|
//! | `taiko` | RLP of the L2 chain id as u64 |
//! | `ip`, `ip6`, `udp`, `udp6`, `tcp`, `tcp6` | as in EIP-778 |
//! | `quic`, `quic6` | RLP of the UDP port of QUIC |
//!
//! The record is signed with the node's secp256k1 identity, so the peer id follows from it.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
};

use discv5::Enr;
use enr::{Builder, CombinedKey, CombinedPublicKey, EnrPublicKey as _, Error};
use libp2p::{
    Multiaddr, PeerId,
    identity::{PublicKey, secp256k1},
    multiaddr::Protocol,
};

use crate::{config::DiscoveryConfig, ip::ip_of};

const CHAIN: &str = "taiko";
const QUIC: [&str; 2] = ["quic", "quic6"];

/// Where a node says that it is reached, in the IP version of its discovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    /// None if only others can tell.
    ip: Option<IpAddr>,
    is_v4: bool,
    udp: u16,
    tcp: Option<u16>,
    quic: Option<u16>,
}

impl Reach {
    /// What is configured for the record first, then advertised addresses, then those listened on. An unspecified
    /// IP (`0.0.0.0`) tells nothing.
    pub(crate) fn new(
        config: &DiscoveryConfig,
        discovery: SocketAddr,
        advertise: &[Multiaddr],
        bound: &[Multiaddr],
    ) -> Self {
        let is_v4 = discovery.is_ipv4();
        let ip = config.advertise_ip.into_iter().chain(advertise.iter().filter_map(ip_of));
        let ip = ip.chain([discovery.ip()]).find(|ip| ip.is_ipv4() == is_v4 && !ip.is_unspecified());
        // A name has no IP version.
        let fits = |address: &&Multiaddr| ip_of(address).is_none_or(|ip| ip.is_ipv4() == is_v4);
        let port =
            |port: fn(&Multiaddr) -> Option<u16>| advertise.iter().chain(bound).filter(fits).find_map(port);
        let udp = config.advertise_port.map(NonZeroU16::get).or_else(|| port(udp_port));
        let udp = udp.unwrap_or(discovery.port());
        Self { ip, is_v4, udp, tcp: port(tcp_port), quic: port(quic_port) }
    }

    /// Whether others have to tell the node its IP.
    pub(crate) const fn is_unknown(&self) -> bool {
        self.ip.is_none()
    }
}

/// The node's record. As long as it says the same, `previous` stays what it is, sequence number included; a
/// change raises the number by one, and the first record has `first`.
pub(crate) fn build(
    key: &CombinedKey,
    chain_id: u64,
    reach: Reach,
    previous: Option<&Enr>,
    first: u64,
) -> Result<Enr, Error> {
    let previous = previous.filter(|record| record.public_key() == enr::EnrKey::public(key));
    let with = |seq: u64| {
        let mut record = Builder::default();
        record.seq(seq).add_value(CHAIN, &chain_id);
        // What others have told the node in an earlier run is better than nothing.
        let told = previous.and_then(|record| {
            if reach.is_v4 { record.ip4().map(IpAddr::V4) } else { record.ip6().map(IpAddr::V6) }
        });
        if let Some(ip) = reach.ip.or(told) {
            record.ip(ip);
        }
        if reach.is_v4 {
            record.udp4(reach.udp);
        } else {
            record.udp6(reach.udp);
        }
        match reach.tcp {
            Some(port) if reach.is_v4 => drop(record.tcp4(port)),
            Some(port) => drop(record.tcp6(port)),
            None => {}
        }
        if let (Some(port), [quic, quic6]) = (reach.quic, QUIC) {
            record.add_value(if reach.is_v4 { quic } else { quic6 }, &port);
        }
        record.build(key)
    };
    let Some(previous) = previous else {
        return with(first);
    };
    if with(previous.seq())?.compare_content(previous) {
        return Ok(previous.clone());
    }
    with(previous.seq().saturating_add(1))
}

/// The chain that a record says its node is of.
pub(crate) fn chain(record: &Enr) -> Option<u64> {
    record.get_decodable::<u64>(CHAIN)?.ok()
}

/// The peer whose record it is; none for keys other than secp256k1.
pub(crate) fn peer_id(record: &Enr) -> Option<PeerId> {
    let CombinedPublicKey::Secp256k1(key) = record.public_key() else {
        return None;
    };
    let key = secp256k1::PublicKey::try_from_bytes(key.encode().as_ref()).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// Where libp2p reaches the node of a record.
pub(crate) fn addresses(record: &Enr) -> Vec<Multiaddr> {
    let [quic, quic6] = QUIC.map(|key| record.get_decodable::<u16>(key).and_then(Result::ok));
    let mut addresses = Vec::new();
    let mut add = |ip: Option<IpAddr>, tcp: Option<u16>, quic: Option<u16>| {
        let Some(ip) = ip.filter(|ip| !ip.is_unspecified() && !ip.is_multicast()) else {
            return;
        };
        let ip = Multiaddr::from(ip);
        if let Some(port) = tcp.filter(|port| *port != 0) {
            addresses.push(ip.clone().with(Protocol::Tcp(port)));
        }
        if let Some(port) = quic.filter(|port| *port != 0) {
            addresses.push(ip.with(Protocol::Udp(port)).with(Protocol::QuicV1));
        }
    };
    add(record.ip4().map(IpAddr::V4), record.tcp4(), quic);
    add(record.ip6().map(IpAddr::V6), record.tcp6(), quic6);
    addresses
}

fn tcp_port(address: &Multiaddr) -> Option<u16> {
    match address.iter().nth(1) {
        Some(Protocol::Tcp(port)) => Some(port),
        _ => None,
    }
}

/// The port of an address that is only discovery's.
pub(crate) fn udp_port(address: &Multiaddr) -> Option<u16> {
    let mut parts = address.iter().skip(1);
    match (parts.next(), parts.next()) {
        (Some(Protocol::Udp(port)), None) => Some(port),
        _ => None,
    }
}

fn quic_port(address: &Multiaddr) -> Option<u16> {
    let mut parts = address.iter().skip(1);
    match (parts.next(), parts.next()) {
        (Some(Protocol::Udp(port)), Some(Protocol::QuicV1)) => Some(port),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;
    use crate::identity::enr_key;

    const TCP: &str = "/ip4/192.0.2.1/tcp/9222";
    const QUIC: &str = "/ip4/192.0.2.1/udp/9223/quic-v1";

    fn addresses_of(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn reach(discovery: &str, advertise: &[&str], bound: &[&str]) -> Reach {
        let listen = discovery.parse().unwrap();
        let config = DiscoveryConfig::new(listen);
        Reach::new(&config, listen, &addresses_of(advertise), &addresses_of(bound))
    }

    #[test]
    fn a_record_says_who_and_where_the_node_is_and_of_which_chain() {
        let identity = Keypair::generate_secp256k1();
        let reach = reach("192.0.2.1:9000", &[], &[TCP, QUIC]);
        let record = build(&enr_key(&identity).unwrap(), 167_000, reach, None, 7).unwrap();
        assert_eq!(record.seq(), 7);
        assert_eq!(record.udp4_socket(), Some("192.0.2.1:9000".parse().unwrap()));
        // Through its text, as others get it.
        let record: Enr = record.to_base64().parse().unwrap();
        assert_eq!(chain(&record), Some(167_000));
        assert_eq!(peer_id(&record), Some(identity.public().to_peer_id()));
        assert_eq!(addresses(&record), addresses_of(&[TCP, QUIC]));
    }

    #[test]
    fn advertised_ports_stand_in_the_place_of_the_bound_ones() {
        let advertise = ["/ip4/192.0.2.7/tcp/30303", "/ip4/192.0.2.7/udp/30304"];
        let reach = reach("0.0.0.0:9000", &advertise, &[TCP]);
        let record = build(&enr_key(&Keypair::generate_secp256k1()).unwrap(), 1, reach, None, 1).unwrap();
        assert_eq!(record.udp4_socket(), Some("192.0.2.7:30304".parse().unwrap()));
        assert_eq!(addresses(&record), addresses_of(&advertise[..1]));
    }

    #[test]
    fn version_six_has_its_own_keys() {
        let key = enr_key(&Keypair::generate_secp256k1()).unwrap();
        let bound = ["/ip6/2001:db8::1/tcp/1", "/ip6/2001:db8::1/udp/2/quic-v1", TCP];
        let record = build(&key, 1, reach("[2001:db8::1]:9000", &[], &bound), None, 1).unwrap();
        assert_eq!(addresses(&record), addresses_of(&bound[..2]));
        assert_eq!((record.tcp4(), record.udp6()), (None, Some(9000)));
    }

    #[test]
    fn the_sequence_number_is_kept_until_something_changes() {
        let key = enr_key(&Keypair::generate_secp256k1()).unwrap();
        let first = reach("192.0.2.1:9000", &[], &[TCP]);
        let record = build(&key, 1, first, None, 100).unwrap();
        let again = build(&key, 1, first, Some(&record), 200).unwrap();
        assert_eq!(again.to_base64(), record.to_base64());
        let moved = build(&key, 1, reach("192.0.2.1:9001", &[], &[TCP]), Some(&again), 200).unwrap();
        assert_eq!((moved.seq(), moved.udp4()), (101, Some(9001)));
        let quic = build(&key, 1, reach("192.0.2.1:9001", &[], &[TCP, QUIC]), Some(&moved), 200).unwrap();
        assert_eq!(quic.seq(), 102);
        let other_chain = build(&key, 2, reach("192.0.2.1:9001", &[], &[TCP]), Some(&quic), 200).unwrap();
        assert_eq!((other_chain.seq(), chain(&other_chain)), (103, Some(2)));
        // What is gone from the node is gone from its record.
        assert_eq!(addresses(&other_chain).len(), 1);
        // The record of another identity is none of ours.
        let untrusted = enr_key(&Keypair::generate_secp256k1()).unwrap();
        assert_eq!(build(&untrusted, 1, first, Some(&record), 200).unwrap().seq(), 200);
    }

    #[test]
    fn what_others_told_is_kept_as_long_as_the_node_itself_does_not_know() {
        let key = enr_key(&Keypair::generate_secp256k1()).unwrap();
        let unknown = reach("0.0.0.0:9000", &[], &["/ip4/10.0.0.1/tcp/9222"]);
        assert!(unknown.is_unknown());
        let mut told = build(&key, 1, unknown, None, 1).unwrap();
        assert_eq!(addresses(&told), []);
        told.set_ip("192.0.2.1".parse().unwrap(), &key).unwrap();
        let again = build(&key, 1, unknown, Some(&told), 1).unwrap();
        assert_eq!(again.to_base64(), told.to_base64());
        assert_eq!(addresses(&again), addresses_of(&[TCP]));
    }

    #[test]
    fn advertised_addresses_come_before_bound_ones() {
        let behind = reach("0.0.0.0:9000", &["/ip4/192.0.2.1/tcp/443"], &["/ip4/10.0.0.1/tcp/9222"]);
        assert_eq!((behind.ip, behind.tcp, behind.udp), (Some([192, 0, 2, 1].into()), Some(443), 9000));
        let named = reach("0.0.0.0:9000", &["/dns4/example.org/tcp/443"], &["/ip4/10.0.0.1/tcp/9222"]);
        assert_eq!((named.ip, named.tcp), (None, Some(443)));
    }

    #[test]
    fn what_is_configured_for_the_record_comes_first() {
        let listen = "0.0.0.0:9000".parse().unwrap();
        let mut config = DiscoveryConfig::new(listen);
        config.advertise_ip = Some([192, 0, 2, 9].into());
        config.advertise_port = NonZeroU16::new(30303);
        let reach = Reach::new(&config, listen, &addresses_of(&[TCP]), &[]);
        assert_eq!((reach.ip, reach.udp, reach.tcp), (config.advertise_ip, 30303, Some(9222)));
        // Not of the version of discovery.
        config.advertise_ip = Some([0x2600, 0, 0, 0, 0, 0, 0, 1].into());
        assert_eq!(Reach::new(&config, listen, &addresses_of(&[TCP]), &[]).ip, Some([192, 0, 2, 1].into()));
    }

    #[test]
    fn other_keys_have_no_record() {
        assert!(enr_key(&Keypair::generate_ed25519()).is_none());
        let key = CombinedKey::generate_ed25519();
        let record = Enr::builder().build(&key).unwrap();
        assert_eq!(peer_id(&record), None);
        assert_eq!(chain(&record), None);
        assert!(addresses(&record).is_empty());
    }
}
