//! One text in the making: its tokens, their keys and values, and how to go on.

use super::generation::{Held, PROMPT_CHUNK, shift};
use super::{Completion, ContextPolicy, Generation, GenerationConfig, Hooks};
use crate::error::{Error, Result};
use crate::model::{Adapter, Batch, CacheType, KvCache, Model, Step, Want};
use crate::tokenizer::Specials;

/// One sequence of tokens and its key/value cache. Many sessions share one [`Model`].
///
/// The cache always holds a beginning of the tokens, so a session stays usable whatever happens.
///
/// With an encoder-decoder model (T5) the prompt is read by the encoder when the first new token is
/// drawn, and what follows is the answer: it starts as a text of its own, [`resume`](Self::resume)
/// goes on with it, and so does [`append`](Self::append) once there is one.
///
/// ```no_run
/// use halfbyte::{GenerationConfig, Model};
///
/// # fn main() -> halfbyte::Result<()> {
/// let model = Model::open("groovy.gguf")?;
/// let mut session = model.session();
/// for piece in session.generate("Once upon a time", &GenerationConfig::default())? {
///     print!("{}", piece?.text);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Session {
    pub(super) model: Model,
    pub(super) cache: KvCache,
    pub(super) tokens: Vec<u32>,
    pub(super) hooks: Hooks,
    pub(super) cache_type: CacheType,
}

/// Whether a prompt is the session's past, or takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Past {
    Continued,
    Replaced,
}

impl Model {
    /// A fresh session.
    pub fn session(&self) -> Session {
        Session {
            model: self.clone(),
            cache: self.new_cache(),
            tokens: Vec::new(),
            hooks: Hooks::default(),
            cache_type: self.cache_type(),
        }
    }

    /// Generates once from `prompt`, without keeping a session.
    ///
    /// # Errors
    ///
    /// As [`Session::generate`] and [`Generation::complete`].
    pub fn generate(&self, prompt: &str, config: &GenerationConfig) -> Result<Completion> {
        self.session().generate(prompt, config)?.complete()
    }

    /// The tokens that a prompt is read as: BOS as the file says, and for an empty text in any case.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`].
    pub fn prompt_tokens(&self, prompt: &str) -> Result<Vec<u32>> {
        let tokenizer = self.tokenizer()?;
        let mut tokens = tokenizer.encode_prompt(prompt, Specials::AsText)?;
        if tokens.is_empty() {
            tokens.extend(tokenizer.bos());
        }
        Ok(tokens)
    }

    /// Checks that every token is in the vocabulary.
    pub(super) fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        let vocab_size = self.config().vocab_size;
        match tokens.iter().find(|&&token| token as usize >= vocab_size) {
            Some(token) => Err(Error::config(
                "tokens",
                format!("{token} is outside the vocabulary of {vocab_size}"),
            )),
            None => Ok(()),
        }
    }

    /// Checks that every biased token is in the vocabulary.
    fn check_biases(&self, config: &GenerationConfig) -> Result<()> {
        let vocab_size = self.config().vocab_size;
        match config.logit_bias.iter().find(|(token, _)| *token as usize >= vocab_size) {
            Some((token, _)) => Err(Error::config(
                "logit_bias",
                format!("{token} is outside the vocabulary of {vocab_size}"),
            )),
            None => Ok(()),
        }
    }

    /// Checks that the model can do what the options want when the context is full.
    fn check_policy(&self, config: &GenerationConfig) -> Result<()> {
        if config.context_policy == Some(ContextPolicy::Shift) && self.config().encoder.is_some() {
            let reason = "shift is not for encoder-decoder models, whose prompt is read at once: \
                          choose another policy";
            return Err(Error::config("context_policy", reason));
        }
        Ok(())
    }

    /// [`Error::ContextFull`] if `needed` tokens do not fit.
    pub(super) fn check_fits(&self, needed: usize) -> Result<()> {
        let context_length = self.context_length();
        if needed > context_length {
            return Err(Error::ContextFull { needed, context_length });
        }
        Ok(())
    }
}

