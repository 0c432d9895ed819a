//! Starting a guest: from a definition to running processors.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use virt_api::domain::v1alpha1::watch_response::Event;
use virt_api::domain::v1alpha1::{AgentLifecycleEvent, DiskChangeEvent};
use virt_consts::*;
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::chardev::{ChannelTarget, CharBackend, PortState};
use virt_model::domain::cpu::Cpu;
use virt_model::domain::interface::LinkState;
use virt_object::undo::Undo;

use super::state::{Paused, Running, Shutoff, State};
use super::work::{Held, Run, Work, first_status};
use super::{status, watch};
use crate::cpu::actual;
use crate::process::ended::{blocking, ended};
use crate::process::images::Dropped;
use crate::process::log;
use crate::process::stage::{Staged, stage};
use crate::qmp::commands::{
    Chardev, Cont, MigrateSetCapabilities, MigrationCapability, QueryChardev, QueryCpusFast,
};
use crate::qmp::{Client, Events};

/// How long QEMU may take to set up its machine (it may have to fill the guest's memory first).
const GREETING: Duration = Duration::from_secs(120);

/// How QEMU begins to say why it does not take a saved state.
const NOT_LOADED: &str = "load of migration failed";

/// How a guest is started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Start {
    /// Its processors stand still.
    pub paused: bool,
    /// The variables of its firmware are made anew from their template.
    pub reset_nvram: bool,
    /// What is read of a saved state does not stay in the host's cache.
    pub bypass_cache: bool,
}

/// A saved state that a guest begins with.
pub struct Saved {
    /// From where QEMU reads it.
    pub data: OwnedFd,
    /// The file itself.
    pub file: File,
    /// The processor the guest had.
    pub cpu: Option<Cpu>,
}

impl Saved {
    /// The same state for another try: nothing of it was read yet.
    ///
    /// Errors: the host is out of descriptors.
    pub fn again(&self) -> Result<Self> {
        let failed = |e| Error::system(From::Qemu, "cannot duplicate a descriptor", e);
        let (data, file) = (self.data.try_clone().map_err(failed)?, self.file.try_clone().map_err(failed)?);
        Ok(Self { data, file, cpu: self.cpu.clone() })
    }
}

impl Work {
    /// Starts the guest from `config`; on failure nothing is left of the attempt.
    ///
    /// Errors: it runs already; whatever a step of the start says.
    pub async fn start(&mut self, config: Arc<Domain>, how: Start) -> Result<()> {
        self.start_from(config, how, None).await
    }

    /// The same from a saved state, if there is one.
    ///
    /// Errors: as [`Self::start`], and QEMU's own when it does not take the state.
    pub async fn start_from(&mut self, config: Arc<Domain>, how: Start, saved: Option<Saved>) -> Result<()> {
        if self.state().is_active() {
            return Err(Error::new(Code::OperationInvalid, From::Qemu, "domain is already running"));
        }
        let config = self.driver.volumes.resolve(config, saved.is_some()).await?;
        let mut undo = Undo::new(format!("start of {}", self.published().value.name));
        let begun = Box::pin(self.try_start(config, how, saved, &mut undo)).await;
        if begun.is_err() {
            self.forget_run();
        }
        undo.guard(begun).await
    }

