//! A conversation: messages, the template that turns them into a prompt, and a session.

use super::{ChatTemplate, ContextPolicy, Generation, GenerationConfig, Hooks, Session};
use crate::error::Result;
use crate::model::{Adapter, Model};

/// Who says a [`Message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// Instructions for the whole conversation; first if at all.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// A conversation over a [`Session`].
///
/// Under [`ContextPolicy::DropOldestTurns`] (the default here) a conversation that outgrows the
/// context is read without its oldest turns, down to half of the context at once, so that not every
/// later answer must read the whole again; the system message stays. [`messages`](Self::messages)
/// still has them all.
///
/// ```no_run
/// # fn main() -> halfbyte::Result<()> {
/// let model = halfbyte::Model::open("groovy.gguf")?;
/// let mut chat = model.chat()?;
/// chat.set_system("You are terse.");
/// for piece in chat.say("Hi")? {
///     print!("{}", piece?.text);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Chat {
    session: Session,
    template: ChatTemplate,
    config: GenerationConfig,
    messages: Vec<Message>,
    /// The first message besides the system message that the context has room for.
    first_kept: usize,
}

impl Role {
    /// The role as templates spell it: `system`, `user`, `assistant`.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }

    /// The role of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::System, Self::User, Self::Assistant].into_iter().find(|role| role.name() == name)
    }
}

impl Message {
    /// A message of `role`.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }

    /// Instructions for the whole conversation.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new(Role::System, content)
    }

    /// A message of the person.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new(Role::User, content)
    }

    /// A message of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new(Role::Assistant, content)
    }
}

impl Model {
    /// A conversation with the model's own template and default options.
    ///
    /// # Errors
    ///
    /// As [`chat_template`](Self::chat_template).
    pub fn chat(&self) -> Result<Chat> {
        Ok(Chat::new(self.session(), self.chat_template()?, GenerationConfig::default()))
    }
}

impl Chat {
    /// A conversation over `session`, whose present tokens will be replaced.
    pub fn new(session: Session, template: ChatTemplate, config: GenerationConfig) -> Self {
        Self { session, template, config, messages: Vec::new(), first_kept: 0 }
    }

