//! Prepares a chat template's source for the engine, token by token.
//!
//! The tags `{% generation %}` and `{% endgeneration %}`, which only mark what to train on, become
//! tags that do nothing. The operands of `+` and `*` pass filters, because the engine joins and
//! repeats lists without charging for them: a list doubled forty times would take the machine's
//! memory. No line is added, so that line numbers in messages stay right.

/// The filter on the left of every `+`: a list pays for its length. (What doubles is on both sides.)
pub(super) const TERM_FILTER: &str = "__term";

/// The filter on both sides of every `*`: a list is refused.
pub(super) const FACTOR_FILTER: &str = "__factor";

/// Prepares `source`. What is not understood stays as it is, for the engine to judge.
pub(super) fn prepare(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find('{') {
        let (text, tag) = rest.split_at(start);
        out.push_str(text);
        let close = match tag.as_bytes().get(1) {
            Some(b'%') => "%}",
            Some(b'{') => "}}",
            Some(b'#') => {
                let end = tag.find("#}").map_or(tag.len(), |end| end + 2);
                out.push_str(&tag[..end]);
                rest = &tag[end..];
                continue;
            }
            _ => {
                out.push('{');
                rest = &tag[1..];
                continue;
            }
        };
        out.push_str(&tag[..2]);
        let n = expression(&tag[2..], close, &mut out);
        rest = &tag[2 + n..];
    }
    out.push_str(rest);
    out
}

/// Copies a tag's inside up to and with `close`; returns its bytes.
fn expression(source: &str, close: &str, out: &mut String) -> usize {
    // What the operators + and * need on their left to be binary.
    let mut after_operand = false;
    let mut open_brackets = 0usize;
    let mut factor_ends = Vec::new();
    let mut at = 0;
    while at < source.len() {
        for _ in factor_ends.extract_if(.., |end| *end == at) {
            push_filter(FACTOR_FILTER, out);
        }
        let rest = &source[at..];
        if open_brackets == 0 && rest.starts_with(close) {
            out.push_str(close);
            return at + close.len();
        }
        let n = token_len(rest);
        let token = &rest[..n];
        match token.as_bytes()[0] {
            b'+' | b'*' if after_operand && n == 1 && !rest[n..].starts_with(close) => {
                let filter = if token == "+" { TERM_FILTER } else { FACTOR_FILTER };
                push_filter(filter, out);
                out.push(' ');
                if token == "*" {
                    factor_ends.push(at + n + operand_len(&rest[n..]));
                }
                after_operand = false;
            }
            b'(' | b'[' | b'{' => {
                open_brackets += 1;
                after_operand = false;
            }
            b')' | b']' | b'}' => {
                open_brackets = open_brackets.saturating_sub(1);
                after_operand = true;
            }
            first if first.is_ascii_whitespace() => {}
            b'"' | b'\'' | b'_' => after_operand = true,
            first if first.is_ascii_alphanumeric() || !first.is_ascii() => {
                after_operand = !OPERATOR_WORDS.contains(&token);
            }
            _ => after_operand = false,
        }
        out.push_str(match token {
            "generation" if is_alone(source, at, token, close) => "if true",
            "endgeneration" if is_alone(source, at, token, close) => "endif",
            _ => token,
        });
        at += n;
    }
    at
}

fn push_filter(name: &str, out: &mut String) {
    out.push('|');
    out.push_str(name);
}

/// Bytes of the operand at the start of `rest`: signs, a name or value, and all that is called on it.
fn operand_len(rest: &str) -> usize {
    let (mut at, mut open_brackets, mut complete) = (0, 0usize, false);
    // Where the operand ended if nothing more is called on it.
    let mut end = 0;
    while at < rest.len() {
        let n = token_len(&rest[at..]);
        let first = rest.as_bytes()[at];
        match first {
            b'(' | b'[' | b'{' if open_brackets > 0 || !complete || first != b'{' => {
                open_brackets += 1;
            }
            b')' | b']' | b'}' if open_brackets > 0 => {
                open_brackets -= 1;
                complete = true;
            }
            _ if open_brackets > 0 || first.is_ascii_whitespace() => {}
            b'.' | b'|' if complete => complete = false,
            b'+' | b'-' if !complete => {}
            _ if !complete && (is_word(first) || matches!(first, b'"' | b'\'')) => complete = true,
            _ => return end,
        }
        at += n;
        if complete && open_brackets == 0 && !first.is_ascii_whitespace() {
            end = at;
        }
    }
    end
}

