//! Models: open, ask, free.

use std::ffi::{c_char, c_void};
use std::mem::offset_of;
use std::sync::Arc;

use halfbyte::model::{CacheType, Overrides};
use halfbyte::{ChatTemplate, Error, ModelOptions};

use crate::boundary::{boundary, c_field, c_string};
use crate::callbacks::{self, HB_LOG_INFO, hb_progress_callback};
use crate::cancel::{self, hb_cancel};
use crate::handles::{self, Handle};
use crate::pointers::{Growing, Pointers, size_up_to};
use crate::status::{Failure, HB_FORKED, HB_MALFORMED, HB_OK, Outcome, hb_status};

/// Keys and values as 16-bit floats: the default.
pub const HB_CACHE_F16: u32 = 0;
/// Keys and values as 32-bit floats.
pub const HB_CACHE_F32: u32 = 1;
/// Keys and values as 8-bit integers.
pub const HB_CACHE_Q8: u32 = 2;

const CACHE_TYPES: [CacheType; 3] = [CacheType::F16, CacheType::F32, CacheType::Q8];

/// A loaded model. A handle. Immutable: any number of threads and sessions may share it.
pub struct hb_model {
    _private: [u8; 0],
}

/// How to open a model. All zeros but the size is the default:
///
///     hb_model_options options = {0};
///     options.size = sizeof options;
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct hb_model_options {
    /// sizeof(hb_model_options).
    pub size: usize,
    /// Threads that compute, up to 1024, of which at most four for each core are started; 0 for the
    /// physical cores that this process may use.
    pub threads: u32,
    /// Tokens that a session may hold, 1 to the model's own; 0 for the model's own.
    pub context_length: u32,
    /// HB_CACHE_F16, HB_CACHE_F32 or HB_CACHE_Q8.
    pub cache_type: u32,
    /// Query heads for each key/value head, for files of 2023 that do not say: 8 for LLaMA 2 70B. 0
    /// for what the file says.
    pub n_gqa: u32,
    /// Epsilon of the RMS norms, above 0; 0 for what the file says.
    pub rms_eps: f32,
    /// Base of the rotary frequencies, above 0; 0 for what the file says.
    pub rope_base: f32,
    /// Hears (bytes loaded, bytes in all), or NULL.
    pub progress: hb_progress_callback,
    /// Handed to progress.
    pub progress_data: *mut c_void,
    /// Stops the loading, or NULL.
    pub cancel: *mut hb_cancel,
}

/// What a model is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct hb_model_info {
    /// sizeof(hb_model_info), set by the caller.
    pub size: usize,
    /// The name in the file; empty if it has none. Cut at a whole character.
    pub name: [c_char; 128],
    /// The architecture, such as "llama".
    pub architecture: [c_char; 32],
    /// The instruction set that computes, such as "avx2".
    pub isa: [c_char; 32],
    /// Tokens that a session may hold.
    pub context_length: u32,
    /// Tokens in the vocabulary: the logits after one token.
    pub vocab_size: u32,
    /// Elements of an embedding.
    pub hidden_size: u32,
    /// Blocks.
    pub n_layers: u32,
    /// Heads of attention.
    pub n_heads: u32,
    /// Heads of keys and values.
    pub n_kv_heads: u32,
    /// Threads that compute.
    pub threads: u32,
    /// HB_CACHE_F16, HB_CACHE_F32 or HB_CACHE_Q8.
    pub cache_type: u32,
    /// The token that starts a text; -1 if there is none.
    pub bos: i32,
    /// The token that ends a text; -1 if there is none.
    pub eos: i32,
    /// Bytes of the weights in memory.
    pub packed_bytes: u64,
}

// SAFETY: `repr(C)`, the size first, then numbers, a callback that may be NULL, and pointers.
unsafe impl Growing for hb_model_options {
    const WHAT: &'static str = "hb_model_options";
    const SIZES: &'static [usize] =
        &[size_up_to::<Self>(offset_of!(Self, cancel) + size_of::<*mut hb_cancel>())];
}

