//! How each packed form's bytes become lanes: eight lines of codes and their scales per 32 columns.

use super::forms::Form;
use super::kinds::{
    AffineBytes, AffineHalves, AffineNibbles, Kind, OffsetNibbles, SignedBytes, SignedHalves,
    SubScaled,
};
use super::lanes::Lanes;

/// Thirty-two columns of sixteen rows, unpacked.
///
/// Line j holds columns 4j..4j+4. What a form does not have is neutral: sub-scale 1, minimum 0;
/// halves are equal where a scale serves all 32.
pub(super) struct Group<L: Lanes> {
    /// Codes, one byte each.
    pub(super) lines: [L::B; 8],
    /// Scale of columns 0..16 and 16..32.
    pub(super) scale: [L::F; 2],
    /// Minimum of columns 0..16 and 16..32, added to each weight.
    pub(super) min: [L::F; 2],
    /// Integer sub-scale of columns 0..16 and 16..32.
    pub(super) sub: [L::I; 2],
}

/// A quantized packed form.
pub(super) trait TileForm: Copy {
    /// What its codes add up to.
    type Kind: Kind;

    /// Unpacks columns 32b..32b+32 of a row group's bytes.
    fn group<L: Lanes>(self, isa: L, bytes: &[u8], b: usize) -> Group<L>;
}

/// Evaluates `$body` with `$tile` bound to the [`TileForm`] of a quantized form, or `$else` with
/// `$float` bound to a form of float weights.
macro_rules! with_form {
    ($form:expr, $tile:ident => $body:expr, $float:pat => $else:expr) => {
        $crate::kernels::tiles::with_form!(@ $form, $tile => $body, $float => $else,
            (Form::Q4(Scale::F16)): tiles::Q4::<tiles::F16Scale>::NEW,
            (Form::Q4(Scale::F32)): tiles::Q4::<tiles::F32Scale>::NEW,
            (Form::Q4Codebook(Scale::F16, table)): tiles::Q4Codebook::<tiles::F16Scale>::new(table),
            (Form::Q4Codebook(Scale::F32, table)): tiles::Q4Codebook::<tiles::F32Scale>::new(table),
            (Form::Q4Affine(Scale::F16)): tiles::Q4Affine::<tiles::F16Scale>::NEW,
            (Form::Q4Affine(Scale::F32)): tiles::Q4Affine::<tiles::F32Scale>::NEW,
            (Form::Q4Zero): tiles::Q4Zero,
            (Form::Q4K): tiles::Q4K,
            (Form::Q6K): tiles::Q6K,
            (Form::Q8): tiles::Q8,
            (Form::Q8Halves): tiles::Q8Halves,
            (Form::Q8Affine): tiles::Q8Affine,
            (Form::Q8AffineHalves): tiles::Q8AffineHalves)
    };
    (@ $form:expr, $tile:ident => $body:expr, $float:pat => $else:expr,
        $(($pattern:pat): $value:expr),*) => {
        match $form {
            $($pattern => {
                let $tile = $value;
                $body
            })*
            $float => $else,
        }
    };
}
pub(super) use with_form;

#[inline(always)]
fn chunk<const N: usize>(bytes: &[u8], at: usize) -> &[u8; N] {
    bytes[at..].first_chunk().expect("packed groups hold whole units")
}

#[inline(always)]
fn load_i<L: Lanes>(isa: L, bytes: &[u8; 64]) -> L::I {
    isa.line_as_i(isa.load_line(bytes))
}

#[inline(always)]
fn load_f32<L: Lanes>(isa: L, bytes: &[u8; 64]) -> L::F {
    isa.as_f(load_i(isa, bytes))
}

/// Bits `shift` and up that `mask` keeps.
#[inline(always)]
fn bits<L: Lanes>(isa: L, x: L::I, shift: usize, mask: i32) -> L::I {
    isa.and_i(isa.shr_i(x, shift as u32), isa.splat_i(mask))
}

