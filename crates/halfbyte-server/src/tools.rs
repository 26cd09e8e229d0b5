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
        let mut arguments = tool.function.parameters.clone().unwrap_or_else(nothing);
        lift(&mut arguments, &format!("tool{i}_"), &mut definitions);
        json!({
            "type": "object",
            "properties": {
                "name": { "const": tool.function.name },
                "arguments": arguments,
            },
            "required": ["name", "arguments"],
            "additionalProperties": false,
        })
    });
    let calls: Vec<Value> = calls.collect();
    json!({ "anyOf": calls, "$defs": definitions })
}

/// Where a schema keeps what it refers to.
const DEFINITIONS: &[&str] = &["$defs", "definitions"];

/// Moves the definitions of a schema that becomes a part of another one to that one's `definitions`,
/// under names of their own, and lets the schema refer to them there.
fn lift(schema: &mut Value, prefix: &str, definitions: &mut Map<String, Value>) {
    let mut own = Map::new();
    for key in DEFINITIONS {
        let found = schema.as_object_mut().and_then(|schema| schema.remove(*key));
        if let Some(Value::Object(found)) = found {
            own.extend(found);
        }
    }
    refer(schema, prefix);
    for (name, mut definition) in own {
        refer(&mut definition, prefix);
        definitions.insert(format!("{prefix}{name}"), definition);
    }
}

/// Puts `prefix` in front of the names of all definitions that are referred to.
fn refer(schema: &mut Value, prefix: &str) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| refer(item, prefix)),
        Value::Object(fields) => {
            for (key, value) in fields {
                let name = value.as_str().filter(|_| key == "$ref").and_then(|target| {
                    let places = DEFINITIONS.iter();
                    places.filter_map(|place| target.strip_prefix(&format!("#/{place}/"))).next()
                });
                match name.map(|name| format!("#/$defs/{prefix}{name}")) {
                    Some(target) => *value = target.into(),
                    None => refer(value, prefix),
                }
            }
        }
        _ => {}
    }
}

/// The calls that `text` holds; none if it is an answer in words.
pub(crate) fn calls(text: &str, tools: &[Tool]) -> Vec<FunctionCall> {
    if tools.is_empty() {
        return Vec::new();
    }
    if !text.contains(OPEN) {
        return call(text, tools).into_iter().collect();
    }
    let parts = text.split(OPEN).skip(1);
    let parts = parts.map(|part| part.split(CLOSE).next().unwrap_or(part));
    parts.filter_map(|part| call(part, tools)).collect()
}

/// The call that `text` is, in one of the forms that models write.
fn call(text: &str, tools: &[Tool]) -> Option<FunctionCall> {
    let object: Map<String, Value> = serde_json::from_str(text.trim()).ok()?;
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
        for (text, expected) in [
            (r#"{"name":"f","arguments":{"a":1}}"#, &[r#"{"a":1}"#][..]),
            (r#" {"name":"f","parameters":{}} "#, &["{}"]),
            ("ok <tool_call>\n{\"name\":\"f\",\"arguments\":{}}\n</tool_call>", &["{}"]),
            (
                "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call><tool_call>{\"name\":\"f\",\
              \"arguments\":\"[]\"}",
                &["{}", "[]"],
            ),
            (r#"{"name":"g","arguments":{}}"#, &[]),
            (r#"{"name":"f"}"#, &[]),
            ("plain words", &[]),
            ("<tool_call>nonsense</tool_call>", &[]),
        ] {
            let found: Vec<String> =
                calls(text, &tools()).into_iter().map(|c| c.arguments).collect();
            assert_eq!(found, expected, "{text}");
        }
        assert!(calls(r#"{"name":"f","arguments":{}}"#, &[]).is_empty());
    }

    #[test]
    fn what_a_tools_schema_refers_to_is_found() {
        let parameters = json!({
            "type": "object",
            "properties": { "at": { "$ref": "#/$defs/Place" } },
            "$defs": { "Place": { "anyOf": [{ "type": "null" }, { "$ref": "#/$defs/Place" }] } },
        });
        let function = json!({ "name": "f", "parameters": parameters });
        let tool: Tool =
            serde_json::from_value(json!({ "type": "function", "function": function }))
                .expect("a tool");
        let schema = schema([&tool, &tool].into_iter());
        for i in 0..2 {
            let target = format!("#/$defs/tool{i}_Place");
            let arguments = &schema["anyOf"][i]["properties"]["arguments"];
            assert_eq!(arguments["properties"]["at"]["$ref"], *target);
            assert!(arguments.get("$defs").is_none());
            let definition = &schema["$defs"][format!("tool{i}_Place")];
            assert_eq!(definition["anyOf"][1]["$ref"], *target);
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
