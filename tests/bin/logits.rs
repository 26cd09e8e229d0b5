//! Writes the logits after the given tokens as raw float32, for tests in other languages.
//!
//! `logits MODEL TOKEN…`

use std::io::Write;

use anyhow::Context;
use halfbyte::Model;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let model = Model::open(args.next().context("which model?")?)?;
    let tokens = args.map(|arg| Ok(arg.parse()?)).collect::<anyhow::Result<Vec<u32>>>()?;
    let logits = model.logits(&tokens)?;
    let bytes: Vec<u8> = logits.iter().flat_map(|logit| logit.to_ne_bytes()).collect();
    Ok(std::io::stdout().write_all(&bytes)?)
}
