//! Where `unsafe` stands, and how often: ARCHITECTURE.md has a row for each file, which must be true.
//!
//! Counted are blocks, functions and implementations, macros' too; not names that C sees
//! (`#[unsafe(no_mangle)]`), and no files of tests.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};

use super::lexer::{Kind, lex};

/// Says how many there are, if the table has them all.
///
/// # Errors
///
/// If a file cannot be read, or a row is missing, wrong or too much.
pub(super) fn run(root: &Path) -> anyhow::Result<()> {
    let mut found = BTreeMap::new();
    count_in(&root.join("crates"), &root.join("crates"), &mut found)?;
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    let wrong = differences(&found, &listed(&text));
    ensure!(
        wrong.is_empty(),
        "ARCHITECTURE.md's table of `unsafe` is not what the code says:\n{}",
        wrong.join("\n")
    );
    println!("unsafe: {} in {} files, all listed", found.values().sum::<usize>(), found.len());
    Ok(())
}

/// Counts in every source file below `folder`; names are relative to `base`.
fn count_in(base: &Path, folder: &Path, found: &mut BTreeMap<String, usize>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            if !path.ends_with("tests") {
                count_in(base, &path, found)?;
            }
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            let n = count(&std::fs::read_to_string(&path)?);
            let name = path.strip_prefix(base)?.to_string_lossy().replace('\\', "/");
            if n > 0 {
                found.insert(name, n);
            }
        }
    }
    Ok(())
}

fn count(text: &str) -> usize {
    let tokens = lex(text);
    let follows = |i: usize| tokens.get(i + 1).map(|token| &token.kind);
    let is_unsafe = |i: &usize| tokens[*i].kind == Kind::Word("unsafe".into());
    (0..tokens.len()).filter(is_unsafe).filter(|&i| follows(i) != Some(&Kind::Mark('('))).count()
}

/// The rows of the table: a file in backticks, then its number.
fn listed(text: &str) -> BTreeMap<String, usize> {
    let row = |line: &str| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let file = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        let n = cells.next()?.parse().ok()?;
        file.ends_with(".rs").then(|| (file.to_owned(), n))
    };
    text.lines().filter_map(row).collect()
}

/// What is to be done so that `listed` is `found`.
fn differences(found: &BTreeMap<String, usize>, listed: &BTreeMap<String, usize>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (file, n) in found {
        match listed.get(file) {
            Some(other) if other == n => {}
            Some(other) => wrong.push(format!("`{file}` has {n}, not {other}")),
            None => wrong.push(format!("`{file}` has {n} and no row")),
        }
    }
    let gone = listed.keys().filter(|file| !found.contains_key(*file));
    wrong.extend(gone.map(|file| format!("`{file}` has none")));
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_functions_and_implementations_count() {
        let text = "unsafe impl Send for A {} // unsafe
            #[unsafe(no_mangle)] pub unsafe extern \"C\" fn f() { let _ = \"unsafe\"; unsafe { g() } }
            #![expect(unsafe_code, reason = \"unsafe\")]";
        assert_eq!(count(text), 3);
    }

    #[test]
    fn a_table_that_is_not_the_code_is_found() {
        let found = [("a/b.rs".to_owned(), 2), ("c.rs".to_owned(), 1)].into();
        let table = |rows: &str| differences(&found, &listed(rows));
        assert_eq!(table("| `a/b.rs` | 2 | x |\n| `c.rs` | 1 |"), [""; 0]);
        assert_eq!(table("| `a/b.rs` | 3 |\n| `c.rs` | 1 |"), ["`a/b.rs` has 2, not 3"]);
        assert_eq!(table("| `a/b.rs` | 2 |"), ["`c.rs` has 1 and no row"]);
        let more = "| `a/b.rs` | 2 |\n| `c.rs` | 1 |\n| `d.rs` | 1 |";
        assert_eq!(table(more), ["`d.rs` has none"]);
    }
}
