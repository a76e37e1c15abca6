//! `config print`: what a node would run with, and where each value comes from.

use std::fmt::Write as _;

use url::Url;

use super::{
    layers::Setting,
    options::{NodeOption, Takes},
};

/// The settings as a file, each with its origin. Passwords and keys in URLs are left out.
pub(super) fn print(settings: &[Setting]) -> String {
    let lines: Vec<_> =
        settings.iter().map(|setting| (assignment(setting), setting.origin.to_string())).collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0).min(60);
    lines.iter().fold(String::new(), |mut text, (line, origin)| {
        // A String takes everything.
        writeln!(text, "{line:width$}  # {origin}").ok();
        text
    })
}

fn assignment(Setting { option, values, .. }: &Setting) -> String {
    let values: Vec<_> = values.iter().map(|value| value.to_string_lossy()).collect();
    let value = match option.takes() {
        Takes::Nothing => (!values.is_empty()).to_string(),
        Takes::One => values.first().map(|value| written(option, value)).unwrap_or_default(),
        Takes::Several => {
            let items = values.iter().flat_map(|value| value.split(',')).map(str::trim);
            let items: Vec<_> =
                items.filter(|item| !item.is_empty()).map(|item| written(option, item)).collect();
            format!("[{}]", items.join(", "))
        }
    };
    format!("{} = {value}", option.key())
}

/// A value as TOML has it.
pub(super) fn written(option: &NodeOption, value: &str) -> String {
    if option.is_secret() {
        return quoted(&without_secrets(value));
    }
    let is_number = value.parse::<i64>().is_ok_and(|number| number.to_string() == value);
    if is_number && option.takes() == Takes::One { value.to_owned() } else { quoted(value) }
}

/// TOML's strings are those of JSON.
fn quoted(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

/// Where an endpoint is: user, path and query may be what it knows its customer by.
fn without_secrets(url: &str) -> String {
    let Ok(url) = Url::parse(url) else { return "…".to_owned() };
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let has_more = url.path() != "/" || url.query().is_some() || !url.username().is_empty();
    let rest = if has_more || url.password().is_some() { "/…" } else { "" };
    format!("{}://{host}{port}{rest}", url.scheme())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_shown_without_what_it_knows_its_customer_by() {
        for (url, shown) in [
            ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
            ("wss://l1.example.org/", "wss://l1.example.org"),
            ("wss://l1.example.org/v3/0123456789abcdef", "wss://l1.example.org/…"),
            ("https://user:word@l1.example.org:8443", "https://l1.example.org:8443/…"),
            ("https://l1.example.org?key=0123", "https://l1.example.org/…"),
            ("0123", "…"),
        ] {
            assert_eq!(without_secrets(url), shown, "{url}");
        }
    }
}
