//! Every operation of [`Lanes`] on every instruction set of this machine, bit for bit as scalar.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::super::buffer::Line;
use super::super::lanes::{Codes, LANES, Lanes};
use super::super::{Isa, Op};

/// Random cases; an interpreter such as Miri does with a few.
const CASES: usize = if cfg!(miri) { 12 } else { 3000 };

/// The arguments of one round, and what is derived from them to stay within the contracts.
#[derive(Debug)]
struct Case {
    a: [f32; LANES],
    b: [f32; LANES],
    c: [f32; LANES],
    i: [i32; LANES],
    j: [i32; LANES],
    shift: u32,
    bytes: [[u8; 64]; 8],
    table: [i8; 16],
    /// Four signed bytes in −127..=127 for each line and token.
    x: [[i32; 12]; 8],
}

impl Case {
    /// Random bits, every fourth number a special one.
    fn random(rng: &mut ChaCha8Rng) -> Self {
        const FLOATS: [f32; 20] = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            1.5,
            2.5,
            -3.5,
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MIN_POSITIVE,
            1e-45,
            -3e-39,
            f32::MAX,
            f32::MIN,
            16_777_217.0,
            1.0 + f32::EPSILON,
            65_504.0,
            1e30,
        ];
        const INTS: [i32; 9] =
            [0, 1, -1, i32::MAX, i32::MIN, 0xffff, 1 << 24, (1 << 24) + 1, -(1 << 25) - 3];
        let float = |rng: &mut ChaCha8Rng| match rng.next_u32() % 4 {
            0 => FLOATS[rng.next_u32() as usize % FLOATS.len()],
            1 => rng.next_u32().cast_signed() as f32 / 65_536.0,
            _ => f32::from_bits(rng.next_u32()),
        };
        let int = |rng: &mut ChaCha8Rng| match rng.next_u32() % 4 {
            0 => INTS[rng.next_u32() as usize % INTS.len()],
            _ => rng.next_u32().cast_signed(),
        };
        let mut case = Self {
            a: [0.0; LANES].map(|_| float(rng)),
            b: [0.0; LANES].map(|_| float(rng)),
            c: [0.0; LANES].map(|_| float(rng)),
            i: [0; LANES].map(|_| int(rng)),
            j: [0; LANES].map(|_| int(rng)),
            shift: rng.next_u32() % 32,
            bytes: [[0; 64]; 8],
            table: [0; 16],
            x: [[0; 12]; 8],
        };
        let extreme = rng.next_u32().is_multiple_of(4);
        for bytes in &mut case.bytes {
            rng.fill_bytes(bytes);
            if extreme {
                *bytes = bytes.map(|b| [0x7f, 0x80, 0xff, 0][usize::from(b % 4)]);
            }
        }
        case.table = case.table.map(|_| rng.next_u32().to_le_bytes()[0].cast_signed());
        for x in case.x.as_flattened_mut() {
            let mut bytes = rng.next_u32().to_le_bytes();
            if extreme {
                bytes = bytes.map(|b| if b < 128 { 127 } else { 0x81 });
            }
            *x = i32::from_le_bytes(bytes.map(|b| if b == 0x80 { 0x81 } else { b }));
        }
        // Sometimes near-cancelling: where a fused multiply-add rounded twice would show.
        if rng.next_u32().is_multiple_of(2) {
            for lane in 0..LANES {
                case.c[lane] = -(case.a[lane] * case.b[lane]);
            }
        }
        case
    }

    /// Finite floats within i32, for rounding.
    fn roundable(&self) -> [f32; LANES] {
        self.a.map(|x| if x.abs() < 2_147_483_000.0 { x } else { 0.5 })
    }
}

/// The results of every operation, by name. NaN has one pattern where arithmetic makes it: which
/// one is the processor's choice.
struct Every<'a>(&'a Case);

type Results = Vec<(String, Vec<u32>)>;

impl Op for Every<'_> {
    type Output = Results;

    #[inline(always)]
    fn run<L: Lanes>(self, isa: L) -> Results {
        let mut results = Results::new();
        floats(isa, self.0, &mut results);
        ints(isa, self.0, &mut results);
        lines(isa, self.0, &mut results);
        dots::<L, 1>(isa, self.0, &mut results);
        dots::<L, 2>(isa, self.0, &mut results);
        dots::<L, 3>(isa, self.0, &mut results);
        dots::<L, 4>(isa, self.0, &mut results);
        dots::<L, 6>(isa, self.0, &mut results);
        dots::<L, 8>(isa, self.0, &mut results);
        dots::<L, 12>(isa, self.0, &mut results);
        products(isa, self.0, &mut results);
        results
    }
}

