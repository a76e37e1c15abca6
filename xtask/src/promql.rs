//! What a PromQL expression names: series and labels. `promtool` says whether it is one; this says what it is about.

/// A series that an expression selects, with the labels by which it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selector {
    pub(crate) series: String,
    pub(crate) labels: Vec<String>,
}

/// What an expression names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) selectors: Vec<Selector>,
    /// The labels behind `on`, `ignoring`, `without`, `group_left` and `group_right`.
    pub(crate) matched: Vec<String>,
    /// The labels behind `by`; only these are left in the result. None where nothing is aggregated so.
    pub(crate) kept: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Name(&'a str),
    Symbol(char),
    Text,
}

/// What stands between two operands, or before a bracket, without being a series.
const KEYWORDS: &[&str] = &[
    "and", "or", "unless", "offset", "bool", "inf", "nan", "sum", "count", "min", "max", "avg", "topk",
    "bottomk",
];

/// The tokens of an expression. Numbers, durations and what is in square brackets name nothing.
fn tokens(expression: &str) -> Result<Vec<Token<'_>>, String> {
    let mut tokens = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let end = |is_end: &dyn Fn(char) -> bool| rest.find(is_end).unwrap_or(rest.len());
        let length = match first {
            '"' | '\'' => {
                let behind = rest.get(1..).unwrap_or_default();
                tokens.push(Token::Text);
                2 + behind.find(first).ok_or_else(|| format!("a text without an end: {rest}"))?
            }
            '[' => 1 + rest.find(']').ok_or_else(|| format!("a range without an end: {rest}"))?,
            _ if first.is_ascii_digit() => end(&|c| !c.is_ascii_alphanumeric() && c != '.'),
            _ if first.is_alphabetic() || first == '_' => {
                let length = end(&|c| !c.is_alphanumeric() && c != '_' && c != ':');
                tokens.push(Token::Name(rest.get(..length).unwrap_or_default()));
                length
            }
            _ => {
                if !first.is_whitespace() {
                    tokens.push(Token::Symbol(first));
                }
                first.len_utf8()
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(tokens)
}

/// The names up to a closing bracket, and how many tokens that took.
fn listed<'a>(tokens: &[Token<'a>], close: char) -> (Vec<&'a str>, usize) {
    let inside = tokens.iter().take_while(|token| **token != Token::Symbol(close));
    let names = inside.clone().filter_map(|token| match token {
        Token::Name(name) => Some(*name),
        Token::Symbol(_) | Token::Text => None,
    });
    (names.collect(), inside.count() + 1)
}

/// What an expression names.
pub(crate) fn names(expression: &str) -> Result<Names, String> {
    let tokens = tokens(expression)?;
    let mut names = Names::default();
    let mut rest = tokens.as_slice();
    while let Some((token, behind)) = rest.split_first() {
        rest = behind;
        let Token::Name(name) = *token else {
            if *token == Token::Symbol('{') {
                return Err(format!("a selector without the name of a series: {expression}"));
            }
            continue;
        };
        match (name, behind.split_first()) {
            ("by", Some((Token::Symbol('('), behind))) => {
                let (labels, length) = listed(behind, ')');
                names.kept.get_or_insert_default().extend(labels.into_iter().map(str::to_owned));
                rest = behind.get(length..).unwrap_or_default();
            }
            (
                "on" | "ignoring" | "without" | "group_left" | "group_right",
                Some((Token::Symbol('('), behind)),
            ) => {
                let (labels, length) = listed(behind, ')');
                names.matched.extend(labels.into_iter().map(str::to_owned));
                rest = behind.get(length..).unwrap_or_default();
            }
            // A function.
            (_, Some((Token::Symbol('('), _))) => {}
            (_, Some((Token::Symbol('{'), behind))) => {
                let (labels, length) = listed(behind, '}');
                let labels = labels.into_iter().map(str::to_owned).collect();
                names.selectors.push(Selector { series: name.to_owned(), labels });
                rest = behind.get(length..).unwrap_or_default();
            }
            _ if KEYWORDS.contains(&name.to_ascii_lowercase().as_str()) => {}
            _ => names.selectors.push(Selector { series: name.to_owned(), labels: Vec::new() }),
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selectors(expression: &str) -> Vec<(String, String)> {
        let names = names(expression).unwrap();
        names.selectors.into_iter().map(|of| (of.series, of.labels.join(","))).collect()
    }

    fn one(series: &str, labels: &str) -> (String, String) {
        (series.to_owned(), labels.to_owned())
    }

    #[test]
    fn series_are_found_with_the_labels_that_select_them() {
        assert_eq!(selectors("up == 0"), [one("up", "")]);
        assert_eq!(selectors("a{x=\"1\",y!~'b{c}'} offset 1h"), [one("a", "x,y")]);
        assert_eq!(selectors("rate(a_total{x=\"up\"}[5m:1m]) > 1.5e3"), [one("a_total", "x")]);
        assert_eq!(selectors("a or b unless c and d"), ["a", "b", "c", "d"].map(|name| one(name, "")));
        assert_eq!(selectors("a < Inf"), [one("a", "")]);
        assert_eq!(selectors("a[$__rate_interval]"), [one("a", "")]);
    }

    #[test]
    fn labels_of_aggregations_and_matchings_are_no_series() {
        let names = names("sum by (q, le) (rate(a[1m])) and on (job) max without (z) (b)").unwrap();
        assert_eq!(names.kept.unwrap(), ["q", "le"]);
        assert_eq!(names.matched, ["job", "z"]);
        assert_eq!(names.selectors.len(), 2);
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for broken in ["{x=\"1\"}", "a{x=\"1}", "a[5m"] {
            assert!(names(broken).is_err(), "{broken}");
        }
    }
}
