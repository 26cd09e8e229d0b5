//! The model inside: a small GPT-J that writes children's stories, as a GGUF file in Q4_0.
//!
//! This crate is bytes and nothing else; whoever links it gets a model that needs no download.
//! The model card is in the README, the training scripts are in `training/`.
//!
//! ```
//! assert_eq!(&halfbyte_model::BYTES[..4], b"GGUF");
//! ```

/// The model's name, for messages that would name a file.
pub const NAME: &str = "stories-q4_0.gguf (embedded)";

/// How a conversation looks in the text that the model learned from: a Jinja chat template.
pub const CHAT_TEMPLATE: &str = "{% for message in messages %}\
    {% if message.role == 'assistant' %}{{ message.content }}\n\n\
    {% else %}### Instruction:\n{{ message.content }}\n\n### Response:\n{% endif %}\
    {% endfor %}";

/// The model: a GGUF file, aligned to 64 bytes so that its tensors are where a map would put them.
pub static BYTES: &[u8] = &ALIGNED.0;

static ALIGNED: &Aligned<[u8]> = &Aligned(*include_bytes!("../model/stories-q4_0.gguf"));

/// A cache line's alignment for bytes that have none of their own.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);