    async fn try_start(
        &mut self,
        mut config: Arc<Domain>,
        how: Start,
        mut saved: Option<Saved>,
        undo: &mut Undo,
    ) -> Result<()> {
        let id = self.driver.ids.next()?;
        let planned = config.cpu.clone();
        if let Some(cpu) = saved.as_mut().and_then(|s| s.cpu.take()) {
            Arc::make_mut(&mut config).cpu = Some(cpu);
        }
        let restored = saved.is_some();
        let mut staged = self.stage(config, id, how, restored, undo).await?;
        self.shared.set_process(staged.process.clone());
        let pid = staged.process.pid();
        let starting = Arc::new(staged.live.clone());
        self.publish(|p| {
            p.id = Some(id);
            p.pid = Some(pid);
            p.live = Some(starting);
            p.taints.clear();
            p.updated = false;
        });
        self.become_state(State::Paused(Paused::StartingUp))?;
        self.driver.guests.set_id(&self.uuid, Some(id));
        let dropped = std::mem::take(&mut staged.dropped);
        let (monitor, events) = self.greet(&staged).await?;
        monitor.watch_process(staged.process.clone());
        self.shared.set_monitor(monitor.clone());
        watch::spawn(self.driver.clone(), self.uuid, id, staged.process.clone(), events);
        Box::pin(self.learn(staged, planned, monitor.clone())).await?;
        crate::live::begin::begin(self).await?;
        if let Some(saved) = saved {
            let read = super::transfer::read_machine(&monitor, saved.data).await;
            read.map_err(|e| self.unread(e))?;
            if how.bypass_cache {
                let file = saved.file;
                // What stays in the cache is no fault of the guest's.
                if let Err(error) = blocking(move || super::transfer::let_go(&file)).await? {
                    tracing::warn!(%error, "a saved guest's file stays in the host's cache");
                }
            }
        }
        if !how.paused {
            monitor.run(&Cont {}).await?;
        }
        for Dropped { image, alias, reason } in dropped {
            let event = DiskChangeEvent { old_source: Some(image), new_source: None, alias, reason };
            self.emit(Event::DiskChange(event));
        }
        self.announce(how, restored)
    }

    /// An emulator that ends over a saved state has told its log why, not us.
    fn unread(&self, error: Error) -> Error {
        let said = self.run.as_ref().and_then(|r| log::tail(&r.held.paths.log, r.log_from).ok());
        let reason = said.as_deref().and_then(|said| {
            let line = said.lines().rfind(|l| l.contains(NOT_LOADED))?;
            line.find(NOT_LOADED).map(|at| line[at..].to_string())
        });
        match reason {
            Some(reason) if crate::qmp::is_closed(&error) => {
                let text = format!("job 'start' failed: {reason}");
                Error::new(Code::OperationFailed, From::Qemu, text).with_source(error)
            }
            _ => error,
        }
    }

    /// Everything up to the running process.
    async fn stage(
        &self,
        config: Arc<Domain>,
        id: i32,
        how: Start,
        restored: bool,
        undo: &mut Undo,
    ) -> Result<Staged> {
        let driver = self.driver.clone();
        let remember = driver.settings.remember_owner;
        // The stack travels with the work; if that panics, its steps run where it is dropped.
        let mut steps = std::mem::replace(undo, Undo::new("start"));
        let (steps, staged) = blocking(move || {
            let first = |paths: &_, live: &_| first_status(paths, live, remember);
            let staged = stage(&driver, &config, id, restored, &mut steps, how.reset_nvram, first);
            (steps, staged)
        })
        .await?;
        *undo = steps;
        staged
    }

    /// Waits for the monitor's greeting, or tells QEMU's last words if it ends instead.
    async fn greet(&self, staged: &Staged) -> Result<(Client, Events)> {
        let stream = UnixStream::connect(&staged.paths.monitor)
            .await
            .map_err(|e| Error::system(From::Qemu, "failed to connect to monitor socket", e))?;
        let refused = tokio::select! {
            biased;
            greeted = Client::over(stream, GREETING) => match greeted {
                Ok(pair) => return Ok(pair),
                Err(e) if e.is_fatal() => e,
                Err(e) => return Err(e.into()),
            },
            _ = ended(&staged.process) => crate::qmp::Error::Closed,
        };
        Err(last_words(staged, &self.published().value.name, refused))
    }

