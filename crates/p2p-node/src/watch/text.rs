//! Text from elsewhere, and figures for people.

use std::time::Duration;

use unicode_width::UnicodeWidthChar as _;

/// Text from elsewhere, without what moves the cursor, reorders or piles up, and no longer than so many characters.
pub(super) fn plain(text: &str, most: usize) -> String {
    let visible = |letter: char| if letter.width().unwrap_or(0) == 0 { '\u{fffd}' } else { letter };
    let mut letters = text.chars();
    let mut shown: String = letters.by_ref().take(most).map(visible).collect();
    if letters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// The ends of an address or a peer id.
pub(super) fn short(text: &str) -> String {
    let text = plain(text, 100);
    let letters: Vec<char> = text.chars().collect();
    match (letters.first_chunk::<6>(), letters.last_chunk::<6>()) {
        (Some(first), Some(last)) if letters.len() > 16 => first.iter().chain(&['…']).chain(last).collect(),
        _ => text,
    }
}

/// 1234567 as 1,234,567.
pub(super) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A height, where there is one.
pub(super) fn height(value: Option<u64>) -> String {
    value.map_or_else(|| "–".into(), number)
}

/// Seconds as people say them.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Milliseconds, or seconds where these are many.
pub(super) fn milliseconds(value: i64) -> String {
    if value.unsigned_abs() < 10_000 { format!("{value} ms") } else { format!("{} s", value / 1_000) }
}

/// A duration in milliseconds.
pub(super) fn round_trip(value: Duration) -> String {
    milliseconds(i64::try_from(value.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_moves_nothing() {
        assert_eq!(plain("\u{1b}[2J\u{202e}a\u{300}\u{200b}\r\n\u{9b}b", 50), "�[2J�a����\u{fffd}b");
        assert_eq!(plain("abc", 3), "abc");
        assert_eq!(plain("abcd", 3), "abc…");
        assert_eq!(short("0xedd2ff18289db175e9e4b55f00e61c1f7ee151eb"), "0xedd2…e151eb");
    }

    #[test]
    fn figures_are_grouped_and_spans_have_one_unit() {
        assert_eq!(["0", "999", "1,000", "1,234,567"], [0, 999, 1_000, 1_234_567].map(number));
        assert_eq!(["119 s", "2 min", "2 h", "2 days"], [119, 120, 7_200, 172_800].map(span));
        assert_eq!((milliseconds(-340), milliseconds(12_500)), ("-340 ms".into(), "12 s".into()));
    }
}
