//! Line editing at a terminal.

use std::borrow::Cow;
use std::io::{ErrorKind, IsTerminal};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::anyhow;
use rustyline::completion::{Completer, Pair};
use rustyline::config::{Behavior, BellStyle, ColorMode, CompletionType};
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{
    Cmd, ConditionalEventHandler, Config, Context, Editor, Event, EventContext, EventHandler,
    Helper, KeyCode, KeyEvent, Modifiers, RepeatCount,
};

use super::input::{GoesOn, goes_on};
use super::screen::{PROMPT, Screen};
#[cfg(unix)]
use super::terminal;
use super::{commands, completion, history};

/// Whether the terminal can do what an editor needs; these are the ones that the editor refuses.
pub(super) fn is_possible() -> bool {
    std::env::var("TERM").map_or(true, |term| {
        !["dumb", "cons25", "emacs"].iter().any(|known| term.eq_ignore_ascii_case(known))
    })
}

/// Someone who types.
pub(super) struct Person {
    editor: Editor<Assistant, FileHistory>,
    screen: Screen,
    /// Where the history is kept, if it is.
    history: Option<PathBuf>,
    /// Whether the last Ctrl-C met an empty line.
    at_empty: Arc<AtomicBool>,
}

impl Person {
    /// Reads the history, if it is `kept`.
    pub(super) fn new(screen: Screen, kept: bool) -> anyhow::Result<Self> {
        let colors = if screen.is_colored() { ColorMode::Forced } else { ColorMode::Disabled };
        // Answers may go to a file or a pipe; what is typed belongs to the terminal.
        let elsewhere = !std::io::stdout().is_terminal();
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .completion_show_all_if_ambiguous(true)
            .bell_style(BellStyle::None)
            .color_mode(colors)
            .behavior(if elsewhere { Behavior::PreferTerm } else { Behavior::Stdio })
            .history_ignore_space(true)
            .max_history_size(history::MAX_ENTRIES)?
            .build();
        #[cfg(unix)]
        terminal::listen()?;
        let mut editor = Editor::with_config(config)?;
        editor.set_helper(Some(Assistant { screen }));
        let at_empty = Arc::new(AtomicBool::new(false));
        bind(&mut editor, &at_empty);
        let mut person = Self { editor, screen, history: None, at_empty };
        if kept {
            person.recall();
        }
        Ok(person)
    }

