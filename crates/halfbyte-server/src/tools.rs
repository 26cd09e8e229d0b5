//! Functions that a model may call: what it must write to call one, and what it did write.

use serde_json::{Map, Value, json};

use crate::error::{ApiError, ApiResult};
use crate::wire::{FunctionCall, Tool, ToolChoice};

/// What a model writes around a call where it writes other text, too (Hermes, Qwen and others).
const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// Whether functions may be called, and must be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Calling {
    /// There are none, or none may be called.
    Never,
    /// The model chooses.
    Free,
    /// The answer is a call that this schema describes.
    Required(Value),
}

/// What a request's tools and its choice among them come to.
pub(crate) fn calling(tools: &[Tool], choice: Option<&ToolChoice>) -> ApiResult<Calling> {
    for (i, tool) in tools.iter().enumerate() {
        if tool.kind != "function" {
            let reason = format!("{:?} is not function", tool.kind);
            return Err(ApiError::invalid(format!("tools[{i}].type"), reason));
        }
    }
    let wrong = |reason: String| Err(ApiError::invalid("tool_choice", reason));
    match choice {
        _ if tools.is_empty() && choice.is_some_and(|choice| !is_mode(choice, "none")) => {
            wrong("there are no tools to choose from".to_owned())
        }
        None if tools.is_empty() => Ok(Calling::Never),
        None => Ok(Calling::Free),
        Some(ToolChoice::Mode(mode)) => match mode.as_str() {
            "none" => Ok(Calling::Never),
            "auto" => Ok(Calling::Free),
            "required" => Ok(Calling::Required(schema(tools.iter()))),
            other => wrong(format!("{other:?} is none of none, auto, required")),
        },
        Some(ToolChoice::Named(named)) => {
            let name = &named.function.name;
            match tools.iter().find(|tool| tool.function.name == *name) {
                Some(tool) => Ok(Calling::Required(schema([tool].into_iter()))),
                None => wrong(format!("no tool is called {name:?}")),
            }
        }
    }
}

fn is_mode(choice: &ToolChoice, name: &str) -> bool {
    matches!(choice, ToolChoice::Mode(mode) if mode == name)
}

/// A call of one of `tools` as JSON.
fn schema<'a>(tools: impl Iterator<Item = &'a Tool>) -> Value {
    let nothing = || json!({ "type": "object", "additionalProperties": false });
    let mut definitions = Map::new();
    let calls = tools.enumerate().map(|(i, tool)| {
        let name = format!("tool{i}");
        let root = format!("#/$defs/{name}");
        let mut parameters = tool.function.parameters.clone().unwrap_or_else(nothing);
        refer(&mut parameters, &root);
        definitions.insert(name, parameters);
        json!({
            "type": "object",
            "properties": {
                "name": { "const": tool.function.name },
                "arguments": { "$ref": root },
            },
            "required": ["name", "arguments"],
            "additionalProperties": false,
        })
    });
    let calls: Vec<Value> = calls.collect();
    json!({ "anyOf": calls, "$defs": definitions })
}

/// Lets a schema that becomes a part of another one, at `root`, refer to its own parts there.
fn refer(schema: &mut Value, root: &str) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| refer(item, root)),
        Value::Object(fields) => {
            for (key, value) in fields {
                let target = value.as_str().filter(|_| key == "$ref");
                match target.and_then(|target| target.strip_prefix('#')) {
                    Some(part) => *value = format!("{root}{}", part.trim_end_matches('/')).into(),
                    None => refer(value, root),
                }
            }
        }
        _ => {}
    }
}

/// What an answer says in words, and the calls behind that; all of it is words if there are none.
pub(crate) fn read<'a>(text: &'a str, tools: &[Tool]) -> (&'a str, Vec<FunctionCall>) {
    let (words, calls) = match text.split_once(OPEN) {
        _ if tools.is_empty() => return (text, Vec::new()),
        Some((words, rest)) => {
            let parts = rest.split(OPEN).map(|part| part.split(CLOSE).next().unwrap_or(part));
            (words, parts.filter_map(|part| bare_calls(part, tools)).flatten().collect())
        }
        None => ("", bare_calls(text, tools).unwrap_or_default()),
    };
    match calls {
        calls if calls.is_empty() => (text, calls),
        calls if words.trim().is_empty() => ("", calls),
        calls => (words, calls),
    }
}

/// Bytes at the beginning of `text` that are words whatever comes after them: a part of an answer of
/// which the words before it, if `has_begun`, are known.
pub(crate) fn n_words(text: &str, has_begun: bool) -> usize {
    let start = text.trim_start();
    if !has_begun && (start.is_empty() || start.starts_with(['{', '['])) {
        return 0;
    }
    let end = text.find(OPEN).unwrap_or_else(|| {
        let n_open = (1..OPEN.len()).rev().find(|&n| text.ends_with(&OPEN[..n]));
        text.len() - n_open.unwrap_or(0)
    });
    // White space before a call says nothing.
    if has_begun || !text[..end].trim().is_empty() { end } else { 0 }
}

/// The calls that `text` is, as JSON objects or lists of them; `None` if anything else is in it.
fn bare_calls(text: &str, tools: &[Tool]) -> Option<Vec<FunctionCall>> {
    let mut calls = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        match value.ok()? {
            Value::Array(items) => {
                for item in &items {
                    calls.push(call(item, tools)?);
                }
            }
            value => calls.push(call(&value, tools)?),
        }
    }
    Some(calls)
}

