//! Requests that are wrong in every way get an answer that says so, and hurt nobody.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Connection, Running};

/// A good request for each endpoint that takes one.
fn good() -> Vec<(&'static str, Value)> {
    let messages = json!([{ "role": "user", "content": "Hi" }]);
    vec![
        ("/v1/completions", json!({ "prompt": "A", "max_tokens": 1 })),
        ("/v1/chat/completions", json!({ "messages": messages, "max_tokens": 1 })),
        ("/v1/embeddings", json!({ "input": "A" })),
        ("/tokenize", json!({ "prompt": "A" })),
        ("/detokenize", json!({ "tokens": [1] })),
        ("/apply-template", json!({ "messages": messages })),
    ]
}

/// The fields that each endpoint knows, from its own document.
fn fields(server: &Running, path: &str) -> Vec<String> {
    let document = server.get("/openapi.json").json();
    let content = &document["paths"][path]["post"]["requestBody"]["content"];
    let name = content["application/json"]["schema"]["$ref"].as_str().expect("a reference");
    let schema = document.pointer(&name[1..]).expect("it is there");
    schema["properties"].as_object().expect("properties").keys().cloned().collect()
}

/// Values that hardly any field may have.
fn hostile() -> Vec<String> {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let mut all: Vec<String> = [
        "-1",
        "-9223372036854775809",
        "18446744073709551616",
        "4294967296",
        "1e400",
        "-1e400",
        "1e39",
        "0.1",
        "\"\"",
        "\"x\"",
        "[]",
        "[[]]",
        "[null]",
        "{}",
        "{\"x\":1}",
        "true",
        "[-1]",
        "[1e9]",
        "[[1,-1]]",
        "[\"a\",1]",
        "\"\\ud800\"",
        "[{}]",
        "{\"type\":\"x\"}",
        "nonsense",
        "NaN",
    ]
    .map(str::to_owned)
    .into();
    all.extend([deep(50), deep(200), deep(100_000)]);
    all
}

#[test]
fn no_value_of_any_field_is_a_mistake_of_ours() {
    let server = Running::start(|options| options.timeout = Some(Duration::from_secs(5)));
    let mut n = 0;
    let mut connection = Connection::open(server.address);
    for (path, body) in good() {
        for field in fields(&server, path) {
            for value in hostile() {
                let mut body = body.as_object().expect("an object").clone();
                body.remove(&field);
                let rest = Value::Object(body).to_string();
                let comma = if rest.len() > 2 { "," } else { "" };
                let json = format!("{{\"{field}\":{value}{comma}{}", &rest[1..]);
                let reply = connection.post(path, json.as_bytes());
                n += 1;
                let told = &json[..json.len().min(200)];
                assert!(reply.status < 500, "{path} {told}: {}", reply.text());
                if reply.status >= 400 {
                    let error = &reply.json()["error"];
                    assert!(!error["message"].as_str().unwrap().is_empty(), "{path} {told}");
                    assert_eq!(error["type"], "invalid_request_error", "{path} {told}");
                }
            }
        }
    }
    assert!(n > 1500, "{n} requests");
    for (path, body) in good() {
        server.ok(path, &body);
    }
}

