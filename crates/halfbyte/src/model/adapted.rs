//! Which rows of a pass have adapters, and adding what those say.

use std::ops::Range;
use std::sync::Arc;

use super::adapter::Site;
use super::batch::Step;
use crate::error::Result;
use crate::kernels::{Brake, Source, Team};
use crate::nn::{LowRankSet, LowRankSpace, RowsFrom};

/// Neighbouring rows with the same adapters.
#[derive(Debug)]
pub(super) struct Run {
    rows: Range<usize>,
    adapters: Arc<LowRankSet>,
}

/// The rows that have adapters, and the buffers of adding.
#[derive(Debug, Default)]
pub(super) struct Adapted {
    runs: Vec<Run>,
    space: LowRankSpace,
}

impl Adapted {
    /// Finds out about the rows of all steps' new tokens.
    pub(super) fn prepare(&mut self, steps: &[Step<'_>]) {
        self.runs = runs(steps, |step| step.tokens.len());
    }

    /// Forgets the adapters, which would live as long as the workspace.
    pub(super) fn release(&mut self) {
        self.runs.clear();
    }

    /// Adds what the adapters of all rows say of the layers at `site` for `source` to their
    /// outputs `out` (m, stride).
    pub(super) fn add(
        &mut self,
        threads: (&Team<'_>, &Brake<'_>),
        site: Site,
        source: &impl Source,
        out: (&mut [f32], usize),
    ) -> Result<()> {
        let Self { runs, space } = self;
        add_runs(runs, threads, site, source, out, space)
    }

    /// As [`add`](Self::add), for the rows of `runs`.
    pub(super) fn add_to(
        &mut self,
        runs: &[Run],
        threads: (&Team<'_>, &Brake<'_>),
        site: Site,
        source: &impl Source,
        out: (&mut [f32], usize),
    ) -> Result<()> {
        add_runs(runs, threads, site, source, out, &mut self.space)
    }
}

fn add_runs(
    runs: &[Run],
    threads: (&Team<'_>, &Brake<'_>),
    site: Site,
    source: &impl Source,
    (out, stride): (&mut [f32], usize),
    space: &mut LowRankSpace,
) -> Result<()> {
    for Run { rows, adapters } in runs {
        let source = RowsFrom { source, first: rows.start };
        let out = &mut out[rows.start * stride..rows.end * stride];
        adapters.add(threads, site.number(), (&source, rows.len()), (out, stride), space)?;
    }
    Ok(())
}

/// The runs of rows with adapters, where a step has `n_rows` of them.
pub(super) fn runs(steps: &[Step<'_>], n_rows: impl Fn(&Step<'_>) -> usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut row = 0;
    for step in steps {
        let rows = row..row + n_rows(step);
        row = rows.end;
        let Some(adapters) = step.cache.adapters().filter(|_| !rows.is_empty()) else { continue };
        match runs.last_mut() {
            Some(last) if last.rows.end == rows.start && last.adapters.is_same(adapters) => {
                last.rows.end = rows.end;
            }
            _ => runs.push(Run { rows, adapters: adapters.clone() }),
        }
    }
    runs
}
