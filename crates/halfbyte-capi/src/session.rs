//! Sessions: one text in the making, lent to one call at a time.

use std::ffi::c_char;
use std::sync::{Arc, Mutex, PoisonError};

use halfbyte::{Chat, GenerationConfig};

use crate::boundary::boundary;
use crate::handles::{self, Handle};
use crate::model::{Model, hb_model};
use crate::pointers::Pointers;
use crate::status::{Failure, HB_BUSY, HB_OK, Outcome, hb_status};

/// One text with its keys and values, kept between calls, so that what stays the same is not
/// computed again. A handle. One call at a time: a second one gives HB_BUSY at once.
pub struct hb_session {
    _private: [u8; 0],
}

impl Handle for hb_session {
    type Object = Session;
    const WHAT: &'static str = "session";
}

/// A session, which is lent to one call or generation at a time.
pub(crate) struct Session {
    pub(crate) model: Arc<Model>,
    text: Mutex<Option<Text>>,
}

/// What a session holds.
pub(crate) enum Text {
    Plain(halfbyte::Session),
    /// A conversation, which knows what the context had no room for; by this template.
    Chat(Box<Chat>, Option<String>),
}

/// A session's text, which goes home when this is dropped.
pub(crate) struct Lease {
    home: Arc<Session>,
    text: Option<Text>,
}

impl Session {
    fn new(model: Arc<Model>, session: halfbyte::Session) -> Arc<Self> {
        Arc::new(Self { model, text: Mutex::new(Some(Text::Plain(session))) })
    }

    /// Lends the text, or says that it is in use.
    pub(crate) fn lend(self: &Arc<Self>) -> Outcome<Lease> {
        self.model.here()?;
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(Lease { home: self.clone(), text: Some(text.ok_or_else(away)?) })
    }
}

impl Text {
    fn session(&self) -> &halfbyte::Session {
        match self {
            Self::Plain(session) => session,
            Self::Chat(chat, _) => chat.session(),
        }
    }
}

impl Lease {
    /// An error in a fork of the process that the model lives in.
    pub(crate) fn check_here(&self) -> Outcome<()> {
        self.home.model.here().map(|_| ())
    }

    /// The session.
    pub(crate) fn session(&self) -> Outcome<&halfbyte::Session> {
        self.text.as_ref().map(Text::session).ok_or_else(away)
    }

    /// Lets go of what the session holds, before something else is [`set`](Self::set).
    pub(crate) fn clear(&mut self) {
        self.text = None;
    }

    /// Replaces what the session holds.
    pub(crate) fn set(&mut self, session: halfbyte::Session) {
        self.text = Some(Text::Plain(session));
    }

    /// Reads tokens with `adapters` from here on.
    pub(crate) fn set_adapters(&mut self, adapters: &[(halfbyte::Adapter, f32)]) -> Outcome<()> {
        match &mut self.text {
            Some(Text::Plain(session)) => session.set_adapters(adapters)?,
            Some(Text::Chat(chat, _)) => chat.set_adapters(adapters)?,
            None => return Err(away()),
        }
        Ok(())
    }

    /// The session as a conversation by the template of that name; the same one goes on.
    pub(crate) fn chat(&mut self, name: Option<&str>) -> Outcome<&mut Chat> {
        let is_same = matches!(&self.text, Some(Text::Chat(_, old)) if old.as_deref() == name);
        if !is_same {
            let template = self.home.model.template(name)?;
            let chat = Chat::new(self.session()?.fork(), template, GenerationConfig::default());
            self.text = Some(Text::Chat(Box::new(chat), name.map(str::to_owned)));
        }
        match &mut self.text {
            Some(Text::Chat(chat, _)) => Ok(chat),
            _ => Err(away()),
        }
    }

    /// Takes an answer of the conversation, if it is one, and goes on from there.
    pub(crate) fn accept(&mut self, answer: halfbyte::Generation<'static>) {
        match &mut self.text {
            Some(Text::Chat(chat, _)) => chat.accept(answer),
            _ => self.set(answer.into_session()),
        }
    }
}

