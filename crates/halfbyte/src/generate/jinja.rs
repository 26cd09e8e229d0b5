//! Jinja chat templates in the environment that Hugging Face gives them, within fixed limits.
//!
//! A template comes with a model file, so it is untrusted: it sees nothing but its input, and its
//! steps, memory, output and recursion are bounded.

use std::io::{self, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{AutoEscape, Environment, ErrorKind, State, Value, context};

use super::{Message, jinja_source, python_json, strftime};
use crate::error::{Error, Result};

/// Steps that a template may take at most. A step pays for 64 bytes of data, too, so this bounds
/// memory to 16 MiB.
const MAX_STEPS: u64 = 250_000;

/// Steps that a template may take whatever the chat: less than 100 ms on slow machines.
const BASE_STEPS: u64 = 60_000;

/// Steps that it may take besides for each message; real ones take about 100.
const STEPS_PER_MESSAGE: u64 = 500;

/// Bytes that a template may write.
const MAX_OUTPUT: usize = 1 << 20;

/// Bytes of a template's source; published ones have up to 20 kB.
const MAX_SOURCE: usize = 1 << 18;

/// Nested loops, macros and blocks, in minijinja's units (a macro call costs several).
const MAX_RECURSION: usize = 200;

/// A template can nest 145,000 lists within `MAX_STEPS`, and the engine drops, prints and compares
/// them by recursion: 80 MB were measured, and unoptimized builds take more. Only the address space
/// is taken ahead.
const STACK_BYTES: usize = 512 << 20;

/// Time for a template. The steps bound all but a few operations of the engine, such as comparing
/// two lists that hold the same list 2⁶⁰ times; those cannot be stopped, only left behind.
const TIME_LIMIT: Duration = Duration::from_secs(1);

/// What a template is given.
#[derive(Clone)]
pub(super) struct Input {
    pub(super) source: String,
    pub(super) messages: Vec<Value>,
    /// Bytes of the messages and of the tools.
    pub(super) n_bytes: usize,
    pub(super) tools: Value,
    pub(super) add_generation_prompt: bool,
    pub(super) bos_token: String,
    pub(super) eos_token: String,
}

impl Input {
    /// Steps that the template may take: more for a long chat, whose text it handles several times.
    fn steps(&self) -> u64 {
        let chat = STEPS_PER_MESSAGE * self.messages.len() as u64 + self.n_bytes as u64 / 8;
        MAX_STEPS.min(BASE_STEPS + chat)
    }
}

/// A message as templates see it.
pub(super) fn message(message: &Message) -> Value {
    context! { role => message.role.name(), content => &*message.content }
}

/// Renders the template, on a thread of its own for the sake of its stack and its time.
pub(super) fn render(input: Input) -> Result<String> {
    if input.source.len() > MAX_SOURCE {
        let reason = format!("{} bytes are above the limit of {MAX_SOURCE}", input.source.len());
        return Err(Error::Template(reason));
    }
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new()
        .name("chat template".into())
        .stack_size(STACK_BYTES)
        // Nobody listens any more if it took too long.
        .spawn(move || drop(sender.send(render_here(&input))))
        .map_err(|source| Error::Threads { source })?;
    receiver.recv_timeout(TIME_LIMIT).unwrap_or_else(|error| {
        Err(Error::Template(match error {
            RecvTimeoutError::Timeout => format!("it takes more than {TIME_LIMIT:?}"),
            RecvTimeoutError::Disconnected => "the template engine failed".into(),
        }))
    })
}

fn render_here(input: &Input) -> Result<String> {
    let source = jinja_source::prepare(&input.source);
    let steps = input.steps();
    let environment = environment(steps).map_err(|error| describe(&error, steps))?;
    let template = environment
        .template_from_named_str("chat template", &source)
        .map_err(|error| describe(&error, steps))?;
    // Hugging Face passes `none` for what is not given, and templates ask `tools is not none`.
    let values = context! {
        messages => &input.messages,
        add_generation_prompt => input.add_generation_prompt,
        bos_token => &*input.bos_token,
        eos_token => &*input.eos_token,
        tools => &input.tools,
        documents => Value::from(()),
    };
    let mut output = Limited::default();
    match template.render_captured_to(values, &mut output) {
        _ if output.overflowed => {
            Err(Error::Template(format!("its text is longer than {MAX_OUTPUT} bytes")))
        }
        Err(error) => Err(describe(&error, steps)),
        Ok(_) => String::from_utf8(output.bytes)
            .map_err(|_| Error::Template("its text is not UTF-8".into())),
    }
}

/// Source: `_compile_jinja_template` in transformers' `chat_template_utils.py`.
fn environment(steps: u64) -> std::result::Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(python_method);
    environment.set_fuel(Some(steps));
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_debug(false);
    environment.set_formatter(|out, state, value| match value.kind() {
        ValueKind::Bool if value.is_true() => Ok(out.write_str("True")?),
        ValueKind::Bool => Ok(out.write_str("False")?),
        ValueKind::None => Ok(out.write_str("None")?),
        _ => minijinja::escape_formatter(out, state, value),
    });
    environment.add_function("raise_exception", |message: String| -> FunctionResult {
        Err(invalid(message))
    });
    environment.add_function("strftime_now", |format: String| -> FunctionResult {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        strftime::format(&format, now).map(Value::from).map_err(invalid)
    });
    environment.add_filter("tojson", to_json);
    environment.add_filter(jinja_source::TERM_FILTER, term);
    environment.add_filter(jinja_source::FACTOR_FILTER, factor);
    // `chain` is not in Python's Jinja and joins lists for free; `pprint` writes n² spaces.
    environment.remove_filter("chain");
    environment.remove_filter("pprint");
    Ok(environment)
}

