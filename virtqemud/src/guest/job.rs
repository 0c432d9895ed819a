//! What clients see of long work on a guest: how far it is, and a way to stop it.

use std::time::Instant;

use parking_lot::Mutex;
use serde_json::Value as Json;
use virt_consts::*;

use crate::config::params::{Param, Value};

/// How far a job is.
#[derive(Debug, Clone)]
pub struct Progress {
    /// virDomainJobOperation.
    pub operation: i32,
    /// A client may stop it.
    pub can_stop: bool,
    begun: Instant,
    /// Milliseconds it took, once it has ended.
    took: Option<u64>,
    /// Bytes in all and done, of the guest's memory.
    memory: (u64, u64),
    /// What QEMU's migration code tells beside that.
    more: Vec<(&'static str, u64)>,
}

impl Progress {
    /// Work that begins now.
    pub fn new(operation: i32, can_stop: bool) -> Self {
        let (begun, took, memory, more) = (Instant::now(), None, (0, 0), Vec::new());
        Self { operation, can_stop, begun, took, memory, more }
    }

    /// Bytes of memory in all, and done.
    pub fn set_memory(&mut self, total: u64, done: u64) {
        self.memory = (total, done);
    }

    /// Takes over an answer of `query-migrate`.
    pub fn set_migration(&mut self, answer: &Json) {
        let ram = &answer["ram"];
        let number = |from: &Json, key: &str| from[key].as_u64();
        self.memory = (number(ram, "total").unwrap_or(0), number(ram, "transferred").unwrap_or(0));
        // Megabits of ten to the sixth.
        let speed = ram["mbps"].as_f64().map(|m| (m * 1_000_000.0 / 8.0) as u64);
        let rows = [
            (VIR_DOMAIN_JOB_DOWNTIME, number(answer, "downtime")),
            (VIR_DOMAIN_JOB_SETUP_TIME, number(answer, "setup-time")),
            (VIR_DOMAIN_JOB_MEMORY_REMAINING, number(ram, "remaining")),
            (VIR_DOMAIN_JOB_MEMORY_BPS, speed),
            (VIR_DOMAIN_JOB_MEMORY_CONSTANT, number(ram, "duplicate")),
            (VIR_DOMAIN_JOB_MEMORY_NORMAL, number(ram, "normal")),
            (VIR_DOMAIN_JOB_MEMORY_NORMAL_BYTES, number(ram, "normal-bytes")),
            (VIR_DOMAIN_JOB_MEMORY_DIRTY_RATE, number(ram, "dirty-pages-rate")),
            (VIR_DOMAIN_JOB_MEMORY_ITERATION, number(ram, "dirty-sync-count")),
            (VIR_DOMAIN_JOB_MEMORY_POSTCOPY_REQS, number(ram, "postcopy-requests")),
            (VIR_DOMAIN_JOB_MEMORY_PAGE_SIZE, number(ram, "page-size")),
        ];
        self.more = rows.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    }

    /// libvirt's parameters.
    pub fn params(&self) -> Vec<Param> {
        let number = |name: &str, value| Param { name: name.into(), value: Value::Ullong(value) };
        let (total, done) = self.memory;
        let remaining = self.more.iter().find(|m| m.0 == VIR_DOMAIN_JOB_MEMORY_REMAINING).map(|m| m.1);
        let remaining = remaining.unwrap_or(total.saturating_sub(done));
        let elapsed =
            self.took.unwrap_or_else(|| u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        let mut rows = vec![
            Param { name: VIR_DOMAIN_JOB_OPERATION.into(), value: Value::Int(self.operation) },
            number(VIR_DOMAIN_JOB_TIME_ELAPSED, elapsed),
            number(VIR_DOMAIN_JOB_DATA_TOTAL, total),
            number(VIR_DOMAIN_JOB_DATA_PROCESSED, done),
            number(VIR_DOMAIN_JOB_DATA_REMAINING, remaining),
            number(VIR_DOMAIN_JOB_MEMORY_TOTAL, total),
            number(VIR_DOMAIN_JOB_MEMORY_PROCESSED, done),
            number(VIR_DOMAIN_JOB_MEMORY_REMAINING, remaining),
        ];
        let others = self.more.iter().filter(|m| m.0 != VIR_DOMAIN_JOB_MEMORY_REMAINING);
        rows.extend(others.map(|(name, value)| number(name, *value)));
        rows
    }
}

/// The job of a guest: the one that runs, and the one that ended last.
#[derive(Default)]
pub struct Job(Mutex<State>);

#[derive(Default)]
struct State {
    running: Option<Progress>,
    completed: Option<Progress>,
    stop: bool,
}

impl Job {
    /// A job begins. It is over when the guard is dropped.
    pub fn begin(&self, progress: Progress) -> Running<'_> {
        let mut state = self.0.lock();
        state.running = Some(progress);
        state.stop = false;
        Running(self)
    }

    /// The job that runs.
    pub fn running(&self) -> Option<Progress> {
        self.0.lock().running.clone()
    }

    /// The job that ended well last; `forget` drops it.
    pub fn completed(&self, forget: bool) -> Option<Progress> {
        let mut state = self.0.lock();
        if forget { state.completed.take() } else { state.completed.clone() }
    }

    /// Asks the job that runs to stop.
    pub fn stop(&self) {
        self.0.lock().stop = true;
    }
}

/// A job that runs.
pub struct Running<'a>(&'a Job);

impl Running<'_> {
    /// Tells how far it is.
    pub fn tell(&self, change: impl FnOnce(&mut Progress)) {
        if let Some(progress) = &mut self.0.0.lock().running {
            change(progress);
        }
    }

    /// Whether a client asked it to stop.
    pub fn is_stopped(&self) -> bool {
        self.0.0.lock().stop
    }

    /// It has ended well. Returns what is told of it.
    pub fn complete(self) -> Vec<Param> {
        let mut state = self.0.0.lock();
        let Some(mut progress) = state.running.take() else { return Vec::new() };
        progress.took = u64::try_from(progress.begun.elapsed().as_millis()).ok();
        let params = progress.params();
        state.completed = Some(progress);
        params
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.0.lock().running = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_job_is_told_while_it_runs_and_once_after() {
        let job = Job::default();
        let running = job.begin(Progress::new(VIR_DOMAIN_JOB_OPERATION_DUMP, true));
        running.tell(|p| p.set_migration(&json!({"ram": {"total": 10, "transferred": 4, "remaining": 5}})));
        let value =
            |rows: &[Param], name: &str| rows.iter().find(|p| p.name == name).map(|p| p.value.clone());
        let rows = job.running().unwrap().params();
        assert_eq!(value(&rows, "memory_remaining"), Some(Value::Ullong(5)));
        assert_eq!(value(&rows, "operation"), Some(Value::Int(8)));
        assert!(!running.is_stopped());
        job.stop();
        assert!(running.is_stopped());
        running.complete();
        assert!(job.running().is_none() && job.completed(false).is_some());
        assert!(job.completed(true).is_some() && job.completed(false).is_none());
        drop(job.begin(Progress::new(VIR_DOMAIN_JOB_OPERATION_DUMP, true)));
        assert!(job.running().is_none() && job.completed(false).is_none(), "a failed job leaves nothing");
    }
}
