//! [`Encoding`] and the table of all encodings.

use super::blocks::{decode_blocks, encode_blocks};
use super::{codebook, float, k_encode, k_quants, legacy, simple};
use crate::error::{Error, Result};

/// How a tensor's elements are stored in a file.
///
/// A row is a sequence of blocks of [`block_len`](Self::block_len) elements in
/// [`block_bytes`](Self::block_bytes) bytes. Layouts and names are those of GGUF, and from
/// [`Q4_0_V1`](Self::Q4_0_V1) on those that the files of spring 2023 have.
///
/// Source: ggml `ggml-common.h`, the GGUF specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(non_camel_case_types, reason = "the field's own names: Q4_K, IQ4_NL")]
#[non_exhaustive]
pub enum Encoding {
    /// 32-bit floats.
    F32,
    /// 16-bit IEEE floats.
    F16,
    /// 16-bit brain floats.
    BF16,
    /// 4 bits symmetric, blocks of 32 with an f16 scale.
    Q4_0,
    /// 4 bits affine, blocks of 32 with an f16 scale and minimum.
    Q4_1,
    /// 5 bits symmetric, blocks of 32 with an f16 scale.
    Q5_0,
    /// 5 bits affine, blocks of 32 with an f16 scale and minimum.
    Q5_1,
    /// 8 bits symmetric, blocks of 32 with an f16 scale.
    Q8_0,
    /// 2 bits affine, blocks of 256: two f16 factors over 16 scales and minima of 4 bits.
    Q2_K,
    /// 3 bits symmetric, blocks of 256: an f16 factor over 16 scales of 6 bits.
    Q3_K,
    /// 4 bits affine, blocks of 256: two f16 factors over 8 scales and minima of 6 bits.
    Q4_K,
    /// 5 bits affine, blocks of 256: two f16 factors over 8 scales and minima of 6 bits.
    Q5_K,
    /// 6 bits symmetric, blocks of 256: an f16 factor over 16 scales of 8 bits.
    Q6_K,
    /// 4-bit indices into a fixed table, blocks of 32 with an f16 scale.
    IQ4_NL,
    /// IQ4_NL's table, blocks of 256: an f16 factor over 8 scales of 6 bits.
    IQ4_XS,
    /// 4-bit floats, blocks of 32 with a power of two as scale (OCP microscaling).
    MXFP4,
    /// Q4_0 before May 2023: an f32 scale, neighbours share a byte.
    Q4_0_V1,
    /// Q4_0 of May 2023: an f32 scale.
    Q4_0_V2,
    /// Q4_1 before May 2023: an f32 scale and minimum, neighbours share a byte.
    Q4_1_V1,
    /// Q4_1 of May 2023: an f32 scale and minimum.
    Q4_1_V2,
    /// 4 bits symmetric, an f16 scale per 16; neighbours share a byte. Here in pairs of blocks.
    Q4_2,
    /// 4 bits affine, an f16 scale and minimum per 16; neighbours share a byte. Pairs of blocks.
    Q4_3,
    /// Q5_0 before May 2023: neighbours share a byte.
    Q5_0_V1,
    /// Q5_1 before May 2023: neighbours share a byte.
    Q5_1_V1,
    /// Q8_0 until May 2023: an f32 scale.
    Q8_0_V1,
    /// 4 bits with an integer zero point, blocks of 32: an f16 scale, an f16 zero point with its sign
    /// turned, and Q4_0's codes. Holds GPTQ's and AWQ's weights exactly; GGUF has nothing like it.
    Q4_Z,
}

/// What there is to know about an encoding.
struct Row {
    encoding: Encoding,
    name: &'static str,
    ggml_type: u32,
    block_len: usize,
    block_bytes: usize,
    decode: Decode,
    encode: Option<Encode>,
}

/// Decodes a row of whole blocks.
type Decode = fn(&[u8], &mut [f32]);

/// Encodes a row of whole blocks.
type Encode = fn(&[f32], &mut [u8]);

/// A row of [`ENCODINGS`]; the block's sizes are those in the decoder's signature.
const fn row<const B: usize, const N: usize>(
    encoding: Encoding,
    name: &'static str,
    ggml_type: u32,
    _decode_block: fn(&[u8; B], &mut [f32; N]),
    decode: Decode,
    encode: Option<Encode>,
) -> Row {
    Row { encoding, name, ggml_type, block_len: N, block_bytes: B, decode, encode }
}

