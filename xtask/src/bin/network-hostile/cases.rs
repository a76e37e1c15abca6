//! The adversaries: what each does, and what the score table says about it.

use std::collections::HashMap;

use libp2p::{PeerId, identity::Keypair};
use preconfirmation_types::{Container as _, SigningKey, Topic};

use crate::{
    frames::{self, Author},
    gossip_cases,
    peer::{Plan, Script},
    peer_cases, request_cases,
    rig::{CHAIN, Failure, commitment, preconfer},
};

/// What the table of scores says about an adversary.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Charged by the application's score: a malformed or wrong answer, an invalid message.
    Charged,
    /// Below zero by gossipsub's own count of frames without a valid signature.
    Rejected,
    /// Nothing: being slow, silent, greedy or one of many is no offence.
    Untouched,
    /// Nothing, but its connection is cut.
    Disconnected,
}

/// What the victim asks the adversary, if anything.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    Nothing,
    Head,
    Page,
}

/// An adversary.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) asks: Asks,
    pub(crate) expected: Expected,
    /// How many do the same, each under its own name.
    pub(crate) crowd: u32,
    /// Whether the honest nodes also gossip large lists.
    pub(crate) lists: bool,
    /// Whether the victim limits loopback addresses as it does those of the open internet.
    pub(crate) public: bool,
    /// Whether the newcomer is one that the victim has heard of and has to find, instead of one that dials it.
    pub(crate) found: bool,
    pub(crate) plan: fn(&Keypair, u32) -> Result<Plan, Failure>,
}

impl Case {
    pub(crate) const fn new(
        name: &'static str,
        expected: Expected,
        plan: fn(&Keypair, u32) -> Result<Plan, Failure>,
    ) -> Self {
        Self {
            name,
            plan,
            asks: Asks::Nothing,
            expected,
            crowd: 1,
            lists: false,
            public: false,
            found: false,
        }
    }

    const fn asked(self, asks: Asks) -> Self {
        Self { asks, ..self }
    }

    /// The honest nodes also gossip large lists.
    pub(crate) const fn beside_lists(self) -> Self {
        Self { lists: true, ..self }
    }

    /// So many do the same.
    pub(crate) const fn by(self, crowd: u32) -> Self {
        Self { crowd, ..self }
    }

    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        all().chain([&FOUR_OF_TWENTY]).find(|case| case.name == name)
    }

    /// What it does, as this peer; floods are prepared for so many seconds.
    pub(crate) fn plan(&self, identity: &Keypair, seconds: u32) -> Result<Plan, Failure> {
        (self.plan)(identity, seconds)
    }
}

/// Who an adversary is: another one for each number.
pub(crate) fn identity(number: u32) -> Result<Keypair, Failure> {
    let mut secret = [0xad; 32];
    secret.iter_mut().zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
    Ok(Keypair::ed25519_from_bytes(secret)?)
}

pub(crate) fn peer(number: u32) -> Result<PeerId, Failure> {
    Ok(identity(number)?.public().to_peer_id())
}

/// How hard the floods are, a second, on each connection.
pub(crate) const FLOOD: u32 = 2000;

/// Streams of requests at a time.
const STREAMS: usize = 200;

const HEAD: [u8; 64] = [7; 64];

/// One at a time on a victim between an author and a reader.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    ALL.iter().chain(&gossip_cases::ALL).chain(&request_cases::ALL).chain(&peer_cases::ALL)
}