// SAFETY: `repr(C)`, the size first, then numbers.
unsafe impl Growing for hb_model_info {
    const WHAT: &'static str = "hb_model_info";
    const SIZES: &'static [usize] =
        &[size_up_to::<Self>(offset_of!(Self, packed_bytes) + size_of::<u64>())];
}

/// A model, and where it lives.
pub(crate) struct Model {
    model: halfbyte::Model,
    /// The process that loaded it, whose threads compute.
    process: u32,
    is_embedded: bool,
}

impl Handle for hb_model {
    type Object = Model;
    const WHAT: &'static str = "model";
}

impl Model {
    /// Opens a file, or for `None` the model inside the library.
    pub(crate) fn open(path: Option<&str>, options: &ModelOptions) -> Outcome<Self> {
        let model = match path {
            Some(path) => halfbyte::Model::open_with(path, options).map_err(of_file)?,
            None => {
                let (name, bytes) = (halfbyte_model::NAME, halfbyte_model::BYTES);
                halfbyte::Model::from_static_bytes(name, bytes, options)?
            }
        };
        Ok(Self { model, process: std::process::id(), is_embedded: path.is_none() })
    }

    /// The model, unless this process is a fork of the one that it lives in.
    pub(crate) fn here(&self) -> Outcome<&halfbyte::Model> {
        let (here, process) = (std::process::id(), self.process);
        if here == process {
            return Ok(&self.model);
        }
        let message = format!(
            "the model was opened in process {process}, of which this process {here} is a fork; \
             threads do not survive a fork, so open the model in the child"
        );
        Err(Failure::new(HB_FORKED, message))
    }

    /// A model over the same weights with `adapters`.
    pub(crate) fn with_adapters(&self, adapters: &[(halfbyte::Adapter, f32)]) -> Outcome<Self> {
        let model = self.here()?.with_adapters(adapters)?;
        Ok(Self { model, process: self.process, is_embedded: self.is_embedded })
    }

    /// The template of that name or Jinja source; for `None` the model's own.
    pub(crate) fn template(&self, name: Option<&str>) -> Outcome<ChatTemplate> {
        let model = self.here()?;
        Ok(match name {
            None if self.is_embedded => ChatTemplate::jinja(halfbyte_model::CHAT_TEMPLATE, model),
            None => model.chat_template()?,
            // Names of templates have no braces, and a template without them is no template.
            Some(source) if source.contains('{') => ChatTemplate::jinja(source, model),
            Some(name) => ChatTemplate::builtin(name, model)?,
        })
    }
}

/// Opens the GGUF file, the file of one of 2023's formats (ggml, ggmf, ggjt) or the Hugging Face
/// folder at path, or for NULL the small model inside the library.
///
/// options may be NULL. The caller frees the model with hb_model_free; *model is NULL after a
/// failure. Takes as long as reading the file; other threads may use halfbyte meanwhile.
///
/// Until the call returns nobody may write to the file or shorten it: the system may end a process
/// that reads what is gone (SIGBUS). Renaming another file over it is safe, at any time.
///
/// HB_NOT_FOUND, HB_IO, HB_MALFORMED, HB_UNSUPPORTED, HB_CANCELLED. A tokenizer or chat template that
/// is missing or broken is told where it is needed: HB_TOKENIZER, HB_TEMPLATE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hb_model_open(
    path: *const c_char,
    options: *const hb_model_options,
    model: *mut *mut hb_model,
) -> hb_status {
    // SAFETY: the caller keeps the header's rules.
    let given = unsafe { Pointers::new() };
    boundary(|| {
        let mut out = given.out(model, "place for the model")?;
        out.write(std::ptr::null_mut());
        let path = given.optional_text(path, "path")?;
        let options = loading(given.options(options, DEFAULTS)?)?;
        let opened = Model::open(path, &options)?;
        callbacks::log(HB_LOG_INFO, &c_string(&summary(&opened.model)));
        out.write(handles::insert(Arc::new(opened))?);
        Ok(HB_OK)
    })
}

