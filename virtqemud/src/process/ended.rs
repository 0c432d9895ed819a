//! Waiting for processes and for work that blocks.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;
use virt_error::{Domain, Error, Result};
use virt_host::process::Process;

/// Returns once the process has ended. Errors: the runtime cannot watch it.
pub async fn ended(process: &Process) -> io::Result<()> {
    let fd: OwnedFd = process.as_fd().try_clone_to_owned()?;
    // The replacement of this function is unsafe; its contract holds, for the descriptor is owned and stays open.
    #[allow(deprecated)]
    let watched = AsyncFd::with_interest(fd, Interest::READABLE)?;
    drop(watched.readable().await?);
    Ok(())
}

/// True when the process has ended within `patience`.
pub async fn ends_within(process: &Process, patience: Duration) -> bool {
    matches!(timeout(patience, ended(process)).await, Ok(Ok(())))
}

/// Runs `work` where it may block.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::fault(Domain::Qemu, "a step ended unexpectedly").with_source(e))
}
