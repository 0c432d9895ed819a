//! What a kill and read-only questions may use while a job runs: process and monitor.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use virt_error::Result;
use virt_host::process::Process;

use super::job::Job;
use super::not_running;
use crate::agent::Patience;
use crate::config::params::Param;
use crate::process::ended::ends_within;
use crate::process::kill::Ended;
use crate::qmp::Client;

/// How long a process may take to end after it has closed its monitor.
const ENDING: Duration = Duration::from_secs(2);

/// The live parts of a guest; empty while it does not run.
#[derive(Default)]
pub struct Shared {
    alive: Mutex<Alive>,
    /// One agent command at a time.
    agent: tokio::sync::Mutex<()>,
    /// How long calls wait for the agent of this run; `None` is the usual time.
    agent_patience: Mutex<Option<Patience>>,
    /// Open consoles by alias: dropping a sender closes the console.
    consoles: Mutex<HashMap<String, oneshot::Sender<()>>>,
    /// Long work on the guest, for those who ask how far it is.
    job: Job,
    /// The newest statistics of each group, for when QEMU does not answer.
    statistics: Mutex<HashMap<u32, Vec<Param>>>,
    /// How often a dirty-rate measurement was asked for, plus one; and this number when QEMU had made none.
    measurements: (AtomicU64, AtomicU64),
}

#[derive(Default, Clone)]
struct Alive {
    process: Option<Arc<Process>>,
    monitor: Option<Client>,
    /// A destroy is under way: the end of the process is its business.
    destroying: bool,
    /// How the destroy ended the process.
    ended: Option<Ended>,
}

impl Shared {
    /// The guest's process.
    pub fn process(&self) -> Option<Arc<Process>> {
        self.alive.lock().process.clone()
    }

    /// The guest's monitor, once it greets.
    pub fn monitor(&self) -> Option<Client> {
        self.alive.lock().monitor.clone()
    }

    /// The monitor, unless it is known not to answer now: its process is stopped, or it owes an answer.
    pub fn answering_monitor(&self) -> Option<Client> {
        let stopped = self.process().is_some_and(|p| p.is_stopped());
        self.monitor().filter(|m| !stopped && !m.is_silent())
    }

    /// A monitor that closed under a request means that the guest has ended: then that is the answer, whatever was asked.
    pub(super) async fn explain<T>(&self, answer: Result<T>) -> Result<T> {
        let Err(error) = answer else { return answer };
        if !crate::qmp::is_closed(&error) {
            return Err(error);
        }
        // The monitor closes a moment before the process is known to have ended.
        match self.process() {
            Some(process) if !ends_within(&process, ENDING).await => Err(error),
            _ => Err(not_running().with_source(crate::qmp::Error::Closed)),
        }
    }

    /// Keeps a group's statistics.
    pub fn remember_statistics(&self, group: u32, rows: &[Param]) {
        self.statistics.lock().insert(group, rows.to_vec());
    }

    /// The statistics of a group when they were last read.
    pub fn last_statistics(&self, group: u32) -> Option<Vec<Param>> {
        self.statistics.lock().get(&group).cloned()
    }

    /// A dirty-rate measurement was asked for.
    pub fn measures(&self) {
        self.measurements.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Names the measurements asked for until now; `None` when QEMU has told that it made none of them.
    pub fn measurements(&self) -> Option<u64> {
        let asked = self.measurements.0.load(Ordering::Relaxed) + 1;
        (self.measurements.1.load(Ordering::Relaxed) != asked).then_some(asked)
    }

    /// QEMU told, asked after these measurements, that it made none.
    pub fn never_measured(&self, asked: u64) {
        self.measurements.1.store(asked, Ordering::Relaxed);
    }

    /// A process was started.
    pub fn set_process(&self, process: Arc<Process>) {
        *self.alive.lock() = Alive { process: Some(process), ..Alive::default() };
    }

    /// Its monitor greets.
    pub fn set_monitor(&self, monitor: Client) {
        self.alive.lock().monitor = Some(monitor);
    }

    /// A destroy has begun, or given up.
    pub fn set_destroying(&self, on: bool) {
        self.alive.lock().destroying = on;
    }

    /// Whether a destroy is under way.
    pub fn is_destroying(&self) -> bool {
        self.alive.lock().destroying
    }

    /// A destroy has ended the process.
    pub fn set_ended(&self, how: Ended) {
        self.alive.lock().ended = Some(how);
    }

    /// How a destroy ended the process, if one did.
    pub fn ended(&self) -> Option<Ended> {
        self.alive.lock().ended
    }

    /// Whose turn it is to talk to the agent.
    pub fn agent_turn(&self) -> &tokio::sync::Mutex<()> {
        &self.agent
    }

    /// Long work on the guest.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// How long calls wait for the agent.
    pub fn agent_patience(&self) -> Patience {
        self.agent_patience.lock().unwrap_or(Patience::Default)
    }

    /// Sets how long later calls of this run wait for the agent.
    pub fn set_agent_patience(&self, patience: Patience) {
        *self.agent_patience.lock() = Some(patience);
    }

    /// Takes the console `alias`; the receiver ends when it is taken away. `None`: somebody has it and `force` is off.
    pub fn open_console(&self, alias: &str, force: bool) -> Option<oneshot::Receiver<()>> {
        let mut consoles = self.consoles.lock();
        let busy = consoles.get(alias).is_some_and(|open| !open.is_closed());
        if busy && !force {
            return None;
        }
        let (open, closed) = oneshot::channel();
        consoles.insert(alias.into(), open);
        Some(closed)
    }

    /// The run has ended.
    pub fn clear(&self) {
        *self.alive.lock() = Alive::default();
        self.consoles.lock().clear();
        self.statistics.lock().clear();
        self.never_measured(0);
        *self.agent_patience.lock() = None;
    }
}
