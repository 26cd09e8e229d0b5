//! Activations with their columns in another order, for weights that are stored out of order.

use super::activations::{Activations, GROUP, Source};
use super::forms::Needs;
use super::lanes::{LANES, Lanes};
use super::team::Team;

/// What is gathered: codes, for quantized weights.
pub(super) const NEEDS: Needs = Needs { codes: true, floats: false, gathered: false };

/// The columns of `x` in the order of `columns`.
#[derive(Clone, Copy)]
struct Gathered<'a> {
    /// Filled with floats.
    x: &'a Activations,
    columns: &'a [u32],
}

impl Source for Gathered<'_> {
    #[inline(always)]
    fn group<L: Lanes>(&self, isa: L, row: usize, g: usize) -> [L::F; 2] {
        let tiles = self.x.tiles();
        let tile = tiles[tiles.partition_point(|tile| tile.start + tile.rows <= row)];
        let (floats, place) = (self.x.floats(tile), row - tile.start);
        let mut lanes = [[0.0; LANES]; 2];
        let columns = self.columns.iter().skip(g * GROUP);
        for (lane, &column) in lanes.as_flattened_mut().iter_mut().zip(columns) {
            *lane = floats[column as usize * tile.width + place];
        }
        [isa.load(&lanes[0]), isa.load(&lanes[1])]
    }
}

impl Activations {
    /// These rows with column `columns[i]` as column i. They were filled with
    /// [`Needs::gathered`] and floats.
    ///
    /// # Panics
    ///
    /// If they were not, or `columns` is no permutation of the columns.
    pub(crate) fn gather(&mut self, team: &Team<'_>, columns: &[u32]) -> &mut Self {
        let mut gathered = self.gathered.take().expect("filled to be gathered from");
        let (rows, k) = (self.rows(), self.k());
        assert_eq!(columns.len(), k, "columns of other weights");
        let filled = gathered.fill(team, &Gathered { x: self, columns }, (rows, k), NEEDS);
        filled.expect("no more room than `reserve` made");
        self.gathered.insert(gathered)
    }
}
