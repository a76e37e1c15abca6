//! Where the schedule comes from.

use std::{fmt, fs, num::NonZeroU64, path::PathBuf, str::FromStr, sync::Arc};

use p2p_types::{Address, UnixSeconds};
use p2p_validation::{
    Lookahead, LookaheadError as SourceError, RotatingSchedule, ScheduleFileError, Slot, StaticSchedule,
    Window,
};
use serde::{Deserialize, Serialize};

use super::error::{LookaheadError, RunError, schedule};

/// What `--lookahead` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LookaheadSource {
    Open,
    File(PathBuf),
    Rotating(PathBuf),
}

impl FromStr for LookaheadSource {
    type Err = LookaheadError;

    fn from_str(text: &str) -> Result<Self, LookaheadError> {
        match text.split_once(':') {
            None if text == "open" => Ok(Self::Open),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("rotating", path)) if !path.is_empty() => Ok(Self::Rotating(path.into())),
            _ => Err(LookaheadError),
        }
    }
}

impl fmt::Display for LookaheadSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Rotating(path) => write!(f, "rotating:{}", path.display()),
        }
    }
}

/// A rotation as its file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rotation {
    /// First second of the first window.
    pub(crate) genesis: UnixSeconds,
    /// Seconds of a window.
    pub(crate) window: NonZeroU64,
    /// Who take turns, in this order.
    pub(crate) operators: Vec<Address>,
}

impl Rotation {
    fn parse(json: &str) -> Result<RotatingSchedule, ScheduleFileError> {
        let Self { genesis, window, operators } = serde_json::from_str(json).map_err(|source| {
            let (line, column) = (source.line(), source.column());
            ScheduleFileError::Json { field: ".".into(), line, column, source }
        })?;
        RotatingSchedule::new(operators, genesis, window).map_err(schedule)
    }
}

impl LookaheadSource {
    /// Reads the schedule. Blocks on the disk.
    pub(super) fn load(&self) -> Result<Arc<dyn Lookahead>, RunError> {
        match self {
            Self::Open => Ok(Arc::new(Open)),
            Self::File(path) => match StaticSchedule::from_file(path) {
                Ok(schedule) => Ok(Arc::new(schedule)),
                Err(source) => Err(RunError::Lookahead { kind: "file", path: path.clone(), source }),
            },
            Self::Rotating(path) => {
                let json = fs::read_to_string(path).map_err(ScheduleFileError::Read);
                match json.and_then(|json| Rotation::parse(&json)) {
                    Ok(schedule) => Ok(Arc::new(schedule)),
                    Err(source) => Err(RunError::Lookahead { kind: "rotating", path: path.clone(), source }),
                }
            }
        }
    }
}

/// **Accepts any signer** in any window that it claims. [`Validator::leniencies`](p2p_validation::Validator::leniencies)
/// tells of it.
#[derive(Debug)]
struct Open;

impl Lookahead for Open {
    fn slot(&self, moment: UnixSeconds) -> Result<Option<Slot>, SourceError> {
        let window = Window { start: UnixSeconds::new(0), end: moment };
        Ok(Some(Slot { signer: Address::ZERO, window }))
    }

    fn elects_anyone(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_read_as_it_is_shown_and_nothing_else_is_one() {
        for text in ["open", "file:a/b.json", "rotating:/dev/stdin", "file:with:colon"] {
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
        let expected = RotatingSchedule::new(operators, UnixSeconds::new(100), window).unwrap();
        assert_eq!(Rotation::parse(&json).unwrap(), expected);
        for bad in [
            json.replace("genesis", "start"),
            json.replace(":4", ":0"),
            json.replace("0x01", "0x0g"),
            json.replace('}', ",\"more\":1}"),
        ] {
            assert!(matches!(Rotation::parse(&bad), Err(ScheduleFileError::Json { .. })), "{bad}");
        }
        let nobody = r#"{"genesis":1,"window":4,"operators":[]}"#;
        assert!(matches!(Rotation::parse(nobody), Err(ScheduleFileError::Schedule(_))));
    }
}
