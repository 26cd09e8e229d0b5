//! Chat templates against Python's Jinja and the projects' own strings, and chats over them.

use std::path::Path;

use halfbyte::generate::{BUILTIN_TEMPLATES, BuiltinTemplate, TemplateOrigin};
use halfbyte::io::Checkpoint;
use halfbyte::tokenizer::Tokenizer;
use halfbyte::{
    Chat, ChatTemplate, ContextPolicy, Error, GenerationConfig, Message, Model, ModelOptions, Role,
};
use halfbyte_tests::fixtures::{Folder, Gguf};
use halfbyte_tests::{Rows, data};

fn embedded(context_length: Option<usize>) -> Model {
    let options = ModelOptions { context_length, ..ModelOptions::default() };
    Model::from_static_bytes(halfbyte_model::NAME, halfbyte_model::BYTES, &options)
        .expect("the embedded model opens")
}

#[test]
fn jinja_templates_render_as_in_python() {
    let text = std::fs::read_to_string(data().join("templates/cases.json")).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut rows = Rows::default();
    for case in file["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let source = file["templates"][name].as_str().unwrap();
        let messages: Vec<Message> = case["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| {
                let role = Role::from_name(message["role"].as_str().unwrap()).unwrap();
                Message::new(role, message["content"].as_str().unwrap())
            })
            .collect();
        let template = ChatTemplate::from_source(source, "<s>", "</s>");
        let found = template.apply(&messages, case["add_generation_prompt"].as_bool().unwrap());
        let row = format!("{name} with {} messages", messages.len());
        match (case["expected"].as_str(), found) {
            (Some(expected), Ok(found)) => {
                rows.check(&row, found == expected, format!("{found:?} is not {expected:?}"));
            }
            (None, Err(Error::Template(message))) => {
                let expected = case["error"].as_str().unwrap();
                rows.check(&row, message.contains(expected), format!("{message} lacks {expected}"));
            }
            (_, found) => rows.check(&row, false, format!("{found:?}")),
        }
    }
    rows.finish().unwrap();
}

/// (name, two turns and a prompt without a system message, one turn with the system message `S`)
///
/// Written by hand from the projects' own code, with `</e>` for the end token.
const BUILTINS: &[(&str, &str, &str)] = &[
    (
        "halfbyte-stories",
        "### Instruction:\nu\n\n### Response:\na\n\n### Instruction:\nv\n\n### Response:\n",
        "S### Instruction:\nu\n\n### Response:\n",
    ),
    (
        "gpt4all-instruction",
        "### Instruction:\nu\n### Response:\na\n### Instruction:\nv\n### Response:\n",
        "S\n### Instruction:\nu\n### Response:\n",
    ),
    ("gpt4all-training", "u\na</e>v\n", "Su\n"),
    (
        "gpt4all-2023-05",
        "### Instruction: \n            The prompt below is a question to answer, a task to complete, \
         or a conversation \n            to respond to; decide which and write an appropriate \
         response.\n\n### Prompt:\nu\n### Response:\na\n### Prompt:\nv\n### Response:",
        "S\n### Instruction: \n            The prompt below is a question to answer, a task to \
         complete, or a conversation \n            to respond to; decide which and write an \
         appropriate response.\n\n### Prompt:\nu\n### Response:",
    ),
    (
        "gpt4all-2023-06",
        "### Human:\nu\n### Assistant:\na\n### Human:\nv\n### Assistant:\n",
        "S\n### Human:\nu\n### Assistant:\n",
    ),
    (
        "alpaca",
        "Below is an instruction that describes a task. Write a response that appropriately \
         completes the request.\n\n### Instruction:\nu\n\n### Response:a</e>\n\n### Instruction:\n\
         v\n\n### Response:",
        "S\n\n### Instruction:\nu\n\n### Response:",
    ),
    (
        "stablevicuna",
        "### Assistant: I am StableVicuna, a large language model created by CarperAI. I am here to \
         chat!\n\n### Human: u\n### Assistant: a\n\n### Human: v\n### Assistant:",
        "S\n\n### Human: u\n### Assistant:",
    ),
    (
        "vicuna-v0",
        "A chat between a curious human and an artificial intelligence assistant. The assistant \
         gives helpful, detailed, and polite answers to the human's questions.\n### Human: u\n\
         ### Assistant: a\n### Human: v\n### Assistant:",
        "S\n### Human: u\n### Assistant:",
    ),
    (
        "fastchat-t5",
        "A chat between a curious human and an artificial intelligence assistant. The assistant \
         gives helpful, detailed, and polite answers to the human's questions.\n### Human: u\n\
         ### Assistant: a\n### Human: v\n### Assistant:",
        "S\n### Human: u\n### Assistant:",
    ),
    (
        "vicuna-v1.1",
        "A chat between a curious user and an artificial intelligence assistant. The assistant \
         gives helpful, detailed, and polite answers to the user's questions. USER: u ASSISTANT: \
         a</e>USER: v ASSISTANT:",
        "S USER: u ASSISTANT:",
    ),
    ("koala", "BEGINNING OF CONVERSATION: USER: u GPT: a</e>USER: v GPT:", "S USER: u GPT:"),
    (
        "dolly",
        "Below is an instruction that describes a task. Write a response that appropriately \
         completes the request.\n\n### Instruction:\nu\n\n### Response:\na### End\n\n\
         ### Instruction:\nv\n\n### Response:\n",
        "S\n\n### Instruction:\nu\n\n### Response:\n",
    ),
    (
        "oasst-pythia",
        "<|prompter|>u</e><|assistant|>a</e><|prompter|>v</e><|assistant|>",
        "S<|prompter|>u</e><|assistant|>",
    ),
    (
        "stablelm",
        "<|SYSTEM|># StableLM Tuned (Alpha version)\n- StableLM is a helpful and harmless \
         open-source AI language model developed by StabilityAI.\n- StableLM is excited to be able \
         to help the user, but will refuse to do anything that could be considered harmful to the \
         user.\n- StableLM is more than just an information source, StableLM is also able to write \
         poetry, short stories, and make jokes.\n- StableLM will refuse to participate in anything \
         that could harm a human.\n<|USER|>u<|ASSISTANT|>a<|USER|>v<|ASSISTANT|>",
        "<|SYSTEM|>S<|USER|>u<|ASSISTANT|>",
    ),
];

