//! Chat templates: messages → prompt text, by the file's Jinja template or a built-in row.

use std::path::Path;

use minijinja::Value;
use minijinja::value::Serde;

use super::{BuiltinTemplate, Message, jinja};
use crate::error::{Error, Result};
use crate::io::{Checkpoint, Metadata};
use crate::model::Model;
use crate::tokenizer::{Specials, Tokenizer};

/// Turns messages into the text that a model was trained on.
///
/// A Jinja template is parsed when it is first used, so a broken one never fails a model.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: Source,
    origin: TemplateOrigin,
    bos: String,
    eos: String,
}

#[derive(Clone, Debug)]
enum Source {
    Builtin(&'static BuiltinTemplate),
    Jinja(String),
}

/// Why a model has the chat template that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TemplateOrigin {
    /// The model's file brings it.
    File,
    /// A built-in one that the model's name (`general.name`) asks for.
    ModelName,
    /// A built-in one that the name of the file asks for.
    FileName,
    /// A built-in one whose special tokens are in the vocabulary.
    Vocabulary,
    /// The caller named or wrote it.
    Chosen,
}

impl TemplateOrigin {
    /// The origin in words, such as `the file`.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "the file",
            Self::ModelName => "built in, by the model's name",
            Self::FileName => "built in, by the file's name",
            Self::Vocabulary => "built in, by the vocabulary",
            Self::Chosen => "chosen",
        }
    }
}

impl Model {
    /// The file's own chat template, else the built-in one that fits the model's name, the file's
    /// name or the vocabulary, in this order.
    ///
    /// # Errors
    ///
    /// [`Error::Template`] listing the built-in ones if there is none of them.
    pub fn chat_template(&self) -> Result<ChatTemplate> {
        ChatTemplate::of(self.metadata(), self.path(), self.tokenizer().ok())
    }

    /// The prompt text of `messages`, ending where the assistant's answer begins if asked.
    ///
    /// # Errors
    ///
    /// As [`chat_template`](Self::chat_template) and [`ChatTemplate::apply`].
    pub fn apply_chat_template(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String> {
        self.chat_template()?.apply(messages, add_generation_prompt)
    }
}

impl ChatTemplate {
    fn new(source: Source, origin: TemplateOrigin, tokenizer: Option<&Tokenizer>) -> Self {
        let spelled = |token: fn(&Tokenizer) -> Option<u32>| {
            let tokenizer = tokenizer?;
            tokenizer.token_text(token(tokenizer)?)
        };
        Self {
            source,
            origin,
            bos: spelled(Tokenizer::bos).unwrap_or_default(),
            eos: spelled(Tokenizer::eos).unwrap_or_default(),
        }
    }

    /// The template that a model of `checkpoint` has, without loading it.
    ///
    /// # Errors
    ///
    /// As [`Model::chat_template`].
    pub fn of_checkpoint(checkpoint: &Checkpoint, tokenizer: Option<&Tokenizer>) -> Result<Self> {
        Self::of(checkpoint.metadata(), checkpoint.path(), tokenizer)
    }

    fn of(metadata: &Metadata, path: &Path, tokenizer: Option<&Tokenizer>) -> Result<Self> {
        if let Some(source) = metadata.str("tokenizer.chat_template")? {
            let source = Source::Jinja(source.to_owned());
            return Ok(Self::new(source, TemplateOrigin::File, tokenizer));
        }
        let name = metadata.str("general.name")?.unwrap_or_default();
        let by_model_name = || Some((BuiltinTemplate::for_model(name)?, TemplateOrigin::ModelName));
        let by_file_name = || {
            let name = path.file_name()?.to_string_lossy();
            Some((BuiltinTemplate::for_model(&name)?, TemplateOrigin::FileName))
        };
        let by_vocabulary = || {
            let tokenizer = tokenizer?;
            let row = BuiltinTemplate::for_tokens(|token| tokenizer.token_id(token).is_some())?;
            Some((row, TemplateOrigin::Vocabulary))
        };
        let found = by_model_name().or_else(by_file_name).or_else(by_vocabulary);
        let (row, origin) = found.ok_or_else(|| {
            Error::Template(format!(
                "{} has none; choose a built-in one by name ({})",
                path.display(),
                BuiltinTemplate::names()
            ))
        })?;
        Ok(Self::new(Source::Builtin(row), origin, tokenizer))
    }

