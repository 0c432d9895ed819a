//! The waiting jobs of one owner, and who holds the object. One short lock, never held across a wait.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use virt_error::{Code, Domain, Error, Result};

use super::{Holders, Kind, Spec, Verdict, timed_out};

/// Names a job of one owner.
pub(super) type Ticket = u64;

/// A job with its answer channel inside: given the state it runs, given an error it answers that.
pub(super) type BoxedJob<S> = Box<dyn for<'a> FnOnce(Given<'a, S>) -> BoxFuture<'a, ()> + Send>;

pub(super) enum Given<'a, S> {
    /// Run on the state; the notification cuts the job short.
    State(&'a mut S, Arc<Notify>),
    /// Do not run, answer this.
    Refusal(Error),
}

pub(super) struct Queued<S> {
    pub ticket: Ticket,
    pub spec: Spec,
    /// A kill's part: admission does not hold it back.
    pub first: bool,
    /// Set for a step: the long job it belongs to.
    pub long: Option<Ticket>,
    pub deadline: Option<Instant>,
    pub job: BoxedJob<S>,
}

struct Holder {
    ticket: Ticket,
    spec: Spec,
    since: Instant,
}

pub(super) struct Mailbox<S>(Mutex<Inner<S>>);

struct Inner<S> {
    queue: VecDeque<Queued<S>>,
    /// Here while no runner has it.
    state: Option<Box<S>>,
    running: Option<(Holder, Arc<Notify>)>,
    long: Option<Holder>,
    next_ticket: Ticket,
}

/// What the runner does next.
pub(super) enum Next<S> {
    Run(Queued<S>, Arc<Notify>),
    /// Its wait was over before its turn came.
    Refuse(Queued<S>, Error),
}

impl<S> Inner<S> {
    fn holders(&self) -> Holders {
        Holders {
            running: self.running.as_ref().map(|(h, _)| h.spec),
            long: self.long.as_ref().map(|h| h.spec),
        }
    }

    fn in_the_way(&self) -> Option<(Spec, Instant)> {
        let holder = self.long.as_ref().or(self.running.as_ref().map(|(h, _)| h))?;
        Some((holder.spec, holder.since))
    }

    /// Whether this job may run now, if the state is free.
    fn ready(&self, queued: &Queued<S>, kind: &Kind) -> Result<bool> {
        let Some(long) = &self.long else { return Ok(true) };
        if queued.first || queued.long == Some(long.ticket) {
            return Ok(true);
        }
        match (kind.admission)(&self.holders(), &queued.spec) {
            Verdict::Admit => Ok(true),
            Verdict::Queue => Ok(false),
            Verdict::Refuse(error) => Err(error),
        }
    }

    /// Hands the state to a new runner when there is one to start.
    fn wake(&self) -> bool {
        self.state.is_some() && !self.queue.is_empty()
    }
}

impl<S> Mailbox<S> {
    pub fn new(state: S) -> Self {
        Self(Mutex::new(Inner {
            queue: VecDeque::new(),
            state: Some(Box::new(state)),
            running: None,
            long: None,
            next_ticket: 1,
        }))
    }

    pub fn holders(&self) -> Holders {
        self.0.lock().holders()
    }

    pub fn ticket(&self) -> Ticket {
        let mut inner = self.0.lock();
        inner.next_ticket += 1;
        inner.next_ticket
    }

    /// The job that is on the state now.
    pub fn current(&self) -> Option<Ticket> {
        self.0.lock().running.as_ref().map(|(h, _)| h.ticket)
    }

    /// Queues a job. True: the caller must start a runner.
    pub fn put(&self, queued: Queued<S>, kind: &Kind) -> Result<bool> {
        let mut inner = self.0.lock();
        if queued.first {
            inner.queue.push_front(queued);
            return Ok(inner.wake());
        }
        let step = queued.long.is_some();
        if !step {
            let holders = inner.holders();
            if let Verdict::Refuse(error) = (kind.admission)(&holders, &queued.spec) {
                return Err(error);
            }
            let waits = inner.running.is_some() || !inner.queue.is_empty() || !inner.ready(&queued, kind)?;
            if waits && queued.spec.wait == super::Wait::FailFast {
                return Err(timed_out(kind.domain, inner.in_the_way()));
            }
        }
        if !step && inner.queue.len() >= kind.capacity {
            let holder = inner.in_the_way().map_or("other jobs", |(spec, _)| spec.name);
            let text = format!("cannot acquire state change lock (held by {holder}) due to max_queued limit");
            return Err(Error::new(Code::OperationFailed, kind.domain, text));
        }
        inner.queue.push_back(queued);
        Ok(inner.wake())
    }

    /// Takes a job out whose wait is over, if it has not started.
    pub fn expire(&self, ticket: Ticket, domain: Domain) -> Option<Error> {
        let mut inner = self.0.lock();
        let at = inner.queue.iter().position(|q| q.ticket == ticket)?;
        drop(inner.queue.remove(at));
        Some(timed_out(domain, inner.in_the_way()))
    }

    pub fn take_state(&self) -> Option<Box<S>> {
        self.0.lock().state.take()
    }

    /// The next job that may run. None: nothing may, and the state went back into the mailbox.
    pub fn next(&self, kind: &Kind, state: &mut Option<Box<S>>) -> Option<Next<S>> {
        let mut inner = self.0.lock();
        inner.running = None;
        let now = Instant::now();
        for at in 0..inner.queue.len() {
            let expired = inner.queue[at].deadline.is_some_and(|d| d < now);
            let verdict = if expired {
                Err(timed_out(kind.domain, inner.in_the_way()))
            } else {
                inner.ready(&inner.queue[at], kind)
            };
            if let Ok(false) = verdict {
                continue;
            }
            let queued = inner.queue.remove(at)?;
            return Some(match verdict {
                Err(error) => Next::Refuse(queued, error),
                Ok(_) => {
                    let cut = Arc::new(Notify::new());
                    let holder = Holder { ticket: queued.ticket, spec: queued.spec, since: now };
                    inner.running = Some((holder, cut.clone()));
                    Next::Run(queued, cut)
                }
            });
        }
        // Given back under the same lock, so that a job put in now starts a runner.
        inner.state = state.take();
        if inner.queue.is_empty() && inner.queue.capacity() > 8 {
            inner.queue.shrink_to_fit();
        }
        None
    }

    /// A runner that was dropped (its runtime ends) gives the state back.
    pub fn abandon(&self, state: Box<S>) {
        let mut inner = self.0.lock();
        inner.running = None;
        inner.state = Some(state);
    }

    /// Cuts the job with this ticket if it is still on the state.
    pub fn cut(&self, ticket: Ticket) {
        if let Some((holder, cut)) = &self.0.lock().running
            && holder.ticket == ticket
        {
            cut.notify_one();
        }
    }

    /// Makes a long job the holder.
    pub fn hold(&self, spec: Spec) -> Ticket {
        let mut inner = self.0.lock();
        inner.next_ticket += 1;
        let ticket = inner.next_ticket;
        inner.long = Some(Holder { ticket, spec, since: Instant::now() });
        ticket
    }

    /// Ends a long job. True: the caller must start a runner.
    pub fn release(&self, ticket: Ticket) -> bool {
        let mut inner = self.0.lock();
        if inner.long.as_ref().is_some_and(|h| h.ticket == ticket) {
            inner.long = None;
        }
        inner.wake()
    }
}
