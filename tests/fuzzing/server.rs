//! Requests to a server of this process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::time::Duration;

use halfbyte::{Model, ModelOptions};
use halfbyte_server::{Options, Server};
use serde_json::{Value, json};

use super::{seeds, written};

/// The endpoints; the last one is asked for a model of any name.
const ENDPOINTS: &[(&str, &str)] = &[
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/embeddings"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("POST", "/apply-template"),
    ("GET", "/v1/models"),
    ("GET", "/tokenizer_info"),
    ("GET", "/metrics"),
    ("GET", "/health"),
    ("GET", "/openapi.json"),
    ("GET", "/v1/models/{*model}"),
];

/// Far more than an answer takes, which is milliseconds, on machines that have more to do.
const HANGING: Duration = Duration::from_secs(300);

/// It ends with the process.
static SERVER: LazyLock<SocketAddr> = LazyLock::new(|| {
    let path = written("served", "served.gguf", &seeds::talking().bytes());
    let model = ModelOptions { threads: Some(1), ..ModelOptions::default() };
    let model = Model::open_with(path, &model).expect("the model is valid");
    let mut options = Options::default();
    options.address.set_port(0);
    options.signals = false;
    options.requests_per_second = 1_000_000;
    options.timeout = Some(Duration::from_secs(2));
    options.patience = Duration::from_secs(2);
    options.queue = 16;
    options.cache_bytes = 1 << 20;
    let server = Server::bind(model, options).expect("a free port");
    let address = server.address();
    std::thread::spawn(move || server.run().expect("it serves"));
    address
});

/// The first byte chooses the endpoint, the rest is the body, or the name of a model. Whatever is
/// sent, there is an answer, and no mistake of the server's.
pub(super) fn server(bytes: &[u8]) {
    let Some((&choice, body)) = bytes.split_first() else { return };
    let (method, path) = ENDPOINTS[usize::from(choice) % ENDPOINTS.len()];
    let path = path.replace("{*model}", &escaped(body));
    let n = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {n}\r\n\r\n"
    );
    let mut stream = TcpStream::connect(*SERVER).expect("the server listens");
    stream.set_read_timeout(Some(HANGING)).expect("a time-out");
    stream.write_all(&[head.as_bytes(), body].concat()).expect("the server listens");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer in time");
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let status: u16 = status.expect("an answer");
    assert!((200..500).contains(&status), "{answer}");
    // What fails after its beginning is told in the stream.
    assert!(!answer.contains("\"type\":\"server_error\""), "{answer}");
}

/// As a path may have it; what cannot be in a request's first line, in hexadecimal.
fn escaped(name: &[u8]) -> String {
    let byte = |byte: &u8| match byte {
        b'!'..=b'~' if !b"\"#<>?\\^`{|}".contains(byte) => char::from(*byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    name.iter().take(1024).map(byte).collect()
}

/// A good request for each endpoint, and some that ask for more.
pub(super) fn server_seeds() -> Vec<Vec<u8>> {
    let known = halfbyte_server::openapi();
    let paths = known["paths"].as_object().expect("an object").keys().map(String::as_str);
    let of_document = |path: &str| path.replace("{model}", "{*model}");
    for path in paths.map(of_document) {
        assert!(ENDPOINTS.iter().any(|(_, known)| *known == path), "{path} is not asked for");
    }
    let messages = json!([{"role": "system", "content": "A"}, {"role": "user", "content": "Hi"}]);
    let tool = json!({"type": "function", "function": {"name": "f", "parameters":
        {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}});
    let schema = json!({"type": "json_schema", "json_schema": {"name": "x", "schema":
        {"type": "object", "properties": {"a": {"enum": ["b", 1]}}, "required": ["a"]}}});
    let requests = [
        (0, json!({"messages": messages, "max_tokens": 2})),
        (
            0,
            json!({"messages": messages, "max_tokens": 2, "stream": true, "logprobs": true,
            "top_logprobs": 2, "stream_options": {"include_usage": true}}),
        ),
        (0, json!({"messages": messages, "max_tokens": 2, "tools": [tool], "tool_choice": "auto"})),
        (0, json!({"messages": messages, "max_tokens": 2, "response_format": schema})),
        (1, json!({"prompt": "Hello", "max_tokens": 2, "temperature": 0, "stop": ["l", "\n"]})),
        (
            1,
            json!({"prompt": ["a", "b"], "max_tokens": 2, "n": 2, "echo": true, "logprobs": 2,
            "seed": 1, "top_p": 0.9, "top_k": 4, "min_p": 0.1, "logit_bias": {"5": -1.5}}),
        ),
        (1, json!({"prompt": [1, 5, 9], "max_tokens": 2, "grammar": "start: \"a\" /[0-9]+/"})),
        (2, json!({"input": "Hi", "max_output_tokens": 2, "stream": true})),
        (2, json!({"input": [{"role": "user", "content": "Hi"}], "max_output_tokens": 2})),
        (3, json!({"input": ["a", "b"], "encoding_format": "base64"})),
        (4, json!({"prompt": "Hello </s>", "return_token_strs": true})),
        (5, json!({"tokens": [1, 5, 9]})),
        (6, json!({"messages": messages, "tools": [tool]})),
    ];
    let mut seeds: Vec<_> = requests.iter().map(|(i, body)| request(*i, body)).collect();
    seeds.extend((7..ENDPOINTS.len() as u8).map(|i| [&[i][..], b"served"].concat()));
    seeds
}

fn request(endpoint: u8, body: &Value) -> Vec<u8> {
    [&[endpoint][..], body.to_string().as_bytes()].concat()
}
