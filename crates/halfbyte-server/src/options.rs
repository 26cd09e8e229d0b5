//! How to serve.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::names::{HostName, Origin};

/// How to serve a model; the defaults serve this machine only.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Where to listen; port 0 takes any free one. Default 127.0.0.1:8080.
    pub address: SocketAddr,
    /// The model's name in answers; the file's name by default.
    pub name: Option<String>,
    /// Sequences that are computed together, at most 64. Default 64.
    pub parallel: usize,
    /// Prompts that may wait; more are answered 429. Default 256.
    pub queue: usize,
    /// Bytes of keys and values, of running sequences and of those that are kept for others that
    /// begin alike; one sequence is computed whatever it takes. Default 2 GiB.
    pub cache_bytes: usize,
    /// Tokens in one pass, which is as long as a running answer waits at most. Default 264.
    pub pass_tokens: usize,
    /// Bytes of a request's body. Default 8 MiB.
    pub body_bytes: usize,
    /// Requests in a second, in the long run; those that come faster wait. One takes 80 µs of a
    /// processor before it is computed. Default 250.
    pub requests_per_second: u32,
    /// Time for a request, in the queue and running; `None` for no limit. Default 10 min.
    pub timeout: Option<Duration>,
    /// Time for a client to send a request's head or body, or to take what it is sent. Default 30 s.
    pub patience: Duration,
    /// Time that running answers get after the first signal to stop. Default 10 s.
    pub grace: Duration,
    /// The key that requests must bring (`Authorization: Bearer …`). Default none.
    pub api_key: Option<String>,
    /// Web sites whose pages may use the server. Default none but its own.
    pub cors_origins: Vec<Origin>,
    /// Names that requests may call the server by, beside `localhost` and addresses. Where it listens
    /// beyond this machine they matter only without a key. Default none.
    pub allowed_hosts: Vec<HostName>,
    /// Whether SIGINT and SIGTERM stop the server. Default true.
    pub signals: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            name: None,
            parallel: 64,
            queue: 256,
            cache_bytes: 2 << 30,
            pass_tokens: halfbyte::PROMPT_CHUNK,
            body_bytes: 8 << 20,
            requests_per_second: 250,
            timeout: Some(Duration::from_secs(600)),
            patience: Duration::from_secs(30),
            grace: Duration::from_secs(10),
            api_key: None,
            cors_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            signals: true,
        }
    }
}