impl Session {
    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Hangs a brake, a progress bar or a logits processor into all further work.
    pub fn set_hooks(&mut self, hooks: Hooks) {
        self.hooks = hooks;
    }

    /// Reads tokens with `adapters`, each multiplied by its number, in place of those so far.
    ///
    /// The weights stay where they are. The tokens stay, too; their keys and values are computed
    /// anew when they are next needed, unless nothing changes. What goes on from here, forks
    /// included, is the same bit for bit as in a session that had these adapters from the start.
    ///
    /// # Errors
    ///
    /// As [`Model::with_adapters`]; then the session is as before.
    pub fn set_adapters(&mut self, adapters: &[(Adapter, f32)]) -> Result<()> {
        self.model = self.model.with_adapters(adapters)?;
        self.cache.adapt(self.model.low_ranks());
        Ok(())
    }

    /// The adapters that tokens are read with, and what each is multiplied by.
    pub fn adapters(&self) -> &[(Adapter, f32)] {
        self.model.adapters()
    }

    /// The tokens so far: prompt and generated ones.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Those of the tokens so far whose keys and values the session has: a beginning of them.
    pub fn cached_tokens(&self) -> &[u32] {
        &self.tokens[..self.cache.len().min(self.tokens.len())]
    }

    /// How many of `tokens`, from the first one on, the session has keys and values of.
    pub fn n_common(&self, tokens: &[u32]) -> usize {
        self.cached_tokens().iter().zip(tokens).take_while(|(a, b)| a == b).count()
    }

    /// Tokens that the session may hold.
    pub fn context_length(&self) -> usize {
        self.model.context_length()
    }

    /// How the session keeps keys and values.
    pub fn cache_type(&self) -> CacheType {
        self.cache_type
    }

    /// Bytes of keys and values that the session holds now.
    pub fn cache_bytes(&self) -> usize {
        self.cache.n_bytes()
    }

