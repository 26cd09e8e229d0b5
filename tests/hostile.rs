//! Broken files: each gives a typed error that says where, fast and without much memory.
//!
//! The files are in the tables of `halfbyte_tests::hostile`.

#[path = "hostile/bytes.rs"]
mod bytes;
#[path = "hostile/case.rs"]
mod case;
#[path = "hostile/memory.rs"]
mod memory;

use std::time::{Duration, Instant};

use halfbyte::{ChatTemplate, Error, Message};
use halfbyte_tests::hostile::TABLES;

#[test]
fn broken_gguf_files_are_typed_errors() {
    case::check("gguf");
}

#[test]
fn broken_fields_of_gguf_files_are_typed_errors() {
    case::check("gguf-fields");
}

#[test]
fn broken_models_in_sound_gguf_files_are_typed_errors() {
    case::check("gguf-config");
}

#[test]
fn broken_files_of_2023_are_typed_errors() {
    case::check("of-2023");
}

#[test]
fn broken_safetensors_folders_are_typed_errors() {
    case::check("safetensors");
}

#[test]
fn broken_fields_of_safetensors_headers_are_typed_errors() {
    case::check("safetensors-fields");
}

#[test]
fn broken_pytorch_files_are_typed_errors() {
    case::check("pickle-zip");
    case::check("pickle");
}

#[test]
fn broken_packed_matrices_are_typed_errors() {
    case::check("packed");
}

#[test]
fn broken_configurations_are_typed_errors() {
    case::check("config");
}

#[test]
fn broken_adapters_are_typed_errors() {
    case::check("adapter");
}

#[test]
fn broken_tokenizers_are_typed_errors() {
    case::check("tokenizer");
}

#[test]
fn broken_chat_templates_are_typed_errors() {
    case::check("template");
}

#[test]
fn files_of_published_vulnerabilities_are_typed_errors() {
    case::check("published");
    case::check("published-tokenizer");
    case::check("published-template");
}

/// (the first letters of tables' names, how many cases there are at least)
const COUNTS: &[(&str, usize)] = &[
    ("gguf", 400),
    ("of-2023", 350),
    ("safetensors", 100),
    ("pickle", 100),
    ("t", 50),
    ("published", 40),
];

#[test]
fn there_are_enough_of_each_sort() {
    let _alone = case::alone();
    let counts: Vec<_> = TABLES.iter().map(|table| (table.name, (table.cases)().len())).collect();
    for (start, at_least) in COUNTS {
        let n: usize =
            counts.iter().filter(|(name, _)| name.starts_with(start)).map(|(_, n)| n).sum();
        println!("{start}: {n}");
        assert!(n >= *at_least, "{n} of {start}");
    }
    let total: usize = counts.iter().map(|(_, n)| n).sum();
    println!("{total} in all");
    assert!(total >= 1000, "{total}");
}

#[test]
fn a_comparison_without_end_is_left_behind() {
    let _alone = case::alone();
    // The engine compares 2⁶⁰ items in one step: nothing stops that, but the caller goes on.
    let shared = "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(60) %}\
                  {% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}\
                  {{ {ns.x: 1} == {ns.y: 1} }}";
    let start = Instant::now();
    let messages = [Message::system("Be brief."), Message::user("Hi")];
    let result = ChatTemplate::from_source(shared, "", "").apply(&messages, true);
    assert!(matches!(&result, Err(Error::Template(m)) if m.contains("more than 1s")), "{result:?}");
    assert!(start.elapsed() < Duration::from_secs(3));
}
