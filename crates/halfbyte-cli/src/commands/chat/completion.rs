//! What Tab offers.

use super::commands::{self, COMMANDS};
use super::input::{GoesOn, goes_on};
use super::saved;

/// More are no help to anyone.
const MAX_CANDIDATES: usize = 1000;

/// Where in `line` the word begins that is completed at `pos`, and what may stand there. A
/// backslash that wants another line is completed by it.
pub(super) fn complete(line: &str, pos: usize) -> (usize, Vec<String>) {
    let typed = &line[..pos];
    if goes_on(typed) == Some(GoesOn::Instead) {
        return (pos - 1, vec!["\n".to_owned()]);
    }
    match typed.split_once(char::is_whitespace) {
        None if typed.starts_with('/') => {
            let names = COMMANDS.iter().filter(|command| command.name.starts_with(typed));
            let space = |arguments: &str| if arguments.is_empty() { "" } else { " " };
            (0, names.map(|c| format!("{}{}", c.name, space(c.arguments))).collect())
        }
        Some((name, rest)) if name.starts_with('/') => {
            let start = rest.trim_start();
            let candidates = commands::find(name).map_or_else(Vec::new, |c| (c.completions)(start));
            (pos - start.len(), candidates)
        }
        _ => (pos, Vec::new()),
    }
}

pub(super) fn nothing(_: &str) -> Vec<String> {
    Vec::new()
}

/// Those of `words` that begin with `start`.
pub(super) fn words(start: &str, words: impl Iterator<Item = &'static str>) -> Vec<String> {
    words.filter(|word| word.starts_with(start)).map(|word| format!("{word} ")).collect()
}

/// Paths that begin with `start`, folders with a slash behind them; hidden ones if asked for.
pub(super) fn files(start: &str) -> Vec<String> {
    let (folder, name) = start
        .rsplit_once('/')
        .map_or(("", start), |(folder, name)| (&start[..=folder.len()], name));
    let path = if folder.is_empty() { ".".into() } else { saved::expanded(folder) };
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let candidates = entries.filter_map(|entry| {
        let found = entry.file_name().into_string().ok()?;
        let is_wanted =
            found.starts_with(name) && (name.starts_with('.') || !found.starts_with('.'));
        // A name may hold what would move the cursor.
        let is_shown = is_wanted && !found.contains(char::is_control);
        let slash = if entry.path().is_dir() { "/" } else { "" };
        is_shown.then(|| format!("{folder}{found}{slash}"))
    });
    let mut candidates: Vec<_> = candidates.take(MAX_CANDIDATES).collect();
    candidates.sort_unstable();
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_options_and_files_are_completed() {
        let folder = tempfile::tempdir().expect("a folder");
        let base = format!("{}/", folder.path().to_str().expect("UTF-8"));
        for name in ["a b.json", "a.json", ".hidden", "b", "tab\there"] {
            std::fs::write(folder.path().join(name), "").expect("written");
        }
        std::fs::create_dir(folder.path().join("ab")).expect("made");
        let here = |names: &[&str]| names.iter().map(|name| format!("{base}{name}")).collect();
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let cases: &[(String, usize, Vec<String>)] = &[
            ("/re".into(), 0, owned(&["/regenerate", "/reset"])),
            ("/sa".into(), 0, owned(&["/save ", "/save! "])),
            ("/x".into(), 0, vec![]),
            ("hello".into(), 5, vec![]),
            ("".into(), 0, vec![]),
            ("one\\".into(), 3, owned(&["\n"])),
            ("/set top".into(), 5, owned(&["top_k ", "top_p "])),
            ("/system /re".into(), 8, vec![]),
            ("/nothing a".into(), 9, vec![]),
            (format!("/load {base}a"), 6, here(&["a b.json", "a.json", "ab/"])),
            (format!("/save  {base}a "), 7, here(&["a b.json"])),
            (format!("/save! {base}."), 7, here(&[".hidden"])),
            (format!("/load {base}t"), 6, vec![]),
            (format!("/load {base}no/such/"), 6, vec![]),
        ];
        for (line, start, expected) in cases {
            assert_eq!(complete(line, line.len()), (*start, expected.clone()), "{line}");
        }
        assert_eq!(complete("/reXX", 3).1.len(), 2);
    }
}