/// Says what a model is. info->size is set by the caller; later versions may fill more fields.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hb_model_get_info(
    model: *mut hb_model,
    info: *mut hb_model_info,
) -> hb_status {
    // SAFETY: the caller keeps the header's rules.
    let given = unsafe { Pointers::new() };
    boundary(|| {
        let model = handles::get(model)?;
        let mut record = given.required_record(info)?;
        record.write(info_of(model.here()?));
        Ok(HB_OK)
    })
}

/// Frees a model. Its weights go when the last session, generation and call that use it have ended;
/// those go on unharmed. NULL is nothing.
#[unsafe(no_mangle)]
pub extern "C" fn hb_model_free(model: *mut hb_model) -> hb_status {
    boundary(|| {
        handles::remove(model)?;
        Ok(HB_OK)
    })
}

const DEFAULTS: hb_model_options = hb_model_options {
    size: size_of::<hb_model_options>(),
    threads: 0,
    context_length: 0,
    cache_type: HB_CACHE_F16,
    n_gqa: 0,
    rms_eps: 0.0,
    rope_base: 0.0,
    progress: None,
    progress_data: std::ptr::null_mut(),
    cancel: std::ptr::null_mut(),
};

fn loading(options: hb_model_options) -> Outcome<ModelOptions> {
    let or_default = |number: u32| (number != 0).then_some(number as usize);
    let or_own = |number: f32| (number != 0.0).then_some(number);
    let cache_type = CACHE_TYPES.get(options.cache_type as usize).copied();
    let no_cache_type = || Failure::argument("cache_type", "is not one of the HB_CACHE_ numbers");
    Ok(ModelOptions {
        threads: or_default(options.threads),
        cache_type: cache_type.ok_or_else(no_cache_type)?,
        context_length: or_default(options.context_length),
        overrides: Overrides {
            rms_eps: or_own(options.rms_eps),
            n_gqa: or_default(options.n_gqa),
            rope_base: or_own(options.rope_base),
        },
        progress: callbacks::progress(options.progress, options.progress_data),
        cancel: cancel::optional(options.cancel)?,
    })
}

/// The failure of opening a file: a number out of its range is the file's, unless it was given.
fn of_file(error: Error) -> Failure {
    const GIVEN: &[&str] =
        &["threads", "context_length", "rms_eps", "n_gqa", "rope_base", "HALFBYTE_ISA"];
    match &error {
        Error::Config { field, .. } if !GIVEN.contains(&field.as_str()) => {
            Failure::new(HB_MALFORMED, error.to_string())
        }
        _ => error.into(),
    }
}

fn info_of(model: &halfbyte::Model) -> hb_model_info {
    let (config, decoder) = (model.config(), model.decoder());
    let tokenizer = model.tokenizer().ok();
    let token = |id: Option<u32>| id.and_then(|id| i32::try_from(id).ok()).unwrap_or(-1);
    let cache_type = CACHE_TYPES.iter().position(|&kind| kind == model.cache_type());
    // One that is no text is none.
    let name = model.metadata().str("general.name").ok().flatten();
    hb_model_info {
        size: size_of::<hb_model_info>(),
        name: c_field(name.unwrap_or_default()),
        architecture: c_field(config.architecture.name),
        isa: c_field(decoder.isa().name()),
        context_length: number(model.context_length()),
        vocab_size: number(config.vocab_size),
        hidden_size: number(config.hidden_size),
        n_layers: number(config.n_layers),
        n_heads: number(config.n_heads),
        n_kv_heads: number(config.n_kv_heads),
        threads: number(decoder.threads()),
        cache_type: number(cache_type.unwrap_or(usize::MAX)),
        bos: token(tokenizer.and_then(halfbyte::tokenizer::Tokenizer::bos)),
        eos: token(tokenizer.and_then(halfbyte::tokenizer::Tokenizer::eos)),
        packed_bytes: decoder.packed_bytes() as u64,
    }
}

/// A size that the library has bounded far below 2^32.
pub(crate) fn number(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

fn summary(model: &halfbyte::Model) -> String {
    format!(
        "opened {}: {}, {} threads, {}, {} bytes of weights",
        model.path().display(),
        model.config().architecture.name,
        model.decoder().threads(),
        model.decoder().isa().name(),
        model.decoder().packed_bytes()
    )
}
