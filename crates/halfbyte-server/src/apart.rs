//! Work of more than a millisecond, apart from the thread that listens: little work has threads of
//! its own, so that it never waits for what is long.

use std::sync::Arc;
use std::time::Duration;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{ApiError, ApiResult};

/// Threads for work of milliseconds.
const N_LIGHT: usize = 4;

/// Threads for work of seconds, which take processors from the model.
const N_HEAVY: usize = 2;

/// Threads for both.
pub(crate) const N_THREADS: usize = N_LIGHT + N_HEAVY;

/// Bytes of large bodies in memory at a time, in KiB.
const BODY_KIB: usize = 32 << 10;

/// So long work waits for a thread.
const PATIENCE: Duration = Duration::from_secs(30);

/// What may run at a time, and what may be in memory. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Threads {
    light: Arc<Semaphore>,
    heavy: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
}

/// Numbers and short texts that are written in less than a millisecond: not worth another thread.
pub(crate) const FEW: usize = 1000;

/// How long work takes, as far as one can tell before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// Milliseconds.
    Light,
    /// Up to seconds.
    Heavy,
}

/// What a request holds until it is understood: a thread for heavy work if its body is large, and
/// the body's place in memory.
#[derive(Debug, Default)]
pub(crate) struct Load {
    thread: Option<OwnedSemaphorePermit>,
    body: Option<OwnedSemaphorePermit>,
}

impl Default for Threads {
    fn default() -> Self {
        let semaphore = |n| Arc::new(Semaphore::new(n));
        Self { light: semaphore(N_LIGHT), heavy: semaphore(N_HEAVY), bodies: semaphore(BODY_KIB) }
    }
}

impl Load {
    /// What the request holds but the thread: what follows may be of another weight.
    pub(crate) fn without_thread(self) -> Self {
        Self { thread: None, ..self }
    }
}

impl Threads {
    /// Waits for a place in memory for `n_bytes` more.
    pub(crate) async fn hold(&self, load: &mut Load, n_bytes: usize) {
        let kib = u32::try_from(n_bytes.div_ceil(1 << 10).min(BODY_KIB)).unwrap_or(u32::MAX);
        let Ok(permit) = self.bodies.clone().acquire_many_owned(kib).await else { return };
        match &mut load.body {
            Some(body) => body.merge(permit),
            none => *none = Some(permit),
        }
    }

    /// Runs `work` apart. Work whose request goes away while it waits for a thread is never begun.
    ///
    /// # Errors
    ///
    /// 429 if no thread gets free in time; and the work's own.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        load: Load,
        weight: Weight,
        work: impl FnOnce() -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<T> {
        let work = move |load| {
            let result = work();
            drop(load);
            result
        };
        self.run_with(load, weight, work).await
    }

    /// As [`run`](Self::run), with what the request holds.
    pub(crate) async fn run_with<T: Send + 'static>(
        &self,
        mut load: Load,
        weight: Weight,
        work: impl FnOnce(Load) -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<T> {
        if load.thread.is_none() {
            let threads = if weight == Weight::Heavy { &self.heavy } else { &self.light };
            load.thread = Some(enter(threads).await?);
        }
        let lost = |_| ApiError::internal("a mistake in the server; please report it");
        tokio::task::spawn_blocking(move || work(load)).await.map_err(lost)?
    }

    /// As [`run`](Self::run), and then writes the answer's JSON, apart as well.
    pub(crate) async fn reply<T: Serialize>(
        &self,
        load: Load,
        weight: Weight,
        work: impl FnOnce() -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<Response> {
        let write = move || {
            let json = serde_json::to_vec(&work()?);
            json.map_err(|error| ApiError::internal(&error.to_string()))
        };
        let json = self.run(load, weight, write).await?;
        Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
    }
}

impl Weight {
    /// That of writing so many numbers and short texts.
    pub(crate) fn of(n_values: usize) -> Self {
        if n_values > 10_000 { Self::Heavy } else { Self::Light }
    }
}

async fn enter(threads: &Arc<Semaphore>) -> ApiResult<OwnedSemaphorePermit> {
    match tokio::time::timeout(PATIENCE, threads.clone().acquire_owned()).await {
        Ok(permit) => permit.map_err(|_| ApiError::stopping()),
        Err(_) => Err(ApiError::busy(PATIENCE.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn little_work_does_not_wait_for_what_is_long() {
        let threads = Arc::new(Threads::default());
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let wait = Arc::new(std::sync::Mutex::new(wait));
        let long: Vec<_> = (0..N_HEAVY + 3)
            .map(|_| {
                let (threads, wait) = (threads.clone(), wait.clone());
                let work = move || {
                    drop(wait.lock().map(|wait| wait.recv()));
                    Ok(())
                };
                tokio::spawn(async move { threads.run(Load::default(), Weight::Heavy, work).await })
            })
            .collect();
        tokio::task::yield_now().await;
        let little = threads.run(Load::default(), Weight::Light, || Ok(7)).await;
        assert_eq!(little.ok(), Some(7));
        // Those that wait and are given up are never begun.
        for waiting in &long[N_HEAVY..] {
            waiting.abort();
        }
        drop(go);
        let mut n_done = 0;
        for task in long {
            n_done += usize::from(task.await.is_ok());
        }
        assert_eq!(n_done, N_HEAVY);
    }
}
