//! Every encoding against the bytes and floats of the reference code, and encoders against bounds.
//!
//! The reference file comes in two sizes: an excerpt in `data/`, and all of it in the shared data.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "the helpers are test code, too"
)]

use std::path::{Path, PathBuf};

use halfbyte::Error;
use halfbyte::quant::Encoding;
use halfbyte_tests::shared;
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use safetensors::SafeTensors;

/// The reference file's names: decoded only, or with `encode` quantized by the reference, too.
struct Golden {
    name: &'static str,
    encoding: Encoding,
    encode: bool,
}

const fn golden(name: &'static str, encoding: Encoding, encode: bool) -> Golden {
    Golden { name, encoding, encode }
}

const GOLDEN: [Golden; 22] = [
    golden("BF16", Encoding::BF16, true),
    golden("BF16.edge", Encoding::BF16, true),
    golden("Q4_0", Encoding::Q4_0, true),
    golden("Q4_0.edge", Encoding::Q4_0, true),
    golden("Q4_1", Encoding::Q4_1, true),
    golden("Q4_1.edge", Encoding::Q4_1, true),
    golden("Q5_0", Encoding::Q5_0, true),
    golden("Q5_0.edge", Encoding::Q5_0, true),
    golden("Q5_1", Encoding::Q5_1, true),
    golden("Q5_1.edge", Encoding::Q5_1, true),
    golden("Q8_0", Encoding::Q8_0, true),
    golden("Q8_0.edge", Encoding::Q8_0, true),
    golden("Q2_K", Encoding::Q2_K, false),
    golden("Q3_K", Encoding::Q3_K, false),
    golden("Q4_K", Encoding::Q4_K, false),
    golden("Q5_K", Encoding::Q5_K, false),
    golden("Q6_K", Encoding::Q6_K, false),
    golden("IQ4_NL", Encoding::IQ4_NL, false),
    golden("IQ4_XS", Encoding::IQ4_XS, false),
    golden("MXFP4", Encoding::MXFP4, false),
    golden("MXFP4.edge", Encoding::MXFP4, false),
    golden("MXFP4.rand", Encoding::MXFP4, false),
];

/// The reference file here and, if there is one, in the shared data.
fn golden_files() -> Vec<Vec<u8>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/golden_quant.safetensors");
    let all = shared().map(|shared| shared.join("data/quant/golden_quant.safetensors"));
    if all.is_none() {
        println!("skipped: the large golden_quant.safetensors (no ../shared)");
    }
    let read = |path: PathBuf| std::fs::read(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    [Some(here), all].into_iter().flatten().map(read).collect()
}

fn bytes<'a>(file: &SafeTensors<'a>, name: &str, part: &str) -> &'a [u8] {
    file.tensor(&format!("{name}.{part}")).unwrap().data()
}