#[inline(always)]
fn float_bits<L: Lanes>(isa: L, x: L::F) -> Vec<u32> {
    let mut lanes = [0.0; LANES];
    isa.store(x, &mut lanes);
    lanes.map(f32::to_bits).to_vec()
}

#[inline(always)]
fn int_bits<L: Lanes>(isa: L, x: L::I) -> Vec<u32> {
    let mut lanes = [0; LANES];
    isa.store_i(x, &mut lanes);
    lanes.map(i32::cast_unsigned).to_vec()
}

#[inline(always)]
fn line_bits<L: Lanes>(isa: L, x: L::B) -> Vec<u32> {
    let mut bytes = [0; 64];
    isa.store_line(x, &mut bytes);
    assert_eq!(
        bytes.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect::<Vec<_>>(),
        int_bits(isa, isa.line_as_i(x)),
        "two ways to store a line"
    );
    int_bits(isa, isa.line_as_i(x))
}

#[inline(always)]
fn load_int<L: Lanes>(isa: L, x: &[i32; LANES]) -> L::I {
    isa.as_i(isa.load(&x.map(|x| f32::from_bits(x.cast_unsigned()))))
}

#[inline(always)]
fn floats<L: Lanes>(isa: L, case: &Case, results: &mut Results) {
    let (a, b, c) = (isa.load(&case.a), isa.load(&case.b), isa.load(&case.c));
    let one_nan = |bits: u32| if f32::from_bits(bits).is_nan() { 0x7fc0_0000 } else { bits };
    for (name, result) in [
        ("add", isa.add(a, b)),
        ("sub", isa.sub(a, b)),
        ("mul", isa.mul(a, b)),
        ("div", isa.div(a, b)),
        ("fma", isa.fma(a, b, c)),
    ] {
        results.push((name.into(), float_bits(isa, result).into_iter().map(one_nan).collect()));
    }
    let f16 = case.bytes[0].first_chunk().expect("64 bytes");
    for (name, result) in [
        ("splat", isa.splat(case.a[0])),
        ("load", a),
        ("max", isa.max(a, b)),
        ("min", isa.min(a, b)),
        ("load_f16", isa.load_f16(f16)),
        ("load_bf16", isa.load_bf16(f16)),
        ("to_f", isa.to_f(load_int(isa, &case.i))),
        ("as_f", isa.as_f(load_int(isa, &case.i))),
    ] {
        results.push((name.into(), float_bits(isa, result)));
    }
    results.push(("round".into(), int_bits(isa, isa.round(isa.load(&case.roundable())))));
}

#[inline(always)]
fn ints<L: Lanes>(isa: L, case: &Case, results: &mut Results) {
    let (i, j) = (load_int(isa, &case.i), load_int(isa, &case.j));
    let bytes = case.bytes[1].first_chunk().expect("64 bytes");
    for (name, result) in [
        ("splat_i", isa.splat_i(case.i[0])),
        ("load_i8", isa.load_i8(bytes)),
        ("add_i", isa.add_i(i, j)),
        ("mul_i", isa.mul_i(i, j)),
        ("max_i", isa.max_i(i, j)),
        ("and_i", isa.and_i(i, j)),
        ("or_i", isa.or_i(i, j)),
        ("shl_i", isa.shl_i(i, case.shift)),
        ("shr_i", isa.shr_i(i, case.shift)),
        ("as_i", isa.as_i(isa.load(&case.b))),
    ] {
        results.push((name.into(), int_bits(isa, result)));
    }
    let small = load_int(isa, &case.i.map(|x| x >> 5));
    results.push(("max_lanes".into(), vec![isa.max_lanes(i).cast_unsigned()]));
    results.push(("sum_lanes_i".into(), vec![isa.sum_lanes_i(small).cast_unsigned()]));
    let narrow = isa.narrow(isa.load_i8(bytes));
    results.push(("narrow".into(), narrow.map(i32::cast_unsigned).to_vec()));
}

