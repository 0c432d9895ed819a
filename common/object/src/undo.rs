//! An undo stack for multi-step work: a failed start leaves no tap, lease, label, port, file or process behind.
//!
//! ```
//! # use virt_object::undo::Undo;
//! # async fn example() -> virt_error::Result<()> {
//! let mut undo = Undo::new("start of guest x");
//! // create the folder, then say how to remove it
//! undo.add("private folder", || Ok(()));
//! // ... more steps; any `?` leaves with the stack still armed ...
//! undo.disarm(); // success: everything stays
//! # Ok(())
//! # }
//! ```
//!
//! The usual frame is [`Undo::guard`], which runs the steps and waits for them when the work fails. An armed stack that
//! is merely dropped (a cut job, a panic) runs its steps too: on the current runtime if there is one.

use std::future::Future;
use std::pin::Pin;

use virt_error::Result;

type Step = Pin<Box<dyn Future<Output = Result<()>> + Send>>;
type MakeStep = Box<dyn FnOnce() -> Step + Send>;

/// Steps that take back what was done, newest first.
pub struct Undo {
    what: String,
    steps: Vec<(&'static str, MakeStep)>,
}

impl Undo {
    /// An empty stack; `what` names the work in the log.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), steps: Vec::new() }
    }

    /// Registers a step that takes back what was just done.
    pub fn add(&mut self, name: &'static str, step: impl FnOnce() -> Result<()> + Send + 'static) {
        self.steps.push((name, Box::new(move || Box::pin(async move { step() }))));
    }

    /// Registers a step that has to wait for something.
    pub fn add_async<F>(&mut self, name: &'static str, step: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.steps.push((name, Box::new(move || Box::pin(step()))));
    }

    /// Success: forget all steps.
    pub fn disarm(&mut self) {
        self.steps.clear();
    }

    /// How many steps are armed.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether nothing is armed.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Runs the steps in reverse. A step that fails is logged and the others still run.
    pub async fn run(mut self) {
        run_steps(std::mem::take(&mut self.what), std::mem::take(&mut self.steps)).await;
    }

    /// Ends the work: on success the steps are forgotten, on failure they run before the error goes on.
    pub async fn guard<T>(mut self, result: Result<T>) -> Result<T> {
        match result {
            Ok(value) => {
                self.disarm();
                Ok(value)
            }
            Err(error) => {
                self.run().await;
                Err(error)
            }
        }
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if self.steps.is_empty() {
            return;
        }
        let work = run_steps(std::mem::take(&mut self.what), std::mem::take(&mut self.steps));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(work)),
            // Outside a runtime only steps that never wait can finish: those of `add`.
            Err(_) => drop(futures_util::FutureExt::now_or_never(work)),
        }
    }
}

async fn run_steps(what: String, mut steps: Vec<(&'static str, MakeStep)>) {
    while let Some((name, step)) = steps.pop() {
        if let Err(error) = step().await {
            tracing::error!(work = %what, step = name, ?error, "could not undo a step");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::Arc;
    use virt_error::{Domain, Error};

    fn stack(log: &Arc<Mutex<Vec<u32>>>) -> Undo {
        let mut undo = Undo::new("test");
        for n in 1..=3 {
            let log = log.clone();
            if n == 2 {
                undo.add_async("async", move || async move {
                    tokio::task::yield_now().await;
                    log.lock().push(n);
                    Err(Error::internal(Domain::None, "step failed"))
                });
            } else {
                undo.add("sync", move || {
                    log.lock().push(n);
                    Ok(())
                });
            }
        }
        undo
    }

    #[tokio::test]
    async fn runs_in_reverse_and_past_a_failure() {
        let log = Arc::default();
        let error = stack(&log).guard::<()>(Err(Error::internal(Domain::None, "x"))).await.unwrap_err();
        assert_eq!(error.info(), Some("x"));
        assert_eq!(*log.lock(), [3, 2, 1]);
    }

    #[tokio::test]
    async fn success_keeps_everything() {
        let log = Arc::default();
        assert_eq!(stack(&log).guard(Ok(5)).await.unwrap(), 5);
        tokio::task::yield_now().await;
        assert!(log.lock().is_empty());
    }

    #[tokio::test]
    async fn a_dropped_stack_still_undoes() {
        let log: Arc<Mutex<Vec<u32>>> = Arc::default();
        drop(stack(&log));
        while log.lock().len() < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(*log.lock(), [3, 2, 1]);
    }
}
