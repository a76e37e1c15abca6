//! Files that options name, and options with a form of their own, for fuzzing.

use std::{fmt::Display, str::FromStr};

use p2p_types::UnixSeconds;
use p2p_validation::Lookahead as _;

use super::{
    args::{BaseArg, PeerRateLimit, StaticPeer},
    leniency::Leniency,
    lookahead::LookaheadSource,
    preset::Preset,
    publish::Block,
    slasher::Slasher,
};
use crate::{domain::Domain, rotation::Rotation};

/// The file of `--network`; whether it describes one.
#[must_use]
pub fn preset(toml: &str) -> bool {
    Preset::parse(toml).is_ok()
}

/// The file of a rotating schedule, asked at some moments; whether it is one.
///
/// # Panics
/// If a turn is over when it begins.
#[must_use]
pub fn rotation(json: &str, moments: &[u64]) -> bool {
    let Some(schedule) = Rotation::parse(json).ok().and_then(|rotation| rotation.schedule().ok()) else {
        return false;
    };
    for moment in moments {
        let moment = UnixSeconds::new(*moment);
        if let Some(slot) = schedule.turn(moment) {
            assert!(slot.window.start <= moment && moment <= slot.window.end, "another turn");
        }
        let _admission = schedule.admissible(moment, moment);
    }
    true
}

/// A line of the file of `--publish`; whether it is a block.
#[must_use]
pub fn block(json: &[u8]) -> bool {
    Block::parse(json).is_ok()
}

/// The value of each option that has a form of its own: how many of them take it.
#[must_use]
pub fn options(text: &str) -> usize {
    fn takes<T: FromStr>(text: &str) -> bool {
        text.parse::<T>().is_ok()
    }
    fn comes_back<T: FromStr<Err: Display> + Display + PartialEq>(text: &str) -> bool {
        let Ok(read) = text.parse::<T>() else { return false };
        assert!(read.to_string().parse::<T>().is_ok_and(|again| again == read), "shown otherwise: {read}");
        true
    }
    let taken = [
        takes::<BaseArg>(text),
        takes::<StaticPeer>(text),
        takes::<PeerRateLimit>(text),
        takes::<Leniency>(text),
        comes_back::<LookaheadSource>(text),
        takes::<Slasher>(text),
        takes::<Domain>(text),
    ];
    taken.iter().filter(|taken| **taken).count()
}