fn floats(file: &SafeTensors<'_>, name: &str, part: &str) -> Vec<f32> {
    let (bytes, rest) = bytes(file, name, part).as_chunks();
    assert!(rest.is_empty());
    bytes.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn encode(encoding: Encoding, row: &[f32]) -> Vec<u8> {
    let mut out = vec![0xa5; encoding.row_bytes(row.len()).unwrap()];
    encoding.encode(row, &mut out).unwrap();
    out
}

fn decode(encoding: Encoding, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![f32::NAN; bytes.len() / encoding.block_bytes() * encoding.block_len()];
    encoding.decode(bytes, &mut out);
    out
}

fn encodable() -> impl Iterator<Item = Encoding> {
    Encoding::all().filter(|encoding| encoding.can_encode())
}

#[test]
fn decoding_gives_the_bits_of_the_reference() {
    for data in golden_files() {
        let file = SafeTensors::deserialize(&data).unwrap();
        for Golden { name, encoding, .. } in GOLDEN {
            let decoded = decode(encoding, bytes(&file, name, "raw"));
            assert_eq!(bits(&decoded), bits(&floats(&file, name, "deq")), "{name}");
        }
    }
}

#[test]
fn encoding_gives_the_bytes_of_the_reference() {
    for data in golden_files() {
        let file = SafeTensors::deserialize(&data).unwrap();
        for Golden { name, encoding, .. } in GOLDEN.into_iter().filter(|golden| golden.encode) {
            let encoded = encode(encoding, &floats(&file, name, "src"));
            assert!(encoded == bytes(&file, name, "raw"), "{name}");
        }
    }
}

#[test]
fn every_encoding_of_gguf_but_plain_floats_has_a_golden_row() {
    for encoding in Encoding::all().filter(|encoding| !encoding.is_of_2023()) {
        // Q4_Z is no encoding of the reference code: `io/packed.rs` has its models.
        let plain = [Encoding::F32, Encoding::F16, Encoding::Q4_Z].contains(&encoding);
        assert_eq!(GOLDEN.iter().any(|golden| golden.encoding == encoding), !plain, "{encoding:?}");
    }
}

#[test]
fn f16_and_f32_have_their_ieee_bits() {
    // value, f16 bits, value again
    let cases = [
        (1.0, 0x3c00, 1.0),
        (-2.0, 0xc000, -2.0),
        (-0.0, 0x8000, -0.0),
        (65504.0, 0x7bff, 65504.0),
        (65520.0, 0x7c00, f32::INFINITY),
        (f32::NEG_INFINITY, 0xfc00, f32::NEG_INFINITY),
        (5.960_464_5e-8, 0x0001, 5.960_464_5e-8),
        (2.0f32.powi(-25), 0x0000, 0.0),
        (1.0 + 1.0 / 2048.0, 0x3c00, 1.0),
        (1.0 + 3.0 / 2048.0, 0x3c02, 1.0 + 2.0 / 1024.0),
    ];
    for (value, half, back) in cases {
        let encoded = encode(Encoding::F16, &[value]);
        assert_eq!(encoded, u16::to_le_bytes(half), "{value}");
        assert_eq!(bits(&decode(Encoding::F16, &encoded)), bits(&[back]), "{value}");
        assert_eq!(encode(Encoding::F32, &[value]), value.to_le_bytes(), "{value}");
    }
    assert!(decode(Encoding::F16, &encode(Encoding::F16, &[f32::NAN]))[0].is_nan());
}

/// Standard normal numbers by the Box–Muller transform.
fn normal(seed: u64, n: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut uniform = || (f64::from(rng.next_u32()) + 0.5) / 2f64.powi(32);
    let pair = |(u, v): (f64, f64)| {
        let (radius, angle) = ((-2.0 * u.ln()).sqrt(), std::f64::consts::TAU * v);
        [(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]
    };
    (0..n / 2).flat_map(|_| pair((uniform(), uniform()))).collect()
}

/// Root of the mean squared error after encoding and decoding.
fn rms_error(encoding: Encoding, x: &[f32]) -> f64 {
    let decoded = decode(encoding, &encode(encoding, x));
    let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
    (x.iter().zip(&decoded).map(square).sum::<f64>() / x.len() as f64).sqrt()
}

#[test]
fn normal_weights_keep_their_precision() {
    // Per cent of the standard deviation, at most.
    let cases = [
        (Encoding::F32, 0.0),
        (Encoding::F16, 0.03),
        (Encoding::BF16, 0.2),
        (Encoding::Q8_0, 0.6),
        (Encoding::Q6_K, 1.75),
        (Encoding::Q5_1, 4.0),
        (Encoding::Q5_0, 4.4),
        (Encoding::Q4_K, 7.2),
        (Encoding::IQ4_NL, 7.6),
        (Encoding::Q4_1, 8.0),
        (Encoding::Q4_0, 8.7),
    ];
    let x = normal(20_230_517, 64 * 4096);
    assert_eq!(cases.len(), encodable().count());
    for (encoding, bound) in cases {
        let percent = 100.0 * rms_error(encoding, &x);
        println!("{:7} {percent:.4} %", encoding.name());
        assert!(percent <= bound, "{encoding:?}: {percent} %");
    }
}

#[test]
fn least_squares_encoders_hold_their_precision_at_every_magnitude() {
    let x = normal(1, 16 * 4096);
    for (encoding, bound) in
        [(Encoding::Q4_K, 0.072), (Encoding::Q6_K, 0.0175), (Encoding::IQ4_NL, 0.076)]
    {
        for size in [1e-2f32, 1.0, 1e3] {
            let scaled: Vec<f32> = x.iter().map(|v| v * size).collect();
            assert!(rms_error(encoding, &scaled) <= bound * f64::from(size), "{encoding:?} {size}");
        }
    }
}

#[test]
fn rows_of_one_value_survive() {
    for encoding in encodable() {
        for value in [0.0f32, 0.125, -3.0, 1000.0, -1e4] {
            let decoded = decode(encoding, &encode(encoding, &[value; 512]));
            let worst = decoded.iter().map(|v| (v - value).abs()).fold(0.0, f32::max);
            assert!(worst <= 2e-3 * value.abs(), "{encoding:?} {value}: off by {worst}");
        }
    }
}

#[test]
fn values_beyond_an_encoding_saturate() {
    for encoding in encodable().filter(|encoding| !encoding.is_float()) {
        let mut row = [1.0f32; 256];
        [row[3], row[40], row[80], row[130]] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38];
        let decoded = decode(encoding, &encode(encoding, &row));
        assert!(decoded.iter().all(|v| v.is_finite()), "{encoding:?}");
        assert!(decoded[40] > 1e5 && decoded[80] < -6e4 && decoded[130] > 1e5, "{encoding:?}");
    }
}

#[test]
fn names_and_numbers_find_their_encoding() {
    for encoding in Encoding::all() {
        assert_eq!(Encoding::from_name(encoding.name()), Some(encoding));
        assert_eq!(Encoding::from_name(&encoding.name().to_lowercase()), Some(encoding));
        assert_eq!(Encoding::from_ggml_type(encoding.ggml_type()), Some(encoding));
        assert_eq!(encoding.name(), format!("{encoding:?}"));
    }
    assert_eq!(Encoding::from_name("Q4"), None);
    assert_eq!(Encoding::from_ggml_type(17), None);
}

#[test]
fn sizes_are_those_of_gguf() {
    // number, elements and bytes of a block
    let cases = [
        (Encoding::F32, 0, 1, 4),
        (Encoding::F16, 1, 1, 2),
        (Encoding::BF16, 30, 1, 2),
        (Encoding::Q4_0, 2, 32, 18),
        (Encoding::Q4_1, 3, 32, 20),
        (Encoding::Q5_0, 6, 32, 22),
        (Encoding::Q5_1, 7, 32, 24),
        (Encoding::Q8_0, 8, 32, 34),
        (Encoding::Q2_K, 10, 256, 84),
        (Encoding::Q3_K, 11, 256, 110),
        (Encoding::Q4_K, 12, 256, 144),
        (Encoding::Q5_K, 13, 256, 176),
        (Encoding::Q6_K, 14, 256, 210),
        (Encoding::IQ4_NL, 20, 32, 18),
        (Encoding::IQ4_XS, 23, 256, 136),
        (Encoding::MXFP4, 39, 32, 17),
        (Encoding::Q4_Z, 0x4842_8001, 32, 20),
        (Encoding::Q4_0_V1, 0x4842_0102, 32, 20),
        (Encoding::Q4_0_V2, 0x4842_0202, 32, 20),
        (Encoding::Q4_1_V1, 0x4842_0103, 32, 24),
        (Encoding::Q4_1_V2, 0x4842_0203, 32, 24),
        (Encoding::Q4_2, 4, 32, 20),
        (Encoding::Q4_3, 5, 32, 24),
        (Encoding::Q5_0_V1, 0x4842_0106, 32, 22),
        (Encoding::Q5_1_V1, 0x4842_0107, 32, 24),
        (Encoding::Q8_0_V1, 0x4842_0108, 32, 36),
    ];
    assert_eq!(cases.len(), Encoding::all().len());
    for (encoding, number, len, bytes) in cases {
        let found = (encoding.ggml_type(), encoding.block_len(), encoding.block_bytes());
        assert_eq!(found, (number, len, bytes), "{encoding:?}");
        assert_eq!(encoding.row_bytes(0), Some(0));
        assert_eq!(encoding.row_bytes(3 * len), Some(3 * bytes));
        assert_eq!(encoding.row_bytes(len + 1), (len == 1).then_some(2 * bytes));
        assert_eq!(encoding.bits_per_weight(), 8.0 * bytes as f64 / len as f64);
    }
    assert_eq!(Encoding::F32.row_bytes(usize::MAX / 2), None);
}

#[test]
fn messages_name_encodings() {
    let cases = [
        (2, "Q4_0 (2)"),
        (17, "IQ2_XS (17)"),
        (4, "Q4_2 (4)"),
        (137, "ik_llama.cpp's type 137"),
        (4_000_000_000, "unknown type 4000000000"),
    ];
    for (number, name) in cases {
        assert_eq!(Encoding::by_number_name(number), name);
    }
    assert!(Encoding::supported().starts_with("F32, F16, BF16, Q4_0, "));
}

#[test]
fn encoding_refuses_what_it_cannot_do() {
    let read_only = Encoding::Q3_K.encode(&[0.0; 256], &mut [0; 110]).unwrap_err();
    assert!(matches!(read_only, Error::UnsupportedEncoding { .. }), "{read_only}");
    assert!(read_only.to_string().contains("Q4_K"), "{read_only}");
    for (len, bytes) in [(31, 18), (33, 18), (32, 17), (32, 36), (0, 18)] {
        let error = Encoding::Q4_0.encode(&vec![0.0; len], &mut vec![0; bytes]).unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error}");
    }
}

