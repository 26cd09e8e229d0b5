//! Tools, with a model whose template knows them: the prompt, calls whole and in streams, and what
//! comes back of them.

use std::sync::OnceLock;

use halfbyte::{Model, ModelOptions};
use serde_json::{Value, json};

use crate::client::Running;

/// In the manner of Hermes and Qwen.
const TEMPLATE: &str = include_str!("tools.jinja");

/// What Python's Jinja 3.1.6, set up as in transformers, makes of [`TEMPLATE`], [`tools`] and
/// [`messages`].
const PROMPT: &str = include_str!("tools_prompt.txt");

/// The embedded model with another template, and room for it.
fn model() -> Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    let open = || {
        let bytes = with_template(halfbyte_model::BYTES);
        let options = ModelOptions { threads: Some(2), ..ModelOptions::default() };
        Model::from_static_bytes("tools.gguf", bytes.leak(), &options).expect("it opens")
    };
    MODEL.get_or_init(open).clone()
}

fn with_template(file: &[u8]) -> Vec<u8> {
    let entry = |key: &str, text: &str| {
        let string = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
        [&string(key)[..], &8u32.to_le_bytes(), &string(text)].concat()
    };
    let template = entry("tokenizer.chat_template", TEMPLATE);
    // Tensors begin at multiples of 32 bytes, and the header is followed by what was there.
    let n_without = template.len() + entry("test.padding", "").len();
    let padding = entry("test.padding", &" ".repeat(n_without.next_multiple_of(32) - n_without));
    let (head, rest) = file.split_at(24);
    let n_entries = u64::from_le_bytes(head[16..].try_into().expect("eight bytes"));
    let n_entries = (n_entries + 2).to_le_bytes();
    let mut bytes = [&head[..16], &n_entries, &template, &padding, rest].concat();
    let key = b"gptj.context_length";
    let at = bytes.windows(key.len()).position(|window| window == key).expect("it is there");
    let value = at + key.len() + 4;
    bytes[value..value + 4].copy_from_slice(&2048u32.to_le_bytes());
    bytes
}

fn start() -> Running {
    Running::of(model(), |_| {})
}

fn tools() -> Value {
    let parameters = json!({
        "type": "object",
        "properties": {
            "city": { "enum": ["Rome", "Oslo"] },
            "days": { "type": "integer", "minimum": 1, "maximum": 9 },
        },
        "required": ["city", "days"],
        "additionalProperties": false,
    });
    json!([
        { "type": "function", "function": {
            "name": "get_weather", "description": "The weather of a town, über all.",
            "parameters": parameters,
        } },
        { "type": "function", "function": { "name": "get_time" } },
    ])
}

