//! A plain HTTP client, and servers to ask.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use halfbyte::{Model, ModelOptions};
use halfbyte_server::{Options, ServeError, Server, Stop};
use serde_json::Value;

/// The embedded model.
pub(crate) fn model() -> Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    let open = || {
        let options = ModelOptions { threads: Some(2), ..ModelOptions::default() };
        Model::from_static_bytes(halfbyte_model::NAME, halfbyte_model::BYTES, &options)
            .expect("the embedded model opens")
    };
    MODEL.get_or_init(open).clone()
}

/// A server that ends with it.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) stop: Stop,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Running {
    /// Serves the embedded model at a free port.
    pub(crate) fn start(change: impl FnOnce(&mut Options)) -> Self {
        Self::of(model(), change)
    }

    pub(crate) fn of(model: Model, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::default();
        options.address.set_port(0);
        options.signals = false;
        options.requests_per_second = 1_000_000;
        options.grace = Duration::from_millis(200);
        change(&mut options);
        let server = Server::bind(model, options).expect("a free port");
        let (address, stop) = (server.address(), server.stopper());
        let thread = Some(std::thread::spawn(move || server.run()));
        Self { address, stop, thread }
    }

    /// Waits for the end.
    pub(crate) fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic").expect("a clean end");
        }
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        Connection::open(self.address).get(path)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        Connection::open(self.address).post(path, body.to_string().as_bytes())
    }

    /// The answer to a good request.
    pub(crate) fn ok(&self, path: &str, body: &Value) -> Value {
        let reply = self.post(path, body);
        assert_eq!(reply.status, 200, "{path} {body}: {}", reply.text());
        reply.json()
    }

    /// The messages of a stream, without the last `[DONE]`.
    pub(crate) fn events(&self, path: &str, body: &Value) -> Vec<Value> {
        let reply = self.post(path, body);
        assert_eq!(reply.status, 200, "{path} {body}: {}", reply.text());
        assert_eq!(reply.header("content-type"), Some("text/event-stream"));
        let text = reply.text();
        let mut lines: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("data: ")).collect();
        assert_eq!(lines.pop(), Some("[DONE]"), "{text}");
        lines.into_iter().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.stop();
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// A connection.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
        stream.set_nodelay(true).expect("no delay");
        Self(BufReader::new(stream))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        // A server that has answered already may have closed its side.
        drop(self.0.get_mut().write_all(bytes));
    }

    pub(crate) fn get(&mut self, path: &str) -> Reply {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        self.reply().expect("an answer")
    }

    pub(crate) fn post(&mut self, path: &str, body: &[u8]) -> Reply {
        self.ask(path, body);
        self.reply().expect("an answer")
    }

    /// Sends a request, whose answer is still to be read.
    pub(crate) fn ask(&mut self, path: &str, body: &[u8]) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.send(&[head.as_bytes(), body].concat());
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let n = self.0.read_line(&mut line).ok()?;
        (n > 0).then(|| line.trim_end().to_owned())
    }

    /// An answer's status and headers.
    pub(crate) fn head(&mut self) -> Option<(u16, Vec<(String, String)>)> {
        let status = self.line()?.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            match line.split_once(": ") {
                Some((name, value)) => headers.push((name.to_lowercase(), value.to_owned())),
                None => return Some((status, headers)),
            }
        }
    }

    /// A part of a streamed body; empty at its end.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let n = usize::from_str_radix(&self.line()?, 16).ok()?;
        let mut chunk = vec![0; n];
        self.0.read_exact(&mut chunk).ok()?;
        self.line()?;
        Some(chunk)
    }

    pub(crate) fn reply(&mut self) -> Option<Reply> {
        let (status, headers) = self.head()?;
        let value = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        let mut body = Vec::new();
        if value("transfer-encoding").is_some() {
            loop {
                let chunk = self.chunk()?;
                if chunk.is_empty() {
                    break;
                }
                body.extend(chunk);
            }
        } else {
            body.resize(value("content-length").map_or(Some(0), |n| n.parse().ok())?, 0);
            self.0.read_exact(&mut body).ok()?;
        }
        Some(Reply { status, headers, body })
    }
}

/// The value of a metric without labels.
pub(crate) fn metric(server: &Running, name: &str) -> f64 {
    value_of(&server.get("/metrics").text(), name)
}

fn value_of(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("halfbyte_{name} ")));
    line.expect("the metric is there").parse().expect("a number")
}

/// Sequences and prompts that have not come to their end.
pub(crate) fn load(server: &Running) -> f64 {
    let metrics = server.get("/metrics").text();
    ["running", "paused", "queued"].iter().map(|name| value_of(&metrics, name)).sum()
}

/// Waits until the load is as `wanted`: requests come in any order, and the last answer is there before
/// it is counted as done.
pub(crate) fn wait_for_load(server: &Running, wanted: impl Fn(f64) -> bool) {
    let start = Instant::now();
    loop {
        let load = load(server);
        if wanted(load) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "the load stays at {load}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
