//! Generation: the same text whatever the threads, the cutting and the company; ends, limits, brakes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use halfbyte::{
    Cancel, ContextPolicy, Error, FinishReason, GenerationConfig, Hooks, Model, ModelOptions,
    Piece, Progress, Session,
};
use halfbyte_tests::{Rows, shared, skip};

const PROMPT: &str = "Once upon a time there was a little girl who";

fn open(options: &ModelOptions) -> Model {
    Model::from_static_bytes(halfbyte_model::NAME, halfbyte_model::BYTES, options)
        .expect("the embedded model opens")
}

fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| open(&ModelOptions { threads: Some(2), ..ModelOptions::default() }))
}

/// The embedded model, and one with a SentencePiece vocabulary if the shared data is there.
fn models() -> Vec<Model> {
    let llama = shared().map(|shared| shared.join("data/ggml/llama-1k.q4_0.gguf"));
    let llama = llama.filter(|path| path.exists());
    if llama.is_none() {
        skip("the SentencePiece model");
    }
    let llama = llama.map(|path| Model::open(path).expect("the shared model opens"));
    [Some(model().clone()), llama].into_iter().flatten().collect()
}

fn sampling(seed: u64) -> GenerationConfig {
    GenerationConfig {
        seed: Some(seed),
        max_new_tokens: 24,
        ignore_eos: true,
        logprobs: Some(2),
        ..GenerationConfig::default()
    }
}

fn pieces(session: &mut Session, prompt: &str, config: &GenerationConfig) -> Vec<Piece> {
    session.generate(prompt, config).and_then(|g| g.complete()).expect("it generates").pieces
}

#[test]
fn a_seed_gives_one_text_whatever_the_threads_the_cutting_and_the_company() {
    let mut rows = Rows::default();
    for model in models() {
        let expected = pieces(&mut model.session(), PROMPT, &sampling(7));
        let mut same = |row: &str, found: Vec<Piece>| {
            // Pieces hold log-probabilities, so this compares logits bit by bit, not texts only.
            let row = format!("{}: {row}", model.path().display());
            rows.check(&row, found == expected, format!("{found:?} is not {expected:?}"));
        };
        same("again", pieces(&mut model.session(), PROMPT, &sampling(7)));

        let tokens = model.tokenizer().unwrap();
        let tokens = tokens.encode_prompt(PROMPT, halfbyte::tokenizer::Specials::AsText).unwrap();
        for size in [1, 2, 3, tokens.len()] {
            let mut session = model.session();
            for chunk in tokens.chunks(size) {
                session.append_tokens(chunk).unwrap();
            }
            let generation = session.resume(&sampling(7)).unwrap();
            same(&format!("prompt by {size}"), generation.complete().unwrap().pieces);
        }

        let mut session = model.session();
        pieces(&mut session, "Once upon a time in a wood", &sampling(1));
        let mut generation = session.generate(PROMPT, &sampling(7)).unwrap();
        let reused: Vec<Piece> = generation.by_ref().map(|piece| piece.unwrap()).collect();
        assert!(generation.usage().reused_tokens > 2, "{:?}", generation.usage());
        same("after another text with the same beginning", reused);
        same("a second time in one session", pieces(&mut session, PROMPT, &sampling(7)));

        let long = "The dog and the cat went to the river to swim. ".repeat(8);
        let prompts = ["A", PROMPT, &long, "", PROMPT, "The sun was"];
        let together = model.generate_batch(&prompts, &sampling(7)).unwrap();
        for (prompt, completion) in prompts.iter().zip(together) {
            let alone = model.generate(prompt, &sampling(7)).unwrap();
            assert_eq!(completion.pieces, alone.pieces, "{prompt}");
            assert_eq!(completion.text, alone.text, "{prompt}");
            assert_eq!(completion.finish_reason, alone.finish_reason, "{prompt}");
            if *prompt == PROMPT {
                same("with other prompts", completion.pieces);
            }
        }
    }
    for threads in [1, 4] {
        let options = ModelOptions { threads: Some(threads), ..ModelOptions::default() };
        let found = pieces(&mut open(&options).session(), PROMPT, &sampling(7));
        let expected = pieces(&mut model().session(), PROMPT, &sampling(7));
        rows.check(&format!("{threads} threads"), found == expected, "differs");
    }
    rows.finish().unwrap();
}

