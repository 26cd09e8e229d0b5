//! Tokenizers against the ids of other libraries, whatever file the vocabulary comes from.

use anyhow::{Context, Result, ensure};
use halfbyte::io::{Checkpoint, Metadata, TokenizerSource, Value};
use halfbyte::tokenizer::{Specials, Tokenizer, gguf_metadata};
use halfbyte_tests::vocabularies::Stored::{Gguf, Json, Model};
use halfbyte_tests::vocabularies::{FAMILIES, Failures, shared_or_skip, small};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

fn ids(value: &serde_json::Value) -> Vec<u32> {
    let ids = value.as_array().into_iter().flatten().filter_map(serde_json::Value::as_u64);
    ids.filter_map(|id| u32::try_from(id).ok()).collect()
}

#[test]
fn golden_strings_and_passages_agree_in_both_directions() -> Result<()> {
    let Some(shared) = shared_or_skip("golden strings") else { return Ok(()) };
    let mut failures = Failures::default();
    for (family, members) in FAMILIES {
        let file = shared.join(format!("data/vocab/goldens/{family}.shared.json"));
        let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(file)?)?;
        let mut cases = golden["cases"].as_array().context("cases")?.clone();
        ensure!(cases.len() > 70, "{family} has {} cases", cases.len());
        let mut passage = golden["passage"].clone();
        passage["decoded"] = passage["text"].clone();
        cases.push(passage);
        for member in *members {
            let tokenizer = member.load(&shared)?;
            // The goldens of byte-level vocabularies were made with special tokens recognized.
            let specials = if *family == "llama" { Specials::AsText } else { Specials::Parse };
            for case in &cases {
                let text = case["text"].as_str().context("text")?;
                let expected = ids(&case["ids"]);
                let found = tokenizer.encode(text, specials)?;
                failures.check(found == expected, || {
                    format!("{member:?} {text:?}: {found:?}, expected {expected:?}")
                });
                let shown = case["decoded"].as_str().context("decoded")?;
                let expected_text = shown.replace("<|endoftext|>", "");
                let expected_text = if *family == "llama" { shown } else { expected_text.as_str() };
                let decoded = tokenizer.decode(&expected);
                failures.check(decoded == expected_text, || {
                    format!("{member:?} {expected:?}: {decoded:?}, expected {expected_text:?}")
                });
            }
        }
    }
    failures.finish()
}

#[test]
fn inp_files_give_the_ids_of_out_files() -> Result<()> {
    let Some(shared) = shared_or_skip(".inp and .out files") else { return Ok(()) };
    let mut failures = Failures::default();
    for ((_, members), name) in FAMILIES.iter().zip(["gpt-2", "gpt-neox", "llama-spm"]) {
        let file = shared.join(format!("data/vocab/ggml-vocab-{name}.gguf"));
        let inputs = std::fs::read_to_string(file.with_extension("gguf.inp"))?;
        let outputs = std::fs::read_to_string(file.with_extension("gguf.out"))?;
        let texts: Vec<&str> = inputs.split("\n__ggml_vocab_test__\n").collect();
        let lines: Vec<&str> = outputs.lines().collect();
        ensure!(lines.len() > 40 && texts.len() >= lines.len(), "{name}: {} texts", texts.len());
        for member in *members {
            let tokenizer = member.load(&shared)?;
            for (text, line) in texts.iter().zip(&lines) {
                let expected: Vec<u32> =
                    line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
                let found = tokenizer.encode(text, Specials::AsText)?;
                failures.check(found == expected, || {
                    format!("{member:?} {text:?}: {found:?}, expected {expected:?}")
                });
            }
        }
    }
    failures.finish()
}

