//! Guests that outlived the daemon are found again by their status files.
//!
//! Reading the files is quick and makes every guest visible as it was; reaching its monitor is a job of its owner, all
//! guests at once, so that a hung one holds nobody up:
//!
//! ```text
//!   status file --> process lives? --yes--> published as it was --> job: monitor, state, threads --> as after a start
//!                        |                                             | no answer: tried again while it lives
//!                        no, or the start had not got far: what is left is removed, the end is told
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::Uuid;
use virt_consts::*;
use virt_error::{Code, Domain as From, Error, Result};
use virt_host::process::Process;
use virt_object::blocking;
use virt_object::owner::{Class, Spec};
use virt_object::store::load_whole;

use super::plan::files;
use super::start::fill_ports;
use super::state::{Crashed, Kind, Running, Shutdown, Shutoff, State};
use super::status::{self, Status};
use super::work::{Held, Run, Work};
use super::{CUSTOM_MONITOR, Guest, Published, managed, watch};
use crate::display::place;
use crate::driver::Driver;
use crate::net::{Holding, replug};
use crate::process::dac::Given;
use crate::process::ended::ends_within;
use crate::process::paths::RunPaths;
use crate::process::{groups, identity, kill, sockets, starting};
use crate::qmp::Client;
use crate::qmp::commands::{QueryChardev, QueryCpusFast, QueryStatus};

const ADOPT: Spec = Spec::new("reconnect", Class::Lifecycle);
/// How long one try to reach a monitor takes at most.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the first call waits for what ended guests left.
const CLEANING: Duration = Duration::from_secs(10);

/// A status file with what lives of it.
struct Found {
    status: Box<Status>,
    uuid: Uuid,
    name: String,
    id: i32,
    process: Option<Process>,
    held: Held,
}

/// Finds all guests again and returns how many run. Monitors are reached in the background.
///
/// Errors: the folder cannot be read. A file that cannot be used is logged and left alone.
pub async fn all(driver: &Arc<Driver>) -> Result<usize> {
    let reader = driver.clone();
    let found = blocking::run(move || read_all(&reader)).await?;
    let (mut running, mut ending) = (0, Vec::new());
    for one in found {
        match adopt(driver, one).await {
            Ok((true, _)) => running += 1,
            Ok((false, settled)) => ending.push(settled),
            Err(error) => tracing::error!(?error, "a running guest cannot be adopted"),
        }
    }
    // What ended is not shown to anybody, unless the kernel does not let it go.
    if timeout(CLEANING, futures_util::future::join_all(ending)).await.is_err() {
        tracing::warn!("guests that ended are still being cleaned up");
    }
    Ok(running)
}

fn read_all(driver: &Arc<Driver>) -> Result<Vec<Found>> {
    let mut found = load_whole(&driver.folders.state, From::Qemu, |path| read(driver, path))?;
    found.sort_by_key(|f| f.id);
    only_what_is_held(driver, &mut found);
    Ok(found)
}

/// A guest that ended, or never ran, may hold less than its document names: its start had not got so far, or its end had
/// given some back. What its user count does not tell apart from the files of other guests is theirs.
fn only_what_is_held(driver: &Driver, found: &mut [Found]) {
    let all: Vec<Vec<PathBuf>> = found.iter().map(|f| files(&f.status.domain)).collect();
    for (at, one) in found.iter_mut().enumerate().filter(|(_, f)| f.process.is_none() || is_half(&f.status)) {
        let others = |path: &Path| {
            let naming =
                all.iter().enumerate().filter(|(n, files)| *n != at && files.iter().any(|f| f == path));
            u32::try_from(naming.count()).unwrap_or(u32::MAX)
        };
        one.held.given.retain(|path| others(path) == 0 || driver.dac.users(path) > others(path));
    }
}

/// A start that had not got to its end.
fn is_half(status: &Status) -> bool {
    status.pid == 0 || status.state == "paused" && status.reason.as_deref() == Some("starting up")
}

