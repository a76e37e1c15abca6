//! Adversaries that take places of connections, or fill what a node remembers of its peers.

use std::{net::Ipv4Addr, time::Duration};

use libp2p::identity::Keypair;

use crate::{
    cases::{Case, Expected},
    peer::Plan,
};

pub(crate) static ALL: [Case; 6] = [
    // Connections on which nothing is said, each from another host, again when they are closed: more than there are places
    // in negotiation.
    Case {
        crowd: 200,
        public: true,
        ..Case::new("IdleSockets", Expected::Untouched, |key, _| {
            Ok(Plan { idle: true, host: spread(key, u8::MAX), ..Plan::default() })
        })
    },
    // Names that come for a moment with a rate limit for which they would have to be remembered for seven weeks.
    Case {
        crowd: 1000,
        ..Case::new("AbsurdAgent", Expected::Untouched, |_, _| {
            let agent = Some("hostile requests=1/4294967295ms");
            Ok(Plan { agent, leaves: Some(Duration::from_millis(200)), ..Plan::default() })
        })
    },
    // Keys of ten subnets that want all places and come back.
    Case {
        crowd: 200,
        public: true,
        ..Case::new("Eclipse", Expected::Untouched, |key, _| {
            Ok(Plan { returns: true, host: spread(key, 10), ..Plan::default() })
        })
    },
    // Keys of four subnets that want all that a victim remembers and dials: they come, say where they listen, go, and stay where
    // they are dialled there.
    Case {
        crowd: 200,
        public: true,
        found: true,
        ..Case::new("EclipseBook", Expected::Untouched, |key, _| {
            let leaves = Some(Duration::from_millis(300));
            Ok(Plan { returns: true, listens: true, leaves, host: spread(key, 4), ..Plan::default() })
        })
    },
    // Peers that say a hundred times a second that they listen somewhere else (Identify).
    Case::new("IdentifyPushes", Expected::Untouched, |_, _| Ok(Plan { moves: true, ..Plan::default() }))
        .by(20),
    // Keys of one host that want all places and come back.
    Case {
        crowd: 200,
        public: true,
        ..Case::new("ManyKeysOneHost", Expected::Untouched, |_, _| {
            Ok(Plan { returns: true, host: Ipv4Addr::new(127, 77, 0, 1), ..Plan::default() })
        })
    },
];

/// A host in one of so many subnets.
fn spread(key: &Keypair, subnets: u8) -> Ipv4Addr {
    let id = key.public().to_peer_id().to_bytes();
    match id.as_slice() {
        [.., subnet, host] => Ipv4Addr::new(127, 66, subnet % subnets, 1 + host % 250),
        _ => Ipv4Addr::LOCALHOST,
    }
}
