//! The daemon's side.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::request::{Outcome, Request};
use crate::transfer;

/// The whole start, including opening a log file on a slow disk.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process that runs.
#[derive(Debug)]
pub struct Launched {
    /// Its number.
    pub pid: i32,
    /// Names exactly this process; readable once it has ended.
    pub pidfd: OwnedFd,
}

/// Starts a process by the helper program `launcher`. It blocks for some milliseconds, so call it off the RPC loop.
///
/// Errors: those of running the launcher; a [`crate::Failure`] inside the error says that a step failed.
pub fn launch(launcher: &Path, request: &Request, fds: Vec<OwnedFd>) -> io::Result<Launched> {
    if fds.len() != request.descriptors() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "one number for each descriptor"));
    }
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(PATIENCE))?;
    ours.set_write_timeout(Some(PATIENCE))?;
    let mut child = Command::new(launcher)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let answer = transfer::send(&ours, request, &fds).and_then(|()| transfer::receive::<Outcome>(&ours));
    drop(ours);
    if answer.is_err() {
        // It hangs or died: it must not start anything any more.
        child.kill()?;
    }
    child.wait()?;
    match answer? {
        (Outcome::Started { pid }, mut fds) => match fds.pop() {
            Some(pidfd) => Ok(Launched { pid, pidfd }),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "the launcher sent no pidfd")),
        },
        (Outcome::Failed(failure), _) => Err(io::Error::other(failure)),
    }
}
