//! Waiting for a condition instead of sleeping.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill as send};
use nix::unistd::Pid;

/// How long a condition may take on a busy machine before the test fails.
const PATIENCE: Duration = Duration::from_secs(120);
/// The first pause, and the longest: what is asked again and again takes time away from what it waits for.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not hold within two minutes; the text names `what`.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    let (mut pause, longest) = PAUSES;
    while !condition() {
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain until {what}");
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(longest);
    }
}

/// Sends SIGKILL; a process that is gone already is fine.
pub fn kill(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = send(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Sends SIGTERM; a process that is gone already is fine.
pub fn terminate(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = send(Pid::from_raw(pid), Signal::SIGTERM);
    }
}
