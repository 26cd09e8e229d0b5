//! Many clients at once: nobody changes another's answer, and who leaves costs nothing more.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Connection, Running, metric, wait_for_load};

/// Different requests: lengths, seeds, numbers of answers, beginnings that some share.
fn requests() -> Vec<Value> {
    let story = "The dog and the cat went to the river to swim. ";
    (0..24usize)
        .map(|i| {
            let prompt = match i % 4 {
                0 => format!("{i}. Once upon a time"),
                1 => story.repeat(1 + i),
                2 => format!("{}And then, {i}", story.repeat(8)),
                _ => "Once upon a time there was a little girl who".to_owned(),
            };
            let grammar = (i % 8 == 5).then_some("start: /[a-z ,.]+/");
            json!({
                "grammar": grammar, "prompt": prompt, "max_tokens": 4 + (i * 7) % 23, "seed": i, "n": 1 + (i % 5 == 0) as u8 * 2,
                "logprobs": 2, "echo": i % 6 == 1, "temperature": if i % 7 == 3 { 0.0 } else { 0.9 },
            })
        })
        .collect()
}

fn choices(answer: &Value) -> Value {
    answer["choices"].clone()
}

#[test]
fn answers_are_the_same_bits_alone_and_in_any_company() {
    let alone: Vec<Value> = {
        // Without a memory of earlier texts, one after the other.
        let server = Running::start(|options| {
            options.parallel = 1;
            options.cache_bytes = 0;
        });
        requests().iter().map(|body| choices(&server.ok("/v1/completions", body))).collect()
    };
    for (parallel, pass_tokens, cache_bytes) in [(32, 264, 2 << 30), (5, 64, 64 << 20)] {
        let server = Running::start(|options| {
            options.parallel = parallel;
            options.pass_tokens = pass_tokens;
            options.cache_bytes = cache_bytes;
        });
        for round in 0..2 {
            std::thread::scope(|scope| {
                let server = &server;
                let threads: Vec<_> = requests()
                    .into_iter()
                    .map(|body| scope.spawn(move || choices(&server.ok("/v1/completions", &body))))
                    .collect();
                for (i, thread) in threads.into_iter().enumerate() {
                    let found = thread.join().unwrap();
                    assert_eq!(found, alone[i], "request {i}, round {round}, {parallel} at a time");
                }
            });
        }
        assert!(metric(&server, "cached_tokens_total") > 0.0, "nothing was kept");
        wait_for_load(&server, |load| load == 0.0);
        assert!(metric(&server, "prefix_bytes") <= cache_bytes as f64);
    }
}

#[test]
fn a_beginning_that_was_read_is_not_read_again() {
    let server = Running::start(|_| {});
    let prompt = "The dog and the cat went to the river to swim. ".repeat(20);
    let ask = |prompt: &str| {
        let body = json!({ "prompt": prompt, "max_tokens": 5, "seed": 1, "logprobs": 1 });
        server.ok("/v1/completions", &body)
    };
    let cached = |answer: &Value| {
        answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
    };
    let first = ask(&prompt);
    let n = first["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(cached(&first), 0);
    let second = ask(&prompt);
    assert_eq!((choices(&second), cached(&second)), (choices(&first), n - 1));
    let longer = ask(&format!("{prompt}Then they"));
    assert!(cached(&longer) >= n - 2, "{longer}");
    let other = ask("A bird");
    assert!(cached(&other) < 4, "{other}");
}

#[test]
fn who_leaves_is_not_worked_for() {
    let server = Running::start(|options| options.parallel = 8);
    let long = "The dog and the cat went to the river to swim. ".repeat(30);
    let body = json!({
        "prompt": long, "max_tokens": 400, "n": 8, "stream": true, "ignore_eos": true,
    });
    let ask = || {
        let mut connection = Connection::open(server.address);
        connection.ask("/v1/completions", body.to_string().as_bytes());
        connection
    };
    // One whose answer is written, and then two who wait.
    let mut writing = ask();
    assert_eq!(writing.head().unwrap().0, 200);
    writing.chunk().expect("it writes");
    let leaving = [writing, ask(), ask()];
    wait_for_load(&server, |load| load >= 10.0);
    let tokens = || metric(&server, "new_tokens_total");
    let before = tokens();
    drop(leaving);
    let start = Instant::now();
    wait_for_load(&server, |load| load == 0.0);
    let n = tokens() - before;
    assert!(n < 400.0, "{n} tokens were written for nobody");
    // Only so long that a busy machine passes; the scheduler's own time is some milliseconds.
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    server.ok("/v1/completions", &json!({ "prompt": "The sun", "max_tokens": 2 }));
}

#[test]
fn a_full_queue_is_said_and_passes() {
    let server = Running::start(|options| {
        options.parallel = 1;
        options.queue = 2;
    });
    let body = json!({
        "prompt": "The sun", "max_tokens": 480, "n": 8, "ignore_eos": true, "stream": true,
    });
    let mut writing = Connection::open(server.address);
    writing.ask("/v1/completions", body.to_string().as_bytes());
    writing.head().expect("it is served");
    writing.chunk().expect("it writes");
    let mut waiting: Vec<Connection> = (0..2).map(|_| Connection::open(server.address)).collect();
    for connection in &mut waiting {
        connection.ask("/v1/completions", body.to_string().as_bytes());
        connection.head().expect("it waits");
    }
    let refused = server.post("/v1/completions", &json!({ "prompt": "A" }));
    assert_eq!(refused.status, 429, "{}", refused.text());
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds));
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    // More prompts than the queue has places can never be served.
    let many = server.post("/v1/completions", &json!({ "prompt": ["A", "B", "C"] }));
    assert_eq!((many.status, &many.json()["error"]["param"]), (400, &json!("prompt")));
    drop((writing, waiting));
    wait_for_load(&server, |load| load == 0.0);
    server.ok("/v1/completions", &json!({ "prompt": "A", "max_tokens": 1 }));
}

