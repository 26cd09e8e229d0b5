//! Small programs that show the library; each is one file: `cargo run -p halfbyte-examples --example chat`.
