//! What OpenAI's clients send and expect beyond the plain request.

use serde_json::{Value, json};

use crate::client::{Connection, Running};

#[test]
fn values_that_change_nothing_are_taken() {
    let server = Running::start(|_| {});
    let body = json!({
        "input": "Hi", "max_output_tokens": 1, "tools": [], "tool_choice": "auto", "include": [],
        "truncation": "disabled", "top_logprobs": 0, "background": false,
    });
    server.ok("/v1/responses", &body);
    let messages = json!([{ "role": "user", "content": "Hi" }]);
    let chat = json!({ "messages": messages, "max_tokens": 1, "modalities": ["text"] });
    server.ok("/v1/chat/completions", &chat);
    for (field, value) in [
        ("tools", json!([{ "type": "web_search" }])),
        ("tool_choice", json!("required")),
        ("truncation", json!("on")),
        ("top_logprobs", json!(3)),
        ("background", json!(true)),
    ] {
        let mut body = body.clone();
        body[field] = value;
        let reply = server.post("/v1/responses", &body);
        assert_eq!(reply.status, 400, "{field}: {}", reply.text());
        let param = reply.json()["error"]["param"].clone();
        assert!(param.as_str().is_some_and(|param| param.starts_with(field)), "{field}: {param}");
    }
}

#[test]
fn as_many_texts_become_vectors_as_clients_send() {
    let server = Running::start(|options| options.queue = 16);
    let texts: Vec<String> = (0..300).map(|i| format!("{i}")).collect();
    let answer = server.ok("/v1/embeddings", &json!({ "input": texts }));
    let data = answer["data"].as_array().unwrap();
    assert_eq!(data.len(), 300);
    let alone = server.ok("/v1/embeddings", &json!({ "input": "217" }));
    assert_eq!(data[217]["embedding"], alone["data"][0]["embedding"]);
    assert_eq!(data[217]["index"], 217);
}

#[test]
fn offsets_are_the_tokens_places_in_the_text() {
    let server = Running::start(|_| {});
    let body =
        json!({ "prompt": "Once upon a time", "max_tokens": 12, "temperature": 0, "logprobs": 0 });
    let free = server.ok("/v1/completions", &body);
    let text = free["choices"][0]["text"].as_str().unwrap();
    let held: String = text.chars().take(30).collect();
    let mut body = body;
    // It never comes, but most of the text may become it.
    body["stop"] = json!([held + "\u{1}"]);
    let stopped = server.ok("/v1/completions", &body);
    let offsets = |answer: &Value| answer["choices"][0]["logprobs"]["text_offset"].clone();
    assert_eq!(offsets(&stopped), offsets(&free));
}

#[test]
fn scores_of_a_chat_are_those_of_its_text() {
    let server = Running::start(|_| {});
    let body = json!({
        "messages": [{ "role": "user", "content": "Tell me a story." }], "max_tokens": 60, "seed": 3,
        "logprobs": true, "stop": [" the", " a", "."],
    });
    let answer = server.ok("/v1/chat/completions", &body);
    let choice = &answer["choices"][0];
    let tokens: String = choice["logprobs"]["content"]
        .as_array()
        .unwrap()
        .iter()
        .map(|score| score["token"].as_str().unwrap())
        .collect();
    let text = choice["message"]["content"].as_str().unwrap();
    assert!(tokens.starts_with(text) && !tokens.contains("<|"), "{tokens:?} for {text:?}");
    let mut streamed = body;
    streamed["stream"] = json!(true);
    let events = server.events("/v1/chat/completions", &streamed);
    let scores: Vec<Value> = events
        .iter()
        .filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array().cloned())
        .flatten()
        .collect();
    assert_eq!(Value::from(scores), choice["logprobs"]["content"]);
}

#[test]
fn errors_can_be_read_by_every_client() {
    let server = Running::start(|options| {
        options.api_key = Some("secret".to_owned());
        options.cors_origins = vec!["http://good.example/".parse().expect("an origin")];
        options.name = Some("org/name".to_owned());
    });
    let ask = |head: &str| {
        let mut connection = Connection::open(server.address);
        connection.send(format!("{head}\r\nHost: localhost\r\n\r\n").as_bytes());
        connection.reply().expect("an answer")
    };
    let key = "Authorization: Bearer secret";
    let model = ask(&format!("GET /v1/models/org/name HTTP/1.1\r\n{key}"));
    assert_eq!((model.status, &model.json()["id"]), (200, &json!("org/name")));
    let broken = ask(&format!("GET /v1/models/%FF HTTP/1.1\r\n{key}"));
    assert_eq!((broken.status, &broken.json()["error"]["param"]), (400, &json!("model")));
    let origin = "Origin: http://good.example";
    let refused = ask(&format!("GET /v1/models HTTP/1.1\r\n{origin}"));
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("access-control-allow-origin"), Some("http://good.example"));
    let preflight = ask(&format!(
        "OPTIONS /v1/models HTTP/1.1\r\n{origin}\r\nAccess-Control-Request-Method: GET\r\n\
         Access-Control-Request-Headers: x-stainless-os,authorization"
    ));
    let allowed = preflight.header("access-control-allow-headers").unwrap_or_default();
    assert!(allowed.contains("x-stainless-os"), "{allowed}");
}
