//! Scheduling policies of threads, see sched(7).

use std::io;

use nix::libc;

/// How the kernel chooses a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The usual one.
    Other,
    /// Like the usual one, for work that nobody waits for.
    Batch,
    /// Only when nothing else runs.
    Idle,
    /// Real time, until it waits or something more urgent comes; priority 1 to 99.
    Fifo(i32),
    /// Real time in turns with threads of the same priority; 1 to 99.
    RoundRobin(i32),
}

/// Sets the policy of a thread by its number.
///
/// # Errors
/// The kernel's: no such thread, no right, a priority out of range.
pub fn set(thread: i32, policy: Policy) -> io::Result<()> {
    let (number, priority) = match policy {
        Policy::Other => (libc::SCHED_OTHER, 0),
        Policy::Batch => (libc::SCHED_BATCH, 0),
        Policy::Idle => (libc::SCHED_IDLE, 0),
        Policy::Fifo(priority) => (libc::SCHED_FIFO, priority),
        Policy::RoundRobin(priority) => (libc::SCHED_RR, priority),
    };
    let param = libc::sched_param { sched_priority: priority };
    // SAFETY: the structure outlives the call, which only reads it.
    match unsafe { libc::sched_setscheduler(thread, number, &raw const param) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::expect_used)]
    fn a_threads_policy_changes() {
        std::thread::spawn(|| {
            set(0, Policy::Batch).expect("an own thread");
            let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("its numbers");
            let after = stat.rsplit_once(')').expect("a name").1;
            // Field 41 of proc(5), counted from the state, which is the third.
            assert_eq!(after.split_whitespace().nth(38), Some("3"), "{stat}");
            assert!(set(0, Policy::Fifo(1000)).is_err());
            assert!(set(-1, Policy::Idle).is_err());
        })
        .join()
        .expect("ended");
    }
}