    /// The next text; `None` when the person leaves.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<String>> {
        let prompt = (PROMPT, self.screen.prompt());
        let mut wants_to_leave = false;
        loop {
            self.at_empty.store(false, Ordering::Relaxed);
            // Versions up to 19 panic where more than 65535 columns are deleted at once. What they
            // hold of the terminal they give back; a conversation is worth more than a line.
            let edit = || catch_unwind(AssertUnwindSafe(|| self.editor.readline(&prompt)));
            #[cfg(unix)]
            let read = terminal::while_edited(edit);
            #[cfg(not(unix))]
            let read = edit();
            let Ok(read) = read else {
                self.screen.error(&anyhow!("the line editor failed, and the line is lost"));
                continue;
            };
            match read {
                Ok(text) => {
                    self.remember(&text);
                    return Ok(Some(text));
                }
                Err(ReadlineError::Eof) => return Ok(None),
                Err(ReadlineError::Interrupted) => {
                    let at_empty = self.at_empty.load(Ordering::Relaxed);
                    if at_empty && wants_to_leave {
                        return Ok(None);
                    }
                    if at_empty {
                        self.screen.remark("Ctrl-C again, or Ctrl-D, leaves");
                    }
                    wants_to_leave = at_empty;
                }
                // Half a character, or one of another encoding. The line is lost, and not more.
                Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
                    self.screen.error(&anyhow!("what was typed is not UTF-8 text"));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads the history of earlier conversations. Without it one can talk, too.
    fn recall(&mut self) {
        match history::file() {
            Ok(None) => {}
            Ok(Some(path)) => match self.load(&path) {
                Ok(()) => self.history = Some(path),
                Err(error) => self.forget(&path.display().to_string(), &error),
            },
            Err(error) => self.forget("its folder", &error),
        }
    }

    fn load(&mut self, path: &Path) -> anyhow::Result<()> {
        match std::fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
            Ok(found) => anyhow::ensure!(
                found.is_file() && found.len() <= history::MAX_FILE_BYTES,
                "this is no history",
            ),
        }
        Ok(self.editor.load_history(path)?)
    }

    /// Adds `text` to the history at once: the next conversation may start beside this one.
    fn remember(&mut self, text: &str) {
        if text.len() > history::MAX_ENTRY_BYTES {
            return;
        }
        let added = self.editor.add_history_entry(text);
        let Some(path) = self.history.take() else { return };
        match added.and_then(|_| self.editor.append_history(&path)) {
            Ok(()) => self.history = Some(path),
            Err(error) => self.forget(&path.display().to_string(), &error),
        }
    }

    fn forget(&self, what: &str, error: &dyn std::fmt::Display) {
        self.screen.remark(format_args!("no history is kept: {what}: {error}"));
    }
}

/// What keys do here that they do not elsewhere.
fn bind(editor: &mut Editor<Assistant, FileHistory>, at_empty: &Arc<AtomicBool>) {
    let enter = |modifiers| KeyEvent(KeyCode::Enter, modifiers);
    // Line feeds are typed where the terminal is slower than the fingers.
    for key in [enter(Modifiers::NONE), KeyEvent::ctrl('J')] {
        editor.bind_sequence(Event::from(key), EventHandler::Conditional(Box::new(Enter)));
    }
    for key in [enter(Modifiers::ALT), KeyEvent(KeyCode::Char('J'), Modifiers::CTRL_ALT)] {
        editor.bind_sequence(Event::from(key), EventHandler::Simple(Cmd::Newline));
    }
    // A control character in the line would only confuse the editor, which counts columns.
    for key in [KeyEvent::ctrl('Q'), KeyEvent::ctrl('V')] {
        editor.bind_sequence(Event::from(key), EventHandler::Simple(Cmd::Noop));
    }
    let interrupt = EventHandler::Conditional(Box::new(Interrupt(Arc::clone(at_empty))));
    editor.bind_sequence(Event::from(KeyEvent::ctrl('C')), interrupt);
    #[cfg(unix)]
    {
        let suspend = EventHandler::Conditional(Box::new(Suspend));
        editor.bind_sequence(Event::from(KeyEvent::ctrl('Z')), suspend);
    }
}

/// Enter: sends, or goes on with another line.
struct Enter;

impl ConditionalEventHandler for Enter {
    fn handle(
        &self,
        _: &Event,
        _: RepeatCount,
        _: bool,
        context: &EventContext<'_>,
    ) -> Option<Cmd> {
        // At the end only: elsewhere the line is done.
        let (line, rest) = context.line().split_at_checked(context.pos())?;
        match goes_on(line).filter(|_| rest.is_empty())? {
            GoesOn::Below => Some(Cmd::Newline),
            // `Cmd::Replace` would leave the cursor in front; completing puts it behind.
            GoesOn::Instead => Some(Cmd::Complete),
        }
    }
}

/// Ctrl-C: notes whether there was a line to give up.
struct Interrupt(Arc<AtomicBool>);

impl ConditionalEventHandler for Interrupt {
    fn handle(
        &self,
        _: &Event,
        _: RepeatCount,
        _: bool,
        context: &EventContext<'_>,
    ) -> Option<Cmd> {
        self.0.store(context.line().is_empty(), Ordering::Relaxed);
        Some(Cmd::Interrupt)
    }
}

/// Ctrl-Z: stops the process until it is wanted again.
#[cfg(unix)]
struct Suspend;

#[cfg(unix)]
impl ConditionalEventHandler for Suspend {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, _: &EventContext<'_>) -> Option<Cmd> {
        terminal::suspend();
        Some(Cmd::Repaint)
    }
}

/// Completes and colours commands.
struct Assistant {
    screen: Screen,
}

impl Helper for Assistant {}

impl Validator for Assistant {}

impl Hinter for Assistant {
    type Hint = String;
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, candidates) = completion::complete(line, pos);
        let pair = |text: String| Pair { display: text.trim_end().to_owned(), replacement: text };
        Ok((start, candidates.into_iter().map(pair).collect()))
    }
}

impl Highlighter for Assistant {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        let (name, _) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match commands::find(name) {
            Some(_) => Cow::Owned(format!("{}{}", self.screen.command(name), &line[name.len()..])),
            None => Cow::Borrowed(line),
        }
    }

    fn highlight_char(&self, line: &str, _: usize, _: CmdKind) -> bool {
        line.starts_with('/')
    }
}
