//! The server over the embedded model, asked by a plain HTTP client.

mod access;
mod client;
mod compatible;
mod endpoints;
mod limits;
mod malformed;
mod scheduling;
mod tools;
