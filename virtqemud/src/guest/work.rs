//! The state that a guest's jobs change: its publication and its run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use uuid::Uuid;
use virt_api::domain::v1alpha1::LifecycleEvent;
use virt_api::domain::v1alpha1::watch_response::Event;
use virt_error::{Domain as From, Error, Result};
use virt_host::cgroup::Group;
use virt_host::process::Process;
use virt_model::domain::Domain;
use virt_model::domain::cpu::Cpu;
use virt_model::domain::interface::Interface;
use virt_object::registry::{Entry, Snapshot};

use super::shared::Shared;
use super::state::{Paused, State};
use super::status::{self, Record, Status};
use super::{Published, not_running};
use crate::driver::Driver;
use crate::net::Holding;
use crate::process::dac::Given;
use crate::process::identity::{self, Who};
use crate::process::paths::RunPaths;
use crate::process::ports::Port;
use crate::qmp::{Client, Command};

/// One guest, as its jobs see it.
pub struct Work {
    /// What all guests share.
    pub driver: Arc<Driver>,
    /// The guest's UUID.
    pub uuid: Uuid,
    pub(super) entry: Arc<Entry<Published>>,
    pub(super) shared: Arc<Shared>,
    /// The running process with all that belongs to it. Boxed: most defined guests do not run.
    pub run: Option<Box<Run>>,
    /// What an adopted guest holds whose monitor was not reached yet.
    pub(super) unreached: Option<Box<Held>>,
}

/// What is given back when a run ends.
pub struct Held {
    /// The run's files.
    pub paths: RunPaths,
    /// Its control group.
    pub group: Group,
    pub(super) given: Given,
    /// Sockets that its ports listen on.
    pub sockets: Vec<PathBuf>,
    /// Held while the guest runs.
    pub(super) _ports: Vec<Port>,
    /// What its network cards hold.
    pub cards: Vec<Holding>,
}

/// One run of a guest: everything that ends with it.
pub struct Run {
    /// The guest's number.
    pub id: i32,
    /// Its process.
    pub process: Arc<Process>,
    /// Its monitor.
    pub monitor: Client,
    /// The live document; published after each change.
    pub live: Domain,
    /// The CPU that the configuration asked for, where the live document says more.
    pub planned_cpu: Option<Arc<Cpu>>,
    /// Threads of its processors.
    pub vcpus: Vec<status::Vcpu>,
    /// The next ACPI shutdown is a reboot.
    pub fake_reboot: bool,
    /// Where QEMU's words begin in the log.
    pub log_from: u64,
    /// Numbers of images whose threshold was set by number. A restarted daemon tells of them by the disk's name too.
    pub numbered_thresholds: std::collections::BTreeSet<u32>,
    /// What libvirt would need to go on with it.
    pub record: Record,
    /// What it holds on the host.
    pub held: Held,
    /// The daemon does not leave while a guest runs.
    pub(super) _busy: virt_object::busy::Token,
}

impl Work {
    pub(super) fn new(
        driver: Arc<Driver>,
        uuid: Uuid,
        entry: Arc<Entry<Published>>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { driver, uuid, entry, shared, run: None, unreached: None }
    }

    /// Whether the registry no longer knows this guest. Another one may have its UUID by now.
    pub(super) fn is_gone(&self) -> bool {
        let known = self.driver.guests.by_uuid(&self.uuid);
        !known.is_some_and(|guest| Arc::ptr_eq(&guest.entry, &self.entry))
    }

    /// The newest published state.
    pub fn published(&self) -> Arc<Snapshot<Published>> {
        self.entry.load()
    }

    /// Publishes a changed state.
    pub fn publish(&self, change: impl FnOnce(&mut Published)) {
        self.entry.update(|old| {
            let mut new = old.clone();
            change(&mut new);
            new
        });
    }

    /// Appends an event of this guest to the journal.
    pub fn emit(&self, event: Event) {
        self.driver.emit(&self.uuid, &self.published().value, event);
    }

