//! The series that the crates register: what stands in `counter!`, `gauge!` and `histogram!`.

use std::collections::{BTreeMap, BTreeSet};

use syn::{
    Expr, ItemConst, Lit, Macro, Token,
    parse::{Parse, ParseStream},
    visit::{self, Visit},
};

use crate::{
    error::Error,
    source::{self, Source},
};

/// The series that there are, each with its labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Series(BTreeMap<String, BTreeSet<String>>);

impl Series {
    /// What the crates of the workspace register.
    pub(crate) fn of_workspace() -> Result<Self, Error> {
        let (mut series, mut found) = (Self::default(), Vec::new());
        for (_, folder) in source::crates()? {
            for file in source::rust_files(&folder.join("src"))? {
                found.extend(series.add(&file));
            }
        }
        Error::unless_empty(found).map(|()| series)
    }

    /// A series that others register.
    pub(crate) fn with(mut self, name: &str, labels: &[&str]) -> Self {
        self.register(name, labels.iter().map(|label| (*label).to_owned()));
        self
    }

    /// The labels of a series, if it exists.
    pub(crate) fn labels(&self, name: &str) -> Option<&BTreeSet<String>> {
        self.0.get(name)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn register(&mut self, name: &str, labels: impl IntoIterator<Item = String>) {
        self.0.entry(name.to_owned()).or_default().extend(labels);
    }

    /// Adds what a file registers. What cannot be read in it is a problem.
    fn add(&mut self, file: &Source) -> Vec<String> {
        let path = file.path.display();
        let Ok(parsed) = syn::parse_file(&file.text) else {
            return vec![format!("{path} cannot be parsed")];
        };
        let mut finder = Finder::default();
        finder.visit_file(&parsed);
        let mut problems: Vec<_> = finder
            .unreadable
            .iter()
            .map(|of| format!("{path}: {of}! with a name or labels that are no text"))
            .collect();
        for Registration { kind, name, labels } in finder.found {
            let name = match name {
                Name::Text(name) => Some(name),
                Name::Constant(constant) => finder.constants.get(&constant).cloned(),
            };
            match name {
                None => problems.push(format!("{path}: {kind}! with a constant of another file")),
                Some(name) if kind == "histogram" => {
                    let with_bound = labels.iter().cloned().chain(["le".to_owned()]);
                    self.register(&format!("{name}_bucket"), with_bound);
                    self.register(&format!("{name}_sum"), labels.clone());
                    self.register(&format!("{name}_count"), labels);
                }
                Some(name) => self.register(&name, labels),
            }
        }
        problems
    }
}

enum Name {
    Text(String),
    Constant(String),
}

struct Registration {
    kind: String,
    name: Name,
    labels: Vec<String>,
}

/// `"name", "label" => value, …`.
struct Arguments {
    name: Name,
    labels: Vec<String>,
}

fn text(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(text) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let first: Expr = input.parse()?;
        let name = match (text(&first), &first) {
            (Some(name), _) => Name::Text(name),
            (None, Expr::Path(path)) => Name::Constant(path.path.require_ident()?.to_string()),
            _ => return Err(input.error("no name")),
        };
        let mut labels = Vec::new();
        while input.parse::<Option<Token![,]>>()?.is_some() && !input.is_empty() {
            let label: Expr = input.parse()?;
            labels.push(text(&label).ok_or_else(|| input.error("no label"))?);
            input.parse::<Token![=>]>()?;
            input.parse::<Expr>()?;
        }
        Ok(Self { name, labels })
    }
}

/// Looks for what registers a series.
#[derive(Default)]
struct Finder {
    constants: BTreeMap<String, String>,
    found: Vec<Registration>,
    unreadable: Vec<String>,
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item_const(&mut self, item: &'ast ItemConst) {
        if let Some(value) = text(&item.expr) {
            self.constants.insert(item.ident.to_string(), value);
        }
        visit::visit_item_const(self, item);
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        let kind = called.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
        if ["counter", "gauge", "histogram"].contains(&kind.as_str()) {
            match called.parse_body::<Arguments>() {
                Ok(Arguments { name, labels }) => self.found.push(Registration { kind, name, labels }),
                Err(_) => self.unreadable.push(kind),
            }
        }
        visit::visit_macro(self, called);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(text: &str) -> (Series, Vec<String>) {
        let mut series = Series::default();
        let problems = series.add(&Source { path: "a.rs".into(), text: text.to_owned() });
        (series, problems)
    }

    #[test]
    fn a_series_is_found_with_all_its_labels() {
        let (found, problems) = series(
            "const NAME: &str = \"p2p_a\";
             fn f() {
                 gauge!(NAME, \"x\" => 1).set(1.0);
                 metrics::counter!(\"p2p_b_total\", \"y\" => label(), \"z\" => \"1\",).increment(1);
                 self.record(|| { counter!(\"p2p_c_total\").increment(1); });
             }",
        );
        assert_eq!(problems, [""; 0]);
        let expected =
            Series::default().with("p2p_a", &["x"]).with("p2p_b_total", &["y", "z"]).with("p2p_c_total", &[]);
        assert_eq!(found, expected);
    }

    #[test]
    fn a_histogram_is_three_series() {
        let (found, _) = series("fn f() { histogram!(\"p2p_a_seconds\", \"x\" => y).record(1.0); }");
        let expected = Series::default()
            .with("p2p_a_seconds_bucket", &["x", "le"])
            .with("p2p_a_seconds_sum", &["x"])
            .with("p2p_a_seconds_count", &["x"]);
        assert_eq!(found, expected);
    }

    #[test]
    fn a_name_that_cannot_be_read_is_a_problem() {
        for text in
            ["fn f() { gauge!(name()); }", "fn f() { gauge!(NAME); }", "fn f() { gauge!(\"a\", &labels); }"]
        {
            assert_eq!(series(text).1.len(), 1, "{text}");
        }
    }

    #[test]
    fn the_series_of_each_crate_are_found() {
        let series = Series::of_workspace().unwrap();
        for (name, label) in [
            ("p2p_queue_dropped_total", "queue"),
            ("p2p_sync_state", "state"),
            ("p2p_lookahead_calls_total", "method"),
            ("p2p_reqresp_latency_seconds_bucket", "le"),
        ] {
            assert!(series.labels(name).unwrap().contains(label), "{name}");
        }
    }
}
