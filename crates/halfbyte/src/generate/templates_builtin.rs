//! The built-in chat templates, one row each. A new template is a new row.

use super::{Message, Role};

/// A chat template as data: what stands before and after each role's text.
///
/// `{eos}` in a text stands for the model's end token.
#[derive(Clone, Copy, Debug)]
pub struct BuiltinTemplate {
    /// The name to ask for it.
    pub name: &'static str,
    /// Parts of model names (lower case) that this template is for.
    pub models: &'static [&'static str],
    /// The system message of a conversation that brings none.
    pub default_system: &'static str,
    /// Around the system message, if there is one.
    pub system: (&'static str, &'static str),
    /// Between the system message and the first turn, always.
    pub intro: &'static str,
    /// Around a user's message.
    pub user: (&'static str, &'static str),
    /// Around an assistant's message.
    pub assistant: (&'static str, &'static str),
    /// Where the assistant's answer begins.
    pub prompt: &'static str,
    /// Texts and special tokens that end an answer.
    pub stop: &'static [&'static str],
}

const ALPACA_SYSTEM: &str = "Below is an instruction that describes a task. \
                             Write a response that appropriately completes the request.";

/// What GPT4All's chat program stopped on, whatever the model.
const GPT4ALL_STOP: &[&str] = &[
    "### Instruction",
    "### Prompt",
    "### Response",
    "### Human",
    "### Assistant",
    "### Context",
    "### System",
    "### User",
];

const NONE: BuiltinTemplate = BuiltinTemplate {
    name: "",
    models: &[],
    default_system: "",
    system: ("", ""),
    intro: "",
    user: ("", ""),
    assistant: ("", ""),
    prompt: "",
    stop: &[],
};

const VICUNA_V0: BuiltinTemplate = BuiltinTemplate {
    default_system: "A chat between a curious human and an artificial intelligence assistant. \
                     The assistant gives helpful, detailed, and polite answers to the human's \
                     questions.",
    system: ("", "\n"),
    user: ("### Human: ", "\n"),
    assistant: ("### Assistant: ", "\n"),
    prompt: "### Assistant:",
    stop: &["###"],
    ..NONE
};

/// Every built-in template; the first row whose `models` fit a model's name is its default.
///
/// Source: the projects' own training and chat code, as collected in their repositories:
/// nomic-ai/gpt4all, tatsu-lab/stanford_alpaca, lm-sys/FastChat (vicuna, koala, dolly, oasst,
/// stablelm, stable-vicuna).
pub static BUILTIN_TEMPLATES: &[BuiltinTemplate] = &[
    BuiltinTemplate {
        name: "halfbyte-stories",
        models: &["halfbyte-stories", "gptj-stories"],
        user: ("### Instruction:\n", "\n\n"),
        assistant: ("### Response:\n", "\n\n"),
        prompt: "### Response:\n",
        stop: &["### Instruction"],
        ..NONE
    },
    // GPT4All's for Nous Hermes and Falcon; above the row that has `gpt4all` in its names.
    BuiltinTemplate {
        name: "gpt4all-instruction",
        models: &["nous-hermes", "gpt4all-falcon"],
        system: ("", "\n"),
        user: ("### Instruction:\n", "\n"),
        assistant: ("### Response:\n", "\n"),
        prompt: "### Response:\n",
        stop: GPT4ALL_STOP,
        ..NONE
    },
    // The form that GPT4All-J (v1.0, breezy, jazzy, groovy) and snoozy were trained on: no headers
    // at all.
    BuiltinTemplate {
        name: "gpt4all-training",
        models: &["gpt4all", "breezy", "jazzy", "groovy", "snoozy"],
        user: ("", "\n"),
        assistant: ("", "{eos}"),
        ..NONE
    },
    // The Python package's `chat_completion`; its indentation and trailing spaces are in the text.
    BuiltinTemplate {
        name: "gpt4all-2023-05",
        system: ("", "\n"),
        intro: "### Instruction: \n            The prompt below is a question to answer, a task to \
                complete, or a conversation \n            to respond to; decide which and write an \
                appropriate response.\n",
        user: ("\n### Prompt:\n", ""),
        assistant: ("\n### Response:\n", ""),
        prompt: "\n### Response:",
        stop: GPT4ALL_STOP,
        ..NONE
    },
    // The chat program's.
    BuiltinTemplate {
        name: "gpt4all-2023-06",
        system: ("", "\n"),
        user: ("### Human:\n", "\n"),
        assistant: ("### Assistant:\n", "\n"),
        prompt: "### Assistant:\n",
        stop: GPT4ALL_STOP,
        ..NONE
    },
    BuiltinTemplate {
        name: "alpaca",
        models: &["alpaca"],
        default_system: ALPACA_SYSTEM,
        user: ("\n\n### Instruction:\n", ""),
        assistant: ("\n\n### Response:", "{eos}"),
        prompt: "\n\n### Response:",
        stop: &["### Instruction:"],
        ..NONE
    },
    // Above vicuna's rows: both names are in its own.
    BuiltinTemplate {
        name: "stablevicuna",
        models: &["stablevicuna", "stable-vicuna"],
        default_system: "### Assistant: I am StableVicuna, a large language model created by \
                         CarperAI. I am here to chat!",
        system: ("", "\n\n"),
        user: ("### Human: ", "\n"),
        assistant: ("### Assistant: ", "\n\n"),
        prompt: "### Assistant:",
        stop: &["###"],
        ..NONE
    },
    BuiltinTemplate {
        name: "vicuna-v0",
        models: &["vicuna-7b-v0", "vicuna-13b-v0", "vicuna-7b-delta-v0", "vicuna-13b-delta-v0"],
        ..VICUNA_V0
    },
    // The form of vicuna-v0; FastChat puts an example conversation in front, which is left out.
    BuiltinTemplate { name: "fastchat-t5", models: &["fastchat-t5"], ..VICUNA_V0 },
    BuiltinTemplate {
        name: "vicuna-v1.1",
        models: &["vicuna"],
        default_system: "A chat between a curious user and an artificial intelligence assistant. \
                         The assistant gives helpful, detailed, and polite answers to the user's \
                         questions.",
        system: ("", " "),
        user: ("USER: ", " "),
        assistant: ("ASSISTANT: ", "{eos}"),
        prompt: "ASSISTANT:",
        stop: &["USER:"],
        ..NONE
    },
    BuiltinTemplate {
        name: "koala",
        models: &["koala"],
        default_system: "BEGINNING OF CONVERSATION:",
        system: ("", " "),
        user: ("USER: ", " "),
        assistant: ("GPT: ", "{eos}"),
        prompt: "GPT:",
        stop: &["USER:"],
        ..NONE
    },
    BuiltinTemplate {
        name: "dolly",
        models: &["dolly"],
        default_system: ALPACA_SYSTEM,
        system: ("", "\n\n"),
        user: ("### Instruction:\n", "\n\n"),
        assistant: ("### Response:\n", "### End\n\n"),
        prompt: "### Response:\n",
        stop: &["### End"],
        ..NONE
    },
    BuiltinTemplate {
        name: "oasst-pythia",
        models: &["oasst", "openassistant"],
        user: ("<|prompter|>", "{eos}"),
        assistant: ("<|assistant|>", "{eos}"),
        prompt: "<|assistant|>",
        stop: &["<|prompter|>"],
        ..NONE
    },
    BuiltinTemplate {
        name: "stablelm",
        models: &["stablelm"],
        default_system: "# StableLM Tuned (Alpha version)\n\
            - StableLM is a helpful and harmless open-source AI language model developed by \
            StabilityAI.\n\
            - StableLM is excited to be able to help the user, but will refuse to do anything that \
            could be considered harmful to the user.\n\
            - StableLM is more than just an information source, StableLM is also able to write \
            poetry, short stories, and make jokes.\n\
            - StableLM will refuse to participate in anything that could harm a human.\n",
        system: ("<|SYSTEM|>", ""),
        user: ("<|USER|>", ""),
        assistant: ("<|ASSISTANT|>", ""),
        prompt: "<|ASSISTANT|>",
        stop: &["<|USER|>", "<|ASSISTANT|>", "<|SYSTEM|>", "<|padding|>", "<|endoftext|>"],
        ..NONE
    },
];