#[test]
fn forks_and_saved_sessions_go_on_alike() {
    for model in models() {
        let mut session = model.session();
        session.append(PROMPT).unwrap();
        pieces_of(&mut session, 3);
        let mut fork = session.fork();
        let bytes = session.to_bytes();
        let mut loaded = Session::from_bytes(&model, "memory", &bytes).unwrap();
        assert_eq!(loaded.tokens(), session.tokens());
        let expected = pieces_of(&mut session, 5);
        assert_eq!(pieces_of(&mut fork, 5), expected, "fork");
        assert_eq!(pieces_of(&mut loaded, 5), expected, "loaded");

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.session");
        session.save(&path).unwrap();
        assert!(std::fs::read(&path).unwrap() == session.to_bytes(), "a file and bytes differ");
        let mut loaded = Session::load(&model, &path).unwrap();
        assert_eq!(pieces_of(&mut loaded, 9), pieces_of(&mut session, 9), "from a file");
    }
}

fn pieces_of(session: &mut Session, seed: u64) -> Vec<Piece> {
    session.resume(&sampling(seed)).and_then(|g| g.complete()).expect("it generates").pieces
}

#[test]
fn damaged_and_foreign_sessions_are_errors() {
    let mut session = model().session();
    session.append("One two three").unwrap();
    let bytes = session.to_bytes();
    for len in (0..bytes.len()).step_by(37).chain([9, 10, 44, bytes.len() - 1]) {
        let result = Session::from_bytes(model(), "cut", &bytes[..len]);
        let expected =
            matches!(result, Err(Error::Malformed { .. } | Error::UnsupportedFormat { .. }));
        assert!(expected, "{len} bytes: {result:?}");
    }
    for at in [10, 20, 44, 60, bytes.len() / 2, bytes.len() - 1] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        let result = Session::from_bytes(model(), "flipped", &flipped);
        assert!(matches!(result, Err(Error::Malformed { .. })), "byte {at}: {result:?}");
    }
    assert!(matches!(Session::load(model(), "no/such/file"), Err(Error::Io { .. })));
    // Neither is read to an end that it does not have.
    #[cfg(unix)]
    assert!(matches!(Session::load(model(), "/dev/zero"), Err(Error::Io { .. })));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.session");
    session.save(&path).unwrap();
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().set_len(1 << 30).unwrap();
    let error = Session::load(model(), &path).unwrap_err().to_string();
    assert!(error.contains("longer than any session"), "{error}");
    if let Some(other) = models().get(1) {
        let result = Session::from_bytes(other, "foreign", &bytes);
        assert!(matches!(result, Err(Error::Config { .. })), "{result:?}");
    }
}

#[test]
fn cancelling_stops_soon_and_leaves_the_session_usable() {
    let config = GenerationConfig { max_new_tokens: 400, ..sampling(3) };
    let expected = pieces(&mut model().session(), PROMPT, &sampling(3));
    let mut session = model().session();
    for n_before in [0, 1, 5] {
        let cancel = Cancel::new();
        session.set_hooks(Hooks::cancelled_by(&cancel));
        let mut generation = session.generate(PROMPT, &config).unwrap();
        for _ in 0..n_before {
            generation.next().unwrap().unwrap();
        }
        cancel.cancel();
        assert!(generation.next().is_none());
        assert_eq!(generation.finish_reason(), Some(&FinishReason::Cancelled));
        assert_eq!(generation.usage().new_tokens, n_before);
        session.set_hooks(Hooks::default());
        assert_eq!(pieces(&mut session, PROMPT, &sampling(3)), expected, "after {n_before} tokens");
    }

    // From another thread, at any time: the prompt's processing stops, too.
    for delay in [0u64, 1, 3, 10] {
        let cancel = Cancel::new();
        session.reset();
        session.set_hooks(Hooks::cancelled_by(&cancel));
        let puller = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(delay));
            cancel.cancel();
            Instant::now()
        });
        let long = "a b c d e f ".repeat(40);
        let completion = session.generate(&long, &config).unwrap().complete().unwrap();
        let late = puller.join().unwrap().elapsed();
        assert_eq!(completion.finish_reason, FinishReason::Cancelled);
        assert!(late < Duration::from_millis(500), "stopped {late:?} late");
        session.set_hooks(Hooks::default());
        assert_eq!(pieces(&mut session, PROMPT, &sampling(3)), expected);
    }

    let cancel = Cancel::new();
    cancel.cancel();
    let hooks = Hooks::cancelled_by(&cancel);
    let batch = model().generate_batch_with(&[PROMPT, "b"], &config, &hooks).unwrap();
    assert!(batch.iter().all(|c| c.finish_reason == FinishReason::Cancelled));
}