#[test]
fn built_in_templates_are_the_projects_strings() {
    let model = embedded(None);
    let eos = model.tokenizer().unwrap();
    let eos = eos.token_text(eos.eos().unwrap()).unwrap();
    let turns = [Message::user("u"), Message::assistant(" a"), Message::user("v")];
    let with_system = [Message::system("S"), Message::user("u")];
    let mut rows = Rows::default();
    for (name, expected, expected_with_system) in BUILTINS {
        let template = ChatTemplate::builtin(name, &model).unwrap();
        for (messages, expected) in [(&turns[..], expected), (&with_system, expected_with_system)] {
            let found = template.apply(messages, true).unwrap();
            let expected = expected.replace("</e>", &eos);
            rows.check(name, found == expected, format!("{found:?} is not {expected:?}"));
        }
    }
    rows.finish().unwrap();
    let names: Vec<&str> = BUILTINS.iter().map(|row| row.0).collect();
    let all: Vec<&str> = BUILTIN_TEMPLATES.iter().map(|row| row.name).collect();
    assert_eq!(names, all, "every built-in template has a row here");
    let unknown = ChatTemplate::builtin("frobnicate", &model);
    assert!(matches!(unknown, Err(Error::Template(m)) if m.contains("vicuna-v1.1")));
}

#[test]
fn model_names_choose_their_template() {
    let cases = [
        ("ggml-gpt4all-j-v1.3-groovy", Some("gpt4all-training")),
        ("GPT4All 13B snoozy", Some("gpt4all-training")),
        ("gpt4all-j-v1.1-breezy", Some("gpt4all-training")),
        ("ggml-v1.2-jazzy", Some("gpt4all-training")),
        ("nous-hermes-13b.ggmlv3", Some("gpt4all-instruction")),
        ("alpaca-lora-7b", Some("alpaca")),
        ("fastchat-t5-3b-v1.0", Some("fastchat-t5")),
        ("koala-13B-4bit-128g", Some("koala")),
        ("vicuna-7b-1.1.ggmlv3.q4_0.bin", Some("vicuna-v1.1")),
        ("Stable Vicuna 13B", Some("stablevicuna")),
        ("vicuna-13b-v1.1", Some("vicuna-v1.1")),
        ("vicuna_7b_delta_v0", Some("vicuna-v0")),
        ("dolly-v2-12b", Some("dolly")),
        ("stablelm-tuned-alpha-7b", Some("stablelm")),
        ("oasst-sft-4-pythia-12b", Some("oasst-pythia")),
        ("gptj-stories", Some("halfbyte-stories")),
        ("pythia-1b", None),
    ];
    for (name, expected) in cases {
        assert_eq!(BuiltinTemplate::for_model(name).map(|row| row.name), expected, "{name}");
    }
}

