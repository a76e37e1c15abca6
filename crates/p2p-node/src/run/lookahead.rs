//! What `--lookahead` names. Schedules that are not learned from L1 are read, and their times checked against the clock.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use p2p_types::{Address, UnixSeconds};
use p2p_validation::{
    Lookahead, LookaheadError as SourceError, RotatingSchedule, ScheduleError, ScheduleFileError, Slot,
    StaticSchedule, Window,
};

use super::error::{LookaheadError, RunError};
use crate::rotation::Rotation;

/// What `--lookahead` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LookaheadSource {
    /// L1's contracts.
    L1,
    Given(GivenSchedule),
}

/// A schedule that does not change while the node runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GivenSchedule {
    Open,
    File(PathBuf),
    Rotating(PathBuf),
}

impl FromStr for LookaheadSource {
    type Err = LookaheadError;

    fn from_str(text: &str) -> Result<Self, LookaheadError> {
        match text.split_once(':') {
            None if text == "l1" => Ok(Self::L1),
            None if text == "open" => Ok(Self::Given(GivenSchedule::Open)),
            Some(("file", path)) if !path.is_empty() => Ok(Self::Given(GivenSchedule::File(path.into()))),
            Some(("rotating", path)) if !path.is_empty() => {
                Ok(Self::Given(GivenSchedule::Rotating(path.into())))
            }
            _ => Err(LookaheadError),
        }
    }
}

impl fmt::Display for LookaheadSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::L1 => f.write_str("l1"),
            Self::Given(schedule) => schedule.fmt(f),
        }
    }
}

impl fmt::Display for GivenSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Rotating(path) => write!(f, "rotating:{}", path.display()),
        }
    }
}

impl Rotation {
    pub(super) fn parse(json: &str) -> Result<Self, ScheduleFileError> {
        serde_json::from_str(json).map_err(|source| {
            let (line, column) = (source.line(), source.column());
            ScheduleFileError::Json { field: ".".into(), line, column, source }
        })
    }

    pub(super) fn schedule(self) -> Result<RotatingSchedule, ScheduleError> {
        RotatingSchedule::new(self.operators, self.genesis, self.window)
    }
}

/// The year 5138 in seconds, 1973 in milliseconds: no schedule of today begins there, and in milliseconds each does.
const MILLISECONDS: u64 = 100_000_000_000;

impl GivenSchedule {
    /// Reads the schedule. Blocks on the disk, or until whoever writes into a pipe is done.
    ///
    /// A schedule in milliseconds is refused: no moment would ever fall in it. One that begins later than `now`, or has
    /// ended, is warned of and taken: a node may be started before its chain is, or to serve what there was.
    pub(super) fn load(&self, now: UnixSeconds) -> Result<Arc<dyn Lookahead>, RunError> {
        match self {
            Self::Open => Ok(Arc::new(Open)),
            Self::File(path) => {
                let failed = |source| RunError::Lookahead { kind: "file", path: path.clone(), source };
                let schedule = StaticSchedule::from_file(path).map_err(failed)?;
                let windows = || schedule.slots().iter().map(|slot| slot.window);
                for (index, window) in windows().enumerate() {
                    in_seconds("file", path, window.start, || format!("[{index}].start"))?;
                }
                self.warn(windows().next().map(|window| window.start), windows().next_back(), now);
                Ok(Arc::new(schedule))
            }
            Self::Rotating(path) => {
                let failed = |source| RunError::Lookahead { kind: "rotating", path: path.clone(), source };
                let json =
                    fs::read_to_string(path).map_err(|error| failed(ScheduleFileError::Read(error)))?;
                let rotation = Rotation::parse(&json).map_err(failed)?;
                let genesis = rotation.genesis;
                in_seconds("rotating", path, genesis, || "genesis".into())?;
                self.warn(Some(genesis), None, now);
                Ok(Arc::new(rotation.schedule().map_err(|error| failed(error.into()))?))
            }
        }
    }

    /// Warns of a schedule that elects nobody now.
    fn warn(&self, start: Option<UnixSeconds>, last: Option<Window>, now: UnixSeconds) {
        match (start, last) {
            (None, _) => tracing::warn!("--lookahead {self} has no slots: nobody is ever elected"),
            (Some(start), _) if now < start => tracing::warn!(
                "--lookahead {self} begins in {} s, at {start}: until then nobody is elected, and nothing is shown; is the \
                 clock of this host right?",
                start.get().saturating_sub(now.get())
            ),
            (_, Some(last)) if last.end < now => tracing::warn!(
                "--lookahead {self} ended {} s ago, at {}: what is signed later waits and is not shown",
                now.get().saturating_sub(last.end.get()),
                last.end
            ),
            _ => {}
        }
    }
}

/// Refuses a time that can only be in milliseconds.
fn in_seconds(
    kind: &'static str,
    path: &Path,
    value: UnixSeconds,
    field: impl FnOnce() -> String,
) -> Result<(), RunError> {
    if value.get() < MILLISECONDS {
        return Ok(());
    }
    Err(RunError::NotSeconds { kind, path: path.to_owned(), field: field(), value })
}

/// **Accepts any signer** in any window that it claims. [`Validator::leniencies`](p2p_validation::Validator::leniencies)
/// reports it.
#[derive(Debug)]
struct Open;

impl Lookahead for Open {
    fn turn(&self, moment: UnixSeconds) -> Result<Option<Slot>, SourceError> {
        let window = Window { start: UnixSeconds::new(0), end: moment };
        Ok(Some(Slot { signer: Address::ZERO, window }))
    }

    fn elects_anyone(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    #[test]
    fn a_source_is_read_as_it_is_shown_and_nothing_else_is_one() {
        for text in ["l1", "open", "file:a/b.json", "rotating:/dev/stdin", "file:with:colon"] {
            assert_eq!(text.parse::<LookaheadSource>().unwrap().to_string(), text);
        }
        for text in ["", "Open", "file", "file:", "rotating:", "static:x", "a.json"] {
            assert!(text.parse::<LookaheadSource>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_rotation_has_its_three_fields_and_no_other() {
        let operators = vec![Address::repeat_byte(1), Address::repeat_byte(2)];
        let window = NonZeroU64::new(4).unwrap();
        let rotation = Rotation { genesis: UnixSeconds::new(100), window, operators: operators.clone() };
        let json = serde_json::to_string(&rotation).unwrap();
        assert_eq!(Rotation::parse(&json).unwrap(), rotation);
        for bad in [
            json.replace("genesis", "start"),
            json.replace(":4", ":0"),
            json.replace("0x01", "0x0g"),
            json.replace('}', ",\"more\":1}"),
        ] {
            assert!(matches!(Rotation::parse(&bad), Err(ScheduleFileError::Json { .. })), "{bad}");
        }
        let nobody = r#"{"genesis":1,"window":4,"operators":[]}"#;
        assert_eq!(Rotation::parse(nobody).unwrap().schedule(), Err(ScheduleError::NoOperators));
    }
}
