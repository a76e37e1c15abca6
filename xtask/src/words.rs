//! Words that this code once used in a meaning of its own, where libp2p, Ethereum and databases have a word.

use std::path::Path;

use crate::{
    error::Error,
    source::{self, Source},
};

/// How a retired word is looked for.
#[derive(Clone, Copy)]
enum Form {
    /// In prose and as a part of identifiers, whatever its case: `alarm` is in `AlarmClock` and `set_alarm`.
    Word,
    /// As words that follow each other in prose, or parts of one identifier.
    Phrase,
    /// As this identifier, in this case and no other: the word itself is good English.
    Identifier,
}

use Form::{Identifier, Phrase, Word};

/// Each retired word with what is said instead.
const RETIRED: &[(&str, Form, &str)] = &[
    // The network's pollers and its slow readers.
    ("alarm", Word, "wake flag"),
    ("bell", Word, "waker"),
    ("Quiet", Identifier, "poll-on-wake"),
    ("restless", Word, "always polled"),
    ("Menu", Identifier, "inbound protocols"),
    ("ear", Word, "slow-reader monitor"),
    ("Unread", Identifier, "outbound queue"),
    // Rates.
    ("pacer", Word, "outbound rate limiter"),
    ("Pace", Identifier, "rate limit"),
    ("lane", Word, "(peer, protocol)"),
    ("patience", Word, "request timeout"),
    ("careful", Word, "rate-limit cooldown"),
    ("till", Word, "response throttle"),
    ("desk", Word, "protocol state"),
    ("Asked", Identifier, "pending request"),
    ("in work", Phrase, "in flight"),
    // Peers.
    ("Keeping", Identifier, "peer manager"),
    ("parted", Word, "disconnected"),
    ("surplus", Word, "prune candidates"),
    ("stranger", Word, "untrusted peer"),
    // Publishing and the chain.
    ("outbox", Word, "publish queue"),
    ("unheard", Word, "no subscribers"),
    ("taps", Word, "lossless subscribers"),
    ("Judged", Identifier, "publish outcome"),
    ("goes out", Phrase, "is sent"),
    ("Side", Identifier, "non-canonical"),
    ("unsent", Word, "unpublished"),
    ("Wanted", Identifier, "missing txlists"),
    // Catch-up.
    ("hope", Word, "reset backoff"),
    ("doubt", Word, "invalidate heads"),
    ("greet", Word, "request head"),
    ("in vain", Phrase, "failed"),
    ("Stuck", Identifier, "stalled"),
    ("Walk", Identifier, "ancestor search"),
    ("descend", Word, "step back"),
    ("rising", Word, "step forward"),
    ("strayed", Word, "forked"),
    ("unkept", Word, "failed promises"),
    ("strike", Word, "fault"),
    ("hurry", Word, "hedge"),
    ("agenda", Word, "deadlines"),
    // The store.
    ("spoils", Word, "poisons"),
    ("ticket", Word, "write request"),
    ("ride", Word, "submit"),
    ("Place", Identifier, "row key"),
    ("AGE", Identifier, "index epoch"),
    // Everywhere.
    ("dice", Word, "RNG"),
    ("by chance", Phrase, "randomly"),
    ("for ever", Phrase, "indefinitely"),
    ("of late", Phrase, "recently"),
];

/// Retired words that a crate's own field has: the word, the crate.
const IN_THE_FIELD: &[(&str, &str)] = &[
    // Of a vector register.
    ("lane", "p2p-fastverify"),
];

/// A line, as it is searched.
struct Line<'a> {
    tokens: Vec<&'a str>,
    parts: Vec<String>,
}

impl<'a> Line<'a> {
    fn new(line: &'a str) -> Self {
        let tokens: Vec<_> = tokens(line).collect();
        let parts = tokens.iter().copied().flat_map(parts).collect();
        Self { tokens, parts }
    }

    /// Whether it has a retired word.
    fn has(&self, word: &str, form: Form) -> bool {
        let is = |part: &str, word: &str| {
            part == word || part.strip_suffix('s') == Some(word) && matches!(form, Word)
        };
        match form {
            Identifier => self.tokens.contains(&word),
            Word => self.parts.iter().any(|part| is(part, word)),
            Phrase => {
                let words: Vec<&str> = word.split(' ').collect();
                let mut windows = self.parts.windows(words.len());
                windows.any(|window| window.iter().zip(&words).all(|(part, word)| is(part, word)))
            }
        }
    }
}

/// The identifiers and words of a line.
fn tokens(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|token| !token.is_empty())
}

/// The words that an identifier is made of, in lower case.
fn parts(token: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut before_is_upper = true;
    for c in token.chars() {
        let begins = c == '_' || c.is_uppercase() && !before_is_upper;
        if begins {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut().filter(|_| c != '_') {
            part.extend(c.to_lowercase());
        }
        before_is_upper = c.is_uppercase();
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// The retired words of a file, each with its line.
fn retired(file: &Source) -> Vec<String> {
    let path = file.path.display().to_string();
    let in_the_field = |retired: &str| {
        IN_THE_FIELD.iter().any(|(word, of)| *word == retired && file.path.iter().any(|part| part == *of))
    };
    let mut found = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        let line = Line::new(line);
        for (word, form, instead) in RETIRED {
            if line.has(word, *form) && !in_the_field(word) {
                found.push(format!("{path}:{number}: {word} (say: {instead})"));
            }
        }
    }
    found
}

/// Checks the sources and tests of every crate.
pub(crate) fn check_workspace() -> Result<(), Error> {
    let mut found = Vec::new();
    for (_, folder) in source::crates()? {
        found.extend(source::rust_files(Path::new(&folder))?.iter().flat_map(retired));
    }
    Error::unless_empty(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_in_prose_and_in_identifiers_of_any_case() {
        for line in
            ["struct AlarmClock;", "fn set_alarm()", "/// Alarms.", "const ALARM: u8", "the alarm, then"]
        {
            assert!(Line::new(line).has("alarm", Word), "{line}");
        }
        for line in ["alarming", "malarmed", "a larm"] {
            assert!(!Line::new(line).has("alarm", Word), "{line}");
        }
    }

    #[test]
    fn a_phrase_is_its_words_in_order() {
        for line in ["// Asked in vain.", "fn asked_in_vain()", "InVain"] {
            assert!(Line::new(line).has("in vain", Phrase), "{line}");
        }
        for line in ["vain in", "in a vain", "invain"] {
            assert!(!Line::new(line).has("in vain", Phrase), "{line}");
        }
    }

    #[test]
    fn an_identifier_is_found_as_it_is_written_and_no_other() {
        assert!(Line::new("pub struct Walk;").has("Walk", Identifier));
        for line in ["walk", "Walks", "RandomWalk", "// to walk"] {
            assert!(!Line::new(line).has("Walk", Identifier), "{line}");
        }
    }

    #[test]
    fn each_retired_word_of_a_file_is_named_with_its_line() {
        let file = Source { path: "a.rs".into(), text: "struct A;\nstruct Bell(Dice);\n".into() };
        assert_eq!(retired(&file), ["a.rs:2: bell (say: waker)", "a.rs:2: dice (say: RNG)"]);
    }

    #[test]
    fn a_crate_keeps_the_words_of_its_own_field() {
        for (path, count) in [("crates/p2p-fastverify/src/lib.rs", 0), ("crates/p2p-client/src/lib.rs", 1)] {
            let file = Source { path: path.into(), text: "/// Eight lanes.".to_owned() };
            assert_eq!(retired(&file).len(), count, "{path}");
        }
    }
}
