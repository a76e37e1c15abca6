//! `p2p-node watch`: the status of a running node, here or elsewhere, in a terminal.
//!
//! | module | what lives there |
//! |---|---|
//! | [`fetch`] | asks the node |
//! | [`status`] | what it answers |
//! | [`screen`] | what is known of it, and whether it still answers |
//! | [`view`] | draws that |
//! | [`text`] | text from elsewhere, and figures |
//! | [`error`] | errors |

mod error;
mod fetch;
mod screen;
mod status;
mod text;
mod view;

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use ratatui::{
    Terminal,
    backend::TermionBackend,
    termion::{event::Key, input::TermRead as _, raw::IntoRawMode as _, screen::IntoAlternateScreen as _},
};
use tokio::{
    sync::{mpsc, watch},
    time::interval,
};

pub(crate) use error::WatchError;
use fetch::{Endpoint, Source};
use screen::Screen;

use crate::signals::Stop;

/// The answer of `/status`, for fuzzing: whether it is one.
#[cfg(feature = "test-utils")]
pub(crate) fn fuzz_status(json: &[u8]) -> bool {
    serde_json::from_slice::<status::Status>(json).is_ok()
}

/// Watch a running node in this terminal
///
/// Asks the node's /status every second (--status.addr of `run`) and shows head, lag, whose turn it is, blocks, peers,
/// evidence and drops. q, Esc or Ctrl-C ends it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  p2p-node watch                              the node on this host that runs with --status.addr 127.0.0.1:8080
  ssh -L 8080:127.0.0.1:8080 node.example     in another terminal, for a node elsewhere")]
pub(crate) struct WatchArgs {
    /// Where the node's status is: http or https, host and port
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: Source,
}

/// Between two drawings: the clock of the turn goes on while the node is not asked.
const REDRAW: Duration = Duration::from_millis(250);

/// Keys that wait to be looked at. Whoever types faster waits.
const KEYS: usize = 8;

/// Shows a node until the user or a signal ends it.
///
/// # Errors
/// [`WatchError`] if there is no terminal to draw on.
pub(crate) async fn run(args: WatchArgs, mut stop: Stop) -> Result<ExitCode, WatchError> {
    if !io::stdout().is_terminal() {
        return Err(WatchError::NoTerminal { status: args.url.to_string() });
    }
    let endpoint = Endpoint::new(&args.url)?;
    let shown = watch::Sender::new(Screen::new(args.url.to_string()));
    let mut changes = shown.subscribe();
    // The terminal is put back as it was when this is dropped.
    let stdout = io::stdout().into_raw_mode().and_then(|raw| raw.into_alternate_screen());
    let mut terminal =
        stdout.and_then(|stdout| Terminal::new(TermionBackend::new(stdout))).map_err(WatchError::Terminal)?;
    let mut keys = keys();
    let mut redraw = interval(REDRAW);
    let coloured = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let asking = fetch::ask_on(&endpoint, |answer, now| {
        shown.send_modify(|screen| screen.answered(answer, now));
    });
    tokio::pin!(asking);
    loop {
        let screen = changes.borrow_and_update().clone();
        terminal
            .draw(|frame| view::draw(frame, &screen, Instant::now(), coloured))
            .map_err(WatchError::Terminal)?;
        tokio::select! {
            biased;
            () = stop.requested() => break,
            // None: nobody can type any more.
            key = keys.recv() => if key.is_none_or(ends) { break },
            never = &mut asking => match never {},
            _ = changes.changed() => {}
            _ = redraw.tick() => {}
        }
    }
    terminal.show_cursor().map_err(WatchError::Terminal)?;
    Ok(ExitCode::SUCCESS)
}

fn ends(key: Key) -> bool {
    matches!(key, Key::Char('q') | Key::Esc | Key::Ctrl('c'))
}

/// What is typed. The thread that reads it ends with the process.
fn keys() -> mpsc::Receiver<Key> {
    let (typed, keys) = mpsc::channel(KEYS);
    thread::spawn(move || {
        io::stdin().keys().map_while(Result::ok).try_for_each(|key| typed.blocking_send(key))
    });
    keys
}