/// [`row`] from block functions, which thereby are named once and inlined into their loops.
macro_rules! row {
    ($encoding:ident, $number:expr, $decode:path $(, $encode:path)?) => {
        row(
            Encoding::$encoding,
            stringify!($encoding),
            $number,
            $decode,
            |bytes, out| decode_blocks(bytes, out, $decode),
            row!(@encode $($encode)?),
        )
    };
    (@encode) => { None };
    (@encode $encode:path) => { Some(|row, out| encode_blocks(row, out, $encode)) };
}

/// Every encoding, in the enum's order: name, GGUF type number, decoder and encoder of a block.
///
/// A new encoding is a variant, a row here, and its functions in a family's file.
static ENCODINGS: [Row; 26] = [
    row!(F32, 0, float::decode_f32, float::encode_f32),
    row!(F16, 1, float::decode_f16, float::encode_f16),
    row!(BF16, 30, float::decode_bf16, float::encode_bf16),
    row!(Q4_0, 2, simple::decode_q4_0, simple::encode_q4_0),
    row!(Q4_1, 3, simple::decode_q4_1, simple::encode_q4_1),
    row!(Q5_0, 6, simple::decode_q5_0, simple::encode_q5_0),
    row!(Q5_1, 7, simple::decode_q5_1, simple::encode_q5_1),
    row!(Q8_0, 8, simple::decode_q8_0, simple::encode_q8_0),
    row!(Q2_K, 10, k_quants::decode_q2_k),
    row!(Q3_K, 11, k_quants::decode_q3_k),
    row!(Q4_K, 12, k_quants::decode_q4_k, k_encode::encode_q4_k),
    row!(Q5_K, 13, k_quants::decode_q5_k),
    row!(Q6_K, 14, k_quants::decode_q6_k, k_encode::encode_q6_k),
    row!(IQ4_NL, 20, codebook::decode_iq4_nl, codebook::encode_iq4_nl),
    row!(IQ4_XS, 23, codebook::decode_iq4_xs),
    row!(MXFP4, 39, codebook::decode_mxfp4),
    row!(Q4_0_V1, of_2023(1, 2), legacy::decode_q4_0_v1),
    row!(Q4_0_V2, of_2023(2, 2), legacy::decode_q4_0_v2),
    row!(Q4_1_V1, of_2023(1, 3), legacy::decode_q4_1_v1),
    row!(Q4_1_V2, of_2023(2, 3), legacy::decode_q4_1_v2),
    row!(Q4_2, 4, legacy::decode_q4_2),
    row!(Q4_3, 5, legacy::decode_q4_3),
    row!(Q5_0_V1, of_2023(1, 6), legacy::decode_q5_0_v1),
    row!(Q5_1_V1, of_2023(1, 7), legacy::decode_q5_1_v1),
    row!(Q8_0_V1, of_2023(1, 8), legacy::decode_q8_0_v1),
    row!(Q4_Z, OWN | 0x8001, simple::decode_q4_z),
];

/// Begins the numbers under which a GGUF file of ours keeps blocks that GGUF has no number for: `HB`
/// in hexadecimal. Other programs refuse it by name of the number, which is what they should do.
const OWN: u32 = 0x4842_0000;

/// The number of blocks of 2023: the generation of layouts, and ggml's number at that time.
const fn of_2023(generation: u32, ggml_type: u32) -> u32 {
    OWN | generation << 8 | ggml_type
}

// `Encoding::row` indexes by discriminant.
const _: () = {
    let mut i = 0;
    while i < ENCODINGS.len() {
        assert!(ENCODINGS[i].encoding as usize == i, "ENCODINGS is not in the enum's order");
        i += 1;
    }
};

/// GGUF type numbers that mean something, but nothing that this crate decodes.
const UNSUPPORTED: [(u32, &str); 25] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4, repacked Q4_0"),
    (32, "Q4_0_4_8, repacked Q4_0"),
    (33, "Q4_0_8_8, repacked Q4_0"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (36, "IQ4_NL_4_4, repacked IQ4_NL"),
    (37, "IQ4_NL_4_8, repacked IQ4_NL"),
    (38, "IQ4_NL_8_8, repacked IQ4_NL"),
    (40, "NVFP4"),
    (41, "Q1_0"),
    (42, "Q2_0"),
];

