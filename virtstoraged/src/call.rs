//! Calls of a backend: each on a thread of its own, with a deadline.
//!
//! A call that does not come back (a dead file server) is given up: its thread stays until the kernel lets it go, the caller
//! gets an error. How many such threads there may be is bounded.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use virt_daemon::Conf;
use virt_error::{Code, Domain, Error, Result};
use virt_host::tool::Cancel;
use virt_object::blocking;

/// How long a call may take that only looks, unless `look_timeout` says otherwise.
const LOOK: Duration = Duration::from_secs(60);
/// The longest that `look_timeout` may be: an hour.
const LONGEST: u64 = 3600;
/// How long starting and stopping may take: a mount, a login.
pub const SWITCH: Duration = Duration::from_secs(90);
/// How long formatting may take.
pub const FORMAT: Duration = Duration::from_secs(30 * 60);
/// Calls that run at once in the whole daemon, given up ones among them.
const AT_ONCE: usize = 128;

/// The threads for backends.
#[derive(Debug, Clone)]
pub struct Calls {
    slots: Arc<Semaphore>,
    look: Duration,
}

impl Default for Calls {
    fn default() -> Self {
        Self { slots: Arc::new(Semaphore::new(AT_ONCE)), look: LOOK }
    }
}

impl Calls {
    /// As `look_timeout` of the configuration says: seconds that a call may take which only looks.
    ///
    /// # Errors
    /// Code 1 for what is no number of 1 to 3600.
    pub fn from_conf(conf: &Conf) -> Result<Self> {
        let look = match conf.uint("look_timeout")? {
            None => LOOK,
            Some(seconds @ 1..=LONGEST) => Duration::from_secs(seconds),
            Some(other) => {
                let path = conf.path().display();
                let text = format!("{path}: look_timeout: {other} is not between 1 and {LONGEST} seconds");
                return Err(Error::internal(Domain::Conf, text));
            }
        };
        Ok(Self { look, ..Self::default() })
    }

    /// How long a call may take that only looks.
    pub fn look(&self) -> Duration {
        self.look
    }

    /// Runs `work` with a deadline; the work is asked to cancel when it is over.
    ///
    /// # Errors
    /// The work's own; code 68 after the deadline; code 9 when too many calls hang.
    pub async fn run<R: Send + 'static>(
        &self,
        what: &'static str,
        limit: Duration,
        work: impl FnOnce(Cancel) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let cancel = Cancel::default();
        let told = cancel.clone();
        match tokio::time::timeout(limit, self.long(told, work)).await {
            Ok(done) => done,
            Err(_) => {
                cancel.cancel();
                let text = format!("{what} of the storage did not end within {} seconds", limit.as_secs());
                tracing::warn!(what, "storage does not answer");
                Err(Error::new(Code::OperationTimeout, Domain::Storage, text))
            }
        }
    }

    /// Runs work that may last and that can be cancelled.
    ///
    /// # Errors
    /// The work's own; code 9 when too many calls hang.
    pub async fn long<R: Send + 'static>(
        &self,
        cancel: Cancel,
        work: impl FnOnce(Cancel) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let busy = |_| {
            let text = "too much storage work at once: some of it may hang";
            Error::new(Code::OperationFailed, Domain::Storage, text)
        };
        let permit = self.slots.clone().try_acquire_owned().map_err(busy)?;
        blocking::run(move || {
            let done = work(cancel);
            drop(permit);
            done
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_that_hangs_is_given_up() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let calls = Calls::default();
        let hang = calls.run("a look", Duration::from_millis(20), move |_| {
            let _ = held.recv();
            Ok(())
        });
        assert_eq!(hang.await.unwrap_err().code(), Code::OperationTimeout);
        // Another one goes on meanwhile.
        assert_eq!(calls.run("a look", calls.look(), |_| Ok(5)).await.unwrap(), 5);
        drop(release);
    }
    #[test]
    fn the_configuration_says_how_long_a_look_may_take() {
        let look = |text: &str| Calls::from_conf(&Conf::parse("x.conf", text).unwrap()).map(|c| c.look());
        assert_eq!(look("").unwrap(), LOOK);
        assert_eq!(look("look_timeout = 5").unwrap(), Duration::from_secs(5));
        for wrong in ["look_timeout = 0", "look_timeout = 3601", "look_timeout = \"5\""] {
            assert!(look(wrong).unwrap_err().message().contains("look_timeout"), "{wrong}");
        }
    }
}
