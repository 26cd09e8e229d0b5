//! Gives the terminal back as it was when the process is ended from outside while a line is edited:
//! the editor changes it, and whoever uses it next would not see what they type.

use std::fs::OpenOptions;
use std::io::{Write, stdin};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Context;
use nix::libc::{O_NONBLOCK, SIGHUP, SIGTERM};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::{Pid, getpgrp, tcgetpgrp};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

/// Ends bracketed paste, which the editor begins, and the line.
const LEAVE: &[u8] = b"\x1b[?2004l\r\n";

/// Begins bracketed paste.
const ENTER: &[u8] = b"\x1b[?2004h";

/// When the process goes on, the thread that listens for signals is first for so long.
const FIRST: Duration = Duration::from_millis(50);

/// From now on SIGTERM and SIGHUP end the process with the status that shells give to that, and with
/// the terminal as it was.
pub(super) fn listen() -> anyhow::Result<()> {
    // A host that runs several commands listens once.
    static LISTENS: OnceLock<()> = OnceLock::new();
    if LISTENS.set(()).is_err() {
        return Ok(());
    }
    let cannot = "cannot listen for signals";
    let runtime = runtime::Builder::new_current_thread().enable_io().build().context(cannot)?;
    let entered = runtime.enter();
    let mut terminated = signal(SignalKind::terminate()).context(cannot)?;
    let mut hung_up = signal(SignalKind::hangup()).context(cannot)?;
    drop(entered);
    let wait = move || {
        let number = runtime.block_on(async {
            tokio::select! {
                _ = terminated.recv() => SIGTERM,
                _ = hung_up.recv() => SIGHUP,
            }
        });
        // Held to the end, so that no other line is begun.
        let before = before();
        if let Some(before) = &*before {
            restore(before);
        }
        std::process::exit(128 + number)
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).context(cannot)?;
    Ok(())
}

/// Runs `edit`, which changes the terminal and gives it back.
pub(super) fn while_edited<T>(edit: impl FnOnce() -> T) -> T {
    *before() = tcgetattr(stdin()).ok();
    let edited = edit();
    *before() = None;
    edited
}

/// Stops the process while a line is edited, until it is wanted again (Ctrl-Z), with the terminal as
/// it was.
///
/// The editor's own way would touch the terminal at once when the process goes on. A stopped process
/// also goes on to be ended by a signal that came meanwhile; it is in the background then, would be
/// stopped for that, and would never end.
pub(super) fn suspend() {
    let Ok(edited) = tcgetattr(stdin()) else { return };
    if let Some(before) = &*before() {
        restore(before);
    }
    let _ = kill(Pid::from_raw(0), Signal::SIGTSTP);
    std::thread::sleep(FIRST);
    let _ = tcsetattr(stdin(), SetArg::TCSADRAIN, &edited);
    write(ENTER);
}

/// How the terminal was, while a line is edited.
fn before() -> MutexGuard<'static, Option<Termios>> {
    static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn restore(before: &Termios) {
    // Who is in the background would be stopped for touching the terminal.
    if tcgetpgrp(stdin()) != Ok(getpgrp()) {
        return;
    }
    // A terminal that has gone needs nothing, and one that takes nothing must not delay the end.
    let _ = tcsetattr(stdin(), SetArg::TCSANOW, before);
    write(LEAVE);
}

fn write(bytes: &[u8]) {
    let terminal = OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open("/dev/tty");
    drop(terminal.and_then(|mut terminal| terminal.write_all(bytes)));
}