    /// Asks QEMU what only it knows and makes the run.
    async fn learn(&mut self, staged: Staged, planned: Option<Cpu>, monitor: Client) -> Result<()> {
        let (cpus, chardevs) = (QueryCpusFast {}, QueryChardev {});
        // libvirt switches these on at the start and relies on them in a guest that it takes over.
        let events = MigrationCapability { capability: "events".into(), state: true };
        let events = MigrateSetCapabilities { capabilities: vec![events] };
        let (cpus, chardevs, _) =
            tokio::try_join!(monitor.run(&cpus), monitor.run(&chardevs), monitor.run(&events))?;
        let Staged {
            mut live,
            paths,
            process,
            group,
            given,
            ports,
            sockets,
            cards,
            log_from,
            record,
            dropped: _,
        } = staged;
        let id = live.id.unwrap_or(-1);
        fill_ports(&mut live, &chardevs);
        if let Some(first) = cpus.first() {
            learn_cpu(&mut live, &monitor, &first.qom_path).await?;
        }
        let planned_cpu = planned.filter(|p| live.cpu.as_ref() != Some(p)).map(Arc::new);
        pull_cables(&live, &monitor).await?;
        if cards.iter().any(|c| c.port().is_some()) {
            crate::net::replug::follow(&self.driver);
        }
        let vcpus = cpus.iter().map(|c| status::Vcpu { id: c.cpu_index, pid: c.thread_id }).collect();
        let run = Run {
            id,
            process,
            monitor,
            live,
            planned_cpu,
            vcpus,
            fake_reboot: false,
            log_from,
            numbered_thresholds: Default::default(),
            record,
            held: Held { paths, group, given, sockets, _ports: ports, cards },
            _busy: self.driver.busy.token(),
        };
        self.run = Some(Box::new(run));
        self.publish_live()
    }

    /// Publishes the started guest and appends the events in the reference's order.
    fn announce(&mut self, how: Start, restored: bool) -> Result<()> {
        let next = match (how.paused, restored) {
            (true, false) => State::Paused(Paused::User),
            // The reference's reason.
            (true, true) => State::Paused(Paused::Migration),
            (false, false) => State::Running(Running::Booted),
            (false, true) => State::Running(Running::Restored),
        };
        self.become_state(next)?;
        self.note_status();
        if self.run.as_ref().is_some_and(|r| has_agent(&r.live)) {
            self.emit(Event::AgentLifecycle(AgentLifecycleEvent {
                state: VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_DISCONNECTED,
                reason: VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_REASON_DOMAIN_STARTED,
            }));
        }
        if restored {
            self.emit_lifecycle(VIR_DOMAIN_EVENT_STARTED, VIR_DOMAIN_EVENT_STARTED_RESTORED);
            match how.paused {
                true => self.emit_lifecycle(VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_RESTORED),
                false => {
                    self.emit_lifecycle(VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_FROM_SNAPSHOT)
                }
            }
            return Ok(());
        }
        if !how.paused {
            self.emit_lifecycle(VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_UNPAUSED);
        }
        self.emit_lifecycle(VIR_DOMAIN_EVENT_STARTED, VIR_DOMAIN_EVENT_STARTED_BOOTED);
        if how.paused {
            self.emit_lifecycle(VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_PAUSED);
        }
        Ok(())
    }

    /// Nothing runs any more, and nothing did long enough to be told.
    fn forget_run(&mut self) {
        self.run = None;
        self.unreached = None;
        self.shared.clear();
        self.driver.guests.set_id(&self.uuid, None);
        self.publish(|p| {
            p.id = None;
            p.pid = None;
            p.vcpus = Arc::default();
            p.live = None;
        });
        if self.state().is_active()
            && let Err(error) = self.become_state(State::Shutoff(Shutoff::Failed))
        {
            tracing::error!(?error, "a failed start");
        }
    }
}

