//! Every endpoint, against the library itself.

use base64::Engine as _;
use halfbyte::{GenerationConfig, Message};
use serde_json::{Value, json};

use crate::client::{Running, load, model};

const PROMPT: &str = "Once upon a time there was a little girl who";

fn config(seed: u64, max_new_tokens: usize) -> GenerationConfig {
    GenerationConfig {
        seed: Some(seed),
        max_new_tokens,
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        repetition_penalty: 1.0,
        ..GenerationConfig::default()
    }
}

#[test]
fn completions_are_what_the_library_writes() {
    let server = Running::start(|_| {});
    let model = model();
    let alone = model.generate(PROMPT, &config(7, 12)).unwrap();
    let ask = |more: Value| {
        let mut body = json!({ "model": "any", "prompt": PROMPT, "max_tokens": 12, "seed": 7 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let answer = server.ok("/v1/completions", &ask(json!({})));
    assert_eq!(answer["choices"][0]["text"], alone.text);
    assert_eq!(answer["choices"][0]["finish_reason"], alone.finish_reason.name());
    let n_prompt = model.prompt_tokens(PROMPT).unwrap().len();
    assert_eq!(answer["usage"]["prompt_tokens"], n_prompt);
    assert_eq!(answer["usage"]["completion_tokens"], alone.usage.new_tokens);

    // Streams join to the same text, and end with a reason and numbers.
    let stream = ask(json!({ "stream": true, "stream_options": { "include_usage": true } }));
    let events = server.events("/v1/completions", &stream);
    let choices: Vec<&Value> = events.iter().filter_map(|e| e["choices"].get(0)).collect();
    let text: String = choices.iter().map(|choice| choice["text"].as_str().unwrap()).collect();
    assert_eq!(text, alone.text);
    let reasons: Vec<_> = choices.iter().filter_map(|c| c["finish_reason"].as_str()).collect();
    assert_eq!(reasons, [alone.finish_reason.name()]);
    let usage = &events.last().unwrap()["usage"];
    assert_eq!(usage["prompt_tokens"], n_prompt);
    assert_eq!(usage["completion_tokens"], alone.usage.new_tokens);

    // Tokens, lists of prompts, and several answers: choice i has the seed plus i.
    let tokens = model.prompt_tokens(PROMPT).unwrap();
    let answer = server.ok("/v1/completions", &ask(json!({ "prompt": tokens })));
    assert_eq!(answer["choices"][0]["text"], alone.text);
    let many = ask(json!({ "prompt": [PROMPT, "The sun"], "n": 3 }));
    let answer = server.ok("/v1/completions", &many);
    for (i, choice) in answer["choices"].as_array().unwrap().iter().enumerate() {
        let prompt = [PROMPT, "The sun"][i / 3];
        let alone = model.generate(prompt, &config(7 + (i % 3) as u64, 12)).unwrap();
        assert_eq!(choice["index"], i);
        assert_eq!(choice["text"], alone.text, "choice {i}");
    }
    let lists = ask(json!({ "prompt": [tokens.clone(), tokens] }));
    let answer = server.ok("/v1/completions", &lists);
    assert_eq!(answer["choices"][1]["text"], alone.text);
}

#[test]
fn options_reach_the_sampler() {
    let server = Running::start(|_| {});
    let model = model();
    let base = config(3, 10);
    let cases: Vec<(Value, GenerationConfig)> = vec![
        (json!({ "temperature": 0 }), GenerationConfig { temperature: 0.0, ..base.clone() }),
        (
            json!({ "top_p": 0.5, "top_k": 7 }),
            GenerationConfig { top_p: 0.5, top_k: 7, ..base.clone() },
        ),
        (json!({ "min_p": 0.2 }), GenerationConfig { min_p: 0.2, ..base.clone() }),
        (json!({ "typical_p": 0.4 }), GenerationConfig { typical_p: 0.4, ..base.clone() }),
        (
            json!({ "presence_penalty": 1.5, "frequency_penalty": 0.5, "repeat_last_n": 9 }),
            GenerationConfig {
                presence_penalty: 1.5,
                frequency_penalty: 0.5,
                repeat_last_n: 9,
                ..base.clone()
            },
        ),
        (
            json!({ "repetition_penalty": 1.7 }),
            GenerationConfig { repetition_penalty: 1.7, repeat_last_n: usize::MAX, ..base.clone() },
        ),
        (
            json!({ "stop": [" the", "."] }),
            GenerationConfig { stop: vec![" the".into(), ".".into()], ..base.clone() },
        ),
        (json!({ "stop": "a" }), GenerationConfig { stop: vec!["a".into()], ..base.clone() }),
        (
            json!({ "logit_bias": { "300": 100.0, "301": -100.0 } }),
            GenerationConfig { logit_bias: vec![(300, 100.0), (301, -100.0)], ..base.clone() },
        ),
        (json!({ "ignore_eos": true }), GenerationConfig { ignore_eos: true, ..base }),
    ];
    for (option, config) in cases {
        let mut body = json!({ "prompt": PROMPT, "max_tokens": 10, "seed": 3 });
        body.as_object_mut().unwrap().extend(option.as_object().unwrap().clone());
        let answer = server.ok("/v1/completions", &body);
        let alone = model.generate(PROMPT, &config).unwrap();
        assert_eq!(answer["choices"][0]["text"], alone.text, "{option}");
        assert_eq!(answer["choices"][0]["finish_reason"], alone.finish_reason.name(), "{option}");
    }
}

#[test]
fn echoed_prompts_have_the_scores_of_the_library() {
    let server = Running::start(|_| {});
    let model = model();
    let tokens = model.prompt_tokens(PROMPT).unwrap();
    for prompt in [json!(PROMPT), json!(tokens), json!([tokens, tokens])] {
        for stream in [false, true] {
            let body = json!({
                "prompt": prompt, "max_tokens": 1, "echo": true, "logprobs": 2, "temperature": 0,
                "stream": stream,
            });
            let choices: Vec<Value> = if stream {
                let events = server.events("/v1/completions", &body);
                let first = events.iter().filter(|e| {
                    e["choices"][0]["logprobs"]["tokens"]
                        .as_array()
                        .is_some_and(|tokens| tokens.len() > 1)
                });
                first.map(|event| event["choices"][0].clone()).collect()
            } else {
                server.ok("/v1/completions", &body)["choices"].as_array().unwrap().clone()
            };
            for choice in choices {
                let scores = &choice["logprobs"];
                let own = scores["token_logprobs"].as_array().unwrap();
                assert_eq!(own.len(), tokens.len() + usize::from(!stream));
                assert!(own[0].is_null() && scores["top_logprobs"][0].is_null());
                for i in [1, tokens.len() / 2, tokens.len() - 1] {
                    let score = model.log_likelihood_tokens(&tokens[..i], &tokens[i..=i]).unwrap();
                    assert_eq!(own[i].as_f64(), Some(score.sum), "token {i}");
                    let best = scores["top_logprobs"][i].as_object().unwrap().values();
                    let best = best.filter_map(Value::as_f64).fold(f64::MIN, f64::max);
                    assert_eq!(own[i].as_f64() == Some(best), score.is_greedy, "token {i}");
                }
                let text = choice["text"].as_str().unwrap();
                assert!(text.starts_with(PROMPT), "{text}");
                let offsets = scores["text_offset"].as_array().unwrap();
                let ascend = offsets.windows(2).all(|w| w[0].as_u64() <= w[1].as_u64());
                assert!(offsets[0] == 0 && ascend, "{offsets:?}");
            }
        }
    }
    // Without new tokens there are the prompt's scores alone, and without scores the prompt's text.
    let body = json!({ "prompt": PROMPT, "max_tokens": 0, "echo": true, "logprobs": 0 });
    let choice = &server.ok("/v1/completions", &body)["choices"][0];
    assert_eq!(choice["logprobs"]["tokens"].as_array().unwrap().len(), tokens.len());
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!(PROMPT), &json!("length")));
    let body = json!({ "prompt": PROMPT, "max_tokens": 0, "echo": true, "stream": true });
    assert_eq!(server.events("/v1/completions", &body)[0]["choices"][0]["text"], PROMPT);
}

#[test]
fn conversations_are_read_by_the_models_template() {
    let server = Running::start(|_| {});
    let model = model();
    let prompt = model.apply_chat_template(&[Message::user("Tell me a story.")], true).unwrap();
    let mut config = config(5, 12);
    config.stop = model.chat_template().unwrap().stop().iter().map(|&s| s.to_owned()).collect();
    config.logprobs = Some(2);
    let specials = halfbyte::tokenizer::Specials::Parse;
    let tokens = model.tokenizer().unwrap().encode_prompt(&prompt, specials).unwrap();
    let alone =
        model.session().into_generation_tokens(&tokens, &config).unwrap().complete().unwrap();

    let messages = json!([{ "role": "user", "content": [{ "type": "text", "text": "Tell me " },
                                                        { "type": "text", "text": "a story." }] }]);
    let mut body = json!({ "messages": messages, "max_tokens": 12, "seed": 5,
                           "logprobs": true, "top_logprobs": 2 });
    let answer = server.ok("/v1/chat/completions", &body);
    let choice = &answer["choices"][0];
    assert_eq!(choice["message"]["content"], alone.text);
    assert_eq!(choice["message"]["role"], "assistant");
    let scores = choice["logprobs"]["content"].as_array().unwrap();
    assert_eq!(scores.len(), alone.pieces.len());
    for (score, piece) in scores.iter().zip(&alone.pieces) {
        // serde_json reads numbers of many digits to the last bit or so of an f64.
        assert_eq!(score["logprob"].as_f64().map(|x| x as f32), piece.logprob);
        assert_eq!(score["top_logprobs"].as_array().unwrap().len(), 2);
    }
    body["stream"] = true.into();
    body["stream_options"] = json!({ "include_usage": true });
    let events = server.events("/v1/chat/completions", &body);
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let content = events.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str());
    assert_eq!(content.collect::<String>(), alone.text);
    assert_eq!(events.last().unwrap()["usage"]["completion_tokens"], alone.usage.new_tokens);

    let applied = server.ok("/apply-template", &json!({ "messages": messages }));
    assert_eq!((&applied["prompt"], &applied["tokens"]), (&json!(prompt), &json!(tokens)));
}

