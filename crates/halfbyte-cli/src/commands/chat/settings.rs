//! The sampling options as a table: what `/set` changes, and what a saved conversation keeps.

use anyhow::Context;
use halfbyte::{ContextPolicy, GenerationConfig};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::sampling::LogitBias;

/// A field of [`GenerationConfig`].
pub(super) struct Setting {
    pub(super) name: &'static str,
    /// What its values are, and what they do.
    pub(super) help: &'static str,
    get: fn(&GenerationConfig) -> Value,
    /// `None` if the value is of another kind.
    set: fn(&mut GenerationConfig, &Value) -> Option<()>,
}

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "max_new_tokens",
        help: "tokens to write at most",
        get: |c| json!(c.max_new_tokens),
        set: |c, v| assign(&mut c.max_new_tokens, v),
    },
    Setting {
        name: "temperature",
        help: "a number; 0 takes the most probable token",
        get: |c| number(c.temperature),
        set: |c, v| assign(&mut c.temperature, v),
    },
    Setting {
        name: "top_k",
        help: "draw from this many tokens; 0 from all",
        get: |c| json!(c.top_k),
        set: |c, v| assign(&mut c.top_k, v),
    },
    Setting {
        name: "top_p",
        help: "draw from tokens that sum to this; 1 from all",
        get: |c| number(c.top_p),
        set: |c, v| assign(&mut c.top_p, v),
    },
    Setting {
        name: "min_p",
        help: "draw from tokens this probable beside the best",
        get: |c| number(c.min_p),
        set: |c, v| assign(&mut c.min_p, v),
    },
    Setting {
        name: "typical_p",
        help: "draw from typical tokens that sum to this",
        get: |c| number(c.typical_p),
        set: |c, v| assign(&mut c.typical_p, v),
    },
    Setting {
        name: "repetition_penalty",
        help: "divide the logits of repeated tokens by this",
        get: |c| number(c.repetition_penalty),
        set: |c, v| assign(&mut c.repetition_penalty, v),
    },
    Setting {
        name: "repeat_last_n",
        help: "how many tokens back repetition counts",
        get: |c| json!(c.repeat_last_n),
        set: |c, v| assign(&mut c.repeat_last_n, v),
    },
    Setting {
        name: "presence_penalty",
        help: "take this from the logits of tokens seen",
        get: |c| number(c.presence_penalty),
        set: |c, v| assign(&mut c.presence_penalty, v),
    },
    Setting {
        name: "frequency_penalty",
        help: "take this for each time that a token was seen",
        get: |c| number(c.frequency_penalty),
        set: |c, v| assign(&mut c.frequency_penalty, v),
    },
    Setting {
        name: "logit_bias",
        help: "ID=VALUE or a list [\"ID=VALUE\"], added to logits",
        get: |c| c.logit_bias.iter().map(|&(id, bias)| LogitBias(id, bias).to_string()).collect(),
        set: |c, v| {
            let bias = |text: String| text.parse().ok().map(|LogitBias(id, bias)| (id, bias));
            c.logit_bias = texts(v)?.into_iter().map(bias).collect::<Option<_>>()?;
            Some(())
        },
    },
    Setting {
        name: "seed",
        help: "a number for the same text again, or null",
        get: |c| json!(c.seed),
        set: |c, v| assign(&mut c.seed, v),
    },
    Setting {
        name: "stop",
        help: "a text to stop before, or a list [\"A\", \"B\"]",
        get: |c| json!(c.stop),
        set: |c, v| {
            c.stop = texts(v)?;
            Some(())
        },
    },
    Setting {
        name: "context_policy",
        help: "when full: drop_oldest_turns, shift or error",
        get: |c| {
            let policy = c.context_policy.unwrap_or(ContextPolicy::DropOldestTurns);
            POLICIES.iter().find(|(_, p)| *p == policy).map_or(Value::Null, |(name, _)| json!(name))
        },
        set: |c, v| {
            let (_, policy) = POLICIES.iter().find(|(name, _)| v == name)?;
            c.context_policy = Some(*policy);
            Some(())
        },
    },
    Setting {
        name: "ignore_eos",
        help: "true goes on after the model's end token",
        get: |c| json!(c.ignore_eos),
        set: |c, v| assign(&mut c.ignore_eos, v),
    },
];

const POLICIES: &[(&str, ContextPolicy)] = &[
    ("drop_oldest_turns", ContextPolicy::DropOldestTurns),
    ("shift", ContextPolicy::Shift),
    ("error", ContextPolicy::Error),
];

/// The option of that name; `-` is as good as `_`.
pub(super) fn find(name: &str) -> anyhow::Result<&'static Setting> {
    let name = name.replace('-', "_");
    SETTINGS.iter().find(|setting| setting.name == name).with_context(|| {
        let names: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
        format!("there is no option {name} (there are: {})", names.join(", "))
    })
}

impl Setting {
    pub(super) fn get(&self, config: &GenerationConfig) -> Value {
        (self.get)(config)
    }

    /// `config` with `value` here, checked.
    pub(super) fn set(
        &self,
        config: &GenerationConfig,
        value: &Value,
    ) -> anyhow::Result<GenerationConfig> {
        let mut changed = config.clone();
        (self.set)(&mut changed, value)
            .with_context(|| format!("{} cannot be {value}: {}", self.name, self.help))?;
        changed.validate()?;
        Ok(changed)
    }

    /// The value that `text` means: JSON, or else the text itself. `default` is the library's.
    pub(super) fn value(&self, text: &str) -> Value {
        match text {
            "default" => self.get(&GenerationConfig::default()),
            text => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        }
    }
}

/// All options as a JSON object.
pub(super) fn to_json(config: &GenerationConfig) -> Map<String, Value> {
    SETTINGS.iter().map(|setting| (setting.name.to_owned(), setting.get(config))).collect()
}