/// Four lines of nibbles: low nibbles are columns 0..16, high nibbles columns 16..32.
#[inline(always)]
fn nibbles<L: Lanes>(isa: L, bytes: &[u8; 256]) -> [L::B; 8] {
    let (packed, _) = bytes.as_chunks::<64>();
    let mut lines = [isa.load_line(&packed[0]); 8];
    for j in 0..4 {
        let line = isa.load_line(&packed[j]);
        lines[j] = isa.low_nibbles(line);
        lines[4 + j] = isa.high_nibbles(line);
    }
    lines
}

#[inline(always)]
fn bytes8<L: Lanes>(isa: L, bytes: &[u8; 512]) -> [L::B; 8] {
    let (packed, _) = bytes.as_chunks::<64>();
    let mut lines = [isa.load_line(&packed[0]); 8];
    for j in 1..8 {
        lines[j] = isa.load_line(&packed[j]);
    }
    lines
}

#[inline(always)]
fn symmetric<L: Lanes>(isa: L, lines: [L::B; 8], scale: L::F) -> Group<L> {
    let (zero, one) = (isa.splat(0.0), isa.splat_i(1));
    Group { lines, scale: [scale; 2], min: [zero; 2], sub: [one; 2] }
}

/// Where a 4-bit form keeps the scale and the nibbles of its 32-column groups.
pub(super) trait ScaleKind: Copy {
    fn split<L: Lanes>(isa: L, bytes: &[u8], b: usize) -> (L::F, &[u8; 256]);

    /// Scale, minimum and nibbles of an affine group.
    fn split_affine<L: Lanes>(isa: L, bytes: &[u8], b: usize) -> (L::F, L::F, &[u8; 256]);
}

/// Two groups share a line of f16 scales, so that every line stays aligned.
#[derive(Clone, Copy)]
pub(super) struct F16Scale;

impl ScaleKind for F16Scale {
    #[inline(always)]
    fn split<L: Lanes>(isa: L, bytes: &[u8], b: usize) -> (L::F, &[u8; 256]) {
        let unit: &[u8; 576] = chunk(bytes, b / 2 * 576);
        let scale = isa.load_f16(chunk(unit, b % 2 * 32));
        (scale, chunk(unit, 64 + b % 2 * 256))
    }

    #[inline(always)]
    fn split_affine<L: Lanes>(isa: L, bytes: &[u8], b: usize) -> (L::F, L::F, &[u8; 256]) {
        let unit: &[u8; 320] = chunk(bytes, b * 320);
        (isa.load_f16(chunk(unit, 0)), isa.load_f16(chunk(unit, 32)), chunk(unit, 64))
    }
}

/// A line of f32 scales before each group.
#[derive(Clone, Copy)]
pub(super) struct F32Scale;

impl ScaleKind for F32Scale {
    #[inline(always)]
    fn split<L: Lanes>(isa: L, bytes: &[u8], b: usize) -> (L::F, &[u8; 256]) {
        let unit: &[u8; 320] = chunk(bytes, b * 320);
        (load_f32(isa, chunk(unit, 0)), chunk(unit, 64))
    }

    #[inline(always)]
    fn split_affine<L: Lanes>(isa: L, bytes: &[u8], b: usize) -> (L::F, L::F, &[u8; 256]) {
        let unit: &[u8; 384] = chunk(bytes, b * 384);
        (load_f32(isa, chunk(unit, 0)), load_f32(isa, chunk(unit, 64)), chunk(unit, 128))
    }
}

/// [`Form::Q4`].
#[derive(Clone, Copy)]
pub(super) struct Q4<S>(std::marker::PhantomData<S>);

impl<S: ScaleKind> Q4<S> {
    pub(super) const NEW: Self = Self(std::marker::PhantomData);
}

impl<S: ScaleKind> TileForm for Q4<S> {
    type Kind = OffsetNibbles;

    #[inline(always)]
    fn group<L: Lanes>(self, isa: L, bytes: &[u8], b: usize) -> Group<L> {
        let (scale, codes) = S::split(isa, bytes, b);
        symmetric(isa, nibbles(isa, codes), scale)
    }
}

