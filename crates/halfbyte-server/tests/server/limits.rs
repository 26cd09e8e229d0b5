//! What strangers may ask for: it is bounded before anything is copied, and nobody else waits for it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Connection, Running, load, metric, model, wait_for_load};

/// What a whole context of the embedded model takes.
fn context_bytes() -> usize {
    let model = model();
    model.cache_bytes(model.context_length())
}

#[test]
fn what_every_answer_would_hold_is_bounded() {
    let server = Running::start(|_| {});
    let biases: serde_json::Map<String, Value> =
        (0..4096).map(|token| (token.to_string(), json!(1))).collect();
    let grammar = format!(
        "start: {}",
        (0..3000).map(|i| format!("\"word{i}\"")).collect::<Vec<_>>().join(" | ")
    );
    let prompts = vec!["a"; 256];
    let long = "Once upon a time. ".repeat(90);
    for (body, param) in [
        (json!({ "prompt": "a", "stop": ["x".repeat(2000)] }), "stop"),
        (json!({ "prompt": prompts, "n": 8, "max_tokens": 0, "grammar": grammar }), "grammar"),
        (
            json!({ "prompt": vec![long; 32], "n": 8, "echo": true, "logprobs": 20, "max_tokens": 0 }),
            "logprobs",
        ),
    ] {
        let reply = server.post("/v1/completions", &body);
        assert_eq!(reply.status, 400, "{}", reply.text());
        assert_eq!(reply.json()["error"]["param"], param, "{}", reply.text());
    }
    let all = json!({ "prompt": "a", "max_tokens": 1, "logit_bias": biases });
    server.ok("/v1/completions", &all);
}

#[test]
fn errors_of_a_schema_name_their_field() {
    let server = Running::start(|_| {});
    let wrong = json!({ "type": "object", "properties": { "a": { "$ref": "#/$defs/missing" } } });
    let message = json!([{ "role": "user", "content": "Hi" }]);
    let format = json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": wrong } });
    let body = json!({ "messages": message, "response_format": format });
    let reply = server.post("/v1/chat/completions", &body);
    assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!("response_format")));
    let format = json!({ "type": "json_schema", "name": "x", "schema": wrong });
    let body = json!({ "input": "Hi", "text": { "format": format } });
    let reply = server.post("/v1/responses", &body);
    assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!("text.format")));
}

