//! The hot loops: lanes, packed weight forms, matrix products, threads. Start at README.md.
//!
//! A kernel is an [`Op`]: a struct of its arguments with one generic body. [`Isa::run`] is the one
//! place where an instruction set meets it.

#[macro_use]
mod set;

mod activations;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512vnni;
#[cfg(target_arch = "x86_64")]
mod avxvnni;
mod brake;
mod buffer;
mod cores;
mod crew;
mod fma;
mod forms;
mod gather;
mod grid;
mod kinds;
mod lanes;
pub(crate) mod limits;
mod math;
mod matmul;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neonbase;
#[cfg(target_arch = "aarch64")]
mod neondot;
#[cfg(target_arch = "aarch64")]
mod neoni8mm;
mod panel;
mod product;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod sse2;
mod sync;
mod team;
mod terms;
mod tiles;
mod tokens;
#[cfg(target_arch = "x86_64")]
mod ymm;
#[cfg(target_arch = "x86_64")]
mod zmm;

pub(crate) use activations::{Activations, GROUP, Picked, Plain, Source, load_group};
pub(crate) use brake::Brake;
pub(crate) use buffer::{Buffer, Line, collect, resize, zeroed};
pub use cores::default_threads;
pub(crate) use forms::{Form, Needs, Packed, Scale};
pub(crate) use grid::{Grid, Rectangle};
#[cfg(test)]
use lanes::Codes;
pub(crate) use lanes::{LANES, Lanes, load_padded, max_lanes, store_prefix, sum_lanes};
pub(crate) use math::{exp, gelu_erf, gelu_tanh, silu};
pub(crate) use matmul::{Target, matmul};
use scalar::Scalar;
use set::Set;
pub(crate) use team::{Team, Threads};

#[cfg(test)]
mod tests;

use crate::error::{Error, Result};

/// A computation written once, in lanes.
pub(crate) trait Op {
    /// What it returns.
    type Output;
    /// Computes with `isa`'s instructions. Implementations are `#[inline(always)]`, so that the
    /// whole body is compiled inside [`Isa::run`]'s features.
    fn run<L: Lanes>(self, isa: L) -> Self::Output;
}

/// An instruction set that this processor has.
#[derive(Clone, Copy, Debug)]
pub struct Isa(Kind);

/// An instruction set that this build knows, whether this processor has it or not.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IsaSupport {
    /// The name that `HALFBYTE_ISA` takes.
    pub name: &'static str,
    /// The processor features that it uses beyond the architecture's base.
    pub features: &'static [&'static str],
    /// Those of the features that this processor or its system lacks: none where the set is available.
    pub missing: Vec<&'static str>,
}

/// The table of instruction sets: `"name": Variant = type` rows, from plain to best.
macro_rules! instruction_sets {
    ($($(#[$cfg:meta])? $name:literal: $kind:ident = $lanes:ty;)*) => {
        #[derive(Clone, Copy, Debug)]
        enum Kind {
            $($(#[$cfg])? $kind($lanes),)*
        }

        impl Isa {
            /// All that this build knows for this architecture, from plain to best.
            pub fn all() -> Vec<IsaSupport> {
                vec![$($(#[$cfg])? IsaSupport {
                    name: $name,
                    features: <$lanes>::FEATURES,
                    missing: <$lanes>::missing(),
                },)*]
            }

            /// What this processor has, from plain to best.
            pub fn available() -> Vec<Self> {
                let mut found = Vec::new();
                $($(#[$cfg])? found.extend(<$lanes>::detect().map(|isa| Self(Kind::$kind(isa))));)*
                found
            }

            /// The one of that name, if this processor and its system have it. Only that one is looked
            /// for: to look for AMX is to ask the system for it.
            fn named(name: &str) -> Option<Self> {
                match name {
                    $($(#[$cfg])? $name => <$lanes>::detect().map(|isa| Self(Kind::$kind(isa))),)*
                    _ => None,
                }
            }

            /// The name that `HALFBYTE_ISA` takes.
            pub fn name(self) -> &'static str {
                match self.0 {
                    $($(#[$cfg])? Kind::$kind(_) => $name,)*
                }
            }

            /// The processor features that it uses beyond the architecture's base.
            pub fn features(self) -> &'static [&'static str] {
                match self.0 {
                    $($(#[$cfg])? Kind::$kind(_) => <$lanes>::FEATURES,)*
                }
            }

            /// Runs `op` compiled for this instruction set: the one dispatch point.
            #[inline]
            pub(crate) fn run<O: Op>(self, op: O) -> O::Output {
                match self.0 {
                    $($(#[$cfg])? Kind::$kind(isa) => isa.run(op),)*
                }
            }
        }
    };
}

instruction_sets! {
    "scalar": Scalar = Scalar;
    #[cfg(test)] "matrices": Matrices = Scalar<true>;
    #[cfg(target_arch = "x86_64")] "sse2": Sse2 = sse2::Sse2;
    #[cfg(target_arch = "x86_64")] "avx2": Avx2 = avx2::Avx2;
    #[cfg(target_arch = "x86_64")] "avxvnni": AvxVnni = avxvnni::AvxVnni;
    #[cfg(target_arch = "x86_64")] "avx512": Avx512 = avx512::Avx512;
    #[cfg(target_arch = "x86_64")] "avx512vnni": Avx512Vnni = avx512vnni::Avx512Vnni;
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))] "amx": Amx = amx::Amx;
    #[cfg(target_arch = "aarch64")] "neon": Neon = neonbase::NeonBase;
    #[cfg(target_arch = "aarch64")] "neondot": NeonDot = neondot::NeonDot;
    #[cfg(target_arch = "aarch64")] "neoni8mm": NeonI8mm = neoni8mm::NeonI8mm;
}

/// The environment variable that overrides the choice of instruction set.
const ISA_VARIABLE: &str = "HALFBYTE_ISA";

impl Isa {
    /// What the environment variable `HALFBYTE_ISA` names, if it is set to anything.
    pub fn wanted() -> Option<String> {
        let name = std::env::var_os(ISA_VARIABLE).filter(|name| !name.is_empty());
        name.map(|name| name.to_string_lossy().into_owned())
    }

    /// The best one here, or the one that the environment variable `HALFBYTE_ISA` names.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the variable names one that this processor or its system lacks.
    pub fn choose() -> Result<Self> {
        let Some(name) = Self::wanted() else {
            return Ok(Self::available().pop().unwrap_or(Self(Kind::Scalar(Scalar))));
        };
        Self::named(&name).ok_or_else(|| {
            let available = Self::available().into_iter().map(Self::name);
            let names = available.collect::<Vec<_>>().join(", ");
            Error::config(ISA_VARIABLE, format!("{name} is not available (here: {names})"))
        })
    }
}