/// A conversation in which two functions were called and have answered.
fn messages() -> Value {
    let call = |id: &str, name: &str, arguments: &str| {
        json!({ "id": id, "type": "function",
                "function": { "name": name, "arguments": arguments } })
    };
    json!([
        { "role": "system", "content": "Be brief." },
        { "role": "user", "content": "How is the weather?" },
        { "role": "assistant", "content": null, "tool_calls": [
            call("call_1", "get_weather", r#"{"city": "Oslo", "days": 2}"#),
            call("call_2", "get_time", "{}"),
        ] },
        { "role": "tool", "tool_call_id": "call_1", "content": "snow" },
        { "role": "tool", "tool_call_id": "call_2", "content": [{ "type": "text", "text": "noon" }] },
    ])
}

fn ask(more: &Value) -> Value {
    let mut body = json!({
        "messages": [{ "role": "user", "content": "How is the weather?" }], "tools": tools(),
        "max_tokens": 300, "seed": 1,
    });
    let fields = more.as_object().expect("fields of a request").clone();
    body.as_object_mut().expect("a request").extend(fields);
    body
}

/// The first answer: its text, its calls as names and arguments, and why it ended.
type Answer = (Option<String>, Vec<(String, Value)>, String);

fn call(call: &Value) -> (String, Value) {
    assert_eq!(call["type"], "function");
    assert!(call["id"].as_str().is_some_and(|id| id.starts_with("call_")), "{call}");
    let arguments = call["function"]["arguments"].as_str().expect("a text");
    let name = call["function"]["name"].as_str().expect("a name");
    (name.to_owned(), serde_json::from_str(arguments).expect("JSON"))
}

fn whole(server: &Running, body: &Value) -> Answer {
    let answer = server.ok("/v1/chat/completions", body);
    let choice = &answer["choices"][0];
    let calls = choice["message"]["tool_calls"].as_array().map_or(&[][..], Vec::as_slice);
    let content = choice["message"]["content"].as_str().map(str::to_owned);
    let finish = choice["finish_reason"].as_str().expect("a reason").to_owned();
    (content, calls.iter().map(call).collect(), finish)
}

/// The same from a stream, and the parts that the text came in.
fn streamed(server: &Running, body: &Value) -> (Answer, Vec<String>) {
    let mut body = body.clone();
    body["stream"] = true.into();
    let (mut parts, mut calls, mut finish) = (Vec::new(), Vec::new(), None);
    for event in server.events("/v1/chat/completions", &body) {
        let choice = &event["choices"][0];
        let delta = &choice["delta"];
        assert!(finish.is_none(), "something comes behind the end: {event}");
        parts.extend(delta["content"].as_str().map(str::to_owned));
        for found in delta["tool_calls"].as_array().into_iter().flatten() {
            assert_eq!(found["index"], calls.len());
            calls.push(call(found));
        }
        finish = choice["finish_reason"].as_str().map(str::to_owned);
    }
    let content = Some(parts.concat()).filter(|text| !text.is_empty());
    ((content, calls, finish.expect("a reason")), parts)
}

#[test]
fn tools_calls_and_results_are_in_the_prompt_as_the_template_wants_them() {
    let server = start();
    let body = json!({ "messages": messages(), "tools": tools() });
    let applied = server.ok("/apply-template", &body);
    assert_eq!(applied["prompt"], PROMPT);
    let mut body = ask(&json!({ "messages": messages(), "max_tokens": 1 }));
    let usage = &server.ok("/v1/chat/completions", &body)["usage"];
    assert_eq!(usage["prompt_tokens"], applied["tokens"].as_array().unwrap().len());
    // Whoever may call none is not told of any.
    body["tool_choice"] = "none".into();
    let without = server.ok("/v1/chat/completions", &body)["usage"]["prompt_tokens"].clone();
    assert!(without.as_u64() < usage["prompt_tokens"].as_u64());
    // A call whose arguments are no JSON cannot be shown.
    body["messages"][2]["tool_calls"][0]["function"]["arguments"] = "{".into();
    let reply = server.post("/v1/chat/completions", &body);
    let param = "messages[2].tool_calls[0].function.arguments";
    assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!(param)));
    body["messages"][1]["content"] = Value::Null;
    let reply = server.post("/v1/chat/completions", &body);
    let param = "messages[1].content";
    assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!(param)));
}

#[test]
fn a_call_that_is_required_is_one_and_goes_on_from_its_result() {
    let server = start();
    let named = json!({ "type": "function", "function": { "name": "get_weather" } });
    for choice in [json!("required"), named.clone()] {
        for seed in 0..4 {
            let body = ask(&json!({ "tool_choice": choice, "seed": seed }));
            let answer = whole(&server, &body);
            let (content, calls, finish) = &answer;
            assert_eq!(
                (content, finish.as_str(), calls.len()),
                (&None, "tool_calls", 1),
                "{calls:?}"
            );
            match (calls[0].0.as_str(), &calls[0].1) {
                ("get_weather", arguments) => {
                    assert!(["Rome", "Oslo"].contains(&arguments["city"].as_str().unwrap()));
                    assert!((1..=9).contains(&arguments["days"].as_i64().unwrap()), "{arguments}");
                }
                ("get_time", arguments) => {
                    assert_eq!((arguments, &choice), (&json!({}), &json!("required")));
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(streamed(&server, &body).0, answer);
        }
    }
    // The message goes back as it came, with its result.
    let reply = server.ok("/v1/chat/completions", &ask(&json!({ "tool_choice": named })));
    let message = &reply["choices"][0]["message"];
    let (_, arguments) = call(&message["tool_calls"][0]);
    let result = json!({
        "role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "snow",
    });
    let question = json!({ "role": "user", "content": "How is the weather?" });
    let next = json!([question, message, result]);
    let applied = server.ok("/apply-template", &json!({ "messages": next, "tools": tools() }));
    let prompt = applied["prompt"].as_str().unwrap();
    let (city, days) = (&arguments["city"], &arguments["days"]);
    let shown = format!(
        "<|assistant|>\n<tool_call>\n\
         {{\"name\": \"get_weather\", \"arguments\": {{\"city\": {city}, \"days\": {days}}}}}\n\
         </tool_call><|endoftext|>\n<|user|>\n<tool_response>\nsnow\n</tool_response>"
    );
    assert!(prompt.contains(&shown), "{prompt}");
    server.ok("/v1/chat/completions", &ask(&json!({ "messages": next, "max_tokens": 2 })));
}

#[test]
fn arguments_follow_schemas_that_refer_to_themselves() {
    let server = start();
    let parameters = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {
            "kind": { "$ref": "#/definitions/kind" },
            "next": { "anyOf": [{ "const": 0 }, { "$ref": "#" }] },
        },
        "required": ["kind", "next"],
        "additionalProperties": false,
        "definitions": { "kind": { "enum": ["left", "right"] } },
    });
    let function = json!({ "name": "walk", "parameters": parameters });
    let tools = json!([tools()[0], { "type": "function", "function": function }]);
    let choice = json!({ "type": "function", "function": { "name": "walk" } });
    let body = |seed: u64| {
        json!({
            "messages": [{ "role": "user", "content": "Go." }], "tools": tools,
            "tool_choice": choice, "max_tokens": 400, "seed": seed,
        })
    };
    // Some walk until there may be no more tokens.
    let mut answers = (0..20).map(|seed| whole(&server, &body(seed)));
    let done = answers.find(|(_, calls, end)| end != "length" || !calls.is_empty());
    let (_, calls, finish) = done.expect("a walk that ends");
    assert_eq!(finish, "tool_calls");
    assert_eq!(calls.len(), 1);
    let mut step = &calls[0].1;
    while step != &json!(0) {
        assert!(["left", "right"].contains(&step["kind"].as_str().unwrap()), "{step}");
        assert_eq!(step.as_object().unwrap().len(), 2, "{step}");
        step = &step["next"];
    }
}

