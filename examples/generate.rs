//! Writes a story with the embedded model, or with the file that the first argument names.
//!
//! `cargo run -p halfbyte-examples --example generate [MODEL.gguf [PROMPT]]`

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::io::Write;

use halfbyte::{GenerationConfig, Model, ModelOptions};

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let model = match args.next() {
        Some(path) => Model::open(path)?,
        None => {
            let (name, bytes) = (halfbyte_model::NAME, halfbyte_model::BYTES);
            Model::from_static_bytes(name, bytes, &ModelOptions::default())?
        }
    };
    let prompt = args.next().unwrap_or_else(|| "Once upon a time".to_owned());
    let config = GenerationConfig { max_new_tokens: 120, ..GenerationConfig::default() };

    let mut session = model.session();
    let mut generation = session.generate(&prompt, &config)?;
    print!("{prompt}");
    for piece in generation.by_ref() {
        print!("{}", piece?.text);
        std::io::stdout().flush()?;
    }
    // The seed makes the same text again, on any machine and with any number of threads.
    println!("\n\n{} tokens, seed {}", generation.usage().new_tokens, generation.seed());
    Ok(())
}
