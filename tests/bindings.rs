//! What bindings need: generations that own their session, and a brake and progress on all long work.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use halfbyte::{
    Cancel, Chat, ChatTemplate, Error, FinishReason, GenerationConfig, Hooks, Message, Model,
    ModelOptions, Progress,
};

const PROMPT: &str = "Once upon a time there was a little girl who";

fn open(options: &ModelOptions) -> halfbyte::Result<Model> {
    Model::from_static_bytes(halfbyte_model::NAME, halfbyte_model::BYTES, options)
}

fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| open(&ModelOptions::default()).expect("the embedded model opens"))
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

#[test]
fn likelihoods_in_a_batch_are_those_of_each_pair_alone() {
    let model = model();
    let long = "There was a dog who liked to run in the park. ".repeat(12);
    let mut pairs = Vec::new();
    // More pairs than are computed together; neighbours share contexts, one context is long.
    for (i, context) in ["Once upon a", "One day,", &long, "", "The cat"].iter().enumerate() {
        for ending in [" time", " girl went home", " dog", " and then, at last, she slept"] {
            for n in 1..=4 + i % 2 {
                pairs.push(model.encode_pair(context, &ending.repeat(n)).unwrap());
            }
        }
    }
    let alone: Vec<_> =
        pairs.iter().map(|(a, b)| model.log_likelihood_tokens(a, b).unwrap()).collect();
    let done = Arc::new(AtomicUsize::new(0));
    let seen = done.clone();
    let progress = Progress::new(move |d, _| seen.store(d as usize, Ordering::Relaxed));
    let hooks = Hooks { progress: Some(progress), ..Hooks::default() };
    assert_eq!(model.log_likelihood_batch(&pairs, &hooks).unwrap(), alone);
    assert_eq!(done.load(Ordering::Relaxed), pairs.len());

    let cancel = Cancel::new();
    cancel.cancel();
    let cancelled = Hooks::cancelled_by(&cancel);
    let result = model.log_likelihood_batch(&pairs, &cancelled);
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    let tokens = &pairs[0].0;
    assert!(matches!(model.logits_with(tokens, &cancelled), Err(Error::Cancelled)));
    assert!(matches!(model.embed_tokens_with(tokens, &cancelled), Err(Error::Cancelled)));
    let empty = (pairs[0].0.clone(), Vec::new());
    let result = model.log_likelihood_batch(&[pairs[0].clone(), empty], &Hooks::default());
    assert!(matches!(result, Err(Error::Config { .. })), "{result:?}");
}

#[test]
fn a_generation_may_own_its_session() {
    let expected = model().generate(PROMPT, &sampling(3)).unwrap().pieces;
    let mut session = model().session();
    session.append(PROMPT).unwrap();
    let mut generation = session.into_generation(PROMPT, &sampling(3)).unwrap();
    assert!(generation.usage().reused_tokens > 0);
    // Nothing is borrowed, so it can go to another thread half way.
    let mut found: Vec<_> = generation.by_ref().take(5).collect::<Result<_, _>>().unwrap();
    let generation = std::thread::spawn(move || {
        found.extend(generation.by_ref().map(Result::unwrap));
        assert_eq!(found, expected);
        generation
    });
    let generation = generation.join().unwrap();
    let text = generation.text().to_owned();
    let session = generation.into_session();
    let whole = model().tokenizer().unwrap().decode(session.tokens());
    assert_eq!(whole, format!("{PROMPT}{text}"));
}

#[test]
fn a_batch_of_tokens_is_a_batch_of_texts() {
    let texts = [PROMPT, "The cat", ""];
    let tokenizer = model().tokenizer().unwrap();
    let tokens: Vec<_> = texts
        .iter()
        .map(|text| match tokenizer.encode_prompt(text, Default::default()).unwrap() {
            tokens if tokens.is_empty() => vec![tokenizer.bos().unwrap()],
            tokens => tokens,
        })
        .collect();
    let by_text = model().generate_batch(&texts, &sampling(4)).unwrap();
    let by_tokens =
        model().generate_batch_tokens(&tokens, &sampling(4), &Hooks::default()).unwrap();
    let pieces = |done: &[halfbyte::Completion]| -> Vec<_> {
        done.iter().map(|completion| completion.pieces.clone()).collect()
    };
    assert_eq!(pieces(&by_text), pieces(&by_tokens));
    let wrong = model().generate_batch_tokens(&[vec![u32::MAX]], &sampling(4), &Hooks::default());
    assert!(matches!(wrong, Err(Error::Config { .. })), "{wrong:?}");
}

