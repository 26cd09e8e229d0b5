//! Pools: what joins and leaves between passes gives the same bits as alone, and nobody waits long.

use std::sync::{Arc, OnceLock};

use halfbyte::generate::{Advance, Pool, Purpose, Reading, Work};
use halfbyte::{Cancel, Error, FinishReason, GenerationConfig, Hooks, Model, ModelOptions, Piece};
use halfbyte_tests::{Rows, data};

const PROMPT: &str = "Once upon a time there was a little girl who";

fn open() -> Model {
    let options = ModelOptions { threads: Some(2), ..ModelOptions::default() };
    Model::from_static_bytes(halfbyte_model::NAME, halfbyte_model::BYTES, &options)
        .expect("the embedded model opens")
}

fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(open)
}

fn config(seed: u64, max_new_tokens: usize) -> GenerationConfig {
    GenerationConfig {
        seed: Some(seed),
        max_new_tokens,
        ignore_eos: true,
        logprobs: Some(2),
        ..GenerationConfig::default()
    }
}

fn long(n_sentences: usize) -> String {
    "The dog and the cat went to the river to swim. ".repeat(n_sentences)
}

fn generation(prompt: &str, config: &GenerationConfig, cancel: Option<&Cancel>) -> Work<'static> {
    let mut session = model().session();
    session.set_hooks(Hooks { cancel: cancel.cloned(), ..Hooks::default() });
    Work::Generation(session.into_generation(prompt, config).expect("the prompt is good"))
}

fn reading(text: &str, purpose: Purpose) -> Reading {
    let tokens = model().prompt_tokens(text).expect("tokens");
    model().session().into_reading(&tokens, purpose).expect("the text is good")
}

/// Reads it in a pool that has nobody else.
fn read_alone(reading: Reading) -> Reading {
    let mut pool = Pool::new(model());
    let key = pool.add(Work::Reading(reading)).expect("the pool's own model");
    while pool.n_running() > 0 {
        pool.pass(None).expect("a pass");
    }
    taken(&mut pool, key)
}

