//! Work on volumes that lasts: what runs now, how far it is, and how it is cancelled.
//!
//! ```text
//!   begin --> Running --the job ends--> gone
//!               |  cancel: the switch is set, whoever waits for a client is woken
//!               `--> Running, cancelled --> gone; the client of the job gets code 78, nothing half is left
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use virt_error::{Code, Domain, Error, Result};
use virt_host::tool::Cancel;

/// How far a task is, in bytes. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    /// Says how much there is to do; 0 when nobody knows.
    pub fn expect(&self, total: u64) {
        self.0.total.store(total, Ordering::Relaxed);
    }

    /// Counts what was done.
    pub fn add(&self, bytes: u64) {
        self.0.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Sets what was done, in bytes.
    pub fn reach(&self, bytes: u64) {
        self.0.done.store(bytes, Ordering::Relaxed);
    }

    /// Sets what was done, of one hundred parts.
    pub fn percent(&self, percent: f64) {
        // A total of bytes is far below where a float loses whole numbers that matter here.
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let done = (self.total() as f64 * percent.clamp(0.0, 100.0) / 100.0) as u64;
        self.0.done.store(done, Ordering::Relaxed);
    }

    /// Bytes done.
    pub fn done(&self) -> u64 {
        self.0.done.load(Ordering::Relaxed)
    }

    /// Bytes in all.
    pub fn total(&self) -> u64 {
        self.0.total.load(Ordering::Relaxed)
    }
}

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Makes an empty volume.
    Create,
    /// Makes a volume with the content of another.
    Copy,
    /// Deletes a volume.
    Delete,
    /// Changes a capacity.
    Resize,
    /// Overwrites a content.
    Wipe,
    /// Takes a content from a client.
    Upload,
    /// Gives a content to a client.
    Download,
}

impl Kind {
    /// Its name for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Copy => "copy",
            Self::Delete => "delete",
            Self::Resize => "resize",
            Self::Wipe => "wipe",
            Self::Upload => "upload",
            Self::Download => "download",
        }
    }
}

type Wake = Box<dyn FnOnce() + Send>;

/// A task that runs.
pub struct Task {
    /// Never used again while the daemon lives.
    pub id: u64,
    /// What it does.
    pub kind: Kind,
    /// In which pool.
    pub pool: String,
    /// To which volume.
    pub volume: String,
    /// Since when.
    pub begun: Instant,
    /// How far it is.
    pub progress: Progress,
    /// Ends it.
    pub cancel: Cancel,
    wake: Mutex<Option<Wake>>,
}

impl Task {
    /// Asks it to end; the work sees it at its next step.
    pub fn cancel(&self) {
        self.cancel.cancel();
        if let Some(wake) = self.wake.lock().take() {
            wake();
        }
    }

    /// Sets what ends a wait that does not look at the switch.
    pub fn on_cancel(&self, wake: impl FnOnce() + Send + 'static) {
        *self.wake.lock() = Some(Box::new(wake));
        // It was cancelled before anybody could be woken.
        if self.cancel.is_cancelled() {
            self.cancel();
        }
    }
}

/// All tasks of the daemon.
#[derive(Default)]
pub struct Tasks {
    last: AtomicU64,
    running: Mutex<BTreeMap<u64, Arc<Task>>>,
}

impl Tasks {
    /// Begins one; it is told until the guard is dropped.
    pub fn begin(self: &Arc<Self>, kind: Kind, pool: &str, volume: &str) -> Running {
        let task = Arc::new(Task {
            id: self.last.fetch_add(1, Ordering::Relaxed) + 1,
            kind,
            pool: pool.to_string(),
            volume: volume.to_string(),
            begun: Instant::now(),
            progress: Progress::default(),
            cancel: Cancel::default(),
            wake: Mutex::new(None),
        });
        self.running.lock().insert(task.id, task.clone());
        Running { task, tasks: self.clone() }
    }

    /// All that run now, the oldest first.
    pub fn list(&self) -> Vec<Arc<Task>> {
        self.running.lock().values().cloned().collect()
    }

    /// The one of this number.
    ///
    /// # Errors
    /// Code 55 when it is over, or never was.
    pub fn find(&self, id: u64) -> Result<Arc<Task>> {
        let over = || {
            let text = format!("no storage job with number {id} is running");
            Error::new(Code::OperationInvalid, Domain::Storage, text)
        };
        self.running.lock().get(&id).cloned().ok_or_else(over)
    }
}

/// A task that is told while this exists.
pub struct Running {
    task: Arc<Task>,
    tasks: Arc<Tasks>,
}

impl std::ops::Deref for Running {
    type Target = Task;
    fn deref(&self) -> &Task {
        &self.task
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.running.lock().remove(&self.task.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn a_task_is_told_while_it_runs_and_wakes_when_cancelled() {
        let tasks = Arc::new(Tasks::default());
        let first = tasks.begin(Kind::Copy, "p", "v");
        first.progress.expect(200);
        first.progress.percent(50.0);
        first.progress.add(1);
        assert_eq!((first.progress.done(), tasks.list().len()), (101, 1));
        let woken = Arc::new(AtomicU32::new(0));
        let count = |woken: &Arc<AtomicU32>| {
            let woken = woken.clone();
            move || {
                woken.fetch_add(1, Ordering::Relaxed);
            }
        };
        first.on_cancel(count(&woken));
        tasks.find(first.id).unwrap().cancel();
        first.cancel();
        assert!(first.cancel.is_cancelled() && woken.load(Ordering::Relaxed) == 1);
        // Too late to be woken by somebody else.
        first.on_cancel(count(&woken));
        assert_eq!(woken.load(Ordering::Relaxed), 2);
        let id = first.id;
        drop(first);
        assert_eq!(tasks.find(id).err().unwrap().code(), Code::OperationInvalid);
        assert!(tasks.begin(Kind::Wipe, "p", "v").id > id);
    }
}
