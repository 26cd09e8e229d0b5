//! JSON as Python's `json.dumps` writes it, which is what models saw when they were trained.

use minijinja::Value;
use minijinja::value::ValueKind;

/// The arguments of `json.dumps` that templates use.
#[derive(Default)]
pub(super) struct Style {
    /// Spaces per level; on one line if `None`.
    pub(super) indent: Option<usize>,
    /// Whether everything past ASCII is escaped.
    pub(super) ascii: bool,
    pub(super) sort_keys: bool,
    /// Between items, and between key and value; Python's defaults if `None`.
    pub(super) separators: Option<Vec<String>>,
}

/// Deeper values are refused; Python's own limit is about 1000.
const MAX_DEPTH: usize = 100;
const MAX_INDENT: usize = 16;

/// Writes `value` in at most `max_bytes`.
///
/// # Errors
///
/// A message if the value has no JSON form, or is too deep or too long.
pub(super) fn write(value: &Value, style: &Style, max_bytes: usize) -> Result<String, String> {
    if style.indent.is_some_and(|indent| indent > MAX_INDENT) {
        return Err(format!("tojson cannot indent by more than {MAX_INDENT}"));
    }
    let (item, key) = match style.separators.as_deref() {
        Some([item, key]) => (item.as_str(), key.as_str()),
        Some(_) => return Err("tojson needs two separators".into()),
        None if style.indent.is_some() => (",", ": "),
        None => (", ", ": "),
    };
    let mut writer = Writer { style, item, key, max_bytes, out: String::new() };
    writer.value(value, 0)?;
    Ok(writer.out)
}

struct Writer<'a> {
    style: &'a Style,
    item: &'a str,
    key: &'a str,
    max_bytes: usize,
    out: String,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("tojson cannot write more than {MAX_DEPTH} levels"));
        }
        if self.out.len() > self.max_bytes {
            return Err(format!("tojson cannot write more than {} bytes", self.max_bytes));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&value.to_string()),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter().map_err(|error| error.to_string())?;
                self.container('[', ']', items, depth, |writer, item| {
                    writer.value(&item, depth + 1)
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> =
                    value.try_iter().map_err(|error| error.to_string())?.collect();
                if self.style.sort_keys {
                    keys.sort();
                }
                self.container('{', '}', keys.into_iter(), depth, |writer, key| {
                    let item = value.get_item(&key).map_err(|error| error.to_string())?;
                    writer.string(&key.to_string());
                    writer.out.push_str(writer.key);
                    writer.value(&item, depth + 1)
                })?;
            }
            kind => return Err(format!("tojson cannot write a value of type {kind}")),
        }
        Ok(())
    }

    fn container(
        &mut self,
        open: char,
        close: char,
        items: impl Iterator<Item = Value>,
        depth: usize,
        mut write: impl FnMut(&mut Self, Value) -> Result<(), String>,
    ) -> Result<(), String> {
        self.out.push(open);
        let mut is_empty = true;
        for item in items {
            if !is_empty {
                self.out.push_str(self.item);
            }
            is_empty = false;
            self.line(depth + 1);
            write(self, item)?;
        }
        if !is_empty {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.style.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for letter in text.chars() {
            match letter {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                ' '..='~' => self.out.push(letter),
                '\u{80}'.. | '\u{7f}' if !self.style.ascii => self.out.push(letter),
                _ => {
                    for unit in letter.encode_utf16(&mut [0; 2]) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
            }
        }
        self.out.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_that_of_python() {
        let list = [1.into(), 2.5.into(), ().into(), true.into(), Value::from(Vec::<Value>::new())];
        let value = Value::from_pairs([
            ("b", Value::from(Vec::from(list))),
            ("a", "é\"\n\u{1}😀<".into()),
            ("c", Value::from_pairs(Vec::<(Value, Value)>::new())),
        ]);
        let ascii = Style { ascii: true, sort_keys: true, ..Style::default() };
        let indented = Style { indent: Some(2), ..Style::default() };
        let tight = Style { separators: Some(vec![",".into(), ":".into()]), ..Style::default() };
        // python3 -c 'import json; print(json.dumps(value, ensure_ascii=False, …))'
        let cases = [
            (
                Style::default(),
                "{\"b\": [1, 2.5, null, true, []], \"a\": \"é\\\"\\n\\u0001😀<\", \"c\": {}}",
            ),
            (
                ascii,
                "{\"a\": \"\\u00e9\\\"\\n\\u0001\\ud83d\\ude00<\", \
                 \"b\": [1, 2.5, null, true, []], \"c\": {}}",
            ),
            (
                indented,
                "{\n  \"b\": [\n    1,\n    2.5,\n    null,\n    true,\n    []\n  ],\n  \
                 \"a\": \"é\\\"\\n\\u0001😀<\",\n  \"c\": {}\n}",
            ),
            (tight, "{\"b\":[1,2.5,null,true,[]],\"a\":\"é\\\"\\n\\u0001😀<\",\"c\":{}}"),
        ];
        for (style, expected) in cases {
            assert_eq!(write(&value, &style, 1000).as_deref(), Ok(expected));
        }
        assert!(write(&value, &Style::default(), 10).is_err(), "too long");
        assert!(write(&Value::UNDEFINED, &Style::default(), 10).is_err(), "undefined");
    }
}
