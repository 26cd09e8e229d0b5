use super::*;

/// No filter, no penalty: each field of a case changes one thing.
fn plain() -> GenerationConfig {
    GenerationConfig {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        repetition_penalty: 1.0,
        seed: Some(1),
        ..GenerationConfig::default()
    }
}

fn sampler(config: &GenerationConfig) -> Sampler {
    Sampler::new(config, &Hooks::default(), Vec::new())
}

/// The tokens that remain, best first.
fn survivors(config: &GenerationConfig, logits: &[f32]) -> Vec<u32> {
    let mut sampler = sampler(config);
    sampler.logits = logits.iter().map(|&l| sane(l)).collect();
    sampler.filter().unwrap();
    sampler.candidates.sort_by(best_first);
    sampler.candidates.iter().map(|c| c.token).collect()
}

#[test]
fn filters_keep_the_tokens_of_the_definitions() {
    // Probabilities 0.1, 0.4, 0.2, 0.25, 0.05.
    let logits = [0.1f32, 0.4, 0.2, 0.25, 0.05].map(f32::ln);
    let p = plain;
    let cases = [
        ("all", p(), vec![1, 3, 2, 0, 4]),
        ("top_k 2", GenerationConfig { top_k: 2, ..p() }, vec![1, 3]),
        ("top_k above V", GenerationConfig { top_k: 9, ..p() }, vec![1, 3, 2, 0, 4]),
        ("top_p 0", GenerationConfig { top_p: 0.0, ..p() }, vec![1]),
        ("top_p 0.6", GenerationConfig { top_p: 0.6, ..p() }, vec![1, 3]),
        ("top_p 0.7", GenerationConfig { top_p: 0.7, ..p() }, vec![1, 3, 2]),
        ("min_p 0.5", GenerationConfig { min_p: 0.49, ..p() }, vec![1, 3, 2]),
        ("min_p 1", GenerationConfig { min_p: 1.0, ..p() }, vec![1]),
        // Of the remaining 0.4 and 0.25, top-p 0.6 keeps 0.4 / 0.65 = 0.615 only.
        ("k then p", GenerationConfig { top_k: 2, top_p: 0.6, ..p() }, vec![1]),
        // Entropy 1.415 nats; distances 0.89, 0.50, 0.19, 0.03, 1.58: 0.25, then 0.2, then 0.4.
        ("typical 0.3", GenerationConfig { typical_p: 0.3, ..p() }, vec![3, 2]),
        ("typical 0.5", GenerationConfig { typical_p: 0.5, ..p() }, vec![1, 3, 2]),
    ];
    for (what, config, expected) in cases {
        assert_eq!(survivors(&config, &logits), expected, "{what}");
    }
}

#[test]
fn the_shortest_beginning_is_that_of_a_full_sort() {
    for (n, enough) in [(1, 0.5), (63, 900.0), (64, 0.0), (65, 1e9), (1000, 300.0), (5000, 1.5e5)] {
        let items: Vec<u64> = (0..n).map(|i| i * 7919 % 211).collect();
        let order = |a: &u64, b: &u64| b.cmp(a);
        let mut sorted = items.clone();
        sorted.sort_by(order);
        let mut sum = 0.0;
        let end = sorted.iter().position(|&x| {
            sum += x as f64;
            sum >= enough
        });
        sorted.truncate(end.map_or(sorted.len(), |i| i + 1));
        let mut found = items;
        keep_shortest(&mut found, enough, |&x| x as f64, order);
        assert_eq!(found, sorted, "{n} items, {enough}");
    }
}

#[test]
fn penalties_and_bias_are_those_of_the_definitions() {
    let logits = [2.0f32, -2.0, 1.0, 0.0];
    let tokens = [3, 0, 1, 1, 2];
    let cases = [
        (GenerationConfig { repetition_penalty: 2.0, ..plain() }, [1.0, -4.0, 0.5, 0.0]),
        (
            GenerationConfig { repetition_penalty: 2.0, repeat_last_n: 1, ..plain() },
            [2.0, -2.0, 0.5, 0.0],
        ),
        (
            GenerationConfig { repetition_penalty: 2.0, repeat_last_n: 0, ..plain() },
            [2.0, -2.0, 1.0, 0.0],
        ),
        (GenerationConfig { presence_penalty: 0.5, ..plain() }, [1.5, -2.5, 0.5, -0.5]),
        (GenerationConfig { frequency_penalty: 0.5, ..plain() }, [1.5, -3.0, 0.5, -0.5]),
        (
            GenerationConfig { logit_bias: vec![(1, 5.0), (99, 1.0)], ..plain() },
            [2.0, 3.0, 1.0, 0.0],
        ),
    ];
    for (config, expected) in cases {
        let mut sampler = sampler(&config);
        sampler.sample(&tokens, &logits).unwrap();
        assert_eq!(sampler.logits, expected, "{config:?}");
    }
}