#[inline(always)]
fn lines<L: Lanes>(isa: L, case: &Case, results: &mut Results) {
    let line = isa.load_line(&case.bytes[2]);
    isa.prefetch(case.bytes[2].as_ptr().wrapping_add(1 << 20));
    isa.prefetch_once(case.bytes[2].as_ptr().wrapping_add(1 << 20));
    for (name, result) in [
        ("load_line", line),
        ("i_as_line", isa.i_as_line(load_int(isa, &case.i))),
        ("low_nibbles", isa.low_nibbles(line)),
        ("high_nibbles", isa.high_nibbles(line)),
        ("lookup", isa.lookup(&case.table, isa.low_nibbles(line))),
    ] {
        results.push((name.into(), line_bits(isa, result)));
    }
    let acc = load_int(isa, &case.i.map(|x| x >> 7));
    let u7 = isa.load_line(&case.bytes[3].map(|b| b & 127));
    results.push(("dot_u7".into(), int_bits(isa, isa.dot_u7(acc, u7, case.x[0][0]))));
    let dot = isa.add_i(isa.dot_i8(acc, line, case.x[0][0]), unbias(isa, &case.x[..1], 0));
    results.push(("dot_i8".into(), int_bits(isa, dot)));
}

/// What removes `I8_BIAS` from a sum over lines: −bias · Σx of token `t`.
#[inline(always)]
fn unbias<L: Lanes>(isa: L, x: &[[i32; 12]], t: usize) -> L::I {
    let bytes = x.iter().flat_map(|x| x[t].to_le_bytes());
    isa.splat_i(-L::I8_BIAS * bytes.map(|b| i32::from(b.cast_signed())).sum::<i32>())
}

#[inline(always)]
fn dots<L: Lanes, const W: usize>(isa: L, case: &Case, results: &mut Results) {
    for n in [0, 1, 3, 4, 8] {
        let x: [[i32; W]; 8] = std::array::from_fn(|j| std::array::from_fn(|t| case.x[j][t]));
        for (codes, mask) in
            [(Codes::Nibbles, 15), (Codes::U6, 63), (Codes::U7, 127), (Codes::I8, 255)]
        {
            let lines: [L::B; 8] =
                std::array::from_fn(|j| isa.load_line(&case.bytes[j].map(|b| b & mask)));
            let starts: [L::I; W] =
                std::array::from_fn(|t| load_int(isa, &case.j.map(|x| (x >> 8) + t as i32)));
            let mut push = |what: &str, sums: [L::I; W]| {
                for (t, sum) in sums.into_iter().enumerate() {
                    let unbias = unbias(isa, &case.x[..n], t);
                    let sum = if codes == Codes::I8 { isa.add_i(sum, unbias) } else { sum };
                    let name = format!("{what} of {n} lines of {codes:?}, token {t} of {W}");
                    results.push((name, int_bits(isa, sum)));
                }
            };
            push("dots", isa.dots(codes, &lines[..n], &x[..n], starts));
            if n % 4 == 0 {
                let mut arranged = [Line::default(); 8];
                for (line, codes) in arranged.iter_mut().zip(isa.arrange(lines, 0)) {
                    isa.store_line(codes, &mut line.0);
                }
                push("arranged dots", isa.dots_arranged(codes, &arranged[..n], &x[..n], starts));
            }
        }
    }
}

#[inline(always)]
fn products<L: Lanes>(isa: L, case: &Case, results: &mut Results) {
    let lines: [L::B; 8] = std::array::from_fn(|j| isa.load_line(&case.bytes[j]));
    // Those without matrices leave the offset to the start of a sum.
    let offset = case.table[0];
    let signed = |byte: u8| byte.cast_signed().wrapping_sub(offset).cast_unsigned();
    let mut arranged = case.bytes.map(|line| Line(line.map(signed)));
    if L::MATRICES {
        for (line, codes) in arranged.iter_mut().zip(isa.arrange(lines, offset)) {
            isa.store_line(codes, &mut line.0);
        }
    }
    let x = std::array::from_fn(|t| std::array::from_fn(|j| case.x[j][t % 12]));
    isa.begin_matrices();
    for which in [0..8, 0..4, 4..8] {
        for (t, sum) in isa.products(&arranged, &x, which.clone()).into_iter().enumerate() {
            results.push((format!("products of {which:?}, token {t}"), int_bits(isa, sum)));
        }
    }
    isa.end_matrices();
}

#[test]
fn every_operation_equals_scalar() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let scalar = Isa::available()[0];
    assert_eq!(scalar.name(), "scalar");
    for _ in 0..CASES {
        let case = Case::random(&mut rng);
        let want = scalar.run(Every(&case));
        for isa in Isa::available() {
            let got = isa.run(Every(&case));
            for ((name, got), (_, want)) in got.iter().zip(&want) {
                assert!(got == want, "{}: {name}: {got:x?}, not {want:x?}: {case:x?}", isa.name());
            }
            assert_eq!(got.len(), want.len());
        }
    }
}
