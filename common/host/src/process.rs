//! One process of the host: identity that survives number reuse, signals, processor time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process, named by a descriptor: it never means another process that got the same number.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    pidfd: OwnedFd,
}

impl Process {
    /// The process with this number. Errors: ESRCH when there is none.
    pub fn open(pid: i32) -> io::Result<Self> {
        let pidfd = pidfd_open(number(pid)?, PidfdFlags::empty())?;
        Ok(Self { pid, pidfd })
    }

    /// From the pidfd that its starter opened.
    pub fn from_pidfd(pid: i32, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd }
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a signal. Errors: ESRCH once it has ended.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// Whether it still runs. A zombie has ended.
    pub fn is_alive(&self) -> bool {
        let mut fds = [rustix::event::PollFd::new(&self.pidfd, rustix::event::PollFlags::IN)];
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 };
        !matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(1..))
    }

    /// Whether a signal or a debugger has stopped it: it does nothing until somebody lets it go on.
    pub fn is_stopped(&self) -> bool {
        self.stat().is_ok_and(|s| s.is_stopped())
    }

    /// What the kernel tells about it.
    pub fn stat(&self) -> io::Result<Stat> {
        stat(self.pid)
    }
}

impl AsFd for Process {
    /// Readable once the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

fn number(pid: i32) -> io::Result<Pid> {
    let pid = if pid > 0 { Pid::from_raw(pid) } else { None };
    pid.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// A few fields of /proc/PID/stat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// The program's short name.
    pub name: String,
    /// "R", "S", "Z" ...
    pub state: char,
    /// Its parent.
    pub parent: i32,
    /// Time in user mode, nanoseconds, all threads.
    pub user_ns: u64,
    /// Time in the kernel, nanoseconds, all threads.
    pub system_ns: u64,
    /// When it started, in clock ticks after boot.
    pub start_ticks: u64,
    /// The processor it last ran on.
    pub processor: u32,
    /// Resident memory, pages.
    pub resident_pages: u64,
}

impl Stat {
    /// Whether a signal or a debugger has stopped it.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }
}

/// Reads /proc/PID/stat.
pub fn stat(pid: i32) -> io::Result<Stat> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat"))?)
}

/// Reads /proc/PID/task/TID/stat.
pub fn thread_stat(pid: i32, tid: i32) -> io::Result<Stat> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat"))?)
}

/// Fields are counted as in proc(5), from 1.
fn parse(text: &str) -> io::Result<Stat> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "unexpected form of a process's stat file");
    let open = text.find('(').ok_or_else(bad)?;
    // The name may hold anything, also ")".
    let close = text.rfind(')').filter(|c| *c > open).ok_or_else(bad)?;
    let rest: Vec<&str> = text[close + 1..].split_ascii_whitespace().collect();
    let field = |n: usize| rest.get(n - 3).copied().ok_or_else(bad);
    let whole = |n: usize| field(n)?.parse::<u64>().map_err(|_| bad());
    let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    Ok(Stat {
        name: text[open + 1..close].into(),
        state: field(3)?.chars().next().ok_or_else(bad)?,
        parent: field(4)?.parse().map_err(|_| bad())?,
        user_ns: whole(14)? * tick,
        system_ns: whole(15)? * tick,
        start_ticks: whole(22)?,
        processor: u32::try_from(whole(39)?).map_err(|_| bad())?,
        resident_pages: whole(24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_do_not_confuse() {
        let tail: Vec<String> = (4..=52).map(|n| n.to_string()).collect();
        let text = format!("123 (a ) (b) R {}\n", tail.join(" "));
        let s = parse(&text).expect("parsed");
        assert_eq!(
            (s.name.as_str(), s.state, s.parent, s.start_ticks, s.processor),
            ("a ) (b", 'R', 4, 22, 39)
        );
        for bad in ["", "1 (x", "1 (x) R", ")(", "1 (x) R a b c"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_child_lives_and_ends() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep runs");
        let process = Process::open(child.id().try_into().expect("small")).expect("opened");
        assert!(process.is_alive());
        assert_eq!(process.stat().expect("stat").parent, i32::try_from(std::process::id()).expect("small"));
        process.signal(Signal::KILL).expect("signalled");
        child.wait().expect("ended");
        assert!(!process.is_alive());
        assert!(process.signal(Signal::KILL).is_err());
        assert!(Process::open(0).is_err() && Process::open(-5).is_err());
    }
}