#[test]
fn prompts_of_whole_models_have_the_golden_ids() -> Result<()> {
    let Some(shared) = shared_or_skip("prompts of whole models") else { return Ok(()) };
    let mut failures = Failures::default();
    let models = [
        ("llama-1k.f16.gguf", "llama-1k.f16.gguf"),
        ("llama-1k.q8_0.gguf", "llama-1k.q8_0.gguf"),
        ("llama-1k.q4_0.gguf", "llama-1k.q4_0.gguf"),
        ("llama-1k-hf", "llama-1k.f16.gguf"),
        ("gptj-1k.f16.gguf", "gptj-1k.f16.gguf"),
        ("gptj-1k.q8_0.gguf", "gptj-1k.q8_0.gguf"),
        ("gptj-1k.q4_0.gguf", "gptj-1k.q4_0.gguf"),
        ("gptj-1k-hf", "gptj-1k.f16.gguf"),
    ];
    for (model, golden) in models {
        let folder = shared.join("data/ggml");
        let tokenizer = Tokenizer::from_checkpoint(&Checkpoint::open(folder.join(model))?)?;
        let golden = std::fs::read(folder.join(format!("{golden}.golden.json")))?;
        let golden: serde_json::Value = serde_json::from_slice(&golden)?;
        let mut n_texts = 0;
        for prompt in golden["prompts"].as_array().context("prompts")? {
            let Some(text) = prompt["text"].as_str() else { continue };
            n_texts += 1;
            let expected = ids(&prompt["input_ids"]);
            let found = tokenizer.encode_prompt(text, Specials::AsText)?;
            failures.check(found == expected, || format!("{model} {text:?}: {found:?}"));
            let decoded = tokenizer.decode(&expected);
            failures.check(decoded == text, || format!("{model} {text:?}: {decoded:?}"));
        }
        failures.check(n_texts == 4, || format!("{model}: {n_texts} texts"));
    }
    failures.finish()
}

#[test]
fn small_vocabularies_give_known_ids() -> Result<()> {
    let [llama, gptj] = small()?;
    let said = "\n\nShe said: \"No,  never.\"";
    let cases: [(&Tokenizer, &str, &[u32]); 4] = [
        (&llama, "Once upon a time", &[1, 698, 661, 261, 449]),
        (&llama, said, &[1, 966, 13, 13, 995, 260, 329, 1023, 287, 1010, 970, 986, 966, 667, 365]),
        (&gptj, "Once upon a time", &[699, 658, 258, 446]),
        (&gptj, said, &[198, 198, 50, 257, 324, 25, 306, 45, 78, 11, 220, 665, 361]),
    ];
    for (tokenizer, text, expected) in cases {
        assert_eq!(tokenizer.encode_prompt(text, Specials::AsText)?, expected, "{text:?}");
        assert_eq!(tokenizer.decode(expected), text);
    }
    assert_eq!((llama.bos(), llama.eos(), llama.adds_bos()), (Some(1), Some(2), true));
    assert_eq!((gptj.bos(), gptj.eos(), gptj.adds_bos()), (Some(999), Some(999), false));
    Ok(())
}

#[test]
fn end_tokens_are_those_of_the_file_and_well_known_ones() -> Result<()> {
    let mut metadata = Metadata::default();
    let tokens = ["a", "<s>", "</s>", "<|eot_id|>", "<|im_end|>", "<stop>", "<more>"];
    let strings = tokens.iter().map(|token| token.as_bytes().to_vec()).collect();
    metadata.set("tokenizer.ggml.model", Value::String(b"llama".to_vec()));
    metadata.set("tokenizer.ggml.tokens", Value::Strings(strings));
    metadata.set("tokenizer.ggml.scores", Value::F32s(vec![0.0; tokens.len()]));
    metadata.set("tokenizer.ggml.token_type", Value::I32s(vec![1, 3, 3, 3, 1, 3, 3]));
    metadata.set("tokenizer.ggml.add_space_prefix", Value::Bool(false));
    metadata.set("tokenizer.ggml.bos_token_id", Value::U32(1));
    metadata.set("tokenizer.ggml.eos_token_id", Value::U32(2));
    metadata.set("tokenizer.ggml.eot_token_id", Value::U64(5));
    metadata.set("tokenizer.ggml.eos_token_ids", Value::I32s(vec![2, 6]));
    let tokenizer = Tokenizer::new(&TokenizerSource::Metadata, &metadata)?;
    let ends: Vec<bool> = (0..8).map(|id| tokenizer.is_end(id)).collect();
    // <|im_end|> is an ordinary token here, so it ends nothing.
    assert_eq!(ends, [false, false, true, true, false, true, true, false]);
    assert_eq!(tokenizer.encode_prompt("<s>a", Specials::Parse)?.first(), Some(&1));
    assert_eq!(tokenizer.decode(&[1, 0, 2, 99]), "a");
    Ok(())
}