#[test]
fn broken_logits_give_a_token() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let cases: &[(&[f32], &[u32])] = &[
        (&[nan, nan, nan], &[0]),
        (&[-inf, -inf], &[0]),
        (&[nan, 1.0, -inf], &[1]),
        (&[inf, 1.0, inf], &[0, 2]),
        (&[0.0], &[0]),
    ];
    let greedy = GenerationConfig { temperature: 0.0, ..plain() };
    let all = GenerationConfig { top_p: 0.9, typical_p: 0.9, min_p: 0.1, top_k: 2, ..plain() };
    for config in [greedy, plain(), all] {
        for (logits, expected) in cases {
            let token = sampler(&config).sample(&[0, 7], logits).unwrap();
            assert!(expected.contains(&token), "{logits:?}: {token}");
        }
    }
}

#[test]
fn greedy_takes_the_lowest_of_equals() {
    let config = GenerationConfig { temperature: 0.0, ..plain() };
    assert_eq!(sampler(&config).sample(&[], &[1.0, 3.0, 3.0, -1.0]).unwrap(), 1);
}

#[test]
fn forbidden_and_biased_tokens_never_come() {
    let config = GenerationConfig { logit_bias: vec![(0, f32::NEG_INFINITY)], ..plain() };
    let hooks = Hooks {
        processor: Some(std::sync::Arc::new(|_: &[u32], logits: &mut [f32]| logits[1] = f32::NAN)),
        ..Hooks::default()
    };
    let mut sampler = Sampler::new(&config, &hooks, vec![2]);
    assert!((0..100).all(|_| sampler.sample(&[], &[9.0, 9.0, 9.0, 1.0]).unwrap() == 3));
}

#[test]
fn frequencies_follow_the_probabilities() {
    for temperature in [0.5f32, 1.0, 2.0] {
        let mut sampler = sampler(&GenerationConfig { temperature, ..plain() });
        let logits = [0.5f32, 0.3, 0.2].map(f32::ln);
        let mut counts = [0u32; 3];
        for _ in 0..20_000 {
            counts[sampler.sample(&[], &logits).unwrap() as usize] += 1;
        }
        let weights = [0.5f64, 0.3, 0.2].map(|p| p.powf(1.0 / f64::from(temperature)));
        let sum: f64 = weights.iter().sum();
        for (count, weight) in counts.iter().zip(weights) {
            let share = f64::from(*count) / 20_000.0;
            assert!((share - weight / sum).abs() < 0.015, "{temperature}: {counts:?}");
        }
    }
}

#[test]
fn a_seed_gives_the_same_tokens_and_fresh_seeds_differ() {
    let draw = |seed| {
        let mut sampler = sampler(&GenerationConfig { seed, ..plain() });
        let tokens: Vec<u32> = (0..32).map(|_| sampler.sample(&[], &[0.0; 100]).unwrap()).collect();
        (sampler.seed(), tokens)
    };
    // The first 53-bit numbers of ChaCha8 with the key 1, 0, …: pinned, so that seeds stay valid.
    assert_eq!(draw(Some(1)), draw(Some(1)));
    assert_ne!(draw(Some(1)).1, draw(Some(2)).1);
    let (seed, tokens) = draw(None);
    assert_eq!(draw(Some(seed)).1, tokens);
    assert_ne!(draw(None).0, seed);
    assert!(seed < 1 << 53);
}

#[test]
fn logprobs_are_a_log_softmax() {
    let (own, top) = logprobs(&[0.1f32, 0.4, f32::NAN, 0.5].map(f32::ln), 1, 2).unwrap();
    assert!((own - 0.4f32.ln()).abs() < 1e-6);
    let tokens: Vec<u32> = top.iter().map(|t| t.token).collect();
    assert_eq!(tokens, [3, 1]);
    assert!((top[0].logprob - 0.5f32.ln()).abs() < 1e-6);
}