#[test]
fn an_end_leaves_no_answer_in_the_middle() {
    let mut server = Running::start(|options| options.parallel = 1);
    let body = json!({
        "messages": [{ "role": "user", "content": "Tell me a story." }],
        "max_tokens": 480, "n": 8, "ignore_eos": true, "stream": true,
    });
    let mut streams: Vec<Connection> = (0..2).map(|_| Connection::open(server.address)).collect();
    let ask = |stream: &mut Connection| {
        stream.ask("/v1/chat/completions", body.to_string().as_bytes());
        assert_eq!(stream.head().map(|head| head.0), Some(200));
        stream.chunk().expect("a role")
    };
    // The roles come at once, a word when it is written.
    let mut chunk = ask(&mut streams[0]);
    while String::from_utf8_lossy(&chunk).contains("\"role\"") {
        chunk = streams[0].chunk().expect("it writes");
    }
    ask(&mut streams[1]);
    let mut idle = Connection::open(server.address);
    assert_eq!(idle.get("/health").status, 200);
    server.stop.stop();
    let read = |stream: &mut Connection| {
        let mut text = String::new();
        while let Some(chunk) = stream.chunk() {
            if chunk.is_empty() {
                return text;
            }
            text.push_str(&String::from_utf8(chunk).unwrap());
        }
        panic!("the stream broke off: {text}");
    };
    let running = read(&mut streams[0]);
    assert!(running.contains("\"finish_reason\":\"length\""), "{running}");
    assert!(running.ends_with("data: [DONE]\n\n"), "{running}");
    let waiting = read(&mut streams[1]);
    assert!(waiting.contains("\"shutting_down\""), "{waiting}");
    server.join();
    assert!(std::net::TcpStream::connect(server.address).is_err());
}

#[test]
fn time_outs_end_requests() {
    let server = Running::start(|options| {
        options.parallel = 1;
        options.timeout = Some(Duration::from_millis(150));
    });
    let body = json!({ "prompt": "The sun", "max_tokens": 480, "n": 8, "ignore_eos": true });
    std::thread::scope(|scope| {
        let first = scope.spawn(|| server.post("/v1/completions", &body));
        std::thread::sleep(Duration::from_millis(50));
        let second = server.post("/v1/completions", &body);
        let first = first.join().unwrap();
        assert_eq!(first.status, 200, "{}", first.text());
        assert_eq!(first.json()["choices"][0]["finish_reason"], "length");
        assert!(first.json()["usage"]["completion_tokens"].as_u64() < Some(8 * 480));
        assert!([200, 408].contains(&second.status), "{}", second.text());
    });
}