fn read(driver: &Arc<Driver>, path: &Path) -> Result<Found> {
    let text = fs::read_to_string(path)
        .map_err(|e| Error::system(From::Qemu, format!("cannot read '{}'", path.display()), e))?;
    let status = Box::new(Status::parse(&text)?);
    let name = status.domain.name.clone().unwrap_or_default();
    virt_object::names::DOMAIN.check(&name)?;
    let missing = |what: &str| Error::internal(From::Qemu, format!("a status file without {what}"));
    let uuid = status.domain.uuid.ok_or_else(|| missing("UUID"))?;
    let id = status.domain.id.filter(|id| *id > 0).ok_or_else(|| missing("id"))?;
    let mut paths = driver.folders.run(id, &name)?;
    paths.status = path.to_path_buf();
    override_paths(&mut paths, &status);
    if status.pid == 0 && !starting::is_over(&paths.lib) {
        tracing::warn!(name, "a start that a dead daemon began does not come to its end");
    }
    let process = process(&status, &paths);
    let group = groups::of(driver, &status.domain);
    let given = match identity::of(driver, &status.domain)?.lends_to() {
        Some(_) => Given::known(files(&status.domain)),
        None => Given::default(),
    };
    let interfaces = &status.domain.devices.interfaces;
    interfaces.iter().filter_map(|c| c.target.as_deref()).for_each(|name| driver.names.note(name));
    let cards = Holding::all(interfaces);
    let ports = if process.is_some() { place::mark(driver, &status.domain) } else { Vec::new() };
    let sockets = sockets::paths(&status.domain);
    let held = Held { paths, group, given, sockets, _ports: ports, cards };
    Ok(Found { status, uuid, name, id, process, held })
}

/// Another daemon's file may name other folders; only such below our own are believed.
fn override_paths(paths: &mut RunPaths, status: &Status) {
    let below = |given: &Option<String>, ours: &Path| -> Option<PathBuf> {
        let given = PathBuf::from(given.as_ref()?);
        (given.parent() == ours.parent() && given.components().count() == ours.components().count())
            .then_some(given)
    };
    if let Some(lib) = below(&status.lib_dir, &paths.lib) {
        paths.monitor = lib.join("monitor.sock");
        paths.master_key = lib.join("master-key.aes");
        paths.lib = lib;
    }
    if let Some(channels) = below(&status.channel_dir, &paths.channels) {
        paths.channels = channels;
    }
    if let Some(memory) = below(&status.memory_dir, &paths.memory) {
        paths.memory = memory;
    }
}

/// The guest's process, if it lives: the number must be that of a process which began when the file says, or which has
/// our monitor open (a start that did not get further, or a file of libvirt's).
fn process(status: &Status, paths: &RunPaths) -> Option<Process> {
    let pid = match status.pid {
        0 => fs::read_to_string(&paths.pid_file).ok()?.trim().parse().ok()?,
        pid => pid,
    };
    let process = Process::open(pid).ok()?;
    let begun = process.stat().ok()?.start_ticks;
    let ours = match status.run.as_ref().map(|r| r.start_ticks) {
        Some(ticks) if ticks != 0 => ticks == begun,
        _ => names(pid, &paths.lib),
    };
    (ours && process.is_alive()).then_some(process)
}

/// Whether the process's command line names the guest's private folder.
fn names(pid: i32, folder: &Path) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains(&*folder.to_string_lossy())
}

