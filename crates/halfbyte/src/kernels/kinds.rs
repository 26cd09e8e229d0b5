//! What the products of weights and activations add up to, whatever form the weights have.

use super::forms::Form;
use super::lanes::Codes;

/// Which terms a form's groups contribute, in this order (README.md §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Terms {
    /// One scale.
    Scale,
    /// One scale, one minimum.
    ScaleMin,
    /// A scale per half.
    ScaleHalves,
    /// A scale and a minimum per half.
    ScaleMinHalves,
    /// One scale, an integer sub-scale per half.
    SubHalves,
}

impl Terms {
    /// Whether columns 0..16 and 16..32 are summed up apart.
    pub(super) const fn is_per_half(self) -> bool {
        matches!(self, Self::ScaleHalves | Self::ScaleMinHalves | Self::SubHalves)
    }

    /// Lines that hold 32 columns of sixteen rows: 8 of codes, then scales, minima, sub-scales.
    pub(super) const fn lines(self) -> usize {
        match self {
            Self::Scale => 9,
            Self::ScaleMin | Self::ScaleHalves => 10,
            Self::SubHalves => 11,
            Self::ScaleMinHalves => 12,
        }
    }
}

/// What products of codes add up to: forms of one kind differ only in how they are unpacked.
pub(super) trait Kind: Copy {
    /// The terms of the sums.
    const TERMS: Terms;
    /// What the codes are.
    const CODES: Codes;
    /// What is subtracted from each code.
    const OFFSET: i32 = 0;
}

/// The table of kinds.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident: $terms:ident, $codes:ident, $offset:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(super) struct $name;

        impl Kind for $name {
            const TERMS: Terms = Terms::$terms;
            const CODES: Codes = Codes::$codes;
            const OFFSET: i32 = $offset;
        }
    )*};
}

kinds! {
    /// `scale · (n − 8)`.
    OffsetNibbles: Scale, Nibbles, 8;
    /// `scale · n + min`, four bits.
    AffineNibbles: ScaleMin, Nibbles, 0;
    /// `scale · n`, signed.
    SignedBytes: Scale, I8, 0;
    /// `scale · n`, signed, a scale per half.
    SignedHalves: ScaleHalves, I8, 0;
    /// `scale · n + min`, seven bits.
    AffineBytes: ScaleMin, U7, 0;
    /// `scale · n + min`, seven bits, a scale and a minimum per half.
    AffineHalves: ScaleMinHalves, U7, 0;
    /// `scale · u · (n − 32)`, an integer u per half.
    SubScaled: SubHalves, U6, 32;
}

/// Evaluates `$body` with `$K` bound to the kind of a quantized form.
macro_rules! with_kind {
    ($form:expr, $K:ident => $body:expr) => {
        $crate::kernels::kinds::with_kind!(@ $form, $K => $body,
            (Form::Q4(_)): OffsetNibbles,
            (Form::Q4Affine(_) | Form::Q4Zero | Form::Q4K): AffineNibbles,
            (Form::Q4Codebook(..) | Form::Q8): SignedBytes,
            (Form::Q8Halves): SignedHalves,
            (Form::Q8Affine): AffineBytes,
            (Form::Q8AffineHalves): AffineHalves,
            (Form::Q6K): SubScaled)
    };
    (@ $form:expr, $K:ident => $body:expr, $(($pattern:pat): $kind:ident),*) => {
        match $form {
            $($pattern => {
                type $K = $crate::kernels::kinds::$kind;
                $body
            })*
            Form::F16 | Form::BF16 | Form::F32 => unreachable!("float weights have no codes"),
        }
    };
}
pub(super) use with_kind;

/// The terms of a quantized form's sums.
pub(super) fn terms(form: Form) -> Terms {
    with_kind!(form, K => K::TERMS)
}
