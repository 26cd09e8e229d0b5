//! The model: what it is, its tokenizer, its scores, and the sessions that start from it.

use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use halfbyte::ModelOptions;
use halfbyte::tokenizer::Specials;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict};

use crate::adapter::{Adapter, Scaled, list};
use crate::call::{Call, check_process};
use crate::chat::template;
use crate::error::{closed, config, raise};
use crate::generation::{Batched, Generation, Home, Prompt};
use crate::options;
use crate::processor::{Function, float_bytes};
use crate::session::Session;

/// (sum, greedy, tokens) of a log-likelihood.
type Likelihood = (f64, bool, usize);

/// A loaded model; `halfbyte.Model` holds one.
#[pyclass(frozen, module = "halfbyte._native")]
pub(crate) struct Model {
    model: RwLock<Option<halfbyte::Model>>,
    /// The process that loaded it, whose threads compute.
    process: u32,
}

impl Model {
    /// The model, unless it is closed or belongs to the process that this one was forked from.
    pub(crate) fn open(&self) -> PyResult<halfbyte::Model> {
        check_process(self.process)?;
        let model = self.model.read().unwrap_or_else(PoisonError::into_inner);
        model.clone().ok_or_else(|| closed("the model"))
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        let model = self.model.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if model.is_some() {
            // As in `close`; at the interpreter's end there is nothing to let go of.
            Python::try_attach(|py| py.detach(|| drop(model)));
        }
    }
}

#[pymethods]
impl Model {
    /// Opens a file or folder, or the embedded model for None.
    #[new]
    #[pyo3(signature = (path, options: "dict[str, Any]"))]
    fn new(py: Python<'_>, path: Option<PathBuf>, options: &Bound<'_, PyDict>) -> PyResult<Self> {
        let mut loading = ModelOptions::default();
        let mut progress = None;
        for (key, value) in options {
            match key.extract::<String>()?.as_str() {
                "threads" => loading.threads = options::field("threads", &value)?,
                "context_length" => {
                    loading.context_length = options::field("context_length", &value)?;
                }
                "cache_type" => loading.cache_type = options::cache_type(&value)?,
                "rms_eps" => loading.overrides.rms_eps = options::field("rms_eps", &value)?,
                "n_gqa" => loading.overrides.n_gqa = options::field("n_gqa", &value)?,
                "rope_base" => loading.overrides.rope_base = options::field("rope_base", &value)?,
                _ => progress = options::field("progress", &value)?,
            }
        }
        let call = Call::new(progress);
        loading.progress = call.progress();
        loading.cancel = Some(call.cancel().clone());
        let model = call.run(py, || match path {
            Some(path) => halfbyte::Model::open_with(path, &loading),
            None => {
                let (name, bytes) = (halfbyte_model::NAME, halfbyte_model::BYTES);
                halfbyte::Model::from_static_bytes(name, bytes, &loading)
            }
        })?;
        Ok(Self { model: RwLock::new(Some(model)), process: std::process::id() })
    }

    /// Lets go of the weights, as soon as running calls have ended.
    fn close(&self, py: Python<'_>) {
        let model = self.model.write().unwrap_or_else(PoisonError::into_inner).take();
        // The system takes its time to free gigabytes.
        py.detach(|| drop(model));
    }

    #[getter]
    fn closed(&self) -> bool {
        self.model.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Facts about the model, by name.
    #[pyo3(signature = () -> "dict[str, Any]")]
    fn facts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let model = self.open()?;
        let facts = PyDict::new(py);
        let name = model.metadata().str("general.name").map_err(raise)?;
        facts.set_item("name", name)?;
        facts.set_item("path", model.path())?;
        facts.set_item("context_length", model.context_length())?;
        facts.set_item("cache_type", options::cache_type_name(model.cache_type()))?;
        facts.set_item("threads", model.decoder().threads())?;
        facts.set_item("isa", model.decoder().isa().name())?;
        facts.set_item("packed_bytes", model.decoder().packed_bytes())?;
        let tokenizer = model.tokenizer().ok();
        facts.set_item("bos", tokenizer.and_then(halfbyte::tokenizer::Tokenizer::bos))?;
        facts.set_item("eos", tokenizer.and_then(halfbyte::tokenizer::Tokenizer::eos))?;
        crate::files::config_facts(&facts, model.config())?;
        Ok(facts)
    }

    /// The token ids of a text.
    fn tokenize(
        &self,
        py: Python<'_>,
        text: &str,
        add_bos: bool,
        special: bool,
    ) -> PyResult<Vec<u32>> {
        let model = self.open()?;
        let specials = if special { Specials::Parse } else { Specials::AsText };
        Call::new(None).run(py, || {
            let tokenizer = model.tokenizer()?;
            if add_bos {
                tokenizer.encode_prompt(text, specials)
            } else {
                tokenizer.encode(text, specials)
            }
        })
    }

    /// The text of token ids.
    fn detokenize(&self, py: Python<'_>, tokens: &Bound<'_, PyAny>) -> PyResult<String> {
        let model = self.open()?;
        let tokens: Vec<u32> = options::field("tokens", tokens)?;
        Call::new(None).run(py, || Ok(model.tokenizer()?.decode(&tokens)))
    }