    /// Generates from `prompt`, which is the whole text: it replaces what the session held.
    ///
    /// Keys and values of the common beginning are kept; the result is the same bit for bit as in
    /// a fresh session. Plain text: special tokens are not parsed; BOS comes as the file says, and
    /// for an empty prompt in any case.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for an option out of range, or an empty prompt if the model has no BOS;
    /// [`Error::ContextFull`]; [`Error::Tokenizer`]. Nothing is computed then, and the session is as
    /// before.
    pub fn generate(&mut self, prompt: &str, config: &GenerationConfig) -> Result<Generation<'_>> {
        let tokens = self.model.prompt_tokens(prompt)?;
        self.start(tokens, config, Past::Replaced)
    }

    /// Generates from the token ids of a whole text, as [`generate`](Self::generate).
    ///
    /// # Errors
    ///
    /// As [`generate`](Self::generate); [`Error::Config`] for a token outside the vocabulary.
    pub fn generate_tokens(
        &mut self,
        prompt: &[u32],
        config: &GenerationConfig,
    ) -> Result<Generation<'_>> {
        self.start(prompt.to_vec(), config, Past::Replaced)
    }

    /// Generates on from what the session holds.
    ///
    /// # Errors
    ///
    /// As [`generate`](Self::generate).
    pub fn resume(&mut self, config: &GenerationConfig) -> Result<Generation<'_>> {
        self.start(self.tokens.clone(), config, Past::Continued)
    }

    /// As [`generate`](Self::generate), with the session inside: a generation that borrows nothing.
    ///
    /// [`Generation::into_session`] gives the session back; [`fork`](Self::fork) it first to keep
    /// it in any case.
    ///
    /// # Errors
    ///
    /// As [`generate`](Self::generate); the session is lost then.
    pub fn into_generation(
        self,
        prompt: &str,
        config: &GenerationConfig,
    ) -> Result<Generation<'static>> {
        let tokens = self.model.prompt_tokens(prompt)?;
        self.into_generation_tokens(&tokens, config)
    }

    /// As [`generate_tokens`](Self::generate_tokens), with the session inside.
    ///
    /// # Errors
    ///
    /// As [`into_generation`](Self::into_generation).
    pub fn into_generation_tokens(
        mut self,
        prompt: &[u32],
        config: &GenerationConfig,
    ) -> Result<Generation<'static>> {
        let reused = self.rewind(prompt.to_vec(), config, Past::Replaced)?;
        Generation::new(Held::Owned(Box::new(self)), config, reused)
    }

    /// As [`resume`](Self::resume), with the session inside.
    ///
    /// # Errors
    ///
    /// As [`into_generation`](Self::into_generation).
    pub fn into_resumed(mut self, config: &GenerationConfig) -> Result<Generation<'static>> {
        let reused = self.rewind(self.tokens.clone(), config, Past::Continued)?;
        Generation::new(Held::Owned(Box::new(self)), config, reused)
    }

    fn start(
        &mut self,
        prompt: Vec<u32>,
        config: &GenerationConfig,
        past: Past,
    ) -> Result<Generation<'_>> {
        let reused = self.rewind(prompt, config, past)?;
        Generation::new(Held::Borrowed(self), config, reused)
    }

    /// Makes `prompt` the session's tokens; returns how many of them are cached.
    fn rewind(
        &mut self,
        mut prompt: Vec<u32>,
        config: &GenerationConfig,
        past: Past,
    ) -> Result<usize> {
        config.validate()?;
        self.model.check_policy(config)?;
        self.model.check_biases(config)?;
        if prompt.is_empty() {
            return Err(Error::config("prompt", "holds no token to start from"));
        }
        self.model.check_tokens(&prompt)?;
        if config.context_policy == Some(ContextPolicy::Shift) && self.context_length() > 1 {
            while prompt.len() >= self.context_length() {
                shift(&self.model, &mut prompt);
            }
        }
        // One new token must have room, or there is nothing to generate.
        self.model.check_fits(prompt.len() + 1)?;
        if past == Past::Replaced {
            self.cache.reopen();
        }
        // The last token's logits are not kept, so it is always computed.
        let reused = self.n_common(&prompt).min(prompt.len() - 1);
        self.cache.truncate(reused);
        self.tokens = prompt;
        Ok(reused)
    }

    /// Appends `text` and computes its keys and values. The first text gets BOS as the file says.
    ///
    /// # Errors
    ///
    /// [`Error::ContextFull`] before anything is computed; [`Error::Tokenizer`];
    /// [`Error::Cancelled`], after which the tokens stay appended.
    pub fn append(&mut self, text: &str) -> Result<()> {
        let tokenizer = self.model.tokenizer()?;
        let tokens = if self.tokens.is_empty() {
            tokenizer.encode_prompt(text, Specials::AsText)?
        } else {
            tokenizer.encode(text, Specials::AsText)?
        };
        self.append_tokens(&tokens)
    }

    /// Appends token ids and computes their keys and values.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append); [`Error::Config`] for a token outside the vocabulary.
    pub fn append_tokens(&mut self, tokens: &[u32]) -> Result<()> {
        self.model.check_tokens(tokens)?;
        self.model.check_fits(self.tokens.len() + tokens.len())?;
        self.tokens.extend_from_slice(tokens);
        while self.cache.len() < self.tokens.len() {
            let start = self.cache.len();
            let end = self.tokens.len().min(start + PROMPT_CHUNK);
            let chunk = &self.tokens[start..end];
            let step = Step { cache: &mut self.cache, tokens: chunk, want: Want::Nothing };
            let cancel = self.hooks.cancel.as_ref();
            self.model.decoder().forward(&mut Batch { steps: vec![step], cancel })?;
            self.hooks.report(end, self.tokens.len());
        }
        Ok(())
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.tokens.clear();
        self.cache.truncate(0);
    }

    /// Forgets all tokens from `n_tokens` on.
    pub fn truncate(&mut self, n_tokens: usize) {
        self.tokens.truncate(n_tokens);
        self.cache.truncate(n_tokens);
    }

    /// An independent copy that goes on from here. Cheap: the past is shared, not copied.
    #[must_use]
    pub fn fork(&self) -> Self {
        self.clone()
    }
}
