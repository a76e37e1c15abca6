//! Several runs of a suite: the least, the middle and the most of each figure.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::three_digits;

/// What each figure was in each run, by its name. A figure made of times and their quotient is known by the quotient.
pub(super) struct Runs(BTreeMap<String, Vec<f64>>);

impl Runs {
    /// Of the summaries of the runs.
    pub(super) fn new(summaries: &[Value]) -> Self {
        let mut figures: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (name, value) in summaries.iter().filter_map(Value::as_object).flatten() {
            if let Some(number) = value.as_f64().or_else(|| value.get("ratio")?.as_f64()) {
                figures.entry(name.clone()).or_default().push(number);
            }
        }
        figures.values_mut().for_each(|runs| runs.sort_by(f64::total_cmp));
        Self(figures)
    }

    /// As a Markdown table.
    pub(super) fn table(&self) -> String {
        let runs = self.0.values().map(Vec::len).max().unwrap_or_default();
        let head = format!("| over {runs} runs | least | middle | most |\n|---|---:|---:|---:|\n");
        let row = |(name, runs): (&String, &Vec<f64>)| {
            let [least, middle, most] = spread(runs).map(|figure| three_digits(&figure.into()));
            format!("| `{name}` | {least} | {middle} | {most} |\n")
        };
        self.0.iter().map(row).fold(head, |table, row| table + &row)
    }

    /// The middle of each.
    pub(super) fn middle(&self) -> Value {
        let middle = |(name, runs): (&String, &Vec<f64>)| (name.clone(), spread(runs)[1].into());
        self.0.iter().map(middle).collect::<Map<_, _>>().into()
    }
}

/// The least, the middle and the most.
fn spread(sorted: &[f64]) -> [f64; 3] {
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    [at(0), at(sorted.len() / 2), at(sorted.len().saturating_sub(1))]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_figure_has_its_least_middle_and_most() {
        let run = |raw: f64, ratio: f64| json!({"raw": raw, "single": {"ours_ns": 1, "ratio": ratio}, "none": null});
        let runs = Runs::new(&[run(3.0, 30.0), run(1.0, 10.0), run(2.0, 120.4)]);
        let table = runs.table();
        assert!(table.starts_with("| over 3 runs | least | middle | most |\n"), "{table}");
        assert!(table.contains("| `raw` | 1.000 | 2.000 | 3.000 |\n"), "{table}");
        assert!(table.contains("| `single` | 10.000 | 30.000 | 120 |\n"), "{table}");
        assert!(!table.contains("none"), "{table}");
        assert_eq!(runs.middle(), json!({"raw": 2.0, "single": 30.0}));
    }
}
