//! Sessions, tokens, templates and options through C, against the library; and files that are wrong.

use std::path::PathBuf;

use halfbyte::Session;
use halfbyte::model::{CacheType, Overrides};
use halfbyte::tokenizer::Specials;

use super::*;

/// A file of that name that tests may write, as C has paths.
fn scratch(name: &str) -> (PathBuf, CString) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let text = CString::new(path.to_str().unwrap()).unwrap();
    (path, text)
}

/// What `ask(place, capacity, count)` writes, asked for its size first.
fn elements<T: Copy + Default>(ask: impl Fn(*mut T, usize, *mut usize) -> hb_status) -> Vec<T> {
    let mut n = 0;
    ok(ask(null_mut(), 0, &raw mut n));
    // A text has a NUL besides.
    let mut found = vec![T::default(); n + 1];
    ok(ask(found.as_mut_ptr(), found.len(), &raw mut n));
    found.truncate(n);
    found
}

fn text(ask: impl Fn(*mut c_char, usize, *mut usize) -> hb_status) -> String {
    let bytes = elements(ask).iter().map(|c| c.to_ne_bytes()[0]).collect();
    String::from_utf8(bytes).unwrap()
}

fn tokens_of(session: *mut hb_session) -> Vec<u32> {
    // SAFETY: `elements` gives places of that size.
    elements(|place, room, n| unsafe { hb_session_tokens(session, place, room, n) })
}

/// The pieces of a generation from tokens, or for none from what the session holds.
fn from_tokens(
    session: *mut hb_session,
    tokens: &[u32],
    options: &hb_generation_options,
) -> Pieces {
    let mut generation = null_mut();
    // SAFETY: there are as many tokens.
    ok(unsafe {
        let (start, n) = (tokens.as_ptr(), tokens.len());
        hb_generation_start_tokens(session, start, n, options, &raw mut generation)
    });
    let pieces = pull(generation);
    ok(hb_generation_free(generation));
    pieces
}

fn generated(session: &mut Session, tokens: &[u32], config: &GenerationConfig) -> Pieces {
    expected(session.generate_tokens(tokens, config).unwrap().complete().unwrap().pieces)
}

#[test]
fn sessions_hold_save_load_and_forget_what_the_librarys_do() {
    let (model, session) = open();
    let (path, c_path) = scratch("same_bits.session");
    let library = library();
    let mut own = library.session();
    let prompt = library.prompt_tokens(PROMPT.to_str().unwrap()).unwrap();
    let options = options();
    assert_eq!(from_tokens(session, &prompt, &options), generated(&mut own, &prompt, &config()));
    assert_eq!(tokens_of(session), own.tokens());
    assert!(tokens_of(session).len() > prompt.len());

    // SAFETY: the path is a text.
    ok(unsafe { hb_session_save(session, c_path.as_ptr()) });
    assert!(std::fs::read(&path).unwrap() == own.to_bytes());
    let mut loaded = null_mut();
    // SAFETY: as above, and the place is this function's.
    ok(unsafe { hb_session_load(model, c_path.as_ptr(), &raw mut loaded) });
    assert_eq!(tokens_of(loaded), own.tokens());
    let on = expected(own.resume(&config()).unwrap().complete().unwrap().pieces);
    for session in [session, loaded] {
        assert_eq!(from_tokens(session, &[], &options), on);
        assert_eq!(tokens_of(session), own.tokens());
        ok(hb_session_reset(session));
        assert!(tokens_of(session).is_empty());
        assert_eq!(
            from_tokens(session, own.tokens(), &options),
            generated(&mut library.session(), own.tokens(), &config())
        );
    }
    ok(hb_session_free(loaded));
    std::fs::remove_file(path).unwrap();
    close(model, session);
}

#[test]
fn an_encoder_decoder_models_answer_goes_on_as_the_librarys() {
    let model = opens(&test_data("t5-micro"), HB_OK);
    let mut session = null_mut();
    // SAFETY: the place is this function's.
    ok(unsafe { hb_session_new(model, &raw mut session) });
    let own = Model::open(test_data("t5-micro")).unwrap();
    let mut own = own.session();
    let options = hb_generation_options { max_new_tokens: 6, ignore_eos: 1, ..options() };
    let config = GenerationConfig { max_new_tokens: 6, ignore_eos: true, ..config() };
    let prompt = [20, 9, 14, 1];
    assert_eq!(from_tokens(session, &prompt, &options), generated(&mut own, &prompt, &config));
    // Not the same: as a prompt all of it would be read by the encoder.
    let anew = generated(&mut own.fork(), own.tokens(), &config);
    let on = expected(own.resume(&config).unwrap().complete().unwrap().pieces);
    assert_ne!(on, anew);
    assert_eq!(from_tokens(session, &[], &options), on);
    assert_eq!(tokens_of(session), own.tokens());
    close(model, session);
}