/// True: it runs. The task ends when the guest's monitor is reached, or what is left of it is gone.
async fn adopt(driver: &Arc<Driver>, found: Found) -> Result<(bool, JoinHandle<()>)> {
    let Found { status, uuid, name, id, process, held } = found;
    driver.ids.raise_above(id)?;
    let guest = match driver.guests.by_uuid(&uuid) {
        Some(guest) => guest,
        None => {
            let guest = Guest::new(driver, uuid, Published::inactive(&name, None));
            driver.guests.insert(&name, uuid, guest)?
        }
    };
    let state = status.state()?;
    let half = is_half(&status);
    let live = Arc::new(status.domain.clone());
    let pid = process.as_ref().map(Process::pid);
    let lives = process.is_some();
    if lives {
        // The guest itself is further than the file, which its daemon could not remove, or had just written.
        let path = managed::path(&driver.folders, &name);
        if path.exists() {
            tracing::warn!(path = %path.display(), "the saved state of a guest that runs is removed");
            if let Err(error) = managed::spend_found(&path) {
                tracing::error!(?error, path = %path.display(), "cannot remove a saved state");
            }
        }
    }
    guest.entry.update(|old| Published {
        state,
        managed_save: old.managed_save && !lives,
        since: SystemTime::now(),
        live: Some(live),
        planned_cpu: status.planned_cpu.clone().map(Arc::new),
        id: Some(id),
        pid,
        vcpus: status.vcpus.vcpus.as_slice().into(),
        taints: status.taints.iter().filter_map(|t| known_taint(&t.flag)).collect(),
        ..old.clone()
    });
    driver.guests.set_id(&uuid, Some(id));
    if let Some(process) = process {
        guest.shared().set_process(Arc::new(process));
    }
    let runtime = driver.kind.runtime.clone();
    let owner = guest.clone();
    let mut settled = Box::pin(async move {
        let job = owner.work(ADOPT, move |work| {
            Box::pin(async move {
                work.unreached = Some(Box::new(held));
                if lives && !half { work.reach(status).await } else { work.clean_up(half).await }
            })
        });
        job.await
    });
    // The first poll puts the job into the mailbox: before any client can ask for something that needs the monitor.
    let first = futures_util::poll!(&mut settled);
    let task = runtime.spawn(async move {
        let settled = match first {
            Poll::Ready(settled) => settled,
            Poll::Pending => settled.await,
        };
        match settled {
            Ok(Reached::Yes) => {}
            Ok(Reached::No(status)) => Box::pin(keep_trying(&guest, id, status)).await,
            Err(error) => tracing::error!(?error, name, "adopting a guest"),
        }
    });
    Ok((lives && !half, task))
}

fn known_taint(flag: &str) -> Option<&'static str> {
    ["custom-ga-command", CUSTOM_MONITOR].into_iter().find(|t| *t == flag)
}

/// Whether the monitor answered.
enum Reached {
    Yes,
    No(Box<Status>),
}

/// A guest whose monitor does not answer stays visible and can be destroyed; it is tried again while it lives.
async fn keep_trying(guest: &Arc<Guest>, id: i32, mut status: Box<Status>) {
    while let Some(process) = guest.shared().process() {
        if ends_within(&process, PATIENCE).await {
            let ended = guest.work(ADOPT, |work| Box::pin(work.clean_up(false)));
            // A transient one that a client destroyed meanwhile is not known any more.
            if let Err(error) = ended.await
                && error.code() != Code::NoDomain
            {
                tracing::error!(?error, "a guest that ended before it was reached");
            }
            return;
        }
        if guest.published().value.id != Some(id) {
            return;
        }
        match guest.work(ADOPT, move |work| Box::pin(work.reach(status))).await {
            Ok(Reached::No(again)) => status = again,
            Ok(Reached::Yes) => return,
            Err(error) => {
                tracing::error!(?error, "adopting a guest");
                return;
            }
        }
    }
}

