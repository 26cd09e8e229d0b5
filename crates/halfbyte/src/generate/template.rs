//! Chat templates: messages → prompt text, by the file's Jinja template or a built-in row.

use super::{BuiltinTemplate, Message, jinja};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::tokenizer::{Specials, Tokenizer};

/// Turns messages into the text that a model was trained on.
///
/// A Jinja template is parsed when it is first used, so a broken one never fails a model.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: Source,
    bos: String,
    eos: String,
}

#[derive(Clone, Debug)]
enum Source {
    Builtin(&'static BuiltinTemplate),
    Jinja(String),
}

impl Model {
    /// The file's own chat template, else the built-in one for the model's name.
    ///
    /// # Errors
    ///
    /// [`Error::Template`] listing the built-in ones if there is neither.
    pub fn chat_template(&self) -> Result<ChatTemplate> {
        if let Some(source) = self.metadata().str("tokenizer.chat_template")? {
            return Ok(ChatTemplate::jinja(source, self));
        }
        let name = self.metadata().str("general.name")?.unwrap_or_default();
        let row = BuiltinTemplate::for_model(name).ok_or_else(|| {
            Error::Template(format!(
                "{} has none; choose a built-in one by name ({})",
                self.path().display(),
                BuiltinTemplate::names()
            ))
        })?;
        Ok(ChatTemplate::new(Source::Builtin(row), self))
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
    fn new(source: Source, model: &Model) -> Self {
        let spelled = |token: fn(&Tokenizer) -> Option<u32>| {
            let tokenizer = model.tokenizer().ok()?;
            tokenizer.token_text(token(tokenizer)?)
        };
        Self {
            source,
            bos: spelled(Tokenizer::bos).unwrap_or_default(),
            eos: spelled(Tokenizer::eos).unwrap_or_default(),
        }
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
        Ok(Self::new(Source::Builtin(row), model))
    }

    /// A Jinja template as Hugging Face writes them, for a model's special tokens.
    pub fn jinja(source: impl Into<String>, model: &Model) -> Self {
        Self::new(Source::Jinja(source.into()), model)
    }

    /// A Jinja template with these spellings of the special tokens, without any model.
    pub fn from_source(
        source: impl Into<String>,
        bos: impl Into<String>,
        eos: impl Into<String>,
    ) -> Self {
        Self { source: Source::Jinja(source.into()), bos: bos.into(), eos: eos.into() }
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
    /// or too much memory, or writes more than 1 MiB.
    pub fn apply(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        match &self.source {
            Source::Builtin(row) => Ok(row.render(messages, add_generation_prompt, &self.eos)),
            Source::Jinja(source) => jinja::render(jinja::Input {
                source: source.clone(),
                messages: messages.to_vec(),
                add_generation_prompt,
                bos_token: self.bos.clone(),
                eos_token: self.eos.clone(),
            }),
        }
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
