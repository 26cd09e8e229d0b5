//! Conversations: the template, and the session that is kept between answers.

use halfbyte::{ChatTemplate, Hooks};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::call::{Call, check_process};
use crate::error::raise;
use crate::generation::{Generation, Home};
use crate::model::Model;
use crate::options;
use crate::processor::Function;
use crate::session::Slot;

/// A conversation; `halfbyte.Chat` holds one, and the messages.
#[pyclass(frozen, module = "halfbyte._native")]
pub(crate) struct Chat {
    slot: Slot<halfbyte::Chat>,
    process: u32,
}

#[pymethods]
impl Chat {
    /// A conversation by the model's own template, a built-in one's name, or a Jinja source. The
    /// options are checked and not kept: each answer brings its own.
    #[new]
    #[pyo3(signature = (model, template_name, options: "dict[str, Any]"))]
    fn new(
        model: &Model,
        template_name: Option<&str>,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<Self> {
        let model = model.open()?;
        options::generation(options)?.validate().map_err(raise)?;
        let template = template(&model, template_name)?;
        let chat = halfbyte::Chat::new(model.session(), template, Default::default());
        Ok(Self { slot: Slot::new(chat), process: std::process::id() })
    }

    /// Answers (role, content) messages.
    #[pyo3(signature = (messages, options: "dict[str, Any]", processor))]
    fn answer(
        &self,
        messages: Vec<(String, String)>,
        options: &Bound<'_, PyDict>,
        processor: Option<Py<PyAny>>,
    ) -> PyResult<Generation> {
        check_process(self.process)?;
        let (messages, config) = (options::messages(messages)?, options::generation(options)?);
        let call = Call::new(None);
        let mut hooks = call.hooks();
        let function = Function::new(processor);
        hooks.processor = call.processor(&function);
        let mut chat = self.slot.lend("the chat")?;
        chat.set_hooks(hooks);
        *chat.config_mut() = config;
        let answer = call.run(options.py(), || {
            chat.set_messages(messages);
            chat.answer_apart()
        });
        match answer {
            Ok(answer) => {
                let home = Home::Chat(self.slot.clone(), Box::new(chat));
                Ok(Generation::new(call, function, answer, home))
            }
            Err(error) => {
                // The processor is the caller's, and may hold anything.
                chat.set_hooks(Hooks::default());
                self.slot.put(chat);
                Err(error)
            }
        }
    }

    /// Messages that the context had no room for in the last answer.
    fn n_dropped(&self) -> PyResult<usize> {
        let chat = self.slot.lend("the chat")?;
        let n_dropped = chat.n_dropped();
        self.slot.put(chat);
        Ok(n_dropped)
    }

    /// Lets go of the session.
    fn close(&self) {
        self.slot.close();
    }

    #[getter]
    fn closed(&self) -> bool {
        self.slot.is_closed()
    }
}

/// The model's own template, a built-in one by name, or the one that a Jinja source describes.
pub(crate) fn template(model: &halfbyte::Model, name: Option<&str>) -> PyResult<ChatTemplate> {
    match name {
        None => model.chat_template().map_err(raise),
        // Names of templates have no braces, and a template without them is no template.
        Some(source) if source.contains('{') => Ok(ChatTemplate::jinja(source, model)),
        Some(name) => ChatTemplate::builtin(name, model).map_err(raise),
    }
}
