//! Whose turn it is.

use std::sync::Arc;

use p2p_client::{Lookahead, Slot, U256, UnixSeconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    failure::{Code, Failure},
    method::Maybe,
    node::Node,
    value::{Account, Quantity},
};

/// Most turns of an answer.
const TURNS: u32 = 256;

/// Turns of an answer where the caller does not say.
const USUAL: u32 = 16;

/// A moment from a number that may be anything.
pub(super) fn moment(number: U256) -> Result<UnixSeconds, Failure> {
    let seconds = u64::try_from(number);
    seconds.map(UnixSeconds::new).map_err(|_| {
        Failure::new(Code::InvalidParams, format_args!("the timestamp {number} is too new: beyond 64 bits"))
    })
}

/// Whose turn it is at a moment, which may be past.
pub(super) fn turn(
    lookahead: &dyn Lookahead,
    moment: UnixSeconds,
    now: UnixSeconds,
) -> Result<Slot, Failure> {
    let failed = |error| Failure::new(Code::Schedule, error);
    if let Some(slot) = lookahead.turn(moment).map_err(failed)? {
        return Ok(slot);
    }
    // A schedule that knows the present and not this moment never will, or not yet.
    match lookahead.turn(now).map_err(failed)? {
        None => Err(Failure::new(Code::Schedule, "the schedule is not known yet")),
        Some(_) if moment > now => Err(Failure::new(
            Code::InvalidParams,
            format_args!("the timestamp {moment} is too new: the schedule does not reach so far"),
        )),
        Some(_) => Err(Failure::new(
            Code::InvalidParams,
            format_args!("the timestamp {moment} is too old: before what the schedule knows"),
        )),
    }
}

/// Which turns.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ScheduleRequest {
    /// The moment to begin at, in unix seconds; the present if absent.
    from: Option<Quantity>,
    /// How many turns, 256 at most; 16 if absent.
    count: Option<u32>,
}

/// A turn.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Turn {
    /// Who signs.
    signer: Account,
    /// The first second of the window.
    submission_window_start: Quantity,
    /// The last.
    submission_window_end: Quantity,
}

impl From<Slot> for Turn {
    fn from(slot: Slot) -> Self {
        Self {
            signer: Account(slot.signer),
            submission_window_start: slot.window.start.get().into(),
            submission_window_end: slot.window.end.get().into(),
        }
    }
}

/// The schedule, as far as it is known.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Schedule {
    /// Whom to expect now: the elected preconfer, or the next if that one has handed over. Null where that is not known.
    expected: Option<Turn>,
    /// Whether any signer is accepted. Then there are no turns.
    any_signer: bool,
    /// The turns, in the order of time. Fewer than were asked for where the schedule does not reach further.
    turns: Vec<Turn>,
}

pub(super) async fn get_schedule(
    node: Arc<Node>,
    Maybe(request): Maybe<ScheduleRequest>,
) -> Result<Schedule, Failure> {
    let ScheduleRequest { from, count } = request.unwrap_or_default();
    let now = node.client.now();
    let from = from.map_or(Ok(now), |from| moment(from.0))?;
    let count = count.unwrap_or(USUAL).min(TURNS);
    let expected = node.client.chain().expected_preconfer().await?.map(Turn::from);
    let lookahead = node.client.validator().lookahead();
    let any_signer = lookahead.elects_anyone();
    let mut turns = Vec::new();
    if !any_signer {
        let mut next = Some(turn(lookahead, from, now)?);
        while let Some(slot) = next.take().filter(|_| turns.len() < count as usize) {
            turns.push(slot.into());
            let after = slot.window.end.get().checked_add(1).map(UnixSeconds::new);
            let following = after.and_then(|after| lookahead.turn(after).ok().flatten());
            // A schedule whose windows do not go on ends here.
            next = following.filter(|following| following.window.end > slot.window.end);
        }
    }
    Ok(Schedule { expected, any_signer, turns })
}

#[cfg(test)]
mod tests {
    use p2p_client::{Address, StaticSchedule, Window};

    use super::*;

    fn at(seconds: u64) -> UnixSeconds {
        UnixSeconds::new(seconds)
    }

    #[test]
    fn a_moment_that_the_schedule_does_not_know_is_too_old_or_too_new() {
        let window = Window { start: at(100), end: at(199) };
        let signer = Address::repeat_byte(1);
        let known = StaticSchedule::new(vec![Slot { signer, window }]).unwrap();
        assert_eq!(turn(&known, at(150), at(150)).unwrap().signer, signer);
        let code = |moment, now| turn(&known, at(moment), at(now)).unwrap_err();
        assert!(code(200, 150).message.contains("too new"));
        assert_eq!(code(200, 150).code, Code::InvalidParams);
        // Not even the present is known.
        assert_eq!(code(200, 300).code, Code::Schedule);
        assert_eq!(moment(U256::MAX).unwrap_err().code, Code::InvalidParams);
    }
}
