//! The `halfbyte` binary as a shell sees it: exit status, standard output, standard error.

mod chat;
mod program;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use program::{Ran, command, pipe, run};

/// A folder that holds the embedded model as a file.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a temporary folder"));
        folder.write("model.gguf", halfbyte_model::BYTES);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The path of `name` as an argument.
    fn arg(&self, name: &str) -> String {
        self.path(name).into_os_string().into_string().expect("a UTF-8 path")
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.path(name), bytes).expect("the folder takes files");
        self.arg(name)
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("the file is there")
}

#[test]
fn text_goes_to_standard_output_only() {
    let text = run(&["generate", "Once upon a time", "-n", "8", "--seed", "1"]).ok();
    assert!(text.starts_with("Once upon a time"), "{text}");
    assert!(text.ends_with('\n') && text.len() > "Once upon a time\n".len(), "{text}");

    let told = run(&["generate", "Once upon a time", "-n", "8", "--seed", "1", "--verbose"]);
    assert_eq!((told.status, &told.stdout), (Some(0), &text));
    assert!(told.stderr.contains("seed 1"), "{}", told.stderr);

    let piped = pipe(&["generate", "-", "-n", "8", "--seed", "1"], "Once upon a time").ok();
    assert_eq!(piped, text);
    let piped = pipe(&["generate", "-n", "8", "--seed", "1"], "Once upon a time").ok();
    assert_eq!(piped, text);
}

#[test]
fn every_json_option_prints_one_object() {
    let folder = Folder::new();
    let (model, copy) = (folder.arg("model.gguf"), folder.arg("copy.gguf"));
    let story = "Once upon a time there was a cat. The cat had a red hat. ".repeat(4);
    let story = folder.write("story.txt", story.as_bytes());
    let base = folder.arg("base.logprob");
    let bench = ["bench", "--prompt-tokens", "8", "--new-tokens", "2", "--repeat", "1", "--json"];
    let cases: &[(&[&str], &[&str])] = &[
        (&["generate", "Hello", "-n", "2", "--json"], &["text", "tokens", "finish_reason", "seed"]),
        (&["generate", "Hello", "-n", "2", "--json", "--reference"], &["text", "tokens"]),
        (&["tokenize", "Hello", "--json"], &["ids", "pieces"]),
        (&["tokenize", "--decode", "522,601", "--json"], &["text"]),
        (
            &["inspect", "--json"],
            &["architecture", "parameters", "container", "quantization", "tokenizer"],
        ),
        (&["inspect", "--json", "--tensors", "--metadata", &model], &["tensors", "metadata"]),
        (
            &["inspect", "--cpu", "--json"],
            &["architecture", "instruction sets", "available", "chosen", "threads"],
        ),
        (&["perplexity", &story, "--window", "32", "--json"], &["perplexity", "scored_tokens"]),
        (
            &["perplexity", &story, "--window", "16", "--kl-base", &base, "--json"],
            &["perplexity", "protocol", "stride"],
        ),
        (&["perplexity", "--kl", &base, "--json"], &["mean_kl", "kl_quantiles", "top_agreement"]),
        (
            &["perplexity", &story, "--protocol", "llama.cpp", "--window", "16", "--json"],
            &["perplexity", "window"],
        ),
        (&["quantize", &model, &copy, "--type", "q8_0", "--json"], &["type", "bytes", "tensors"]),
        (
            &["compare", &model, &copy, "--text", &story, "--window", "16", "--json"],
            &["a", "b", "divergence", "windows"],
        ),
        (&bench, &["prompt", "decode", "load_s"]),
    ];
    for (args, keys) in cases {
        let value = run(args).json();
        for key in *keys {
            assert!(!value[key].is_null(), "no {key} from {args:?}: {value}");
        }
    }
}