/// The call that `value` is, in one of the forms that models write.
fn call(value: &Value, tools: &[Tool]) -> Option<FunctionCall> {
    let object = value.as_object()?;
    let name = object.get("name")?.as_str()?;
    tools.iter().find(|tool| tool.function.name == name)?;
    let arguments = object.get("arguments").or_else(|| object.get("parameters"))?;
    let arguments = match arguments {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Some(FunctionCall { name: name.to_owned(), arguments })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools() -> Vec<Tool> {
        let tool = json!({ "type": "function", "function": { "name": "f", "parameters": {} } });
        vec![serde_json::from_value(tool).expect("a tool")]
    }

    #[test]
    fn calls_are_found_in_the_forms_that_models_write() {
        for (text, words, expected) in [
            (r#"{"name":"f","arguments":{"a":1}}"#, "", &[r#"{"a":1}"#][..]),
            (r#" {"name":"f","parameters":{}} "#, "", &["{}"]),
            (
                "{\"name\":\"f\",\"arguments\":{}}\n{\"name\":\"f\",\"arguments\":[]}",
                "",
                &["{}", "[]"],
            ),
            (r#"[{"name":"f","arguments":{}}]"#, "", &["{}"]),
            ("ok <tool_call>\n{\"name\":\"f\",\"arguments\":{}}\n</tool_call>", "ok ", &["{}"]),
            ("\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>", "", &["{}"]),
            (
                "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call><tool_call>{\"name\":\"f\",\
              \"arguments\":\"[]\"}",
                "",
                &["{}", "[]"],
            ),
            (r#"{"name":"g","arguments":{}}"#, r#"{"name":"g","arguments":{}}"#, &[]),
            (r#"{"name":"f","arguments":{}} so"#, r#"{"name":"f","arguments":{}} so"#, &[]),
            (r#"{"name":"f"}"#, r#"{"name":"f"}"#, &[]),
            ("plain words", "plain words", &[]),
            ("", "", &[]),
            ("<tool_call>nonsense</tool_call>", "<tool_call>nonsense</tool_call>", &[]),
        ] {
            let (found_words, calls) = read(text, &tools());
            let found: Vec<String> = calls.into_iter().map(|call| call.arguments).collect();
            assert_eq!(found_words, words, "{text}");
            assert_eq!(found, expected, "{text}");
        }
        let call = r#"{"name":"f","arguments":{}}"#;
        assert_eq!(read(call, &[]).0, call, "without tools nothing is a call");
    }

    #[test]
    fn words_are_told_as_soon_as_they_cannot_be_a_call() {
        for (text, has_begun, expected) in [
            ("", false, 0),
            (" \n", false, 0),
            (" \n", true, 2),
            ("{\"name\"", false, 0),
            (" [{", false, 0),
            ("{", true, 1),
            ("plain words", false, 11),
            ("words <tool_", false, 6),
            ("words <", false, 6),
            ("words <tool_x", false, 13),
            ("words <tool_call>{\"", false, 6),
            (" <tool_call>", false, 0),
            ("<tool_call>", true, 0),
            ("ü <", true, 3),
        ] {
            assert_eq!(n_words(text, has_begun), expected, "{text:?}");
        }
    }

    #[test]
    fn what_a_tools_schema_refers_to_is_found() {
        let parameters = json!({
            "type": "object",
            "properties": {
                "at": { "$ref": "#/$defs/Place" },
                "as": { "$ref": "#/properties/at" },
                "then": { "$ref": "#" },
                "$ref": { "const": "#" },
            },
            "$defs": { "Place": { "anyOf": [{ "type": "null" }, { "$ref": "#/$defs/Place" }] } },
        });
        let function = json!({ "name": "f", "parameters": parameters });
        let tool: Tool =
            serde_json::from_value(json!({ "type": "function", "function": function }))
                .expect("a tool");
        let schema = schema([&tool, &tool].into_iter());
        for i in 0..2 {
            let root = format!("#/$defs/tool{i}");
            assert_eq!(schema["anyOf"][i]["properties"]["arguments"]["$ref"], root);
            let found = &schema["$defs"][format!("tool{i}")];
            let place = format!("{root}/$defs/Place");
            assert_eq!(found["properties"]["at"]["$ref"], place);
            assert_eq!(found["properties"]["as"]["$ref"], format!("{root}/properties/at"));
            assert_eq!(found["properties"]["then"]["$ref"], root);
            assert_eq!(found["properties"]["$ref"]["const"], "#");
            assert_eq!(found["$defs"]["Place"]["anyOf"][1]["$ref"], place);
        }
    }

    #[test]
    fn choices_that_cannot_be_are_refused() {
        let mode = |mode: &str| Some(ToolChoice::Mode(mode.to_owned()));
        let named = |name: &str| -> Option<ToolChoice> {
            let choice = json!({ "type": "function", "function": { "name": name } });
            serde_json::from_value(choice).ok()
        };
        assert_eq!(calling(&[], None).ok(), Some(Calling::Never));
        assert_eq!(calling(&[], mode("none").as_ref()).ok(), Some(Calling::Never));
        assert_eq!(calling(&tools(), mode("none").as_ref()).ok(), Some(Calling::Never));
        assert_eq!(calling(&tools(), None).ok(), Some(Calling::Free));
        assert!(matches!(calling(&tools(), named("f").as_ref()), Ok(Calling::Required(_))));
        assert!(matches!(calling(&tools(), mode("required").as_ref()), Ok(Calling::Required(_))));
        for (tools, choice) in
            [(tools(), named("g")), (tools(), mode("maybe")), (Vec::new(), mode("auto"))]
        {
            assert!(calling(&tools, choice.as_ref()).is_err(), "{choice:?}");
        }
    }
}
