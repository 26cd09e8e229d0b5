//! The pickles that PyTorch writes, run by a machine that knows tensors and calls nothing.
//!
//! A pickle is a program: in Python it may import and call whatever it names. This machine has a
//! table of the names that weights need ([`CLASSES`]); every other one is an error that says it.
//! Objects lie in one list and are referred to by number, so that nothing is copied or walked in
//! depth, and every list is capped. What the names build is in `pickle_calls`.
//!
//! Source: Python `Lib/pickletools.py` for the opcodes, PyTorch `torch/serialization.py` and
//! `torch/_utils.py` for what they build.

use super::cursor::Cursor;
use super::pickle_value::{CLASSES, Object, Pickle, Value};
use crate::error::{Error, Result};

/// Opcodes of one pickle: a model of 8,000 tensors needs some 300,000.
const MAX_OPCODES: usize = 1 << 20;
/// Values on the stack: Python appends to lists and dictionaries by thousands.
const MAX_STACK: usize = 1 << 14;
const MAX_MEMO: usize = 1 << 18;
/// Tuples, lists, dictionaries, storages and tensors: eight for each tensor of a model.
const MAX_OBJECTS: usize = 1 << 16;

pub(super) struct Machine<'c, 'a> {
    pub(super) cursor: &'c mut Cursor<'a>,
    stack: Vec<Value<'a>>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: Vec<Option<Value<'a>>>,
    pub(super) objects: Vec<Object<'a>>,
}

/// Runs the pickle at `cursor`, which then stands behind it.
///
/// # Errors
///
/// [`Error::Malformed`]; [`Error::UnsupportedFormat`] for a name that is not in the table.
pub(super) fn load<'a>(cursor: &mut Cursor<'a>) -> Result<Pickle<'a>> {
    let (stack, marks, memo, objects) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut machine = Machine { cursor, stack, marks, memo, objects };
    for _ in 0..MAX_OPCODES {
        let op = machine.cursor.u8("the next opcode")?;
        if op == b'.' {
            let root = machine.pop()?;
            return Ok(Pickle { root, objects: machine.objects });
        }
        machine.step(op)?;
    }
    machine.wrong(format!("the pickle has more than {MAX_OPCODES} opcodes"))
}