/// Words that are followed by an operand.
const OPERATOR_WORDS: [&str; 14] = [
    "and", "or", "not", "in", "is", "if", "else", "elif", "set", "for", "with", "do", "call",
    "filter",
];

/// Bytes of the token at the start of `rest`: a string, a word, `**`, or one character.
fn token_len(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    match bytes[0] {
        quote @ (b'"' | b'\'') => {
            let mut escaped = false;
            let end = bytes.iter().skip(1).position(|&byte| {
                let ends = byte == quote && !escaped;
                escaped = byte == b'\\' && !escaped;
                ends
            });
            end.map_or(rest.len(), |end| end + 2)
        }
        b'*' if bytes.get(1) == Some(&b'*') => 2,
        first if is_word(first) => bytes.iter().position(|&b| !is_word(b)).unwrap_or(rest.len()),
        _ => 1,
    }
}

/// Whether a byte belongs to a name or a number; the bytes of a character stay together.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// Whether `word` at `at` is all that a `{% … %}` tag says, besides its white-space signs.
fn is_alone(source: &str, at: usize, word: &str, close: &str) -> bool {
    let sign = |text: &str| matches!(text.trim(), "" | "-" | "+");
    let after = &source[at + word.len()..];
    close == "%}" && sign(&source[..at]) && after.find(close).is_some_and(|end| sign(&after[..end]))
}

#[cfg(test)]
mod tests {
    use super::prepare;

    #[test]
    fn only_binary_operators_and_generation_tags_change() {
        let cases = [
            ("a + b * c", "a + b * c"),
            ("{{ a + b }}", "{{ a |T + b }}"),
            ("{{ a+b*c }}", "{{ a|T +b|F *c|F }}"),
            ("{{ 2 * -x.y[a+1](b).z|f(1) + 3 }}", "{{ 2 |F * -x.y[a|T +1](b).z|f(1)|F |T + 3 }}"),
            ("{{ 2 * (3 * x) * [1] }}", "{{ 2 |F * (3 |F * x|F)|F |F * [1]|F }}"),
            ("{{ 2 * x if y else z }}", "{{ 2 |F * x|F if y else z }}"),
            ("{{ f(x) + [1] + 'a+b' + 1 }}", "{{ f(x) |T + [1] |T + 'a+b' |T + 1 }}"),
            ("{{ '\\'+' + b }}", "{{ '\\'+' |T + b }}"),
            ("{{ a ** 2 + 1 }}", "{{ a ** 2 |T + 1 }}"),
            ("{{ f(*x) if +1 else +2 }}", "{{ f(*x) if +1 else +2 }}"),
            ("{{ {'a': {'b': 1}} + x }}", "{{ {'a': {'b': 1}} |T + x }}"),
            ("{%+ if a -%}{{- b +}}{% x +%}", "{%+ if a -%}{{- b +}}{% x +%}"),
            ("{# a + b #}{{ é + 1 }}", "{# a + b #}{{ é |T + 1 }}"),
            ("{%- generation -%}a{% endgeneration +%}", "{%- if true -%}a{% endif +%}"),
            ("{{ generation }}{% if generation %}", "{{ generation }}{% if generation %}"),
            ("{{ 'unclosed + ", "{{ 'unclosed + "),
            ("{", "{"),
            ("{{ a +", "{{ a |T +"),
            ("{{ a *", "{{ a |F *"),
        ];
        for (source, expected) in cases {
            let prepared = prepare(source).replace("__term", "T").replace("__factor", "F");
            assert_eq!(prepared, expected);
        }
    }
}
