//! What must hold of every vocabulary and every text: streaming, round trips, time, no panics.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halfbyte::io::{Metadata, TokenizerSource};
use halfbyte::tokenizer::{Specials, Tokenizer};
use halfbyte_tests::vocabularies::{Failures, everything, small_file};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

#[test]
fn streamed_pieces_join_to_the_decoded_text() -> Result<()> {
    let all = everything()?;
    let n_sequences = 120_000 / all.len() + 1;
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for (name, tokenizer) in &all {
        let size = tokenizer.vocab_size() as u32;
        // Single-byte tokens make broken UTF-8 likely; half of the draws are from them.
        let bytes: Vec<u32> = (0..size)
            .filter(|&id| tokenizer.token_bytes(id).is_some_and(|b| b.len() == 1))
            .collect();
        for _ in 0..n_sequences {
            let ids: Vec<u32> = (0..rng.next_u32() % 24)
                .map(|_| match rng.next_u32() % 2 {
                    0 => bytes[rng.next_u32() as usize % bytes.len()],
                    _ => rng.next_u32() % (size + 9),
                })
                .collect();
            let joined: Vec<u8> = ids
                .iter()
                .flat_map(|&id| tokenizer.token_bytes(id).unwrap_or(b""))
                .copied()
                .collect();
            let mut decoder = tokenizer.continuation_decoder();
            let mut pieces: String = ids.iter().map(|&id| decoder.push(id)).collect();
            pieces.push_str(&decoder.finish());
            assert_eq!(pieces, String::from_utf8_lossy(&joined), "{name} {ids:?}");
            let mut decoder = tokenizer.decoder();
            let mut streamed: String = ids.iter().map(|&id| decoder.push(id)).collect();
            streamed.push_str(&decoder.finish());
            assert_eq!(streamed, tokenizer.decode(&ids), "{name} {ids:?}");
            let kept = pieces.strip_prefix(' ').unwrap_or(&pieces);
            assert!(streamed == pieces || streamed == kept, "{name} {ids:?}");
        }
    }
    Ok(())
}

#[test]
fn odd_texts_survive_encoding_and_decoding() -> Result<()> {
    let texts = [
        "",
        " ",
        "\u{301}",
        "\u{327}\u{301}a",
        "a\0b\0",
        "\r\n\r\n a\r",
        "\u{1F469}\u{200D}\u{1F467} \u{1F1EB}\u{1F1F7}",
        "\u{FFFD}\u{FEFF}\u{10FFFF}",
        "  leading and trailing  ",
        "\t\t\u{3000}\u{A0}",
        "<s></s><unk><0x41><|endoftext|>",
        "\u{120}\u{10A}",
    ];
    let mut failures = Failures::default();
    for (name, tokenizer) in everything()? {
        for text in texts {
            let ids = tokenizer.encode(text, Specials::AsText)?;
            let decoded = tokenizer.decode(&ids);
            failures.check(decoded == text, || format!("{name} {text:?}: {decoded:?} {ids:?}"));
        }
    }
    failures.finish()
}

#[test]
fn prompt_text_never_becomes_a_control_token() -> Result<()> {
    for (name, tokenizer) in everything()? {
        let specials: Vec<u32> =
            (0..tokenizer.vocab_size() as u32).filter(|&id| tokenizer.is_special(id)).collect();
        ensure!(!specials.is_empty(), "{name} has no special tokens");
        for &id in &specials {
            let spelled = tokenizer.token_text(id).context("text")?;
            for text in [spelled.clone(), format!("a{spelled}b"), format!(" {spelled} ")] {
                let ids = tokenizer.encode(&text, Specials::AsText)?;
                assert!(!ids.iter().any(|&id| tokenizer.is_special(id)), "{name} {text:?} {ids:?}");
                assert_eq!(tokenizer.decode(&ids), text, "{name}");
            }
            let parsed = tokenizer.encode(&format!("a{spelled}b"), Specials::Parse)?;
            assert!(parsed.contains(&id), "{name} {spelled:?} {parsed:?}");
            assert_eq!(tokenizer.token_bytes(id), Some(&b""[..]), "{name} {spelled}");
        }
    }
    Ok(())
}

#[test]
fn long_texts_without_a_break_are_encoded_in_time() -> Result<()> {
    let texts = [
        ("letters", "a".repeat(200_000)),
        ("mixed letters", "lorem".repeat(40_000)),
        ("spaces", " ".repeat(200_000)),
        ("a megabyte of spaces", " ".repeat(1 << 20)),
        ("new lines", "\n".repeat(200_000)),
        ("emoji", "\u{1F600}".repeat(50_000)),
        ("ten thousand words", "once upon a time ".repeat(2_500)),
        ("a megabyte of prose", "The quick brown fox jumps over the lazy dog. ".repeat(22_000)),
    ];
    let mut failures = Failures::default();
    for (name, tokenizer) in everything()? {
        for (kind, text) in &texts {
            let start = Instant::now();
            let ids = tokenizer.encode(text, Specials::AsText)?;
            let elapsed = start.elapsed();
            println!("{name}: {kind}: {} tokens in {elapsed:?}", ids.len());
            failures
                .check(elapsed < Duration::from_secs(8), || format!("{name} {kind} {elapsed:?}"));
            let decoded = tokenizer.decode(&ids);
            failures.check(decoded == *text, || format!("{name} {kind} decodes to another text"));
        }
    }
    failures.finish()
}

#[test]
fn mutated_files_load_or_are_errors() -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(23);
    let sound =
        [TokenizerSource::Json as fn(Vec<u8>) -> TokenizerSource, TokenizerSource::SentencePiece];
    let files = [small_file("gptj-1k.tokenizer.json")?, small_file("llama-1k.tokenizer.model")?];
    let mut n_loaded = 0;
    for (source, file) in sound.iter().zip(&files) {
        for _ in 0..500 {
            let mut bytes = file.clone();
            for _ in 0..1 + rng.next_u32() % 4 {
                let at = rng.next_u32() as usize % bytes.len();
                match rng.next_u32() % 3 {
                    0 => bytes[at] = rng.next_u32() as u8,
                    1 => bytes.truncate(at.max(1)),
                    _ => drop(bytes.remove(at)),
                }
                if bytes.is_empty() {
                    bytes.push(0);
                }
            }
            let Ok(tokenizer) = Tokenizer::new(&source(bytes), &Metadata::default()) else {
                continue;
            };
            n_loaded += 1;
            let text = "Once upon a time \u{E9}\u{1F600} <s>\0";
            for specials in [Specials::AsText, Specials::Parse] {
                // Either outcome is fine: a mutated vocabulary may lack a byte.
                if let Ok(ids) = tokenizer.encode(text, specials) {
                    tokenizer.decode(&ids);
                }
            }
        }
    }
    ensure!(n_loaded > 10, "only {n_loaded} mutated files loaded: the mutations are too strong");
    Ok(())
}