/// Texts of words, spaces, special tokens and characters from everywhere.
fn random_texts(n_texts: usize) -> impl Iterator<Item = String> {
    const PARTS: &[&str] = &[
        "a",
        "the",
        " of",
        "I'll",
        "'S",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "12345",
        "\u{E9}",
        "e\u{301}",
        "\u{327}",
        "\u{4F60}",
        "\u{1F600}",
        "\u{200D}",
        "\u{2581}",
        "\u{120}",
        "<s>",
        "</s>",
        "<unk>",
        "<|endoftext|>",
        "<0x41>",
        "[PAD]",
        "...",
        "?!",
        "\u{A0}",
        "\u{3000}",
        "\0",
        "\u{661}",
        "\u{BD}",
    ];
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    (0..n_texts).map(move |_| {
        let mut text = String::new();
        for _ in 0..rng.next_u32() % 20 {
            match rng.next_u32() % 4 {
                0 => text.extend(char::from_u32(rng.next_u32() % 0x11_0000)),
                1 => text.extend(char::from_u32(rng.next_u32() % 0x600)),
                _ => text.push_str(PARTS[rng.next_u32() as usize % PARTS.len()]),
            }
        }
        text
    })
}

#[test]
fn a_tokenizer_survives_being_written_into_gguf() -> Result<()> {
    let Some(shared) = shared_or_skip("round trips of tokenizers") else { return Ok(()) };
    let mut failures = Failures::default();
    let members = FAMILIES.iter().flat_map(|(_, members)| *members);
    for member in members.filter(|member| matches!(member, Json(_) | Model(_) | Gguf(_))) {
        let (source, metadata) = member.source(&shared)?;
        let tokenizer = Tokenizer::new(&source, &metadata)?;
        let mut written = Metadata::default();
        for (key, value) in gguf_metadata(&source, &metadata)? {
            ensure!(written.get(&key).is_none(), "{member:?} writes {key} twice");
            written.set(key, value);
        }
        let whole = Tokenizer::new(&TokenizerSource::Metadata, &written)?;
        written.remove("tokenizer.huggingface.json");
        let plain = Tokenizer::new(&TokenizerSource::Metadata, &written)?;
        let text = std::fs::read_to_string(shared.join("data/text/wiki.test.raw"))?;
        let parts = text.lines().take(400).map(str::to_owned);
        for part in &parts.chain(random_texts(4_000)).collect::<Vec<_>>() {
            for specials in [Specials::AsText, Specials::Parse] {
                let expected = tokenizer.encode_prompt(part, specials)?;
                for (form, copy) in [("whole", &whole), ("plain", &plain)] {
                    let found = copy.encode_prompt(part, specials)?;
                    failures.check(found == expected, || {
                        format!("{member:?} {form} {part:?}: {found:?}, expected {expected:?}")
                    });
                }
            }
        }
        for copy in [&whole, &plain] {
            let facts = |t: &Tokenizer| (t.bos(), t.eos(), t.adds_bos(), t.vocab_size());
            assert_eq!(facts(copy), facts(&tokenizer), "{member:?}");
        }
    }
    failures.finish()
}
