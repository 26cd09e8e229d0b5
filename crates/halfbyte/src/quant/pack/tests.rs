//! Packing against its specification: the layouts of `kernels/README.md`, one byte at a time.

use std::sync::atomic::{AtomicUsize, Ordering};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::*;

/// Writes one row's block `b` into its lane of a group.
fn specify(encoding: Encoding, block: &[u8], b: usize, lane: usize, out: &mut [u8]) {
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    let (scale, d) = (2 * lane, 4 * lane);
    match encoding {
        Encoding::F32 => put(64 * b + d, block),
        Encoding::F16 | Encoding::BF16 => put(32 * b + scale, block),
        Encoding::Q4_0 | Encoding::IQ4_NL => {
            put(b / 2 * 576 + b % 2 * 32 + scale, &block[..2]);
            lines(&block[2..], b / 2 * 576 + 64 + b % 2 * 256 + d, &mut put);
        }
        Encoding::Q4_1 | Encoding::Q4_Z => {
            put(b * 320 + scale, &block[..2]);
            put(b * 320 + 32 + scale, &block[2..4]);
            lines(&block[4..], b * 320 + 64 + d, &mut put);
        }
        Encoding::Q4_0_V1 | Encoding::Q4_0_V2 => {
            put(b * 320 + d, &block[..4]);
            lines(&nibbles_of_2023(encoding, &block[4..]), b * 320 + 64 + d, &mut put);
        }
        Encoding::Q4_1_V1 | Encoding::Q4_1_V2 => {
            put(b * 384 + d, &block[..4]);
            put(b * 384 + 64 + d, &block[4..8]);
            lines(&nibbles_of_2023(encoding, &block[8..]), b * 384 + 128 + d, &mut put);
        }
        Encoding::Q8_0 => {
            put(b / 2 * 1088 + b % 2 * 32 + scale, &block[..2]);
            lines(&block[2..], b / 2 * 1088 + 64 + b % 2 * 512 + d, &mut put);
        }
        Encoding::Q4_K => {
            put(b * 2304 + scale, &block[..2]);
            put(b * 2304 + 32 + scale, &block[2..4]);
            lines(&block[4..16], b * 2304 + 64 + d, &mut put);
            for g in 0..8 {
                let code = |i: usize| (block[16 + g / 2 * 32 + i] >> (4 * (g % 2))) & 15;
                let codes: [u8; 16] = std::array::from_fn(|i| code(i) | code(i + 16) << 4);
                lines(&codes, b * 2304 + 256 + 256 * g + d, &mut put);
            }
        }
        Encoding::Q6_K => {
            put(b * 3392 + scale, &block[208..]);
            (0..16).for_each(|s| put(b * 3392 + 64 + 16 * s + lane, &[block[192 + s]]));
            for g in 0..8 {
                let (h, k) = (g / 4, g % 4);
                let low = |c: usize| (block[64 * h + c + 32 * (k & 1)] >> (4 * (k / 2))) & 15;
                let high = |c: usize| (block[128 + 32 * h + c] >> (2 * k)) & 3;
                let codes: [u8; 16] = std::array::from_fn(|i| low(i) | low(i + 16) << 4);
                lines(&codes, b * 3392 + 320 + 384 * g + d, &mut put);
                let planes: [u8; 8] = std::array::from_fn(|i| {
                    let column = |z: usize| 16 * (i / 4) + 4 * z + i % 4;
                    (0..4).fold(0, |bits, z| bits | high(column(z)) << (2 * z))
                });
                lines(&planes, b * 3392 + 576 + 384 * g + d, &mut put);
            }
        }
        Encoding::MXFP4 => {
            put(b * 320 + d, &half_e8m0(block[0]).to_le_bytes());
            lines(&block[1..], b * 320 + 64 + d, &mut put);
        }
        Encoding::IQ4_XS => {
            for j in 0..8 {
                let scale = iq4_xs_scale(block.first_chunk().unwrap(), j);
                let scale = f16_at(block, 0) * f32::from(scale);
                put((8 * b + j) * 320 + d, &scale.to_le_bytes());
                lines(&block[8 + 16 * j..][..16], (8 * b + j) * 320 + 64 + d, &mut put);
            }
        }
        _ => specify_widened(encoding, block, b, lane, out),
    }
}

/// Nibbles in the forms' order: byte b holds elements b and b + 16.
fn nibbles_of_2023(encoding: Encoding, bytes: &[u8]) -> [u8; 16] {
    let neighbours = matches!(encoding, Encoding::Q4_0_V1 | Encoding::Q4_1_V1);
    let code = |i: usize| match neighbours {
        true => (bytes[i / 2] >> (4 * (i % 2))) & 15,
        false => (bytes[i % 16] >> (4 * (i / 16))) & 15,
    };
    std::array::from_fn(|b| code(b) | code(b + 16) << 4)
}

