//! What every instruction set does besides computing: being found, and being switched on.

use super::Op;
use super::lanes::Lanes;

/// An instruction set: lanes that this processor may or may not have.
pub(super) trait Set: Lanes {
    /// The processor features that it needs, by the names that `target_feature` takes.
    const FEATURES: &'static [&'static str];

    /// Which of the features this processor or its system lacks.
    fn missing() -> Vec<&'static str>;

    /// The proof, where the processor has the features.
    fn detect() -> Option<Self>;

    /// Runs `op` compiled for the features.
    fn run<O: Op>(self, op: O) -> O::Output;
}

/// `impl Set`, from one list of features: what is looked for is exactly what is switched on.
///
/// `set!(Type, proof, is_…_feature_detected: "feature", …)`. Features that only assembly uses, and
/// that the compiler cannot name, may follow: `; function_that_looks_for_them: "feature", …`.
macro_rules! set {
    ($isa:ty, $proof:expr, $detected:ident: $($feature:tt),+ $(; $here:ident: $($other:tt),+)?) => {
        impl $crate::kernels::set::Set for $isa {
            const FEATURES: &'static [&'static str] = &[$($feature),+ $(, $($other),+)?];

            fn missing() -> Vec<&'static str> {
                let features = [
                    $(($feature, std::arch::$detected!($feature))),+
                    $(, $(($other, $here())),+)?
                ];
                features.into_iter().filter(|(_, here)| !here).map(|(name, _)| name).collect()
            }

            fn detect() -> Option<Self> {
                Self::missing().is_empty().then(|| $proof)
            }

            #[inline]
            fn run<O: $crate::kernels::Op>(self, op: O) -> O::Output {
                $(#[target_feature(enable = $feature)])+
                fn inner<O: $crate::kernels::Op>(isa: $isa, op: O) -> O::Output {
                    op.run(isa)
                }
                // SAFETY: only `detect` makes a value, where the processor has all that `inner`
                // enables: both are written from one list.
                unsafe { inner(self, op) }
            }
        }
    };
}

/// One operation on registers, sound because `self` proves the features.
macro_rules! simd {
    ($e:expr) => {{
        // SAFETY: `self` exists only where `Set::detect` found the instructions.
        unsafe { $e }
    }};
}

/// A loop written out: as a loop the compiler would keep it, and the lines on the stack.
macro_rules! each_line {
    ($j:ident in $($line:literal)* => $body:expr) => {
        $({
            const $j: usize = $line;
            $body
        })*
    };
}

/// The same operation on both registers of a pair.
#[cfg(target_arch = "x86_64")]
macro_rules! both {
    ($op:expr, $a:expr $(, $b:expr)*) => {
        [simd!($op($a[0] $(, $b[0])*)), simd!($op($a[1] $(, $b[1])*))]
    };
}

/// The same operation on all four registers of a group.
macro_rules! all {
    ($op:expr, $a:expr $(, $b:expr)*) => {
        [
            simd!($op($a[0] $(, $b[0])*)),
            simd!($op($a[1] $(, $b[1])*)),
            simd!($op($a[2] $(, $b[2])*)),
            simd!($op($a[3] $(, $b[3])*)),
        ]
    };
}
