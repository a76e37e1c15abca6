//! A fixed list of slots, from a file or from memory.

use std::{io, path::Path};

use p2p_types::{Address, UnixSeconds};
use serde::Deserialize;

use super::{Lookahead, LookaheadError, ScheduleError, Slot, Window, in_order, not_before};

/// A fixed list of slots. Before its first window and beyond its last one nothing is known: a list for another time,
/// or of another unit than seconds, says nothing about the present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticSchedule {
    slots: Vec<Slot>,
}

/// Why a file is not a schedule, and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleFileError {
    /// It cannot be read.
    #[error("the schedule cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is not JSON, or a field is missing, unknown or of another type.
    #[error("at {field}: {source}")]
    Json {
        /// The way to the field, such as `[3].signer`; `.` for the whole file.
        field: Box<str>,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong there.
        source: serde_json::Error,
    },
    /// Its slots are no schedule.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
}

/// A slot as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    signer: Address,
    start: UnixSeconds,
    end: UnixSeconds,
}

impl StaticSchedule {
    /// A schedule of these slots, in the order of time, with or without gaps.
    ///
    /// # Errors
    /// [`ScheduleError`] for windows that run backwards or overlap.
    pub fn new(slots: Vec<Slot>) -> Result<Self, ScheduleError> {
        in_order(&slots)?;
        Ok(Self { slots })
    }

    /// A schedule from JSON: an array of slots with `signer`, and `start` and `end` in unix seconds, both of
    /// which belong to the window.
    ///
    /// ```
    /// use p2p_validation::StaticSchedule;
    ///
    /// let signer = "0x5151515151515151515151515151515151515151";
    /// let json = format!(r#"[{{ "signer": "{signer}", "start": 1000, "end": 1011 }}]"#);
    /// assert_eq!(StaticSchedule::from_json(&json)?.slots().len(), 1);
    /// # Ok::<(), p2p_validation::ScheduleFileError>(())
    /// ```
    ///
    /// # Errors
    /// [`ScheduleFileError`] names the line and the field, or the slot.
    pub fn from_json(json: &str) -> Result<Self, ScheduleFileError> {
        let mut reader = serde_json::Deserializer::from_str(json);
        let at = |field: Box<str>, source: serde_json::Error| {
            let (line, column) = (source.line(), source.column());
            ScheduleFileError::Json { field, line, column, source }
        };
        let entries: Vec<Entry> = serde_path_to_error::deserialize(&mut reader)
            .map_err(|error| at(error.path().to_string().into(), error.into_inner()))?;
        reader.end().map_err(|error| at(".".into(), error))?;
        let slot = |Entry { signer, start, end }| Slot { signer, window: Window { start, end } };
        Ok(Self::new(entries.into_iter().map(slot).collect())?)
    }

    /// A schedule from a file, as [`from_json`](Self::from_json).
    ///
    /// # Errors
    /// [`ScheduleFileError`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ScheduleFileError> {
        Self::from_json(&std::fs::read_to_string(path)?)
    }

    /// Its slots, in the order of time.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }
}

impl Lookahead for StaticSchedule {
    fn turn(&self, moment: UnixSeconds) -> Result<Option<Slot>, LookaheadError> {
        let begins = self.slots.first().is_some_and(|first| first.window.start <= moment);
        Ok(if begins { not_before(&self.slots, moment) } else { None })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixtures::{A, B, at, slot},
        *,
    };

    #[test]
    fn a_list_answers_in_windows_in_gaps_and_knows_its_end() {
        let schedule = StaticSchedule::new(vec![slot(A, 10, 19), slot(B, 30, 39)]).unwrap();
        assert_eq!(at(&schedule, 9), None, "before the list: not known yet");
        assert_eq!(at(&schedule, 10), Some(slot(A, 10, 19)));
        assert_eq!(at(&schedule, 19), Some(slot(A, 10, 19)));
        assert_eq!(at(&schedule, 20), Some(slot(B, 30, 39)), "a gap: the slot after it");
        assert_eq!(at(&schedule, 39), Some(slot(B, 30, 39)));
        assert_eq!(at(&schedule, 40), None, "beyond the list: not known yet");
        assert_eq!(at(&schedule, u64::MAX), None);
    }

    #[test]
    fn windows_that_run_backwards_or_overlap_are_refused() {
        let backwards = StaticSchedule::new(vec![slot(A, 5, 4)]);
        assert!(matches!(backwards, Err(ScheduleError::Backwards { index: 0, .. })));
        assert!(StaticSchedule::new(vec![slot(A, 5, 5), slot(B, 6, 6)]).is_ok(), "one second each");
        for second in [slot(A, 19, 25), slot(A, 1, 5)] {
            let overlap = StaticSchedule::new(vec![slot(A, 10, 19), second]);
            assert!(matches!(overlap, Err(ScheduleError::Overlap { index: 1, .. })));
        }
    }

    #[test]
    fn a_file_is_read_or_says_where_it_is_wrong() {
        let good = format!(
            "[\n{{\"signer\":\"{A}\",\"start\":10,\"end\":19}},\n{{\"signer\":\"{B}\",\"start\":20,\"end\":29}}]"
        );
        let schedule = StaticSchedule::from_json(&good).unwrap();
        assert_eq!(schedule.slots(), [slot(A, 10, 19), slot(B, 20, 29)]);

        let wrong = |json: &str| match StaticSchedule::from_json(json) {
            Err(ScheduleFileError::Json { field, line, .. }) => (field.into_string(), line),
            other => panic!("{other:?}"),
        };
        assert_eq!(wrong(&good.replace("20", "\"soon\"")), ("[1].start".into(), 3));
        assert_eq!(wrong(&good.replacen("0x", "", 1).replacen("0a", "0g", 1)), ("[0].signer".into(), 2));
        assert_eq!(wrong(&good.replace("\"end\":29", "\"until\":29")), ("[1].until".into(), 3));
        assert_eq!(wrong(&good.replace(",\"end\":29", "")), ("[1]".into(), 3));
        assert_eq!(wrong(&format!("{good}\n\n7")), (".".into(), 5));
        let overlap = StaticSchedule::from_json(&good.replace("20", "19"));
        assert!(matches!(overlap, Err(ScheduleFileError::Schedule(ScheduleError::Overlap { index: 1, .. }))));
    }

    #[test]
    fn a_file_on_disk_is_read_and_a_missing_one_is_an_error() {
        let path = std::env::temp_dir().join(format!("schedule-{}.json", std::process::id()));
        assert!(matches!(StaticSchedule::from_file(&path), Err(ScheduleFileError::Read(_))));
        std::fs::write(&path, format!("[{{\"signer\":\"{A}\",\"start\":1,\"end\":2}}]")).unwrap();
        let read = StaticSchedule::from_file(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read.unwrap().slots(), [slot(A, 1, 2)]);
    }
}
