//! What bindings need: generations that own their session.

use std::sync::OnceLock;

use halfbyte::{Chat, ChatTemplate, GenerationConfig, Message, Model, ModelOptions};

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

