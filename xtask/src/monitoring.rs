//! The alerts and the dashboard in `deploy/` name only series that the code registers, by labels that these have; each
//! alert has a test, and a section in docs/operate.md that its link leads to.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    error::Error,
    links,
    promql::{self, Names},
    series::Series,
    source::Source,
};

pub(crate) const RULES: &str = "deploy/prometheus/rules.yml";
pub(crate) const TESTS: &str = "deploy/prometheus/rules_test.yml";
pub(crate) const CONFIG: &str = "deploy/prometheus/prometheus.yml";
const DASHBOARD: &str = "deploy/grafana/dashboards/p2p-node.json";
const RUNBOOK: &str = "docs/operate.md";

/// What Prometheus adds to each series.
const TARGET: [&str; 2] = ["job", "instance"];

/// How the name of each alert begins.
const PREFIX: &str = "Preconf";

#[derive(Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    alert: String,
    expr: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

/// What is wrong with an expression and with the labels that the texts beside it show.
fn problems(series: &Series, place: &str, expression: &str, shown: &[&str]) -> Vec<String> {
    let Names { selectors, matched, kept } = match promql::names(expression) {
        Ok(names) => names,
        Err(problem) => return vec![format!("{place}: {problem}")],
    };
    let (mut found, mut there) = (Vec::new(), TARGET.map(str::to_owned).to_vec());
    for selector in &selectors {
        let name = &selector.series;
        let Some(labels) = series.labels(name) else {
            found.push(format!("{place}: no code registers {name}"));
            continue;
        };
        let has = |label: &String| labels.contains(label) || TARGET.contains(&label.as_str());
        let wrong = selector.labels.iter().filter(|label| !has(label));
        found.extend(wrong.map(|label| format!("{place}: {name} has no label {label}")));
        there.extend(labels.iter().cloned());
    }
    let named = matched.iter().chain(kept.iter().flatten());
    let unknown = named.filter(|label| !there.contains(label));
    found.extend(unknown.map(|label| format!("{place}: no series has the label {label}")));
    let left = kept.as_ref().unwrap_or(&there);
    let missing = shown.iter().filter(|label| !left.iter().any(|of| of == *label));
    found.extend(missing.map(|label| format!("{place}: shows the label {label}, which the result has not")));
    found
}

/// What stands in a text between two marks, each time.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    text.split(open).skip(1).filter_map(|rest| Some(rest.split_once(close)?.0.trim())).collect()
}

/// The labels that an annotation of an alert shows: `{{ $labels.queue }}`.
fn annotated(text: &str) -> Vec<&str> {
    let word = |rest: &'_ str| rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    text.split("$labels.").skip(1).map(|rest| rest.get(..word(rest)).unwrap_or_default()).collect()
}

/// What is wrong with the alerts.
fn alerts(series: &Series, rules: &Rules, tests: &str, runbook: &str) -> Vec<String> {
    let mut found = Vec::new();
    let rules: Vec<&Rule> = rules.groups.iter().flat_map(|group| &group.rules).collect();
    for rule in &rules {
        let name = &rule.alert;
        let shown: Vec<_> = rule.annotations.values().flat_map(|text| annotated(text)).collect();
        found.extend(problems(series, name, &rule.expr, &shown));
        if !name.starts_with(PREFIX) {
            found.push(format!("{name}: its name does not begin with {PREFIX}"));
        }
        let severity = rule.labels.get("severity").map(String::as_str);
        if !matches!(severity, Some("critical" | "warning")) {
            found.push(format!("{name}: no severity, critical or warning"));
        }
        if ["summary", "description"].iter().any(|text| !rule.annotations.contains_key(*text)) {
            found.push(format!("{name}: no summary or no description"));
        }
        let anchor = name.to_lowercase();
        let link = format!("{}/blob/main/{RUNBOOK}#{anchor}", env!("CARGO_PKG_REPOSITORY"));
        if rule.annotations.get("runbook_url") != Some(&link) {
            found.push(format!("{name}: its runbook_url is not {link}"));
        }
        if !links::has_anchor(runbook, &anchor) {
            found.push(format!("{name}: there is no section of that name in {RUNBOOK}"));
        }
        if !tests.contains(&format!("alertname=\"{name}\"")) {
            found.push(format!("{name}: no test in {TESTS} makes it fire"));
        }
    }
    let sections = runbook.lines().filter_map(|line| line.strip_prefix("### "));
    let unknown = sections.filter(|of| of.starts_with(PREFIX) && rules.iter().all(|rule| rule.alert != *of));
    found.extend(unknown.map(|section| format!("{RUNBOOK}: there is no alert {section}")));
    found
}

/// What is wrong with a dashboard, or with a part of it.
fn dashboard(series: &Series, place: &str, part: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let text = |name| part.get(name).and_then(Value::as_str);
    let place = text("title").or_else(|| text("name")).unwrap_or(place);
    if let Some(expression) = text("expr") {
        let texts = ["legendFormat", "titleFormat", "textFormat"].into_iter().filter_map(text);
        let shown: Vec<_> = texts.flat_map(|text| between(text, "{{", "}}")).collect();
        found.extend(problems(series, place, expression, &shown));
    }
    if let Some(definition) = text("definition") {
        let values = definition.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        match values.and_then(|values| values.rsplit_once(',')) {
            Some((selector, label)) => found.extend(problems(series, place, selector, &[label.trim()])),
            None => found.push(format!("{place}: not label_values(series, label): {definition}")),
        }
    }
    match part {
        Value::Array(parts) => found.extend(parts.iter().flat_map(|part| dashboard(series, place, part))),
        Value::Object(parts) => found.extend(parts.values().flat_map(|part| dashboard(series, place, part))),
        _ => {}
    }
    found
}

