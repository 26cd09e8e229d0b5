//! The server over the embedded model, asked by a plain HTTP client.

mod client;
mod endpoints;
mod malformed;
mod scheduling;