    /// Appends a lifecycle event with its detail.
    pub fn emit_lifecycle(&self, event: i32, detail: i32) {
        self.emit(Event::Lifecycle(LifecycleEvent { event, detail }));
    }

    /// The guest's state.
    pub fn state(&self) -> State {
        self.published().value.state
    }

    /// Goes to another state and publishes it.
    ///
    /// Errors: the change is not legal, which is a fault of ours.
    pub fn become_state(&self, next: State) -> Result<()> {
        let now = self.state();
        if !now.may_become(next) {
            return Err(Error::fault(From::Qemu, format!("no way from state {now:?} to {next:?}")));
        }
        self.publish(|p| {
            p.state = next;
            p.since = SystemTime::now();
        });
        Ok(())
    }

    /// The run. Errors: "domain is not running".
    pub fn run(&mut self) -> Result<&mut Run> {
        self.run.as_deref_mut().ok_or_else(not_running)
    }

    /// The monitor of the run. Errors: "domain is not running".
    pub fn monitor(&self) -> Result<Client> {
        self.run.as_ref().map(|r| r.monitor.clone()).ok_or_else(not_running)
    }

    /// Whom the running guest's process runs as. Errors: "domain is not running".
    pub fn who(&self) -> Result<Who> {
        let run = self.run.as_ref().ok_or_else(not_running)?;
        identity::of(&self.driver, &run.live)
    }

    /// Gives one more file of the host to the running guest.
    pub fn lend(&mut self, path: &std::path::Path, owner: crate::process::dac::Owner) -> Result<()> {
        let driver = self.driver.clone();
        self.run()?.held.given.add(&driver.dac, path, owner)
    }

    /// Takes a file back that the running guest no longer uses.
    pub fn take_back(&mut self, path: &std::path::Path) {
        let driver = self.driver.clone();
        if let Some(run) = &mut self.run {
            run.held.given.one_back(&driver.dac, path);
        }
    }

    /// Publishes the live document as it stands and writes the status file.
    ///
    /// Errors: the status file of a guest that is still being started. Later the change has happened already, and a
    /// file that cannot be written is only logged.
    pub fn publish_live(&self) -> Result<()> {
        let Some(run) = &self.run else { return Ok(()) };
        let (live, vcpus) = (Arc::new(run.live.clone()), run.vcpus.as_slice().into());
        self.publish(|p| {
            p.live = Some(live);
            p.planned_cpu.clone_from(&run.planned_cpu);
            p.vcpus = vcpus;
        });
        if self.state() == State::Paused(Paused::StartingUp) {
            return self.save_status();
        }
        self.note_status();
        Ok(())
    }

    /// Writes the status file after something has happened: that it happened stays true when the file cannot be written.
    pub fn note_status(&self) {
        if let Err(error) = self.save_status() {
            tracing::warn!(?error, uuid = %self.uuid, "cannot write a status file");
        }
    }

    /// Runs a monitor command. Errors: "domain is not running"; what QEMU says.
    pub(super) async fn tell<C: Command>(&self, command: &C) -> Result<C::Answer> {
        let run = self.run.as_ref().ok_or_else(not_running)?;
        Ok(run.monitor.run(command).await?)
    }

    /// Writes the status file of the run.
    pub fn save_status(&self) -> Result<()> {
        match &self.run {
            Some(run) => self.status()?.save(&run.held.paths.status),
            None => Ok(()),
        }
    }

    /// Notes what is about to run: a daemon that dies before it does, or before it does no more, knows what to take back.
    ///
    /// Errors: the file cannot be written.
    pub fn note_planned(&self, planned: &Domain) -> Result<()> {
        let Some(run) = &self.run else { return Ok(()) };
        let mut status = self.status()?;
        status.domain = planned.clone();
        super::names::note(&mut status.domain);
        status.save(&run.held.paths.status)
    }

