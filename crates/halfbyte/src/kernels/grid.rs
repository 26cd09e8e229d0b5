//! A matrix that the threads of a team write in rectangles.

use std::ops::Range;

use super::team::Disjoint;
use super::{Brake, Team};

/// A matrix, (rows, `stride`), cut into rectangles of `height` rows and `width` columns; those at
/// the lower and the right edge may be smaller.
pub(crate) struct Grid<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) stride: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

/// One rectangle of a [`Grid`].
pub(crate) struct Rectangle<'a> {
    data: &'a Disjoint<'a, f32>,
    stride: usize,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Rectangle<'_> {
    /// The first row's number in the matrix, and the one after the last.
    pub(crate) fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// The rectangle's columns of row `row` of the matrix.
    ///
    /// # Panics
    ///
    /// If the row is outside the rectangle.
    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [f32] {
        assert!(self.rows.contains(&row), "row {row} is not in {:?}", self.rows);
        let start = row * self.stride;
        // SAFETY: a part of this rectangle, which no other meets (`each_rectangle`), and `self` is
        // borrowed as long as the part lives.
        unsafe { self.data.part(start + self.columns.start..start + self.columns.end) }
    }
}

impl Team<'_> {
    /// Runs `job(column of rectangles, rectangle, scratch)` for each rectangle of `grid`, a column
    /// of them after the other. Each thread has a part of `scratch` to itself.
    pub(crate) fn each_rectangle<T: Send>(
        &self,
        grid: Grid<'_>,
        scratch: &mut [T],
        brake: &Brake<'_>,
        job: impl Fn(usize, Rectangle<'_>, &mut [T]) + Sync,
    ) {
        let Grid { data, stride, height, width } = grid;
        let n_rows = data.len() / stride.max(1);
        let (down, across) = (n_rows.div_ceil(height.max(1)), stride.div_ceil(width.max(1)));
        let share = scratch.len() / self.threads();
        let (data, scratch) = (Disjoint::new(data), Disjoint::new(scratch));
        self.each_worker(down * across, brake, |worker, i| {
            let (x, y) = (i / down, i % down);
            let rectangle = Rectangle {
                data: &data,
                stride,
                rows: y * height..n_rows.min((y + 1) * height),
                columns: x * width..stride.min((x + 1) * width),
            };
            // SAFETY: each thread has its own part, and runs one job at a time.
            let scratch = unsafe { scratch.part(worker * share..(worker + 1) * share) };
            job(x, rectangle, scratch);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Isa, Threads};

    #[test]
    fn rectangles_cover_the_matrix_once() {
        for (rows, stride, height, width) in
            [(1, 1, 1, 1), (7, 10, 3, 4), (5, 8, 9, 8), (4, 6, 1, 2)]
        {
            let mut data = vec![0.0; rows * stride];
            let mut scratch = vec![(0, 0); 3 * 2];
            let grid = Grid { data: &mut data, stride, height, width };
            Threads::new(Some(3), Isa::available()[0]).unwrap().enter(|team| {
                team.each_rectangle(grid, &mut scratch, &Brake::none(), |x, mut rectangle, own| {
                    let mine = (x, rectangle.rows().start);
                    own.fill(mine);
                    for row in rectangle.rows() {
                        rectangle.row_mut(row).iter_mut().for_each(|cell| *cell += 1.0);
                    }
                    assert!(own.len() == 2 && own.iter().all(|&x| x == mine), "shared scratch");
                });
            });
            assert!(data.iter().all(|&cell| cell == 1.0), "{data:?}");
        }
    }
}