#[test]
fn stop_strings_end_the_text_across_tokens() {
    for model in models() {
        let free = model.generate(PROMPT, &sampling(5)).unwrap();
        let letters: Vec<char> = free.text.chars().collect();
        for (from, to) in [(4, 9), (8, 9), (12, 24), (letters.len() - 3, letters.len())] {
            let stop: String = letters[from..to].iter().collect();
            let expected = free.text.split(&stop).next().unwrap();
            let config = GenerationConfig { stop: vec![stop.clone()], ..sampling(5) };
            let found = model.generate(PROMPT, &config).unwrap();
            assert_eq!(found.text, expected, "{stop:?} in {:?}", free.text);
            assert_eq!(found.finish_reason, FinishReason::StopString(stop));
            let joined: String = found.pieces.iter().map(|piece| piece.text.as_str()).collect();
            assert_eq!(joined, found.text);
        }
        let config = GenerationConfig { stop: vec!["\u{1F600}never".into()], ..sampling(5) };
        assert_eq!(model.generate(PROMPT, &config).unwrap().text, free.text);
    }
}

#[test]
fn pieces_join_to_what_the_tokens_decode_to() {
    for model in models() {
        // High temperature, so that bytes of broken characters come, too.
        let config = GenerationConfig { temperature: 50.0, top_k: 0, top_p: 1.0, ..sampling(11) };
        let mut session = model.session();
        let completion = session.generate(PROMPT, &config).unwrap().complete().unwrap();
        let whole = model.tokenizer().unwrap().decode(session.tokens());
        assert!(whole.ends_with(&completion.text), "{:?} ends {whole:?}", completion.text);
        assert_eq!(whole.len() - completion.text.len(), PROMPT.len(), "{whole:?}");
    }
}

#[test]
fn limits_end_with_length_and_too_long_prompts_are_refused_at_once() {
    let options = ModelOptions { context_length: Some(40), ..ModelOptions::default() };
    let model = open(&options);
    let greedy = GenerationConfig { ignore_eos: true, ..GenerationConfig::greedy() };
    let mut session = model.session();
    let completion = session.generate(PROMPT, &greedy).unwrap().complete().unwrap();
    assert_eq!(completion.finish_reason, FinishReason::Length);
    assert_eq!(session.tokens().len(), 40);
    assert_eq!(completion.usage.prompt_tokens + completion.usage.new_tokens, 40);

    for n_tokens in [40, 41, 10_000] {
        let start = Instant::now();
        let result = session.generate_tokens(&vec![1; n_tokens], &greedy).map(|_| ());
        let full = matches!(result, Err(Error::ContextFull { context_length: 40, needed })
            if needed == n_tokens + 1);
        assert!(full, "{n_tokens}: {result:?}");
        assert!(start.elapsed() < Duration::from_millis(50), "{:?}", start.elapsed());
    }
    assert_eq!(session.tokens().len(), 40, "a refused prompt leaves the session as it was");
    assert!(matches!(session.append("more"), Err(Error::ContextFull { .. })));

    let shifting = GenerationConfig {
        context_policy: Some(ContextPolicy::Shift),
        max_new_tokens: 100,
        ..greedy.clone()
    };
    let prompt: Vec<u32> = (5..305).collect();
    let completion = session.generate_tokens(&prompt, &shifting).unwrap().complete().unwrap();
    assert_eq!(completion.usage.new_tokens, 100);
    let again = model.session().generate_tokens(&prompt, &shifting).unwrap().complete().unwrap();
    assert_eq!(again.pieces, completion.pieces);

    let none = GenerationConfig { max_new_tokens: 0, ..greedy };
    let completion = session.generate(PROMPT, &none).unwrap().complete().unwrap();
    assert_eq!((completion.text.as_str(), completion.finish_reason), ("", FinishReason::Length));
}

#[test]
fn bad_input_is_a_clear_error() {
    let mut session = model().session();
    let config = GenerationConfig::default;
    let n_vocab = model().config().vocab_size as u32;
    let field = |result: Result<(), Error>| match result {
        Err(Error::Config { field, .. }) => field,
        other => format!("{other:?}"),
    };
    assert_eq!(field(session.generate_tokens(&[], &config()).map(|_| ())), "prompt");
    assert_eq!(field(session.generate_tokens(&[n_vocab], &config()).map(|_| ())), "tokens");
    assert_eq!(field(session.append_tokens(&[u32::MAX])), "tokens");
    let hot = GenerationConfig { temperature: f32::NAN, ..config() };
    assert_eq!(field(session.generate(PROMPT, &hot).map(|_| ())), "temperature");
    for context_length in [0, 1 << 40] {
        let options =
            ModelOptions { context_length: Some(context_length), ..ModelOptions::default() };
        let bytes = halfbyte_model::BYTES;
        let result = Model::from_static_bytes("m", bytes, &options).map(|_| ());
        assert_eq!(field(result), "context_length");
    }
    for model in models() {
        let found = model.generate("", &sampling(1)).expect("BOS starts an empty prompt");
        assert_eq!(found.usage.prompt_tokens, 1);
    }
}

