//! Finds stop strings in text that comes in pieces.

/// Holds text back while it may be the beginning of a stop string.
#[derive(Debug)]
pub(super) struct StopScanner {
    stops: Vec<String>,
    held: String,
}

/// What became of some text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scanned {
    /// Text that is certain now.
    pub(super) text: String,
    /// The stop string that came right behind it.
    pub(super) stop: Option<String>,
}

impl StopScanner {
    pub(super) fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new() }
    }

    /// Takes more text. The stop string that ends first wins, so pieces do not matter.
    pub(super) fn push(&mut self, text: &str) -> Scanned {
        self.held.push_str(text);
        let found = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()).map(|start| (start, stop)))
            .min_by_key(|(start, stop)| (start + stop.len(), *start));
        if let Some((start, stop)) = found {
            let stop = stop.clone();
            self.held.truncate(start);
            return Scanned { text: std::mem::take(&mut self.held), stop: Some(stop) };
        }
        let keep = self.stops.iter().map(|stop| self.begun(stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Scanned { text: std::mem::replace(&mut self.held, rest), stop: None }
    }

    /// Gives back what was held: no more text comes.
    pub(super) fn flush(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes at the end of the held text that may be the beginning of `stop`. They begin and end
    /// with a character: `stop` does, and whole text cannot end inside one.
    fn begun(&self, stop: &str) -> usize {
        let longest = self.held.len().min(stop.len().saturating_sub(1));
        (1..=longest)
            .rev()
            .find(|&n| self.held.as_bytes().ends_with(&stop.as_bytes()[..n]))
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (stop strings, text, what comes out, the stop string found)
    const CASES: &[(&[&str], &str, &str, Option<&str>)] = &[
        (&[], "plain", "plain", None),
        (&["###"], "a ## b # c", "a ## b # c", None),
        (&["###"], "a ### b", "a ", Some("###")),
        (&["###"], "a ####", "a ", Some("###")),
        (&["\n\nUser:"], "yes\n\n\nUser: no", "yes\n", Some("\n\nUser:")),
        (&["abcd", "bc"], "abcd", "a", Some("bc")),
        (&["aab"], "aaab", "a", Some("aab")),
        (&["é!", "ü"], "caféé! x", "café", Some("é!")),
        (&["end", "the end"], "this is the end", "this is ", Some("the end")),
        (&["end"], "the en", "the en", None),
    ];

    #[test]
    fn stop_strings_are_found_however_the_text_is_cut() {
        for &(stops, text, expected, stop) in CASES {
            let letters: Vec<char> = text.chars().collect();
            for size in 1..=letters.len() {
                let mut scanner = StopScanner::new(stops.iter().map(|&s| s.to_owned()).collect());
                let (mut out, mut found) = (String::new(), None);
                for piece in letters.chunks(size) {
                    let scanned = scanner.push(&piece.iter().collect::<String>());
                    out.push_str(&scanned.text);
                    found = scanned.stop;
                    if found.is_some() {
                        break;
                    }
                }
                if found.is_none() {
                    out.push_str(&scanner.flush());
                }
                assert_eq!((out.as_str(), found.as_deref()), (expected, stop), "{text} by {size}");
            }
        }
    }

    #[test]
    fn only_what_may_become_a_stop_string_is_held() {
        let mut scanner = StopScanner::new(vec!["STOP".into()]);
        assert_eq!(scanner.push("go ST").text, "go ");
        assert_eq!(scanner.push("AY").text, "STAY");
    }
}