/// The T5 of the tests, which this crate does not carry along.
#[test]
fn an_encoder_decoder_model_answers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/t5-micro");
    let Some(model) = folder.to_str().filter(|_| folder.exists()) else { return };
    let prompt = "Tell me a story about a dog who found a red ball.";
    let greedy = ["-n", "8", "--temperature", "0", "--repetition-penalty", "1", "--ignore-eos"];
    let args = [&["generate", prompt, "-m", model], &greedy[..]].concat();
    let text = run(&args).ok();
    let answer = text.strip_prefix(&format!("{prompt}\n")).expect("the prompt has its own line");
    let value = run(&[&args[..], &["--json"]].concat()).json();
    assert_eq!(value["text"].as_str().map(|text| format!("{text}\n")), Some(answer.to_owned()));
    let reference = run(&["generate", prompt, "-m", model, "-n", "4", "--json", "--reference"]);
    let (reference, tokens) = (reference.json(), value["tokens"].as_array().expect("a list"));
    assert_eq!(reference["tokens"].as_array().expect("a list")[..], tokens[..4]);
    let facts = run(&["inspect", model, "--json"]).json();
    assert_eq!((&facts["architecture"], &facts["encoder layers"]), (&"t5".into(), &2.into()));
    assert_eq!(facts["tokenizer"], "SentencePiece Unigram");
    run(&["bench", "-m", model]).fails(1, &["decoder-only"]);
}

#[test]
fn wrong_arguments_are_status_2() {
    let cases: &[&[&str]] = &[
        &["sing"],
        &["generate", "--no-such-option"],
        &["generate", "a", "--threads", "many"],
        &["generate", "a", "--cache-type", "f64"],
        &["generate", "a", "--logit-bias", "50:1"],
        &["generate", "a", "--file", "b"],
        &["tokenize", "a", "--file", "b"],
        &["tokenize", "a", "--decode", "1"],
        &["inspect", "a", "--model", "b"],
        &["quantize", "a"],
        &["quantize", "a", "b", "--type", "q9_9"],
        &["perplexity"],
        &["perplexity", "a", "--kl", "b"],
        &["perplexity", "--kl", "b", "--window", "4"],
        &["perplexity", "a", "--protocol", "mine"],
        &["compare", "a", "--text", "b"],
        &["compare", "a", "b"],
        &["completions", "tcl"],
    ];
    for args in cases {
        run(args).fails(2, &[]);
    }
    let bare = run(&[]);
    assert_eq!((bare.status, bare.stdout.as_str()), (Some(2), ""));
    assert!(bare.stderr.contains("Usage"), "{}", bare.stderr);
}

#[test]
fn failures_are_status_1_and_say_what_is_wrong() {
    let folder = Folder::new();
    let junk = folder.write("junk.gguf", b"GGUFjunk");
    let binary = folder.write("binary.txt", &[0xff, 0xfe]);
    let missing = folder.arg("missing");
    let cases: &[(&[&str], &[&str])] = &[
        (&["generate", "a", "--model", &missing], &[&missing]),
        (&["inspect", &missing], &[&missing]),
        (&["tokenize", "a", "--model", &missing], &[&missing]),
        (&["chat", "--model", &missing], &[&missing]),
        (&["bench", "--model", &missing], &[&missing]),
        (&["quantize", &missing, "x.gguf"], &[&missing]),
        (&["perplexity", &missing], &[&missing]),
        (&["perplexity", "--kl", &missing], &[&missing]),
        (&["perplexity", "--kl", &junk], &[&junk, "--kl-base"]),
        (&["perplexity", &junk, "--protocol", "llama.cpp", "--stride", "2"], &["--stride"]),
        (&["perplexity", &junk, "--window", "1"], &["window"]),
        (&["compare", &missing, &missing, "--text", &junk], &[&missing]),
        (&["compare", "embedded", "embedded", "--text", &junk, "--n-gqa", "7"], &["n_gqa"]),
        (&["generate", "--file", &missing], &[&missing]),
        (&["generate", "--file", &binary], &[&binary]),
        (&["generate", "a", "--model", &junk], &[&junk]),
        (&["generate", "a", "--temperature=-1"], &["temperature"]),
        (&["generate", "a", "--temperature=-1", "--reference"], &["temperature"]),
        (&["generate", "a", "--top-p", "2"], &["top_p"]),
        (&["inspect", "--rope-base", "0"], &["rope_base"]),
        (&["inspect", "--n-gqa", "7"], &["n_gqa"]),
        (&["generate", "a", "--threads", "0"], &["threads"]),
        (&["tokenize", "--decode", "one"], &["one is no token id"]),
        (&["tokenize", "--decode", "1,4000000000"], &["4000000000"]),
        (&["bench", "--repeat", "0"], &["nothing to measure"]),
        (&["bench", "--depth", "9999999"], &["at most 131072 tokens"]),
        (&["chat", "--template", "no-such-template"], &["no-such-template"]),
    ];
    for (args, words) in cases {
        run(args).fails(1, words);
    }
}