#[test]
fn answers_follow_grammars_and_schemas() {
    let server = Running::start(|_| {});
    let ask = |more: Value| {
        let mut body = json!({
            "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 60, "seed": 1,
        });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let schema = json!({
        "type": "object",
        "properties": { "mood": { "enum": ["happy", "sad"] }, "n": { "type": "integer", "minimum": 0, "maximum": 9 } },
        "required": ["mood", "n"], "additionalProperties": false,
    });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "m", "schema": schema } });
    let body = ask(json!({ "response_format": format, "n": 4 }));
    for choice in server.ok("/v1/chat/completions", &body)["choices"].as_array().unwrap() {
        let content = choice["message"]["content"].as_str().unwrap();
        let found: Value = serde_json::from_str(content).expect(content);
        assert!(["happy", "sad"].contains(&found["mood"].as_str().unwrap()), "{content}");
        assert!(found["n"].as_i64().unwrap() <= 9, "{content}");
        assert_eq!(choice["finish_reason"], "stop");
    }
    let grammar = json!({ "grammar": "start: /(yes|no)( really)?/" });
    let answer = server.ok("/v1/chat/completions", &ask(grammar.clone()));
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(["yes", "no", "yes really", "no really"].contains(&text), "{text}");
    let mut body = grammar;
    body["prompt"] = PROMPT.into();
    let answer = server.ok("/v1/completions", &body);
    let text = answer["choices"][0]["text"].as_str().unwrap();
    assert!(["yes", "no", "yes really", "no really"].contains(&text), "{text}");
    let format = json!({ "response_format": { "type": "json_object" }, "max_tokens": 5 });
    let answer = server.ok("/v1/chat/completions", &ask(format));
    assert!(answer["choices"][0]["message"]["content"].as_str().unwrap().starts_with('{'));
}

