//! Sessions with a T5: they answer, go on, are forked, saved, rewound and stopped.

use anyhow::Result;
use halfbyte::model::{Batch, CacheType, Step, Want};
use halfbyte::{Cancel, Error, FinishReason, Hooks, Model, ModelOptions, Session};
use halfbyte_tests::data;
use serde_json::Value;

use crate::{greedy, micro, text_prompt};

#[test]
fn sessions_answer_prompts() -> Result<()> {
    let (text, golden) = text_prompt()?;
    let model = micro();
    let (n, answer) = (golden.greedy.len(), &golden.greedy);
    assert_eq!(model.prompt_tokens(&text)?, golden.prompt, "sentencepiece and the end token");
    let mut session = model.session();
    let whole = session.generate(&text, &greedy(n))?.complete()?;
    assert_eq!(whole.tokens(), *answer);
    assert_eq!(whole.usage.prompt_tokens, golden.prompt.len());
    let spelled = model.tokenizer()?.decode(answer);
    assert_eq!(whole.text, spelled, "an answer is a text of its own");
    assert_eq!(session.tokens(), [&golden.prompt[..], answer].concat());

    // Stopping and going on is the same, and so are a fork, a saved session and a rewound one.
    let mut parts = session.generate(&text, &greedy(5))?.complete()?.tokens();
    let mut fork = session.fork();
    let mut saved = Session::from_bytes(&model, "memory", &session.to_bytes())?;
    for (name, session) in [("kept", &mut session), ("forked", &mut fork), ("saved", &mut saved)] {
        let rest = session.resume(&greedy(n - 5))?.complete()?.tokens();
        assert_eq!([&parts[..], &rest].concat(), *answer, "{name}");
        session.truncate(golden.prompt.len() + 2);
        let owned = session.fork().into_resumed(&greedy(n - 2))?.complete()?.tokens();
        assert_eq!(owned, answer[2..], "{name}, rewound, with the session inside");
        let rest = session.resume(&greedy(n - 2))?.complete()?.tokens();
        assert_eq!(rest, answer[2..], "{name}, rewound");
    }
    // A prompt that goes on from the whole text is all prompt.
    let longer = [session.tokens(), &golden.prompt].concat();
    let found = session.generate_tokens(&longer, &greedy(6))?.complete()?;
    let fresh = model.session().generate_tokens(&longer, &greedy(6))?.complete()?;
    assert_eq!(found.tokens(), fresh.tokens());
    assert!(found.usage.reused_tokens > 0);
    // Appending before the answer makes a prompt.
    let mut appended = model.session();
    appended.append_tokens(&golden.prompt[..3])?;
    appended.append_tokens(&golden.prompt[3..])?;
    parts = appended.resume(&greedy(n))?.complete()?.tokens();
    assert_eq!(parts, *answer);
    Ok(())
}

#[test]
fn full_sessions_are_saved_and_read_back() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    for cache_type in [CacheType::F16, CacheType::F32, CacheType::Q8] {
        let options = ModelOptions { cache_type, ..ModelOptions::default() };
        let model = Model::open_with(data().join("t5-micro"), &options)?;
        for n_answer in [1, model.context_length() - 1] {
            let path = temporary.path().join("session");
            let mut session = model.session();
            let prompt: Vec<u32> =
                (0..model.context_length() - n_answer).map(|i| 3 + (i % 200) as u32).collect();
            session.generate_tokens(&prompt, &greedy(n_answer))?.complete()?;
            session.save(&path)?;
            let mut read = Session::load(&model, &path)?;
            assert_eq!(read.tokens().len(), model.context_length());
            assert!(
                read.to_bytes() == session.to_bytes() && std::fs::read(&path)? == read.to_bytes()
            );
            // What the encoder made of the prompt is computed again.
            read.truncate(prompt.len());
            let answer = read.resume(&greedy(n_answer))?.complete()?.tokens();
            assert_eq!(answer, session.tokens()[prompt.len()..], "{cache_type:?} {n_answer}");
        }
    }
    Ok(())
}

#[test]
fn the_brake_stops_prompts_and_answers() -> Result<()> {
    let model = micro();
    let cancel = Cancel::new();
    let mut session = model.session();
    session.set_hooks(Hooks::cancelled_by(&cancel));
    let (text, golden) = text_prompt()?;
    cancel.cancel();
    let stopped = session.generate(&text, &greedy(4))?.complete()?;
    assert_eq!((stopped.finish_reason, stopped.usage.new_tokens), (FinishReason::Cancelled, 0));
    cancel.reset();
    let mut generation = session.generate(&text, &greedy(12))?;
    let first: Vec<u32> =
        generation.by_ref().take(3).map(|p| p.map(|p| p.token)).collect::<halfbyte::Result<_>>()?;
    cancel.cancel();
    assert!(generation.next().is_none());
    assert_eq!(generation.finish_reason(), Some(&FinishReason::Cancelled));
    drop(generation);
    cancel.reset();
    let rest = session.resume(&greedy(9))?.complete()?.tokens();
    assert_eq!([first, rest].concat(), golden.greedy);
    // In the middle of reading a prompt.
    let step_cancel = Cancel::new();
    step_cancel.cancel();
    let mut cache = model.decoder().new_cache(CacheType::F16);
    let step = Step { cache: &mut cache, tokens: &golden.prompt, want: Want::LastLogits };
    let mut batch = Batch { steps: vec![step], cancel: Some(&step_cancel) };
    assert!(matches!(model.decoder().forward(&mut batch), Err(Error::Cancelled)));
    assert_eq!(cache.len(), 0, "the cache is as before");
    Ok(())
}

#[test]
fn numbers_that_no_tensor_shows_are_part_of_the_fingerprint() -> Result<()> {
    let folder = data().join("t5-micro");
    let temporary = tempfile::tempdir()?;
    for name in ["model.safetensors", "spiece.model", "tokenizer_config.json"] {
        std::fs::copy(folder.join(name), temporary.path().join(name))?;
    }
    let config: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json"))?)?;
    let open = |key: &str, value: Value| -> Result<Model> {
        let mut config = config.clone();
        config[key] = value;
        std::fs::write(temporary.path().join("config.json"), config.to_string())?;
        Ok(Model::open(temporary.path())?)
    };
    let model = micro();
    let distance = "relative_attention_max_distance";
    assert_eq!(open(distance, 128.into())?.fingerprint(), model.fingerprint());
    let mut session = model.session();
    session.generate_tokens(&[5, 6, 1], &greedy(2))?.complete()?;
    for (key, value) in [(distance, 64), ("decoder_start_token_id", 3)] {
        let other = open(key, value.into())?;
        assert_ne!(other.fingerprint(), model.fingerprint(), "{key}");
        let read = Session::from_bytes(&other, "memory", &session.to_bytes());
        assert!(matches!(read, Err(Error::Config { .. })), "{key}: {read:?}");
    }
    Ok(())
}