#[test]
fn what_an_encoder_cannot_do_is_an_invalid_argument() {
    let model = opens(&test_data("t5-micro"), HB_OK);
    let mut session = null_mut();
    // SAFETY: the place is this function's.
    ok(unsafe { hb_session_new(model, &raw mut session) });
    let (tokens, mut generation, mut adapter) = ([20, 9, 1], null_mut(), null_mut());
    let shift = hb_generation_options { context_policy: HB_CONTEXT_SHIFT, ..options() };
    // SAFETY: there are as many tokens.
    let status = unsafe {
        let (start, n) = (tokens.as_ptr(), tokens.len());
        hb_generation_start_tokens(session, start, n, &raw const shift, &raw mut generation)
    };
    assert_eq!((status, generation), (HB_INVALID_ARGUMENT, null_mut()));
    // SAFETY: the path is a text, and the place is this function's.
    let status = unsafe { hb_adapter_open(model, c"any".as_ptr(), &raw mut adapter) };
    assert_eq!((status, adapter), (HB_INVALID_ARGUMENT, null_mut()));
    let (mut n, cancel) = (0, null_mut());
    // SAFETY: only the count is asked for.
    ok(unsafe { hb_logits(model, tokens.as_ptr(), 3, cancel, null_mut(), 0, &raw mut n) });
    let mut logits = vec![0.0; n];
    // SAFETY: there is room for as many numbers.
    let status =
        unsafe { hb_logits(model, tokens.as_ptr(), 3, cancel, logits.as_mut_ptr(), n, &raw mut n) };
    assert_eq!(status, HB_INVALID_ARGUMENT);
    close(model, session);
}

#[test]
fn tokens_and_prompts_are_the_librarys() {
    let (model, session) = open();
    let library = library();
    let tokenizer = library.tokenizer().unwrap();
    let special = (0..tokenizer.vocab_size() as u32).find(|&id| tokenizer.is_special(id)).unwrap();
    let spelled = format!("The cat{} sat.", tokenizer.token_text(special).unwrap());
    let c_spelled = CString::new(spelled.clone()).unwrap();
    for (flags, specials) in [(0, Specials::AsText), (HB_PARSE_SPECIAL, Specials::Parse)] {
        let found = elements(|place, room, n| {
            // SAFETY: `elements` gives places of that size.
            unsafe { hb_tokenize(model, c_spelled.as_ptr(), flags, place, room, n) }
        });
        assert_eq!(found, tokenizer.encode(&spelled, specials).unwrap());
        assert_eq!(found.contains(&special), specials == Specials::Parse);
        let shown = text(|place, room, n| {
            // SAFETY: as above.
            unsafe { hb_detokenize(model, found.as_ptr(), found.len(), place, room, n) }
        });
        assert_eq!(shown, tokenizer.decode(&found));
    }
    let messages = [Message::user("Who are you?"), Message::assistant("A cat.")];
    let contents = messages.each_ref().map(|m| CString::new(m.content.clone()).unwrap());
    let roles = [c"user", c"assistant"];
    let c_messages: Vec<hb_message> = (roles.iter().zip(&contents))
        .map(|(role, content)| hb_message { role: role.as_ptr(), content: content.as_ptr() })
        .collect();
    let own = ChatTemplate::jinja(halfbyte_model::CHAT_TEMPLATE, &library);
    let builtin = ChatTemplate::builtin("alpaca", &library).unwrap();
    for (name, template) in [(null(), own), (c"alpaca".as_ptr(), builtin)] {
        for is_prompt in [false, true] {
            let found = text(|place, room, n| {
                let (start, flag) = (c_messages.as_ptr(), u32::from(is_prompt));
                // SAFETY: there are two messages, and `text` gives places of that size.
                unsafe { hb_apply_chat_template(model, name, start, 2, flag, place, room, n) }
            });
            assert_eq!(found, template.apply(&messages, is_prompt).unwrap());
        }
    }
    close(model, session);
}

#[test]
fn options_mean_to_c_what_they_mean_to_the_library() {
    let (model, session) = open();
    let library = library();
    let prompt = library.prompt_tokens(PROMPT.to_str().unwrap()).unwrap();
    let plain = generated(&mut library.session(), &prompt, &config());
    let whole: String = plain.iter().map(|(text, ..)| text.as_str()).collect();
    let middle: String = whole.chars().skip(whole.chars().count() / 2).take(6).collect();
    let c_middle = CString::new(middle.clone()).unwrap();
    let stop = c_middle.as_ptr();
    let forbidden = plain[3].1;
    let bias = hb_logit_bias { token: forbidden, bias: f32::NEG_INFINITY };
    let rows = [
        (
            hb_generation_options { stop: &raw const stop, n_stop: 1, ..options() },
            GenerationConfig { stop: vec![middle], ..config() },
        ),
        (
            hb_generation_options { logit_bias: &raw const bias, n_logit_bias: 1, ..options() },
            GenerationConfig { logit_bias: vec![(forbidden, f32::NEG_INFINITY)], ..config() },
        ),
    ];
    for (options, config) in rows {
        let found = from_tokens(session, &prompt, &options);
        assert_eq!(found, generated(&mut library.session(), &prompt, &config));
        assert_ne!(found, plain, "without effect");
    }
    close(model, session);
}

