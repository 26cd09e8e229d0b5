//! The table of commands.

use anyhow::{Context, ensure};

use super::settings::{self, SETTINGS};
use super::talk::Talk;
use super::{completion, saved};

/// Whether the conversation goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    Leave,
}

/// Something that begins with a slash.
pub(super) struct Command {
    pub(super) name: &'static str,
    /// What follows the name, for people.
    pub(super) arguments: &'static str,
    help: &'static str,
    /// What may follow the name, given its beginning.
    pub(super) completions: fn(&str) -> Vec<String>,
    run: fn(&mut Talk, &str) -> anyhow::Result<Next>,
}

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "/help",
        arguments: "",
        help: "this list",
        completions: completion::nothing,
        run: |talk, _| {
            talk.screen().tell(help());
            Ok(Next::GoOn)
        },
    },
    Command {
        name: "/system",
        arguments: "[TEXT]",
        help: "set the system message; without TEXT, remove it",
        completions: completion::nothing,
        run: |talk, text| talk.set_system(text),
    },
    Command {
        name: "/regenerate",
        arguments: "",
        help: "answer the last question again",
        completions: completion::nothing,
        run: |talk, _| talk.regenerate(),
    },
    Command {
        name: "/undo",
        arguments: "",
        help: "take back the last question, or a /reset or /load",
        completions: completion::nothing,
        run: |talk, _| talk.undo(),
    },
    Command {
        name: "/reset",
        arguments: "",
        help: "forget the conversation, but not the system message",
        completions: completion::nothing,
        run: |talk, _| talk.reset(),
    },
    Command {
        name: "/set",
        arguments: "[NAME [VALUE]]",
        help: "change an option; without VALUE, show it; alone, show all",
        completions: |start| completion::words(start, SETTINGS.iter().map(|setting| setting.name)),
        run: set,
    },
    Command {
        name: "/stats",
        arguments: "",
        help: "tokens, times and the room that is left in the context",
        completions: completion::nothing,
        run: |talk, _| talk.tell_stats(),
    },
    Command {
        name: "/save",
        arguments: "FILE",
        help: "write messages and options to a new file, as JSON",
        completions: completion::files,
        run: |talk, file| save(talk, file, false),
    },
    Command {
        name: "/save!",
        arguments: "FILE",
        help: "the same, also over a file that is there",
        completions: completion::files,
        run: |talk, file| save(talk, file, true),
    },
    Command {
        name: "/load",
        arguments: "FILE",
        help: "go on with what was saved",
        completions: completion::files,
        run: load,
    },
    Command {
        name: "/quit",
        arguments: "",
        help: "leave; so does /exit, the end of input, and Ctrl-C twice",
        completions: completion::nothing,
        run: |_, _| Ok(Next::Leave),
    },
];

/// Other names of commands.
const ALIASES: &[(&str, &str)] = &[("/exit", "/quit"), ("/?", "/help")];

/// The command of that name.
pub(super) fn find(name: &str) -> Option<&'static Command> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
    COMMANDS.iter().find(|command| command.name == name)
}

/// Runs the command `name` with `rest` behind it.
pub(super) fn run(talk: &mut Talk, name: &str, rest: &str) -> anyhow::Result<Next> {
    let command =
        find(name).with_context(|| format!("unknown command {name}; /help lists them"))?;
    ensure!(
        rest.is_empty() || !command.arguments.is_empty(),
        "{name} takes nothing behind it; a message that begins so goes between two \"\"\"",
    );
    (command.run)(talk, rest)
}

fn help() -> String {
    let usage = |c: &Command| format!("{} {}", c.name, c.arguments);
    let width = COMMANDS.iter().map(|c| usage(c).len()).max().unwrap_or(0);
    let rows = COMMANDS.iter().map(|c| format!("{:width$}  {}\n", usage(c), c.help));
    rows.chain([INPUT_HELP.to_owned()]).collect()
}

const INPUT_HELP: &str = "\
Several lines are one message after a backslash at the end of a line, after
Alt+Enter, between two \"\"\", or pasted. Ctrl-C stops an answer. Tab completes
commands, options and files.";

fn set(talk: &mut Talk, arguments: &str) -> anyhow::Result<Next> {
    let (name, text) = arguments.split_once(char::is_whitespace).unwrap_or((arguments, ""));
    if name.is_empty() {
        let config = talk.chat().config();
        let width = SETTINGS.iter().map(|setting| setting.name.len()).max().unwrap_or(0);
        for setting in SETTINGS {
            let value = setting.get(config).to_string();
            let row = format_args!("{:width$}  {value:<8}  {}", setting.name, setting.help);
            talk.screen().tell(row);
        }
        talk.screen().tell("A value of 'default' sets an option back.");
        return Ok(Next::GoOn);
    }
    let setting = settings::find(name)?;
    if text.is_empty() {
        let value = setting.get(talk.chat().config());
        talk.screen().tell(format_args!("{} {value}: {}", setting.name, setting.help));
        return Ok(Next::GoOn);
    }
    let config = setting.set(talk.chat().config(), &setting.value(text.trim()))?;
    talk.screen().remark(format_args!("{} {}", setting.name, setting.get(&config)));
    talk.set_config(config);
    Ok(Next::GoOn)
}

fn save(talk: &Talk, file: &str, replace: bool) -> anyhow::Result<Next> {
    let path = saved::path(file)?;
    saved::save(talk.chat(), &path, replace)?;
    let n_messages = talk.chat().messages().len();
    talk.screen().remark(format_args!("{n_messages} messages in {}", path.display()));
    Ok(Next::GoOn)
}

fn load(talk: &mut Talk, file: &str) -> anyhow::Result<Next> {
    let path = saved::path(file)?;
    let (messages, config) = saved::load(&path, talk.chat().config())?;
    talk.screen().remark(format_args!("{} messages from {}", messages.len(), path.display()));
    talk.replace(messages, config);
    Ok(Next::GoOn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::chat::input::{Input, parse};

    #[test]
    fn every_command_can_be_typed_and_is_found() {
        let aliases = ALIASES.iter().map(|(alias, _)| *alias);
        for name in COMMANDS.iter().map(|command| command.name).chain(aliases) {
            assert_eq!(parse(name), Input::Command { name, rest: "" });
            assert!(find(name).is_some(), "{name}");
        }
        assert!(find("/helpp").is_none() && find("help").is_none());
    }

    #[test]
    fn names_are_there_once_and_the_help_has_them_all() {
        let help = help();
        for (i, command) in COMMANDS.iter().enumerate() {
            assert!(COMMANDS[..i].iter().all(|other| other.name != command.name));
            let row = format!("{} {}", command.name, command.arguments);
            assert!(help.lines().any(|line| line.starts_with(&row)), "{row}");
            assert!(help.contains(command.help));
        }
        assert!(help.lines().all(|line| line.chars().count() < 80), "{help}");
    }
}