/// Largest error of an element, as a part of the largest value in its block of 32.
const ELEMENT_BOUNDS: [(Encoding, f32); 5] = [
    (Encoding::Q4_0, 0.126),
    (Encoding::Q4_1, 0.068),
    (Encoding::Q5_0, 0.0635),
    (Encoding::Q5_1, 0.0335),
    (Encoding::Q8_0, 0.0045),
];

/// Largest RMS error of a row, as a part of its largest value.
const ROW_BOUNDS: [(Encoding, f64); 3] =
    [(Encoding::Q4_K, 0.08), (Encoding::Q6_K, 0.035), (Encoding::IQ4_NL, 0.12)];

/// Rows of 256 of mixed magnitudes that all encodings can hold.
fn rows() -> impl Strategy<Value = Vec<f32>> {
    let value = (-1.0f32..1.0, prop::sample::select(vec![0.0f32, 0.01, 1.0, 30.0, 3000.0]));
    prop::collection::vec(value.prop_map(|(v, size)| v * size), 256)
}

proptest! {
    #[test]
    fn decoded_elements_are_near(row in rows()) {
        for (encoding, bound) in ELEMENT_BOUNDS {
            let decoded = decode(encoding, &encode(encoding, &row));
            for (x, y) in row.chunks(32).zip(decoded.chunks(32)) {
                let largest = x.iter().fold(0.0f32, |a, v| a.max(v.abs()));
                for (x, y) in x.iter().zip(y) {
                    // A scale's half unit in the last place of a subnormal f16, times 127.
                    prop_assert!((x - y).abs() <= bound * largest + 4e-6, "{encoding:?} {x} {y}");
                }
            }
        }
    }

    #[test]
    fn decoded_rows_are_near(row in rows()) {
        let largest = row.iter().fold(0.0f32, |a, v| a.max(v.abs()));
        for (encoding, bound) in ROW_BOUNDS {
            let error = rms_error(encoding, &row);
            prop_assert!(error <= bound * f64::from(largest) + 1e-4, "{encoding:?} {error}");
        }
    }

    #[test]
    fn any_floats_encode_to_finite_ones(row in prop::collection::vec(any::<u32>(), 256)) {
        let row: Vec<f32> = row.into_iter().map(f32::from_bits).collect();
        for encoding in encodable() {
            let encoded = encode(encoding, &row);
            prop_assert_eq!(&encoded, &encode(encoding, &row));
            let decoded = decode(encoding, &encoded);
            prop_assert!(encoding.is_float() || decoded.iter().all(|v| v.is_finite()));
        }
    }

    #[test]
    fn any_bytes_decode(bytes in prop::collection::vec(any::<u8>(), 256)) {
        for encoding in Encoding::all() {
            let whole = bytes.len() / encoding.block_bytes() * encoding.block_bytes();
            let decoded = decode(encoding, &bytes[..whole]);
            prop_assert_eq!(bits(&decoded), bits(&decode(encoding, &bytes[..whole])));
        }
    }
}
