//! Where peers are: node records, bootnodes, multiaddresses, agent strings, and the book of known peers.

use std::{
    cell::RefCell,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroUsize,
    sync::OnceLock,
};

use alloy_rlp::Decodable as _;
use discv5::Enr;
use enr::{Builder, CombinedKey};
use libp2p::{Multiaddr, identity::Keypair, multiaddr::Protocol};
use preconfirmation_p2p::{Bootnode, IpRange, NetworkConfig, fuzz};
use preconfirmation_types::rate_limit::{AdvertisedBounds, MAX_ADVERTISED_WINDOW, RateLimit};

use crate::{chain::peer, input::Input};

/// A node record: as bytes, as text, or signed with any content.
pub fn enr(data: &[u8]) {
    let mut input = Input::new(data);
    let record = match input.byte() % 4 {
        0 => Enr::decode(&mut input.rest()).ok(),
        1 => std::str::from_utf8(input.rest()).ok().and_then(|text| text.parse().ok()),
        _ => signed_record(&mut input),
    };
    if let Some(record) = record {
        read_record(&record);
    }
}

/// A record with any values for the keys that are read.
fn signed_record(input: &mut Input<'_>) -> Option<Enr> {
    static KEY: OnceLock<CombinedKey> = OnceLock::new();
    let key = KEY.get_or_init(|| CombinedKey::secp256k1_from_bytes(&mut [7; 32]).unwrap());
    let mut record = Builder::default();
    record.seq(input.u64());
    while !input.is_empty() {
        let name = input
            .choose(&["taiko", "ip", "ip6", "udp", "udp6", "tcp", "tcp6", "quic", "quic6", "id", "eth2"]);
        let len = input.below(20);
        let value = input.bytes(len);
        // One item of RLP, as the format asks of each value.
        let mut item = Vec::new();
        alloy_rlp::Encodable::encode(value, &mut item);
        record.add_value_rlp(name, item.into());
    }
    // Not all that is signed is read again.
    Enr::decode(&mut alloy_rlp::encode(record.build(key).ok()?).as_slice()).ok()
}

fn read_record(record: &Enr) {
    let (chain, peer, addresses) = fuzz::record(record);
    assert!(addresses.len() <= 4);
    for address in &addresses {
        let (bare, of, has_ip, _) = fuzz::address(address);
        assert!(has_ip && of.is_none() && bare == *address);
    }
    let text = record.to_base64();
    let again: Enr = text.parse().expect("a record is read as it was shown");
    assert_eq!(fuzz::record(&again), (chain, peer, addresses));
    if let Ok(bootnode) = text.parse::<Bootnode>() {
        assert_eq!(bootnode.to_string().parse(), Ok(bootnode));
    }
}

/// A bootnode, whose text comes back.
pub fn bootnode(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(bootnode) = text.parse::<Bootnode>() {
        assert_eq!(bootnode.to_string().parse::<Bootnode>(), Ok(bootnode), "{text}");
    }
}

/// A multiaddress as bytes or text, and a range of IP addresses.
pub fn address(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let text = || std::str::from_utf8(data).ok();
    let address = match kind % 3 {
        0 => Multiaddr::try_from(data.to_vec()).ok(),
        1 => text().and_then(|text| text.parse().ok()),
        _ => {
            if let Some(Ok(range)) = text().map(str::parse::<IpRange>) {
                assert_eq!(range.to_string().parse(), Ok(range));
                assert_eq!(IpRange::new(range.ip(), range.bits()), Some(range), "its lowest address");
            }
            None
        }
    };
    if let Some(address) = address {
        let (bare, peer, has_ip, is_global) = fuzz::address(&address);
        assert!(has_ip || !is_global);
        if let Some(peer) = peer {
            assert_eq!(bare.with(Protocol::P2p(peer)), address, "the peer was at its end");
        }
    }
}

/// An agent string: what it advertises stays within the bounds.
pub fn agent(data: &[u8]) {
    let mut input = Input::new(data);
    let size = |n: u16| NonZeroUsize::new(usize::from(n)).unwrap_or(NonZeroUsize::MIN);
    let bounds = AdvertisedBounds { max_requests: size(input.u16()), max_per_second: size(input.u16()) };
    let Ok(text) = std::str::from_utf8(input.rest()) else { return };
    let Some(limit) = RateLimit::from_agent(text, &bounds) else { return };
    assert!(limit.requests <= bounds.max_requests);
    assert!(limit.window <= MAX_ADVERTISED_WINDOW && !limit.window.is_zero());
    let per_second = limit.requests.get() as f64 / limit.window.as_secs_f64();
    let least = MAX_ADVERTISED_WINDOW.as_secs_f64().recip();
    assert!(per_second <= (bounds.max_per_second.get() as f64).max(least) * 1.001, "{limit:?} {bounds:?}");
}

const KNOWN: usize = 6;
const PER_IP: usize = 2;
const PER_SUBNET: usize = 3;

