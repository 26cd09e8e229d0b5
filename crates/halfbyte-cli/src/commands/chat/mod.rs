//! `halfbyte chat`: a conversation, line by line, with commands in between.
//!
//! `input` says what a line means, `editor` and `lines` where lines come from, `commands` is the
//! table of what begins with a slash, `talk` the conversation, `settings` the table of options,
//! `saved` the file format, `screen` what is shown to whom, `terminal` how it is left.

mod commands;
mod completion;
mod editor;
mod history;
mod input;
mod lines;
mod saved;
mod screen;
mod settings;
mod talk;
#[cfg(unix)]
mod terminal;

use std::io::IsTerminal;
use std::path::Path;

use clap::ColorChoice;
use halfbyte::{Chat, ChatTemplate, Hooks, Model};

use self::commands::Next;
use self::editor::Person;
use self::lines::{Lines, NoText};
use self::screen::Screen;
use self::talk::Talk;
use crate::model::Loading;
use crate::sampling::Sampling;
use crate::{Ending, interrupt, output};

const AFTER_HELP: &str = "\
Type /help for the commands. A message goes over several lines after a backslash at a line's end,
after Alt+Enter, between two \"\"\", or pasted. Ctrl-C stops an answer; Ctrl-D leaves.
Without a terminal each line of standard input is a message or a command, only answers go to
standard output, and the exit status is 1 if a line failed.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// What the model is told before the conversation.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// A built-in template by name, or a file with a Jinja template; the model's own by default.
    #[arg(long, value_name = "NAME|FILE")]
    template: Option<String>,
    /// Keep no history of what is typed, and read none.
    #[arg(long)]
    no_history: bool,
    /// When to use colours; 'auto': on terminals, unless the environment wants none.
    #[arg(long, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    color: ColorChoice,
    #[command(flatten)]
    loading: Loading,
    #[command(flatten)]
    sampling: Sampling,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Ending> {
    let config = args.sampling.config();
    config.validate()?;
    let cancel = interrupt::cancel()?;
    let model = args.loading.load()?;
    let template = template(&model, args.template.as_deref())?;
    let mut chat = Chat::new(model.session(), template, config);
    if let Some(system) = &args.system {
        chat.set_system(system);
    }
    // Ctrl-C while the model was loaded.
    cancel.check()?;
    let interactive = std::io::stdin().is_terminal();
    let screen = Screen::new(args.color, interactive);
    let reading = screen.reading();
    let progress = Some(screen::progress(&reading));
    chat.set_hooks(Hooks { progress, ..Hooks::cancelled_by(cancel) });
    let mut talk = Talk::new(chat, screen, reading, cancel);
    if !interactive {
        return follow(&mut talk);
    }
    screen.remark(format_args!("{} (/help for commands)", model.path().display()));
    let _patience = interrupt::Patience::new();
    if editor::is_possible() {
        let mut person = Person::new(screen, !args.no_history)?;
        converse(&mut talk, || person.next())
    } else {
        let mut lines = Lines::new(std::io::stdin().lock());
        converse(&mut talk, || {
            loop {
                output::print(screen::PROMPT)?;
                match interrupt::while_idle(cancel, || lines.next()) {
                    // As with an editor, that costs a line and not the conversation.
                    Err(error) if error.is::<NoText>() => screen.error(&error),
                    read => return read,
                }
            }
        })
    }
}

/// Obeys a person. What fails is told, and the conversation goes on.
fn converse(
    talk: &mut Talk,
    mut next: impl FnMut() -> anyhow::Result<Option<String>>,
) -> anyhow::Result<Ending> {
    while let Some(text) = next()? {
        match talk.take(&text) {
            Ok(Next::GoOn) => {}
            Ok(Next::Leave) => break,
            Err(error) if output::is_broken_pipe(&error) => return Err(error),
            Err(error) => talk.screen().error(&error),
        }
    }
    Ok(Ending::Done)
}

/// Obeys a script. What fails is told, what follows is done, and the end is a failure.
fn follow(talk: &mut Talk) -> anyhow::Result<Ending> {
    let mut lines = Lines::new(std::io::stdin().lock());
    let mut n_failed = 0;
    while let Some(text) = interrupt::while_idle(talk.cancel(), || lines.next())? {
        match talk.take(&text) {
            Ok(Next::GoOn) => {}
            Ok(Next::Leave) => break,
            Err(error) if output::is_broken_pipe(&error) => return Err(error),
            Err(error) => {
                talk.screen().error(&error);
                n_failed += 1;
            }
        }
        if talk.cancel().is_cancelled() {
            return Ok(Ending::Interrupted);
        }
    }
    match n_failed {
        0 => Ok(Ending::Done),
        1 => anyhow::bail!("one line of the input failed"),
        n => anyhow::bail!("{n} lines of the input failed"),
    }
}

fn template(model: &Model, choice: Option<&str>) -> anyhow::Result<ChatTemplate> {
    match choice {
        None => Ok(model.chat_template()?),
        Some(file) if Path::new(file).is_file() => {
            Ok(ChatTemplate::jinja(super::read_file(Path::new(file))?, model))
        }
        Some(name) => Ok(ChatTemplate::builtin(name, model)?),
    }
}