    /// Says `text` to the model; the answer becomes the last message as it is generated.
    ///
    /// # Errors
    ///
    /// As [`answer`](Self::answer); then the message is taken back.
    pub fn say(&mut self, text: &str) -> Result<Generation<'_>> {
        let n_before = self.messages.len();
        self.messages.push(Message::user(text));
        self.begin(n_before)
    }

    /// Answers the messages as they are; the answer becomes the last message.
    ///
    /// # Errors
    ///
    /// [`Error::Template`](crate::Error::Template), and those of [`Session::generate`].
    pub fn answer(&mut self) -> Result<Generation<'_>> {
        self.begin(self.messages.len())
    }

    /// Answers the messages as they are in a generation that borrows nothing, and so may be held
    /// beside the conversation. That stays as it is until [`accept`](Self::accept).
    ///
    /// # Errors
    ///
    /// As [`answer`](Self::answer).
    pub fn answer_apart(&mut self) -> Result<Generation<'static>> {
        let (tokens, config) = self.prepare()?;
        self.session.fork().into_generation_tokens(&tokens, &config)
    }

    /// Takes what [`answer_apart`](Self::answer_apart) wrote so far as the last message, and goes
    /// on from there.
    pub fn accept(&mut self, answer: Generation<'static>) {
        self.messages.push(Message::assistant(answer.text()));
        self.session = answer.into_session();
    }

    /// Starts an answer; if that fails, only `n_before` messages stay.
    fn begin(&mut self, n_before: usize) -> Result<Generation<'_>> {
        let first_kept = self.first_kept;
        let prepared = self.prepare();
        match prepared.and_then(|(tokens, config)| self.session.generate_tokens(&tokens, &config)) {
            Ok(generation) => {
                let end = self.messages.len();
                self.messages.push(Message::assistant(""));
                Ok(generation.transcribe_to(&mut self.messages[end].content))
            }
            Err(error) => {
                self.messages.truncate(n_before);
                self.first_kept = first_kept;
                Err(error)
            }
        }
    }

    /// The prompt's tokens, without the turns that have no room, and the options for this answer.
    fn prepare(&mut self) -> Result<(Vec<u32>, GenerationConfig)> {
        let mut config = self.config.clone();
        for &stop in self.template.stop() {
            if !config.stop.iter().any(|s| s == stop) {
                config.stop.push(stop.to_owned());
            }
        }
        let policy = *config.context_policy.get_or_insert(ContextPolicy::DropOldestTurns);
        let context_length = self.session.context_length();
        let room = config.max_new_tokens.min(context_length / 4).max(1);
        let mut tokens = self.prompt_tokens()?;
        if policy == ContextPolicy::DropOldestTurns && tokens.len() + room > context_length {
            while tokens.len() > context_length / 2 && self.drop_turn() {
                tokens = self.prompt_tokens()?;
            }
        }
        Ok((tokens, config))
    }

    fn prompt_tokens(&self) -> Result<Vec<u32>> {
        let start = self.first_kept.max(self.n_system()).min(self.messages.len());
        let (system, kept) = (&self.messages[..self.n_system()], &self.messages[start..]);
        self.template.prompt_tokens(self.session.model().tokenizer()?, &[system, kept].concat())
    }

    /// Leaves out the oldest turn; false if only the last one is left.
    fn drop_turn(&mut self) -> bool {
        let start = self.first_kept.max(self.n_system()) + 1;
        let next = (start..self.messages.len()).find(|&i| self.messages[i].role == Role::User);
        self.first_kept = next.unwrap_or(self.first_kept);
        next.is_some()
    }

    /// 1 if the conversation begins with a system message, else 0.
    fn n_system(&self) -> usize {
        usize::from(self.messages.first().is_some_and(|message| message.role == Role::System))
    }

    /// The messages so far, oldest first.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The messages, to edit: what is still common with the past is not computed again.
    pub fn messages_mut(&mut self) -> &mut Vec<Message> {
        self.first_kept = 0;
        &mut self.messages
    }

    /// Replaces the messages. If they only continue the present ones, the turns that the context had
    /// no room for stay left out.
    pub fn set_messages(&mut self, messages: Vec<Message>) {
        if !messages.starts_with(&self.messages) {
            self.first_kept = 0;
        }
        self.messages = messages;
    }

    /// Sets, replaces or (with an empty text) removes the system message.
    pub fn set_system(&mut self, text: &str) {
        let n_system = self.n_system();
        let system = (!text.is_empty()).then(|| Message::system(text));
        self.messages_mut().splice(..n_system, system);
    }

    /// Forgets all messages but the system message.
    pub fn clear(&mut self) {
        let n_system = self.n_system();
        self.messages_mut().truncate(n_system);
    }

    /// How answers are generated.
    pub fn config(&self) -> &GenerationConfig {
        &self.config
    }

    /// How answers are generated, to change.
    pub fn config_mut(&mut self) -> &mut GenerationConfig {
        &mut self.config
    }

    /// Hangs a brake, a progress bar or a logits processor into all further answers.
    pub fn set_hooks(&mut self, hooks: Hooks) {
        self.session.set_hooks(hooks);
    }

    /// Answers with `adapters`; see [`Session::set_adapters`].
    ///
    /// # Errors
    ///
    /// As [`Session::set_adapters`].
    pub fn set_adapters(&mut self, adapters: &[(Adapter, f32)]) -> Result<()> {
        self.session.set_adapters(adapters)
    }

    /// The template.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// The session below.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Messages that the context had no room for in the last answer.
    pub fn n_dropped(&self) -> usize {
        self.first_kept.saturating_sub(self.n_system())
    }
}