/// Few addresses, so that they meet.
fn place(input: &mut Input<'_>, with: bool) -> Multiaddr {
    let (ip, port) = (input.byte(), u16::from(input.byte() % 4) + 1);
    let address: IpAddr = match ip % 8 {
        0..4 => Ipv4Addr::new(9, 9, ip % 2, ip / 8 % 4).into(),
        4 | 5 => Ipv6Addr::new(0x2600, 1, ip.into(), 0, 0, 0, 0, 1).into(),
        6 => Ipv4Addr::new(9, 9, 0, 1).to_ipv6_mapped().into(),
        _ => Ipv4Addr::LOCALHOST.into(),
    };
    let address = Multiaddr::from(address).with(Protocol::Tcp(port));
    if with { address.with(Protocol::P2p(peer(ip % 3))) } else { address }
}

/// What untrusted peers say of addresses: the book of known peers stays within its bounds, and is read as it is written.
pub fn peer_book(data: &[u8]) {
    thread_local! {
        static CONFIG: RefCell<NetworkConfig> = RefCell::new(config());
    }
    let mut input = Input::new(data);
    let mut book = fuzz::PeerBook::new(CONFIG.with(|config| config.borrow().clone()));
    let mut steps = 0;
    while !input.is_empty() && steps < 32 {
        steps += 1;
        let (what, whom) = (input.byte() % 8, peer(input.byte() % 12));
        let with = input.bool();
        match what {
            0..3 => {
                let addresses = (0..input.below(6)).map(|_| place(&mut input, with)).collect();
                book.discovered(whom, addresses, input.bool().then(|| "enr:-x".into()));
            }
            3..6 => {
                let (at, inbound, ready) =
                    (place(&mut input, with), input.bool(), !input.byte().is_multiple_of(4));
                let listen = (0..input.below(6)).map(|_| place(&mut input, with)).collect();
                book.identified(whom, at, inbound, ready, listen);
            }
            6 => book.dial_failed(&whom),
            _ => {
                let count = input.below(8);
                for (_, addresses) in book.dial(count) {
                    assert!(addresses.len() <= 4);
                }
            }
        }
    }
    let file = book.file(7);
    check_file(&file);
    let mut restarted = fuzz::PeerBook::new(CONFIG.with(|config| config.borrow().clone()));
    assert!(restarted.restore(std::str::from_utf8(&file).unwrap(), 7));
    check_file(&restarted.file(7));
}

fn config() -> NetworkConfig {
    let mut config = NetworkConfig::new(7, Keypair::ed25519_from_bytes([9; 32]).unwrap());
    let size = |n| NonZeroUsize::new(n).unwrap();
    (config.peers.known, config.seed) = (size(KNOWN), Some(1));
    (config.peers.known_per_ip, config.peers.known_per_subnet) = (size(PER_IP), size(PER_SUBNET));
    config
}

/// No more peers than are remembered, in all, at one address and in one subnet.
fn check_file(file: &[u8]) {
    let document: serde_json::Value = serde_json::from_slice(file).unwrap();
    let peers = document["peers"].as_array().unwrap();
    assert!(peers.len() <= KNOWN);
    let ips = |peer: &serde_json::Value| -> Vec<IpAddr> {
        let addresses = peer["addresses"].as_array().unwrap().iter();
        let ip = |address: &serde_json::Value| {
            let address: Multiaddr = address.as_str().unwrap().parse().unwrap();
            assert!(!matches!(address.iter().last(), Some(Protocol::P2p(_))), "{address} names its peer");
            address.iter().find_map(|part| match part {
                Protocol::Ip4(ip) => Some(IpAddr::from(ip)),
                Protocol::Ip6(ip) => Some(IpAddr::from(ip).to_canonical()),
                _ => None,
            })
        };
        addresses.filter_map(ip).collect()
    };
    let all: Vec<Vec<IpAddr>> = peers.iter().map(ips).collect();
    let most = |group: fn(&IpAddr) -> Option<u128>, limit: usize| {
        let mut groups: Vec<u128> = all
            .iter()
            .flat_map(|ips| {
                let mut of_peer: Vec<u128> = ips.iter().filter_map(group).collect();
                of_peer.sort_unstable();
                of_peer.dedup();
                of_peer
            })
            .collect();
        groups.sort_unstable();
        let most = groups.chunk_by(|one, other| one == other).map(<[u128]>::len).max().unwrap_or(0);
        assert!(most <= limit, "{most} of {limit} in a group");
    };
    // Loopback is not told apart.
    most(|ip| host(ip, 0, 64), PER_IP);
    most(|ip| host(ip, 8, 80), PER_SUBNET);
}

/// The first bits of an IP, but for the last so many of IPv4 and of IPv6; none of what is not told apart.
fn host(ip: &IpAddr, v4: u32, v6: u32) -> Option<u128> {
    match ip {
        IpAddr::V4(ip) if ip.is_loopback() => None,
        IpAddr::V4(ip) => Some((ip.to_bits() >> v4).into()),
        IpAddr::V6(ip) => Some((1 << 127) | (ip.to_bits() >> v6)),
    }
}
