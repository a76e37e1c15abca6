//! Draws what is known. Narrow terminals get fewer columns, low ones fewer rows; nothing depends on colour alone.

use std::time::Instant;

use p2p_types::HeadSyncStatus;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Style, Stylize as _},
    text::{Line, Span},
    widgets::{Gauge, Paragraph, Row, Sparkline, Table, Wrap},
};

use super::{
    screen::{Screen, State},
    status::{Block, Peer, Status},
    text::{height, milliseconds, number, plain, round_trip, short, span},
};

/// From this width on there is room for all columns, and for two tables side by side.
const WIDE: u16 = 110;

/// Below this width a row has what matters most.
const NARROW: u16 = 60;

/// Draws the screen.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen, now: Instant, coloured: bool) {
    let (state, reason) = screen.state(now);
    let heading = heading(screen, state, reason, coloured);
    let width = frame.area().width;
    let lines = lines(&heading, width);
    let [top, rest] = Layout::vertical([Constraint::Length(lines), Constraint::Fill(1)]).areas(frame.area());
    frame.render_widget(Paragraph::new(heading).wrap(Wrap { trim: true }), top);
    let Some((status, at)) = &screen.last else { return };
    let node_ms = u128::from(status.time_ms) + now.saturating_duration_since(*at).as_millis();
    body(frame, rest, status, u64::try_from(node_ms / 1000).unwrap_or(u64::MAX));
}

/// How many rows these lines take, wrapped.
fn lines(lines: &[Line<'_>], width: u16) -> u16 {
    let rows = lines.iter().map(|line| line.width().div_ceil(usize::from(width.max(1))).max(1));
    // Words are not broken, so a row may be left early.
    u16::try_from(rows.sum::<usize>() + usize::from(width < NARROW)).unwrap_or(u16::MAX)
}

fn heading(screen: &Screen, state: State, reason: String, coloured: bool) -> Vec<Line<'static>> {
    let colour = match state {
        State::Live => Color::Green,
        State::Disconnected => Color::Red,
        _ => Color::Yellow,
    };
    let style = if coloured { Style::new().fg(colour) } else { Style::new() };
    let mut lines =
        vec![Line::from(vec![Span::styled(state.label(), style).bold(), Span::raw("  "), Span::raw(reason)])];
    let Some((status, _)) = &screen.last else {
        lines.push(Line::from(plain(&screen.source, 100)));
        return lines;
    };
    let peers = status.peers.iter().filter(|peer| peer.ready).count();
    let lag = status.applied.zip(status.target()).map(|(applied, target)| target.saturating_sub(applied));
    lines.push(Line::from(format!(
        "head {}  behind by {}  peers {peers}  delivery {}",
        height(status.applied),
        height(lag),
        median(&status.blocks).map_or_else(|| "–".into(), milliseconds)
    )));
    lines.extend(warnings(status).into_iter().map(|warning| Line::from(format!("! {warning}"))));
    lines
}

/// The median time from a block's timestamp until it was stored, of what came by gossip.
fn median(blocks: &[Block]) -> Option<i64> {
    let mut delays: Vec<i64> =
        blocks.iter().filter(|block| block.origin == "gossip").filter_map(|block| block.delay_ms).collect();
    delays.sort_unstable();
    delays.get(delays.len() / 2).copied()
}

fn warnings(status: &Status) -> Vec<String> {
    let mut warnings: Vec<String> = status
        .policies
        .leniencies
        .iter()
        .take(4)
        .map(|text| format!("loosened: {}", plain(text, 100)))
        .collect();
    if status.suspects_itself {
        warnings.push("several peers sign what this node does not expect".into());
    }
    if let Some(duplicate) = &status.duplicate_identity {
        warnings.push(format!("another node uses the key of this one ({})", plain(&duplicate.sign, 20)));
    }
    if status.clock.off || status.clock.unusable {
        let offset = status.clock.offset.unwrap_or_default();
        warnings
            .push(format!("what preconfers sign arrives {offset} s after its timestamp: check the clock"));
    }
    warnings
}