type FunctionResult = std::result::Result<Value, minijinja::Error>;

fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

/// Charges a list's length, two items a step as the engine does elsewhere, and gives it back.
fn term(state: &State<'_, '_>, value: Value) -> FunctionResult {
    if is_list(&value) {
        state.consume_fuel(value.len().unwrap_or(0) as u64 / 2)?;
    }
    Ok(value)
}

/// Refuses a list: repeated ones may have 10⁸ items that were never charged.
fn factor(value: Value) -> FunctionResult {
    if is_list(&value) { Err(invalid("lists cannot be multiplied")) } else { Ok(value) }
}

/// Python's methods of texts, lists and maps. `format` only without widths, which have no limit.
fn python_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> FunctionResult {
    if method == "format" && value.as_str().is_some_and(|text| text.contains(':')) {
        return Err(invalid("format specifications are not supported"));
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments)
}

fn invalid(reason: impl Into<std::borrow::Cow<'static, str>>) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::InvalidOperation, reason)
}

/// `json.dumps` with Hugging Face's arguments: no HTML escapes, not ASCII only.
fn to_json(value: &Value, options: Kwargs) -> FunctionResult {
    let style = python_json::Style {
        indent: options.get("indent")?,
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        separators: options.get("separators")?,
    };
    options.assert_all_used()?;
    python_json::write(value, &style, MAX_OUTPUT).map(Value::from).map_err(invalid)
}

/// The error's message with the line, without the name that we gave the template.
fn describe(error: &minijinja::Error, steps: u64) -> Error {
    let kind = match error.kind() {
        ErrorKind::OutOfFuel => format!("it takes more than {steps} steps"),
        kind => error.detail().map_or_else(|| kind.to_string(), |text| format!("{kind}: {text}")),
    };
    Error::Template(match error.line() {
        Some(line) => format!("{kind} (line {line})"),
        None => kind,
    })
}

/// Takes at most [`MAX_OUTPUT`] bytes.
#[derive(Default)]
struct Limited {
    bytes: Vec<u8>,
    overflowed: bool,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_OUTPUT {
            self.overflowed = true;
            return Err(io::Error::other("too much text"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
