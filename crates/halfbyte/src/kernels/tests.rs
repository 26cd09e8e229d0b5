//! Every kernel on every instruction set of this machine, against scalar and against f64.

#[cfg(not(miri))]
mod fuzz;
#[cfg(not(miri))]
mod guard;
mod lanes;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::kinds::Kind;
use super::tiles::{self, TileForm};
use super::{
    Activations, Brake, Codes, Form, Isa, LANES, Lanes, Packed, Plain, Scalar, Scale, Target,
    Threads, matmul,
};
use crate::quant::{Encoding, pack};

/// Where each encoding's blocks keep f16 factors: random bits there must be made finite.
fn f16_fields(encoding: Encoding) -> &'static [usize] {
    match encoding {
        Encoding::Q4_1 | Encoding::Q4_Z | Encoding::Q5_1 | Encoding::Q4_K | Encoding::Q5_K => {
            &[0, 2]
        }
        Encoding::Q2_K => &[80, 82],
        Encoding::Q3_K => &[108],
        Encoding::Q6_K => &[208],
        Encoding::Q4_2 => &[0, 10],
        Encoding::Q4_3 => &[0, 2, 12, 14],
        Encoding::Q5_1_V1 => &[0, 2],
        Encoding::F32 | Encoding::MXFP4 => &[],
        _ if !f32_fields(encoding).is_empty() => &[],
        _ => &[0],
    }
}

/// Where the blocks of 2023 keep f32 factors.
fn f32_fields(encoding: Encoding) -> &'static [usize] {
    match encoding {
        Encoding::Q4_0_V1 | Encoding::Q4_0_V2 | Encoding::Q8_0_V1 => &[0],
        Encoding::Q4_1_V1 | Encoding::Q4_1_V2 => &[0, 4],
        _ => &[],
    }
}

/// Random valid rows of `encoding`, (n, k).
fn random_rows(encoding: Encoding, n: usize, k: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<u8>> {
    let bytes = encoding.row_bytes(k).unwrap();
    let row = |rng: &mut ChaCha8Rng| {
        let mut row = vec![0; bytes];
        rng.fill_bytes(&mut row);
        for block in row.chunks_exact_mut(encoding.block_bytes()) {
            for &at in f16_fields(encoding) {
                // Exponent 01xxx: magnitudes between 2⁻⁷ and 2.
                block[at + 1] = (block[at + 1] & 0x9f) | 0x20;
            }
            for &at in f32_fields(encoding) {
                block[at + 3] = (block[at + 3] & 0x80) | 0x3d;
            }
            match encoding {
                Encoding::F32 => block[3] = (block[3] & 0x80) | 0x3d,
                Encoding::BF16 => block[1] = (block[1] & 0x80) | 0x3d,
                Encoding::MXFP4 => block[0] = 120 + block[0] % 8,
                _ => {}
            }
        }
        row
    };
    (0..n).map(|_| row(rng)).collect()
}

fn random_floats(len: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..len).map(|_| rng.next_u32().cast_signed() as f32 / 1e9).collect()
}

fn packed(encoding: Encoding, rows: &[Vec<u8>], k: usize) -> Packed {
    pack(encoding, (rows.len(), k), |i| &rows[i]).unwrap()
}

fn product(isa: Isa, threads: usize, w: &Packed, x: &[f32]) -> Vec<f32> {
    let (k, rows) = (w.k(), x.len() / w.k());
    // NaN shows what was not written; two more columns show what should not have been.
    let stride = w.n() + 2;
    let mut out = vec![f32::NAN; rows * stride];
    Threads::new(Some(threads), isa).unwrap().enter(|team| {
        let mut activations = Activations::default();
        activations.fill(team, &Plain { x, k }, (rows, k), w.form().needs()).unwrap();
        let target = Target { out: &mut out, stride, first: 1, bias: None, add: false };
        matmul(team, &Brake::none(), w, &mut activations, target);
    });
    for row in out.chunks_exact(stride) {
        assert!(row[0].is_nan() && row[stride - 1].is_nan(), "wrote outside its columns");
    }
    out.chunks_exact(stride).flat_map(|row| row[1..stride - 1].to_vec()).collect()
}

#[test]
fn packing_keeps_every_value() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for encoding in Encoding::all() {
        for (n, blocks) in [(1, 1), (16, 3), (37, 2)] {
            let k = blocks * encoding.block_len();
            let rows = random_rows(encoding, n, k, &mut rng);
            let packed = packed(encoding, &rows, k);
            for (i, row) in rows.iter().enumerate() {
                let (mut want, mut got) = (vec![0.0; k], vec![f32::NAN; k]);
                encoding.decode(row, &mut want);
                row_to_f32(&packed, i, &mut got);
                assert_eq!(got, want, "{} row {i} of {n} × {k}", encoding.name());
            }
        }
    }
}

