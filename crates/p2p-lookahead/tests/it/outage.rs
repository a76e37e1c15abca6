//! L1 is away for long.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use p2p_fixtures::{key, rules, sign};
use p2p_lookahead::Source;
use p2p_types::{B256, U256, UnixSeconds};
use p2p_validation::{Arrival, Missing, ValidationOutcome, Validator};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::{
    endpoints::{Endpoint, Mood},
    node::{Follower, Node, config, start, tail},
};

/// What is logged about endpoints, at the level of information and above.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(Level, String)>>>);

impl Log {
    fn lines(&self, level: Level, word: &str) -> usize {
        let lines = self.0.lock().unwrap();
        lines.iter().filter(|(of, line)| *of == level && line.contains(word)).count()
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.lock().unwrap().push((*event.metadata().level(), message.0));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// What a validator makes of a block of key 1 in an epoch of the whitelist.
fn judge(validator: &Validator, epoch: u64) -> ValidationOutcome<p2p_validation::Elected> {
    let timestamp = start(epoch) + 100;
    let preconf = preconfirmation_types::Preconfirmation {
        timestamp: U256::from(timestamp),
        submission_window_end: U256::from(tail(epoch)),
        ..p2p_fixtures::preconf(11, B256::ZERO, B256::repeat_byte(1))
    };
    let signed = validator.authenticate_signed(sign(&key(1), preconf)).unwrap();
    validator.elect(signed, Arrival::History(UnixSeconds::new(timestamp)))
}

#[tokio::test]
async fn ten_minutes_without_l1_cost_nobody_anything() {
    let Some(node) = Node::start().await else { return };
    let whitelist = node.whitelist(&[key(1).address()]).await;
    let endpoint = Endpoint::before(&node, Mood::Good).await;
    let log = Log::default();
    let _logged = tracing::subscriber::set_default(log.clone());
    let mut follower =
        Follower::start(config(std::slice::from_ref(&endpoint.url), Source::Contract(whitelist)));
    follower.reaches(node.mine_to(start(1) + 192).await).await;
    let validator = Validator::new(rules(), follower.lookahead.clone());

    endpoint.turn(Mood::Hung);
    tokio::time::pause();
    let before = follower.lookahead.status().calls;
    for _minute in 0..10 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        for known in [1, 2] {
            assert!(matches!(judge(&validator, known), ValidationOutcome::Accept(_)), "epoch {known}");
        }
        let waits = ValidationOutcome::Defer(Missing::Schedule(UnixSeconds::new(tail(3))));
        assert_eq!(judge(&validator, 3), waits);
    }
    let status = follower.lookahead.status();
    assert!(status.endpoints[0].failure.is_some(), "{status:?}");
    // Pauses grow to 30 s, with as much jitter again, and each question waits 10 s for its answer.
    assert!((8..=40).contains(&(status.calls - before)), "{} questions", status.calls - before);
    assert_eq!((log.lines(Level::WARN, "an endpoint fails"), log.lines(Level::WARN, "")), (1, 1));

    endpoint.turn(Mood::Good);
    // Its last pause ends.
    tokio::time::advance(Duration::from_secs(40)).await;
    tokio::time::resume();
    let head = node.mine_to(start(3)).await;
    follower.reaches(head).await;
    assert!(matches!(judge(&validator, 3), ValidationOutcome::Accept(_)));
    assert_eq!(log.lines(Level::INFO, "an endpoint has recovered"), 1);
    assert_eq!(log.lines(Level::WARN, ""), 1);
    follower.stop().await;
}
