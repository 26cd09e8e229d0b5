//! What a person types, and what it means.

/// Begins and ends a message of several lines.
const FENCE: &str = "\"\"\"";

/// What a text means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input<'a> {
    /// There is nothing in it.
    Nothing,
    /// A slash and a word, and what follows.
    Command { name: &'a str, rest: &'a str },
    /// Something to say.
    Message(&'a str),
}

/// How a text that is not complete goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GoesOn {
    /// With a line feed.
    Below,
    /// With a line feed in place of its last character, a backslash.
    Instead,
}

/// What `text`, which is complete, means.
pub(super) fn parse(text: &str) -> Input<'_> {
    if let Some(inside) = fenced(text) {
        let message = without_blank_edges(inside);
        return if message.is_empty() { Input::Nothing } else { Input::Message(message) };
    }
    let trimmed = text.trim();
    let (name, rest) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
    match name.strip_prefix('/') {
        _ if trimmed.is_empty() => Input::Nothing,
        // `/usr/bin` and `// comment` are no commands.
        Some(word) if is_word(word) => Input::Command { name, rest: rest.trim() },
        _ => Input::Message(without_blank_edges(text)),
    }
}

/// How `text` goes on after its last line, if it does.
pub(super) fn goes_on(text: &str) -> Option<GoesOn> {
    if text.trim_start().starts_with(FENCE) {
        return fenced(text).is_none().then_some(GoesOn::Below);
    }
    behind_backslash(text)
}

/// How a text without fences goes on.
fn behind_backslash(text: &str) -> Option<GoesOn> {
    // Two backslashes are two backslashes.
    let n_backslashes = text.bytes().rev().take_while(|&byte| byte == b'\\').count();
    (n_backslashes == 1).then_some(GoesOn::Instead)
}

/// Says of lines, one after the other, whether their text goes on. It looks at each of them once, so
/// that a text costs its length and not the square of it.
#[derive(Debug, Default)]
pub(super) struct Follower {
    /// Whether the text began with a fence; its first line that is not blank decides.
    fenced: Option<bool>,
}

impl Follower {
    /// What [`goes_on`] says of all lines so far, of which `line` is the last.
    pub(super) fn goes_on(&mut self, line: &str) -> Option<GoesOn> {
        if self.fenced.is_none() && line.trim_start().starts_with(FENCE) {
            self.fenced = Some(true);
            return fenced(line).is_none().then_some(GoesOn::Below);
        }
        if self.fenced == Some(true) {
            return (!line.trim_end().ends_with(FENCE)).then_some(GoesOn::Below);
        }
        let more = behind_backslash(line);
        // Behind a backslash alone, which leaves a blank line, a fence may still begin.
        let kept = if more.is_some() { line.strip_suffix('\\').unwrap_or(line) } else { line };
        if !kept.trim().is_empty() {
            self.fenced = Some(false);
        }
        more
    }
}

/// What stands between two fences, at the ends of `text`.
fn fenced(text: &str) -> Option<&str> {
    text.trim().strip_prefix(FENCE)?.strip_suffix(FENCE)
}

fn is_word(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "!?-_".contains(c))
}

/// `text` without blank lines around it. In several lines the first one keeps its indentation.
fn without_blank_edges(text: &str) -> &str {
    let text = text.trim_end();
    let indented = text.len() - text.trim_start().len();
    let start = text[..indented].rfind('\n').map_or(0, |feed| feed + 1);
    let lines = &text[start..];
    if lines.contains('\n') { lines } else { lines.trim_start() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_and_a_word_is_a_command_and_all_else_a_message() {
        let command = |name, rest| Input::Command { name, rest };
        for (text, expected) in [
            ("", Input::Nothing),
            (" \n\t\n", Input::Nothing),
            ("/help", command("/help", "")),
            ("  /save!  my file.json \n", command("/save!", "my file.json")),
            ("/system\nBe terse.\n  Be kind.", command("/system", "Be terse.\n  Be kind.")),
            ("/set top_k 3", command("/set", "top_k 3")),
            ("/no-such", command("/no-such", "")),
            ("/", Input::Message("/")),
            ("/usr/bin is full", Input::Message("/usr/bin is full")),
            ("// a comment\nint x;", Input::Message("// a comment\nint x;")),
            (" hello ", Input::Message("hello")),
            ("\n\n    indented\nnot\n\n", Input::Message("    indented\nnot")),
            ("\"\"\"/help\"\"\"", Input::Message("/help")),
            ("\"\"\"\n  one\n\n  two\n\"\"\"\n", Input::Message("  one\n\n  two")),
            ("\"\"\"\"\"\"", Input::Nothing),
            ("\"\"\" \n \"\"\"", Input::Nothing),
            ("say \"\"\"hi\"\"\"", Input::Message("say \"\"\"hi\"\"\"")),
            ("ÿ\u{2028}🦀", Input::Message("ÿ\u{2028}🦀")),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_backslash_and_an_open_fence_want_another_line() {
        for (text, expected) in [
            ("", None),
            ("one", None),
            ("one\\", Some(GoesOn::Instead)),
            ("one\\\\", None),
            ("one\ntwo\\", Some(GoesOn::Instead)),
            ("\\", Some(GoesOn::Instead)),
            ("\"\"\"", Some(GoesOn::Below)),
            ("  \"\"\"one", Some(GoesOn::Below)),
            ("\"\"\"\"", Some(GoesOn::Below)),
            ("\"\"\"one\ntwo\\", Some(GoesOn::Below)),
            ("\"\"\"one\ntwo\"\"\"", None),
            ("\"\"\"one\ntwo\n\"\"\" ", None),
            ("\"\"\"\"\"\"", None),
            ("one \"\"\"", None),
        ] {
            assert_eq!(goes_on(text), expected, "{text:?}");
        }
    }
}
