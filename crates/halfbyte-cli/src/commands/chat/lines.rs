//! Lines of standard input where there is no editor: a pipe, a file, a terminal that can do little.

use std::fmt;
use std::io::{BufRead, Read};

use anyhow::Context;

use super::input::{Follower, GoesOn};

/// Longer lines are no conversation; they would only fill the memory.
const MAX_BYTES: usize = 16 << 20;

/// Texts from `reader`: a line each, or several that belong together.
#[derive(Debug)]
pub(super) struct Lines<R> {
    reader: R,
    n_read: usize,
    /// Whether the last line was too long, and its rest is still to come.
    is_inside: bool,
}

/// What was read is no text. What follows may be.
#[derive(Debug)]
pub(super) struct NoText(String);

impl fmt::Display for NoText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoText {}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, n_read: 0, is_inside: false }
    }

    /// The next text, without the line feed at its end; `None` at the end of the input. An error
    /// that is a [`NoText`] costs what was read so far, and no more.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<String>> {
        let mut text = String::new();
        let mut more = None;
        let mut follower = Follower::default();
        while let Some(line) = self.line()? {
            text.push_str(&line);
            anyhow::ensure!(text.len() <= MAX_BYTES, self.too_long());
            more = follower.goes_on(&line);
            match more {
                None => return Ok(Some(text)),
                Some(GoesOn::Below) => {}
                Some(GoesOn::Instead) => drop(text.pop()),
            }
            text.push('\n');
        }
        match more {
            None => Ok(None),
            Some(GoesOn::Instead) => Ok(Some(text)),
            Some(GoesOn::Below) => {
                let words = "the input ends inside a message: its closing \"\"\" is missing";
                Err(NoText(words.to_owned()).into())
            }
        }
    }

    fn line(&mut self) -> anyhow::Result<Option<String>> {
        if std::mem::take(&mut self.is_inside) {
            self.reader.skip_until(b'\n').context("cannot read standard input")?;
        }
        let mut line = Vec::new();
        let limit = MAX_BYTES as u64 + 2;
        let n = self.reader.by_ref().take(limit).read_until(b'\n', &mut line);
        if n.context("cannot read standard input")? == 0 {
            return Ok(None);
        }
        self.n_read += 1;
        if line.ends_with(b"\n") {
            line.pop();
            if line.ends_with(b"\r") {
                line.pop();
            }
        } else {
            self.is_inside = line.len() > MAX_BYTES;
        }
        anyhow::ensure!(line.len() <= MAX_BYTES, self.too_long());
        let line = String::from_utf8(line);
        let wrong = |_| NoText(format!("line {} is not UTF-8 text", self.n_read));
        Ok(Some(line.map_err(wrong)?))
    }

    fn too_long(&self) -> NoText {
        NoText(format!("line {} is longer than {} MiB", self.n_read, MAX_BYTES >> 20))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(input: &[u8]) -> Result<Vec<String>, String> {
        let mut lines = Lines::new(input);
        let mut texts = Vec::new();
        while let Some(text) = lines.next().map_err(|error| error.to_string())? {
            texts.push(text);
        }
        Ok(texts)
    }

    #[test]
    fn lines_that_belong_together_are_one_text() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("\n", &[""]),
            ("one\r\ntwo", &["one", "two"]),
            ("one\\\ntwo\\\nthree\nfour\n", &["one\ntwo\nthree", "four"]),
            ("one\\", &["one\n"]),
            ("\"\"\"one\n\n/two\\\n\"\"\"\nthree", &["\"\"\"one\n\n/two\\\n\"\"\"", "three"]),
            ("\\\n \"\"\"one\ntwo\"\"\" \nthree", &["\n \"\"\"one\ntwo\"\"\" ", "three"]),
            ("one\\\n\"\"\"two\nthree", &["one\n\"\"\"two", "three"]),
        ];
        for (input, expected) in cases {
            assert_eq!(texts(input.as_bytes()).expect("text"), *expected, "{input:?}");
        }
    }

    /// A text that is looked at anew for each of its lines takes longer than anybody waits.
    #[test]
    fn a_text_of_a_million_lines_is_read_in_one_go() {
        let blank = format!("\"\"\"{}\"\"\"", "\n".repeat(1 << 20));
        assert_eq!(texts(blank.as_bytes()).map(|texts| texts[0].len()), Ok(blank.len()));
        let indented = format!("{}{}one", " ".repeat(1 << 20), "\\\n".repeat(1 << 20));
        assert_eq!(texts(indented.as_bytes()).map(|texts| texts.len()), Ok(1));
    }

    #[test]
    fn what_follows_a_line_that_is_no_text_is_read() {
        let long = [&vec![b'a'; 2 * MAX_BYTES][..], b"\nnext"].concat();
        for input in [&b"\xff\xfe\nnext"[..], b"one\\\n\xff\nnext", &long] {
            let mut lines = Lines::new(input);
            let error = lines.next().expect_err("no text");
            assert!(error.is::<NoText>(), "{error}");
            assert_eq!(lines.next().expect("text").as_deref(), Some("next"));
        }
    }

    #[test]
    fn what_is_no_line_of_text_is_an_error_that_says_why() {
        let long = vec![b'a'; MAX_BYTES + 1];
        let longest = vec![b'a'; MAX_BYTES];
        assert_eq!(texts(&longest).map(|texts| texts[0].len()), Ok(MAX_BYTES));
        let endless = [&vec![b'a'; MAX_BYTES / 4], &b"\\\n"[..]].concat().repeat(4);
        let cases: [(&[u8], &str); 4] = [
            (b"one\n\xff\xfe\n", "line 2 is not UTF-8"),
            (b"\"\"\"one\n", "closing \"\"\" is missing"),
            (&long, "line 1 is longer than 16 MiB"),
            (&endless, "is longer than 16 MiB"),
        ];
        for (input, words) in cases {
            let error = texts(input).expect_err(words);
            assert!(error.contains(words), "{error}");
        }
    }
}