fn taken(pool: &mut Pool<'_>, key: usize) -> Reading {
    match pool.remove(key) {
        Some(Work::Reading(reading)) => reading,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn whoever_joins_and_leaves_nobody_computes_other_bits() {
    let texts = [PROMPT.to_owned(), long(12), "A".into(), long(1), "The sun was".into(), long(30)];
    let mut rows = Rows::default();
    for pass_tokens in [1, 100, 512] {
        let mut pool = Pool::new(model()).with_pass_tokens(pass_tokens);
        let (mut running, mut n_passes) = (Vec::new(), 0);
        while n_passes < texts.len() || pool.n_running() > 0 {
            if let Some(text) = texts.get(n_passes) {
                let config = config(n_passes as u64, 5 + 3 * n_passes);
                let key = pool.add(generation(text, &config, None)).expect("a member");
                running.push((key, text, config, Vec::<Piece>::new()));
                // Others read beside them, and one of them goes before it is done.
                let score = reading(text, Purpose::Logprobs(1));
                let key = pool.add(Work::Reading(score)).expect("a member");
                if n_passes == 1 {
                    pool.remove(key);
                }
            }
            for Advance { key, piece, .. } in pool.pass(None).expect("a pass") {
                let own = running.iter_mut().find(|(k, ..)| *k == key);
                if let Some((.., pieces)) = own {
                    pieces.extend(piece);
                }
            }
            n_passes += 1;
        }
        for (_, text, config, pieces) in &running {
            let alone = model().generate(text, config).expect("it generates").pieces;
            let row = format!("{pass_tokens} tokens, {}…", &text[..1]);
            rows.check(&row, *pieces == alone, format!("{pieces:?} is not {alone:?}"));
        }
    }
    rows.finish().unwrap();
}

#[test]
fn readings_score_and_embed_as_the_model_does() {
    for text in [PROMPT.to_owned(), long(12)] {
        let tokens = model().prompt_tokens(&text).unwrap();
        let scores = read_alone(reading(&text, Purpose::Logprobs(2)));
        let vocab_size = model().config().vocab_size;
        let logits = model().logits(&tokens).unwrap();
        assert_eq!(scores.scores().len(), tokens.len() - 1);
        for (i, score) in scores.scores().iter().enumerate() {
            let pair = (tokens[..=i].to_vec(), vec![tokens[i + 1]]);
            assert_eq!(score.token, tokens[i + 1]);
            if i % 23 == 0 {
                let whole = model().log_likelihood_tokens(&pair.0, &pair.1).unwrap();
                assert_eq!(score.logprob, whole.sum, "token {i}");
                assert_eq!(score.top_logprobs[0].0 == score.token, whole.is_greedy, "token {i}");
            }
            let row = &logits[i * vocab_size..][..vocab_size];
            let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let [(first, a), (_, b)] = score.top_logprobs[..] else { panic!("{score:?}") };
            assert!(row[first as usize] == best && a >= b, "token {i}");
        }
        // The session goes on where the reading ended, without its last token.
        let session = scores.into_session();
        assert_eq!(session.cached_tokens(), &tokens[..tokens.len() - 1]);
        let generation = session.into_generation_tokens(&tokens, &config(1, 4)).unwrap();
        assert_eq!(generation.usage().reused_tokens, tokens.len() - 1);
        let alone = model().generate(&text, &config(1, 4)).unwrap();
        assert_eq!(generation.complete().unwrap().pieces, alone.pieces);

        let embedding = read_alone(reading(&text, Purpose::Embedding)).embedding();
        assert_eq!(embedding, model().embed(&text).unwrap());
    }
    let single = read_alone(reading("A", Purpose::Logprobs(1)));
    assert!(
        single.is_done() && single.scores().len() == model().prompt_tokens("A").unwrap().len() - 1
    );
}

#[test]
fn forks_of_a_read_prompt_write_what_each_would_alone() {
    let tokens = model().prompt_tokens(&long(8)).unwrap();
    let mut pool = Pool::new(model());
    let reading = model().session().into_reading(&tokens, Purpose::Cache).unwrap();
    let key = pool.add(Work::Reading(reading)).unwrap();
    while pool.n_running() > 0 {
        pool.pass(None).unwrap();
    }
    let read = taken(&mut pool, key).into_session();
    let keys: Vec<usize> = (0..4)
        .map(|seed| {
            let fork = read.fork().into_generation_tokens(&tokens, &config(seed, 6)).unwrap();
            assert_eq!(fork.usage().reused_tokens, tokens.len() - 1);
            pool.add(Work::Generation(fork)).unwrap()
        })
        .collect();
    let mut pieces = vec![Vec::new(); keys.len()];
    while pool.n_running() > 0 {
        for advance in pool.pass(None).unwrap() {
            let i = keys.iter().position(|key| *key == advance.key).unwrap();
            pieces[i].extend(advance.piece);
        }
    }
    for (seed, pieces) in (0..).zip(pieces) {
        let alone = model().session().into_generation_tokens(&tokens, &config(seed, 6)).unwrap();
        assert_eq!(pieces, alone.complete().unwrap().pieces, "seed {seed}");
    }
}

#[test]
fn a_brake_ends_its_own_generation_and_a_cancelled_pass_changes_nothing() {
    let (mine, pass) = (Cancel::new(), Cancel::new());
    let mut pool = Pool::new(model());
    let stopped = pool.add(generation(&long(4), &config(1, 8), Some(&mine))).unwrap();
    let other = pool.add(generation(PROMPT, &config(2, 8), None)).unwrap();
    pool.pass(None).unwrap();
    let newcomer = pool.add(generation(&long(4), &config(3, 8), None)).unwrap();

    pass.cancel();
    assert!(matches!(pool.pass(Some(&pass)), Err(Error::Cancelled)));
    let keys = |pool: &Pool<'_>| pool.plan().iter().map(|share| share.key).collect::<Vec<_>>();
    assert_eq!(keys(&pool), [stopped, other], "texts go on before anybody's prompt");
    mine.cancel();
    let advances = pool.pass(None).unwrap();
    assert!(
        matches!(&advances[0], Advance { key, piece: None, is_done: true, error: None } if *key == stopped)
    );
    assert_eq!(keys(&pool), [other, newcomer], "then prompts are read again");
    match pool.get(stopped) {
        Some(Work::Generation(g)) => {
            assert_eq!(g.finish_reason(), Some(&FinishReason::Cancelled));
            assert_eq!(g.usage().new_tokens, 1);
        }
        other => panic!("{other:?}"),
    }
    while pool.n_running() > 0 {
        pool.pass(None).unwrap();
    }
    let Some(Work::Generation(found)) = pool.remove(other) else { panic!("it is there") };
    assert_eq!(found.text(), model().generate(PROMPT, &config(2, 8)).unwrap().text);
    assert!(pool.remove(other).is_none() && pool.len() == 2);
}

#[test]
fn a_processor_that_pulls_its_brake_ends_nobody_else() {
    let cancel = Cancel::new();
    let pulled = cancel.clone();
    let processor = Arc::new(move |_: &[u32], _: &mut [f32]| pulled.cancel());
    let mut session = model().session();
    let hooks = Hooks { cancel: Some(cancel), processor: Some(processor), progress: None };
    session.set_hooks(hooks);
    let mut pool = Pool::new(model());
    let failing = session.into_generation(PROMPT, &config(1, 8)).unwrap();
    let failing = pool.add(Work::Generation(failing)).unwrap();
    let other = pool.add(generation(PROMPT, &config(1, 8), None)).unwrap();
    let advances = pool.pass(None).unwrap();
    assert!(
        matches!(&advances[0], Advance { key, piece: None, is_done: true, error: None } if *key == failing)
    );
    assert!(advances[1].key == other && advances[1].piece.is_some());
}

#[test]
fn whoever_is_held_waits_and_goes_on_with_the_same_bits() {
    let mut pool = Pool::new(model());
    let config = config(5, 6);
    let keys: Vec<usize> = ["The sun", "A dog"]
        .iter()
        .map(|prompt| pool.add(generation(prompt, &config, None)).unwrap())
        .collect();
    pool.pass(None).unwrap();
    pool.hold(keys[0], true);
    let told = |pool: &mut Pool<'_>| -> Vec<usize> {
        pool.pass(None).unwrap().iter().map(|advance| advance.key).collect()
    };
    assert_eq!([told(&mut pool), told(&mut pool)], [[keys[1]], [keys[1]]]);
    pool.hold(keys[1], true);
    assert!(pool.plan().is_empty() && told(&mut pool).is_empty());
    assert_eq!(pool.n_running(), 2);
    keys.iter().for_each(|&key| pool.hold(key, false));
    while pool.n_running() > 0 {
        pool.pass(None).unwrap();
    }
    for (prompt, key) in ["The sun", "A dog"].iter().zip(keys) {
        let Some(Work::Generation(found)) = pool.remove(key) else { panic!("it is there") };
        let alone = model().generate(prompt, &config).unwrap();
        assert_eq!(found.text(), alone.text, "{prompt}");
    }
}

#[test]
fn what_a_pool_or_a_reading_cannot_take_is_refused() {
    let mut pool = Pool::new(model());
    let stranger = open().session().into_generation(PROMPT, &config(1, 1)).unwrap();
    let refused = pool.add(Work::Generation(stranger));
    assert!(matches!(refused, Err(Error::Config { field, .. }) if field == "session"));

    let read = |tokens: &[u32]| model().session().into_reading(tokens, Purpose::Cache).map(drop);
    let vocab_size = model().config().vocab_size as u32;
    assert!(matches!(read(&[]), Err(Error::Config { field, .. }) if field == "text"));
    assert!(matches!(read(&[vocab_size]), Err(Error::Config { field, .. }) if field == "tokens"));
    let too_long = vec![1; model().context_length() + 1];
    assert!(matches!(read(&too_long), Err(Error::ContextFull { .. })));

    let t5 = Model::open(data().join("t5-micro")).expect("the T5 model opens");
    let refused = t5.session().into_reading(&[1, 2], Purpose::Logprobs(1));
    assert!(matches!(refused, Err(Error::Config { field, .. }) if field == "logprobs"));
    let mut pool = Pool::new(&t5);
    let tokens: Vec<u32> = (3..70).collect();
    let reading = t5.session().into_reading(&tokens, Purpose::Embedding).unwrap();
    let key = pool.add(Work::Reading(reading)).unwrap();
    pool.pass(None).unwrap();
    assert_eq!(taken(&mut pool, key).embedding(), t5.embed_tokens(&tokens).unwrap());
}
