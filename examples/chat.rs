//! A conversation of two turns: the second question is understood from the first.
//!
//! `cargo run -p halfbyte-examples --example chat [MODEL.gguf]`

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::io::Write;

use halfbyte::{Chat, ChatTemplate, GenerationConfig, Model, ModelOptions};

fn main() -> anyhow::Result<()> {
    let config = GenerationConfig { max_new_tokens: 80, ..GenerationConfig::default() };
    let mut chat = match std::env::args().nth(1) {
        // A chat model's file says how its conversations look.
        Some(path) => {
            let mut chat = Model::open(path)?.chat()?;
            *chat.config_mut() = config;
            chat
        }
        // The embedded model's template comes beside its bytes.
        None => {
            let (name, bytes) = (halfbyte_model::NAME, halfbyte_model::BYTES);
            let model = Model::from_static_bytes(name, bytes, &ModelOptions::default())?;
            let template = ChatTemplate::jinja(halfbyte_model::CHAT_TEMPLATE, &model);
            Chat::new(model.session(), template, config)
        }
    };
    for question in ["Write a story about a dog named Max.", "What is a good name for a cat?"] {
        println!("> {question}");
        for piece in chat.say(question)? {
            print!("{}", piece?.text);
            std::io::stdout().flush()?;
        }
        println!("\n");
    }
    println!("{} messages", chat.messages().len());
    Ok(())
}