/// Special tokens that only the models of one template have; the first row that a vocabulary has all
/// of names it.
static VOCABULARIES: &[(&str, &[&str])] = &[
    ("oasst-pythia", &["<|prompter|>", "<|assistant|>"]),
    ("stablelm", &["<|SYSTEM|>", "<|USER|>", "<|ASSISTANT|>"]),
    ("dolly", &["### End", "### Instruction:"]),
];

impl BuiltinTemplate {
    /// The template of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        BUILTIN_TEMPLATES.iter().find(|row| row.name == name)
    }

    /// The template for a model of that name (`general.name`).
    pub fn for_model(model_name: &str) -> Option<&'static Self> {
        let name = model_name.to_lowercase().replace([' ', '_'], "-");
        BUILTIN_TEMPLATES.iter().find(|row| row.models.iter().any(|part| name.contains(part)))
    }

    /// The template for a model with such tokens; `has` says whether its vocabulary has one.
    pub fn for_tokens(has: impl Fn(&str) -> bool) -> Option<&'static Self> {
        let fits = |tokens: &[&str]| tokens.iter().all(|token| has(token));
        let (name, _) = VOCABULARIES.iter().find(|(_, tokens)| fits(tokens))?;
        Self::find(name)
    }

    /// The names of all templates, for messages.
    pub fn names() -> String {
        BUILTIN_TEMPLATES.iter().map(|row| row.name).collect::<Vec<_>>().join(", ")
    }

    /// The prompt text of `messages`, ending where the assistant's answer begins if asked.
    ///
    /// An assistant's text is trimmed: models answer with the space that belongs to the template.
    pub(super) fn render(&self, messages: &[Message], add_prompt: bool, eos: &str) -> String {
        let mut out = String::new();
        let mut wrap = |(before, after): (&str, &str), text: &str| {
            out.push_str(&before.replace("{eos}", eos));
            out.push_str(text);
            out.push_str(&after.replace("{eos}", eos));
        };
        let turns = match messages.split_first() {
            Some((first, turns)) if first.role == Role::System => {
                wrap(self.system, &first.content);
                turns
            }
            _ => {
                if !self.default_system.is_empty() {
                    wrap(self.system, self.default_system);
                }
                messages
            }
        };
        wrap((self.intro, ""), "");
        for message in turns {
            match message.role {
                Role::System => wrap(self.system, &message.content),
                Role::User => wrap(self.user, &message.content),
                Role::Assistant => wrap(self.assistant, message.content.trim()),
            }
        }
        if add_prompt {
            wrap((self.prompt, ""), "");
        }
        out
    }
}