/// `config` with the options of a JSON object in it.
pub(super) fn from_json(
    config: &GenerationConfig,
    object: &Map<String, Value>,
) -> anyhow::Result<GenerationConfig> {
    object.iter().try_fold(config.clone(), |config, (name, value)| find(name)?.set(&config, value))
}

fn assign<T: DeserializeOwned>(place: &mut T, value: &Value) -> Option<()> {
    *place = T::deserialize(value).ok()?;
    Some(())
}

/// The number as a person would write it: 0.7, and not the f32 nearest to it in seventeen digits.
fn number(x: f32) -> Value {
    x.to_string().parse().map_or(Value::Null, |x: f64| json!(x))
}

/// A text, or a list of texts.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        value => Vec::deserialize(value).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(config: &GenerationConfig, name: &str, text: &str) -> anyhow::Result<GenerationConfig> {
        let setting = find(name)?;
        setting.set(config, &setting.value(text))
    }

    #[test]
    fn every_option_takes_its_values_from_text_and_shows_them() {
        let d = GenerationConfig::default;
        let cases = [
            ("max_new_tokens", "7", "7", GenerationConfig { max_new_tokens: 7, ..d() }),
            ("temperature", "0.1", "0.1", GenerationConfig { temperature: 0.1, ..d() }),
            ("temperature", "2", "2.0", GenerationConfig { temperature: 2.0, ..d() }),
            ("top-k", "0", "0", GenerationConfig { top_k: 0, ..d() }),
            ("top_p", "0.5", "0.5", GenerationConfig { top_p: 0.5, ..d() }),
            ("min_p", "0.05", "0.05", GenerationConfig { min_p: 0.05, ..d() }),
            ("typical_p", "0.9", "0.9", GenerationConfig { typical_p: 0.9, ..d() }),
            ("repetition_penalty", "1", "1.0", GenerationConfig { repetition_penalty: 1.0, ..d() }),
            ("repeat_last_n", "8", "8", GenerationConfig { repeat_last_n: 8, ..d() }),
            (
                "presence_penalty",
                "-1.5",
                "-1.5",
                GenerationConfig { presence_penalty: -1.5, ..d() },
            ),
            ("frequency_penalty", "1", "1.0", GenerationConfig { frequency_penalty: 1.0, ..d() }),
            (
                "logit_bias",
                "50=-inf",
                r#"["50=-inf"]"#,
                GenerationConfig { logit_bias: vec![(50, f32::NEG_INFINITY)], ..d() },
            ),
            ("logit_bias", "[]", "[]", d()),
            (
                "seed",
                "18446744073709551615",
                "18446744073709551615",
                GenerationConfig { seed: Some(u64::MAX), ..d() },
            ),
            ("seed", "null", "null", d()),
            (
                "stop",
                "User:",
                r#"["User:"]"#,
                GenerationConfig { stop: vec!["User:".into()], ..d() },
            ),
            ("stop", r#""\n""#, r#"["\n"]"#, GenerationConfig { stop: vec!["\n".into()], ..d() }),
            (
                "stop",
                r#"["a", "b"]"#,
                r#"["a","b"]"#,
                GenerationConfig { stop: vec!["a".into(), "b".into()], ..d() },
            ),
            (
                "context_policy",
                "shift",
                r#""shift""#,
                GenerationConfig { context_policy: Some(ContextPolicy::Shift), ..d() },
            ),
            ("ignore_eos", "true", "true", GenerationConfig { ignore_eos: true, ..d() }),
        ];
        for (name, text, shown, expected) in &cases {
            let config = set(&d(), name, text).expect(name);
            assert_eq!(config, *expected, "{name} {text}");
            let setting = find(name).expect(name);
            assert_eq!(setting.get(&config).to_string(), *shown, "{name} {text}");
            let back = set(&config, name, "default").expect(name);
            assert_eq!(setting.get(&back), setting.get(&d()), "{name}");
        }
        for Setting { name, .. } in SETTINGS {
            assert!(
                cases.iter().any(|case| case.0.replace('-', "_") == *name),
                "no case for {name}"
            );
        }
    }

    #[test]
    fn wrong_values_are_errors_that_name_the_option() {
        for (name, text) in [
            ("temperature", "hot"),
            ("temperature", "-1"),
            ("temperature", "1e40"),
            ("temperature", "NaN"),
            ("top_p", "1.5"),
            ("top_k", "-1"),
            ("top_k", "2.5"),
            ("max_new_tokens", "99999999999999999999999"),
            ("seed", "\"7\""),
            ("stop", "[1]"),
            ("stop", "[\"\"]"),
            ("logit_bias", "50"),
            ("logit_bias", "50=inf"),
            ("context_policy", "later"),
            ("ignore_eos", "yes"),
        ] {
            let error = set(&GenerationConfig::default(), name, text).expect_err(text).to_string();
            assert!(error.contains(name), "{name} {text}: {error}");
        }
        let error = find("heat").err().expect("no such option").to_string();
        assert!(error.contains("heat") && error.contains("temperature"), "{error}");
    }

    #[test]
    fn options_survive_json() {
        let config = GenerationConfig {
            temperature: 0.1,
            logit_bias: vec![(1, f32::NEG_INFINITY), (2, -0.3)],
            seed: Some(u64::MAX),
            stop: vec!["\n".into()],
            context_policy: Some(ContextPolicy::Error),
            ..GenerationConfig::default()
        };
        let text = serde_json::to_string(&to_json(&config)).expect("JSON");
        let object = serde_json::from_str(&text).expect("JSON");
        let back = from_json(&GenerationConfig::greedy(), &object).expect("valid");
        assert_eq!(back, config);
    }
}
