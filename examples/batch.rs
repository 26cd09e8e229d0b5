//! Continues several prompts at once: every weight is read once per step for all of them.
//!
//! `cargo run -p halfbyte-examples --example batch`

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use halfbyte::{GenerationConfig, Model, ModelOptions};

fn main() -> anyhow::Result<()> {
    let (name, bytes) = (halfbyte_model::NAME, halfbyte_model::BYTES);
    let model = Model::from_static_bytes(name, bytes, &ModelOptions::default())?;
    let prompts = ["Once upon a time", "One day, a little girl named Lily", "Tom and his dog"];
    let config =
        GenerationConfig { max_new_tokens: 60, seed: Some(7), ..GenerationConfig::default() };

    let together = model.generate_batch(&prompts, &config)?;
    for (prompt, completion) in prompts.iter().zip(&together) {
        println!("{prompt}{}\n", completion.text);
    }
    // The company a prompt is in never changes its text.
    let alone = model.generate(prompts[0], &config)?;
    anyhow::ensure!(alone.text == together[0].text, "alone and together differ");
    println!("{} texts, the same as alone", together.len());
    Ok(())
}
