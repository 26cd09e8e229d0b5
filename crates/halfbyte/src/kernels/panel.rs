//! Weights of a few row groups, unpacked once for many tokens, in cache.

use super::buffer::{Line, resize};
use super::kinds::{Kind, Terms};
use super::lanes::{LANES, Lanes, load_lines};
use super::team::Disjoint;
use super::tiles::{Group, TileForm};
use crate::error::Result;

/// Bytes of a thread's panel: two row groups of 11,008 four-bit columns. Less than half of a level-2
/// cache of 1 MiB; the rest is for activations.
const PANEL_BYTES: usize = 400 << 10;
/// Row groups in a panel at most: more gains nothing once activations are read this rarely.
pub(super) const MOST_ROW_GROUPS: usize = 4;
/// Lines of 32 columns: 8 of codes, 1 to 4 of scales and minima.
const LINES: std::ops::RangeInclusive<usize> = 9..=12;

/// The threads' panels.
#[derive(Debug, Default)]
pub(crate) struct Panels {
    lines: Vec<Line>,
    per_thread: usize,
    /// 32-column groups of a row.
    n_groups: usize,
}

impl Panels {
    /// Makes room for `threads` panels of rows of `n_groups` 32-column groups.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub(super) fn reserve(&mut self, threads: usize, n_groups: usize) -> Result<()> {
        self.n_groups = n_groups;
        // Fewer lines a group let more row groups in, so any number of lines may need most.
        let panel = |lines| n_groups * lines * row_groups(n_groups, lines);
        self.per_thread = LINES.clone().map(panel).max().unwrap_or(0);
        let wanted = self.per_thread * threads;
        if self.lines.len() < wanted {
            resize(&mut self.lines, wanted)?;
        }
        Ok(())
    }

    /// Row groups that fit in a panel with `terms`.
    pub(super) fn row_groups(&self, terms: Terms) -> usize {
        row_groups(self.n_groups, terms.lines())
    }

    /// The lines to share among threads, and how many each has.
    pub(super) fn shared(&mut self) -> (Disjoint<'_, Line>, usize) {
        (Disjoint::new(&mut self.lines), self.per_thread)
    }
}

fn row_groups(n_groups: usize, lines: usize) -> usize {
    let bytes = n_groups * lines * size_of::<Line>();
    (PANEL_BYTES / bytes.max(1)).clamp(1, MOST_ROW_GROUPS)
}

/// Unpacks a row group's bytes into `panel`, some lines for each 32 columns.
#[inline(always)]
pub(super) fn unpack<L: Lanes, T: TileForm>(isa: L, form: T, bytes: &[u8], panel: &mut [Line]) {
    /// Bytes ahead of what is being unpacked.
    const AHEAD: usize = 4096;
    let terms = T::Kind::TERMS;
    let offset = T::Kind::OFFSET as i8;
    let step = bytes.len() / (panel.len() / terms.lines()).max(1);
    for (b, lines) in panel.chunks_exact_mut(terms.lines()).enumerate() {
        for line in 0..step.div_ceil(64) {
            isa.prefetch(bytes.as_ptr().wrapping_add(b * step + line * 64 + AHEAD));
        }
        let group = form.group(isa, bytes, b);
        let (codes, rest) = lines.split_at_mut(8);
        for (line, codes) in codes.iter_mut().zip(isa.arrange(group.lines, offset)) {
            isa.store_line(codes, &mut line.0);
        }
        store_float(isa, group.scale[0], &mut rest[0]);
        match terms {
            Terms::Scale => {}
            Terms::ScaleMin => store_float(isa, group.min[0], &mut rest[1]),
            Terms::ScaleHalves => store_float(isa, group.scale[1], &mut rest[1]),
            Terms::ScaleMinHalves => {
                store_float(isa, group.scale[1], &mut rest[1]);
                store_float(isa, group.min[0], &mut rest[2]);
                store_float(isa, group.min[1], &mut rest[3]);
            }
            Terms::SubHalves => {
                for (line, sub) in rest[1..].iter_mut().zip(group.sub) {
                    isa.store_line(isa.i_as_line(sub), &mut line.0);
                }
            }
        }
    }
}

/// Reads back what [`unpack`] wrote for 32 columns, and gives its lines of codes, which stay
/// arranged.
#[inline(always)]
pub(super) fn group<L: Lanes, K: Kind>(isa: L, lines: &[Line]) -> (Group<L>, &[Line; 8]) {
    let (arranged, rest) = lines.split_first_chunk().expect("a group has eight lines of codes");
    let codes = load_lines(isa, arranged);
    let scale = load_float(isa, &rest[0]);
    let (zero, one) = (isa.splat(0.0), isa.splat_i(1));
    let mut group = Group { lines: codes, scale: [scale; 2], min: [zero; 2], sub: [one; 2] };
    match const { K::TERMS } {
        Terms::Scale => {}
        Terms::ScaleMin => group.min = [load_float(isa, &rest[1]); 2],
        Terms::ScaleHalves => group.scale[1] = load_float(isa, &rest[1]),
        Terms::ScaleMinHalves => {
            group.scale[1] = load_float(isa, &rest[1]);
            group.min = [load_float(isa, &rest[2]), load_float(isa, &rest[3])];
        }
        Terms::SubHalves => group.sub = [load_int(isa, &rest[1]), load_int(isa, &rest[2])],
    }
    (group, arranged)
}

#[inline(always)]
fn store_float<L: Lanes>(isa: L, x: L::F, line: &mut Line) {
    isa.store_line(isa.i_as_line(isa.as_i(x)), &mut line.0);
}

#[inline(always)]
fn load_int<L: Lanes>(isa: L, line: &Line) -> L::I {
    isa.line_as_i(isa.load_line(&line.0))
}

#[inline(always)]
fn load_float<L: Lanes>(isa: L, line: &Line) -> L::F {
    isa.as_f(load_int(isa, line))
}

const _: () = assert!(size_of::<Line>() == 4 * LANES);
