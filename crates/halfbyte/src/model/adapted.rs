//! Caches with adapters, which rows of a pass have them, and adding what those say.

use std::ops::Range;
use std::sync::Arc;

use super::adapter::{Adapter, Site};
use super::batch::Seq;
use super::cache::KvCache;
use super::decoder::Decoder;
use crate::error::Result;
use crate::kernels::{Brake, Source, Team};
use crate::nn::{CacheType, LowRankSet, LowRankSpace, RowsFrom};

/// Neighbouring rows with the same adapters.
#[derive(Debug)]
struct Run {
    rows: Range<usize>,
    adapters: Arc<LowRankSet>,
}

/// The rows that have adapters, and the buffers of adding.
#[derive(Debug, Default)]
pub(super) struct Adapted {
    runs: Vec<Run>,
    space: LowRankSpace,
}

impl Decoder {
    /// An empty cache whose tokens are read with `adapters`, each multiplied by its number.
    ///
    /// The adapters are packed when they are first used.
    ///
    /// # Errors
    ///
    /// [`Error::Config`](crate::Error::Config) for an adapter of a model of another shape or a number
    /// that is not finite, [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn new_cache_with(
        &self,
        cache_type: CacheType,
        adapters: &[(Adapter, f32)],
    ) -> Result<KvCache> {
        Ok(self.new_cache(cache_type).read_with(self.attach(adapters)?))
    }

    /// Makes `adapters` ready to be read with; `None` where there are none.
    pub(super) fn attach(&self, adapters: &[(Adapter, f32)]) -> Result<Option<Arc<LowRankSet>>> {
        let mut members = Vec::with_capacity(adapters.len());
        for (adapter, scale) in adapters {
            adapter.check_fits(&self.config, *scale)?;
            let packed = self.threads.install(|| adapter.packed(&self.config))?;
            members.push((packed, *scale));
        }
        Ok((!members.is_empty()).then(|| Arc::new(LowRankSet::new(members))))
    }
}

impl Adapted {
    /// Finds out about the rows of a pass, where a sequence has `n_rows` of them.
    pub(super) fn prepare(&mut self, seqs: &[Seq<'_>], n_rows: impl Fn(&Seq<'_>) -> usize) {
        self.runs.clear();
        let mut row = 0;
        for seq in seqs {
            let rows = row..row + n_rows(seq);
            row = rows.end;
            let Some(adapters) = seq.cache.adapters().filter(|_| !rows.is_empty()) else {
                continue;
            };
            match self.runs.last_mut() {
                Some(last) if last.rows.end == rows.start && last.adapters.is_same(adapters) => {
                    last.rows.end = rows.end;
                }
                _ => self.runs.push(Run { rows, adapters: adapters.clone() }),
            }
        }
    }

    /// Forgets the adapters, which would live as long as the workspace.
    pub(super) fn release(&mut self) {
        self.runs.clear();
    }

    /// Adds what the adapters say of the layers at `site` for `source` to their outputs `out`
    /// (m, stride).
    pub(super) fn add(
        &mut self,
        threads: (&Team<'_>, &Brake<'_>),
        site: Site,
        source: &impl Source,
        (out, stride): (&mut [f32], usize),
    ) -> Result<()> {
        let Self { runs, space } = self;
        for Run { rows, adapters } in runs {
            let source = RowsFrom { source, first: rows.start };
            let out = &mut out[rows.start * stride..rows.end * stride];
            adapters.add(threads, site.number(), (&source, rows.len()), (out, stride), space)?;
        }
        Ok(())
    }
}