#[test]
fn an_error_names_its_cause_once() {
    let ran = run(&["generate", "a", "--model", "no/such/model.gguf"]);
    assert_eq!(ran.stderr.matches("os error").count(), 1, "{}", ran.stderr);
}

#[test]
fn help_and_version_are_no_errors() {
    assert!(run(&["--help"]).ok().contains("Exit status"));
    assert!(run(&["--version"]).ok().contains(env!("CARGO_PKG_VERSION")));
    assert!(run(&["generate", "--help"]).ok().contains("--seed"));
}

#[test]
fn an_empty_prompt_starts_a_text() {
    run(&["generate", "", "-n", "4", "--seed", "1"]).ok();
    pipe(&["generate", "-n", "4", "--seed", "1"], "").ok();
}

#[test]
fn an_emoji_prompt_survives() {
    let prompt = "🦀 and 👩‍👩‍👧 🎉";
    let text = run(&["generate", prompt, "-n", "8", "--seed", "1"]).ok();
    assert!(text.starts_with(prompt), "{text}");
}

#[test]
fn a_prompt_beyond_the_context_fails_quickly() {
    let start = Instant::now();
    pipe(&["generate", "-n", "4"], &"word ".repeat(10_000)).fails(1, &["context of 512"]);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn a_seed_gives_one_text_on_every_thread_count_and_instruction_set() {
    let cpu = run(&["inspect", "--cpu", "--json"]).json();
    let available = cpu["available"].as_array().expect("a list");
    let mut isas: Vec<_> = available.iter().map(|isa| isa.as_str()).collect();
    assert!(isas.contains(&Some("scalar")), "{cpu}");
    isas.push(None);
    let mut texts = Vec::new();
    for isa in isas {
        for threads in ["1", "2", "4"] {
            let prompt = "The little dog ran to";
            let args = ["generate", prompt, "-n", "24", "--seed", "7", "--threads", threads];
            let mut command = command(&args);
            command.envs(isa.map(|isa| ("HALFBYTE_ISA", isa)));
            texts.push(Ran::from(command.output().expect("the program starts")).ok());
        }
    }
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:#?}");
}

#[test]
fn inspect_says_which_instruction_sets_are_here_and_who_chose() {
    let cpu = run(&["inspect", "--cpu", "--json"]).json();
    let rows = cpu["instruction sets"].as_array().expect("a list");
    let here = |row: &&Value| row["missing"].as_array().is_some_and(Vec::is_empty);
    let names: Vec<_> = rows.iter().filter(here).map(|row| row["name"].clone()).collect();
    assert_eq!(
        (&Value::from(names.clone()), names.last()),
        (&cpu["available"], Some(&cpu["chosen"]))
    );
    assert_eq!(cpu["chosen by HALFBYTE_ISA"], false);
    for row in rows {
        let features = row["features"].as_array().expect("a list");
        let missing = row["missing"].as_array().expect("a list");
        assert!(missing.iter().all(|name| features.contains(name)), "{row}");
    }
    let text = run(&["inspect", "--cpu"]).ok();
    for row in rows {
        let name = row["name"].as_str().expect("a name");
        let line = text.lines().find(|line| line.trim_start().starts_with(&format!("{name} ")));
        let line = line.expect("a line for each");
        assert_eq!(here(&row), line.contains("available"), "{text}");
    }
    let mut command = command(&["inspect", "--cpu"]);
    command.env("HALFBYTE_ISA", "scalar");
    let text = Ran::from(command.output().expect("the program starts")).ok();
    assert!(text.contains("scalar (by HALFBYTE_ISA)"), "{text}");
}

#[test]
fn an_unknown_instruction_set_is_an_error_that_lists_the_others() {
    for args in [&["inspect", "--cpu"][..], &["generate", "a", "-n", "1"]] {
        let mut command = command(args);
        command.env("HALFBYTE_ISA", "abacus");
        let ran = Ran::from(command.output().expect("the program starts"));
        ran.fails(1, &["HALFBYTE_ISA", "abacus", "scalar"]);
    }
}

#[test]
fn a_reader_that_leaves_ends_the_program_quietly() {
    let args = ["generate", "Once upon a time", "-n", "100000", "--ignore-eos", "--shift"];
    let mut command = command(&args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut stdout = child.stdout.take().expect("standard output is a pipe");
    stdout.read_exact(&mut [0; 10]).expect("ten bytes of text");
    drop(stdout);
    assert_eq!(Ran::from(child.wait_with_output().expect("the program ends")).ok(), "");
}

#[cfg(unix)]
#[test]
fn an_interrupt_keeps_the_text_and_is_status_130() {
    let args = ["generate", "Once upon a time", "-n", "100000", "--ignore-eos", "--shift"];
    let mut command = command(&args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut start = [0; 40];
    let stdout = child.stdout.as_mut().expect("standard output is a pipe");
    stdout.read_exact(&mut start).expect("forty bytes of text");
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill starts").success());
    let rest = Ran::from(child.wait_with_output().expect("the program ends"));
    assert_eq!((rest.status, rest.stderr.as_str()), (Some(130), ""));
    assert!(start.starts_with(b"Once upon a time") && rest.stdout.ends_with('\n'));
}

#[test]
fn quantize_writes_models_that_run_and_never_destroys_a_file_unasked() {
    let folder = Folder::new();
    let (source, wide) = (folder.arg("model.gguf"), folder.arg("wide.gguf"));
    let back = folder.arg("back.gguf");
    run(&["quantize", &source, &wide, "--type", "q8_0"]).ok();
    // The embedded model's head has rows of 384, which no number of Q6_K's blocks of 256 fits, and a note
    // says so.
    let with_a_note = |args: &[&str]| {
        let ran = run(args);
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        assert!(ran.stderr.starts_with("note: output.weight: "), "{}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    };
    with_a_note(&["quantize", &wide, &back, "--type", "q4_0"]);
    for model in [&wide, &back] {
        let text = run(&["generate", "Once", "-n", "4", "--seed", "1", "--model", model]).ok();
        assert!(text.starts_with("Once"), "{text}");
    }

    let before = read(&folder.path("wide.gguf"));
    run(&["quantize", &source, &wide]).fails(1, &["wide.gguf", "--force"]);
    assert_eq!(read(&folder.path("wide.gguf")), before);
    with_a_note(&["quantize", &source, &wide, "--force"]);
    assert!(read(&folder.path("wide.gguf")).len() < before.len());

    run(&["quantize", &source, &source]).fails(1, &[]);
    run(&["quantize", &source, &source, "--force"]).fails(1, &["source"]);
    assert!(read(&folder.path("model.gguf")) == halfbyte_model::BYTES);
}

#[test]
fn the_reference_goes_on_from_the_prompt() {
    let slow = run(&["generate", "Once upon", "-n", "4", "--reference"]).ok();
    assert!(slow.starts_with("Once upon") && slow.len() > "Once upon\n".len(), "{slow}");
}

#[test]
fn tokens_decode_to_their_text() {
    for text in ["Once upon a time", "  two  spaces", "🦀 é 日本"] {
        let ids = run(&["tokenize", text, "--ids", "--no-bos"]).ok();
        assert_eq!(
            run(&["tokenize", "--decode", &ids.trim().replace(' ', ",")]).ok(),
            format!("{text}\n")
        );
        let list = run(&["tokenize", text, "--no-bos", "--json"]).json()["ids"].to_string();
        assert_eq!(run(&["tokenize", "--decode", &list, "--json"]).json()["text"], text);
    }
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]).ok();
        assert!(script.contains("quantize") && script.contains("seed"), "{shell}");
    }
}
