//! Random products of every form on every instruction set of this machine, bit for bit as scalar.
//!
//! `HALFBYTE_FUZZ_CASES` says how many, `HALFBYTE_FUZZ_SEED` the seed of the first; each next case has
//! the next seed. What fails names its seed: with that and one case it is repeated.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::super::buffer::Buffer;
use super::guard::{self, Floats, Side};
use super::{
    Activations, Brake, Encoding, Form, Isa, Packed, Plain, Scale, Target, Threads, matmul, pack,
};

/// Random choices.
struct Dice(ChaCha8Rng);

impl Dice {
    /// From 0 to `n` − 1.
    fn below(&mut self, n: usize) -> usize {
        self.0.next_u32() as usize % n
    }
    /// Once in `n` times.
    fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
    /// Between −1 and 1.
    fn float(&mut self) -> f32 {
        self.0.next_u32().cast_signed() as f32 / 2_147_483_648.0
    }
}

const TABLE: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Where a form keeps floats, and which codes it may hold.
struct Layout {
    form: Form,
    /// Bytes of a unit, of which the first `floats` are floats of `width` bytes.
    unit: usize,
    floats: usize,
    width: usize,
    /// The bits that a byte of codes may have.
    codes: u8,
}

/// The table of forms.
const FORMS: [Layout; 16] = {
    const fn row(form: Form, unit: usize, floats: usize, width: usize, codes: u8) -> Layout {
        Layout { form, unit, floats, width, codes }
    }
    [
        row(Form::Q4(Scale::F16), 576, 64, 2, 255),
        row(Form::Q4(Scale::F32), 320, 64, 4, 255),
        row(Form::Q4Codebook(Scale::F16, &TABLE), 576, 64, 2, 255),
        row(Form::Q4Codebook(Scale::F32, &TABLE), 320, 64, 4, 255),
        row(Form::Q4Affine(Scale::F16), 320, 64, 2, 255),
        row(Form::Q4Affine(Scale::F32), 384, 128, 4, 255),
        row(Form::Q4Zero, 320, 64, 2, 255),
        row(Form::Q4K, 2304, 64, 2, 255),
        row(Form::Q6K, 3392, 32, 2, 255),
        row(Form::Q8, 1088, 64, 2, 255),
        row(Form::Q8Halves, 640, 128, 4, 255),
        row(Form::Q8Affine, 640, 128, 4, 127),
        row(Form::Q8AffineHalves, 768, 256, 4, 127),
        row(Form::F16, 64, 64, 2, 255),
        row(Form::BF16, 64, 64, 2, 255),
        row(Form::F32, 64, 64, 4, 255),
    ]
};

/// Weights of any bits that `layout`'s form may hold, (n, k); most floats are of common size.
fn weights(layout: &Layout, (n, k): (usize, usize), side: Side, dice: &mut Dice) -> Packed {
    let form = layout.form;
    let mut packed = Packed::zeroed(form, n, k).unwrap();
    let bytes = packed.groups_mut();
    dice.0.fill_bytes(bytes);
    let (extreme, wild) = (dice.once_in(4), dice.once_in(4));
    for unit in bytes.chunks_exact_mut(layout.unit) {
        let (floats, codes) = unit.split_at_mut(layout.floats);
        for byte in codes {
            if extreme {
                *byte = dice.pick(&[0x7f, 0x80, 0xff, 0x00]);
            }
            *byte &= layout.codes;
        }
        for float in floats.chunks_exact_mut(layout.width) {
            if !wild || !dice.once_in(50) {
                // Exponents 01xx… of f16, 0111101x… of the others.
                let top = float.last_mut().unwrap();
                let wide = layout.width == 4 || form == Form::BF16;
                *top = if wide { (*top & 0x80) | 0x3d } else { (*top & 0x9f) | 0x20 };
            }
        }
    }
    let (mut map, start) = guard::pages(packed.n_bytes(), side);
    map[start..][..packed.n_bytes()].copy_from_slice(packed.bytes());
    Packed::new(form, (n, k), Buffer::from_pages(map, start, packed.n_bytes()))
}

/// Rows of activations, (m, k), in which some groups of 32 are of an uncommon sort.
fn activations((m, k): (usize, usize), dice: &mut Dice) -> Vec<f32> {
    let wild = dice.once_in(3);
    let mut x: Vec<f32> = (0..m * k).map(|_| dice.float()).collect();
    for row in x.chunks_exact_mut(k) {
        for group in row.chunks_mut(32) {
            if !wild || !dice.once_in(8) {
                continue;
            }
            let one = dice.below(group.len());
            match dice.below(9) {
                0 => group.fill(0.0),
                1 => group.fill(-0.0),
                2 => group.iter_mut().for_each(|x| *x *= 1e-30),
                3 => group.iter_mut().for_each(|x| *x *= 1e-40),
                4 => group.iter_mut().for_each(|x| *x *= f32::MAX),
                5 => group.iter_mut().for_each(|x| *x = x.signum()),
                6 => group[one] = f32::NAN,
                7 => group[one] = f32::INFINITY.copysign(group[one]),
                _ => group[one] = f32::from_bits(dice.0.next_u32()),
            }
        }
    }
    x
}

/// One product and where it goes.
struct Case {
    seed: u64,
    form: Form,
    /// Rows and columns of the weights.
    n: usize,
    k: usize,
    /// Tokens.
    m: usize,
    /// Columns of the output before and after the product's.
    before: usize,
    after: usize,
    bias: bool,
    add: bool,
    side: Side,
}

