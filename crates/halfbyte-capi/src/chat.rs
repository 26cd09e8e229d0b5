//! Messages, and the prompt that a template makes of them.

use std::ffi::c_char;

use halfbyte::{Message, Role};

use crate::boundary::boundary;
use crate::handles;
use crate::model::hb_model;
use crate::options::flag;
use crate::pointers::Pointers;
use crate::status::{Failure, HB_OK, Outcome, hb_status};

/// One message of a conversation.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct hb_message {
    /// "system", "user" or "assistant".
    pub role: *const c_char,
    /// What is said.
    pub content: *const c_char,
}

/// The messages of a C array.
pub(crate) fn read(
    given: &Pointers,
    messages: *const hb_message,
    n: usize,
) -> Outcome<Vec<Message>> {
    let messages = given.slice(messages, n, "messages")?;
    let message = |message: &hb_message| {
        let role = given.text(message.role, "role")?;
        let content = given.text(message.content, "content")?;
        let role = Role::from_name(role).ok_or_else(|| {
            Failure::argument("role", format!("{role:?} is not one of system, user, assistant"))
        })?;
        Ok(Message::new(role, content))
    };
    messages.iter().map(message).collect()
}

/// The prompt of messages, as hb_generation_start_chat makes it.
///
/// chat_template is NULL for the model's own, the name of a built-in one, or a Jinja source.
/// add_generation_prompt is 1 to end where the assistant's answer begins, or 0. capacity counts the
/// NUL at the end; *n_bytes does not, and is set also for HB_BUFFER_TOO_SMALL. With text NULL and a
/// capacity of 0 nothing but that is asked. HB_TEMPLATE, also for text that needs more than a second
/// or 1 MiB.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hb_apply_chat_template(
    model: *mut hb_model,
    chat_template: *const c_char,
    messages: *const hb_message,
    n_messages: usize,
    add_generation_prompt: u32,
    text: *mut c_char,
    capacity: usize,
    n_bytes: *mut usize,
) -> hb_status {
    // SAFETY: the caller keeps the header's rules.
    let given = unsafe { Pointers::new() };
    boundary(|| {
        let model = handles::get(model)?;
        let template = model.template(given.optional_text(chat_template, "chat template")?)?;
        let messages = read(&given, messages, n_messages)?;
        let is_prompt = flag("add_generation_prompt", add_generation_prompt)?;
        let mut out = given.buffer((text, capacity), n_bytes, "text")?;
        out.fill_text(&template.apply(&messages, is_prompt)?)?;
        Ok(HB_OK)
    })
}
