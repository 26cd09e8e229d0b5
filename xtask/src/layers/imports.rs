//! One source file's imports from its own crate, as paths from the crate root.

use std::path::{Component, Path};

use super::lexer::{Kind, Token, lex};

/// A source file of the crate.
#[derive(Debug)]
pub(super) struct Source {
    /// Relative to `src/`.
    path: String,
    /// Where the file is in the module tree; empty for the crate root.
    module: Vec<String>,
    tokens: Vec<Token>,
    is_test: bool,
}

/// A path that starts at the crate root, `crate` left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Import {
    pub(super) path: Vec<String>,
    pub(super) line: usize,
}

impl Source {
    /// Reads the file at `path`, relative to `src/`.
    pub(super) fn new(path: &Path, text: &str) -> Self {
        let mut module: Vec<String> = path
            .with_extension("")
            .components()
            .filter_map(|c| match c {
                Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
                _ => None,
            })
            .collect();
        let is_test = module.last().is_some_and(|name| name == "tests");
        if module.last().is_some_and(|name| ["mod", "lib"].contains(&name.as_str())) {
            module.pop();
        }
        Self { path: path.display().to_string(), module, tokens: without_tests(lex(text)), is_test }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn is_crate_root(&self) -> bool {
        self.module.is_empty()
    }

    /// The top-level module that the file belongs to.
    pub(super) fn module(&self) -> &str {
        self.module.first().map_or("", String::as_str)
    }

    /// Every path into the own crate; none for test modules.
    pub(super) fn imports(&self) -> Vec<Import> {
        let mut found = Vec::new();
        if self.is_test {
            return found;
        }
        let mut module = self.module.clone();
        // The brace depth at which each inline module ends.
        let (mut depth, mut ends) = (0usize, Vec::new());
        let mut at = 0;
        while at < self.tokens.len() {
            if let [Kind::Word(word), Kind::Word(name), Kind::Mark('{')] = &self.kinds::<3>(at)
                && word == "mod"
            {
                module.push(name.clone());
                ends.push(depth);
                at += 2;
            }
            match &self.tokens[at].kind {
                Kind::Mark('{') => depth += 1,
                Kind::Mark('}') => {
                    depth = depth.saturating_sub(1);
                    if ends.last() == Some(&depth) {
                        ends.pop();
                        module.pop();
                    }
                }
                Kind::Word(word) if ["crate", "super"].contains(&word.as_str()) => {
                    at = self.path_at(at, &module, &mut found);
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
        found
    }

    /// For the crate root: (path, name) of everything it re-exports with `pub use`.
    pub(super) fn re_exports(&self) -> Vec<(Vec<String>, String)> {
        let mut found = Vec::new();
        for at in 0..self.tokens.len() {
            if let [Kind::Word(first), Kind::Word(second)] = &self.kinds::<2>(at)
                && (first.as_str(), second.as_str()) == ("pub", "use")
            {
                let mut leaves = Vec::new();
                let start = if self.is_word(at + 2, "crate") { at + 4 } else { at + 2 };
                self.tree(start, &mut Vec::new(), &mut leaves);
                for (import, alias) in leaves {
                    let name = alias.or_else(|| import.path.last().cloned());
                    found.extend(name.map(|name| (import.path, name)));
                }
            }
        }
        found
    }

    /// Reads the path that starts at token `at` with `crate` or `super`; returns where it ends.
    fn path_at(&self, mut at: usize, module: &[String], found: &mut Vec<Import>) -> usize {
        let mut prefix = if self.is_word(at, "crate") { Vec::new() } else { module.to_vec() };
        loop {
            if self.is_word(at, "super") {
                prefix.pop();
            }
            if self.kind(at + 1) != Some(&Kind::PathSeparator) {
                // `pub(crate)`, `pub(super)`, `crate` alone.
                return at + 1;
            }
            at += 2;
            if !self.is_word(at, "super") {
                break;
            }
        }
        let mut leaves = Vec::new();
        let end = self.tree(at, &mut prefix, &mut leaves);
        found.extend(leaves.into_iter().map(|(import, _)| import));
        end
    }

    /// Reads a path or `use` tree under `prefix`; appends its leaves, each with its alias.
    fn tree(
        &self,
        mut at: usize,
        prefix: &mut Vec<String>,
        leaves: &mut Vec<(Import, Option<String>)>,
    ) -> usize {
        let depth = prefix.len();
        let line = self.tokens.get(at).map_or(0, |t| t.line);
        loop {
            match self.kind(at) {
                Some(Kind::Word(name)) => {
                    if name != "self" {
                        prefix.push(name.clone());
                    }
                    at += 1;
                }
                Some(Kind::Mark('{')) if prefix.len() == depth || self.after_separator(at) => {
                    at = self.group(at + 1, prefix, leaves);
                    prefix.truncate(depth);
                    return at;
                }
                Some(Kind::Mark('*')) if self.after_separator(at) => at += 1,
                _ => {}
            }
            if self.kind(at) != Some(&Kind::PathSeparator) {
                break;
            }
            at += 1;
            if self.kind(at) == Some(&Kind::Mark('<')) {
                // A turbofish: the path ends here, its arguments are read on their own.
                break;
            }
        }
        let mut alias = None;
        if self.is_word(at, "as")
            && let Some(Kind::Word(name)) = self.kind(at + 1)
        {
            alias = Some(name.clone());
            at += 2;
        }
        leaves.push((Import { path: prefix.clone(), line }, alias));
        prefix.truncate(depth);
        at
    }

    /// Reads the members of `{a, b::c}` from after the brace to after its end.
    fn group(
        &self,
        mut at: usize,
        prefix: &mut Vec<String>,
        leaves: &mut Vec<(Import, Option<String>)>,
    ) -> usize {
        loop {
            match self.kind(at) {
                None => return at,
                Some(Kind::Mark('}')) => return at + 1,
                Some(Kind::Mark(_)) => at += 1,
                Some(_) => at = self.tree(at, prefix, leaves),
            }
        }
    }

    fn after_separator(&self, at: usize) -> bool {
        at > 0 && self.kind(at - 1) == Some(&Kind::PathSeparator)
    }

    fn kind(&self, at: usize) -> Option<&Kind> {
        self.tokens.get(at).map(|t| &t.kind)
    }

    /// The `N` token kinds from `at`; past the end, marks that match nothing.
    fn kinds<const N: usize>(&self, at: usize) -> [Kind; N] {
        std::array::from_fn(|i| self.kind(at + i).cloned().unwrap_or(Kind::Mark('\0')))
    }

    fn is_word(&self, at: usize, word: &str) -> bool {
        matches!(self.kind(at), Some(Kind::Word(w)) if w == word)
    }
}

/// Drops every item that follows `#[cfg(test)]`.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let is = |at: usize, text: &str| match tokens.get(at).map(|t| &t.kind) {
        Some(Kind::Word(w)) => w == text,
        Some(Kind::Mark(c)) => text.len() == 1 && text.starts_with(*c),
        _ => false,
    };
    let attribute = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if attribute.iter().enumerate().all(|(i, text)| is(at + i, text)) {
            at = item_end(&tokens, at + attribute.len());
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Where the item that starts at `at` ends: after its `;` or its closing brace.
fn item_end(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0usize;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.kind {
            Kind::Mark('{') => depth += 1,
            Kind::Mark('}') => {
                depth = depth.saturating_sub(1);
                // `use a::{b};` ends at its semicolon.
                let followed = tokens.get(at).map(|t| &t.kind);
                if depth == 0 && followed != Some(&Kind::Mark(';')) {
                    break;
                }
            }
            Kind::Mark(';') if depth == 0 => break,
            _ => {}
        }
    }
    at
}
