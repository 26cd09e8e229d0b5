//! Sessions on disk.
//!
//! Little-endian: magic `hbsession` and a version byte 1 (10 bytes), cache type (u8: 0 f16, 1 f32,
//! 2 q8), a zero byte, the fingerprint of model and adapters (32), the number of tokens (u64), the
//! tokens (u32 each), the number of cache bytes (u64), the cache as
//! [`KvCache::to_bytes`](crate::model::KvCache::to_bytes) writes it, and the SHA-256 of everything
//! before (32).

use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::Session;
use crate::error::{Error, Result};
use crate::io::{NewFile, open_regular};
use crate::kernels::collect;
use crate::model::{CacheType, Model};

const MAGIC: &[u8; 9] = b"hbsession";
const VERSION: u8 = 1;
const HASH_BYTES: usize = 32;
/// Everything up to the tokens: magic, version, cache type, zero, fingerprint, number of tokens.
const HEADER_BYTES: usize = 52;

const CACHE_TYPES: [(CacheType, u8); 3] =
    [(CacheType::F16, 0), (CacheType::F32, 1), (CacheType::Q8, 2)];

impl Session {
    /// Writes the session to a file, piece by piece: no second copy of it is in memory. The file
    /// appears at `path` only when it is complete; until then what was there stays.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let mut file = NewFile::create(path)?;
        self.write_to(file.stream()).map_err(|error| Error::io(path, error))?;
        file.finish()
    }

    /// Reads a session that [`save`](Self::save) wrote for the same model.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], also for a pipe or a device; [`Error::UnsupportedFormat`] for another kind of
    /// file; [`Error::Malformed`] for a damaged one, and one that is longer than any session of this
    /// model; [`Error::Config`] for another model or other [adapters](Model::with_adapters).
    pub fn load(model: &Model, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let read = |n: u64| {
            let mut bytes = collect(usize::try_from(n).unwrap_or(usize::MAX), [])?;
            let n_read = open_regular(path)?.take(n).read_to_end(&mut bytes);
            n_read.map(|_| bytes).map_err(|error| Error::io(path, error))
        };
        let longest = longest(model);
        let n_bytes = open_regular(path)?.metadata().map_err(|error| Error::io(path, error))?.len();
        if n_bytes > longest {
            // What it says about itself may tell why.
            let bytes = read(HEADER_BYTES as u64)?;
            let mut reader = Reader { path, bytes: &bytes, at: 0 };
            reader.check_header()?;
            reader.take(2, "cache type")?;
            reader.check_fingerprint(model)?;
            return Err(Error::Malformed {
                path: path.into(),
                what: "it is longer than any session of this model".into(),
                offset: longest,
            });
        }
        Self::from_bytes(model, path, &read(n_bytes)?)
    }

    /// The session as [`save`](Self::save) writes it.
    ///
    /// # Panics
    ///
    /// If there is no memory for it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_to(&mut out).expect("only memory can be missing");
        out
    }

    fn write_to(&self, out: impl Write) -> io::Result<()> {
        let cache_type = CACHE_TYPES.iter().find(|(kind, _)| *kind == self.cache_type);
        let mut out = Hashed { out, hash: Sha256::new() };
        out.write_all(MAGIC)?;
        out.write_all(&[VERSION, cache_type.map_or(u8::MAX, |(_, number)| *number), 0])?;
        out.write_all(&self.model.fingerprint())?;
        out.write_all(&(self.tokens.len() as u64).to_le_bytes())?;
        self.tokens.iter().try_for_each(|token| out.write_all(&token.to_le_bytes()))?;
        out.write_all(&self.cache.written_bytes().to_le_bytes())?;
        self.cache.write_to(&mut out)?;
        let Hashed { mut out, hash } = out;
        out.write_all(&hash.finalize())?;
        out.flush()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) gave; `path` is for messages only.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn from_bytes(model: &Model, path: impl AsRef<Path>, bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader { path: path.as_ref(), bytes, at: 0 };
        reader.check_header()?;
        let body = bytes.len() - HASH_BYTES;
        if Sha256::digest(&bytes[..body])[..] != bytes[body..] {
            return Err(reader.malformed(body, "the checksum does not fit: the file is damaged"));
        }
        reader.bytes = &bytes[..body];
        let number = reader.take(2, "cache type")?[0];
        let cache_type = CACHE_TYPES.iter().find(|(_, n)| *n == number).map(|(kind, _)| *kind);
        let cache_type =
            cache_type.ok_or_else(|| reader.malformed(MAGIC.len() + 1, "unknown cache type"))?;
        reader.check_fingerprint(model)?;
        let tokens = reader.tokens(model)?;
        let n_bytes = reader.length("cache", 1)?;
        let at = reader.at;
        let bytes = reader.take(n_bytes, "cache")?;
        let cache = model.cache_from_bytes(cache_type, bytes).map_err(|e| match e {
            Error::Config { reason, .. } => reader.malformed(at, reason),
            other => other,
        })?;
        if cache.len() > tokens.len() || reader.at != body {
            return Err(reader.malformed(at, "the cache does not fit the tokens"));
        }
        Ok(Self { cache, tokens, cache_type, ..model.session() })
    }
}

