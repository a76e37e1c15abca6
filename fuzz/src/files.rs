//! Files of a node and its options: configuration, networks, schedules, keys, known peers, exports, promises.

use std::cell::OnceCell;

use p2p_node::fuzz;
use p2p_types::{SigningDomain, UnixSeconds};
use p2p_validation::{Lookahead as _, StaticSchedule};
use preconfirmation_p2p::identity;

use crate::input::Input;

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// The file of `--config`.
pub fn config(data: &[u8]) {
    thread_local! {
        static OPTIONS: OnceCell<fuzz::Config> = const { OnceCell::new() };
    }
    let Some((kind, data)) = data.split_first() else { return };
    let Some(text) = text(data) else { return };
    // To read the values takes milliseconds.
    let values = *kind >= 250;
    OPTIONS.with(|options| {
        let keys = options.get_or_init(fuzz::config).read(text, false);
        if values && keys.is_some() {
            let read = options.get_or_init(fuzz::config).read(text, true);
            assert!(read.is_none() || read == keys);
        }
    });
}

/// The values of options that have a form of their own.
pub fn option(data: &[u8]) {
    if let Some(text) = text(data) {
        let _taken = fuzz::options(text);
    }
}

/// The file of `--network`.
pub fn network_file(data: &[u8]) {
    if let Some(text) = text(data) {
        let _is_one = fuzz::preset(text);
    }
}

/// Files of schedules: slots and rotations, asked at some moments.
pub fn schedule(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte();
    let moments = [input.u64() >> (kind / 2 % 64), 0, 1_000, u64::MAX];
    let Some(text) = text(input.rest()) else { return };
    if kind.is_multiple_of(2) {
        let _is_one = fuzz::rotation(text, &moments);
        return;
    }
    let Ok(schedule) = StaticSchedule::from_json(text) else { return };
    for slots in schedule.slots().windows(2) {
        assert!(slots[0].window.end < slots[1].window.start, "one after the other");
    }
    for moment in moments.map(UnixSeconds::new) {
        let turn = schedule.turn(moment).unwrap();
        let inside = schedule.slots().iter().find(|slot| slot.window.contains(moment));
        assert!(inside.is_none() || turn.as_ref() == inside, "the slot that a moment is in");
        assert!(turn.is_none_or(|slot| slot.window.end >= moment));
        let _admission = schedule.admissible(moment, moment);
    }
}

/// A key file.
pub fn key(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(key) = identity::from_hex(text) {
        assert!(text.trim().len() >= 64 && !key.public().to_peer_id().to_bytes().is_empty());
    }
}

/// The file of known peers: it is read as it is written again.
pub fn peers_file(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Some(again) = preconfirmation_p2p::fuzz::peers_file(text, 7) {
        let text = std::str::from_utf8(&again).unwrap();
        assert_eq!(preconfirmation_p2p::fuzz::peers_file(text, 7), Some(again.clone()));
    }
}

/// Lines of exports and of blocks to publish, and the answer of `/status`.
pub fn export(data: &[u8]) {
    let Some((kind, json)) = data.split_first() else { return };
    match kind % 4 {
        0 => drop(fuzz::export_line(json, true)),
        1 => drop(fuzz::export_line(json, false)),
        2 => drop(fuzz::block(json)),
        _ => {
            #[cfg(unix)]
            let _is_one = fuzz::status(json);
        }
    }
}

/// A file of promises of a shared guard.
pub fn promises(data: &[u8]) {
    let read = p2p_guard_postgres::fuzz::import(data, 7, SigningDomain::PLACEHOLDER);
    let lines = data.split_inclusive(|byte| *byte == b'\n').count();
    if let Ok(read) = read {
        assert_eq!(usize::try_from(read).unwrap() + 1, lines, "every line is a promise, but the first");
    }
}
