//! An OpenAI-compatible HTTP server over one model, with a page to talk to it.
//!
//! ```no_run
//! let model = halfbyte::Model::open("groovy.gguf")?;
//! let server = halfbyte_server::Server::bind(model, halfbyte_server::Options::default())?;
//! println!("http://{}", server.address());
//! server.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Requests are parsed and answered by one thread (`routes`, `answers`), and computed by another one,
//! which owns the model's work (`engine`). An answer is the same bit for bit whoever else is served.

mod answers;
mod apart;
mod app;
mod connection;
mod engine;
mod error;
mod grammar;
mod guard;
mod json_body;
mod metrics;
mod names;
mod options;
mod prompts;
mod routes;
mod server;
mod tools;
pub mod wire;

pub use names::{HostName, Origin};
pub use options::Options;
pub use routes::openapi;
pub use server::{ServeError, Server, Stop};
