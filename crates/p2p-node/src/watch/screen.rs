//! What is known of the node, and whether it still answers.

use std::time::Instant;

use super::{
    error::AskError,
    fetch::Answer,
    status::{Readiness, Status},
    text::{number, plain, span},
};

/// What is on the screen.
#[derive(Debug, Clone)]
pub(super) struct Screen {
    pub(super) source: String,
    /// The newest status, and when it came.
    pub(super) last: Option<(Box<Status>, Instant)>,
    /// Why the node does not run yet.
    starting: Option<Readiness>,
    /// How many questions in a row were lost, and why the last one was.
    failures: u32,
    error: Option<String>,
    late: bool,
}

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Connecting,
    Starting,
    Live,
    /// It knows of blocks that it does not have, or may.
    Behind,
    /// It follows the chain, but something else is missing.
    NotReady,
    Disconnected,
}

impl State {
    /// For those who see no colour.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Connecting => "… CONNECTING",
            Self::Starting => "… STARTING",
            Self::Live => "● LIVE",
            Self::Behind => "▲ BEHIND",
            Self::NotReady => "▲ NOT READY",
            Self::Disconnected => "✕ DISCONNECTED",
        }
    }
}

impl Screen {
    pub(super) const fn new(source: String) -> Self {
        Self { source, last: None, starting: None, failures: 0, error: None, late: false }
    }

    /// A question was answered, or was not.
    pub(super) fn answered(&mut self, answer: Result<Answer, AskError>, now: Instant) {
        self.late = matches!(answer, Err(AskError::Late));
        match answer {
            Ok(answer) => {
                (self.failures, self.error, self.starting) = (0, None, None);
                match answer {
                    Answer::Status(status) => self.last = Some((status, now)),
                    Answer::Starting(readiness) => self.starting = Some(readiness),
                }
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                self.error = Some(plain(&error.to_string(), 200));
            }
        }
    }

    /// How the node is, and why. A single question may be lost; one that took all its time was not.
    pub(super) fn state(&self, now: Instant) -> (State, String) {
        if self.failures > 1 || self.late {
            let error = self.error.as_deref().unwrap_or("no answer");
            let age = self.last.as_ref().map(|(_, at)| now.saturating_duration_since(*at).as_secs());
            let age = age.map(|age| format!("; what is below is {} old", span(age))).unwrap_or_default();
            return (State::Disconnected, format!("{error}{age}"));
        }
        if let Some(readiness) = &self.starting {
            return (State::Starting, reasons(readiness));
        }
        match &self.last {
            None => (State::Connecting, "asks the node for its status".into()),
            Some((status, _)) if status.readiness.ready => (State::Live, "it follows the chain".into()),
            Some((status, _)) => {
                let behind = status.readiness.reasons.iter().any(|reason| reason.reason == "not_live");
                let state = if behind { State::Behind } else { State::NotReady };
                (state, reasons(&status.readiness))
            }
        }
    }
}

fn reasons(readiness: &Readiness) -> String {
    let reasons = readiness.reasons.iter().map(|reason| {
        let error = reason.error.as_ref().map(|error| format!(": {}", plain(error, 120))).unwrap_or_default();
        match reason.reason.as_str() {
            "starting" => "it opens its store or joins the network".into(),
            "not_live" => reason.sync.to_string(),
            "no_peers" => "no peer can be asked".into(),
            "schedule_unknown" => "the schedule does not say whose turn it is".into(),
            "schedule_failed" => format!("the schedule fails{error}"),
            "l1_stale" => match reason.seconds {
                Some(seconds) => format!("the newest block of L1 is {} s old{error}", number(seconds)),
                None => format!("L1 has not answered yet{error}"),
            },
            "l2_stale" => match reason.seconds {
                Some(seconds) => format!("L2 has not answered for {} s{error}", number(seconds)),
                None => format!("L2 has not answered yet{error}"),
            },
            other => plain(other, 80),
        }
    });
    reasons.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn status(readiness: serde_json::Value) -> Result<Answer, AskError> {
        Ok(Answer::Status(serde_json::from_value(json!({ "readiness": readiness, "applied": 7 })).unwrap()))
    }

    #[test]
    fn a_node_that_goes_away_is_disconnected_and_comes_back() {
        let begun = Instant::now();
        let mut screen = Screen::new("http://node/status".into());
        assert_eq!(screen.state(begun).0, State::Connecting);
        screen.answered(status(json!({ "ready": true })), begun);
        assert_eq!(screen.state(begun).0, State::Live);
        screen.answered(Err(AskError::Code(502)), begun);
        assert_eq!(screen.state(begun).0, State::Live, "one lost question");
        screen.answered(Err(AskError::Code(502)), begun);
        let later = begun + Duration::from_secs(9);
        let gone = (State::Disconnected, String::from("HTTP 502; what is below is 9 s old"));
        assert_eq!(screen.state(later), gone);
        screen.answered(status(json!({ "ready": true })), later);
        assert_eq!(screen.state(later).0, State::Live);
        screen.answered(Err(AskError::Late), later);
        assert_eq!(screen.state(later).0, State::Disconnected, "one that took all its time");
    }

    #[test]
    fn what_is_not_ready_says_why() {
        let now = Instant::now();
        let mut screen = Screen::new(String::new());
        let stalled = json!({ "state": "stalled", "why": "no_peers", "since": 5, "applied": 7, "seen": 9, "target": 9 });
        let reasons =
            json!([{ "reason": "not_live", "sync": stalled }, { "reason": "l1_stale", "seconds": 1234 }]);
        screen.answered(status(json!({ "ready": false, "reasons": reasons })), now);
        let why = "stalled at 7 of 9 since 5: no peers; the newest block of L1 is 1,234 s old";
        assert_eq!(screen.state(now), (State::Behind, why.to_owned()));
        let peers =
            json!({ "ready": false, "reasons": [{ "reason": "no_peers" }, { "reason": "new\u{1b}[2J" }] });
        screen.answered(status(peers.clone()), now);
        assert_eq!(screen.state(now), (State::NotReady, "no peer can be asked; new\u{fffd}[2J".to_owned()));
        screen.answered(Ok(Answer::Starting(serde_json::from_value(peers).unwrap())), now);
        assert_eq!(screen.state(now).0, State::Starting);
    }
}