/// Bytes of the longest file that a session of `model` can need, whatever its cache type.
fn longest(model: &Model) -> u64 {
    let context_length = model.config().context_length;
    let bytes = |(cache_type, _): &(CacheType, u8)| {
        model.decoder().new_cache(*cache_type).longest_written(context_length)
    };
    let cache = CACHE_TYPES.iter().map(bytes).max().unwrap_or(0);
    let rest = HEADER_BYTES + 4 * context_length + 8 + HASH_BYTES;
    cache.saturating_add(rest as u64)
}

/// A writer that knows the hash of all that went through it.
struct Hashed<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.hash.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reads fields and knows where it is, for messages.
struct Reader<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn malformed(&self, offset: usize, what: impl Into<String>) -> Error {
        Error::Malformed { path: self.path.into(), what: what.into(), offset: offset as u64 }
    }

    fn check_header(&mut self) -> Result<()> {
        let unsupported = |found: &str| Error::UnsupportedFormat {
            path: self.path.into(),
            found: found.into(),
            supported: format!("halfbyte sessions of version {VERSION}"),
        };
        if !self.bytes.starts_with(MAGIC) {
            return Err(unsupported("no halfbyte session"));
        }
        match self.bytes.get(MAGIC.len()) {
            Some(&VERSION) => {}
            Some(other) => return Err(unsupported(&format!("a session of version {other}"))),
            None => return Err(self.malformed(self.bytes.len(), "the file is cut off")),
        }
        self.at = MAGIC.len() + 1;
        if self.bytes.len() < self.at + HASH_BYTES {
            return Err(self.malformed(self.bytes.len(), "the file is cut off"));
        }
        Ok(())
    }

    fn check_fingerprint(&mut self, model: &Model) -> Result<()> {
        if self.take(32, "fingerprint")? == model.fingerprint() {
            return Ok(());
        }
        let reason = format!(
            "{} was saved with another model than {}, or with other adapters: open the model and the \
             adapters that it was saved with",
            self.path.display(),
            model.path().display()
        );
        Err(Error::config("session", reason))
    }

    fn take(&mut self, n: usize, field: &str) -> Result<&'a [u8]> {
        let bytes = self.at.checked_add(n).and_then(|end| self.bytes.get(self.at..end));
        let bytes = bytes.ok_or_else(|| self.malformed(self.at, format!("{field} is cut off")))?;
        self.at += n;
        Ok(bytes)
    }

    /// A number of items of `item_bytes` that the rest of the file can hold.
    fn length(&mut self, field: &str, item_bytes: usize) -> Result<usize> {
        let at = self.at;
        let mut number = [0; 8];
        number.copy_from_slice(self.take(8, field)?);
        usize::try_from(u64::from_le_bytes(number))
            .ok()
            .filter(|n| *n <= (self.bytes.len() - self.at) / item_bytes)
            .ok_or_else(|| self.malformed(at, format!("{field} is longer than the file")))
    }

    fn tokens(&mut self, model: &Model) -> Result<Vec<u32>> {
        let at = self.at;
        let n_tokens = self.length("tokens", 4)?;
        model.check_fits(n_tokens)?;
        let bytes = self.take(n_tokens * 4, "tokens")?;
        let tokens: Vec<u32> =
            bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        model.check_tokens(&tokens).map_err(|error| self.malformed(at, error.to_string()))?;
        Ok(tokens)
    }
}
