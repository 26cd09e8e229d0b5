//! AVX-512 whose bytes are multiplied as matrices, where there are tokens enough: AMX.
//!
//! The instructions are written in assembly because neither their intrinsics nor the names of their
//! features are stable yet.

use std::arch::asm;
use std::arch::x86_64::{__cpuid_count, __m512i, _mm512_set1_epi8, _mm512_sub_epi8, CpuidResult};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::OnceLock;

use super::avx512vnni::Dpbusd512;
use super::buffer::Line;
use super::lanes::{Codes, LANES};
use super::zmm::{Dot, Zmm};

/// Multiplies with `tdpbssd` in panels, and with `vpdpbusd` where weights stream past.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tdpbssd(Dpbusd512);

/// AVX-512 with VNNI and AMX for int8: Intel's servers since Sapphire Rapids (2023).
pub(super) type Amx = Zmm<Tdpbssd>;

set!(
    Amx,
    // SAFETY: `detect` evaluates this only where it found all features.
    Zmm(Tdpbssd(unsafe { Dpbusd512::new() })),
    is_x86_feature_detected: "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni", "avx2",
    "fma", "f16c";
    is_usable: "amx-tile", "amx-int8"
);

/// Whether this processor has AMX for int8, and the system lets this process use it.
fn is_usable() -> bool {
    static USABLE: OnceLock<bool> = OnceLock::new();
    *USABLE.get_or_init(|| {
        let has_leaf = !cfg!(miri) && std::arch::is_x86_feature_detected!("avx512f");
        has_leaf && has_tiles() && ask_linux()
    })
}

/// Bits of leaf 7 (Intel's manual, volume 1, 18.2). Every processor with AVX-512 has that leaf.
fn has_tiles() -> bool {
    const TILE: u32 = 1 << 24;
    const INT8: u32 = 1 << 25;
    // Safe in newer versions of the library only.
    let cpuid: unsafe fn(u32, u32) -> CpuidResult = __cpuid_count;
    // SAFETY: the processor has the instruction, as every one of 64 bits.
    unsafe { cpuid(7, 0) }.edx & (TILE | INT8) == TILE | INT8
}

/// Asks Linux for the tiles, which are large and switched off at first (its
/// `Documentation/arch/x86/xstate.rst`). It refuses where a thread has a stack for signals that is
/// too small for them. The answer is for the whole process and its children.
fn ask_linux() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: a request that reads and writes no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

/// The shapes of the tile registers, in rows and bytes of a row: sums of sixteen tokens; tokens and
/// lines of a group; the same of half a group.
const SHAPES: [(u8, u16); 5] = [(16, 64), (16, 32), (8, 64), (16, 16), (4, 64)];

/// What `ldtilecfg` takes: palette 1, bytes of a row from byte 16 on, rows from byte 48 on.
static CONFIG: Line = {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let mut i = 0;
    while i < SHAPES.len() {
        let (rows, row_bytes) = SHAPES[i];
        [bytes[16 + 2 * i], bytes[17 + 2 * i]] = row_bytes.to_le_bytes();
        bytes[48 + i] = rows;
        i += 1;
    }
    Line(bytes)
};

// SAFETY: only `Amx::detect` makes a value, after it found AVX-512 F, BW, VL, DQ and VNNI.
unsafe impl Dot for Tdpbssd {
    const I8_BIAS: i32 = Dpbusd512::I8_BIAS;
    const MATRICES: bool = true;

    #[inline(always)]
    fn dot_u7(self, acc: __m512i, w: __m512i, x: __m512i) -> __m512i {
        self.0.dot_u7(acc, w, x)
    }

    #[inline(always)]
    fn dot_i8(self, acc: __m512i, w: __m512i, x: __m512i) -> __m512i {
        self.0.dot_i8(acc, w, x)
    }

    #[inline(always)]
    fn dot_lines<const W: usize>(
        self,
        codes: Codes,
        lines: &[__m512i],
        x: &[[i32; W]],
        t: usize,
        start: __m512i,
    ) -> __m512i {
        self.0.dot_lines(codes, lines, x, t, start)
    }

    #[inline(always)]
    fn begin_matrices(self) {
        // SAFETY: AMX is here; the shapes are within its limits, and the tiles are nobody's: an
        // owner gives them back before it calls others.
        unsafe {
            asm!(
                "ldtilecfg [{}]", in(reg) &raw const CONFIG,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, preserves_flags),
            );
        }
    }

    #[inline(always)]
    fn end_matrices(self) {
        // SAFETY: AMX is here; no tile holds anything that is still wanted.
        unsafe {
            asm!(
                "tilerelease",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, preserves_flags),
            );
        }
    }

    /// Signed codes need no start of their sums.
    #[inline(always)]
    fn arrange(self, mut lines: [__m512i; 8], offset: i8) -> [__m512i; 8] {
        let offset = simd!(_mm512_set1_epi8(offset));
        each_line!(J in 0 1 2 3 4 5 6 7 => lines[J] = simd!(_mm512_sub_epi8(lines[J], offset)));
        lines
    }

    #[inline(always)]
    fn products(
        self,
        arranged: &[Line; 8],
        x: &[[i32; 8]; LANES],
        which: Range<usize>,
    ) -> [__m512i; LANES] {
        assert!(matches!((which.start, which.end), (0, 8) | (0, 4) | (4, 8)), "no half: {which:?}");
        let mut sums = MaybeUninit::<[__m512i; LANES]>::uninit();
        let (weights, x) = (arranged[which.clone()].as_ptr(), &x.as_flattened()[which.start..]);
        if which.len() == 8 {
            // SAFETY: AMX is here, and `begin_matrices` gave the tiles their shapes. Eight lines, eight
            // words of each token (32 bytes apart) and sixteen sums are inside the arrays.
            unsafe {
                asm!(
                    "tilezero tmm0",
                    "tileloadd tmm1, [{x} + {token}*1]",
                    "tileloadd tmm2, [{weights} + {line}*1]",
                    "tdpbssd tmm0, tmm1, tmm2",
                    "tilestored [{sums} + {line}*1], tmm0",
                    x = in(reg) x.as_ptr(), token = in(reg) 32_usize,
                    weights = in(reg) weights, line = in(reg) 64_usize,
                    sums = in(reg) sums.as_mut_ptr(),
                    out("tmm0") _, out("tmm1") _, out("tmm2") _,
                    options(nostack, preserves_flags),
                );
            }
        } else {
            // SAFETY: as above, with four lines and four words of each token.
            unsafe {
                asm!(
                    "tilezero tmm0",
                    "tileloadd tmm3, [{x} + {token}*1]",
                    "tileloadd tmm4, [{weights} + {line}*1]",
                    "tdpbssd tmm0, tmm3, tmm4",
                    "tilestored [{sums} + {line}*1], tmm0",
                    x = in(reg) x.as_ptr(), token = in(reg) 32_usize,
                    weights = in(reg) weights, line = in(reg) 64_usize,
                    sums = in(reg) sums.as_mut_ptr(),
                    out("tmm0") _, out("tmm3") _, out("tmm4") _,
                    options(nostack, preserves_flags),
                );
            }
        }
        // SAFETY: either way all sums were written.
        unsafe { sums.assume_init() }
    }
}