#[test]
fn templates_come_from_the_file_or_its_name_or_its_vocabulary() {
    use TemplateOrigin::{Chosen, File, FileName, ModelName, Vocabulary};
    let dir = tempfile::tempdir().unwrap();
    let folder = |name: &str, files: &[(&str, &str)]| {
        let path = dir.path().join(name);
        std::fs::create_dir(&path).unwrap();
        Folder::llama().write(&path);
        for (file, text) in files {
            std::fs::write(path.join(file), text).unwrap();
        }
        path
    };
    let template = |path: &Path| {
        let checkpoint = Checkpoint::open(path).unwrap();
        let tokenizer = Tokenizer::from_checkpoint(&checkpoint).ok();
        ChatTemplate::of_checkpoint(&checkpoint, tokenizer.as_ref())
    };
    let own = ("tokenizer_config.json", r#"{"chat_template": "{{ bos_token }}"}"#);
    let merges = ("merges.txt", "");
    let oasst = r#"{"<|prompter|>": 0, "<|assistant|>": 1, "a": 2, "b": 3}"#;
    let stablelm = r#"{"<|SYSTEM|>": 0, "<|USER|>": 1, "<|ASSISTANT|>": 2, "b": 3}"#;
    let dolly = r####"{"### End": 0, "### Instruction:": 1, "a": 2, "b": 3}"####;
    for (name, files, expected) in [
        ("vicuna-with-its-own", &[own][..], (None, File)),
        ("alpaca-7b", &[], (Some("alpaca"), ModelName)),
        ("unnamed", &[("vocab.json", oasst), merges], (Some("oasst-pythia"), Vocabulary)),
        ("unnamed2", &[("vocab.json", stablelm), merges], (Some("stablelm"), Vocabulary)),
        ("unnamed3", &[("vocab.json", dolly), merges], (Some("dolly"), Vocabulary)),
    ] {
        let template = template(&folder(name, files)).unwrap();
        assert_eq!((template.name(), template.origin()), expected, "{name}");
    }
    let path = dir.path().join("ggml-gpt4all-j-v1.3-groovy.gguf");
    Gguf::llama().write(&path);
    let groovy = template(&path).unwrap();
    assert_eq!((groovy.name(), groovy.origin()), (Some("gpt4all-training"), FileName));
    // The name of a folder around a file says nothing: GPT4All's programs keep all models in one.
    let around = dir.path().join("gpt4all");
    std::fs::create_dir(&around).unwrap();
    Gguf::llama().write(&around.join("llama-7b.gguf"));
    let none = template(&around.join("llama-7b.gguf"));
    assert!(matches!(none, Err(Error::Template(m)) if m.contains("gpt4all-2023-06")));
    let model = embedded(None);
    assert_eq!(ChatTemplate::builtin("koala", &model).unwrap().origin(), Chosen);
    assert_eq!(model.chat_template().unwrap().origin(), ModelName);
}

fn chat(model: &Model, max_new_tokens: usize) -> Chat {
    let config = GenerationConfig { max_new_tokens, seed: Some(1), ..GenerationConfig::default() };
    let template = ChatTemplate::builtin("halfbyte-stories", model).expect("it is in the table");
    Chat::new(model.session(), template, config)
}

#[test]
fn a_chat_remembers_what_was_said() {
    let model = embedded(None);
    let mut chat = chat(&model, 12);
    chat.set_system("Tell stories.");
    let first = chat.say("Write about a dog.").unwrap().complete().unwrap();
    let mut second = chat.say("And a cat.").unwrap();
    let piece = second.next().unwrap().unwrap();
    assert!(second.usage().reused_tokens > 20, "{:?}", second.usage());
    drop(second);
    let expected = [
        Message::system("Tell stories."),
        Message::user("Write about a dog."),
        Message::assistant(first.text),
        Message::user("And a cat."),
        Message::assistant(piece.text),
    ];
    assert_eq!(chat.messages(), expected, "an answer that was left early stays as far as it came");

    chat.messages_mut().truncate(4);
    let answer = chat.answer().unwrap().complete().unwrap();
    let alone = {
        let template = chat.template();
        let tokens = template.prompt_tokens(model.tokenizer().unwrap(), &chat.messages()[..4]);
        let config =
            GenerationConfig { stop: vec!["### Instruction".into()], ..chat.config().clone() };
        model.session().generate_tokens(&tokens.unwrap(), &config).unwrap().complete().unwrap()
    };
    assert_eq!(answer.pieces, alone.pieces, "reuse changes nothing");

    chat.config_mut().temperature = -1.0;
    let n_messages = chat.messages().len();
    assert!(matches!(chat.say("No."), Err(Error::Config { .. })));
    assert_eq!(chat.messages().len(), n_messages, "a message that was refused is taken back");
    chat.set_system("");
    chat.clear();
    assert!(chat.messages().is_empty());
}

#[test]
fn a_long_chat_goes_on_without_its_oldest_turns() {
    let model = embedded(Some(128));
    let mut chat = chat(&model, 10);
    chat.set_system("Be kind.");
    for i in 0..12 {
        let story = format!("Write a story about dog number {i} and the sun and the moon.");
        let completion = chat.say(&story).unwrap().complete().unwrap();
        assert!(completion.usage.prompt_tokens < 128);
        assert!(completion.usage.new_tokens > 0);
    }
    assert_eq!(chat.messages().len(), 25);
    assert!(chat.n_dropped() > 0 && chat.n_dropped().is_multiple_of(2), "{}", chat.n_dropped());
    let system = chat.template().prompt_tokens(model.tokenizer().unwrap(), &chat.messages()[..1]);
    let kept = chat.session().tokens();
    assert_eq!(kept[..4], system.unwrap()[..4], "the system message stays");

    chat.config_mut().context_policy = Some(ContextPolicy::Error);
    assert!(chat.say("Hi").is_ok(), "the turns that were left out stay left out");
    chat.messages_mut();
    assert!(matches!(chat.say("Hi"), Err(Error::ContextFull { .. })));
    chat.config_mut().context_policy = None;
    let too_long = "much too long ".repeat(200);
    assert!(matches!(chat.say(&too_long), Err(Error::ContextFull { .. })));
    assert!(chat.say("Hi").is_ok());
}

#[test]
fn a_broken_template_fails_no_model_but_its_use() {
    let model = embedded(None);
    let template = ChatTemplate::jinja("{% for m in messages %}", &model);
    let mut chat = Chat::new(model.session(), template, GenerationConfig::default());
    assert!(matches!(chat.say("Hi"), Err(Error::Template(_))));
    assert!(chat.messages().is_empty());
}

#[test]
fn templates_that_know_tools_see_them_and_calls_as_they_are() {
    let source = "{% for m in messages %}{{ m.role }}:{{ m.content }}\
                  {% for c in m.tool_calls or [] %}[{{ c.function.name }} {{ c.function.arguments.x }}]\
                  {% endfor %};{% endfor %}{% if tools is not none %}{{ tools[0].function.name }}{% endif %}";
    let template = ChatTemplate::from_source(source, "<s>", "</s>");
    assert!(template.knows_tools());
    let messages = [
        serde_json::json!({ "role": "user", "content": "a" }),
        serde_json::json!({ "role": "assistant", "content": "", "tool_calls": [
            { "id": "1", "type": "function", "function": { "name": "f", "arguments": { "x": 3 } } },
        ] }),
        serde_json::json!({ "role": "tool", "content": "b", "tool_call_id": "1" }),
    ];
    let tools = [serde_json::json!({ "type": "function", "function": { "name": "f" } })];
    let text = template.apply_json(&messages, &tools, true).unwrap();
    assert_eq!(text, "user:a;assistant:[f 3];tool:b;f");
    assert_eq!(template.apply_json(&messages[..1], &[], true).unwrap(), "user:a;");
    assert!(!ChatTemplate::from_source("{{ messages }}", "", "").knows_tools());
}