/// A model opened with options, and a session of it.
fn open_with(options: &hb_model_options) -> (*mut hb_model, *mut hb_session) {
    let (mut model, mut session) = (null_mut(), null_mut());
    // SAFETY: the places are this function's.
    ok(unsafe { hb_model_open(null(), options, &raw mut model) });
    // SAFETY: as above.
    ok(unsafe { hb_session_new(model, &raw mut session) });
    (model, session)
}

#[test]
fn models_open_with_the_cache_and_the_context_that_were_asked_for() {
    let asked = hb_model_options {
        size: size_of::<hb_model_options>(),
        threads: 1,
        context_length: 24,
        cache_type: HB_CACHE_Q8,
        n_gqa: 0,
        rms_eps: 0.0,
        rope_base: 500.0,
        progress: None,
        progress_data: null_mut(),
        cancel: null_mut(),
    };
    let (model, session) = open_with(&asked);
    let opening = ModelOptions {
        threads: Some(1),
        context_length: Some(24),
        cache_type: CacheType::Q8,
        overrides: Overrides { rope_base: Some(500.0), ..Overrides::default() },
        ..ModelOptions::default()
    };
    let (name, bytes) = (halfbyte_model::NAME, halfbyte_model::BYTES);
    let own = Model::from_static_bytes(name, bytes, &opening).unwrap();
    let prompt = own.prompt_tokens(PROMPT.to_str().unwrap()).unwrap();
    let found = from_tokens(session, &prompt, &options());
    assert_eq!(found, generated(&mut own.session(), &prompt, &config()));
    assert_eq!(found.len(), 24 - prompt.len(), "the context ends it");
    assert_ne!(found, generated(&mut library().session(), &prompt, &config())[..found.len()]);
    // SAFETY: it holds numbers alone.
    let mut info: hb_model_info = unsafe { std::mem::zeroed() };
    info.size = size_of::<hb_model_info>();
    // SAFETY: the place is this function's.
    ok(unsafe { hb_model_get_info(model, &raw mut info) });
    assert_eq!((info.context_length, info.cache_type, info.threads), (24, HB_CACHE_Q8, 1));
    let (tokens, mut generation) = ([1; 25], null_mut());
    // SAFETY: there are as many tokens.
    let status = unsafe {
        hb_generation_start_tokens(session, tokens.as_ptr(), 25, null(), &raw mut generation)
    };
    assert_eq!(status, HB_CONTEXT_FULL);
    close(model, session);
}

fn test_data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(name)
}

#[track_caller]
fn opens(path: &Path, expected: hb_status) -> *mut hb_model {
    let path = CString::new(path.to_str().unwrap()).unwrap();
    let mut model = null_mut();
    // SAFETY: the path is a text, and the place is this function's.
    assert_eq!(unsafe { hb_model_open(path.as_ptr(), null(), &raw mut model) }, expected);
    model
}

#[test]
fn what_is_wrong_with_a_file_is_not_the_callers_argument() {
    let bytes = std::fs::read(test_data("llama-1k.q4_0.gguf")).unwrap();
    let (path, _) = scratch("same_bits.gguf");
    for key in ["llama.attention.head_count", "llama.block_count", "llama.context_length"] {
        let mut broken = bytes.clone();
        let at = broken.windows(key.len()).position(|w| w == key.as_bytes()).unwrap() + key.len();
        // The type of the value, a u32, and the value.
        assert_eq!(broken[at..at + 4], 4u32.to_le_bytes(), "{key}");
        broken[at + 4..at + 8].fill(0);
        std::fs::write(&path, broken).unwrap();
        assert!(opens(&path, HB_MALFORMED).is_null(), "{key}");
    }
    std::fs::remove_file(path).unwrap();

    // A model without a tokenizer still computes with tokens.
    let model = opens(&test_data("gptneox-tiny.q8_0.gguf"), HB_OK);
    let mut n = 0;
    // SAFETY: only the count is asked for.
    let status = unsafe { hb_tokenize(model, c"a".as_ptr(), 0, null_mut(), 0, &raw mut n) };
    assert_eq!(status, HB_TOKENIZER);
    let logits = elements::<f32>(|place, room, n| {
        // SAFETY: there are two tokens, and `elements` gives places of that size.
        unsafe { hb_logits(model, [1, 2].as_ptr(), 2, null_mut(), place, room, n) }
    });
    assert!(!logits.is_empty());

    // A session of another model is no damaged file.
    let (path, c_path) = scratch("same_bits.foreign");
    let (embedded, session) = open();
    // SAFETY: the path is a text.
    ok(unsafe { hb_session_save(session, c_path.as_ptr()) });
    let mut loaded = null_mut();
    // SAFETY: as above, and the place is this function's.
    let status = unsafe { hb_session_load(model, c_path.as_ptr(), &raw mut loaded) };
    assert_eq!(status, HB_INVALID_ARGUMENT);
    assert!(loaded.is_null());
    std::fs::remove_file(path).unwrap();
    ok(hb_model_free(model));
    close(embedded, session);
}
