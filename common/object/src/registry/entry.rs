//! The published state of one object: an immutable snapshot with a generation number.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::changes;

/// One state of an object. It never changes; readers keep it as long as they like.
#[derive(Debug)]
pub struct Snapshot<S> {
    /// Grows by one with every publication of this object; the first is 1.
    pub generation: u64,
    /// The state.
    pub value: S,
}

/// Where an object's owner publishes and everybody else reads without a lock.
pub struct Entry<S> {
    current: ArcSwap<Snapshot<S>>,
    /// Orders publications; readers never take it.
    publish: Mutex<()>,
    changed: Notify,
}

impl<S> Entry<S> {
    /// Generation 1.
    pub fn new(value: S) -> Self {
        let current = ArcSwap::from_pointee(Snapshot { generation: 1, value });
        Self { current, publish: Mutex::new(()), changed: Notify::new() }
    }

    /// The newest state.
    pub fn load(&self) -> Arc<Snapshot<S>> {
        self.current.load_full()
    }

    /// Publishes a new state and returns its generation.
    pub fn publish(&self, value: S) -> u64 {
        self.update(|_| value)
    }

    /// Publishes a state made from the newest one and returns its generation.
    pub fn update(&self, change: impl FnOnce(&S) -> S) -> u64 {
        let order = self.publish.lock();
        let old = self.current.load();
        let generation = old.generation + 1;
        self.current.store(Arc::new(Snapshot { generation, value: change(&old.value) }));
        drop(order);
        changes::note();
        self.changed.notify_waiters();
        generation
    }

    /// Returns the newest state once its generation is at least `generation`.
    pub async fn wait_for(&self, generation: u64) -> Arc<Snapshot<S>> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let snapshot = self.load();
            if snapshot.generation >= generation {
                return snapshot;
            }
            changed.await;
        }
    }
}
