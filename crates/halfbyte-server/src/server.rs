//! The listener: connections in, and an end that leaves no answer in the middle.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use halfbyte::Model;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener as AsyncListener;
use tokio::sync::{Semaphore, watch};

use crate::apart;
use crate::app::App;
use crate::connection::Connection;
use crate::engine::{Engine, Limits};
use crate::metrics::Metrics;
use crate::options::Options;
use crate::routes;

/// Connections at a time; more wait until others end.
const MAX_CONNECTIONS: usize = 1024;

/// Sequences that a pool computes in one pass.
const MAX_PARALLEL: usize = 64;

/// Bytes of a request's head.
const MAX_HEAD: usize = 64 << 10;

/// After answers were ended, connections get so long to take them.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Why a server could not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// This is no [`Origin`](crate::Origin).
    #[error("{found:?} is neither * nor scheme://host[:port], such as http://localhost:3000")]
    Origin {
        /// What was to be one.
        found: String,
    },
    /// This is no [`HostName`](crate::HostName).
    #[error(
        "{found:?} is no name of a machine (without scheme and port), such as halfbyte.example"
    )]
    HostName {
        /// What was to be one.
        found: String,
    },
    /// The operating system refused something else.
    #[error("cannot serve: {0}")]
    Io(#[from] std::io::Error),
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    app: App,
    stop: Stop,
}

/// Stops a server: once to let it finish what runs, twice to end that, too.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<u32>>);

impl Stop {
    /// Stops the server, or stops it sooner.
    pub fn stop(&self) {
        self.0.send_modify(|n| *n += 1);
    }
}

impl Server {
    /// Listens; requests are answered once it [`run`](Self::run)s.
    ///
    /// # Errors
    ///
    /// [`ServeError`] if the address is taken, or a thread cannot be had.
    pub fn bind(model: Model, mut options: Options) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Bind { address: options.address, source };
        let listener = TcpListener::bind(options.address).map_err(failed)?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        options.address = address;
        let metrics = Arc::new(Metrics::default());
        let limits = Limits {
            parallel: options.parallel.clamp(1, MAX_PARALLEL),
            queue: options.queue.max(1),
            cache_bytes: options.cache_bytes,
            pass_tokens: options.pass_tokens,
            timeout: options.timeout,
        };
        let engine = Engine::start(model.clone(), limits, metrics.clone())?;
        let app = App::new(model, engine, metrics, options);
        Ok(Self { listener, address, app, stop: Stop(Arc::new(watch::Sender::new(0))) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The model's name in answers.
    pub fn model_name(&self) -> &str {
        &self.app.id
    }

    /// What stops it from another thread.
    pub fn stopper(&self) -> Stop {
        self.stop.clone()
    }

    /// Answers requests until it is stopped: by a [`Stop`] or, if the options say so, by SIGINT or
    /// SIGTERM.
    ///
    /// Then nobody new is served, running answers get the options' `grace` to come to their end, and
    /// what still runs ends as it is, with a finish reason.
    ///
    /// # Errors
    ///
    /// [`ServeError::Io`] if the operating system has no event queue for it.
    pub fn run(self) -> Result<(), ServeError> {
        // The processors are the model's: one thread is enough for what is said about it.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(apart::N_THREADS)
            .build()?;
        let result = runtime.block_on(self.serve());
        runtime.shutdown_timeout(LAST_WORDS);
        result
    }

    async fn serve(self) -> Result<(), ServeError> {
        let Self { listener, app, stop, .. } = self;
        let listener = AsyncListener::from_std(listener)?;
        if app.options.signals {
            signals(stop.clone())?;
        }
        let mut stopped = stop.0.subscribe();
        let router = routes::router(&app);
        let graceful = GracefulShutdown::new();
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            tokio::select! {
                () = accept(&listener, &room, &router, &graceful, app.options.patience) => {}
                _ = stopped.wait_for(|n| *n > 0) => break,
            }
        }
        drop(listener);
        tracing::info!("stopping");
        app.stop();
        app.engine.drain();
        let closed = graceful.shutdown();
        tokio::pin!(closed);
        tokio::select! {
            () = &mut closed => return Ok(()),
            () = tokio::time::sleep(app.options.grace) => {}
            _ = stopped.wait_for(|n| *n > 1) => {}
        }
        app.engine.finish();
        if tokio::time::timeout(LAST_WORDS, closed).await.is_err() {
            tracing::warn!("some clients did not take their answers");
        }
        Ok(())
    }
}

/// Waits for a connection, and serves it in a task of its own.
async fn accept(
    listener: &AsyncListener,
    room: &Arc<Semaphore>,
    router: &Router,
    graceful: &GracefulShutdown,
    patience: Duration,
) {
    let Ok(permit) = room.clone().acquire_owned().await else { return };
    let stream = match listener.accept().await {
        Ok((stream, _)) => stream,
        Err(error) => {
            // Too many open files, as a rule; it passes.
            tracing::warn!(%error, "cannot accept a connection");
            return tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    // Tokens are small packets that shall not wait for each other.
    drop(stream.set_nodelay(true));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(MAX_HEAD)
        .serve_connection(
            TokioIo::new(Connection::new(stream, patience)),
            TowerToHyperService::new(router.clone()),
        );
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended");
        }
        drop(permit);
    });
}

/// Stops with SIGINT (Ctrl-C), and on Unix with SIGTERM.
fn signals(stop: Stop) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
            let (stop, mut signal) = (stop.clone(), signal(kind)?);
            tokio::spawn(async move {
                while signal.recv().await.is_some() {
                    stop.stop();
                }
            });
        }
    }
    #[cfg(not(unix))]
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            stop.stop();
        }
    });
    Ok(())
}
