//! What a 32-column group of weights adds to the sums of a tile of tokens: README.md §3 in lanes.
//!
//! Inlined functions only, here and in `product.rs`: the compiler may leave a closure, or what
//! `array::map` calls, outside, where vectors travel through memory.

use std::ops::Range;

use super::activations::{WORDS, word};
use super::buffer::Line;
use super::kinds::{Kind, Terms};
use super::lanes::{Codes, Lanes};
use super::tiles::Group;

/// Calls `$body` with `$t` bound to each token below `$W`, written out: as a loop the compiler might
/// keep it, and the tokens' sums on the stack.
macro_rules! each_token {
    ($t:ident < $W:ident => $body:expr) => {
        $crate::kernels::terms::each_token!(@ $t $W $body,
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $t:ident $W:ident $body:expr, $($i:literal)*) => {
        $(if const { $i < $W } {
            const $t: usize = $i;
            $body;
        })*
    };
}
pub(super) use each_token;

/// Adds one 32-column group's terms to the tokens' sums. Where the group is from a panel, `arranged`
/// are its lines there.
#[inline(always)]
pub(super) fn add_group<L: Lanes, K: Kind, const W: usize>(
    isa: L,
    group: &Group<L>,
    arranged: Option<&[Line; 8]>,
    record: &[[i32; W]; WORDS],
    acc: &mut [L::F; W],
) {
    if const { L::MATRICES }
        && let Some(arranged) = arranged
    {
        add_by_matrix::<L, K, W>(isa, group, arranged, record, acc);
    } else if const { L::BY_TOKEN } {
        each_token!(TOKEN < W => {
            let sums = token_sums::<L, K, W>(isa, &group.lines, record, TOKEN);
            acc[TOKEN] = add_terms::<L, K, W>(isa, group, record, TOKEN, sums, acc[TOKEN]);
        });
    } else {
        add_by_line::<L, K, W>(isa, group, arranged, record, acc);
    }
}

#[inline(always)]
fn add_by_matrix<L: Lanes, K: Kind, const W: usize>(
    isa: L,
    group: &Group<L>,
    arranged: &[Line; 8],
    record: &[[i32; W]; WORDS],
    acc: &mut [L::F; W],
) {
    let (tokens, _) = record.as_flattened().as_chunks();
    let x = tokens.first_chunk().expect("sixteen tokens");
    let [low, high] = if const { K::TERMS.is_per_half() } {
        [isa.products(arranged, x, 0..4), isa.products(arranged, x, 4..8)]
    } else {
        [isa.products(arranged, x, 0..8); 2]
    };
    each_token!(TOKEN < W => {
        let sums = [low[TOKEN], high[TOKEN]];
        acc[TOKEN] = add_terms::<L, K, W>(isa, group, record, TOKEN, sums, acc[TOKEN]);
    });
}

#[inline(always)]
fn add_by_line<L: Lanes, K: Kind, const W: usize>(
    isa: L,
    group: &Group<L>,
    arranged: Option<&[Line; 8]>,
    record: &[[i32; W]; WORDS],
    acc: &mut [L::F; W],
) {
    let [low, high] = tile_sums::<L, K, W>(isa, &group.lines, arranged, record);
    each_token!(TOKEN < W => {
        let sums = [low[TOKEN], high[TOKEN]];
        acc[TOKEN] = add_terms::<L, K, W>(isa, group, record, TOKEN, sums, acc[TOKEN]);
    });
}

/// Adds a group's terms to the sum of token t. `sums` are those of its codes: of columns 0..16 and
/// 16..32 where the kind's terms are per half, else of all columns and anything.
#[inline(always)]
fn add_terms<L: Lanes, K: Kind, const W: usize>(
    isa: L,
    group: &Group<L>,
    record: &[[i32; W]; WORDS],
    t: usize,
    sums: [L::I; 2],
    mut acc: L::F,
) -> L::F {
    let d = record[word::SCALE][t];
    match const { K::TERMS } {
        Terms::Scale => scaled(isa, group.scale[0], d, sums[0], acc),
        Terms::ScaleMin => {
            acc = scaled(isa, group.scale[0], d, sums[0], acc);
            isa.fma(group.min[0], float(isa, record[word::SCALED_SUM][t]), acc)
        }
        Terms::ScaleHalves | Terms::ScaleMinHalves => {
            acc = scaled(isa, group.scale[0], d, sums[0], acc);
            acc = scaled(isa, group.scale[1], d, sums[1], acc);
            if K::TERMS == Terms::ScaleMinHalves {
                for (half, &min) in group.min.iter().enumerate() {
                    acc = isa.fma(min, float(isa, record[word::HALF_SCALED_SUM + half][t]), acc);
                }
            }
            acc
        }
        Terms::SubHalves => {
            let low = isa.mul_i(sums[0], group.sub[0]);
            let sum = isa.add_i(low, isa.mul_i(sums[1], group.sub[1]));
            scaled(isa, group.scale[0], d, sum, acc)
        }
    }
}

/// The sums of the codes for token t, as [`add_terms`] wants them.
#[inline(always)]
fn token_sums<L: Lanes, K: Kind, const W: usize>(
    isa: L,
    lines: &[L::B; 8],
    record: &[[i32; W]; WORDS],
    t: usize,
) -> [L::I; 2] {
    if const { K::TERMS.is_per_half() } {
        let low = start::<L, K>(isa, record[word::HALF_START][t], word::HALF_UNIT);
        let high = start::<L, K>(isa, record[word::HALF_START + 1][t], word::HALF_UNIT);
        [
            isa.dot_lines(K::CODES, &lines[..4], &record[..4], t, low),
            isa.dot_lines(K::CODES, &lines[4..], &record[4..8], t, high),
        ]
    } else {
        let start = start::<L, K>(isa, record[word::START][t], word::UNIT);
        [isa.dot_lines(K::CODES, lines, &record[..8], t, start); 2]
    }
}

/// As [`token_sums`], for all tokens.
#[inline(always)]
fn tile_sums<L: Lanes, K: Kind, const W: usize>(
    isa: L,
    lines: &[L::B; 8],
    arranged: Option<&[Line; 8]>,
    record: &[[i32; W]; WORDS],
) -> [[L::I; W]; 2] {
    if const { K::TERMS.is_per_half() } {
        let low = starts::<L, K, W>(isa, &record[word::HALF_START], word::HALF_UNIT);
        let high = starts::<L, K, W>(isa, &record[word::HALF_START + 1], word::HALF_UNIT);
        [
            dots::<L, K, W>(isa, (lines, arranged), 0..4, record, low),
            dots::<L, K, W>(isa, (lines, arranged), 4..8, record, high),
        ]
    } else {
        let starts = starts::<L, K, W>(isa, &record[word::START], word::UNIT);
        [dots::<L, K, W>(isa, (lines, arranged), 0..8, record, starts); 2]
    }
}

#[inline(always)]
fn dots<L: Lanes, K: Kind, const W: usize>(
    isa: L,
    (lines, arranged): (&[L::B; 8], Option<&[Line; 8]>),
    which: Range<usize>,
    record: &[[i32; W]; WORDS],
    start: [L::I; W],
) -> [L::I; W] {
    let x = &record[which.clone()];
    match arranged {
        Some(arranged) => isa.dots_arranged(K::CODES, &arranged[which], x, start),
        None => isa.dots(K::CODES, &lines[which], x, start),
    }
}

/// `fma(scale · d, sum, acc)`, with d as bits.
#[inline(always)]
fn scaled<L: Lanes>(isa: L, scale: L::F, d: i32, sum: L::I, acc: L::F) -> L::F {
    isa.fma(isa.mul(scale, float(isa, d)), isa.to_f(sum), acc)
}

#[inline(always)]
fn float<L: Lanes>(isa: L, bits: i32) -> L::F {
    isa.splat(f32::from_bits(bits.cast_unsigned()))
}

/// What Σ code·q starts at, so that it becomes Σ (code − OFFSET)·q: `part` is −`unit`·Σq.
#[inline(always)]
fn start<L: Lanes, K: Kind>(isa: L, part: i32, unit: i32) -> L::I {
    let offset = K::OFFSET + if matches!(K::CODES, Codes::I8) { L::I8_BIAS } else { 0 };
    if offset == 0 {
        isa.splat_i(0)
    } else {
        // A shift in lanes, not in a general register: those are dear to broadcast.
        isa.shl_i(isa.splat_i(part), (offset / unit).unsigned_abs().ilog2())
    }
}

/// As [`start`], for all tokens.
#[inline(always)]
fn starts<L: Lanes, K: Kind, const W: usize>(isa: L, parts: &[i32; W], unit: i32) -> [L::I; W] {
    let mut starts = [isa.splat_i(0); W];
    each_token!(TOKEN < W => starts[TOKEN] = start::<L, K>(isa, parts[TOKEN], unit));
    starts
}