fn away() -> Failure {
    let message = "the session is in use: end the call, or free the generation, that has it";
    Failure::new(HB_BUSY, message)
}

impl Drop for Lease {
    fn drop(&mut self) {
        let text = self.text.take();
        *self.home.text.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }
}

/// Makes an empty session. The caller frees it with hb_session_free; *session is NULL after a
/// failure. The model may be freed before it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hb_session_new(
    model: *mut hb_model,
    session: *mut *mut hb_session,
) -> hb_status {
    // SAFETY: the caller keeps the header's rules.
    let given = unsafe { Pointers::new() };
    boundary(|| {
        let mut out = given.out(session, "place for the session")?;
        out.write(std::ptr::null_mut());
        let model = handles::get(model)?;
        let fresh = model.here()?.session();
        out.write(handles::insert(Session::new(model, fresh))?);
        Ok(HB_OK)
    })
}

/// Makes a session of what hb_session_save wrote for the same model with the same adapters. The
/// caller frees it; *session is NULL after a failure.
///
/// HB_NOT_FOUND, HB_IO; HB_UNSUPPORTED for a file that is no session, HB_MALFORMED for a damaged one,
/// HB_INVALID_ARGUMENT for another model's or other adapters', HB_CONTEXT_FULL for more than
/// context_length tokens.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hb_session_load(
    model: *mut hb_model,
    path: *const c_char,
    session: *mut *mut hb_session,
) -> hb_status {
    // SAFETY: the caller keeps the header's rules.
    let given = unsafe { Pointers::new() };
    boundary(|| {
        let mut out = given.out(session, "place for the session")?;
        out.write(std::ptr::null_mut());
        let model = handles::get(model)?;
        let loaded = halfbyte::Session::load(model.here()?, given.text(path, "path")?)?;
        out.write(handles::insert(Session::new(model, loaded))?);
        Ok(HB_OK)
    })
}

/// Writes a session to a file, which it replaces. HB_NOT_FOUND where its folder is missing, HB_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hb_session_save(
    session: *mut hb_session,
    path: *const c_char,
) -> hb_status {
    // SAFETY: the caller keeps the header's rules.
    let given = unsafe { Pointers::new() };
    boundary(|| {
        let lease = handles::get(session)?.lend()?;
        lease.session()?.save(given.text(path, "path")?)?;
        Ok(HB_OK)
    })
}

/// The tokens that a session holds: the last prompt, and what was generated after it.
///
/// *n_tokens is how many there are, also for HB_BUFFER_TOO_SMALL. With tokens NULL and a capacity
/// of 0 nothing but that is asked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hb_session_tokens(
    session: *mut hb_session,
    tokens: *mut u32,
    capacity: usize,
    n_tokens: *mut usize,
) -> hb_status {
    // SAFETY: the caller keeps the header's rules.
    let given = unsafe { Pointers::new() };
    boundary(|| {
        let lease = handles::get(session)?.lend()?;
        let mut out = given.buffer((tokens, capacity), n_tokens, "tokens")?;
        out.fill(lease.session()?.tokens())?;
        Ok(HB_OK)
    })
}

/// Empties a session. It keeps its adapters.
#[unsafe(no_mangle)]
pub extern "C" fn hb_session_reset(session: *mut hb_session) -> hb_status {
    boundary(|| {
        let mut lease = handles::get(session)?.lend()?;
        let fresh = lease.session()?.model().session();
        lease.set(fresh);
        Ok(HB_OK)
    })
}

/// Frees a session. A call or generation that has it goes on unharmed; then it goes. NULL is
/// nothing.
#[unsafe(no_mangle)]
pub extern "C" fn hb_session_free(session: *mut hb_session) -> hb_status {
    boundary(|| {
        handles::remove(session)?;
        Ok(HB_OK)
    })
}

#[cfg(test)]
impl Session {
    /// A session of the model inside the library.
    pub(crate) fn embedded() -> Arc<Self> {
        let model = Arc::new(Model::open(None, &Default::default()).unwrap());
        let fresh = model.here().unwrap().session();
        Self::new(model, fresh)
    }
}