    /// The built-in template of that name, for a model's special tokens.
    ///
    /// # Errors
    ///
    /// [`Error::Template`] listing the names there are.
    pub fn builtin(name: &str, model: &Model) -> Result<Self> {
        let row = BuiltinTemplate::find(name).ok_or_else(|| {
            let names = BuiltinTemplate::names();
            Error::Template(format!("no built-in template is called {name} (there are: {names})"))
        })?;
        Ok(Self::new(Source::Builtin(row), TemplateOrigin::Chosen, model.tokenizer().ok()))
    }

    /// A Jinja template as Hugging Face writes them, for a model's special tokens.
    pub fn jinja(source: impl Into<String>, model: &Model) -> Self {
        let source = Source::Jinja(source.into());
        Self::new(source, TemplateOrigin::Chosen, model.tokenizer().ok())
    }

    /// A Jinja template with these spellings of the special tokens, without any model.
    pub fn from_source(
        source: impl Into<String>,
        bos: impl Into<String>,
        eos: impl Into<String>,
    ) -> Self {
        let (source, origin) = (Source::Jinja(source.into()), TemplateOrigin::Chosen);
        Self { source, origin, bos: bos.into(), eos: eos.into() }
    }

    /// Where the template came from.
    pub fn origin(&self) -> TemplateOrigin {
        self.origin
    }

    /// The built-in template's name; `None` for a Jinja template.
    pub fn name(&self) -> Option<&'static str> {
        match &self.source {
            Source::Builtin(row) => Some(row.name),
            Source::Jinja(_) => None,
        }
    }

    /// Texts and special tokens that end an answer, besides the model's end token.
    pub fn stop(&self) -> &'static [&'static str] {
        match &self.source {
            Source::Builtin(row) => row.stop,
            Source::Jinja(_) => &[],
        }
    }

    /// The prompt text of `messages`, ending where the assistant's answer begins if asked.
    ///
    /// # Errors
    ///
    /// [`Error::Template`] if the template is broken, refuses these messages, takes too many steps
    /// or too much memory, or writes more than 1 MiB; [`Error::Threads`] if it cannot have a thread.
    pub fn apply(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        match &self.source {
            Source::Builtin(row) => Ok(row.render(messages, add_generation_prompt, &self.eos)),
            Source::Jinja(source) => jinja::render(jinja::Input {
                source: source.clone(),
                messages: messages.iter().map(jinja::message).collect(),
                n_bytes: messages.iter().map(|message| message.content.len()).sum(),
                tools: Value::from(()),
                add_generation_prompt,
                bos_token: self.bos.clone(),
                eos_token: self.eos.clone(),
            }),
        }
    }

    /// Whether the template can tell the model about tools; built-in ones cannot.
    pub fn knows_tools(&self) -> bool {
        matches!(&self.source, Source::Jinja(source) if source.contains("tools"))
    }

    /// As [`apply`](Self::apply), for messages as JSON that may have more than a role and a text
    /// (calls of tools, their results), and for descriptions of tools that the model may call.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply); [`Error::Template`] for a built-in template.
    pub fn apply_json(
        &self,
        messages: &[serde_json::Value],
        tools: &[serde_json::Value],
        add_generation_prompt: bool,
    ) -> Result<String> {
        let Source::Jinja(source) = &self.source else {
            let reason = "a built-in one takes messages of a role and a text, and no tools";
            return Err(Error::Template(reason.into()));
        };
        let n_bytes = messages.iter().chain(tools).map(|value| value.to_string().len()).sum();
        let value = |value| Value::from(Serde(value));
        jinja::render(jinja::Input {
            source: source.clone(),
            messages: messages.iter().map(value).collect(),
            n_bytes,
            tools: if tools.is_empty() { Value::from(()) } else { Value::from(Serde(tools)) },
            add_generation_prompt,
            bos_token: self.bos.clone(),
            eos_token: self.eos.clone(),
        })
    }

    /// The prompt tokens of `messages`, ending where the assistant's answer begins.
    ///
    /// Special tokens in the rendered text are parsed; BOS and EOS are as in
    /// [`Tokenizer::encode_prompt`].
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply); [`Error::Tokenizer`].
    pub fn prompt_tokens(&self, tokenizer: &Tokenizer, messages: &[Message]) -> Result<Vec<u32>> {
        tokenizer.encode_prompt(&self.apply(messages, true)?, Specials::Parse)
    }
}
