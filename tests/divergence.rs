//! Perplexity by two protocols, divergence through a file and side by side, and what scoring reads.

use std::path::{Path, PathBuf};
#[cfg(unix)]
use std::process::Command;

use halfbyte::generate::{Divergence, KL_QUANTILES, LogProbFile, Protocol};
use halfbyte::io::Checkpoint;
use halfbyte::model::CacheType;
use halfbyte::tokenizer::Specials;
use halfbyte::{Cancel, Error, Hooks, Model, ModelOptions, Progress, QuantizeType};
use halfbyte_tests::data;

const TEXT: &str = "Once upon a time there was a little cat who lived in a big house. The cat had \
    a red hat, and every day she walked to the garden to see the birds. One day the hat was gone.";

fn open(path: &Path) -> Model {
    let options = ModelOptions { cache_type: CacheType::F32, ..ModelOptions::default() };
    Model::from_checkpoint(&Checkpoint::open(path).expect("a checkpoint"), &options)
        .expect("a model")
}

/// A LLaMA that puts BOS in front, and the same in another encoding.
fn models(folder: &Path) -> (Model, Model) {
    let path = data().join("llama-1k.q4_0.gguf");
    let other = folder.join("other.gguf");
    let kind = QuantizeType::from_name("iq4_nl").expect("a type");
    let checkpoint = Checkpoint::open(&path).expect("a checkpoint");
    halfbyte::quantize(&checkpoint, &other, kind, &Cancel::default(), &mut |_, _| {})
        .expect("written");
    (open(&path), open(&other))
}

fn tokens(model: &Model) -> Vec<u32> {
    model.tokenizer().expect("a tokenizer").encode_prompt(TEXT, Specials::AsText).expect("tokens")
}

/// Log-probabilities after each token of `read`, by the textbook in f64.
fn log_probs(model: &Model, read: &[u32]) -> Vec<Vec<f64>> {
    let logits = model.logits(read).expect("logits");
    let rows = logits.chunks_exact(model.config().vocab_size);
    rows.map(|row| {
        let norm = row.iter().map(|&l| f64::from(l).exp()).sum::<f64>().ln();
        row.iter().map(|&l| f64::from(l) - norm).collect()
    })
    .collect()
}

/// The windows of llama.cpp's program: (tokens that are read, places whose successors count).
fn second_halves(tokens: &[u32], n: usize) -> Vec<(Vec<u32>, std::ops::Range<usize>)> {
    let whole = tokens.chunks_exact(n).map(|chunk| {
        let mut read = chunk.to_vec();
        read[0] = tokens[0];
        (read, n / 2..n - 1)
    });
    whole.collect()
}

#[test]
fn second_halves_are_scored_as_llama_cpp_defines() {
    let model = open(&data().join("llama-1k.q4_0.gguf"));
    let tokens = tokens(&model);
    assert_eq!(model.repeated_bos(&tokens), Some(tokens[0]));
    for window in [4, 7, 16] {
        let (mut sum, mut n) = (0.0, 0);
        for (i, (read, places)) in second_halves(&tokens, window).into_iter().enumerate() {
            let rows = log_probs(&model, &read);
            for place in places {
                sum -= rows[place][tokens[i * window + place + 1] as usize];
                n += 1;
            }
        }
        let protocol = Protocol::SecondHalves { window };
        let found = model.perplexity_by(&tokens, protocol, &Hooks::default()).expect("scored");
        assert_eq!((found.n_scored, protocol.n_scored(tokens.len())), (n, n));
        let expected = (sum / n as f64).exp();
        assert!((found.value / expected - 1.0).abs() < 1e-5, "{} {expected}", found.value);
    }
    for window in [2, 3, tokens.len() + 1, 1 << 30] {
        let protocol = Protocol::SecondHalves { window };
        let found = model.perplexity_by(&tokens, protocol, &Hooks::default());
        assert!(matches!(found, Err(Error::Config { .. })), "{window}: {found:?}");
    }
}

/// Each scored token's divergence, and the rest of what `Divergence` says, by the textbook.
fn expected(base: &Model, model: &Model, tokens: &[u32], window: usize) -> (Vec<f64>, f64, f64) {
    let (mut kls, mut agreed, mut squares) = (Vec::new(), 0.0, 0.0);
    for (i, (read, places)) in second_halves(tokens, window).into_iter().enumerate() {
        let (p, q) = (log_probs(base, &read), log_probs(model, &read));
        for place in places {
            let (p, q) = (&p[place], &q[place]);
            kls.push(p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum());
            let best = |row: &[f64]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
            agreed += f64::from(u8::from(best(p) == best(q)));
            let target = tokens[i * window + place + 1] as usize;
            squares += (q[target].exp() - p[target].exp()).powi(2);
        }
    }
    kls.sort_by(f64::total_cmp);
    let n = kls.len() as f64;
    (kls, agreed / n, (squares / n).sqrt())
}

