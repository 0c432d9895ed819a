//! One owner per object: its changes are jobs that run one after another on the owner's state.
//!
//! ```text
//!             run(spec, job)                 step of a long job          kill(act, settle)
//!                  |                                |                          |
//!            +-----v------ admission (pure) --------v---+            act: at once, beside the
//!            | mailbox: bounded, first come first served|            current job, on the shared handle
//!            +-----+------------------------------------+                      |
//!                  | task exists only while there is work            settle: first in the mailbox,
//!            +-----v-----+                                           the current job is cut if it
//!            |  &mut S   |  one job at a time                        outlives the grace time
//!            +-----------+
//! ```
//!
//! - A job that was admitted runs to its end even if its caller went away. Only a kill cuts it.
//! - A job waits at most [`Spec::wait`] for its turn, then its caller gets code 68 naming the holder and its age.
//! - A job that panics ends with an internal error; the owner goes on.
//! - Work that lasts (migration, save, backup) is a *long job* ([`Owner::begin`]): it holds the object by admission
//!   rules, not by the state, and touches the state in short steps. What may run between its steps is decided by the
//!   [`Kind::admission`] function, which is pure and therefore tested by itself.
//!
//! An idle owner is a few words of memory: ten thousand defined guests cost ten thousand states, no tasks.

mod mailbox;
mod runner;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::Instant;
use virt_error::{Code, Domain, Error, Result};

use crate::busy::Busy;
use mailbox::{Mailbox, Queued, Ticket};

/// How long a legacy call waits for a busy object, as the reference does.
pub const LEGACY_WAIT: Duration = Duration::from_secs(30);
/// How many jobs may wait for one object before callers are told that it is busy.
pub const MAILBOX: usize = 64;

/// What a request is, for admission and for error texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// Named in the texts of those who wait behind it: "suspend", "migration" ...
    pub name: &'static str,
    /// What the request does to the object.
    pub class: Class,
    /// How long to wait for its turn.
    pub wait: Wait,
}

/// What a request does to the object; the admission rules decide by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Asks the running object something that only its process knows.
    Query,
    /// Changes configuration or devices.
    Modify,
    /// Changes whether or how it runs: start, suspend, resume, shutdown, reset.
    Lifecycle,
    /// Ends it.
    Destroy,
    /// Stops a long job.
    Abort,
    /// A long job of its own: migration, save, dump, snapshot, backup.
    Long,
}

/// How long a request waits for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// At most this long.
    UpTo(Duration),
    /// Not at all: busy is an answer.
    FailFast,
}

impl Spec {
    /// A request with the legacy wait.
    pub const fn new(name: &'static str, class: Class) -> Self {
        Self { name, class, wait: Wait::UpTo(LEGACY_WAIT) }
    }

    /// The same request with another wait.
    #[must_use]
    pub const fn wait(self, wait: Wait) -> Self {
        Self { wait, ..self }
    }
}

/// Who holds the object now, as admission sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holders {
    /// The job on the state.
    pub running: Option<Spec>,
    /// The long job, if one was begun and has not ended.
    pub long: Option<Spec>,
}

/// What admission says about a request.
#[derive(Debug)]
pub enum Verdict {
    /// It runs as soon as the state is free, also between the steps of a long job.
    Admit,
    /// It waits until the long job has ended.
    Queue,
    /// It is refused at once.
    Refuse(Error),
}

/// The admission rules of one kind of object: a pure function, no lock, no wait.
pub type Admission = fn(&Holders, &Spec) -> Verdict;

/// The usual rules: a long job lets queries, an abort and a destroy through, all else waits for its end.
pub fn default_admission(holders: &Holders, request: &Spec) -> Verdict {
    match (holders.long, request.class) {
        (None, _) | (Some(_), Class::Query | Class::Abort | Class::Destroy) => Verdict::Admit,
        (Some(_), Class::Modify | Class::Lifecycle | Class::Long) => Verdict::Queue,
    }
}

/// What all owners of one kind share.
#[derive(Clone)]
pub struct Kind {
    /// Error domain of texts about busy objects.
    pub domain: Domain,
    /// Where jobs run: the daemon's work runtime.
    pub runtime: tokio::runtime::Handle,
    /// A running or waiting job keeps the daemon from its idle exit.
    pub busy: Busy,
    /// The admission rules.
    pub admission: Admission,
    /// How many jobs may wait; see [`MAILBOX`].
    pub capacity: usize,
}

