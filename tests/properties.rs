//! What holds for any text, any cut and any shape.
//!
//! Bounds of encodings are in `quant.rs`; the kernels' products, on every instruction set and between
//! pages that nobody may touch, in the crate (`kernels/tests/fuzz.rs`, `guard.rs`), as is packing
//! (`quant/pack/tests.rs`).

use std::sync::OnceLock;

use halfbyte::io::Checkpoint;
use halfbyte::model::CacheType;
use halfbyte::{FinishReason, GenerationConfig, Model, ModelOptions, Piece, Session};
use halfbyte_tests::data;
use halfbyte_tests::fixtures::{Folder, f32_data};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::json;

const CACHE_TYPES: [CacheType; 3] = [CacheType::F16, CacheType::F32, CacheType::Q8];

/// The small LLaMA with each type of cache.
fn model(cache_type: CacheType) -> &'static Model {
    static MODELS: [OnceLock<Model>; 3] = [OnceLock::new(), OnceLock::new(), OnceLock::new()];
    let place = CACHE_TYPES.iter().position(|&t| t == cache_type).expect("one of three");
    MODELS[place].get_or_init(|| {
        let options = ModelOptions { threads: Some(1), cache_type, ..ModelOptions::default() };
        Model::open_with(data().join("llama-1k.q4_0.gguf"), &options).expect("test data")
    })
}

fn config(seed: u64, max_new_tokens: usize) -> GenerationConfig {
    GenerationConfig {
        seed: Some(seed),
        max_new_tokens,
        ignore_eos: true,
        logprobs: Some(1),
        ..GenerationConfig::default()
    }
}

fn failed(error: impl std::fmt::Display) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

/// Pieces hold log-probabilities: comparing them compares logits.
fn go_on(session: &mut Session, config: &GenerationConfig) -> Result<Vec<Piece>, TestCaseError> {
    let done = session.resume(config).and_then(|generation| generation.complete());
    done.map(|done| done.pieces).map_err(failed)
}

/// Rows in the order in which GGUF has them, of a matrix in Hugging Face's order of half heads:
/// `transformers`' rotation takes (i, i + D/2), GGUF's (2i, 2i + 1).
fn interleaved(head: usize, dim: usize) -> usize {
    let (pair, half) = (dim / 2, dim % 2);
    half * (head / 2) + pair
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_session_that_was_saved_goes_on_as_if_it_had_not_been(
        tokens in prop::collection::vec(3u32..1000, 1..150),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        which in 0..CACHE_TYPES.len(),
        seed in any::<u32>(),
    ) {
        let model = model(CACHE_TYPES[which]);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(tokens.len())).collect();
        cuts.sort_unstable();
        let mut session = model.session();
        let mut start = 0;
        for cut in cuts.into_iter().chain([tokens.len()]) {
            if cut > start {
                session.append_tokens(&tokens[start..cut]).map_err(failed)?;
            }
            start = cut;
            let bytes = session.to_bytes();
            let loaded = Session::from_bytes(model, "memory", &bytes).map_err(failed)?;
            prop_assert_eq!(loaded.tokens(), session.tokens());
            prop_assert!(loaded.to_bytes() == bytes, "saved again it differs");
            session = loaded;
        }
        let mut fresh = model.session();
        fresh.append_tokens(&tokens).map_err(failed)?;
        let config = config(seed.into(), 6);
        prop_assert_eq!(go_on(&mut session, &config)?, go_on(&mut fresh, &config)?);
    }

    #[test]
    fn a_text_is_the_same_in_pieces_and_at_once(
        prompt in "\\PC{0,40}",
        stops in prop::collection::vec("[a-z ]{1,3}|\u{e9}|\u{2047}", 0..3),
        seed in any::<u32>(),
        n in 1usize..24,
    ) {
        let model = model(CacheType::F16);
        let config = GenerationConfig { stop: stops, ..config(seed.into(), n) };
        let once = model.generate(&prompt, &config).map_err(failed)?;
        let mut session = model.session();
        let mut generation = session.generate(&prompt, &config).map_err(failed)?;
        let mut text = String::new();
        let mut pieces = Vec::new();
        for piece in generation.by_ref() {
            let piece = piece.map_err(failed)?;
            text.push_str(&piece.text);
            pieces.push(piece);
        }
        prop_assert_eq!(generation.finish_reason(), Some(&once.finish_reason));
        prop_assert_eq!(generation.text(), &once.text);
        prop_assert_eq!(&text, &once.text);
        prop_assert_eq!(pieces, once.pieces);
        if let FinishReason::StopString(stop) = &once.finish_reason {
            prop_assert!(config.stop.contains(stop));
        }
        for stop in &config.stop {
            prop_assert!(!text.contains(stop.as_str()), "{:?} is in {:?}", stop, text);
        }
    }

    #[test]
    fn rows_are_permuted_as_the_rotation_wants_them_and_back(
        n_heads in 1usize..5,
        pairs in 1usize..9,
    ) {
        let (head, width) = (2 * pairs, 2 * pairs * n_heads);
        let mut folder = Folder::llama();
        for (name, number) in [
            ("hidden_size", width),
            ("num_attention_heads", n_heads),
            ("num_key_value_heads", n_heads),
        ] {
            folder.config[name] = json!(number);
        }
        for (name, _, shape, bytes) in &mut folder.tensors {
            let resized = shape.iter().map(|&d| if d == 8 { width } else { d });
            *shape = resized.collect();
            *bytes = f32_data(name, shape);
        }
        let place = tempfile::tempdir().map_err(failed)?;
        folder.write(place.path());
        let checkpoint = Checkpoint::open(place.path()).map_err(failed)?;
        for (hf, gguf, permuted) in [
            ("self_attn.q_proj", "attn_q", true),
            ("self_attn.k_proj", "attn_k", true),
            ("self_attn.v_proj", "attn_v", false),
        ] {
            let stored = folder.tensors.iter().find(|tensor| tensor.0.contains(hf));
            let stored = &stored.expect("a tensor of the fixture").3;
            let view = checkpoint.require(&format!("blk.0.{gguf}.weight")).map_err(failed)?;
            let mut back = vec![0; stored.len()];
            for row in 0..width {
                let place = if permuted {
                    row / head * head + interleaved(head, row % head)
                } else {
                    row
                };
                back[place * 4 * width..][..4 * width].copy_from_slice(view.row(row));
            }
            prop_assert!(&back == stored, "{} of {} heads of {}", gguf, n_heads, head);
        }
    }
}
