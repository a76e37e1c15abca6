//! A reader of lines that holds no more than a limit of each, whatever arrives.

use std::io::{self, BufRead};

/// One line that is not blank.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// The line without the blanks around it.
    Text(&'a [u8]),
    /// More characters than the limit; they have been skipped.
    TooLong,
}

/// Reads lines. Blanks before a line and behind it take no memory and do not count, so a blank line of any
/// length is a blank line.
pub(crate) struct Lines<R> {
    input: R,
    limit: usize,
    /// The line being read, up to the limit; kept for its memory.
    text: Vec<u8>,
    /// Lines read, blank ones too.
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// `limit` is the most characters of a line, without its newline.
    pub(crate) const fn new(input: R, limit: usize) -> Self {
        Self { input, limit, text: Vec::new(), number: 0 }
    }

    /// The next line that is not blank, with its number from 1 (blank lines count); `None` at the end. The last
    /// line needs no newline.
    ///
    /// # Errors
    /// What the input says.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u64, Line<'_>)>> {
        loop {
            let (complete, too_long) = self.read()?;
            if complete {
                self.number += 1;
            }
            if too_long {
                return Ok(Some((self.number, Line::TooLong)));
            }
            if !self.text.is_empty() {
                break;
            }
            if !complete {
                return Ok(None);
            }
        }
        Ok(Some((self.number, Line::Text(self.text.trim_ascii_end()))))
    }

    /// Reads one line into `text`, or as much of it as the limit allows. Whether there was one at all, and
    /// whether it went over the limit.
    fn read(&mut self) -> io::Result<(bool, bool)> {
        self.text.clear();
        let (mut any, mut too_long) = (false, false);
        loop {
            let chunk = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                chunk => chunk?,
            };
            if chunk.is_empty() {
                return Ok((any, too_long));
            }
            any = true;
            let newline = chunk.iter().position(|&byte| byte == b'\n');
            let (part, _) = chunk.split_at(newline.unwrap_or(chunk.len()));
            let used = part.len() + usize::from(newline.is_some());
            let part = if self.text.is_empty() { part.trim_ascii_start() } else { part };
            let (kept, rest) = part.split_at(part.len().min(self.limit - self.text.len()));
            self.text.extend_from_slice(kept);
            too_long |= !rest.trim_ascii().is_empty();
            self.input.consume(used);
            if newline.is_some() {
                return Ok((true, too_long));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    /// Every line of `input`, read in chunks of `chunk` bytes with at most four characters a line.
    fn read(input: &str, chunk: usize) -> Vec<(u64, Option<String>)> {
        let mut lines = Lines::new(BufReader::with_capacity(chunk, input.as_bytes()), 4);
        let mut found = Vec::new();
        while let Some((number, line)) = lines.next().unwrap() {
            found.push(match line {
                Line::Text(text) => (number, Some(String::from_utf8(text.to_vec()).unwrap())),
                Line::TooLong => (number, None),
            });
            assert!(lines.text.len() <= 4);
        }
        found
    }

    fn text(number: u64, text: &str) -> (u64, Option<String>) {
        (number, Some(text.to_owned()))
    }

    #[test]
    fn lines_are_the_same_however_they_arrive() {
        for chunk in 1..12 {
            assert_eq!(read("", chunk), []);
            assert_eq!(read("\n \r\n\t\n", chunk), []);
            assert_eq!(read("ab", chunk), [text(1, "ab")]);
            assert_eq!(read("abcd\n\n  ef \r\ngh", chunk), [text(1, "abcd"), text(3, "ef"), text(4, "gh")]);
            assert_eq!(read("abcde\nab\n", chunk), [(1, None), text(2, "ab")]);
            assert_eq!(read("ab\nabcdefghijklmnopq", chunk), [text(1, "ab"), (2, None)]);
        }
    }

    #[test]
    fn blanks_around_a_line_do_not_count() {
        for chunk in 1..12 {
            assert_eq!(read("          \nab\n", chunk), [text(2, "ab")]);
            assert_eq!(read("      abcd       \nab", chunk), [text(1, "abcd"), text(2, "ab")]);
            assert_eq!(read("abc       d\n", chunk), [(1, None)]);
            assert_eq!(read("ab c\n", chunk), [text(1, "ab c")]);
        }
    }
}