    /// What the status file of the run holds. Errors: "domain is not running".
    pub fn status(&self) -> Result<Status> {
        let run = self.run.as_ref().ok_or_else(not_running)?;
        let published = self.published();
        let (state, reason) = published.value.state.names();
        Ok(Status {
            state: state.into(),
            reason: Some(reason.into()),
            pid: run.process.pid(),
            taints: published.value.taints.iter().map(|t| status::Taint { flag: (*t).into() }).collect(),
            vcpus: status::Vcpus { vcpus: run.vcpus.clone() },
            planned_cpu: run.planned_cpu.as_deref().cloned(),
            fake_reboot: run.fake_reboot,
            record: self.record(run),
            run: Some(status::OwnRun {
                namespace: Some(status::NAMESPACE.into()),
                start_ticks: run.process.stat().map_or(0, |s| s.start_ticks),
                log_from: run.log_from,
            }),
            ..first_status(&run.held.paths, &run.live, self.driver.settings.remember_owner)
        })
    }

    /// What libvirt would need; images may have come since the run began.
    fn record(&self, run: &Run) -> Record {
        let highest = crate::document::nodes::next_index(&run.live) - 1;
        let nodename = run.record.nodename.max((highest > 0).then_some(highest));
        Record { nodename, ..run.record.clone() }
    }

    /// Notes something that its supporters should know, once a run.
    pub fn taint(&self, what: &'static str) {
        if self.published().value.taints.contains(&what) {
            return;
        }
        self.publish(|p| p.taints.push(what));
        if let Some(run) = &self.run {
            let line = format!("Domain id={} is tainted: {what}", run.id);
            if let Err(error) = crate::process::log::note(&run.held.paths.log, &line) {
                tracing::warn!(%error, "cannot write to a guest's log");
            }
        }
        self.note_status();
    }
}

/// Notes in a running guest's status file what one card is about to hold; `guest` has that card at `at`.
pub fn with_card(
    status: &Status,
    path: &std::path::Path,
    guest: &Domain,
    at: usize,
    card: &Interface,
) -> Result<()> {
    let mut noted = status.clone();
    noted.domain = guest.clone();
    if let Some(place) = noted.domain.devices.interfaces.get_mut(at) {
        *place = card.clone();
    }
    noted.save(path)
}

/// The status of a guest whose process was not started yet.
pub(super) fn first_status(paths: &RunPaths, live: &Domain, remember_owner: bool) -> Status {
    let text = |p: &PathBuf| Some(p.display().to_string());
    let mut domain = live.clone();
    super::names::note(&mut domain);
    Status {
        state: "paused".into(),
        reason: Some("starting up".into()),
        monitor: status::Monitor { path: text(&paths.monitor), kind: Some("unix".into()) },
        devices: status::Devices {
            devices: aliases(live).map(|alias| status::Device { alias: alias.into() }).collect(),
        },
        lib_dir: text(&paths.lib),
        channel_dir: text(&paths.channels),
        memory_dir: text(&paths.memory),
        remember_owner,
        domain,
        ..Status::default()
    }
}

/// The aliases under which QEMU knows devices.
fn aliases(live: &Domain) -> impl Iterator<Item = &str> {
    let others =
        live.devices.memballoon.iter().map(|x| &x.info).chain(live.devices.videos.iter().map(|x| &x.info));
    // A console that is the first serial port has that one's name, and the roots of buses are part of the machine.
    let consoles: Vec<_> = live.devices.consoles.iter().filter_map(|c| c.info.alias.as_deref()).collect();
    let serials: Vec<_> = live.devices.serials.iter().filter_map(|c| c.info.alias.as_deref()).collect();
    crate::config::devices::infos(&live.devices)
        .chain(others)
        .filter_map(|i| i.alias.as_deref())
        .filter(move |a| !["pci.0", "pcie.0"].contains(a) && (serials.contains(a) || !consoles.contains(a)))
}