fn body(frame: &mut Frame<'_>, area: Rect, status: &Status, now: u64) {
    let wide = area.width >= WIDE;
    let syncs = status.applied.zip(status.target()).is_some_and(|(applied, target)| target > applied);
    let [sync, turn, next, charts, tables, evidence, drops, node] = Layout::vertical([
        Constraint::Length(u16::from(syncs)),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(4),
        Constraint::Fill(1),
        Constraint::Length(1),
        Constraint::Length(if wide { 1 } else { 2 }),
        Constraint::Length(1),
    ])
    .areas(area);
    if syncs {
        draw_sync(frame, sync, status);
    }
    draw_turn(frame, turn, next, status, now);
    draw_charts(frame, charts, status);
    let halves = if wide {
        Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2)
    } else {
        Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)])
    };
    let [blocks, peers] = halves.areas(tables);
    frame.render_widget(block_table(status, blocks.width), blocks);
    frame.render_widget(peer_table(status, peers.width), peers);
    frame.render_widget(Paragraph::new(evidence_line(status)), evidence);
    frame.render_widget(Paragraph::new(drop_line(status)).wrap(Wrap { trim: true }), drops);
    let node_line = format!(
        "q ends · p2p-node {} on chain {}, {}, up {}",
        plain(&status.version, 16),
        status.chain_id,
        short(&status.peer),
        span(now.saturating_sub(status.started))
    );
    frame.render_widget(Paragraph::new(node_line).dim(), node);
}

/// Words, and a bar behind them where there is room.
fn bar(frame: &mut Frame<'_>, area: Rect, words: String, ratio: f64) {
    let ratio = if ratio.is_finite() { ratio.clamp(0.0, 1.0) } else { 0.0 };
    let words = Line::from(words);
    let length = u16::try_from(words.width()).unwrap_or(u16::MAX);
    let [left, right] =
        Layout::horizontal([Constraint::Length(length), Constraint::Fill(1)]).spacing(1).areas(area);
    frame.render_widget(words, left);
    frame.render_widget(Gauge::default().ratio(ratio).use_unicode(true), right);
}

/// The share of a whole.
#[allow(clippy::cast_precision_loss, reason = "for a bar of some tens of cells")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn draw_sync(frame: &mut Frame<'_>, area: Rect, status: &Status) {
    let (Some(applied), Some(target)) = (status.applied, status.target()) else { return };
    let begun =
        status.history.iter().filter_map(|(_, applied, _)| *applied).min().unwrap_or(applied).min(applied);
    let left = target.saturating_sub(applied);
    let rate = match status.sync {
        HeadSyncStatus::Syncing { commitments_per_second: rate @ 1.., .. } => {
            format!(", {} left", span(left / u64::from(rate)))
        }
        _ => String::new(),
    };
    let words = format!("sync: {} blocks to go{rate}", number(left));
    bar(frame, area, words, share(applied - begun, target.saturating_sub(begun)));
}

fn draw_turn(frame: &mut Frame<'_>, area: Rect, below: Rect, status: &Status, now: u64) {
    if status.policies.lookahead == "open" {
        frame.render_widget(Paragraph::new("turn: anybody may sign (--lookahead open)"), area);
        return;
    }
    match &status.schedule.now {
        Some(turn) => {
            let whole = turn.end.saturating_add(1).saturating_sub(turn.start);
            let over = now.saturating_sub(turn.start).min(whole);
            let words = format!("turn: {}, {} left", short(&turn.signer), span(whole - over));
            bar(frame, area, words, share(over, whole));
        }
        None => frame.render_widget(Paragraph::new("turn: nobody, as far as this node knows"), area),
    }
    let next = status.schedule.next.as_ref().map_or_else(
        || "next: not known".into(),
        |turn| format!("next: {}, in {}", short(&turn.signer), span(turn.start.saturating_sub(now))),
    );
    frame.render_widget(Paragraph::new(next).dim(), below);
}

fn draw_charts(frame: &mut Frame<'_>, area: Rect, status: &Status) {
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas(area);
    let known: Vec<(u64, u64)> =
        status.history.iter().filter_map(|(_, applied, target)| applied.zip(*target)).collect();
    let growth: Vec<u64> =
        known.windows(2).filter_map(|two| Some(two.last()?.0.saturating_sub(two.first()?.0))).collect();
    let lags: Vec<u64> = known.iter().map(|(applied, target)| target.saturating_sub(*applied)).collect();
    let most = |values: &[u64]| number(values.iter().copied().max().unwrap_or_default());
    chart(frame, left, format!("new blocks, most {}", most(&growth)), &growth);
    chart(frame, right, format!("behind by, most {}", most(&lags)), &lags);
}

