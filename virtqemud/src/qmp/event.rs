//! What QEMU says unasked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;

/// One event as QEMU sent it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// "SHUTDOWN", "STOP", ...
    pub name: String,
    /// The `data` member; null when the event has none.
    pub data: Value,
    /// Seconds since 1970 by QEMU's clock; -1 when it could not tell.
    pub seconds: i64,
    /// Microseconds of that second.
    pub micros: i64,
}

impl Event {
    /// A text member of the data.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.data.get(key)?.as_str()
    }

    /// A boolean member of the data.
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.data.get(key)?.as_bool()
    }

    /// A whole-number member of the data.
    pub fn number(&self, key: &str) -> Option<i64> {
        self.data.get(key)?.as_i64()
    }
}

/// What the event queue hands out.
#[derive(Debug, Clone, PartialEq)]
pub enum Delivery {
    /// The next event.
    Event(Event),
    /// So many events were dropped since the last delivery; the reader must ask for the state again.
    Lost(u64),
    /// The connection has ended and no event waits any more.
    Closed,
}

/// The receiving side of one connection's events.
#[derive(Debug)]
pub struct Events {
    queue: mpsc::Receiver<Event>,
    lost: Arc<AtomicU64>,
}

/// The sending side, held by the reader task.
pub(super) struct Sink {
    queue: mpsc::Sender<Event>,
    lost: Arc<AtomicU64>,
}

pub(super) fn queue(limit: usize) -> (Sink, Events) {
    let (tx, rx) = mpsc::channel(limit);
    let lost = Arc::new(AtomicU64::new(0));
    (Sink { queue: tx, lost: lost.clone() }, Events { queue: rx, lost })
}

impl Sink {
    /// Queues an event, or counts it as lost when the owner is too far behind. Nobody listening is no loss.
    pub fn push(&self, event: Event) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.queue.try_send(event) {
            self.lose();
        }
    }

    /// Counts an event that cannot be delivered.
    pub fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }
}

impl Events {
    /// Waits for the next event, a loss, or the end. Safe to cancel.
    pub async fn next(&mut self) -> Delivery {
        if let Ok(event) = self.queue.try_recv() {
            return Delivery::Event(event);
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            return Delivery::Lost(lost);
        }
        match self.queue.recv().await {
            Some(event) => Delivery::Event(event),
            None => Delivery::Closed,
        }
    }
}

/// An event on the wire.
#[derive(Deserialize)]
pub(super) struct WireEvent {
    event: String,
    #[serde(default)]
    data: Value,
    #[serde(default)]
    timestamp: Stamp,
}

#[derive(Deserialize)]
#[serde(default)]
struct Stamp {
    seconds: i64,
    microseconds: i64,
}

impl Default for Stamp {
    fn default() -> Self {
        Self { seconds: -1, microseconds: -1 }
    }
}

impl From<WireEvent> for Event {
    fn from(w: WireEvent) -> Self {
        Self { name: w.event, data: w.data, seconds: w.timestamp.seconds, micros: w.timestamp.microseconds }
    }
}
