//! Objects that start with the host: once per boot, whatever happens to the daemon.
//!
//! A file in the daemon's folder of running things, which the host's end empties, tells that it was done. Its name is the
//! reference's, so that a change from one to the other within a boot starts nothing twice.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use tokio::runtime::Handle;
use virt_error::{Domain, Error, Result};

/// The marker's name.
const MARKER: &str = "autostarted";
/// How long a daemon's start waits for what starts with the host. Shorter than a caller waits for a daemon: an object that
/// hangs must not keep the others from being seen.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `job` on `work` if it did not run since the host's boot, and waits for it up to `patience`; it goes on after that.
/// `folder` exists and is emptied by a boot.
///
/// # Errors
/// Code 38 when the marker cannot be made.
pub async fn once_per_boot(
    work: &Handle,
    folder: &Path,
    domain: Domain,
    patience: Duration,
    job: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let marker = folder.join(MARKER);
    // Marked first: an object that takes the daemon down with it is not started again and again.
    match OpenOptions::new().write(true).create_new(true).open(&marker) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => {
            return Err(Error::system(domain, format!("cannot create '{}'", marker.display()), error));
        }
    }
    let job = work.spawn(job);
    if !patience.is_zero() && tokio::time::timeout(patience, job).await.is_err() {
        tracing::warn!(folder = %folder.display(), "what starts with the host takes long; it goes on beside the service");
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn runs_once_a_boot_and_is_waited_for_only_so_long() {
        let dir = tempfile::tempdir().unwrap();
        let count = Arc::new(AtomicU32::new(0));
        let run = async |patience, takes| {
            let count = count.clone();
            let job = async move {
                tokio::time::sleep(takes).await;
                count.fetch_add(1, Ordering::SeqCst);
            };
            once_per_boot(&Handle::current(), dir.path(), Domain::Qemu, patience, job).await.unwrap();
        };
        run(PATIENCE, PATIENCE / 2).await;
        assert_eq!(count.load(Ordering::SeqCst), 1, "waited for");
        run(PATIENCE, PATIENCE / 2).await;
        assert_eq!(count.load(Ordering::SeqCst), 1, "once");
        std::fs::remove_file(dir.path().join(MARKER)).unwrap();
        run(PATIENCE, PATIENCE * 2).await;
        assert_eq!(count.load(Ordering::SeqCst), 1, "not waited for");
        tokio::time::sleep(PATIENCE * 2).await;
        assert_eq!(count.load(Ordering::SeqCst), 2, "but not given up");
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("none");
        let done = once_per_boot(&Handle::current(), &folder, Domain::Qemu, PATIENCE, async {}).await;
        assert!(done.is_err());
    }
}