/// The newest values, as many as there are columns.
fn chart(frame: &mut Frame<'_>, area: Rect, title: String, values: &[u64]) {
    let [above, bars] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    frame.render_widget(Paragraph::new(title).dim(), above);
    let newest = values.get(values.len().saturating_sub(usize::from(bars.width))..).unwrap_or(values);
    frame.render_widget(Sparkline::default().data(newest), bars);
}

fn block_table(status: &Status, width: u16) -> Table<'static> {
    let narrow = width < NARROW;
    let rows = status.blocks.iter().rev().take(64).map(|block| {
        let delivered = block.delay_ms.map_or_else(|| "sync".into(), milliseconds);
        let state = match block {
            Block { replaced: true, .. } => "✕ replaced",
            Block { handover: true, .. } => "⇢ handover",
            Block { list_ms: None, .. } => "… no list",
            _ => "✓ complete",
        };
        let mut cells = vec![number(block.block), delivered, state.into()];
        if !narrow {
            cells.push(short(&block.signer));
            cells.push(block.peer.as_ref().map_or_else(|| "this node".into(), |peer| short(peer)));
        }
        Row::new(cells)
    });
    let mut columns = vec![Constraint::Length(12), Constraint::Length(10), Constraint::Length(10)];
    let mut names = vec!["block", "delivered", "state"];
    if !narrow {
        columns.extend([Constraint::Length(13), Constraint::Fill(1)]);
        names.extend(["signer", "from"]);
    }
    Table::new(rows, columns).header(Row::new(names).bold())
}

fn peer_table(status: &Status, width: u16) -> Table<'static> {
    let narrow = width < NARROW;
    let rank = |peer: &Peer| if peer.banned_for.is_some() { 2_u8 } else { u8::from(!peer.ready) };
    let useful = |peer: &Peer| peer.delivered.commitments.saturating_add(peer.delivered.txlists);
    let mut peers: Vec<&Peer> = status.peers.iter().collect();
    peers.sort_by(|a, b| (rank(a), useful(b), &a.peer).cmp(&(rank(b), useful(a), &b.peer)));
    let rows = peers.into_iter().take(64).map(|peer| {
        let mark = ["●", "…", "✕"].get(usize::from(rank(peer))).copied().unwrap_or_default();
        let delivered = format!("{}+{}", number(peer.delivered.commitments), number(peer.delivered.txlists));
        let mut cells =
            vec![format!("{mark} {}", short(&peer.peer)), format!("{:.1}", peer.score), delivered];
        if !narrow {
            cells.push(peer.round_trip.map_or_else(|| "–".into(), round_trip));
            cells.push(peer.agent.as_ref().map_or_else(|| "–".into(), |agent| plain(agent, 60)));
        }
        Row::new(cells)
    });
    let mut columns = vec![Constraint::Length(15), Constraint::Length(7), Constraint::Length(12)];
    let mut names = vec!["peer", "score", "blocks+lists"];
    if !narrow {
        columns.extend([Constraint::Length(8), Constraint::Fill(1)]);
        names.extend(["trip", "agent"]);
    }
    Table::new(rows, columns).header(Row::new(names).bold())
}

fn evidence_line(status: &Status) -> String {
    let found = status.evidence.found;
    let Some(latest) = status.evidence.latest.last() else {
        return format!("evidence: {}", if found == 0 { "none".into() } else { number(found) });
    };
    format!(
        "evidence: {}, last {} by {} at {}",
        number(found),
        plain(&latest.kind, 20),
        short(&latest.signer),
        number(latest.block)
    )
}

fn drop_line(status: &Status) -> String {
    let drops = &status.drops;
    format!(
        "drops: {} invalid, {} of no use, {} queue full or old, {} events, {} HTTP",
        number(drops.rejected),
        number(drops.ignored),
        number(drops.dropped),
        number(drops.events_missed),
        number(drops.http_displaced.saturating_add(drops.http_slow))
    )
}

#[cfg(test)]
mod tests;
