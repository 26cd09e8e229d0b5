//! Brakes that are pulled while other work is done.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Result;
use halfbyte::Cancel;

/// Another thread that pulls brakes after a while, and says when it did.
#[derive(Debug)]
pub struct Puller {
    orders: mpsc::Sender<(Cancel, Duration)>,
    done: mpsc::Receiver<Instant>,
}

impl Puller {
    /// Starts the thread.
    #[must_use]
    pub fn start() -> Self {
        let (orders, receiver) = mpsc::channel::<(Cancel, Duration)>();
        let (sender, done) = mpsc::channel();
        std::thread::spawn(move || {
            for (cancel, delay) in receiver {
                // Sleeping is no finer than 50 µs.
                let start = Instant::now();
                while start.elapsed() < delay {
                    std::thread::sleep(delay.saturating_sub(start.elapsed()) / 2);
                }
                let pulled = Instant::now();
                cancel.cancel();
                if sender.send(pulled).is_err() {
                    return;
                }
            }
        });
        Self { orders, done }
    }

    /// Does `work`, whose brake is pulled after `delay`; how much later it ended.
    ///
    /// # Errors
    ///
    /// If the thread is gone.
    pub fn during<T>(
        &self,
        delay: Duration,
        work: impl FnOnce(&Cancel) -> T,
    ) -> Result<(T, Duration)> {
        let cancel = Cancel::new();
        self.orders.send((cancel.clone(), delay))?;
        let done = work(&cancel);
        let end = Instant::now();
        Ok((done, end.saturating_duration_since(self.done.recv()?)))
    }
}

/// The time below which that share of `times`, which are sorted, lies.
#[must_use]
pub fn at(times: &[Duration], share: f64) -> Duration {
    let place = (times.len().saturating_sub(1) as f64 * share) as usize;
    times.get(place).copied().unwrap_or_default()
}
