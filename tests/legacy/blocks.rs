//! Blocks of 2023 against their description, element by element.

use halfbyte::quant::Encoding;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// What a block of 2023 says about element i, from the formats' description: its factor, its
/// code and what is added.
fn of_2023(encoding: Encoding, block: &[u8], i: usize) -> (f32, i32, f32) {
    let wide = |at: usize| f32::from_le_bytes(std::array::from_fn(|i| block[at + i]));
    let half = |at: usize| half::f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
    // Neighbours share a byte, or elements 16 apart.
    let near = |at: usize| i32::from((block[at + i / 2] >> (4 * (i % 2))) & 15);
    let far = |at: usize| i32::from((block[at + i % 16] >> (4 * (i / 16))) & 15);
    let fifth = |at: usize| i32::from((block[at + i / 8] >> (i % 8)) & 1) << 4;
    let (pair, j) = (i / 16, i % 16);
    let short = |at: usize| i32::from((block[at + j / 2] >> (4 * (j % 2))) & 15);
    match encoding {
        Encoding::Q4_0_V1 => (wide(0), near(4) - 8, 0.0),
        Encoding::Q4_0_V2 => (wide(0), far(4) - 8, 0.0),
        Encoding::Q4_1_V1 => (wide(0), near(8), wide(4)),
        Encoding::Q4_1_V2 => (wide(0), far(8), wide(4)),
        Encoding::Q4_2 => (half(10 * pair), short(10 * pair + 2) - 8, 0.0),
        Encoding::Q4_3 => (half(12 * pair), short(12 * pair + 4), half(12 * pair + 2)),
        Encoding::Q5_0_V1 => (half(0), (near(6) | fifth(2)) - 16, 0.0),
        Encoding::Q5_1_V1 => (half(0), near(8) | fifth(4), half(2)),
        Encoding::Q8_0_V1 => (wide(0), i32::from(block[4 + i].cast_signed()), 0.0),
        other => unreachable!("{other:?} is not of 2023"),
    }
}

#[test]
fn blocks_of_2023_decode_as_they_are_described() {
    let mut rng = ChaCha8Rng::seed_from_u64(2023);
    for encoding in Encoding::all().filter(|encoding| encoding.is_of_2023()) {
        for _ in 0..1000 {
            let mut block = vec![0; encoding.block_bytes()];
            rng.fill_bytes(&mut block);
            let want: Vec<f32> = (0..32)
                .map(|i| {
                    let (factor, code, low) = of_2023(encoding, &block, i);
                    factor * code as f32 + low
                })
                .collect();
            // NaN counts as itself; 0 of either sign is 0.
            let same = |a: &f32, b: &f32| a == b || (a.is_nan() && b.is_nan());
            let found = {
                let mut out = vec![f32::NAN; 32];
                encoding.decode(&block, &mut out);
                out
            };
            assert!(found.iter().zip(&want).all(|(a, b)| same(a, b)), "{encoding:?}");
        }
    }
}
