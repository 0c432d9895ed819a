//! A machine's whole state by QEMU's migration code, into a file of the host and back.
//!
//! The file is opened here and handed to QEMU as a descriptor: QEMU's user may write anywhere but there. QEMU writes into
//! a pipe, which is copied into the file; it reads the file itself.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::{Value, json};
use virt_error::{Code, Domain as From, Error, Result};

use super::job::Running as RunningJob;
use crate::qmp::Client;
use crate::qmp::commands::{Closefd, Getfd};

/// QEMU's name for the descriptor.
pub(super) const NAME: &str = "virtd-file";
/// How often QEMU is asked how far it is.
pub(super) const LOOK: Duration = Duration::from_millis(50);
/// Work that gets no further for this long is given up.
const STUCK: Duration = Duration::from_secs(120);
/// How long reading a guest's state may take.
const PATIENCE: Duration = Duration::from_secs(1800);
/// As fast as the disk takes it, bytes a second: the largest number that QEMU takes.
const SPEED: i64 = 0x7fff_ffff_ffff_f000;

fn failed(text: impl Into<String>) -> Error {
    Error::new(Code::OperationFailed, From::Qemu, text)
}

/// Bytes that may be in the host's cache of a file that should not be there.
const CACHED: u64 = 8 << 20;

/// What is written into a file stays in the host's cache, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// As the kernel likes.
    Used,
    /// Written through and let go, a piece at a time: the cache keeps what others need.
    Bypassed,
}

impl Cache {
    /// By a client's flag.
    pub fn bypassed(bypassed: bool) -> Self {
        if bypassed { Self::Bypassed } else { Self::Used }
    }
}

/// Copies all there is.
fn pump(from: &mut File, to: &mut File, cache: Cache) -> io::Result<()> {
    while io::copy(&mut from.take(CACHED), to)? > 0 {
        if cache == Cache::Bypassed {
            let_go(to)?;
        }
    }
    Ok(())
}

/// Takes what was written to a file out of the host's cache. A device has its own ways.
pub(super) fn let_go(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() {
        file.sync_data()?;
        rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}

/// Writes the machine's whole state into a file, from where it stands. `what` begins the errors' texts.
pub(super) async fn machine(
    monitor: &Client,
    file: &File,
    job: &RunningJob<'_>,
    what: &str,
    cache: Cache,
) -> Result<()> {
    let no_pipe = |e: rustix::io::Errno| Error::system(From::Qemu, "unable to create pipe", e.into());
    let (from_qemu, to_pump) = pipe_with(PipeFlags::CLOEXEC).map_err(no_pipe)?;
    let out = file.try_clone().map_err(|e| Error::system(From::Qemu, "unable to write the file", e))?;
    // Ends when QEMU has closed its end, or is gone.
    let pumped = tokio::task::spawn_blocking(move || {
        let (mut from, mut to) = (File::from(from_qemu), out);
        pump(&mut from, &mut to, cache)
    });
    let before = monitor.run_untyped("query-migrate-parameters", &Value::Null).await?["max-bandwidth"].take();
    monitor.run_untyped("migrate-set-parameters", &json!({"max-bandwidth": SPEED})).await?;
    let done = migrate(monitor, to_pump, job, what).await;
    if !before.is_null() {
        monitor.run_untyped("migrate-set-parameters", &json!({"max-bandwidth": before})).await?;
    }
    done?;
    let copied = pumped
        .await
        .map_err(|e| Error::fault(From::Qemu, "copying a guest's state ended unexpectedly").with_source(e))?;
    copied.map_err(|e| Error::system(From::Qemu, "unable to write the file", e))
}

async fn migrate(monitor: &Client, to: OwnedFd, job: &RunningJob<'_>, what: &str) -> Result<()> {
    give(monitor, Ok(to)).await?;
    if let Err(error) = monitor.run_untyped("migrate", &json!({"uri": format!("fd:{NAME}")})).await {
        take_back(monitor).await;
        return Err(error.into());
    }
    let mut watch = Watch::new();
    let mut cancelled = false;
    loop {
        tokio::time::sleep(LOOK).await;
        let now = monitor.run_untyped("query-migrate", &Value::Null).await?;
        job.tell(|p| p.set_migration(&now));
        match now["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed") => {
                let why = now["error-desc"].as_str().unwrap_or("unexpectedly failed");
                return Err(failed(format!("{what}: {why}")));
            }
            Some("cancelled") => {
                let text = format!("{what}: canceled by client");
                return Err(Error::new(Code::OperationAborted, From::Qemu, text));
            }
            _ => {
                let stuck = watch.moved(now["ram"]["transferred"].as_u64().unwrap_or(0));
                if (job.is_stopped() || stuck.is_err()) && !cancelled {
                    cancelled = true;
                    monitor.run_untyped("migrate_cancel", &Value::Null).await?;
                }
            }
        }
    }
}

pub(super) async fn give(monitor: &Client, fd: std::io::Result<OwnedFd>) -> Result<()> {
    let fd = fd.map_err(|e| Error::system(From::Qemu, "cannot duplicate a descriptor", e))?;
    monitor.run_with_fds(&Getfd { fdname: NAME.into() }, vec![fd]).await?;
    Ok(())
}

/// QEMU did not use the descriptor.
pub(super) async fn take_back(monitor: &Client) {
    if let Err(error) = monitor.run(&Closefd { fdname: NAME.into() }).await {
        tracing::debug!(%error, "a descriptor was used up");
    }
}

/// Notices work that gets no further.
pub(super) struct Watch {
    last: u64,
    since: tokio::time::Instant,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { last: 0, since: tokio::time::Instant::now() }
    }

    pub(super) fn moved(&mut self, to: u64) -> Result<()> {
        if to != self.last {
            *self = Self { last: to, ..Self::new() };
        }
        if self.since.elapsed() < STUCK {
            return Ok(());
        }
        Err(Error::new(Code::OperationTimeout, From::Qemu, "the job gets no further"))
    }
}

/// Reads the machine's whole state from where a descriptor stands. The guest must have been started to wait for it.
///
/// # Errors
/// Code 9 with QEMU's reason; code 78 for a file that gives no more for long.
pub(super) async fn read_machine(monitor: &Client, from: OwnedFd) -> Result<()> {
    give(monitor, Ok(from)).await?;
    if let Err(error) = monitor.run_untyped("migrate-incoming", &json!({"uri": format!("fd:{NAME}")})).await {
        take_back(monitor).await;
        return Err(error.into());
    }
    // QEMU tells nothing of how far it is: the whole has a deadline.
    let begun = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        let now = monitor.run_untyped("query-migrate", &Value::Null).await?;
        match now["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed") => {
                let why = now["error-desc"].as_str().unwrap_or("unexpectedly failed");
                return Err(failed(format!("domain restore job: {why}")));
            }
            _ if begun.elapsed() > PATIENCE => {
                return Err(Error::new(
                    Code::OperationTimeout,
                    From::Qemu,
                    "the guest's state cannot be read",
                ));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_copy_beside_the_cache_is_whole() {
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let bytes: Vec<u8> = (0..CACHED + 4321).map(|n| (n % 251) as u8).collect();
        let (mut from, mut to) = (from, to);
        from.write_all(&bytes).unwrap();
        io::Seek::rewind(&mut from).unwrap();
        pump(&mut from, &mut to, Cache::Bypassed).unwrap();
        io::Seek::rewind(&mut to).unwrap();
        let mut copy = Vec::new();
        to.read_to_end(&mut copy).unwrap();
        assert!(copy == bytes);
    }
}
