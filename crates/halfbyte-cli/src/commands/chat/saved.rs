//! A conversation in a file.
//!
//! ```json
//! {
//!   "format": "halfbyte chat",
//!   "version": 1,
//!   "model": "groovy.gguf",
//!   "settings": { "temperature": 0.7, "seed": null, … },
//!   "messages": [
//!     { "role": "system", "content": "Be terse." },
//!     { "role": "user", "content": "Hi" },
//!     { "role": "assistant", "content": "Hello." }
//!   ]
//! }
//! ```
//!
//! `messages` is all that must be there; options that `settings` leaves out stay as they are. Its
//! names are those of `/set`. What else stands in the file is not read. The server's chat page reads
//! such files, and writes them when it exports one conversation.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use halfbyte::{Chat, GenerationConfig, Message, Role};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::settings;

const FORMAT: &str = "halfbyte chat";
const VERSION: u64 = 1;

/// The file that a person means: `~/` is the home folder, quotes around a name are none of its.
pub(super) fn path(text: &str) -> anyhow::Result<PathBuf> {
    let unquoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let text = unquoted.unwrap_or(text);
    ensure!(!text.is_empty(), "which file?");
    Ok(expanded(text))
}

/// `text` with the home folder in place of a `~` at its beginning.
pub(super) fn expanded(text: &str) -> PathBuf {
    match (text.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(text),
    }
}

/// Writes the conversation, which is there as a whole or not at all.
///
/// A file that is there is an error, unless it may be replaced.
pub(super) fn save(chat: &Chat, path: &Path, replace: bool) -> anyhow::Result<()> {
    // A link stays one: what it points to is replaced.
    let target = if replace { fs::canonicalize(path) } else { Err(io::ErrorKind::NotFound.into()) };
    let target = target.unwrap_or_else(|_| path.to_owned());
    if fs::metadata(&target).is_ok_and(|found| !found.is_file()) {
        bail!("{} is no file", path.display());
    }
    let write = || {
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut file = NamedTempFile::new_in(folder.unwrap_or_else(|| Path::new(".")))?;
        serde_json::to_writer_pretty(&mut file, &to_json(chat))?;
        file.write_all(b"\n")?;
        // Else a power cut could leave the new name, and nothing under it.
        file.as_file().sync_all()?;
        let kept = if replace { file.persist(&target) } else { file.persist_noclobber(&target) };
        kept.map(drop).map_err(|error| error.error)
    };
    match write() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("{0} is there already; /save! {0} replaces it", path.display())
        }
        written => written.with_context(|| format!("cannot write {}", path.display())),
    }
}

/// Reads a conversation; options that the file does not name are taken from `config`.
pub(super) fn load(
    path: &Path,
    config: &GenerationConfig,
) -> anyhow::Result<(Vec<Message>, GenerationConfig)> {
    // A pipe might never end.
    ensure!(!path.exists() || path.is_file(), "{} is no file", path.display());
    let text = crate::commands::read_file(path)?;
    let wrong = || format!("{} is no saved conversation", path.display());
    let file = serde_json::from_str(&text).with_context(wrong)?;
    from_json(&file, config).with_context(wrong)
}

fn to_json(chat: &Chat) -> Value {
    let message = |m: &Message| json!({ "role": m.role.name(), "content": m.content });
    json!({
        "format": FORMAT,
        "version": VERSION,
        "model": chat.session().model().path().display().to_string(),
        "settings": settings::to_json(chat.config()),
        "messages": chat.messages().iter().map(message).collect::<Vec<_>>(),
    })
}

fn from_json(
    file: &Value,
    config: &GenerationConfig,
) -> anyhow::Result<(Vec<Message>, GenerationConfig)> {
    ensure!(file.is_object(), "it is not a JSON object");
    if let Some(format) = file.get("format") {
        ensure!(format == FORMAT, "its format is {format} and not \"{FORMAT}\"");
    }
    if let Some(version) = file.get("version") {
        ensure!(version == VERSION, "it is of version {version}; this program reads {VERSION}");
    }
    let config = match file.get("settings") {
        None => config.clone(),
        Some(Value::Object(object)) => settings::from_json(config, object).context("settings")?,
        Some(_) => bail!("its settings are not an object"),
    };
    let messages = match file.get("messages") {
        None if file.get("conversations").is_some() => {
            bail!("it holds several conversations; export one alone")
        }
        None => bail!("it has no messages"),
        Some(Value::Array(messages)) => messages,
        Some(_) => bail!("its messages are not a list"),
    };
    let messages = messages.iter().enumerate().map(|(i, value)| message(i, value));
    Ok((messages.collect::<Result<_, _>>()?, config))
}

