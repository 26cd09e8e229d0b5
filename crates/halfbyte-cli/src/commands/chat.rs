//! `halfbyte chat`.

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::Context;
use halfbyte::{Chat, ChatTemplate, FinishReason, Hooks, Message, Model, Role};
use serde_json::{Value, json};

use crate::model::Loading;
use crate::sampling::Sampling;
use crate::{Ending, interrupt, output};

const HELP: &str = "\
/help            this list
/system TEXT     set the system message (nothing removes it)
/undo            take back the last question and its answer
/reset           forget the conversation
/save FILE       write the conversation as JSON
/load FILE       read it back
/exit            leave (so does the end of input)
Ctrl-C stops an answer.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the model is told before the conversation.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// A built-in template by name, or a file with a Jinja template; the model's own by default.
    #[arg(long, value_name = "NAME|FILE")]
    template: Option<String>,
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
    chat.set_hooks(Hooks::cancelled_by(cancel));
    if let Some(system) = &args.system {
        chat.set_system(system);
    }
    let interactive = std::io::stdin().is_terminal();
    if interactive {
        output::note(format_args!("{} (/help for commands)", model.path().display()));
    }
    for line in (Lines { interactive }) {
        let line = line?;
        match line.trim() {
            "" => {}
            "/exit" | "/quit" => break,
            command if command.starts_with('/') => {
                if let Err(error) = obey(&mut chat, command) {
                    output::error(&error);
                }
            }
            text => {
                cancel.reset();
                answer(&mut chat, text, interactive)?;
                cancel.reset();
            }
        }
    }
    Ok(Ending::Done)
}

/// Lines of standard input, with a prompt for a person.
struct Lines {
    interactive: bool,
}

impl Iterator for Lines {
    type Item = std::io::Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.interactive
            && let Err(error) = output::print("> ")
        {
            return Some(Err(error));
        }
        let mut line = String::new();
        match std::io::stdin().lock().read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(Ok(line)),
            Err(error) => Some(Err(error)),
        }
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

/// Prints the answer to `text` as it comes. A failed answer does not end an interactive chat.
fn answer(chat: &mut Chat, text: &str, interactive: bool) -> anyhow::Result<()> {
    let mut generation = match chat.say(text) {
        Ok(generation) => generation,
        Err(error) if interactive => {
            output::note(format_args!("error: {error}"));
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    for piece in &mut generation {
        match piece {
            Ok(piece) => output::print(piece.text)?,
            Err(error) if interactive => output::note(format_args!("\nerror: {error}")),
            Err(error) => return Err(error.into()),
        }
    }
    output::print("\n")?;
    if generation.finish_reason() == Some(&FinishReason::Cancelled) {
        output::note("(stopped)");
    }
    Ok(())
}

fn obey(chat: &mut Chat, command: &str) -> anyhow::Result<()> {
    let (word, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let rest = rest.trim();
    match word {
        "/help" => output::note(HELP),
        "/system" => chat.set_system(rest),
        "/reset" => chat.clear(),
        "/undo" => {
            let messages = chat.messages_mut();
            match messages.iter().rposition(|m| m.role == Role::User) {
                Some(last) => messages.truncate(last),
                None => anyhow::bail!("there is nothing to take back"),
            }
        }
        "/save" => save(chat.messages(), &path(rest)?)?,
        "/load" => *chat.messages_mut() = load(&path(rest)?)?,
        _ => anyhow::bail!("unknown command {word}; /help lists them"),
    }
    Ok(())
}

fn path(text: &str) -> anyhow::Result<PathBuf> {
    anyhow::ensure!(!text.is_empty(), "which file?");
    Ok(PathBuf::from(text))
}

fn save(messages: &[Message], path: &Path) -> anyhow::Result<()> {
    let messages: Vec<Value> =
        messages.iter().map(|m| json!({ "role": m.role.name(), "content": m.content })).collect();
    std::fs::write(path, json!({ "messages": messages }).to_string())
        .with_context(|| format!("cannot write {}", path.display()))
}

fn load(path: &Path) -> anyhow::Result<Vec<Message>> {
    let wrong = || format!("{} is no saved conversation", path.display());
    let file: Value = serde_json::from_str(&super::read_file(path)?).with_context(wrong)?;
    let messages = file["messages"].as_array().with_context(wrong)?;
    let message = |m: &Value| {
        let role = Role::from_name(m["role"].as_str()?)?;
        Some(Message::new(role, m["content"].as_str()?))
    };
    messages.iter().map(|m| message(m).with_context(wrong)).collect()
}