#[test]
fn calls_in_a_text_are_found_and_words_are_not_held_back() {
    let server = start();
    let weather = r#"<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\", \"days\": 2}}\n</tool_call>"#;
    let time = r#"<tool_call>\n{\"name\": \"get_time\", \"arguments\": {}}\n</tool_call>"#;
    let oslo = ("get_weather".to_owned(), json!({ "city": "Oslo", "days": 2 }));
    let noon = ("get_time".to_owned(), json!({}));
    let words = "I look. It <i>may</i> take a while, as the gulls said.";
    for (text, content, calls, finish) in [
        (weather.to_owned(), None, vec![oslo.clone()], "tool_calls"),
        (format!("{weather}\\n{time}"), None, vec![oslo, noon.clone()], "tool_calls"),
        (format!("{words} {time}"), Some(format!("{words} ")), vec![noon], "tool_calls"),
        (words.to_owned(), Some(words.to_owned()), vec![], "stop"),
        (format!("{words}<tool_"), Some(format!("{words}<tool_")), vec![], "stop"),
        (
            "<tool_call>{}</tool_call>".to_owned(),
            Some("<tool_call>{}</tool_call>".to_owned()),
            vec![],
            "stop",
        ),
    ] {
        for logprobs in [false, true] {
            let grammar = format!("start: \"{text}\"");
            let body = ask(&json!({ "grammar": grammar, "logprobs": logprobs }));
            let answer = whole(&server, &body);
            assert_eq!(answer, (content.clone(), calls.clone(), finish.to_owned()), "{text}");
            let (found, parts) = streamed(&server, &body);
            assert_eq!(found, answer, "{text}");
            let is_long = content.as_ref().is_some_and(|content| content.starts_with(words));
            assert_eq!(is_long, parts.len() > 5, "{parts:?}");
        }
    }
}

#[test]
fn scores_beside_calls_are_those_of_all_tokens() {
    let server = start();
    let grammar =
        r#"start: "Well. <tool_call>{\"name\": \"get_time\", \"arguments\": {}}</tool_call>""#;
    let mut body = ask(&json!({ "grammar": grammar, "logprobs": true, "top_logprobs": 2 }));
    let answer = server.ok("/v1/chat/completions", &body);
    let scores = answer["choices"][0]["logprobs"]["content"].clone();
    let text: String =
        scores.as_array().unwrap().iter().map(|score| score["token"].as_str().unwrap()).collect();
    assert!(text.starts_with("Well. <tool_call>") && text.ends_with("</tool_call>"), "{text}");
    body["stream"] = true.into();
    let events = server.events("/v1/chat/completions", &body);
    let streamed: Vec<Value> = events
        .iter()
        .filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array().cloned())
        .flatten()
        .collect();
    assert_eq!(Value::from(streamed), scores);
}
