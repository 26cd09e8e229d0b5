//! `halfbyte tokenize`.

use std::path::PathBuf;

use anyhow::Context;
use halfbyte::tokenizer::{Specials, Tokenizer};
use serde_json::json;

use crate::model::Source;
use crate::{Ending, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The text; '-' reads it from standard input.
    #[arg(conflicts_with = "file")]
    text: Option<String>,
    /// Read the text from a file.
    #[arg(short, long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Turn ids (separated by commas or spaces) into text instead.
    #[arg(long, value_name = "IDS", conflicts_with_all = ["text", "file"])]
    decode: Option<String>,
    /// Let text that spells a special token become that token.
    #[arg(long)]
    special: bool,
    /// Leave out the token that starts a text.
    #[arg(long)]
    no_bos: bool,
    /// Print only the ids.
    #[arg(long)]
    ids: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: Source,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Ending> {
    let tokenizer = Tokenizer::from_checkpoint(&args.source.checkpoint()?)?;
    if let Some(ids) = &args.decode {
        let ids = ids.split([',', ' ', '[', ']']).filter(|id| !id.is_empty());
        let ids = ids
            .map(|id| {
                let id = id.parse().with_context(|| format!("{id} is no token id"))?;
                let known = tokenizer.token_bytes(id).is_some();
                anyhow::ensure!(known, "the vocabulary has no token {id}");
                Ok(id)
            })
            .collect::<anyhow::Result<Vec<u32>>>()?;
        let text = tokenizer.decode(&ids);
        if args.json {
            output::json(&json!({ "text": text }))?;
        } else {
            output::line(text)?;
        }
        return Ok(Ending::Done);
    }
    let text = super::text(args.text.as_deref(), args.file.as_deref())?;
    let specials = if args.special { Specials::Parse } else { Specials::AsText };
    let ids = if args.no_bos {
        tokenizer.encode(&text, specials)?
    } else {
        tokenizer.encode_prompt(&text, specials)?
    };
    let pieces: Vec<String> =
        ids.iter().map(|&id| tokenizer.token_text(id).unwrap_or_default()).collect();
    if args.json {
        output::json(&json!({ "ids": ids, "pieces": pieces }))?;
    } else if args.ids {
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        output::line(ids.join(" "))?;
    } else {
        for (id, piece) in ids.iter().zip(&pieces) {
            output::line(format_args!("{id:>8}  {piece:?}"))?;
        }
    }
    Ok(Ending::Done)
}