/// Dword j of `codes` stands 64 bytes after dword j − 1.
fn lines(codes: &[u8], at: usize, put: &mut impl FnMut(usize, &[u8])) {
    codes.chunks_exact(4).enumerate().for_each(|(j, dword)| put(at + 64 * j, dword));
}

fn specify_widened(encoding: Encoding, block: &[u8], b: usize, lane: usize, out: &mut [u8]) {
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    let (per_block, d) = (encoding.block_len() / 32, 4 * lane);
    for g in 0..per_block {
        let (wide, at) = (widen::group(encoding, block, g), b * per_block + g);
        let (scale, min) = (wide.scale.map(f32::to_le_bytes), wide.min.map(f32::to_le_bytes));
        match form(encoding) {
            Form::Q8 => {
                put(at / 2 * 1088 + at % 2 * 32 + 2 * lane, &block[..2]);
                lines(&wide.codes, at / 2 * 1088 + 64 + at % 2 * 512 + d, &mut put);
            }
            Form::Q8Affine => {
                put(at * 640 + d, &scale[0]);
                put(at * 640 + 64 + d, &min[0]);
                lines(&wide.codes, at * 640 + 128 + d, &mut put);
            }
            Form::Q8Halves => {
                put(at * 640 + d, &scale[0]);
                put(at * 640 + 64 + d, &scale[1]);
                lines(&wide.codes, at * 640 + 128 + d, &mut put);
            }
            _ => {
                put(at * 768 + d, &scale[0]);
                put(at * 768 + 64 + d, &scale[1]);
                put(at * 768 + 128 + d, &min[0]);
                put(at * 768 + 192 + d, &min[1]);
                lines(&wide.codes, at * 768 + 256 + d, &mut put);
            }
        }
    }
}

#[test]
fn packing_equals_its_specification_for_any_bits() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for encoding in Encoding::all() {
        for (n, blocks) in [(1, 1), (15, 2), (16, 3), (17, 1), (47, 5)] {
            let k = blocks * encoding.block_len();
            let row_bytes = encoding.row_bytes(k).unwrap();
            let mut bytes = vec![0; n * row_bytes];
            rng.fill_bytes(&mut bytes);
            let row = |i: usize| &bytes[i * row_bytes..][..row_bytes];
            let packed = pack(encoding, (n, k), row).unwrap();
            let mut want = vec![0; packed.n_bytes()];
            for (g, out) in want.chunks_exact_mut(packed.group_bytes()).enumerate() {
                for lane in 0..LANES {
                    let i = g * LANES + lane;
                    let zeros = vec![0; row_bytes];
                    let row = if i < n { row(i) } else { &zeros };
                    for (b, block) in row.chunks_exact(encoding.block_bytes()).enumerate() {
                        specify(encoding, block, b, lane, out);
                    }
                }
            }
            assert!(packed.bytes() == want, "{} {n} × {k}", encoding.name());
        }
    }
}

#[test]
fn every_row_is_done_once_after_its_last_use() {
    let (n, k) = (2 * LANES * TASK_BYTES / (2304 * LANES) + 5, 4096);
    let (asked, done) = (counters(n), counters(n));
    let bytes = vec![0; 2304];
    let row = |i: usize| {
        assert_eq!(done[i].load(Ordering::SeqCst), 0, "row {i} was said to be done");
        asked[i].fetch_add(1, Ordering::SeqCst);
        bytes.as_slice()
    };
    pack_and(Encoding::Q4_0, (n, k), row, |rows| {
        for i in rows {
            done[i].fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    })
    .unwrap();
    for counts in [asked, done] {
        assert!(counts.iter().all(|count| count.load(Ordering::SeqCst) == 1));
    }
}

#[test]
fn packing_ends_when_its_listener_says_so() {
    let bytes = vec![0; 2304];
    let result = pack_and(Encoding::Q4_0, (64, 4096), |_| &bytes, |_| Err(Error::Cancelled));
    assert!(matches!(result, Err(Error::Cancelled)));
}

fn counters(n: usize) -> Vec<AtomicUsize> {
    (0..n).map(|_| AtomicUsize::new(0)).collect()
}

#[test]
fn rows_of_half_a_block_are_an_error() {
    let result = pack(Encoding::Q4_0, (16, 48), |_| &[]);
    assert!(matches!(result, Err(Error::Shape { .. })), "{result:?}");
}

#[test]
fn what_no_memory_holds_is_an_error() {
    let result = pack(Encoding::Q4_0, (1 << 44, 1 << 12), |_| &[]);
    assert!(matches!(result, Err(Error::OutOfMemory { .. })), "{result:?}");
    let result = pack(Encoding::F32, (usize::MAX, usize::MAX), |_| &[]);
    assert!(matches!(result, Err(Error::OutOfMemory { .. } | Error::Shape { .. })), "{result:?}");
}
