//! Whether a start that a dead daemon began is still under way.
//!
//! The launcher outlives a daemon that is killed: for a moment it may still write the pid file, enter the control group
//! or start QEMU, before it notices that nobody waits for its answer and ends what it started. While it lives it has a lock
//! on the guest's private folder, so a restarted daemon can wait for its end before it removes what is there.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use virt_error::{Domain, Error, Result};

/// How long a launcher may still take. It does a few system calls and starts one program.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(2);

/// Takes the lock of a start; it is free when the last copy of the descriptor is closed.
///
/// # Errors
/// Code 38 when the folder is not there, or another start has it.
pub fn lock(folder: &Path) -> Result<OwnedFd> {
    let failed = |e: Errno| {
        Error::system(Domain::Qemu, format!("cannot lock '{}'", folder.display()), io::Error::from(e))
    };
    let dir = open(folder, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    flock(&dir, FlockOperation::NonBlockingLockExclusive).map_err(failed)?;
    Ok(dir)
}

/// Waits until no start is under way. True: none is. Blocking.
pub fn is_over(folder: &Path) -> bool {
    let Ok(dir) = File::open(folder) else { return true };
    let begun = Instant::now();
    while flock(&dir, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        if begun.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_under_way_is_waited_for() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(is_over(dir.path()) && is_over(&dir.path().join("none")));
        let held = lock(dir.path()).expect("locked");
        let copy = held.try_clone().expect("a copy, as the launcher has it");
        drop(held);
        assert!(lock(dir.path()).is_err(), "the copy holds it");
        let launcher = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(copy);
        });
        let begun = Instant::now();
        assert!(is_over(dir.path()));
        assert!(begun.elapsed() >= Duration::from_millis(40));
        launcher.join().expect("ended");
    }
}