/// Weights, activations for all tokens, bias.
struct Inputs {
    w: Packed,
    x: Floats,
    bias: Floats,
}

/// What stands in the output before: a NaN that no kernel makes.
const UNWRITTEN: u32 = 0x7fca_fe01;

impl Case {
    fn random(seed: u64, form: Form, dice: &mut Dice) -> Self {
        // Now and then more than one block of a panel, and enough tokens for panels on every set.
        let (most_columns, most_tokens) = if dice.once_in(16) {
            (1700, 70)
        } else {
            (dice.pick(&[100, 700]), dice.pick(&[14, 14, 40]))
        };
        Self {
            seed,
            form,
            n: 1 + dice.below(70),
            k: 1 + dice.below(most_columns),
            m: 1 + dice.below(most_tokens),
            before: dice.below(3),
            after: dice.below(3),
            bias: dice.once_in(3),
            add: dice.once_in(3),
            side: if dice.once_in(4) { Side::Start } else { Side::End },
        }
    }

    /// What a failure says, so that it can be repeated.
    fn name(&self) -> String {
        let Self { seed, form, n, k, m, .. } = self;
        let repeat = format!("HALFBYTE_FUZZ_SEED={seed} HALFBYTE_FUZZ_CASES=1");
        format!("{form:?}, {n} × {k}, at most {m} tokens ({repeat})")
    }

    /// The bits of the output rows for the first `m` tokens, one pattern for every NaN.
    fn product(&self, threads: &Threads, inputs: &Inputs, m: usize) -> Vec<u32> {
        let Inputs { w, x, bias } = inputs;
        let Self { n, k, before, after, add, .. } = *self;
        let stride = before + n + after;
        let unwritten = f32::from_bits(UNWRITTEN);
        let inside = |i: usize| (before..before + n).contains(&(i % stride));
        let old = |i| if add && inside(i) { i as f32 } else { unwritten };
        let mut out = Floats::new(&(0..m * stride).map(old).collect::<Vec<_>>(), self.side);
        threads.enter(|team| {
            let mut activations = Activations::default();
            // What another product left behind must not show.
            let other = Plain { x: &[f32::NAN; 64], k: 32 };
            let both = super::super::Needs { codes: true, floats: true, gathered: false };
            activations.fill(team, &other, (2, 32), both).unwrap();
            let x = Plain { x: &x.get()[..m * k], k };
            activations.fill(team, &x, (m, k), w.form().needs()).unwrap();
            let bias = self.bias.then(|| bias.get());
            let target = Target { out: out.get_mut(), stride, first: before, bias, add };
            matmul(team, &Brake::none(), w, &mut activations, target);
        });
        let bits = out.get().iter().enumerate().map(|(i, x)| {
            let bits = x.to_bits();
            assert_eq!(
                bits == UNWRITTEN,
                !inside(i),
                "output {i} of rows of {stride}: {}",
                self.name()
            );
            if x.is_nan() && inside(i) { f32::NAN.to_bits() } else { bits }
        });
        bits.collect()
    }
}

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(default, |value| value.parse().expect("a number"))
}

#[test]
fn random_products_equal_scalar() {
    let cases = setting("HALFBYTE_FUZZ_CASES", 2000);
    let first = setting("HALFBYTE_FUZZ_SEED", 1);
    guard::report_faults();
    let teams = |isa| [1, 3].map(|threads| (isa, Threads::new(Some(threads), isa).unwrap()));
    let teams: Vec<_> = Isa::available().into_iter().flat_map(teams).collect();
    for seed in first..first + cases {
        guard::running(seed);
        let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed));
        let layout = &FORMS[dice.below(FORMS.len())];
        let case = Case::random(seed, layout.form, &mut dice);
        let Case { n, k, m, side, .. } = case;
        let w = weights(layout, (n, k), side, &mut dice);
        let x = Floats::new(&activations((m, k), &mut dice), side);
        let bias = Floats::new(&(0..n).map(|_| dice.float()).collect::<Vec<_>>(), side);
        let inputs = Inputs { w, x, bias };
        let want = case.product(&teams[0].1, &inputs, m);
        for (isa, threads) in &teams[1..] {
            // Sometimes fewer tokens, in other tiles: they must not know of each other.
            let m = if dice.once_in(3) { 1 + dice.below(m) } else { m };
            let got = case.product(threads, &inputs, m);
            let same = got == want[..got.len()];
            assert!(same, "{}, {m} tokens, differs from scalar: {}", isa.name(), case.name());
        }
    }
}

#[test]
fn every_form_is_fuzzed() {
    let kind = |form: Form| match form {
        Form::Q4Codebook(scale, _) => Form::Q4Codebook(scale, &TABLE),
        other => other,
    };
    for encoding in Encoding::all() {
        let k = encoding.block_len();
        let row = vec![0; encoding.row_bytes(k).unwrap()];
        let form = kind(pack(encoding, (1, k), |_| &row).unwrap().form());
        assert!(FORMS.iter().any(|layout| layout.form == form), "{form:?} is not in the table");
    }
    for layout in &FORMS {
        assert_eq!(layout.form.group_bytes(1), Some(layout.unit), "{:?}", layout.form);
    }
}
