//! What the C functions give is what the library gives, bit for bit.
//!
//! The texts in `golden/` are the library's; the C and C++ programs of `examples/` must print them.

#![expect(unsafe_code, reason = "the functions take pointers")]
#![expect(clippy::unwrap_used, reason = "a test may panic in its helpers, too")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt::Write;
use std::path::Path;
use std::ptr::{null, null_mut};

use halfbyte::{Chat, ChatTemplate, GenerationConfig, Message, Model, ModelOptions};
use halfbyte_capi::*;

#[path = "same_bits/rest.rs"]
mod rest;

const PROMPT: &CStr = c"Once upon a time";

fn library() -> Model {
    let (name, bytes) = (halfbyte_model::NAME, halfbyte_model::BYTES);
    Model::from_static_bytes(name, bytes, &ModelOptions::default()).unwrap()
}

#[track_caller]
fn ok(status: hb_status) {
    // SAFETY: the message lives until this thread's next call.
    let message = unsafe { CStr::from_ptr(hb_last_error()) };
    assert_eq!(status, HB_OK, "{}", message.to_string_lossy());
}

/// A model and a session of it.
fn open() -> (*mut hb_model, *mut hb_session) {
    let (mut model, mut session) = (null_mut(), null_mut());
    // SAFETY: the places are this function's.
    ok(unsafe { hb_model_open(null(), null(), &raw mut model) });
    // SAFETY: as above.
    ok(unsafe { hb_session_new(model, &raw mut session) });
    (model, session)
}

fn close(model: *mut hb_model, session: *mut hb_session) {
    ok(hb_model_free(model));
    ok(hb_session_free(session));
    assert_eq!(hb_session_free(session), HB_INVALID_HANDLE);
}

fn options() -> hb_generation_options {
    let mut options = std::mem::MaybeUninit::uninit();
    let size = size_of::<hb_generation_options>();
    // SAFETY: the place has that size.
    ok(unsafe { hb_generation_options_init(options.as_mut_ptr(), size) });
    // SAFETY: it was just filled.
    let options: hb_generation_options = unsafe { options.assume_init() };
    hb_generation_options { max_new_tokens: 40, seed: 1, has_seed: 1, logprobs: 1, ..options }
}

fn config() -> GenerationConfig {
    GenerationConfig {
        max_new_tokens: 40,
        seed: Some(1),
        logprobs: Some(0),
        ..GenerationConfig::default()
    }
}

/// (text, token, bits of the log-probability) of the pieces of a generation.
type Pieces = Vec<(String, u32, u32)>;

fn pull(generation: *mut hb_generation) -> Pieces {
    let mut pieces = Vec::new();
    let mut text: [c_char; 256] = [0; 256];
    let size = size_of::<hb_piece>();
    let mut piece = hb_piece { size, text: null(), text_bytes: 0, token: 0, logprob: 0.0 };
    loop {
        // SAFETY: the buffers have these sizes.
        let status = unsafe {
            hb_generation_next(generation, text.as_mut_ptr(), text.len(), &raw mut piece)
        };
        if status == HB_END {
            return pieces;
        }
        ok(status);
        assert_eq!(piece.text, text.as_ptr());
        // SAFETY: the text was just written.
        let text = unsafe { CStr::from_ptr(text.as_ptr()) }.to_str().unwrap().to_owned();
        assert_eq!(text.len(), piece.text_bytes);
        pieces.push((text, piece.token, piece.logprob.to_bits()));
    }
}

fn expected(pieces: Vec<halfbyte::Piece>) -> Pieces {
    let bits = |logprob: Option<f32>| logprob.unwrap().to_bits();
    pieces.into_iter().map(|p| (p.text, p.token, bits(p.logprob))).collect()
}

#[test]
fn logits_and_embeddings_are_the_librarys() {
    let (model, session) = open();
    let library = library();
    let mut tokens = [0; 64];
    let mut n = 0;
    let text = c"The cat sat on the mat and looked at the dog.";
    let (place, room) = (tokens.as_mut_ptr(), tokens.len());
    // SAFETY: the buffer has that room.
    ok(unsafe { hb_tokenize(model, text.as_ptr(), HB_ADD_BOS, place, room, &raw mut n) });
    let tokens = &tokens[..n];
    let tokenizer = library.tokenizer().unwrap();
    let text = text.to_str().unwrap();
    assert_eq!(tokens, tokenizer.encode_prompt(text, Default::default()).unwrap());

    let expected = library.logits(tokens).unwrap();
    let mut logits = vec![0f32; expected.len()];
    let (place, room) = (logits.as_mut_ptr(), logits.len());
    let mut n_logits = 0;
    // SAFETY: the buffers have these sizes.
    ok(unsafe { hb_logits(model, tokens.as_ptr(), n, null_mut(), place, room, &raw mut n_logits) });
    assert_eq!(n_logits, expected.len());
    assert!(logits.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()));

    let expected = library.embed(text).unwrap();
    let mut embedding = vec![0f32; expected.len()];
    let (place, room) = (embedding.as_mut_ptr(), embedding.len());
    let text = CString::new(text).unwrap();
    // SAFETY: the buffer has that room.
    ok(unsafe { hb_embed(model, text.as_ptr(), null_mut(), place, room, &raw mut n) });
    assert!(embedding.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()));
    close(model, session);
}