static ALL: [Case; 14] = [
    Case::new("OversizePrefix", Expected::Charged, |_, _| {
        Ok(head_answer(vec![0xff, 0xff, 0xff, 0xff, 0x0f], false))
    })
    .asked(Asks::Head),
    Case::new("HalfFrame", Expected::Untouched, |_, _| Ok(head_answer([&[64], &HEAD[..32]].concat(), true)))
        .asked(Asks::Head),
    Case::new("NonMinimalVarint", Expected::Charged, |_, _| Ok(head_answer(vec![0xc0, 0x00], false)))
        .asked(Asks::Head),
    Case::new("TrailingBytes", Expected::Charged, |_, _| {
        Ok(head_answer(frames::frame(&[&HEAD[..], &[7]].concat()), false))
    })
    .asked(Asks::Head),
    Case::new("WrongOffsets", Expected::Charged, |_, _| page_answer(5, 1)).asked(Asks::Page),
    Case::new("OtherRange", Expected::Untouched, |_, _| page_answer(4, 999)).asked(Asks::Page),
    Case::new("Dripper", Expected::Untouched, |_, _| {
        // A frame that takes for ever to come, a byte a second.
        let frames = [vec![vec![126]], vec![vec![0xff]; 100]].concat();
        Ok(Plan { requests: Some((Script::new(frames, 1), STREAMS)), ..Plan::default() })
    }),
    Case::new("RequestFlood", Expected::Untouched, |_, _| {
        let request = frames::frame(&4_u32.to_le_bytes());
        let requests = Some((Script::new(vec![request], 0), STREAMS));
        Ok(Plan { requests, requests_per_second: Some(FLOOD), ..Plan::default() })
    }),
    Case {
        crowd: 200,
        ..Case::new("ConnectionFlood", Expected::Untouched, |_, _| {
            Ok(Plan { returns: true, ..Plan::default() })
        })
    },
    Case {
        lists: true,
        ..Case::new("DeafReader", Expected::Disconnected, |_, _| {
            Ok(Plan { gossip: Some(Script::new(vec![join()], 0)), deaf: true, ..Plan::default() })
        })
    },
    Case::new("Anonymous", Expected::Rejected, |key, seconds| {
        flood(key, seconds, |topic, number, ssz| frames::publish(&Author::Nobody, topic, number, ssz))
    }),
    Case::new("ForgedAuthor", Expected::Rejected, |key, seconds| {
        let another = Keypair::generate_ed25519().public().to_peer_id();
        flood(key, seconds, |topic, number, ssz| {
            frames::publish(&Author::Forged(key, another), topic, number, ssz)
        })
    }),
    Case::new("InvalidFlood", Expected::Charged, invalid),
    Case::new("IdenticalFlood", Expected::Untouched, |key, seconds| {
        let known = commitment(1, &preconfer()?).to_ssz();
        flood(key, seconds, |topic, number, _| frames::publish(&Author::Honest(key), topic, number, &known))
    }),
];

/// Floods of four peers among twenty, against four neighbours each.
pub(crate) static FOUR_OF_TWENTY: Case = Case::new("InvalidFloodBy4Of20", Expected::Charged, invalid);

/// Commitments that nobody elected, properly gossiped.
fn invalid(key: &Keypair, seconds: u32) -> Result<Plan, Failure> {
    flood(key, seconds, |topic, number, ssz| frames::publish(&Author::Honest(key), topic, number, ssz))
}

/// Answers a head request with these bytes.
fn head_answer(answer: Vec<u8>, hold: bool) -> Plan {
    Plan { answers: HashMap::from([("get_head", (answer, hold))]), ..Plan::default() }
}

/// Answers a page request with this block behind this offset.
fn page_answer(offset: u32, block: u64) -> Result<Plan, Failure> {
    let page = [&offset.to_le_bytes()[..], &commitment(block, &preconfer()?).to_ssz()].concat();
    let answers = HashMap::from([("get_commitments_by_number", (frames::frame(&page), false))]);
    Ok(Plan { answers, ..Plan::default() })
}

/// Joins both topics and then publishes what is written for each number and a commitment to that block by
/// whom nobody has elected.
fn flood(key: &Keypair, seconds: u32, write: impl Fn(&str, u64, &[u8]) -> Vec<u8>) -> Result<Plan, Failure> {
    let topic = Topic::Commitments.on_chain(CHAIN);
    // Each attacker has its own, so that no node knows them from another.
    let mut secret = [1; 32];
    secret.iter_mut().zip(key.public().to_peer_id().to_bytes().iter().rev().take(31)).for_each(
        |(to, from)| {
            *to = *from;
        },
    );
    let mut ssz = commitment(0, &SigningKey::from_bytes(secret)?).to_ssz();
    let messages = (0..u64::from(FLOOD.saturating_mul(seconds))).map(|number| {
        // Another block under the signature: as if yet another stranger had signed it.
        ssz.iter_mut().skip(1).zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
        write(&topic, number, &ssz)
    });
    let frames = std::iter::once(join()).chain(messages).collect();
    Ok(Plan { gossip: Some(Script::new(frames, FLOOD)), ..Plan::default() })
}

pub(crate) fn join() -> Vec<u8> {
    frames::join(&Topic::ALL.map(|topic| topic.on_chain(CHAIN)))
}