impl Kind {
    /// The usual rules and sizes.
    pub fn new(domain: Domain, runtime: tokio::runtime::Handle, busy: Busy) -> Self {
        Self { domain, runtime, busy, admission: default_admission, capacity: MAILBOX }
    }
}

/// The handle of one object's owner. `S` is the state that jobs change, `H` the shared handle that a kill may use
/// while a job runs (the process, the monitor's abort switch). Clones are the same owner.
pub struct Owner<S, H = ()> {
    shared: Arc<Shared<S, H>>,
}

pub(crate) struct Shared<S, H> {
    kind: Arc<Kind>,
    handle: Arc<H>,
    mailbox: Mailbox<S>,
}

impl<S, H> Clone for Owner<S, H> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<S: Send + 'static, H: Send + Sync + 'static> Owner<S, H> {
    /// An idle owner of `state`.
    pub fn new(kind: Arc<Kind>, state: S, handle: Arc<H>) -> Self {
        let mailbox = Mailbox::new(state);
        Self { shared: Arc::new(Shared { kind, handle, mailbox }) }
    }

    /// The handle that is shared with running jobs.
    pub fn handle(&self) -> &Arc<H> {
        &self.shared.handle
    }

    /// Who holds the object now.
    pub fn holders(&self) -> Holders {
        self.shared.mailbox.holders()
    }

    /// Runs a job on the state and returns its answer.
    ///
    /// Dropping the returned future does not take the job back. Errors: those of the job; code 68 when the wait is
    /// over; code 9 when the mailbox is full; what admission refuses; code 1 after a panic; code 78 when a kill cut it.
    pub async fn run<R, F>(&self, spec: Spec, job: F) -> Result<R>
    where
        R: Send + 'static,
        F: for<'a> FnOnce(&'a mut S) -> BoxFuture<'a, Result<R>> + Send + 'static,
    {
        self.submit(spec, None, false, job)?.answer().await
    }

    /// Puts a job into the mailbox and returns at once; for work that nobody waits for (events of the process).
    pub fn post<F>(&self, spec: Spec, job: F) -> Result<()>
    where
        F: for<'a> FnOnce(&'a mut S) -> BoxFuture<'a, Result<()>> + Send + 'static,
    {
        let name = spec.name;
        self.submit(spec, None, false, move |state| {
            Box::pin(async move {
                // Nobody reads the answer, so the log must.
                job(state)
                    .await
                    .inspect_err(|error| tracing::error!(job = name, ?error, "a posted job failed"))
            })
        })
        .map(drop)
    }

    /// Begins a long job: waits until admission lets it in and no other long job holds the object.
    pub async fn begin(&self, spec: Spec) -> Result<LongJob<S, H>> {
        let owner = self.clone();
        let pending =
            self.submit(spec, None, false, move |_| Box::pin(async move { Ok(LongJob::hold(owner, spec)) }))?;
        pending.answer().await
    }

    /// Ends the object whatever holds it: `act` runs at once beside the current job, on the shared handle; then
    /// `settle` runs on the state before all waiting jobs. A current job that outlives `act` by `grace` is cut.
    ///
    /// Dropping the returned future stops nothing. There is no wait limit and no admission.
    pub async fn kill<R, A, F>(&self, spec: Spec, grace: Duration, act: A, settle: F) -> Result<R>
    where
        R: Send + 'static,
        A: AsyncAct<H>,
        F: for<'a> FnOnce(&'a mut S) -> BoxFuture<'a, Result<R>> + Send + 'static,
    {
        let owner = self.clone();
        let token = self.shared.kind.busy.token();
        let work = async move {
            let in_the_way = owner.shared.mailbox.current();
            act.act(owner.shared.handle.clone()).await?;
            let spec = Spec { class: Class::Destroy, ..spec };
            let answer = owner.submit(spec, None, true, settle)?.answer();
            tokio::pin!(answer);
            if let Ok(done) = tokio::time::timeout(grace, &mut answer).await {
                return done;
            }
            if let Some(ticket) = in_the_way {
                owner.shared.mailbox.cut(ticket);
            }
            let done = answer.await;
            drop(token);
            done
        };
        let name = spec.name;
        let domain = self.shared.kind.domain;
        match self.shared.kind.runtime.spawn(work).await {
            Ok(done) => done,
            Err(e) => Err(Error::fault(domain, format!("{name} ended unexpectedly")).with_source(e)),
        }
    }

    fn submit<R, F>(&self, spec: Spec, long: Option<Ticket>, first: bool, job: F) -> Result<Pending<R, S, H>>
    where
        R: Send + 'static,
        F: for<'a> FnOnce(&'a mut S) -> BoxFuture<'a, Result<R>> + Send + 'static,
    {
        let (answer, receiver) = oneshot::channel();
        let kind = &self.shared.kind;
        let deadline = match (first || long.is_some(), spec.wait) {
            (false, Wait::UpTo(wait)) => Some(Instant::now() + wait),
            // A request that fails fast is only let in where its turn is now.
            (true, _) | (false, Wait::FailFast) => None,
        };
        let queued = Queued {
            ticket: self.shared.mailbox.ticket(),
            spec,
            first,
            long,
            deadline,
            job: runner::boxed(spec, kind.domain, job, answer),
        };
        let ticket = queued.ticket;
        if self.shared.mailbox.put(queued, kind)? {
            kind.runtime.spawn(runner::run(self.shared.clone(), kind.busy.token()));
        }
        Ok(Pending { owner: self.clone(), ticket, deadline, receiver })
    }
}