#[test]
fn divergences_are_those_of_the_textbook() {
    let folder = tempfile::tempdir().expect("a folder");
    let (base, model) = models(folder.path());
    let tokens = tokens(&base);
    let protocol = Protocol::SecondHalves { window: 16 };
    let (kls, agreement, rms) = expected(&base, &model, &tokens, 16);
    let check = |found: &Divergence, tolerance: f64| {
        let mean = kls.iter().sum::<f64>() / kls.len() as f64;
        assert!((found.mean_kl - mean).abs() < tolerance * mean, "{} {mean}", found.mean_kl);
        for (share, kl) in KL_QUANTILES.iter().zip(found.kl_quantiles) {
            let expected = kls[(share * (kls.len() - 1) as f64).round() as usize];
            assert!((kl - expected).abs() < tolerance * (expected + mean), "{kl} {expected}");
        }
        assert!((found.top_agreement - agreement).abs() < 1e-9);
        assert!((found.rms_probability_change - rms).abs() < tolerance * rms);
        assert_eq!(found.model.n_scored, kls.len());
    };
    let hooks = Hooks::default();
    let side_by_side = model.compare(&base, &tokens, protocol, &hooks).expect("scored");
    check(&side_by_side.divergence, 1e-4);
    assert_eq!(side_by_side.tokens_read, tokens.len() / 16 * 15);
    let path = folder.path().join("base.logprob");
    let written = base.write_log_probs(&path, &tokens, protocol, &hooks).expect("scored");
    assert_eq!(written, base.perplexity_by(&tokens, protocol, &hooks).expect("scored"));
    let through_file =
        model.divergence(LogProbFile::open(&path).expect("a file"), &hooks).expect("scored");
    check(&through_file, 1e-2);
    assert!((through_file.base.value / written.value - 1.0).abs() < 1e-4);
    assert_eq!(through_file.model, side_by_side.divergence.model);
    // A model is no distance from itself.
    let own = base.divergence(LogProbFile::open(&path).expect("a file"), &hooks).expect("scored");
    assert!(own.mean_kl.abs() < 1e-7 && own.kl_quantiles[8] < 1e-6, "{own:?}");
    assert!((own.top_agreement - 1.0).abs() < 1e-9);
}

#[test]
fn models_that_cannot_be_compared_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (llama, gptj) =
        (open(&data().join("llama-1k.q4_0.gguf")), open(&data().join("gptneox-tiny.q8_0.gguf")));
    let path = folder.path().join("base.logprob");
    let hooks = Hooks::default();
    let protocol = Protocol::Strided { window: 16, stride: 8 };
    let tokens = tokens(&llama);
    llama.write_log_probs(&path, &tokens, protocol, &hooks).expect("scored");
    let file = LogProbFile::open(&path).expect("a file");
    assert_eq!((file.tokens(), file.protocol()), (&tokens[..], protocol));
    assert_eq!(file.vocab_size(), llama.config().vocab_size);
    assert!(matches!(gptj.divergence(file, &hooks), Err(Error::Config { .. })));
    assert!(matches!(gptj.compare(&llama, &tokens, protocol, &hooks), Err(Error::Config { .. })));
    let nowhere = folder.path().join("no/folder");
    let found = llama.write_log_probs(nowhere, &tokens, protocol, &hooks);
    assert!(matches!(found, Err(Error::Io { .. })), "{found:?}");
    // A run that was stopped leaves nothing behind.
    let stopped = folder.path().join("stopped");
    let cancel = Cancel::default();
    cancel.cancel();
    let found = llama.write_log_probs(&stopped, &tokens, protocol, &Hooks::cancelled_by(&cancel));
    assert!(matches!(found, Err(Error::Cancelled)), "{found:?}");
    let left: Vec<PathBuf> = std::fs::read_dir(folder.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert_eq!(left, [path]);
}

#[test]
fn writers_of_one_file_do_not_meet() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = open(&data().join("llama-1k.q4_0.gguf"));
    let path = folder.path().join("base.logprob");
    let tokens = tokens(&model);
    let protocol = Protocol::SecondHalves { window: 16 };
    // Between two windows another call writes the same file from beginning to end.
    let (other, text, place) = (model.clone(), tokens.clone(), path.clone());
    let between = Progress::new(move |_, _| {
        let found = other.write_log_probs(&place, &text, protocol, &Hooks::default());
        found.expect("the other file");
    });
    let hooks = Hooks { progress: Some(between), ..Hooks::default() };
    model.write_log_probs(&path, &tokens, protocol, &hooks).expect("the file");
    let file = LogProbFile::open(&path).expect("a file");
    let own = model.divergence(file, &Hooks::default()).expect("scored");
    assert!(own.mean_kl.abs() < 1e-7, "{own:?}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
}

