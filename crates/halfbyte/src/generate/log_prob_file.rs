//! A base model's log-probabilities on disk.
//!
//! Little-endian: magic `hblogprob` and a version byte 1 (10 bytes), the protocol (u8: 0 strided,
//! 1 second halves), a zero byte, the vocabulary's size V (u32), window and stride (u32 each; the
//! stride of second halves is 0), the number of tokens (u64), the number of scored tokens (u64), the
//! tokens (u32 each). Then for each scored token: its most probable successor's log-probability m
//! (f32), a step s (f32), and V codes c (u16): the log-probability of each token is m − c · s. Steps
//! span at most 24 nats in 65,535 parts, so that codes are at most 0.0002 off; what is less probable
//! by more, e⁻²⁴, counts as that.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::Protocol;
use crate::error::{Error, Result};
use crate::io::{NewFile, open_regular};

const MAGIC: &[u8; 9] = b"hblogprob";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 40;

/// Log-probabilities below the largest one by more are cut off.
const MAX_RANGE: f64 = 24.0;

/// Vocabularies that a model file may have, as `io` bounds them.
const MAX_VOCAB: usize = 1 << 21;

/// Bytes of a row of `vocab_size` codes.
fn row_bytes(vocab_size: usize) -> usize {
    8 + 2 * vocab_size
}

/// A base model's log-probabilities, open for reading.
#[derive(Debug)]
pub struct LogProbFile {
    rows: Rows,
    tokens: Vec<u32>,
}

/// The rows of a file, one after the other.
#[derive(Debug)]
pub(super) struct Rows {
    path: PathBuf,
    file: BufReader<File>,
    protocol: Protocol,
    vocab_size: usize,
    at: u64,
    row: Vec<u8>,
}

impl LogProbFile {
    /// Opens what [`Model::write_log_probs`](crate::Model::write_log_probs) wrote.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], also for a pipe or a device; [`Error::Malformed`] for another kind of file or
    /// a damaged one, before anything is allocated by its numbers.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let io = |error| Error::io(path, error);
        let file = open_regular(path)?;
        let length = file.metadata().map_err(io)?.len();
        let mut file = BufReader::new(file);
        let mut header = [0; HEADER_BYTES];
        let other =
            || malformed(path, 0, "these are no log-probabilities as --kl-base writes them");
        file.read_exact(&mut header).map_err(|_| other())?;
        if &header[..MAGIC.len()] != MAGIC {
            return Err(other());
        }
        if header[9] != VERSION {
            let what = format!("version {}, and {VERSION} is what can be read", header[9]);
            return Err(malformed(path, 9, what));
        }
        let header = Header::parse(path, &header)?;
        let n_tokens = header.check_length(path, length)?;
        let mut bytes = vec![0; 4 * n_tokens];
        file.read_exact(&mut bytes).map_err(io)?;
        let tokens: Vec<u32> =
            bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        if let Some(i) = tokens.iter().position(|&token| token as usize >= header.vocab_size) {
            let offset = HEADER_BYTES + 4 * i;
            return Err(malformed(path, offset as u64, "a token is outside the vocabulary"));
        }
        let rows = Rows {
            path: path.into(),
            file,
            protocol: header.protocol,
            vocab_size: header.vocab_size,
            at: (HEADER_BYTES + 4 * n_tokens) as u64,
            row: vec![0; row_bytes(header.vocab_size)],
        };
        Ok(Self { rows, tokens })
    }

    /// The text's tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How the text was cut.
    pub fn protocol(&self) -> Protocol {
        self.rows.protocol
    }

    /// Tokens of the base's vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.rows.vocab_size
    }

    pub(super) fn into_rows(self) -> (Rows, Vec<u32>) {
        (self.rows, self.tokens)
    }
}

/// The numbers at the beginning.
struct Header {
    protocol: Protocol,
    vocab_size: usize,
    n_tokens: u64,
    n_scored: u64,
}

