//! What is shown: answers on standard output, all else on standard error, with or without colours.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, IsTerminal};

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use clap::ColorChoice;
use halfbyte::{PROMPT_CHUNK, Progress};
use indicatif::ProgressBar;

use crate::output;

/// What stands before a person's line.
pub(super) const PROMPT: &str = "> ";

const PROMPT_STYLE: Style = AnsiColor::Green.on_default().bold();
const COMMAND_STYLE: Style = AnsiColor::Cyan.on_default();
const REMARK_STYLE: Style = Style::new().dimmed();
const ERROR_STYLE: Style = AnsiColor::Red.on_default().bold();

#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    /// Whether a person is there to read remarks.
    interactive: bool,
    /// Whether a terminal shows the answers, so that control characters in them would act.
    terminal: bool,
    /// Whether what is typed is coloured.
    typed: bool,
    /// Whether standard error is coloured.
    told: bool,
}

impl Screen {
    pub(super) fn new(colors: ColorChoice, interactive: bool) -> Self {
        let (out, err) = (io::stdout(), io::stderr());
        Self {
            interactive,
            terminal: out.is_terminal(),
            typed: match colors {
                ColorChoice::Auto => is_colored(AutoStream::choice(&out)),
                ColorChoice::Always => true,
                ColorChoice::Never => false,
            },
            told: match colors {
                ColorChoice::Auto => is_colored(AutoStream::choice(&err)),
                ColorChoice::Always => true,
                ColorChoice::Never => false,
            },
        }
    }

    /// Whether what is typed is coloured.
    pub(super) fn is_colored(self) -> bool {
        self.typed
    }

    /// Shows a piece of an answer at once.
    pub(super) fn answer(self, text: &str) -> io::Result<()> {
        if self.terminal { output::print(harmless(text)) } else { output::print(text) }
    }

    /// A bar for prompts that take long to read.
    pub(super) fn reading(self) -> ProgressBar {
        if self.interactive { output::bar("reading", false) } else { ProgressBar::hidden() }
    }

    /// Tells what was asked for.
    pub(super) fn tell(self, text: impl Display) {
        output::note(harmless(&text.to_string()));
    }

    /// Tells a person how things are; a script did not ask.
    pub(super) fn remark(self, text: impl Display) {
        if self.interactive {
            output::note(styled(self.told, REMARK_STYLE, harmless(&text.to_string())));
        }
    }

    pub(super) fn error(self, error: &anyhow::Error) {
        let label = styled(self.told, ERROR_STYLE, "error:");
        output::note(format_args!("{label} {}", harmless(&output::chain(error))));
    }

    /// The prompt in its colour.
    pub(super) fn prompt(self) -> String {
        styled(self.typed, PROMPT_STYLE, PROMPT)
    }

    /// `word`, a command, in its colour.
    pub(super) fn command(self, word: &str) -> String {
        styled(self.typed, COMMAND_STYLE, word)
    }
}

/// Shows on `bar` how far a prompt is read, if that is more than one pass's work.
pub(super) fn progress(bar: &ProgressBar) -> Progress {
    let bar = bar.clone();
    Progress::new(move |done, total| {
        if done < total && total > PROMPT_CHUNK as u64 {
            if bar.is_finished() {
                bar.reset();
            }
            output::advance(&bar, done, total);
        } else if !bar.is_finished() {
            bar.finish_and_clear();
        }
    })
}

fn is_colored(choice: anstream::ColorChoice) -> bool {
    choice != anstream::ColorChoice::Never
}

fn styled(colored: bool, style: Style, text: impl Display) -> String {
    if colored { format!("{style}{text}{style:#}") } else { text.to_string() }
}

/// `text` without what would move a terminal's cursor, set its title or type for its user: models
/// and files may say anything. Line feeds and tabs stay, carriage returns go, others get a symbol.
fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| match c {
        '\n' | '\t' => Some(c),
        '\r' => None,
        // Unicode has a picture of each at the same distance.
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)),
        '\x7f' => Some('\u{2421}'),
        c if c.is_control() => Some(char::REPLACEMENT_CHARACTER),
        c => Some(c),
    };
    text.chars().filter_map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_control_characters_from_a_model() {
        for (text, shown) in [
            ("plain, ünïcode 🦀\n\ttext", "plain, ünïcode 🦀\n\ttext"),
            ("\x1b]0;title\x07", "␛]0;title␇"),
            ("\x1b[2J", "␛[2J"),
            ("a\r\nb\rc", "a\nbc"),
            ("\u{9b}2J\u{7f}\0", "\u{fffd}2J␡␀"),
        ] {
            assert_eq!(harmless(text), shown, "{text:?}");
        }
    }

    #[test]
    fn colours_end_where_they_should() {
        let colored = Screen { interactive: true, terminal: true, typed: true, told: true };
        assert_eq!(colored.prompt(), "\x1b[1m\x1b[32m> \x1b[0m");
        let plain = Screen { typed: false, ..colored };
        assert_eq!((plain.prompt().as_str(), plain.command("/help").as_str()), (PROMPT, "/help"));
    }
}