#[test]
fn pulled_pieces_are_the_librarys() {
    let (model, session) = open();
    let found = library().generate(PROMPT.to_str().unwrap(), &config()).unwrap();
    let mut generation = null_mut();
    let options = options();
    // A second time on the same session, whose keys and values are used again.
    for reused in [false, true] {
        // SAFETY: the options hold no pointers.
        ok(unsafe { hb_generation_start(session, PROMPT.as_ptr(), &options, &raw mut generation) });
        assert_eq!(pull(generation), expected(found.pieces.clone()));
        let mut report = hb_generation_report {
            size: size_of::<hb_generation_report>(),
            finish_reason: 9,
            reserved: 9,
            prompt_tokens: 0,
            reused_tokens: 0,
            new_tokens: 0,
            seed: 0,
            prompt_seconds: 0.0,
            decode_seconds: 0.0,
        };
        // SAFETY: the place is this function's.
        ok(unsafe { hb_generation_get_report(generation, &raw mut report) });
        assert_eq!(report.finish_reason, HB_FINISH_LENGTH);
        assert_eq!(report.reused_tokens > 0, reused);
        assert_eq!((report.new_tokens, report.seed), (40, 1));
        ok(hb_generation_free(generation));
    }
    close(model, session);
}

unsafe extern "C" fn collect(piece: *const hb_piece, text: *mut c_void) -> c_int {
    // SAFETY: the library hands out a piece.
    let piece = unsafe { &*piece };
    // SAFETY: the test gave its string.
    let text = unsafe { &mut *text.cast::<String>() };
    // SAFETY: the piece's text lives until this returns.
    text.push_str(unsafe { CStr::from_ptr(piece.text) }.to_str().unwrap());
    c_int::from(text.len() > 400)
}

#[test]
fn a_callback_hears_the_whole_text() {
    let (model, session) = open();
    let mut text = String::new();
    let options = options();
    // SAFETY: the callback takes a string.
    ok(unsafe {
        let data = (&raw mut text).cast();
        hb_generate(session, PROMPT.as_ptr(), &options, Some(collect), data, null_mut())
    });
    assert_eq!(text, library().generate(PROMPT.to_str().unwrap(), &config()).unwrap().text);
    close(model, session);
}

/// The text of `golden/name`, which must be `expected`.
fn golden(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("HALFBYTE_BLESS").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap().replace("\r\n", "\n");
    assert_eq!(found, expected, "{name}; HALFBYTE_BLESS=1 writes it anew");
}

/// What `examples/generate.c` prints.
#[test]
fn the_golden_story_is_the_librarys() {
    let config = GenerationConfig { max_new_tokens: 60, ..config() };
    let prompt = PROMPT.to_str().unwrap();
    let text = library().generate(prompt, &config).unwrap().text;
    golden("generate.txt", &format!("{prompt}{text}\n"));
}

/// What `examples/chat.c` prints.
#[test]
fn the_golden_conversation_is_the_librarys() {
    let model = library();
    let template = ChatTemplate::jinja(halfbyte_model::CHAT_TEMPLATE, &model);
    let mut chat = Chat::new(model.session(), template, config());
    let mut text = String::new();
    for question in ["Write a story about a dog named Max.", "Write a story about a cat."] {
        let answer = chat.say(question).unwrap().complete().unwrap().text;
        writeln!(text, "> {question}\n{answer}\n").unwrap();
    }
    golden("chat.txt", &text);

    let (model, session) = open();
    let content = CString::new("Write a story about a dog named Max.").unwrap();
    let message = hb_message { role: c"user".as_ptr(), content: content.as_ptr() };
    let mut generation = null_mut();
    let options = options();
    // SAFETY: there is one message.
    ok(unsafe {
        let place = &raw mut generation;
        hb_generation_start_chat(session, null(), &message, 1, &options, place)
    });
    let found: String = pull(generation).into_iter().map(|(text, ..)| text).collect();
    assert_eq!(found, chat.messages()[1].content);
    assert_eq!(chat.messages()[0], Message::user("Write a story about a dog named Max."));
    ok(hb_generation_free(generation));
    close(model, session);
}

/// What `examples/embed.cpp` prints.
#[test]
fn the_golden_distances_are_the_librarys() {
    let model = library();
    let texts = ["The dog ran in the park.", "A puppy played outside.", "She ate a red apple."];
    let vectors: Vec<Vec<f32>> = texts.iter().map(|text| model.embed(text).unwrap()).collect();
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    let mut text = String::new();
    for (i, a) in vectors.iter().enumerate() {
        for (j, b) in vectors.iter().enumerate().skip(i + 1) {
            let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
            writeln!(text, "{cosine:.6}  {} / {}", texts[i], texts[j]).unwrap();
        }
    }
    golden("embed.txt", &text);
}

/// What `examples/threads.cpp` prints.
#[test]
fn the_golden_chorus_is_the_librarys() {
    let model = library();
    let mut text = String::new();
    for seed in 0..8 {
        let config = GenerationConfig { max_new_tokens: 16, seed: Some(seed), ..config() };
        let story = model.generate("The little", &config).unwrap().text;
        writeln!(text, "{seed}: The little{}", story.replace('\n', " ")).unwrap();
    }
    golden("threads.txt", &text);
}