impl Header {
    fn parse(path: &Path, bytes: &[u8; HEADER_BYTES]) -> Result<Self> {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize
        };
        let long = |at: usize| (word(at) as u64) | ((word(at + 4) as u64) << 32);
        let (vocab_size, window, stride) = (word(12), word(16), word(20));
        let protocol = match bytes[10] {
            0 => Protocol::Strided { window, stride },
            1 => Protocol::SecondHalves { window },
            _ => return Err(malformed(path, 10, "unknown protocol")),
        };
        if !(1..=MAX_VOCAB).contains(&vocab_size) {
            let what = format!("a vocabulary of {vocab_size} is not between 1 and {MAX_VOCAB}");
            return Err(malformed(path, 12, what));
        }
        Ok(Self { protocol, vocab_size, n_tokens: long(24), n_scored: long(32) })
    }

    /// The number of tokens, if the file is as long as the header says, and scored as it says.
    fn check_length(&self, path: &Path, length: u64) -> Result<usize> {
        let row = row_bytes(self.vocab_size) as u64;
        let expected = self
            .n_tokens
            .checked_mul(4)
            .and_then(|tokens| tokens.checked_add(HEADER_BYTES as u64))
            .and_then(|sum| self.n_scored.checked_mul(row)?.checked_add(sum));
        if expected != Some(length) {
            let what = format!(
                "the header promises {} tokens and {} rows of {row} bytes, and the file has {length} \
                 bytes: write it again",
                self.n_tokens, self.n_scored
            );
            return Err(malformed(path, 24, what));
        }
        // As many as four-byte numbers in a file that is there.
        let n_tokens = usize::try_from(self.n_tokens)
            .map_err(|_| malformed(path, 24, "more tokens than this machine can count"))?;
        self.protocol
            .check(usize::MAX, n_tokens)
            .map_err(|error| malformed(path, 16, error.to_string()))?;
        if self.protocol.n_scored(n_tokens) as u64 != self.n_scored {
            return Err(malformed(path, 32, "the windows do not score that many tokens"));
        }
        Ok(n_tokens)
    }
}

impl Rows {
    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The next row's log-probabilities (V).
    pub(super) fn read(&mut self, log_probs: &mut Vec<f64>) -> Result<()> {
        self.file.read_exact(&mut self.row).map_err(|error| Error::io(&self.path, error))?;
        let float = |at: usize| {
            f32::from_le_bytes([self.row[at], self.row[at + 1], self.row[at + 2], self.row[at + 3]])
        };
        let (most, step) = (float(0), float(4));
        // Rounding may leave the largest log-probability a little above 0.
        if !(most.is_finite() && most <= 1e-3 && (0.0..=1e-3).contains(&step)) {
            return Err(malformed(&self.path, self.at, "no log-probabilities"));
        }
        self.at += self.row.len() as u64;
        let (most, step) = (f64::from(most), f64::from(step));
        log_probs.clear();
        log_probs.extend(
            self.row[8..]
                .chunks_exact(2)
                .map(|code| most - f64::from(u16::from_le_bytes([code[0], code[1]])) * step),
        );
        Ok(())
    }
}

/// Writes a file, row after row.
#[derive(Debug)]
pub(super) struct LogProbWriter {
    file: NewFile,
    row: Vec<u8>,
}

impl LogProbWriter {
    /// Begins the file for `tokens` with its header.
    pub(super) fn create(
        path: &Path,
        vocab_size: usize,
        tokens: &[u32],
        protocol: Protocol,
    ) -> Result<Self> {
        let (kind, stride) = match protocol {
            Protocol::Strided { stride, .. } => (0, stride),
            Protocol::SecondHalves { .. } => (1, 0),
        };
        let mut head = Vec::with_capacity(HEADER_BYTES);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&[VERSION, kind, 0]);
        for number in [vocab_size, protocol.window(), stride] {
            head.extend_from_slice(&(number as u32).to_le_bytes());
        }
        for number in [tokens.len(), protocol.n_scored(tokens.len())] {
            head.extend_from_slice(&(number as u64).to_le_bytes());
        }
        head.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
        let mut file = NewFile::create(path)?;
        file.write(&head)?;
        Ok(Self { file, row: Vec::new() })
    }

    /// Adds a row: `logits` (V) and the logarithm of the sum of their exponentials.
    pub(super) fn write(&mut self, logits: &[f32], norm: f64) -> Result<()> {
        let finite = logits.iter().copied().filter(|logit| logit.is_finite());
        let (least, most) = finite
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), logit| (a.min(logit), b.max(logit)));
        let most = f64::from(most);
        let step = ((most - f64::from(least)).min(MAX_RANGE) / f64::from(u16::MAX)) as f32;
        let per_step = if step > 0.0 { 1.0 / f64::from(step) } else { 0.0 };
        let Self { file, row } = self;
        row.clear();
        row.extend_from_slice(&((most - norm) as f32).to_le_bytes());
        row.extend_from_slice(&step.to_le_bytes());
        for &logit in logits {
            // Casts saturate, and NaN becomes 0: the smallest probability is the largest code.
            let code = ((most - f64::from(logit)) * per_step).round();
            let code = if code.is_nan() { u16::MAX } else { code as u16 };
            row.extend_from_slice(&code.to_le_bytes());
        }
        file.write(row)
    }

    /// Puts the complete file into its place.
    pub(super) fn finish(self) -> Result<()> {
        self.file.finish()
    }
}

fn malformed(path: &Path, offset: u64, what: impl Into<String>) -> Error {
    Error::Malformed { path: path.into(), what: what.into(), offset }
}