#[test]
fn errors_name_the_field_and_the_reason() {
    let server = Running::start(|_| {});
    let user = |content: Value| json!([{ "role": "user", "content": content }]);
    let long = "word ".repeat(5000);
    let chat = "/v1/chat/completions";
    for (path, body, param) in [
        ("/v1/completions", json!({}), "prompt"),
        ("/v1/completions", json!({ "prompt": "A", "temperature": -1 }), "temperature"),
        ("/v1/completions", json!({ "prompt": "A", "n": 9 }), "n"),
        ("/v1/completions", json!({ "prompt": "A", "n": 0 }), "n"),
        ("/v1/completions", json!({ "prompt": "A", "best_of": 2 }), "best_of"),
        ("/v1/completions", json!({ "prompt": "A", "suffix": "B" }), "suffix"),
        ("/v1/completions", json!({ "prompt": "A", "logprobs": 21 }), "logprobs"),
        ("/v1/completions", json!({ "prompt": [] }), "prompt"),
        ("/v1/completions", json!({ "prompt": [[]] }), "prompt"),
        ("/v1/completions", json!({ "prompt": [4_000_000] }), "prompt"),
        ("/v1/completions", json!({ "prompt": long }), "prompt"),
        ("/v1/completions", json!({ "prompt": "x".repeat(1 << 20) }), "prompt"),
        ("/v1/completions", json!({ "prompt": "A", "stop": [""] }), "stop"),
        ("/v1/completions", json!({ "prompt": "A", "logit_bias": { "x": 1 } }), "logit_bias"),
        ("/v1/completions", json!({ "prompt": "A", "logit_bias": { "9999999": 1 } }), "logit_bias"),
        ("/v1/completions", json!({ "prompt": "A", "grammar": "start: (" }), "grammar"),
        (
            "/v1/completions",
            json!({ "prompt": "A", "grammar": "start: ".to_owned() + &"(".repeat(60_000) + "\"a\"" + &")".repeat(60_000) }),
            "grammar",
        ),
        ("/v1/completions", json!({ "prompt": "A", "grammar": "x".repeat(1 << 20) }), "grammar"),
        (chat, json!({ "messages": [] }), "messages"),
        (chat, json!({ "messages": user(json!(long)) }), "messages"),
        (chat, json!({ "messages": user(Value::Null) }), "messages[0].content"),
        (chat, json!({ "messages": [{ "role": "wizard", "content": "A" }] }), "messages[0].role"),
        (
            chat,
            json!({ "messages": user(json!([{ "type": "image_url" }])) }),
            "messages[0].content[0].type",
        ),
        (chat, json!({ "messages": user(json!("A")), "top_logprobs": 3 }), "top_logprobs"),
        (chat, json!({ "messages": user(json!("A")), "frobnicate": 3 }), "frobnicate"),
        (chat, json!({ "messages": user(json!("A")), "tool_choice": "auto" }), "tool_choice"),
        (
            chat,
            json!({ "messages": user(json!("A")), "tools": [{ "type": "function",
            "function": { "name": "f" } }] }),
            "tools",
        ),
        (
            chat,
            json!({ "messages": user(json!("A")), "response_format": { "type": "json_schema",
            "json_schema": { "schema": { "type": "nonsense" } } } }),
            "response_format",
        ),
        ("/v1/embeddings", json!({ "input": "A", "dimensions": 3 }), "dimensions"),
        ("/v1/embeddings", json!({ "input": [[]] }), "input"),
        ("/detokenize", json!({ "tokens": [1, 9_999_999] }), "tokens[1]"),
    ] {
        let reply = server.post(path, &body);
        let told = body.to_string().chars().take(150).collect::<String>();
        assert_eq!(reply.status, 400, "{path} {told}: {}", reply.text());
        assert_eq!(reply.json()["error"]["param"], param, "{path} {told}: {}", reply.text());
    }
    let full = server.post("/v1/completions", &json!({ "prompt": long })).json();
    assert_eq!(full["error"]["code"], "context_length_exceeded");
}

#[test]
fn broken_http_is_answered_or_ended() {
    let server = Running::start(|options| {
        options.patience = Duration::from_millis(300);
        options.body_bytes = 1 << 16;
    });
    let post = |headers: &str, body: &[u8]| {
        let head = format!("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n");
        let mut connection = Connection::open(server.address);
        connection.send(&[head.as_bytes(), body].concat());
        connection.reply().map(|reply| reply.status)
    };
    let json = "Content-Type: application/json\r\n";
    let huge = vec![b' '; 3 << 20];
    for (what, headers, body, status) in [
        ("no type", "Content-Length: 2".to_owned(), &b"{}"[..], Some(415)),
        ("another type", "Content-Type: text/plain\r\nContent-Length: 2".into(), b"{}", Some(415)),
        ("not UTF-8", format!("{json}Content-Length: 3"), b"\"\xff\"", Some(400)),
        ("too large", format!("{json}Content-Length: {}", huge.len()), &huge, Some(413)),
        (
            "asks before",
            format!("{json}Content-Length: 1000000000\r\nExpect: 100-continue"),
            b"",
            Some(413),
        ),
        ("too slow", format!("{json}Content-Length: 10"), b"{", Some(408)),
        ("no number", format!("{json}Content-Length: x"), b"{}", Some(400)),
        ("two lengths", format!("{json}Content-Length: 2\r\nContent-Length: 3"), b"{}", Some(400)),
        ("bad chunk", format!("{json}Transfer-Encoding: chunked"), b"zz\r\n", Some(400)),
    ] {
        assert_eq!(post(&headers, body), status, "{what}");
    }
    for bytes in [
        &b"\r\n\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/9.9\r\n\r\n",
    ] {
        let mut connection = Connection::open(server.address);
        connection.send(bytes);
        let status = connection.reply().map(|reply| reply.status);
        assert!(status.is_none_or(|status| (400..500).contains(&status)), "{bytes:?}: {status:?}");
    }
    // A head that comes in drops is not waited for.
    let mut slow = Connection::open(server.address);
    slow.send(b"GET /health HT");
    let status = slow.reply().map(|reply| reply.status);
    assert!(status.is_none_or(|status| status == 408), "{status:?}");
    for (method, path, status) in
        [("GET", "/nowhere", 404), ("DELETE", "/health", 405), ("GET", "/v1/completions", 405)]
    {
        let mut connection = Connection::open(server.address);
        connection.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        let reply = connection.reply().expect("an answer");
        assert_eq!(reply.status, status, "{method} {path}");
        assert!(reply.json()["error"]["message"].is_string(), "{method} {path}");
    }
    server.ok("/v1/completions", &json!({ "prompt": "A", "max_tokens": 1 }));
}