    /// The bytes that a token stands for.
    fn token_bytes<'py>(
        &self,
        py: Python<'py>,
        token: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let model = self.open()?;
        let id: u32 = options::field("token", token)?;
        let bytes = model.tokenizer().map_err(raise)?.token_bytes(id);
        let bytes = bytes.ok_or_else(|| config("token", format!("{id} is not in the vocabulary")));
        Ok(PyBytes::new(py, bytes?))
    }

    /// A generation with a session of its own; the prompt is a text or token ids.
    #[pyo3(signature = (prompt, options: "dict[str, Any]", processor))]
    fn generate(
        &self,
        prompt: &Bound<'_, PyAny>,
        options: &Bound<'_, PyDict>,
        processor: Option<Py<PyAny>>,
    ) -> PyResult<Generation> {
        let session = self.open()?.session();
        Generation::start(session, Some(prompt), options, processor, Home::Nowhere)
    }

    /// Completions of many prompts, texts or token ids, computed together.
    #[pyo3(signature = (prompts, options: "dict[str, Any]", processor, progress))]
    fn generate_batch(
        &self,
        py: Python<'_>,
        prompts: Vec<Bound<'_, PyAny>>,
        options: &Bound<'_, PyDict>,
        processor: Option<Py<PyAny>>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Vec<Batched>> {
        let (model, config) = (self.open()?, options::generation(options)?);
        let call = Call::new(progress);
        let mut hooks = call.hooks();
        hooks.processor = call.processor(&Function::new(processor));
        let prompts = prompts.iter().map(Prompt::new).collect::<PyResult<Vec<_>>>()?;
        let done = call.run(py, || {
            let tokens = prompts.into_iter().map(|prompt| match prompt {
                Prompt::Text(text) => model.prompt_tokens(&text),
                Prompt::Tokens(tokens) => Ok(tokens),
            });
            let tokens = tokens.collect::<halfbyte::Result<Vec<_>>>()?;
            model.generate_batch_tokens(&tokens, &config, &hooks)
        })?;
        Ok(done.into_iter().map(Batched::from).collect())
    }

    /// The bytes of the float32 logits (T, V) after each token.
    fn logits<'py>(
        &self,
        py: Python<'py>,
        tokens: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyByteArray>> {
        let model = self.open()?;
        let tokens: Vec<u32> = options::field("tokens", tokens)?;
        let call = Call::new(None);
        let hooks = call.hooks();
        float_bytes(py, &call.run(py, || model.logits_with(&tokens, &hooks))?)
    }

    /// The tokens of a context and of what follows it, cut as `log_likelihood` wants them.
    fn encode_pair(
        &self,
        py: Python<'_>,
        context: &str,
        continuation: &str,
    ) -> PyResult<(Vec<u32>, Vec<u32>)> {
        let model = self.open()?;
        Call::new(None).run(py, || model.encode_pair(context, continuation))
    }

    /// (sum, greedy, tokens) for each pair of token ids, and how many tokens were read.
    fn log_likelihood(
        &self,
        py: Python<'_>,
        pairs: &Bound<'_, PyAny>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<(Vec<Likelihood>, usize)> {
        let model = self.open()?;
        let pairs: Vec<(Vec<u32>, Vec<u32>)> = options::field("tokens", pairs)?;
        let call = Call::new(progress);
        let hooks = call.hooks();
        let found = call.run(py, || model.score_pairs(&pairs, &hooks))?;
        let scores = found.scores.iter().map(|s| (s.sum, s.is_greedy, s.n_tokens)).collect();
        Ok((scores, found.tokens_read))
    }

    /// (value, mean, standard error, tokens) of the perplexity of token ids.
    fn perplexity(
        &self,
        py: Python<'_>,
        tokens: &Bound<'_, PyAny>,
        window: &Bound<'_, PyAny>,
        stride: &Bound<'_, PyAny>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<(f64, f64, f64, usize)> {
        let model = self.open()?;
        let tokens: Vec<u32> = options::field("tokens", tokens)?;
        let window = options::field("window", window)?;
        let stride = options::field("stride", stride)?;
        let call = Call::new(progress);
        let hooks = call.hooks();
        let found = call.run(py, || model.perplexity(&tokens, window, stride, &hooks))?;
        Ok((found.value, found.mean_nll, found.std_error, found.n_scored))
    }

    /// The bytes of the float32 embedding (E) of token ids.
    fn embed<'py>(
        &self,
        py: Python<'py>,
        tokens: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyByteArray>> {
        let model = self.open()?;
        let tokens: Vec<u32> = options::field("tokens", tokens)?;
        let call = Call::new(None);
        let hooks = call.hooks();
        float_bytes(py, &call.run(py, || model.embed_tokens_with(&tokens, &hooks))?)
    }

    /// The prompt of (role, content) messages.
    fn apply_chat_template(
        &self,
        py: Python<'_>,
        messages: Vec<(String, String)>,
        template_name: Option<&str>,
        add_generation_prompt: bool,
    ) -> PyResult<String> {
        let model = self.open()?;
        let messages = options::messages(messages)?;
        let template = template(&model, template_name)?;
        Call::new(None).run(py, || template.apply(&messages, add_generation_prompt))
    }

    /// Opens a LoRA adapter for this model.
    fn open_adapter(&self, py: Python<'_>, path: PathBuf) -> PyResult<Adapter> {
        let model = self.open()?;
        Ok(Call::new(None).run(py, || model.open_adapter(path))?.into())
    }

    /// A model over the same weights with these adapters, each times its number.
    fn with_adapters(&self, adapters: Scaled<'_>) -> PyResult<Self> {
        let model = self.open()?.with_adapters(&list(&adapters)).map_err(raise)?;
        Ok(Self { model: RwLock::new(Some(model)), process: self.process })
    }

    /// A fresh session.
    fn session(&self) -> PyResult<Session> {
        Ok(Session::new(self.open()?.session(), self.process))
    }
}
