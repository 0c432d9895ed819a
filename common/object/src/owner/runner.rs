//! The task that works a mailbox off. It exists only while a job may run.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use virt_error::{Code, Domain, Error, Result};

use super::mailbox::{BoxedJob, Given, Mailbox, Next};
use super::{Shared, Spec};
use crate::busy::Token;

/// Runs until no job may run. More than one may be started for a mailbox; only the one that gets the state works.
pub(super) async fn run<S: Send + 'static, H>(shared: Arc<Shared<S, H>>, _token: Token) {
    let Some(state) = shared.mailbox.take_state() else { return };
    let mut lease = Lease { mailbox: &shared.mailbox, state: Some(state) };
    while let Some(next) = shared.mailbox.next(&shared.kind, &mut lease.state) {
        match next {
            Next::Refuse(queued, error) => (queued.job)(Given::Refusal(error)).await,
            Next::Run(queued, cut) => {
                if let Some(state) = lease.state.as_deref_mut() {
                    (queued.job)(Given::State(state, cut)).await;
                }
            }
        }
    }
}

/// Gives the state back if the task is dropped in the middle.
struct Lease<'a, S> {
    mailbox: &'a Mailbox<S>,
    state: Option<Box<S>>,
}

impl<S> Drop for Lease<'_, S> {
    fn drop(&mut self) {
        if let Some(state) = self.state.take() {
            self.mailbox.abandon(state);
        }
    }
}

/// Wraps a typed job: runs it, survives its panic, can be cut, answers its caller.
pub(super) fn boxed<S, R, F>(
    spec: Spec,
    domain: Domain,
    job: F,
    answer: oneshot::Sender<Result<R>>,
) -> BoxedJob<S>
where
    S: Send + 'static,
    R: Send + 'static,
    F: for<'a> FnOnce(&'a mut S) -> BoxFuture<'a, Result<R>> + Send + 'static,
{
    Box::new(move |given| {
        Box::pin(async move {
            let (state, cut) = match given {
                Given::State(state, cut) => (state, cut),
                Given::Refusal(error) => return drop(answer.send(Err(error))),
            };
            // The closure itself may panic too, not only its future.
            let work = AssertUnwindSafe(async move { job(state).await }).catch_unwind();
            let result = tokio::select! {
                biased;
                done = work => done.unwrap_or_else(|panic| Err(panicked(spec, domain, &*panic))),
                () = cut.notified() => {
                    tracing::warn!(job = spec.name, "a job was cut because its object was killed");
                    Err(Error::new(Code::OperationAborted, domain, format!("{} was aborted", spec.name)))
                }
            };
            // The caller may have gone; the change stands.
            drop(answer.send(result));
        })
    })
}

fn panicked(spec: Spec, domain: Domain, panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_string())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    tracing::error!(job = spec.name, panic = %text, "a job panicked");
    Error::internal(domain, format!("{} failed unexpectedly", spec.name)).with("panic", text)
}