impl Work {
    /// Connects the monitor and settles what happened while nobody watched.
    async fn reach(&mut self, status: Box<Status>) -> Result<Reached> {
        let (Some(process), Some(held)) = (self.shared.process(), self.unreached.as_ref()) else {
            return Ok(Reached::Yes);
        };
        let monitor = held.paths.monitor.clone();
        let answers = async {
            let (client, events) = Client::connect(&monitor, PATIENCE).await?;
            let (cpus, chardevs, state) = (QueryCpusFast {}, QueryChardev {}, QueryStatus {});
            let told = tokio::try_join!(client.run(&cpus), client.run(&chardevs), client.run(&state))?;
            Ok::<_, crate::qmp::Error>((client, events, told))
        };
        let (client, events, (cpus, chardevs, now)) = match answers.await {
            Ok(answers) => answers,
            Err(error) => {
                tracing::warn!(%error, uuid = %self.uuid, "a running guest's monitor does not answer");
                return Ok(Reached::No(status));
            }
        };
        let Some(held) = self.unreached.take() else { return Ok(Reached::Yes) };
        let Status { domain: mut live, planned_cpu, fake_reboot, run: own, record, .. } = *status;
        fill_ports(&mut live, &chardevs);
        let id = live.id.unwrap_or(-1);
        client.watch_process(process.clone());
        self.shared.set_monitor(client.clone());
        self.run = Some(Box::new(Run {
            id,
            process: process.clone(),
            monitor: client,
            live,
            planned_cpu: planned_cpu.map(Arc::new),
            vcpus: cpus.iter().map(|c| status::Vcpu { id: c.cpu_index, pid: c.thread_id }).collect(),
            fake_reboot,
            log_from: own.map_or(0, |r| r.log_from),
            numbered_thresholds: Default::default(),
            record,
            held: *held,
            _busy: self.driver.busy.token(),
        }));
        self.publish_live()?;
        if self.run.as_ref().is_some_and(|r| r.held.cards.iter().any(|c| c.port().is_some())) {
            replug::follow(&self.driver);
        }
        watch::spawn(self.driver.clone(), self.uuid, id, process, events);
        if let Err(error) = Box::pin(crate::live::plug::settle(self)).await {
            tracing::warn!(%error, uuid = %self.uuid, "the devices of a running guest are not known");
        }
        self.catch_up(now.running, &now.status).await?;
        Ok(Reached::Yes)
    }

    /// Makes the published state what QEMU says, and tells what was missed.
    async fn catch_up(&mut self, running: bool, status: &str) -> Result<()> {
        match (running, status, self.state().kind()) {
            (true, _, Kind::Paused | Kind::PmSuspended | Kind::Crashed) => {
                self.become_state(State::Running(Running::Unpaused))?;
                self.emit_lifecycle(VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_UNPAUSED);
            }
            (false, "shutdown", _) => {
                if self.run.as_ref().is_some_and(|r| r.fake_reboot) {
                    return self.fake_reboot().await;
                }
                if self.state().kind() != Kind::Shutdown {
                    self.become_state(State::Shutdown(Shutdown::Unknown))?;
                    self.emit_lifecycle(VIR_DOMAIN_EVENT_SHUTDOWN, VIR_DOMAIN_EVENT_SHUTDOWN_GUEST);
                }
                return self.after_shutdown(false).await;
            }
            (false, "guest-panicked", Kind::Running) => {
                self.become_state(State::Crashed(Crashed::Panicked))?;
                self.emit_lifecycle(VIR_DOMAIN_EVENT_CRASHED, VIR_DOMAIN_EVENT_CRASHED_PANICKED);
            }
            (false, "suspended", Kind::Running) => {
                self.become_state(State::PmSuspended)?;
                self.emit_lifecycle(VIR_DOMAIN_EVENT_PMSUSPENDED, VIR_DOMAIN_EVENT_PMSUSPENDED_MEMORY);
            }
            (false, _, Kind::Running) => return self.resync().await,
            _ => return Ok(()),
        }
        self.note_status();
        Ok(())
    }

    /// The process has ended while nobody watched, or the start had not got far.
    async fn clean_up(&mut self, half: bool) -> Result<Reached> {
        if let Some(process) = self.shared.process() {
            kill::now(&process).await?;
        }
        // What else a half-started guest may have begun is in its control group.
        if let Some(held) = &self.unreached {
            for pid in held.group.members() {
                if let Ok(process) = Process::open(pid) {
                    kill::now(&process).await?;
                }
            }
        }
        match (half, self.state().kind()) {
            (true, _) => self.end(Shutoff::Failed, VIR_DOMAIN_EVENT_STOPPED_FAILED).await,
            (false, Kind::Shutdown) => self.end(Shutoff::Shutdown, VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN).await,
            (false, _) => self.end(Shutoff::Crashed, VIR_DOMAIN_EVENT_STOPPED_FAILED).await,
        }
        Ok(Reached::Yes)
    }
}
