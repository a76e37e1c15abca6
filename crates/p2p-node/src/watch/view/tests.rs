use std::time::Duration;

use ratatui::{Terminal, backend::TestBackend, buffer::Buffer};
use serde_json::{Value, json};

use super::{
    super::{error::AskError, fetch::Answer},
    *,
};

/// A node that is behind, with a peer of this agent.
fn status(agent: &str) -> Value {
    let sync = json!({ "state": "syncing", "applied": 1_000_040, "seen": 1_000_100, "target": 1_000_120,
        "commitments_per_second": 16, "txlists_missing": 3, "peers": 1 });
    let signer = "0xedd2ff18289db175e9e4b55f00e61c1f7ee151eb";
    let peer = "16Uiu2HAm5oxA4njcndd3QwpJY5pkfoZdLNkGsfh9RR6YWENRMxDz";
    json!({
        "version": "0.1.0", "started": 1_000, "time_ms": 2_000_500, "peer": peer, "chain_id": 167_000,
        "readiness": { "ready": false, "reasons": [{ "reason": "not_live", "sync": sync }] },
        "sync": sync, "applied": 1_000_040,
        "peers": [
            { "peer": peer, "agent": agent, "score": 4.31, "ready": true, "round_trip": { "secs": 0, "nanos": 3_342_203 },
              "delivered": { "commitments": 40, "txlists": 38 } },
            { "peer": signer, "agent": null, "score": -120.0, "banned_for": { "secs": 60, "nanos": 0 } } ],
        "schedule": { "now": { "signer": signer, "start": 1_990, "end": 2_001 },
            "next": { "signer": peer, "start": 2_002, "end": 2_013 } },
        "blocks": [
            { "block": 1_000_038, "signer": signer, "origin": "sync", "peer": peer, "delay_ms": null, "list_ms": 3 },
            { "block": 1_000_039, "signer": signer, "origin": "gossip", "peer": peer, "delay_ms": 340, "list_ms": null },
            { "block": 1_000_040, "signer": signer, "origin": "gossip", "peer": peer, "delay_ms": 12, "list_ms": 0, "replaced": true } ],
        "history": [[1_980, 1_000_000, 1_000_000], [1_985, 1_000_010, 1_000_080], [1_990, 1_000_040, 1_000_120]],
        "evidence": { "found": 1, "latest": [{ "kind": "equivocation", "signer": signer, "block": 1_000_031 }] },
        "drops": { "rejected": 12, "ignored": 3 },
        "policies": { "lookahead": "l1", "leniencies": [] },
    })
}

fn screen(status: Value, at: Instant) -> Screen {
    let mut screen = Screen::new("http://127.0.0.1:8080/status".into());
    screen.answered(Ok(Answer::Status(serde_json::from_value(status).unwrap())), at);
    screen
}

/// What such a terminal shows.
fn drawn(screen: &Screen, now: Instant, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, screen, now, true)).unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let rows = buffer.content().chunks(usize::from(buffer.area.width));
    let rows = rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>());
    rows.map(|row| row.trim_end().to_owned() + "\n").collect()
}

fn snapshot(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/watch/view/tests");
    std::fs::read_to_string(format!("{folder}/{name}.txt")).unwrap()
}

#[test]
fn a_terminal_shows_the_status_of_a_node() {
    let now = Instant::now();
    let shown = text(&drawn(&screen(status("preconfirmation-p2p/0.1.0"), now), now, 80, 26));
    assert_eq!(shown, snapshot("80x26"), "{shown}");
}

#[test]
fn a_terminal_of_40_columns_shows_what_matters_most() {
    let now = Instant::now();
    let shown = text(&drawn(&screen(status("preconfirmation-p2p/0.1.0"), now), now, 40, 26));
    assert_eq!(shown, snapshot("40x26"), "{shown}");
}

#[test]
fn a_wide_terminal_has_both_tables_side_by_side() {
    let now = Instant::now();
    let shown = text(&drawn(&screen(status("agent/1"), now), now, 140, 24));
    assert!(shown.lines().any(|row| row.contains("delivered") && row.contains("blocks+lists")), "{shown}");
}

#[test]
fn no_terminal_is_too_small() {
    let now = Instant::now();
    let screen = screen(status("agent/1"), now);
    for (width, height) in [(1, 1), (1, 50), (7, 3), (40, 5), (200, 1), (39, 12)] {
        drawn(&screen, now, width, height);
    }
}

#[test]
fn a_node_that_goes_away_is_shown_as_disconnected() {
    let begun = Instant::now();
    let mut screen = screen(status("agent/1"), begun);
    for _ in 0..2 {
        screen.answered(Err(AskError::Code(502)), begun);
    }
    let shown = text(&drawn(&screen, begun + Duration::from_secs(7), 80, 26));
    assert!(shown.starts_with("✕ DISCONNECTED  HTTP 502; what is below is 7 s old\n"), "{shown}");
    assert!(shown.contains("head 1,000,040"), "what was known stays: {shown}");
    assert!(shown.contains("turn: 0xedd2…e151eb, 0 s left"), "the clock goes on: {shown}");
}

#[test]
fn a_hostile_agent_cannot_move_the_cursor_or_draw_elsewhere() {
    let now = Instant::now();
    let hostile = "\u{1b}[2J\u{1b}[1;1H\u{202e}owned\r\n\u{9b}31m\u{7}";
    let mut status = status(hostile);
    let tame = text(&drawn(&screen(status.clone(), now), now, 80, 26));
    assert!(tame.contains("�[2J�[1;1H�owned��"), "{tame}");
    assert!(tame.starts_with("▲ BEHIND"), "{tame}");
    // The same in each text that an attacker may choose.
    for field in [
        "/version",
        "/peer",
        "/schedule/now/signer",
        "/blocks/0/signer",
        "/blocks/0/peer",
        "/peers/0/peer",
        "/evidence/latest/0/kind",
        "/readiness/reasons/0/reason",
    ] {
        *status.pointer_mut(field).unwrap() = json!(hostile.repeat(50));
    }
    let buffer = drawn(&screen(status, now), now, 80, 26);
    for cell in buffer.content() {
        assert!(!cell.symbol().contains(|letter: char| letter.is_control() || letter == '\u{202e}'));
    }
}

#[test]
fn the_state_is_told_without_colour() {
    let now = Instant::now();
    let screen = screen(status("agent/1"), now);
    let mut terminal = Terminal::new(TestBackend::new(80, 26)).unwrap();
    terminal.draw(|frame| draw(frame, &screen, now, false)).unwrap();
    let buffer = terminal.backend().buffer();
    assert!(buffer.content().iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    assert_eq!(text(buffer), text(&drawn(&screen, now, 80, 26)));
}