#[test]
fn embeddings_are_the_librarys_with_length_one() {
    let server = Running::start(|_| {});
    let model = model();
    let own = model.embed(PROMPT).unwrap();
    let length = own.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    let own: Vec<f32> = own.iter().map(|&x| (f64::from(x) / length) as f32).collect();
    let texts = json!(["The sun", PROMPT]);
    let answer = server.ok("/v1/embeddings", &json!({ "input": texts, "model": "any" }));
    let found: Vec<f32> = serde_json::from_value(answer["data"][1]["embedding"].clone()).unwrap();
    assert_eq!(found, own);
    let body =
        json!({ "input": model.prompt_tokens(PROMPT).unwrap(), "encoding_format": "base64" });
    let answer = server.ok("/v1/embeddings", &body);
    let text = answer["data"][0]["embedding"].as_str().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    let found: Vec<f32> =
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(found, own);
}

#[test]
fn tokens_and_facts_are_the_models() {
    let server = Running::start(|_| {});
    let model = model();
    let tokens = model.prompt_tokens(PROMPT).unwrap();
    let answer = server.ok("/tokenize", &json!({ "prompt": PROMPT, "return_token_strs": true }));
    assert_eq!((&answer["tokens"], &answer["count"]), (&json!(tokens), &json!(tokens.len())));
    assert_eq!(answer["token_strs"].as_array().unwrap().len(), tokens.len());
    let answer = server.ok("/detokenize", &json!({ "tokens": tokens }));
    assert_eq!(answer["prompt"], PROMPT);
    let info = server.get("/tokenizer_info").json();
    let eos = info["eos_token"].as_str().unwrap();
    let answer = server.ok("/tokenize", &json!({ "prompt": eos, "add_special_tokens": false }));
    assert_eq!(answer["tokens"], json!([info["eos_token_id"]]));

    let models = server.get("/v1/models").json();
    let id = models["data"][0]["id"].as_str().unwrap();
    assert_eq!(server.get(&format!("/v1/models/{id}")).json()["id"], id);
    assert_eq!(server.get("/v1/models/other").status, 404);
    assert_eq!(server.get("/health").json()["status"], "ok");
    assert_eq!(load(&server), 0.0);
    let document = server.get("/openapi.json").json();
    assert!(document["paths"]["/v1/chat/completions"]["post"].is_object(), "{document}");
    let text = document.to_string();
    for (at, _) in text.match_indices("\"$ref\":\"#/components/schemas/") {
        let name = text[at..].split(['/', '"']).nth(6).unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name} is not there");
    }
}

#[test]
fn the_page_is_served_with_a_policy_that_lets_nothing_else_in() {
    let server = Running::start(|_| {});
    let page = server.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    for part in
        ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    // What it asks for is there.
    let text = page.text();
    for part in text.split(['"', '\'']).filter(|p| p.ends_with(".js") || p.ends_with(".css")) {
        let path = format!("/{}", part.trim_start_matches(['.', '/']));
        assert_eq!(server.get(&path).status, 200, "{part}");
    }
}