#[test]
#[cfg(unix)]
fn what_is_no_file_is_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo, of every Unix");
    assert!(made.success());
    for path in [&pipe, Path::new("/dev/zero"), folder.path()] {
        let found = LogProbFile::open(path).map(drop);
        assert!(matches!(found, Err(Error::Io { .. })), "{}: {found:?}", path.display());
    }
}

#[test]
fn damaged_files_are_errors() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = open(&data().join("llama-1k.q4_0.gguf"));
    let path = folder.path().join("base.logprob");
    let hooks = Hooks::default();
    let short = &tokens(&model)[..12];
    let protocol = Protocol::Strided { window: 8, stride: 4 };
    model.write_log_probs(&path, short, protocol, &hooks).expect("scored");
    let whole = std::fs::read(&path).expect("read");
    assert_eq!(whole.len(), 40 + 4 * 12 + 11 * (8 + 2 * model.config().vocab_size));
    let rows_at = 40 + 4 * 12;
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("written");
        LogProbFile::open(&path).and_then(|file| model.divergence(file, &hooks))
    };
    read(&whole).expect("the whole file");
    for n in [0, 9, 39, 40, 60, rows_at, rows_at + 100, whole.len() - 1] {
        assert!(read(&whole[..n]).is_err(), "{n} bytes");
    }
    assert!(read(&[&whole[..], &[0]].concat()).is_err(), "a byte more");
    let huge = [0xff; 8];
    let nan = f32::NAN.to_le_bytes();
    let cases: &[(&str, usize, &[u8])] = &[
        ("magic", 0, b"x"),
        ("version", 9, &[2]),
        ("protocol", 10, &[9]),
        ("vocabulary of none", 12, &[0; 4]),
        ("vocabulary", 12, &huge[..4]),
        ("another vocabulary", 12, &[1]),
        ("window", 16, &[0; 4]),
        ("stride of none", 20, &[0; 4]),
        ("stride beyond the window", 20, &[9]),
        ("tokens", 24, &huge),
        ("tokens and rows", 24, &[0xff; 16]),
        ("rows", 32, &huge),
        ("token outside the vocabulary", 40, &huge[..4]),
        ("no number", rows_at, &nan),
        ("probability above 1", rows_at, &1.0_f32.to_le_bytes()),
        ("no step", rows_at + 4, &nan),
        ("step below 0", rows_at + 4, &(-1.0_f32).to_le_bytes()),
        ("step too wide", rows_at + 4, &1.0_f32.to_le_bytes()),
    ];
    for (what, at, bytes) in cases {
        let mut broken = whole.clone();
        broken[*at..at + bytes.len()].copy_from_slice(bytes);
        let error = read(&broken).err().unwrap_or_else(|| panic!("{what} passed"));
        let kind = matches!(error, Error::Malformed { .. } | Error::Config { .. });
        assert!(kind && !error.to_string().is_empty(), "{what}: {error}");
    }
    // Any byte of the header or of a row's beginning: an error or numbers, never a panic.
    for at in (0..60).chain(rows_at..rows_at + 20) {
        for flip in [1, 0x80, 0xff] {
            let mut broken = whole.clone();
            broken[at] ^= flip;
            drop(read(&broken));
        }
    }
}

#[test]
fn questions_are_read_once_for_all_their_answers() {
    let model = open(&data().join("gptj-1k.q4_0.gguf"));
    let question: Vec<u32> = (10..40).collect();
    let answers: [&[u32]; 3] = [&[1, 2, 3], &[4, 5], &[6]];
    // So many questions that some would lie across the borders of what is computed together.
    let pairs: Vec<(Vec<u32>, Vec<u32>)> = (0..30)
        .flat_map(|i| answers.map(|answer| ([&[i + 50], &question[..]].concat(), answer.to_vec())))
        .collect();
    let hooks = Hooks::default();
    let together = model.score_pairs(&pairs, &hooks).expect("scored");
    // The last token of an answer is predicted and never read.
    assert_eq!(together.tokens_read, 30 * (30 + 3 + 2 + 1));
    let mut apart = 0;
    for (pair, score) in pairs.iter().zip(&together.scores) {
        let alone = model.score_pairs(std::slice::from_ref(pair), &hooks).expect("scored");
        assert_eq!(alone.scores, [*score]);
        apart += alone.tokens_read;
    }
    assert_eq!(apart, 30 * (3 * 31 + 2 + 1));
    assert_eq!(together.scores, model.log_likelihood_batch(&pairs, &hooks).expect("scored"));
}