/// The expressions of a dashboard.
fn expressions(part: &Value) -> usize {
    match part {
        Value::Array(parts) => parts.iter().map(expressions).sum(),
        Value::Object(parts) => {
            usize::from(parts.contains_key("expr")) + parts.values().map(expressions).sum::<usize>()
        }
        _ => 0,
    }
}

fn read<T: DeserializeOwned>(path: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Error> {
    let text = Source::read(Path::new(path))?.text;
    parse(&text).map_err(|problem| Error::Found(vec![format!("{path}: {problem}")]))
}

/// Checks what is in `deploy/`.
pub(crate) fn check_workspace() -> Result<(), Error> {
    let series = Series::of_workspace()?;
    let registered = series.len();
    // Prometheus's own.
    let series = series.with("up", &[]).with("ALERTS", &["alertname", "alertstate", "severity"]);
    let rules: Rules = read(RULES, |text| serde_saphyr::from_str(text).map_err(|error| error.to_string()))?;
    let board: Value = read(DASHBOARD, |text| serde_json::from_str(text).map_err(|error| error.to_string()))?;
    let (tests, runbook) = (Source::read(Path::new(TESTS))?.text, Source::read(Path::new(RUNBOOK))?.text);
    let mut found = alerts(&series, &rules, &tests, &runbook);
    found.extend(dashboard(&series, DASHBOARD, &board));
    let count: usize = rules.groups.iter().map(|group| group.rules.len()).sum();
    println!("{registered} series, {count} alerts, {} expressions of the dashboard", expressions(&board));
    Error::unless_empty(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn known() -> Series {
        Series::default().with("p2p_a", &["queue"]).with("p2p_b", &[])
    }

    fn found(expression: &str, shown: &[&str]) -> Vec<String> {
        problems(&known(), "here", expression, shown)
    }

    #[test]
    fn a_series_that_nobody_registers_is_found() {
        assert_eq!(found("rate(p2p_aa[5m]) > 1", &[]), ["here: no code registers p2p_aa"]);
        assert_eq!(found("p2p_a and p2p_c", &[]), ["here: no code registers p2p_c"]);
    }

    #[test]
    fn a_label_that_a_series_does_not_have_is_found() {
        assert_eq!(found("p2p_b{queue=\"x\"}", &[]), ["here: p2p_b has no label queue"]);
        assert_eq!(found("sum by (limit) (p2p_a)", &[]), ["here: no series has the label limit"]);
        assert_eq!(found("p2p_a and on (peer) p2p_b", &[]), ["here: no series has the label peer"]);
    }

    #[test]
    fn a_text_shows_only_labels_that_are_left() {
        assert_eq!(found("p2p_a", &["queue", "instance"]), [""; 0]);
        let lost = ["here: shows the label queue, which the result has not"];
        assert_eq!(found("sum by (instance) (p2p_a)", &["queue"]), lost);
    }

    #[test]
    fn an_alert_has_a_test_a_section_and_a_link_to_it() {
        let link = format!("{}/blob/main/{RUNBOOK}#preconfa", env!("CARGO_PKG_REPOSITORY"));
        let rule = |alert: &str, link: &str| {
            let texts = [("summary", "{{ $labels.queue }}"), ("description", "b"), ("runbook_url", link)];
            let owned = |(name, text): (&str, &str)| (name.to_owned(), text.to_owned());
            Rule {
                alert: alert.to_owned(),
                expr: "p2p_a > 1".to_owned(),
                labels: [("severity", "warning")].map(owned).into(),
                annotations: texts.map(owned).into(),
            }
        };
        let found = |rule, tests: &str, runbook: &str| {
            alerts(&known(), &Rules { groups: vec![Group { rules: vec![rule] }] }, tests, runbook)
        };
        let test = "ALERTS{alertname=\"PreconfA\"}";
        assert_eq!(found(rule("PreconfA", &link), test, "### PreconfA\n"), [""; 0]);
        assert_eq!(found(rule("PreconfA", &link), "", "### PreconfA\n").len(), 1);
        assert_eq!(found(rule("PreconfA", &link), test, "").len(), 1);
        assert_eq!(found(rule("PreconfA", "#a"), test, "### PreconfA\n").len(), 1);
        assert_eq!(found(rule("PreconfA", &link), test, "### PreconfA\n### PreconfB\n").len(), 1);
    }

    #[test]
    fn a_wrong_name_anywhere_in_a_dashboard_is_found() {
        let board = |expression: &str, legend: &str, definition: &str| {
            json!({
                "panels": [{ "title": "A", "targets": [{ "expr": expression, "legendFormat": legend }] }],
                "templating": { "list": [{ "name": "instance", "definition": definition }] },
            })
        };
        let found = |expression, legend, definition| {
            dashboard(&known(), "board", &board(expression, legend, definition))
        };
        let (good, values) = ("p2p_a{job=~\"$job\"}[$__rate_interval]", "label_values(p2p_b, instance)");
        assert_eq!(found(good, "{{queue}}", values), [""; 0]);
        assert_eq!(found("p2p_x", "", values), ["A: no code registers p2p_x"]);
        assert_eq!(found(good, "{{kind}}", values).len(), 1);
        let instance = ["instance: no code registers p2p_y"];
        assert_eq!(found(good, "", "label_values(p2p_y, instance)"), instance);
    }
}
