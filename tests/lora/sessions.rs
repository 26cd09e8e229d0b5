//! Sessions with adapters: the same bits in any company, switched, saved, scored.

use anyhow::Result;
use halfbyte::model::{Batch, CacheType, Decoder, Step, Want};
use halfbyte::{Adapter, Error, GenerationConfig, Isa, Model, ModelOptions, Session};
use halfbyte_tests::adapters::Lora;

use crate::{ALL, MODELS, bits, for_each_model, logits, model, peft, tokens};

#[test]
fn logits_with_adapters_do_not_depend_on_isa_threads_cuts_or_the_batch() -> Result<()> {
    for_each_model(|rows, base| {
        let name = base.name;
        let open = |seed: u32, rank| {
            base.peft(&seed.to_string(), &Lora::random(&base.config, seed, rank, ALL))
        };
        let (one, two) = ((open(1, 8)?, 1.0), (open(2, 20)?, 0.5));
        // Sessions without adapters, with one, with two; neighbours that share them and others.
        let sets =
            [vec![], vec![one.clone()], vec![one.clone()], vec![two.clone(), one], vec![two]];
        let load =
            |isa, threads| Decoder::load_on(isa, &base.checkpoint, Some(threads), &mut |_, _| {});
        let scalar = load(Isa::available()[0], 1)?;
        let mut want = Vec::new();
        for (i, set) in sets.iter().enumerate() {
            let mut cache = scalar.new_cache_with(CacheType::F16, set)?;
            want.push(bits(&logits(&scalar, &mut cache, &tokens(length(i), i))?));
        }
        rows.check(name, want[0] != want[1], "the adapter changes nothing");
        for isa in Isa::available() {
            for (threads, cut) in [(1, 1000), (2, 1), (3, 7)] {
                let row = format!("{name} {} {threads} threads, cut {cut}", isa.name());
                let decoder = load(isa, threads)?;
                let found = together(&decoder, &sets, cut)?;
                rows.check(&row, found == want, "other bits");
            }
        }
        Ok(())
    })
}

/// Tokens of the i-th sequence.
fn length(i: usize) -> usize {
    3 + 8 * i
}

/// Bits of the logits of one sequence for each set, all in the same passes of `cut` tokens each.
fn together(decoder: &Decoder, sets: &[Vec<(Adapter, f32)>], cut: usize) -> Result<Vec<Vec<u32>>> {
    let texts: Vec<_> = (0..sets.len()).map(|i| tokens(length(i), i)).collect();
    let caches = sets.iter().map(|set| decoder.new_cache_with(CacheType::F16, set));
    let mut caches = caches.collect::<halfbyte::Result<Vec<_>>>()?;
    let mut found = vec![Vec::new(); sets.len()];
    for start in (0..texts[texts.len() - 1].len()).step_by(cut) {
        let mut steps = Vec::new();
        let mut owners = Vec::new();
        for (i, (cache, text)) in caches.iter_mut().zip(&texts).enumerate() {
            let tokens = &text[start.min(text.len())..(start + cut).min(text.len())];
            if !tokens.is_empty() {
                owners.extend(tokens.iter().map(|_| i));
                steps.push(Step { cache, tokens, want: Want::AllLogits });
            }
        }
        let outputs = decoder.forward(&mut Batch { steps, cancel: None })?;
        let rows = outputs.logits.chunks(decoder.config().vocab_size);
        for (owner, row) in owners.into_iter().zip(rows) {
            found[owner].extend(bits(row));
        }
    }
    Ok(found)
}

fn greedy(session: &mut Session, prompt: &[u32], n: usize) -> Result<(Vec<u32>, usize)> {
    let config = GenerationConfig {
        max_new_tokens: n,
        temperature: 0.0,
        ignore_eos: true,
        ..Default::default()
    };
    let done = session.generate_tokens(prompt, &config)?.complete()?;
    Ok((done.pieces.iter().map(|piece| piece.token).collect(), done.usage.reused_tokens))
}

#[test]
fn a_session_switches_adapters_without_a_trace_of_the_old_ones() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let model = model(MODELS[0])?;
    let open = |seed| -> Result<Adapter> {
        let lora = Lora::random(model.config(), seed, 8, ALL);
        lora.write_peft(&dir.path().join(seed.to_string()));
        Ok(model.open_adapter(dir.path().join(seed.to_string()))?)
    };
    let (one, two) = (open(1)?, open(2)?);
    let prompt = tokens(50, 3);
    let mut fresh = Vec::new();
    for set in [vec![], vec![(one.clone(), 1.0)], vec![(one.clone(), 0.5)], vec![(two, 1.0)]] {
        let mut session = model.with_adapters(&set)?.session();
        fresh.push((set, greedy(&mut session, &prompt, 12)?.0));
    }
    let texts: std::collections::HashSet<_> = fresh.iter().map(|(_, text)| text).collect();
    assert_eq!(texts.len(), fresh.len(), "adapters and scales give texts of their own");
    let mut session = model.session();
    for round in 0..2 {
        for (set, text) in &fresh {
            session.set_adapters(set)?;
            assert_eq!(session.cache_bytes(), 0, "keys of the adapters before");
            let (found, reused) = greedy(&mut session, &prompt, 12)?;
            assert_eq!((&found, reused), (text, 0), "round {round}");
            // The same ones again change nothing.
            session.set_adapters(set)?;
            let (found, reused) = greedy(&mut session.fork(), &prompt, 12)?;
            assert_eq!((&found, reused), (text, prompt.len() - 1), "round {round}");
        }
    }
    // Going on after a switch reads the whole text anew.
    session.set_adapters(&fresh[1].0)?;
    let text = session.tokens().to_vec();
    let config = GenerationConfig { max_new_tokens: 5, temperature: 0.0, ..Default::default() };
    let resumed = session.resume(&config)?.complete()?;
    let expected =
        model.with_adapters(&fresh[1].0)?.session().generate_tokens(&text, &config)?.complete()?;
    assert_eq!((resumed.text, resumed.usage.reused_tokens), (expected.text, 0));
    assert_eq!(session.adapters().len(), 1);
    assert_eq!(one.matrices().count(), 2 * 7 + 1);
    Ok(())
}