/// [`Form::Q4Codebook`].
#[derive(Clone, Copy)]
pub(super) struct Q4Codebook<S>(&'static [i8; 16], std::marker::PhantomData<S>);

impl<S: ScaleKind> Q4Codebook<S> {
    pub(super) fn new(table: &'static [i8; 16]) -> Self {
        Self(table, std::marker::PhantomData)
    }
}

impl<S: ScaleKind> TileForm for Q4Codebook<S> {
    type Kind = SignedBytes;

    #[inline(always)]
    fn group<L: Lanes>(self, isa: L, bytes: &[u8], b: usize) -> Group<L> {
        let (scale, codes) = S::split(isa, bytes, b);
        let mut lines = nibbles(isa, codes);
        for line in &mut lines {
            *line = isa.lookup(self.0, *line);
        }
        symmetric(isa, lines, scale)
    }
}

/// [`Form::Q4Affine`].
#[derive(Clone, Copy)]
pub(super) struct Q4Affine<S>(std::marker::PhantomData<S>);

impl<S: ScaleKind> Q4Affine<S> {
    pub(super) const NEW: Self = Self(std::marker::PhantomData);
}

impl<S: ScaleKind> TileForm for Q4Affine<S> {
    type Kind = AffineNibbles;

    #[inline(always)]
    fn group<L: Lanes>(self, isa: L, bytes: &[u8], b: usize) -> Group<L> {
        let (scale, min, codes) = S::split_affine(isa, bytes, b);
        Group { min: [min; 2], ..symmetric(isa, nibbles(isa, codes), scale) }
    }
}

/// [`Form::Q4Zero`].
#[derive(Clone, Copy)]
pub(super) struct Q4Zero;

impl TileForm for Q4Zero {
    type Kind = AffineNibbles;

    #[inline(always)]
    fn group<L: Lanes>(self, isa: L, bytes: &[u8], b: usize) -> Group<L> {
        let (scale, zero, codes) = F16Scale::split_affine(isa, bytes, b);
        let min = isa.mul(scale, zero);
        Group { min: [min; 2], ..symmetric(isa, nibbles(isa, codes), scale) }
    }
}

/// [`Form::Q4K`].
#[derive(Clone, Copy)]
pub(super) struct Q4K;

impl TileForm for Q4K {
    type Kind = AffineNibbles;

    #[inline(always)]
    fn group<L: Lanes>(self, isa: L, bytes: &[u8], b: usize) -> Group<L> {
        let unit: &[u8; 2304] = chunk(bytes, b / 8 * 2304);
        let g = b % 8;
        // The twelve bytes of Q4_K's scales, a dword of each row a lane (formats.md §4.3 restated):
        // groups 0..4 keep six bits in one place, groups 4..8 four low bits and two high bits.
        let first = load_i(isa, chunk(unit, 64));
        let second = load_i(isa, chunk(unit, 128));
        let (scale, min) = if g < 4 {
            (bits(isa, first, 8 * g, 63), bits(isa, second, 8 * g, 63))
        } else {
            let (i, low) = (g - 4, load_i(isa, chunk(unit, 192)));
            let scale_high = isa.shl_i(bits(isa, first, 8 * i + 6, 3), 4);
            let min_high = isa.shl_i(bits(isa, second, 8 * i + 6, 3), 4);
            let scale = isa.or_i(bits(isa, low, 8 * i, 15), scale_high);
            (scale, isa.or_i(bits(isa, low, 8 * i + 4, 15), min_high))
        };
        // Exact: 11 bits of f16 times 6 bits fit f32's 24.
        let scale = isa.mul(isa.load_f16(chunk(unit, 0)), isa.to_f(scale));
        let min = isa.mul(isa.load_f16(chunk(unit, 32)), isa.to_f(min));
        let min = isa.sub(isa.splat(0.0), min);
        let lines = nibbles(isa, chunk(unit, 256 + 256 * g));
        Group { min: [min; 2], ..symmetric(isa, lines, scale) }
    }
}

/// [`Form::Q6K`].
#[derive(Clone, Copy)]
pub(super) struct Q6K;

impl TileForm for Q6K {
    type Kind = SubScaled;

    #[inline(always)]
    fn group<L: Lanes>(self, isa: L, bytes: &[u8], b: usize) -> Group<L> {
        let unit: &[u8; 3392] = chunk(bytes, b / 8 * 3392);
        let g = b % 8;
        let scale = isa.load_f16(chunk(unit, 0));
        let sub =
            [isa.load_i8(chunk(unit, 64 + 32 * g)), isa.load_i8(chunk(unit, 64 + 32 * g + 16))];
        let codes: &[u8; 384] = chunk(unit, 320 + 384 * g);
        let mut lines = nibbles(isa, chunk(codes, 0));
        let high = [load_i(isa, chunk(codes, 256)), load_i(isa, chunk(codes, 320))];
        let mask = isa.splat_i(0x3030_3030);
        for (j, line) in lines.iter_mut().enumerate() {
            let plane = high[j / 4];
            let moved = match j % 4 {
                0 => isa.shl_i(plane, 4),
                1 => isa.shl_i(plane, 2),
                2 => plane,
                _ => isa.shr_i(plane, 2),
            };
            let code = isa.or_i(isa.line_as_i(*line), isa.and_i(moved, mask));
            *line = isa.i_as_line(code);
        }
        Group { sub, ..symmetric(isa, lines, scale) }
    }
}

/// [`Form::Q8`].
#[derive(Clone, Copy)]
pub(super) struct Q8;

impl TileForm for Q8 {
    type Kind = SignedBytes;

    #[inline(always)]
    fn group<L: Lanes>(self, isa: L, bytes: &[u8], b: usize) -> Group<L> {
        let unit: &[u8; 1088] = chunk(bytes, b / 2 * 1088);
        let scale = isa.load_f16(chunk(unit, b % 2 * 32));
        symmetric(isa, bytes8(isa, chunk(unit, 64 + b % 2 * 512)), scale)
    }
}

/// [`Form::Q8Halves`].
#[derive(Clone, Copy)]
pub(super) struct Q8Halves;

impl TileForm for Q8Halves {
    type Kind = SignedHalves;

    #[inline(always)]
    fn group<L: Lanes>(self, isa: L, bytes: &[u8], b: usize) -> Group<L> {
        let unit: &[u8; 640] = chunk(bytes, b * 640);
        let scale = [load_f32(isa, chunk(unit, 0)), load_f32(isa, chunk(unit, 64))];
        let lines = bytes8(isa, chunk(unit, 128));
        Group { scale, ..symmetric(isa, lines, scale[0]) }
    }
}

/// [`Form::Q8Affine`].
#[derive(Clone, Copy)]
pub(super) struct Q8Affine;

impl TileForm for Q8Affine {
    type Kind = AffineBytes;

    #[inline(always)]
    fn group<L: Lanes>(self, isa: L, bytes: &[u8], b: usize) -> Group<L> {
        let unit: &[u8; 640] = chunk(bytes, b * 640);
        let scale = load_f32(isa, chunk(unit, 0));
        let min = load_f32(isa, chunk(unit, 64));
        Group { min: [min; 2], ..symmetric(isa, bytes8(isa, chunk(unit, 128)), scale) }
    }
}

/// [`Form::Q8AffineHalves`].
#[derive(Clone, Copy)]
pub(super) struct Q8AffineHalves;

impl TileForm for Q8AffineHalves {
    type Kind = AffineHalves;

    #[inline(always)]
    fn group<L: Lanes>(self, isa: L, bytes: &[u8], b: usize) -> Group<L> {
        let unit: &[u8; 768] = chunk(bytes, b * 768);
        let scale = [load_f32(isa, chunk(unit, 0)), load_f32(isa, chunk(unit, 64))];
        let min = [load_f32(isa, chunk(unit, 128)), load_f32(isa, chunk(unit, 192))];
        let lines = bytes8(isa, chunk(unit, 256));
        Group { scale, min, ..symmetric(isa, lines, scale[0]) }
    }
}

/// Column `k` of a row group of float weights.
#[inline(always)]
pub(super) fn float_column<L: Lanes>(isa: L, form: Form, bytes: &[u8], k: usize) -> L::F {
    match form {
        Form::F16 => isa.load_f16(chunk(bytes, 32 * k)),
        Form::BF16 => isa.load_bf16(chunk(bytes, 32 * k)),
        _ => load_f32(isa, chunk(bytes, 64 * k)),
    }
}