/// The message at `i`.
fn message(i: usize, value: &Value) -> anyhow::Result<Message> {
    let field = |name| match value.get(name) {
        None => bail!("messages[{i}] has no {name}"),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => bail!("the {name} of messages[{i}] is not a text"),
    };
    let name = field("role")?;
    let role = Role::from_name(name).with_context(|| {
        format!("the role of messages[{i}] is {name:?} and not system, user or assistant")
    })?;
    ensure!(role != Role::System || i == 0, "messages[{i}] is a system message, and not the first");
    Ok(Message::new(role, field("content")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<(Vec<Message>, GenerationConfig)> {
        from_json(&serde_json::from_str(text)?, &GenerationConfig::greedy())
    }

    #[test]
    fn messages_are_enough() {
        let (messages, config) = read(r#"{"messages": []}"#).expect("valid");
        assert_eq!((messages.len(), config), (0, GenerationConfig::greedy()));
        let (messages, config) = read(
            r#"{"messages": [{"role": "system", "content": "Ünïcode \ud83e\udd80"},
                             {"role": "user", "content": "", "name": "Ann"}],
                "settings": {"top_k": 3}, "title": "mine"}"#,
        )
        .expect("valid");
        assert_eq!(messages, [Message::system("Ünïcode 🦀"), Message::user("")]);
        assert_eq!(config, GenerationConfig { top_k: 3, ..GenerationConfig::greedy() });
    }

    #[test]
    fn what_is_no_conversation_is_an_error_that_says_where() {
        let deep = "[".repeat(100_000);
        for (text, words) in [
            ("", "EOF"),
            ("{\"messages\": [", "line 1"),
            (&deep, "recursion"),
            ("[]", "not a JSON object"),
            ("{}", "no messages"),
            (r#"{"conversations": [{}, {}]}"#, "several conversations"),
            (r#"{"messages": {}}"#, "not a list"),
            (r#"{"messages": [7]}"#, "messages[0] has no role"),
            (r#"{"messages": [{"role": "user"}]}"#, "messages[0] has no content"),
            (r#"{"messages": [{"role": "user", "content": ["a"]}]}"#, "content of messages[0]"),
            (r#"{"messages": [{"role": "tool", "content": "a"}]}"#, "\"tool\""),
            (
                r#"{"messages": [{"role": "user", "content": "a"},
                                 {"role": "system", "content": "b"}]}"#,
                "messages[1] is a system message",
            ),
            (r#"{"messages": [], "format": "x"}"#, "\"x\""),
            (r#"{"messages": [], "version": 2}"#, "version 2"),
            (r#"{"messages": [], "settings": []}"#, "settings are not an object"),
            (r#"{"messages": [], "settings": {"heat": 1}}"#, "no option heat"),
            (r#"{"messages": [], "settings": {"top_p": 7}}"#, "top_p"),
            (r#"{"messages": [], "settings": {"top_p": "a"}}"#, "top_p"),
        ] {
            let error = format!("{:#}", read(text).expect_err(words));
            assert!(error.contains(words), "{text:.60}: {error}");
        }
    }

    #[test]
    fn names_of_files_are_what_a_person_means() {
        assert_eq!(path("a b.json").expect("a path"), Path::new("a b.json"));
        assert_eq!(path("\"a b.json\"").expect("a path"), Path::new("a b.json"));
        path("").expect_err("no path");
        path("\"\"").expect_err("no path");
        let home = std::env::home_dir().expect("a home");
        assert_eq!(path("~/a").expect("a path"), home.join("a"));
        assert_eq!(path("~a").expect("a path"), Path::new("~a"));
    }
}
