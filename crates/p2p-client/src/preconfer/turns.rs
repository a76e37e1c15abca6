//! Whose turn it is, by the schedule and the client's clock.

use std::time::Duration;

use p2p_types::{Address, UnixSeconds};
use p2p_validation::{Lookahead, LookaheadError, Slot, Window};
use tokio::time::sleep;

use super::Preconfer;

/// Most windows that are looked at for our next turn.
const MOST: usize = 1024;
/// Most windows that contain one moment.
const OVERLAPPING: usize = 4;
/// How often the clock is read. Windows begin and end at whole seconds.
const TICK: Duration = Duration::from_millis(200);

/// Whether a slot is ours.
fn is_ours(lookahead: &dyn Lookahead, slot: &Slot, signer: Address) -> bool {
    slot.signer == signer || lookahead.elects_anyone()
}

/// The slot after one.
fn after(lookahead: &dyn Lookahead, slot: &Slot) -> Result<Option<Slot>, LookaheadError> {
    match slot.window.end.get().checked_add(1) {
        Some(next) => lookahead.turn(UnixSeconds::new(next)),
        None => Ok(None),
    }
}

/// The window of a signer that contains a moment. That of its predecessor may contain it, too.
pub(super) fn turn_at(
    lookahead: &dyn Lookahead,
    signer: Address,
    moment: UnixSeconds,
) -> Result<Option<Window>, LookaheadError> {
    let mut slot = lookahead.turn(moment)?;
    for _ in 0..OVERLAPPING {
        let Some(at) = slot.filter(|slot| slot.window.start <= moment) else { break };
        if is_ours(lookahead, &at, signer) && at.window.contains(moment) {
            return Ok(Some(at.window));
        }
        slot = after(lookahead, &at)?;
    }
    Ok(None)
}

/// The first window of a signer that ends at `from` or later.
pub(super) fn next_turn(
    lookahead: &dyn Lookahead,
    signer: Address,
    from: UnixSeconds,
) -> Result<Option<Window>, LookaheadError> {
    let mut slot = lookahead.turn(from)?;
    for _ in 0..MOST {
        let Some(at) = slot else { break };
        if is_ours(lookahead, &at, signer) {
            return Ok(Some(at.window));
        }
        slot = after(lookahead, &at)?;
    }
    Ok(None)
}

/// A change of turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Our window has begun. The predecessor's may last a little longer:
    /// [`readiness`](Preconfer::readiness) says when to begin.
    Begun(Window),
    /// Our window is over, or the schedule does not elect us for it any more.
    Ended(Window),
}

/// The turns of a signer as they begin and end. See [`Preconfer::turns`].
#[derive(Debug)]
pub struct Turns {
    preconfer: Preconfer,
    /// The window that has begun.
    current: Option<Window>,
}

impl Turns {
    pub(super) const fn new(preconfer: Preconfer) -> Self {
        Self { preconfer, current: None }
    }

    /// The next change; none when the client has ended. One that begins and ends between two calls is not told.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Turn> {
        loop {
            if self.preconfer.client.state.borrow().ended.is_some() {
                return None;
            }
            if let Some(turn) = self.change() {
                return Some(turn);
            }
            sleep(TICK).await;
        }
    }

    /// What has changed.
    fn change(&mut self) -> Option<Turn> {
        let now = self.preconfer.client.clock.now();
        let present = match self.preconfer.turn_at(now) {
            Ok(present) => present,
            // A schedule that fails says nothing new; a clock that has passed the end does.
            Err(_) => self.current.filter(|window| window.contains(now)),
        };
        match (self.current, present) {
            (Some(before), present) if present != Some(before) => {
                self.current = None;
                Some(Turn::Ended(before))
            }
            (None, Some(window)) => {
                self.current = Some(window);
                Some(Turn::Begun(window))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use p2p_validation::StaticSchedule;

    use super::*;

    const US: Address = Address::repeat_byte(1);
    const OTHER: Address = Address::repeat_byte(2);

    fn window(start: u64, end: u64) -> Window {
        Window { start: UnixSeconds::new(start), end: UnixSeconds::new(end) }
    }

    /// Their windows begin 10 s before the one before ends.
    struct Overlapping;

    impl Lookahead for Overlapping {
        fn turn(&self, moment: UnixSeconds) -> Result<Option<Slot>, LookaheadError> {
            let turn = moment.get().saturating_sub(10) / 100;
            let signer = if turn == 0 { OTHER } else { US };
            let window = window((turn * 100).max(1), turn * 100 + 109);
            Ok((turn < 2).then_some(Slot { signer, window }))
        }
    }

    #[test]
    fn a_turn_is_the_window_of_the_signer_that_contains_the_moment() {
        let slot = |signer, start, end| Slot { signer, window: window(start, end) };
        let schedule =
            StaticSchedule::new(vec![slot(OTHER, 10, 19), slot(US, 30, 39), slot(OTHER, 40, 49)]).unwrap();
        let at = |moment| turn_at(&schedule, US, UnixSeconds::new(moment)).unwrap();
        let ours = Some(window(30, 39));
        assert_eq!([9, 10, 29, 30, 39, 40, 50].map(at), [None, None, None, ours, ours, None, None]);
        let next = |moment| next_turn(&schedule, US, UnixSeconds::new(moment)).unwrap();
        assert_eq!([9, 10, 29, 30, 39, 40, 50].map(next), [None, ours, ours, ours, ours, None, None]);
    }

    #[test]
    fn a_turn_begins_while_the_one_before_lasts_where_windows_overlap() {
        let at = |moment| turn_at(&Overlapping, US, UnixSeconds::new(moment)).unwrap();
        assert_eq!([99, 100, 109, 110, 209, 210].map(at), {
            let ours = Some(window(100, 209));
            [None, ours, ours, ours, ours, None]
        });
    }
}