#[test]
fn many_threads_share_one_model() {
    let expected: Vec<_> =
        (0..4).map(|s| pieces(&mut model().session(), PROMPT, &sampling(s))).collect();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let expected = &expected;
            scope.spawn(move || {
                for _ in 0..3 {
                    let found = pieces(&mut model().session(), PROMPT, &sampling(seed));
                    assert_eq!(found, expected[seed as usize]);
                }
            });
        }
    });
}

#[test]
fn hooks_see_progress_and_change_logits() {
    let (done, total) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (done_in, total_in) = (done.clone(), total.clone());
    let mut session = model().session();
    session.set_hooks(Hooks {
        progress: Some(Progress::new(move |d, t| {
            done_in.fetch_max(d as usize, Ordering::Relaxed);
            total_in.store(t as usize, Ordering::Relaxed);
        })),
        processor: Some(Arc::new(|_: &[u32], logits: &mut [f32]| {
            logits.fill(f32::NEG_INFINITY);
            logits[5] = 0.0;
        })),
        ..Hooks::default()
    });
    let completion =
        session.generate(&"word ".repeat(300), &sampling(1)).unwrap().complete().unwrap();
    assert!(completion.tokens().iter().all(|&token| token == 5));
    let n_prompt = completion.usage.prompt_tokens;
    assert!(n_prompt > 256, "several chunks");
    assert_eq!((done.load(Ordering::Relaxed), total.load(Ordering::Relaxed)), (n_prompt, n_prompt));
}

#[test]
fn scores_agree_with_the_logits() {
    for model in models() {
        let tokenizer = model.tokenizer().unwrap();
        let specials = halfbyte::tokenizer::Specials::AsText;
        let context = tokenizer.encode_prompt("Once upon a", specials).unwrap();
        let whole = tokenizer.encode_prompt("Once upon a time there was", specials).unwrap();
        assert_eq!(context, whole[..context.len()]);
        let (n_context, v) = (context.len(), model.config().vocab_size);
        let logits = model.logits(&whole).unwrap();
        assert_eq!(logits.len(), whole.len() * v);
        assert_eq!(model.logits_tensor(&whole).unwrap().dims(), [whole.len(), v]);
        let logprob = |i: usize| {
            let row: Vec<f64> = logits[i * v..][..v].iter().map(|&l| f64::from(l)).collect();
            let norm = row.iter().map(|l| l.exp()).sum::<f64>().ln();
            row[whole[i + 1] as usize] - norm
        };
        let expected: f64 = (n_context - 1..whole.len() - 1).map(logprob).sum();
        for (context, continuation) in
            [("Once upon a", " time there was"), ("Once upon a ", "time there was")]
        {
            let found = model.log_likelihood(context, continuation).unwrap();
            assert!((found.sum - expected).abs() < 1e-5, "{} {expected}", found.sum);
            assert_eq!(found.n_tokens, whole.len() - n_context);
        }
        assert!(model.log_likelihood("", "Once").unwrap().sum < 0.0);
        assert!(matches!(model.log_likelihood("a", ""), Err(Error::Config { .. })));

        let greedy =
            GenerationConfig { ignore_eos: false, max_new_tokens: 4, ..GenerationConfig::greedy() };
        let next = model.session().generate_tokens(&context, &greedy).unwrap().complete().unwrap();
        assert!(model.log_likelihood_tokens(&context, &next.tokens()).unwrap().is_greedy);

        let mean = -(0..whole.len() - 1).map(logprob).sum::<f64>() / (whole.len() - 1) as f64;
        let whole_window =
            model.perplexity(&whole, whole.len(), whole.len(), &Hooks::default()).unwrap();
        assert!((whole_window.mean_nll - mean).abs() < 1e-5);
        assert_eq!(whole_window.n_scored, whole.len() - 1);
        // Strides of 2 score each token but the first once; windows side by side lose one each.
        let strided = model.perplexity(&whole, 4, 2, &Hooks::default()).unwrap();
        assert_eq!(strided.n_scored, whole.len() - 1);
        let apart = model.perplexity(&whole, 2, 2, &Hooks::default()).unwrap();
        assert_eq!(apart.n_scored, whole.len() / 2);
        for (window, stride) in [(1, 1), (1 << 30, 1), (4, 0), (4, 5)] {
            let result = model.perplexity(&whole, window, stride, &Hooks::default());
            assert!(matches!(result, Err(Error::Config { .. })), "{window} {stride}");
        }

        let embedding = model.embed("Once upon a time").unwrap();
        assert_eq!(embedding.len(), model.config().hidden_size);
        assert!(embedding.iter().all(|x| x.is_finite()));
    }
}