#[test]
fn products_equal_scalar_on_every_isa_team_and_batch() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for encoding in Encoding::all() {
        // The last: more than a block of a panel, and enough tokens for panels on every set.
        for (n, k, most) in [(1, 256, 29), (19, 512, 29), (53, 768, 29), (35, 1024, 61)] {
            let k = if encoding.block_len() == 32 { k + 32 } else { k };
            let rows = random_rows(encoding, n, k, &mut rng);
            let w = packed(encoding, &rows, k);
            let x = random_floats(most * k, &mut rng);
            let scalar = Isa::available()[0];
            let want = product(scalar, 1, &w, &x);
            for isa in Isa::available() {
                for (threads, m) in [(1, most), (2, 1), (3, 13), (2, most), (1, 7)] {
                    let got = product(isa, threads, &w, &x[..m * k]);
                    let case = format!("{} {n}×{k}, {m} rows, {}", encoding.name(), isa.name());
                    let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert!(bits(&got) == bits(&want[..m * n]), "{case} differs from scalar");
                }
            }
        }
    }
}

#[test]
fn products_are_near_the_exact_product() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for encoding in Encoding::all() {
        let (n, k, m) = (48, 1024, 3);
        let rows = random_rows(encoding, n, k, &mut rng);
        let x = random_floats(m * k, &mut rng);
        let got = product(Isa::choose().unwrap(), 2, &packed(encoding, &rows, k), &x);
        let (mut error, mut size) = (0.0, 0.0);
        let mut row_values = vec![0.0; k];
        for (i, row) in rows.iter().enumerate() {
            encoding.decode(row, &mut row_values);
            for t in 0..m {
                let pairs = row_values.iter().zip(&x[t * k..]);
                let want: f64 = pairs.map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                error += (f64::from(got[t * n + i]) - want).powi(2);
                size += want.powi(2);
            }
        }
        let relative = (error / size).sqrt();
        // int8 activations cost 0.5 to 1 %; float products only rounding.
        let bound = if encoding.is_float() { 1e-5 } else { 0.012 };
        assert!(relative < bound, "{}: relative RMS {relative:.2e}", encoding.name());
    }
}

/// Decodes row `row` into `out` (k): exactly what the encoding on disk decodes to.
fn row_to_f32(packed: &Packed, row: usize, out: &mut [f32]) {
    assert!(
        row < packed.n() && out.len() == packed.k(),
        "row {row} of {}, {} columns",
        packed.n(),
        packed.k()
    );
    let (bytes, lane) = (packed.group(row / LANES), row % LANES);
    match packed.form() {
        Form::Q4(Scale::F16) => decode(tiles::Q4::<tiles::F16Scale>::NEW, bytes, lane, out),
        Form::Q4(Scale::F32) => decode(tiles::Q4::<tiles::F32Scale>::NEW, bytes, lane, out),
        Form::Q4Codebook(Scale::F16, table) => {
            decode(tiles::Q4Codebook::<tiles::F16Scale>::new(table), bytes, lane, out);
        }
        Form::Q4Codebook(Scale::F32, table) => {
            decode(tiles::Q4Codebook::<tiles::F32Scale>::new(table), bytes, lane, out);
        }
        Form::Q4Affine(Scale::F16) => {
            decode(tiles::Q4Affine::<tiles::F16Scale>::NEW, bytes, lane, out);
        }
        Form::Q4Affine(Scale::F32) => {
            decode(tiles::Q4Affine::<tiles::F32Scale>::NEW, bytes, lane, out);
        }
        Form::Q4Zero => decode(tiles::Q4Zero, bytes, lane, out),
        Form::Q4K => decode(tiles::Q4K, bytes, lane, out),
        Form::Q6K => decode(tiles::Q6K, bytes, lane, out),
        Form::Q8 => decode(tiles::Q8, bytes, lane, out),
        Form::Q8Halves => decode(tiles::Q8Halves, bytes, lane, out),
        Form::Q8Affine => decode(tiles::Q8Affine, bytes, lane, out),
        Form::Q8AffineHalves => decode(tiles::Q8AffineHalves, bytes, lane, out),
        Form::F16 | Form::BF16 | Form::F32 => {
            for (k, x) in out.iter_mut().enumerate() {
                *x = tiles::float_column(Scalar::<false>, packed.form(), bytes, k)[lane];
            }
        }
    }
}

/// Decodes one lane of a group of quantized weights.
fn decode<T: TileForm>(form: T, bytes: &[u8], lane: usize, out: &mut [f32]) {
    for (b, out) in out.chunks_mut(32).enumerate() {
        let group = form.group(Scalar::<false>, bytes, b);
        for (i, x) in out.iter_mut().enumerate() {
            let byte = Scalar::<false>.line_as_i(group.lines[i / 4])[lane].to_le_bytes()[i % 4];
            let code = if T::Kind::CODES == Codes::I8 {
                i32::from(byte.cast_signed())
            } else {
                i32::from(byte)
            };
            let half = i / 16;
            let code = (code - T::Kind::OFFSET) * group.sub[half][lane];
            *x = group.scale[half][lane] * code as f32 + group.min[half][lane];
        }
    }
}