/// Writes into the document what the first processor has: all are alike.
async fn learn_cpu(live: &mut Domain, monitor: &Client, path: &str) -> Result<()> {
    let x86 = matches!(live.os.kind.arch.as_deref(), Some("x86_64" | "i686"));
    let Some(cpu) = live.cpu.as_mut().filter(|c| x86 && actual::is_named(c)) else { return Ok(()) };
    actual::update(cpu, &actual::ask(monitor, path).await?)
}

/// Cards begin with their cable in; those whose document wants it out lose it before the guest runs.
async fn pull_cables(live: &Domain, monitor: &Client) -> Result<()> {
    let down = live.devices.interfaces.iter().filter(|c| c.link == Some(LinkState::Down));
    for alias in down.filter_map(|c| c.info.alias.as_ref()) {
        monitor.run_untyped("set_link", &serde_json::json!({"name": alias, "up": false})).await?;
    }
    Ok(())
}

/// The reference's words for a QEMU that ended before it answered.
fn last_words(staged: &Staged, name: &str, why: crate::qmp::Error) -> Error {
    let said = log::tail(&staged.paths.log, staged.log_from).unwrap_or_default();
    let text = match said.as_str() {
        "" => format!("QEMU unexpectedly closed the monitor (vm='{name}')"),
        said => format!("QEMU unexpectedly closed the monitor (vm='{name}'): {said}"),
    };
    Error::internal(From::Qemu, text).with_source(why)
}

/// Whether the guest has a channel for the guest agent.
pub fn has_agent(live: &Domain) -> bool {
    agent_channel(live).is_some()
}

/// The guest agent's channel.
pub fn agent_channel(live: &Domain) -> Option<&virt_model::domain::chardev::Channel> {
    live.devices.channels.iter().find(|c| match &c.target {
        Some(ChannelTarget::Virtio(target)) => {
            target.name.as_deref() == Some("org.qemu.guest_agent.0")
                && matches!(c.backend, CharBackend::Unix(_))
        }
        _ => false,
    })
}

/// Writes the paths that QEMU gave to pseudo terminals, and who listens on channels, into the live document.
pub(crate) fn fill_ports(live: &mut Domain, chardevs: &[Chardev]) {
    let by_label: HashMap<&str, &Chardev> = chardevs.iter().map(|c| (c.label.as_str(), c)).collect();
    let found = |alias: &Option<String>| by_label.get(format!("char{}", alias.as_deref()?).as_str()).copied();
    let pty = |backend: &mut CharBackend, alias: &Option<String>| {
        if let (CharBackend::Pty(pty), Some(chardev)) = (backend, found(alias)) {
            // A path of QEMU's goes into documents and gets opened: only a terminal is taken.
            let path = chardev.filename.strip_prefix("pty:").filter(|p| p.starts_with("/dev/pts/"));
            pty.path = path.map(Into::into);
        }
    };
    let devices = &mut live.devices;
    devices.serials.iter_mut().for_each(|d| pty(&mut d.backend, &d.info.alias));
    devices.parallels.iter_mut().for_each(|d| pty(&mut d.backend, &d.info.alias));
    for channel in &mut devices.channels {
        pty(&mut channel.backend, &channel.info.alias);
        if let (Some(ChannelTarget::Virtio(target)), Some(chardev)) =
            (&mut channel.target, found(&channel.info.alias))
        {
            let open = chardev.frontend_open;
            target.state = Some(if open { PortState::Connected } else { PortState::Disconnected });
        }
    }
    let first_serial = devices.serials.first().map(|s| s.backend.clone());
    for (at, console) in devices.consoles.iter_mut().enumerate() {
        // The first console of a machine with a serial port is that port.
        let is_serial = console.info.alias.as_deref().is_some_and(|a| a.starts_with("serial"));
        match (&first_serial, at == 0 && is_serial) {
            (Some(serial), true) => console.backend = serial.clone(),
            _ => pty(&mut console.backend, &console.info.alias),
        }
        if let CharBackend::Pty(pty) = &console.backend {
            console.tty = pty.path.clone();
        }
    }
}