#[test]
fn an_answer_apart_is_the_answer() {
    let template = ChatTemplate::jinja(halfbyte_model::CHAT_TEMPLATE, model());
    let mut together = Chat::new(model().session(), template.clone(), sampling(5));
    let mut apart = Chat::new(model().session(), template, sampling(5));
    for question in ["Write a story about a dog.", "And now about a cat."] {
        let expected = together.say(question).unwrap().complete().unwrap();
        let messages = [apart.messages(), &[Message::user(question)]].concat();
        apart.set_messages(messages.clone());
        let mut answer = apart.answer_apart().unwrap();
        let found: Vec<_> = answer.by_ref().map(Result::unwrap).collect();
        assert_eq!(found, expected.pieces);
        assert_eq!(answer.usage(), expected.usage);
        assert_eq!(apart.messages(), messages, "nothing changes before it is accepted");
        apart.accept(answer);
        assert_eq!(apart.messages(), together.messages());
    }
}

#[test]
fn a_processor_that_pulls_the_brake_draws_no_token() {
    let cancel = Cancel::new();
    let (pull, calls) = (cancel.clone(), AtomicUsize::new(0));
    let processor = move |_: &[u32], _: &mut [f32]| {
        if calls.fetch_add(1, Ordering::Relaxed) == 2 {
            pull.cancel();
        }
    };
    let hooks = Hooks { processor: Some(Arc::new(processor)), ..Hooks::cancelled_by(&cancel) };
    let mut session = model().session();
    session.set_hooks(hooks);
    let done = session.generate(PROMPT, &sampling(1)).unwrap().complete().unwrap();
    assert_eq!((done.pieces.len(), done.usage.new_tokens), (2, 2));
    assert_eq!(done.finish_reason, FinishReason::Cancelled);
    assert_eq!(session.tokens().len(), done.usage.prompt_tokens + 2);

    let prompts = [PROMPT, "The cat"];
    cancel.reset();
    let pull = cancel.clone();
    let processor = move |_: &[u32], _: &mut [f32]| pull.cancel();
    let hooks = Hooks { processor: Some(Arc::new(processor)), ..Hooks::cancelled_by(&cancel) };
    for done in model().generate_batch_with(&prompts, &sampling(1), &hooks).unwrap() {
        assert_eq!((done.pieces.len(), done.finish_reason), (0, FinishReason::Cancelled));
    }
}

#[test]
fn biases_and_pairs_that_mean_nothing_are_refused() {
    let model = model();
    let config = GenerationConfig { logit_bias: vec![(1_000_000, 1.0)], ..sampling(1) };
    match model.session().generate(PROMPT, &config).map(|_| ()) {
        Err(Error::Config { field, .. }) => assert_eq!(field, "logit_bias"),
        other => panic!("{other:?}"),
    }
    assert_eq!(model.encode_pair(" ", "x").unwrap(), model.encode_pair("", " x").unwrap());
    let pairs = [(vec![5], vec![6]), (vec![5], vec![])];
    match model.log_likelihood_batch(&pairs, &Hooks::default()) {
        Err(Error::Config { reason, .. }) => assert!(reason.contains("of pair 1"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn loading_can_be_cancelled() {
    let cancel = Cancel::new();
    let pull = cancel.clone();
    let progress = Progress::new(move |_, _| pull.cancel());
    let options =
        ModelOptions { progress: Some(progress), cancel: Some(cancel), ..ModelOptions::default() };
    let result = open(&options).map(|_| ());
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
}
