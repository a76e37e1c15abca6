//! The adversaries.

use std::collections::HashMap;

use libp2p::{PeerId, identity::Keypair};
use preconfirmation_types::{Container as _, SigningKey, Topic};

use crate::{
    frames::{self, Author},
    peer::{Plan, Script},
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

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) plan: Plan,
    pub(crate) asks: Asks,
    pub(crate) expected: Expected,
    /// How many do the same, each under its own name.
    pub(crate) crowd: usize,
    /// Whether the honest nodes also gossip large lists.
    pub(crate) lists: bool,
    pub(crate) identity: Keypair,
}

impl Case {
    fn new(name: &'static str, plan: Plan, expected: Expected) -> Self {
        let identity = Keypair::generate_ed25519();
        Self { name, plan, asks: Asks::Nothing, expected, crowd: 1, lists: false, identity }
    }

    /// Answers a head request with these bytes, or a page request.
    fn answers(name: &'static str, asks: Asks, answer: Vec<u8>, hold: bool, expected: Expected) -> Self {
        let protocol = if asks == Asks::Page { "get_commitments_by_number" } else { "get_head" };
        let plan = Plan { answers: HashMap::from([(protocol, (answer, hold))]), ..Plan::default() };
        Self { asks, ..Self::new(name, plan, expected) }
    }

    pub(crate) fn peer(&self) -> PeerId {
        self.identity.public().to_peer_id()
    }
}

/// How hard the floods are, a second; and how long they last.
const FLOOD: u32 = 2000;

/// All of them; floods last so many seconds.
pub(crate) fn all(seconds: u32) -> Result<Vec<Case>, Failure> {
    use Expected::{Charged, Disconnected, Rejected, Untouched};
    let head = vec![7; 64];
    let (trailing, half) =
        ([frames::frame(&[head.as_slice(), &[7]].concat())].concat(), [&[64], &head[..32]].concat());
    let wrong_offset =
        frames::frame(&[&5_u32.to_le_bytes()[..], &commitment(1, &preconfer()?).to_ssz()].concat());
    let other_range =
        frames::frame(&[&4_u32.to_le_bytes()[..], &commitment(999, &preconfer()?).to_ssz()].concat());
    let request = frames::frame(&4_u32.to_le_bytes());
    let drip = |bytes: u8| (0..bytes).map(|_| vec![0xff]).collect::<Vec<_>>();

    let mut cases = vec![
        Case::answers("OversizePrefix", Asks::Head, vec![0xff, 0xff, 0xff, 0xff, 0x0f], false, Charged),
        Case::answers("HalfFrame", Asks::Head, half, true, Untouched),
        Case::answers("NonMinimalVarint", Asks::Head, vec![0xc0, 0x00], false, Charged),
        Case::answers("TrailingBytes", Asks::Head, trailing, false, Charged),
        Case::answers("WrongOffsets", Asks::Page, wrong_offset, false, Charged),
        Case::answers("OtherRange", Asks::Page, other_range, false, Charged),
        Case::new(
            "Dripper",
            // A length that takes for ever to come: four bytes, then nothing more.
            Plan {
                requests: Some((Script::new([vec![vec![126]], drip(100)].concat(), 1), 200)),
                ..Plan::default()
            },
            Untouched,
        ),
        Case::new(
            "RequestFlood",
            Plan { requests: Some((Script::new(vec![request], 0), 200)), ..Plan::default() },
            Untouched,
        ),
        Case { crowd: 200, ..Case::new("ConnectionFlood", Plan::default(), Untouched) },
    ];
    let deaf = Plan { gossip: Some(Script::new(vec![join()], 0)), deaf: true, ..Plan::default() };
    cases.push(Case { lists: true, ..Case::new("DeafReader", deaf, Disconnected) });

    let flood = |name, expected, write: &dyn Fn(&Keypair, u64) -> Vec<u8>, messages: u32| {
        let mut case = Case::new(name, Plan::default(), expected);
        let messages = (0..u64::from(messages)).map(|number| write(&case.identity, number));
        let frames = std::iter::once(join()).chain(messages).collect();
        case.plan.gossip = Some(Script::new(frames, FLOOD));
        case
    };
    let topic = Topic::Commitments.on_chain(CHAIN);
    let stranger = SigningKey::from_bytes([8; 32])?;
    let ssz = |number| commitment(number, &stranger).to_ssz();
    let another = Keypair::generate_ed25519().public().to_peer_id();
    let known = commitment(1, &preconfer()?).to_ssz();
    let of = FLOOD * seconds;
    cases.push(flood(
        "Anonymous",
        Rejected,
        &|_, n| frames::publish(&Author::Nobody, &topic, n, &ssz(n)),
        100,
    ));
    cases.push(flood(
        "ForgedAuthor",
        Rejected,
        &|key, n| frames::publish(&Author::Forged(key, another), &topic, n, &ssz(n)),
        100,
    ));
    cases.push(flood(
        "InvalidFlood",
        Charged,
        &|key, n| frames::publish(&Author::Honest(key), &topic, n, &ssz(n)),
        of,
    ));
    cases.push(flood(
        "IdenticalFlood",
        Untouched,
        &|key, n| frames::publish(&Author::Honest(key), &topic, n, &known),
        of,
    ));
    Ok(cases)
}

/// The plan of an attacker that floods with invalid commitments of its own.
pub(crate) fn invalid_flood(identity: &Keypair, seconds: u32) -> Result<Plan, Failure> {
    let topic = Topic::Commitments.on_chain(CHAIN);
    // Each attacker has its own, so that no node knows them from another.
    let secret = identity.public().to_peer_id().to_bytes();
    let mut bytes = [1; 32];
    bytes.iter_mut().zip(secret.iter().rev().take(31)).for_each(|(to, from)| *to = *from);
    let stranger = SigningKey::from_bytes(bytes)?;
    let messages = (0..u64::from(FLOOD * seconds)).map(|number| {
        frames::publish(&Author::Honest(identity), &topic, number, &commitment(number, &stranger).to_ssz())
    });
    let frames = std::iter::once(join()).chain(messages).collect();
    Ok(Plan { gossip: Some(Script::new(frames, FLOOD)), ..Plan::default() })
}

fn join() -> Vec<u8> {
    frames::join(&Topic::ALL.map(|topic| topic.on_chain(CHAIN)))
}