#[test]
fn slow_senders_keep_nobody_waiting() {
    let server = Running::start(|_| {});
    let mut slow: Vec<Connection> = (0..40).map(|_| Connection::open(server.address)).collect();
    for connection in &mut slow {
        let head = "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                    Content-Length: 200000\r\n\r\n";
        connection.send(&[head.as_bytes(), &[b' '; 70_000]].concat());
    }
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    server.ok("/tokenize", &json!({ "prompt": "a ".repeat(60_000) }));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn long_texts_keep_no_short_one_waiting() {
    let server = Running::start(|_| {});
    server.ok("/v1/completions", &json!({ "prompt": "A", "max_tokens": 1 }));
    let body = json!({ "prompt": " ".repeat(1_500_000) }).to_string();
    let mut long: Vec<Connection> = (0..8).map(|_| Connection::open(server.address)).collect();
    for connection in &mut long {
        connection.ask("/tokenize", body.as_bytes());
    }
    std::thread::sleep(Duration::from_millis(200));
    drop(long);
    let start = Instant::now();
    server.ok("/v1/completions", &json!({ "prompt": "A", "max_tokens": 1 }));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn text_that_was_held_back_is_not_lost() {
    let server = Running::start(|_| {});
    let body = json!({ "prompt": "Say", "grammar": "start: \"yes}\"", "stop": ["}x"], "seed": 1 });
    let answer = server.ok("/v1/completions", &body);
    assert_eq!(answer["choices"][0]["text"], "yes}");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let mut body = body;
    body["stream"] = json!(true);
    let events = server.events("/v1/completions", &body);
    let text: String =
        events.iter().map(|event| event["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(text, "yes}");
}

#[test]
fn an_end_lets_all_of_a_stream_come_to_its_end() {
    for grace in [Duration::from_secs(60), Duration::from_millis(100)] {
        let mut server = Running::start(|options| {
            options.parallel = 2;
            options.grace = grace;
        });
        let mut stream = Connection::open(server.address);
        let body = json!({
            "prompt": vec!["The sun"; 8], "max_tokens": 100, "ignore_eos": true, "stream": true,
            "stream_options": { "include_usage": true },
        });
        stream.ask("/v1/completions", body.to_string().as_bytes());
        stream.head().expect("it is served");
        stream.chunk().expect("it writes");
        server.stop.stop();
        let mut text = String::new();
        while let Some(chunk) = stream.chunk().filter(|chunk| !chunk.is_empty()) {
            text.push_str(&String::from_utf8(chunk).unwrap());
        }
        assert!(!text.contains("error"), "{text}");
        assert_eq!(text.matches("\"finish_reason\":\"length\"").count(), 8, "{text}");
        assert!(text.contains("\"total_tokens\"") && text.ends_with("data: [DONE]\n\n"), "{text}");
        server.join();
    }
}

#[test]
fn a_chat_without_a_length_keeps_no_other_out() {
    // The room of one context: as much as one chat may come to.
    let server = Running::start(|options| options.cache_bytes = context_bytes());
    let chat = json!({ "messages": [{ "role": "user", "content": "Tell me about the sun." }] });
    let cached: Vec<Value> = (0..3)
        .map(|_| {
            let answer = server.ok("/v1/chat/completions", &chat);
            answer["usage"]["prompt_tokens_details"]["cached_tokens"].clone()
        })
        .collect();
    assert_eq!(cached[0], 0);
    assert!(cached[1..].iter().all(|n| n.as_u64() > Some(0)), "{cached:?}");
    let mut long = chat;
    long["ignore_eos"] = json!(true);
    long["stream"] = json!(true);
    let mut streams: Vec<Connection> = (0..6).map(|_| Connection::open(server.address)).collect();
    for stream in &mut streams {
        stream.ask("/v1/chat/completions", long.to_string().as_bytes());
    }
    wait_for_load(&server, |load| load >= 4.0);
    server.ok("/v1/completions", &json!({ "prompt": "A", "max_tokens": 1 }));
    assert!(load(&server) > 1.0, "it waited for all of them");
}

#[test]
fn answers_that_make_room_for_others_are_the_same() {
    let body = |i: usize| {
        json!({
            "prompt": format!("{i}. Once upon a time"), "max_tokens": 400, "seed": i,
            "ignore_eos": true, "temperature": 1.0,
        })
    };
    let alone = Running::start(|_| {});
    let alone: Vec<Value> =
        (0..6).map(|i| alone.ok("/v1/completions", &body(i))["choices"].clone()).collect();
    // Room for two of them that begin, but not when one of the two has grown.
    let server = Running::start(|options| options.cache_bytes = 2 * model().cache_bytes(300));
    let ask = &|i| server.ok("/v1/completions", &body(i))["choices"].clone();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|i| scope.spawn(move || ask(i))).collect();
        for (i, thread) in threads.into_iter().enumerate() {
            assert_eq!(thread.join().unwrap(), alone[i], "request {i}");
        }
    });
    assert!(metric(&server, "pauses_total") > 0.0, "nobody made room");
}

#[test]
fn only_what_was_saved_is_counted_as_cached() {
    let server = Running::start(|_| {});
    let body = json!({ "prompt": "The dog and the cat went home.", "n": 3, "max_tokens": 2 });
    let cached = |answer: &Value| answer["usage"]["prompt_tokens_details"]["cached_tokens"].clone();
    let first = server.ok("/v1/completions", &body);
    assert_eq!(cached(&first), 0);
    assert_eq!(metric(&server, "cached_tokens_total"), 0.0);
    let n_prompt = first["usage"]["prompt_tokens"].as_f64().unwrap();
    assert_eq!(metric(&server, "prompt_tokens_total"), n_prompt);
    let second = server.ok("/v1/completions", &body);
    assert_eq!(cached(&second).as_f64(), Some(n_prompt - 1.0));
}