/// What a kill does first. Implemented by async closures and functions that take the shared handle.
pub trait AsyncAct<H>: Send + 'static {
    /// Does it.
    fn act(self, handle: Arc<H>) -> impl Future<Output = Result<()>> + Send;
}

impl<H, F, Fut> AsyncAct<H> for F
where
    F: FnOnce(Arc<H>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<()>> + Send,
{
    fn act(self, handle: Arc<H>) -> impl Future<Output = Result<()>> + Send {
        self(handle)
    }
}

/// A job in the mailbox, seen by its caller.
struct Pending<R, S, H> {
    owner: Owner<S, H>,
    ticket: Ticket,
    deadline: Option<Instant>,
    receiver: oneshot::Receiver<Result<R>>,
}

impl<R, S: Send + 'static, H: Send + Sync + 'static> Pending<R, S, H> {
    async fn answer(mut self) -> Result<R> {
        let lost = |_| Err(Error::fault(self.owner.shared.kind.domain, "the job was dropped unfinished"));
        let Some(deadline) = self.deadline else { return self.receiver.await.unwrap_or_else(lost) };
        tokio::select! {
            biased;
            done = &mut self.receiver => return done.unwrap_or_else(lost),
            () = tokio::time::sleep_until(deadline) => {}
        }
        // Not started in time: taken out and told who was in the way. Started: its own time now, wait for it.
        if let Some(error) = self.owner.shared.mailbox.expire(self.ticket, self.owner.shared.kind.domain) {
            return Err(error);
        }
        self.receiver.await.unwrap_or_else(lost)
    }
}

/// A long job's hold on an object; dropping it lets waiting requests in.
pub struct LongJob<S: Send + 'static, H: Send + Sync + 'static = ()> {
    owner: Owner<S, H>,
    ticket: Ticket,
}

impl<S: Send + 'static, H: Send + Sync + 'static> LongJob<S, H> {
    fn hold(owner: Owner<S, H>, spec: Spec) -> Self {
        let ticket = owner.shared.mailbox.hold(spec);
        Self { owner, ticket }
    }

    /// Runs one step on the state, in turn with whatever admission let in meanwhile. It waits without limit.
    pub async fn step<R, F>(&self, name: &'static str, job: F) -> Result<R>
    where
        R: Send + 'static,
        F: for<'a> FnOnce(&'a mut S) -> BoxFuture<'a, Result<R>> + Send + 'static,
    {
        let spec = Spec::new(name, Class::Long);
        self.owner.submit(spec, Some(self.ticket), false, job)?.answer().await
    }

    /// The owner, for the shared handle.
    pub fn owner(&self) -> &Owner<S, H> {
        &self.owner
    }
}

impl<S: Send + 'static, H: Send + Sync + 'static> Drop for LongJob<S, H> {
    fn drop(&mut self) {
        let kind = &self.owner.shared.kind;
        if self.owner.shared.mailbox.release(self.ticket) {
            kind.runtime.spawn(runner::run(self.owner.shared.clone(), kind.busy.token()));
        }
    }
}

fn timed_out(domain: Domain, holder: Option<(Spec, Instant)>) -> Error {
    let text = match holder {
        Some((spec, since)) => format!(
            "cannot acquire state change lock (held by {} for {}s)",
            spec.name,
            since.elapsed().as_secs()
        ),
        None => "cannot acquire state change lock".to_string(),
    };
    Error::new(Code::OperationTimeout, domain, text)
}

#[cfg(test)]
mod tests;