impl<'a> Machine<'_, 'a> {
    fn step(&mut self, op: u8) -> Result<()> {
        match op {
            // Protocol number and frame length: they change nothing.
            0x80 => self.cursor.u8("a protocol number").map(drop),
            0x95 => self.cursor.u64("a frame length").map(drop),
            b'N' => self.push(Value::None),
            0x88 | 0x89 => self.push(Value::Bool(op == 0x88)),
            b'K' | b'M' | b'J' | 0x8a => self.integer(op),
            b'G' => self.cursor.u64("a float").and_then(|_| self.push(Value::Float)),
            b'X' | 0x8c | b'U' => self.text(op),
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.class(module, name)
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => self.class(module, name),
                _ => self.wrong("a class is named by no text"),
            },
            b'q' | b'r' | 0x94 => self.put(op),
            b'h' | b'j' => self.get(op),
            b'0' => self.pop().map(drop),
            b'(' if self.marks.len() < MAX_STACK => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'(' => self.wrong(format!("more than {MAX_STACK} marks")),
            b')' => self.make(Object::Tuple(Vec::new())),
            b']' => self.make(Object::List(Vec::new())),
            b'}' => self.make(Object::Dict(Vec::new())),
            0x85..=0x87 | b't' => {
                let parts = if op == b't' { self.above_mark()? } else { self.top(op - 0x84)? };
                self.make(Object::Tuple(parts))
            }
            b'a' | b'e' => {
                let parts = if op == b'e' { self.above_mark()? } else { self.top(1)? };
                self.append(&parts)
            }
            b's' | b'u' => {
                let parts = if op == b'u' { self.above_mark()? } else { self.top(2)? };
                self.set_items(&parts)
            }
            b'Q' => self.storage(),
            b'R' => self.call(),
            // Attributes of a dictionary (`_metadata` of a model's state): nothing that is needed.
            b'b' => self.pop().map(drop),
            _ => self.wrong(format!("opcode {op:#04x} before this is none that tensors need")),
        }
    }

    pub(super) fn wrong<T>(&self, what: impl Into<String>) -> Result<T> {
        Err(self.cursor.malformed(what))
    }

    pub(super) fn push(&mut self, value: Value<'a>) -> Result<()> {
        if self.stack.len() == MAX_STACK {
            return self.wrong(format!("more than {MAX_STACK} values on the stack"));
        }
        self.stack.push(value);
        Ok(())
    }

    /// The last value above the last mark.
    pub(super) fn pop(&mut self) -> Result<Value<'a>> {
        let above = self.stack.len() > self.marks.last().copied().unwrap_or(0);
        let value = if above { self.stack.pop() } else { None };
        value.map_or_else(|| self.wrong("an opcode needs more values than there are"), Ok)
    }

    /// The last `n` values.
    fn top(&mut self, n: u8) -> Result<Vec<Value<'a>>> {
        let mut parts = (0..n).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
        parts.reverse();
        Ok(parts)
    }

    /// The values above the last mark, which goes, too.
    fn above_mark(&mut self) -> Result<Vec<Value<'a>>> {
        let Some(mark) = self.marks.pop() else { return self.wrong("there is no mark") };
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    pub(super) fn make(&mut self, object: Object<'a>) -> Result<()> {
        if self.objects.len() == MAX_OBJECTS {
            return self.wrong(format!("the pickle has more than {MAX_OBJECTS} objects"));
        }
        self.objects.push(object);
        self.push(Value::Object(self.objects.len() - 1))
    }

    fn integer(&mut self, op: u8) -> Result<()> {
        let value = match op {
            b'K' => self.cursor.u8("an integer")?.into(),
            b'M' => self.cursor.u16("an integer")?.into(),
            b'J' => self.cursor.u32("an integer")?.cast_signed().into(),
            _ => {
                let n = self.cursor.u8("an integer's length")?;
                let bytes = self.cursor.take(n.into(), "an integer")?;
                let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
                let mut wide = [if negative { 0xff } else { 0 }; 8];
                let Some(low) = wide.get_mut(..bytes.len()) else {
                    return self.push(Value::Long(bytes));
                };
                low.copy_from_slice(bytes);
                i64::from_le_bytes(wide)
            }
        };
        self.push(Value::Int(value))
    }

    fn text(&mut self, op: u8) -> Result<()> {
        let n = match op {
            b'X' => self.cursor.u32("a text's length")?,
            _ => self.cursor.u8("a text's length")?.into(),
        };
        match std::str::from_utf8(self.cursor.take(n as usize, "a text")?) {
            Ok(text) => self.push(Value::Text(text)),
            Err(e) => self.wrong(format!("the text before this is not UTF-8: {e}")),
        }
    }

    /// Half of a class's name: text up to the end of a line.
    fn line(&mut self) -> Result<&'a str> {
        let mut start = self.cursor.clone();
        let mut n = 0;
        while self.cursor.u8("the end of a name's line")? != b'\n' {
            n += 1;
            if n > 255 {
                return self.wrong("a name has more than 255 bytes");
            }
        }
        let name = std::str::from_utf8(start.take(n, "a name")?);
        name.or_else(|_| self.wrong("the name before this is not UTF-8"))
    }

    fn class(&mut self, module: &str, name: &str) -> Result<()> {
        let full = format!("{module}.{name}");
        match CLASSES.iter().find(|(known, _)| *known == full) {
            Some((_, class)) => self.push(Value::Class(*class)),
            None => Err(Error::UnsupportedFormat {
                path: self.cursor.path().into(),
                found: format!("a pickle that calls {}", full.escape_debug()),
                supported: CLASSES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
            }),
        }
    }

    /// Keeps the last value in the memo.
    fn put(&mut self, op: u8) -> Result<()> {
        let number = match op {
            b'q' => self.cursor.u8("a memo's number")?.into(),
            b'r' => self.cursor.u32("a memo's number")? as usize,
            _ => self.memo.len(),
        };
        if number >= MAX_MEMO {
            return self.wrong(format!("the memo's number {number} is not below {MAX_MEMO}"));
        }
        let value = self.pop()?;
        self.memo.resize(self.memo.len().max(number + 1), None);
        if let Some(slot) = self.memo.get_mut(number) {
            *slot = Some(value);
        }
        self.push(value)
    }

    fn get(&mut self, op: u8) -> Result<()> {
        let number = match op {
            b'h' => self.cursor.u8("a memo's number")?.into(),
            _ => self.cursor.u32("a memo's number")?,
        };
        match self.memo.get(number as usize) {
            Some(Some(value)) => self.push(*value),
            _ => self.wrong(format!("nothing is in the memo at {number}")),
        }
    }

    /// The object that is the last value.
    fn last_object(&mut self) -> Option<&mut Object<'a>> {
        let Value::Object(number) = *self.stack.last()? else { return None };
        self.objects.get_mut(number)
    }

    fn append(&mut self, parts: &[Value<'a>]) -> Result<()> {
        match self.last_object() {
            Some(Object::List(list)) => list.extend(parts),
            _ => return self.wrong("what is appended to is no list"),
        }
        Ok(())
    }

    fn set_items(&mut self, parts: &[Value<'a>]) -> Result<()> {
        let (pairs, odd) = parts.as_chunks::<2>();
        match self.last_object() {
            Some(Object::Dict(dict)) => dict.extend(pairs.iter().map(|&[key, value]| (key, value))),
            _ => return self.wrong("what items are set in is no dictionary"),
        }
        if odd.is_empty() { Ok(()) } else { self.wrong("a key has no value") }
    }
}