impl Encoding {
    /// Every encoding that can be decoded, floats first.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        ENCODINGS.iter().map(|row| row.encoding)
    }

    /// The names of [`all`](Self::all), parted by commas, for messages.
    pub fn supported() -> String {
        names(|_| true)
    }

    /// The name that GGUF tools use, such as `Q4_K`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The encoding of that name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|encoding| encoding.name().eq_ignore_ascii_case(name))
    }

    /// The number of this encoding in a GGUF tensor record.
    pub fn ggml_type(self) -> u32 {
        self.row().ggml_type
    }

    /// The encoding with that number in a GGUF tensor record.
    pub fn from_ggml_type(number: u32) -> Option<Self> {
        Self::all().find(|encoding| encoding.ggml_type() == number)
    }

    /// What a GGUF type number means, decodable or not, for messages: `IQ2_XS (17)`.
    pub fn by_number_name(number: u32) -> String {
        let unsupported = || UNSUPPORTED.iter().find(|(n, _)| *n == number).map(|(_, name)| *name);
        match Self::from_ggml_type(number).map(Self::name).or_else(unsupported) {
            Some(name) => format!("{name} ({number})"),
            None if (97..256).contains(&number) => format!("ik_llama.cpp's type {number}"),
            None => format!("unknown type {number}"),
        }
    }

    /// Elements in a block.
    pub fn block_len(self) -> usize {
        self.row().block_len
    }

    /// Bytes in a block.
    pub fn block_bytes(self) -> usize {
        self.row().block_bytes
    }

    /// Bytes of a row of `k` elements; `None` if `k` is no multiple of the block or it overflows.
    pub fn row_bytes(self, k: usize) -> Option<usize> {
        if !k.is_multiple_of(self.block_len()) {
            return None;
        }
        (k / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Bits that an element costs, scales included.
    pub fn bits_per_weight(self) -> f64 {
        8.0 * self.block_bytes() as f64 / self.block_len() as f64
    }

    /// Whether the elements are plain floats: F32, F16 or BF16.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }

    /// Whether only files of spring 2023 have it; in a GGUF file no other program reads it.
    pub fn is_of_2023(self) -> bool {
        (Self::Q4_0_V1..=Self::Q8_0_V1).contains(&self)
    }

    /// The names of those that [`encode`](Self::encode) writes, parted by commas, for messages.
    pub(crate) fn writable() -> String {
        names(|row| row.encode.is_some())
    }

    /// Whether [`encode`](Self::encode) works.
    pub fn can_encode(self) -> bool {
        self.row().encode.is_some()
    }

    /// Decodes whole blocks: `bytes.len() / block_bytes` blocks fill `out`.
    ///
    /// Any bytes decode to something: scales of NaN or ∞ in a broken file give such elements.
    ///
    /// # Panics
    ///
    /// If `bytes.len()` is not [`row_bytes(out.len())`](Self::row_bytes).
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
        (self.row().decode)(bytes, out);
    }

    /// Encodes a row of whole blocks into `out`, which has [`row_bytes`](Self::row_bytes) bytes.
    ///
    /// Deterministic. Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0 give the bytes of the reference quantizers;
    /// Q4_K, Q6_K and IQ4_NL search for the smallest squared error. In all of these NaN counts as 0
    /// and values beyond the encoding's range, infinities too, become the largest it has: what is
    /// written always decodes to finite numbers. F32, F16 and BF16 keep NaN and infinities, and
    /// F16 turns what is beyond ±65504 into infinities.
    ///
    /// # Errors
    ///
    /// [`Error::UnsupportedEncoding`] if this encoding can only be read; [`Error::Config`] if the
    /// row is not made of whole blocks or `out` has another length than they need.
    pub fn encode(self, row: &[f32], out: &mut [u8]) -> Result<()> {
        let Some(encode) = self.row().encode else {
            return Err(Error::UnsupportedEncoding {
                found: format!("{} for writing", self.name()),
                supported: Self::writable(),
            });
        };
        match self.row_bytes(row.len()) {
            Some(bytes) if bytes == out.len() => encode(row, out),
            Some(bytes) => {
                let reason = format!("{} needs {bytes} bytes, not {}", self.name(), out.len());
                return Err(Error::config("output length", reason));
            }
            None => {
                let (n, block) = (row.len(), self.block_len());
                let reason = format!("{n} is no multiple of {}'s block of {block}", self.name());
                return Err(Error::config("row length", reason));
            }
        }
        Ok(())
    }

    fn row(self) -> &'static Row {
        &ENCODINGS[self as usize]
    }
}

/// The names of the rows for which `wanted` is true, parted by commas.
fn names(wanted: impl Fn(&Row) -> bool) -> String {
    let names: Vec<_> = ENCODINGS.iter().filter(|row| wanted(row)).map(|row| row.name).collect();
    names.join(", ")
}
