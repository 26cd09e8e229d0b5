//! Rust source → the few tokens that paths are made of. Comments and literals fall away.

/// A token and the line it stands on, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) line: usize,
}

/// What paths and modules are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An identifier or keyword; `r#` is dropped.
    Word(String),
    /// `::`
    PathSeparator,
    /// Any other character that is not white space.
    Mark(char),
}

/// Splits `text` into tokens.
pub(super) fn lex(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { rest: text, line: 1, tokens: Vec::new() };
    while let Some(c) = lexer.rest.chars().next() {
        lexer.step(c);
    }
    lexer.tokens
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    /// Takes one token, comment, literal or space, which starts with `c`.
    fn step(&mut self, c: char) {
        if self.rest.starts_with("//") {
            self.skip(self.rest.find('\n').unwrap_or(self.rest.len()));
        } else if self.rest.starts_with("/*") {
            self.skip(block_comment_len(self.rest));
        } else if c == '"' {
            self.skip(string_len(self.rest));
        } else if let Some(len) = prefixed_literal_len(self.rest) {
            self.skip(len);
        } else if c == '\'' {
            self.skip(quote_len(self.rest));
        } else if is_word(c) {
            let word_start = if self.rest.starts_with("r#") { 2 } else { 0 };
            let word = &self.rest[word_start..];
            let len = word.find(|c| !is_word(c)).unwrap_or(word.len());
            self.emit(Kind::Word(word[..len].to_owned()), word_start + len);
        } else if self.rest.starts_with("::") {
            self.emit(Kind::PathSeparator, 2);
        } else if c.is_whitespace() {
            self.skip(c.len_utf8());
        } else {
            self.emit(Kind::Mark(c), c.len_utf8());
        }
    }

    fn emit(&mut self, kind: Kind, len: usize) {
        self.tokens.push(Token { kind, line: self.line });
        self.skip(len);
    }

    fn skip(&mut self, len: usize) {
        let (gone, rest) = self.rest.split_at(len);
        self.line += gone.matches('\n').count();
        self.rest = rest;
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Bytes of the block comment at the start of `text`; comments nest.
fn block_comment_len(text: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// Bytes of the string literal at the start of `text`, both quotes included.
fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Bytes of a literal with a letter in front: `r"…"`, `r#"…"#`, `b"…"`, `br#"…"#`, `c"…"`, `b'…'`.
fn prefixed_literal_len(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r", "b", "c"]
        .into_iter()
        .find(|p| text.strip_prefix(p).is_some_and(|rest| rest.starts_with(['"', '#', '\''])))?;
    let rest = &text[prefix.len()..];
    if !prefix.ends_with('r') {
        return match rest.chars().next()? {
            '"' => Some(prefix.len() + string_len(rest)),
            '\'' if prefix == "b" => Some(prefix.len() + quote_len(rest)),
            _ => None,
        };
    }
    let n_marks = rest.len() - rest.trim_start_matches('#').len();
    let body = rest[n_marks..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(n_marks));
    let len = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(prefix.len() + n_marks + 1 + len)
}

/// Bytes of the character literal at the start of `text`, or of the tick of a lifetime.
fn quote_len(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, c))) => {
            let body = at + c.len_utf8();
            text[body..].find('\'').map_or(text.len(), |end| body + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let word = |t: Token| if let Kind::Word(w) = t.kind { Some(w) } else { None };
        lex(text).into_iter().filter_map(word).collect()
    }

    #[test]
    fn comments_and_literals_fall_away() {
        let cases: &[(&str, &[&str])] = &[
            ("a // b\nc", &["a", "c"]),
            ("a /* b /* c */ d */ e", &["a", "e"]),
            (r#"a "b \" c" d"#, &["a", "d"]),
            (r##"a r#"b " c"# d"##, &["a", "d"]),
            (r#"a b"c" br"d\" e"#, &["a", "e"]),
            ("a 'b' '\\'' '\\u{41}' c", &["a", "c"]),
            ("fn f<'a>(x: &'a str)", &["fn", "f", "a", "x", "a", "str"]),
            ("r#type rb crate", &["type", "rb", "crate"]),
            ("'é' x", &["x"]),
        ];
        for (text, expected) in cases {
            assert_eq!(&words(text), expected, "{text}");
        }
    }

    #[test]
    fn lines_count_through_comments_and_strings() {
        let last = lex("/*\n\n*/ \"\n\" x").pop();
        assert_eq!(last, Some(Token { kind: Kind::Word("x".into()), line: 4 }));
    }
}