#[test]
fn a_saved_session_knows_its_adapters() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let model = model(MODELS[0])?;
    let lora = Lora::random(model.config(), 9, 4, &["attn_q", "attn_v"]);
    let adapter = peft(dir.path(), "lora", &lora, model.config())?;
    let with = model.with_adapters(&[(adapter.clone(), 1.0)])?;
    let path = dir.path().join("session");
    let mut session = with.session();
    session.append_tokens(&tokens(30, 1))?;
    session.save(&path)?;
    let expected = greedy(&mut session, &tokens(30, 1), 8)?;
    let mut loaded = Session::load(&with, &path)?;
    assert_eq!(greedy(&mut loaded, &tokens(30, 1), 8)?, expected);
    assert_eq!(expected.1, 29, "the cache was saved");
    for other in [model.clone(), with.with_adapters(&[(adapter, 0.5)])?] {
        let refused = Session::load(&other, &path);
        let says = |e: &Error| matches!(e, Error::Config { reason, .. } if reason.contains("other adapters"));
        assert!(refused.as_ref().is_err_and(says), "{refused:?}");
        assert_ne!(other.fingerprint(), with.fingerprint());
    }
    // Without adapters the fingerprint is what it was: files of earlier versions stay valid.
    assert_eq!(with.with_adapters(&[])?.fingerprint(), model.fingerprint());
    Ok(())
}

#[test]
fn scores_and_chats_of_a_model_with_adapters_use_them() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let model = Model::from_static_bytes(
        halfbyte_model::NAME,
        halfbyte_model::BYTES,
        &ModelOptions { threads: Some(2), ..Default::default() },
    )?;
    let lora = Lora::random(model.config(), 4, 8, &["attn_q", "ffn_up", "ffn_down"]);
    let adapter = peft(dir.path(), "lora", &lora, model.config())?;
    let with = model.with_adapters(&[(adapter.clone(), 1.0)])?;
    let ids = model.prompt_tokens("Once upon a time there was a little dog")?;
    let want = bits(&logits(model.decoder(), &mut with.new_cache(), &ids)?);
    assert_eq!(bits(&with.logits(&ids)?), want);
    assert_ne!(bits(&model.logits(&ids)?), want);
    let (a, b) = ids.split_at(4);
    let differs = |a: f64, b: f64| assert!((a - b).abs() > 1e-3, "{a} {b}");
    let score = |model: &Model| -> Result<f64> { Ok(model.log_likelihood_tokens(a, b)?.sum) };
    differs(score(&model)?, score(&with)?);
    let perplexity = |model: &Model| -> Result<f64> {
        Ok(model.perplexity(&ids, 64, 32, &halfbyte::Hooks::default())?.mean_nll)
    };
    differs(perplexity(&model)?, perplexity(&with)?);
    assert_ne!(model.embed_tokens(&ids)?, with.embed_tokens(&ids)?);
    let config = GenerationConfig { max_new_tokens: 8, temperature: 0.0, ..Default::default() };
    let alone = with.generate("The cat", &config)?.text;
    let batch = with.generate_batch(&["The cat", "A dog"], &config)?;
    assert_eq!(batch[0].text, alone);
    let mut chat = model.chat()?;
    chat.set_adapters(&[(adapter, 1.0)])?;
    chat.config_mut().temperature = 0.0;
    chat.config_mut().max_new_tokens = 8;
    let said = chat.say("Hi")?.complete()?.text;
    let mut other = with.chat()?;
    other.config_mut().temperature = 0.0;
    other.config_mut().max_new_tokens = 8;
    assert_eq!(other.say("Hi")?.complete()?.text, said);
    Ok(())
}

#[test]
fn adapters_and_scales_of_another_model_are_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let llama = model(MODELS[0])?;
    let lora = Lora::random(llama.config(), 1, 4, &["attn_q"]);
    let adapter = peft(dir.path(), "lora", &lora, llama.config())?;
    let other = model(MODELS[1])?;
    let config = |e: Result<Model, Error>| matches!(e, Err(Error::Config { .. }));
    assert!(config(other.with_adapters(&[(adapter.clone(), 1.0)])));
    for scale in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert!(config(llama.with_adapters(&[(adapter.clone(), scale)])));
    }
    let mut session = llama.session();
    session.append_tokens(&[1, 2, 3])?;
    assert!(session.set_adapters(&[(adapter.clone(), f32::NAN)]).is_err());
    assert!(session.cache_bytes() > 0 && session.adapters().is_empty(), "the session changed");
    // An adapter that is there twice counts twice.
    let twice = llama.with_adapters(&[(adapter.clone(), 0.5), (adapter, 0.5)])?;
    assert_eq!(twice.adapters().len(), 2);
    Ok(())
}
