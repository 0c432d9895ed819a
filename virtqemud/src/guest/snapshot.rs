//! What everybody may see of a guest at any time, without waiting for anybody.

use std::sync::Arc;
use std::time::SystemTime;

use uuid::Uuid;
use virt_api::domain::v1alpha1 as api;
use virt_model::domain::Domain;
use virt_model::domain::cpu::Cpu;

use super::state::{Shutoff, State};
use super::status::Vcpu;

/// The taint of a guest whose QEMU got commands that this daemon knows nothing of.
pub const CUSTOM_MONITOR: &str = "custom-monitor";

/// The published state of a guest. It never changes; a change publishes another one.
#[derive(Debug, Clone)]
pub struct Published {
    /// The guest's name.
    pub name: Arc<str>,
    /// What it does.
    pub state: State,
    /// Since when.
    pub since: SystemTime,
    /// The persistent configuration; a transient guest has none.
    pub config: Option<Arc<Domain>>,
    /// The document of the running guest.
    pub live: Option<Arc<Domain>>,
    /// The CPU its configuration asked for, where the running guest's document says more.
    pub planned_cpu: Option<Arc<Cpu>>,
    /// Its number while it runs.
    pub id: Option<i32>,
    /// Its process while it runs.
    pub pid: Option<i32>,
    /// Threads of its processors while it runs.
    pub vcpus: Arc<[Vcpu]>,
    /// Started with the host.
    pub autostart: bool,
    /// Started once, with the host's next boot.
    pub autostart_once: bool,
    /// The document was changed since it was defined or started.
    pub updated: bool,
    /// A managed save image exists.
    pub managed_save: bool,
    /// How many snapshots it has.
    pub snapshots: u32,
    /// How many checkpoints it has.
    pub checkpoints: u32,
    /// What was done to it that its supporters should know: "custom-ga-command" ...
    pub taints: Vec<&'static str>,
}

impl Published {
    /// A guest that does not run.
    pub fn inactive(name: &str, config: Option<Arc<Domain>>) -> Self {
        Self {
            name: name.into(),
            state: State::Shutoff(Shutoff::Unknown),
            since: SystemTime::now(),
            config,
            live: None,
            planned_cpu: None,
            id: None,
            pid: None,
            vcpus: Arc::default(),
            autostart: false,
            autostart_once: false,
            updated: false,
            managed_save: false,
            snapshots: 0,
            checkpoints: 0,
            taints: Vec::new(),
        }
    }

    /// Whether it has a process.
    pub fn is_active(&self) -> bool {
        self.state.is_active()
    }

    /// Whether it stays known when it does not run.
    pub fn is_persistent(&self) -> bool {
        self.config.is_some()
    }

    /// The document in force: the live one, else the persistent one.
    pub fn document(&self) -> Option<&Arc<Domain>> {
        self.live.as_ref().or(self.config.as_ref())
    }

    /// The guest's names for answers and events.
    pub fn reference(&self, uuid: &Uuid) -> api::DomainRef {
        api::DomainRef {
            uuid: uuid.as_bytes().to_vec().into(),
            name: self.name.to_string(),
            id: self.id.and_then(|id| u32::try_from(id).ok()),
        }
    }

    /// State and reason for answers.
    pub fn state_message(&self) -> api::DomainState {
        let (state, reason) = self.state.numbers();
        api::DomainState { state: state.into(), reason }
    }
}
