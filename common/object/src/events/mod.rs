//! The journal of what happened: bounded, numbered, resumable after kill -9 and idle exit.
//!
//! Each event has a [`Cursor`]: the journal's epoch and a number that grows by one. The file lives under /run: a reboot
//! starts a new epoch. A client that comes back names the last cursor it saw and gets everything after it, or a clear
//! [`Gap`] when that is no longer kept: then it must read the state anew. A subscriber that is too slow to keep up with
//! the bound is cut off the same way, never silently skipped.
//!
//! Order for each object: publish the snapshot, append the event, answer the caller.

mod file;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::watch;
use virt_error::{Code, Domain, Error, Result};

use crate::busy::{Busy, Token};
use file::Log;

/// Of payloads that are allocated together, in bytes.
const BLOCK: usize = 32 * 1024;

/// Where an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// Changes when the journal was lost. Never 0.
    pub epoch: u64,
    /// The first event of an epoch has number 1; 0 stands before it.
    pub number: u64,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Where it stands.
    pub cursor: Cursor,
    /// What happened, in the driver's own encoding.
    pub payload: Bytes,
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Events.
    pub events: usize,
    /// Bytes of payload in all.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { events: 8192, bytes: 8 * 1024 * 1024 }
    }
}

/// Why a subscription cannot go on without a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// The cursor is of another epoch.
    Epoch,
    /// What follows the cursor is no longer kept.
    TooOld,
    /// The cursor is ahead of the journal.
    Future,
    /// The subscriber fell behind by more than is kept.
    Lagged,
}

impl Gap {
    /// As an error for a caller: aborted, read the state anew.
    pub fn error(self) -> Error {
        let why = match self {
            Self::Epoch => "the journal was started anew",
            Self::TooOld => "they are too old",
            Self::Future => "they have not happened",
            Self::Lagged => "the subscriber was too slow",
        };
        Error::new(Code::OperationAborted, Domain::Event, format!("events were lost: {why}"))
            .with("gap", format!("{self:?}"))
    }
}

/// The journal. Share it as `Arc<Journal>`.
pub struct Journal {
    epoch: u64,
    limits: Limits,
    busy: Busy,
    inner: Mutex<Inner>,
    /// The number of the newest event.
    last: watch::Sender<u64>,
}

struct Inner {
    kept: VecDeque<Event>,
    bytes: usize,
    /// Payloads lie one after another: each by itself would hold a page of what guests around it have freed.
    block: BytesMut,
    log: Log,
}

impl Journal {
    /// Opens the journal's file, or starts a new epoch when there is none or it cannot be trusted. Each subscription
    /// holds a token of `busy`.
    pub fn open(path: &Path, limits: Limits, busy: Busy) -> Result<Self> {
        let failed =
            |e| Error::system(Domain::Event, format!("cannot use event journal '{}'", path.display()), e);
        let (log, epoch, events) = Log::open(path).map_err(failed)?;
        let mut inner = Inner { kept: VecDeque::new(), bytes: 0, block: BytesMut::new(), log };
        let last = events.last().map_or(0, |(number, _)| *number);
        for (number, payload) in events {
            inner.keep(Cursor { epoch, number }, &payload, limits);
        }
        Ok(Self { epoch, limits, busy, inner: Mutex::new(inner), last: watch::Sender::new(last) })
    }

    /// The epoch of all cursors.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The cursor of the newest event: subscribe from here for all that comes.
    pub fn now(&self) -> Cursor {
        Cursor { epoch: self.epoch, number: *self.last.borrow() }
    }

    /// Appends an event. It is in the file before any subscriber sees it.
    ///
    /// When the file cannot be written (the run folder is full) subscribers still get the event; the file is given up, so
    /// that a restart begins a new epoch instead of hiding the hole.
    pub fn append(&self, payload: Vec<u8>) -> Cursor {
        let mut inner = self.inner.lock();
        let cursor = Cursor { epoch: self.epoch, number: *self.last.borrow() + 1 };
        inner.log.append(cursor.number, &payload);
        inner.keep(cursor, &payload, self.limits);
        let Inner { kept, bytes, log, .. } = &mut *inner;
        log.compact_if_large(*bytes, self.epoch, kept.iter().map(|e| (e.cursor.number, &*e.payload)));
        // Under the lock, so that numbers become visible in order.
        self.last.send_replace(cursor.number);
        cursor
    }

    /// Everything after `from`; without one, everything from now on.
    pub fn subscribe(self: &Arc<Self>, from: Option<Cursor>) -> Result<Subscription, Gap> {
        let from = from.unwrap_or_else(|| self.now());
        if from.epoch != self.epoch {
            return Err(Gap::Epoch);
        }
        let inner = self.inner.lock();
        if from.number > *self.last.borrow() {
            return Err(Gap::Future);
        }
        if from.number + 1 < self.oldest(&inner) {
            return Err(Gap::TooOld);
        }
        let token = self.busy.token();
        Ok(Subscription {
            journal: self.clone(),
            seen: from.number,
            last: self.last.subscribe(),
            _token: token,
        })
    }

    /// The number of the oldest kept event, or of the next one when none is kept.
    fn oldest(&self, inner: &Inner) -> u64 {
        inner.kept.front().map_or(*self.last.borrow() + 1, |e| e.cursor.number)
    }

    fn after(&self, seen: u64) -> Result<Option<Event>, Gap> {
        let inner = self.inner.lock();
        let oldest = self.oldest(&inner);
        if seen + 1 < oldest {
            return Err(Gap::Lagged);
        }
        Ok(inner.kept.get((seen + 1 - oldest) as usize).cloned())
    }
}

impl Inner {
    fn keep(&mut self, cursor: Cursor, payload: &[u8], limits: Limits) {
        self.bytes += payload.len();
        if self.block.capacity() < payload.len() {
            self.block = BytesMut::with_capacity(BLOCK.max(payload.len()));
        }
        self.block.extend_from_slice(payload);
        self.kept.push_back(Event { cursor, payload: self.block.split().freeze() });
        while self.kept.len() > limits.events || (self.bytes > limits.bytes && self.kept.len() > 1) {
            if let Some(oldest) = self.kept.pop_front() {
                self.bytes -= oldest.payload.len();
            }
        }
    }
}

/// One subscriber's place in the journal. It costs nothing per event until it asks.
pub struct Subscription {
    journal: Arc<Journal>,
    seen: u64,
    last: watch::Receiver<u64>,
    _token: Token,
}

impl Subscription {
    /// The next event; waits for it. After a gap the subscription is over.
    pub async fn next(&mut self) -> Result<Event, Gap> {
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            let seen = self.seen;
            // The journal is held by us, so its sender lives.
            drop(self.last.wait_for(|last| *last > seen).await);
        }
    }

    /// The next event if it has happened.
    pub fn try_next(&mut self) -> Result<Option<Event>, Gap> {
        let event = self.journal.after(self.seen)?;
        if let Some(event) = &event {
            self.seen = event.cursor.number;
        }
        Ok(event)
    }

    /// The cursor of the last event that was handed out.
    pub fn cursor(&self) -> Cursor {
        Cursor { epoch: self.journal.epoch, number: self.seen }
    }
}

#[cfg(test)]
mod tests;
