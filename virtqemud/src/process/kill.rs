//! Ending a guest's process, and what is left of it.

use std::io;
use std::time::Duration;

use rustix::process::Signal;
use virt_error::{Domain, Error, Result};
use virt_host::cgroup::Group;
use virt_host::process::Process;

use super::ended::ends_within;
use crate::guest::shared::Shared;
use crate::qmp::commands::Quit;

/// How long QEMU may take to quit when asked by its monitor.
const QUIT: Duration = Duration::from_secs(2);
/// How long it may take after a TERM: longer when nothing harsher follows.
const TERM: Duration = Duration::from_secs(3);
const TERM_ONLY: Duration = Duration::from_secs(10);
/// How long the kernel may take to end a killed process: it waits for the disk.
const KILL: Duration = Duration::from_secs(30);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// There was none, or it had ended by itself.
    Before,
    /// It followed our request and wrote out its images.
    Asked,
    /// It was killed.
    Killed,
}

/// Ends a guest's process: quit by the monitor, then TERM, then, unless `graceful`, KILL.
///
/// Errors: it did not end; with `graceful` that is no disaster, it still runs.
pub async fn end(shared: &Shared, graceful: bool) -> Result<Ended> {
    let Some(process) = shared.process() else { return Ok(Ended::Before) };
    if !process.is_alive() {
        return Ok(Ended::Before);
    }
    if let Some(monitor) = shared.monitor()
        && !monitor.is_ended()
        && !process.is_stopped()
    {
        // The answer does not matter, only the process's end does; a hung monitor must not hold us up.
        let asked = tokio::spawn(async move { monitor.run_within(&Quit {}, QUIT).await.map(drop) });
        let ended = ends_within(&process, QUIT).await;
        asked.abort();
        if ended {
            return Ok(Ended::Asked);
        }
    }
    let patience = if graceful { TERM_ONLY } else { TERM };
    let termed = process.signal(Signal::TERM);
    if process.is_stopped() {
        // Somebody stopped it; it must go on to end in order.
        drop(process.signal(Signal::CONT));
    }
    if termed.is_err() || ends_within(&process, patience).await {
        return Ok(Ended::Asked);
    }
    if graceful {
        let text = format!("Failed to terminate process {} with SIGTERM", process.pid());
        return Err(Error::system(Domain::None, text, io::Error::from_raw_os_error(16)));
    }
    now(&process).await.map(|()| Ended::Killed)
}

/// Kills a process without asking.
pub async fn now(process: &Process) -> Result<()> {
    if process.signal(Signal::KILL).is_err() || ends_within(process, KILL).await {
        return Ok(());
    }
    let text = format!("Failed to terminate process {} with SIGKILL", process.pid());
    Err(Error::system(Domain::None, text, io::Error::from_raw_os_error(16)))
}

/// Removes a control group. The kernel may count an ended process for a moment longer.
pub async fn remove_group(group: Group) -> Result<()> {
    let mut pause = Duration::from_millis(1);
    loop {
        match group.remove() {
            Ok(()) => return Ok(()),
            Err(e) if e.raw_os_error() == Some(16) && pause < Duration::from_secs(1) => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            Err(e) => return Err(Error::system(Domain::Cgroup, "cannot remove a control group", e)),
        }
    }
}
