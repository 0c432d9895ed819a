//! Everything on the host that a guest's process needs, up to the running process itself. Each step registers how it
//! is taken back.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use virt_error::{Code, Domain as From, Error, Result};
use virt_host::cgroup::Group;
use virt_host::process::Process;
use virt_launch::{Keep, Limit, Request, Resource, Step, User};
use virt_model::domain::Domain;
use virt_model::domain::interface::Interface;
use virt_model::domain::seclabel::{Seclabel, SeclabelKind};
use virt_object::undo::Undo;

use super::dac::{Given, Owner};
use super::identity::Who;
use super::paths::RunPaths;
use super::ports::Port;
use super::{chain, groups, identity, images, log, nvram, sockets, starting, tpm};
use crate::command::NetFds;
use crate::display::place;
use crate::driver::Driver;
use crate::guest::plan::{Command, Place, files, output_files};
use crate::guest::status::{Record, Status};
use crate::net::{self, Holding};
use crate::sealing::Sealing;

/// The monitor's listening socket in the process.
pub const MONITOR_FD: i32 = 30;

/// A process that was started, with all that belongs to it.
pub struct Staged {
    /// The live document.
    pub live: Domain,
    /// Its files.
    pub paths: RunPaths,
    /// The process.
    pub process: Arc<Process>,
    /// Its control group.
    pub group: Group,
    /// Files that were given to QEMU's user.
    pub given: Given,
    /// Ports of its displays.
    pub ports: Vec<Port>,
    /// Sockets that its ports listen on.
    pub sockets: Vec<PathBuf>,
    /// What its network cards hold.
    pub cards: Vec<Holding>,
    /// Where QEMU's words begin in the log.
    pub log_from: u64,
    /// Images that are missing and were optional.
    pub dropped: Vec<images::Dropped>,
    /// What libvirt would need to go on with it.
    pub record: Record,
}

/// Brings a guest's process to life. Blocking.
///
/// `first_status` makes the status file's content from the live document; the file is written before anything else
/// exists, so that a daemon that dies in the middle finds what to clean up. A `restored` guest waits for its state.
pub fn stage(
    driver: &Arc<Driver>,
    config: &Domain,
    id: i32,
    restored: bool,
    undo: &mut Undo,
    reset_nvram: bool,
    first_status: impl Fn(&RunPaths, &Domain) -> Status,
) -> Result<Staged> {
    let name = config.name.clone().unwrap_or_default();
    let paths = driver.folders.run(id, &name)?;
    let who = identity::of(driver, config)?;
    let owner = who.owner();
    let mut place = Place {
        id,
        restored,
        paths: paths.clone(),
        monitor: MONITOR_FD,
        sockets: HashMap::new(),
        owner,
        cards: HashMap::new(),
        sealing: None,
    };
    let mut live = driver.planner.prepare(config, &place)?;
    let dropped = images::drop_optional(&mut live, owner);
    chain::complete_all(&mut live, owner)?;
    live.id = Some(id);
    place_and_label(driver, &mut live);
    place::network_addresses(driver, &mut live)?;
    let ports = place::assign(driver, &mut live)?;
    let sockets = sockets::paths(&live);
    place.sockets = sockets::numbers(&sockets, MONITOR_FD + 1);

    let note = |live: &Domain| first_status(&paths, live).save(&paths.status);
    note(&live)?;
    undo_file(undo, "status file", paths.status.clone());
    let mut card_fds = Vec::new();
    place.cards = connect_cards(driver, &mut live, undo, &note, 1 + sockets.len(), &mut card_fds)?;
    // Before anything else is made: a secret that is missing stops the start here.
    let sealing = tokio::runtime::Handle::current().block_on(Sealing::begin(&driver.secrets, &live))?;
    let sealing = Arc::new(sealing);
    place.sealing = Some(sealing.clone());
    let command = driver.planner.command(&live, &place)?;
    let group = groups::create(driver, &live, undo)?;
    for dir in [&paths.lib, &paths.channels] {
        private_folder(dir, owner)?;
        undo_folder(undo, dir.clone());
    }
    undo_folder(undo, paths.memory.clone());
    master_key(&paths.master_key, sealing.key(), owner)?;
    nvram::prepare(&live, owner, reset_nvram, undo)?;
    tpm::start(&driver.folders, &driver.settings, &live, &paths, owner, undo)?;
    let given = give_files(driver, &live, &who, undo)?;
    let mut inherited: Vec<(i32, OwnedFd)> = vec![(MONITOR_FD, listen(&paths.monitor)?.into())];
    for path in &sockets {
        let number = MONITOR_FD + i32::try_from(inherited.len()).unwrap_or(i32::MAX);
        inherited.push((number, sockets::listen(path, owner)?));
        undo_file(undo, "socket of a port", path.clone());
    }
    let log_from = begin_log(&paths.log, &command)?;
    undo_file(undo, "pid file", paths.pid_file.clone());
    inherited.extend(card_fds);
    let lock = starting::lock(&paths.lib)?;
    let process = launch(driver, who, &command, &paths, &group, inherited, lock)?;
    let process = Arc::new(process);
    let kill = process.clone();
    undo.add_async("process", move || async move { super::kill::now(&kill).await });
    let cards = Holding::all(&live.devices.interfaces);
    let record = Record::of(&live, driver.planner.capabilities(&live));
    Ok(Staged { live, paths, process, group, given, ports, sockets, cards, log_from, dropped, record })
}

/// Connects all network cards. Their descriptors are numbered from `first` on; answers them by alias.
fn connect_cards(
    driver: &Arc<Driver>,
    live: &mut Domain,
    undo: &mut Undo,
    note: &dyn Fn(&Domain) -> Result<()>,
    first: usize,
    inherited: &mut Vec<(i32, OwnedFd)>,
) -> Result<HashMap<String, NetFds>> {
    let mut found = HashMap::new();
    let runtime = tokio::runtime::Handle::current();
    let mut keep = |fd| {
        let number = MONITOR_FD + i32::try_from(first + inherited.len()).unwrap_or(i32::MAX / 2);
        inherited.push((number, fd));
        number.to_string()
    };
    for at in 0..live.devices.interfaces.len() {
        let mut card = live.devices.interfaces[at].clone();
        let context = net::Context::new(&driver.networks, &driver.names, &runtime, live);
        let mut write = |card: &Interface| {
            let mut with = live.clone();
            with.devices.interfaces[at] = card.clone();
            note(&with)
        };
        let connected = net::connect(&mut card, &context, undo, &mut write)?;
        live.devices.interfaces[at] = card;
        if let Some(connected) = connected {
            let tap = connected.tap.into_iter().map(&mut keep).collect();
            let vhost = connected.vhost.into_iter().map(&mut keep).collect();
            found.insert(connected.alias, NetFds { tap, vhost });
        }
    }
    if !found.is_empty() {
        note(live)?;
    }
    Ok(found)
}

/// What a running guest's document tells of its place on the host: partition and owner.
fn place_and_label(driver: &Driver, live: &mut Domain) {
    if driver.partition.is_some() && live.resource.partition.is_none() {
        // The reference's own name, also where a daemon on another root has a part of it.
        live.resource.partition = Some("/machine".into());
    }
    for label in live.seclabels.iter_mut().filter(|l| l.kind == Some(SeclabelKind::Static)) {
        if label.model.as_deref() == Some("dac") && label.relabel != Some(false) {
            label.imagelabel.clone_from(&label.label);
        }
    }
    let dac = live.seclabels.iter().any(|l| l.model.as_deref() == Some("dac"));
    if let (Some(user), false) = (&driver.settings.user, dac) {
        let label = format!("+{}:+{}", user.owner.uid, user.owner.gid);
        live.seclabels.push(Seclabel {
            kind: Some(SeclabelKind::Dynamic),
            model: Some("dac".into()),
            relabel: Some(driver.settings.dynamic_ownership),
            label: Some(label.clone()),
            imagelabel: driver.settings.dynamic_ownership.then_some(label),
            baselabel: None,
        });
    }
}

fn system(what: impl std::fmt::Display, e: io::Error) -> Error {
    Error::system(From::Qemu, what, e)
}

fn private_folder(dir: &Path, owner: Option<Owner>) -> Result<()> {
    // What a killed daemon left of an earlier run with the same number.
    if let Err(e) = fs::remove_dir_all(dir)
        && e.kind() != io::ErrorKind::NotFound
    {
        return Err(system(format!("cannot remove '{}'", dir.display()), e));
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(dir)
        .and_then(|()| owner.map_or(Ok(()), |o| chown(dir, Some(o.uid), Some(o.gid))))
        .map_err(|e| system(format!("Cannot create directory '{}'", dir.display()), e))
}

fn master_key(path: &Path, key: &[u8], owner: Option<Owner>) -> Result<()> {
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
        file.write_all(key)?;
        owner.map_or(Ok(()), |o| chown(path, Some(o.uid), Some(o.gid)))
    };
    write().map_err(|e| system(format!("failed to write master key file '{}'", path.display()), e))
}

fn give_files(driver: &Driver, live: &Domain, who: &Who, undo: &mut Undo) -> Result<Given> {
    images::check(live, who.owner())?;
    make_output_files(live)?;
    let Some(owner) = who.lends_to() else { return Ok(Given::default()) };
    let given = Given::all(&driver.dac, &files(live), owner)?;
    let (back, dac) = (given.clone(), driver.dac);
    undo.add("owners of files", move || {
        back.back(&dac);
        Ok(())
    });
    Ok(given)
}

fn make_output_files(live: &Domain) -> Result<()> {
    output_files(live).try_for_each(make_output_file)
}

/// A file that a port writes to exists before QEMU opens it: it may not have the right to make one.
///
/// # Errors
/// Code 38 when it cannot be made.
pub fn make_output_file(backend: &virt_model::domain::chardev::CharBackend) -> Result<()> {
    let virt_model::domain::chardev::CharBackend::File(file) = backend else { return Ok(()) };
    let Some(path) = &file.path else { return Ok(()) };
    let open = fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(file.append != Some(true))
        .mode(0o600)
        // A named pipe without a reader must not hold the start up.
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open(path);
    open.map_err(|e| Error::system(From::None, format!("Unable to open file: {path}"), e))?;
    Ok(())
}

/// The monitor's socket is ours, so that connecting needs no waiting for QEMU to make it.
fn listen(path: &Path) -> Result<UnixListener> {
    let failed = |e| system(format!("Unable to create unix socket '{}'", path.display()), e);
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    Ok(listener)
}

fn begin_log(path: &Path, command: &Command) -> Result<u64> {
    let head = log::Head {
        libvirt: "11.3.0",
        package: concat!("virtd ", env!("CARGO_PKG_VERSION")),
        qemu: &command.version,
        env: &command.env,
        argv: &command.argv,
    };
    log::begin(path, &head).map_err(|e| system(format!("failed to create logfile {}", path.display()), e))
}

fn launch(
    driver: &Driver,
    who: Who,
    command: &Command,
    paths: &RunPaths,
    group: &Group,
    inherited: Vec<(i32, OwnedFd)>,
    lock: OwnedFd,
) -> Result<Process> {
    let settings = &driver.settings;
    let limit = |resource, value: u64| (value > 0).then_some(Limit { resource, value: Some(value) });
    let limits = [
        limit(Resource::Files, settings.max_files),
        limit(Resource::Processes, settings.max_processes),
        command.memlock.map(|value| Limit { resource: Resource::Memlock, value: Some(value) }),
    ];
    let request = Request {
        argv: command.argv.clone(),
        env: command.env.clone(),
        dir: None,
        user: who.user.map(|u| User { uid: u.owner.uid, gid: u.owner.gid, groups: u.groups }),
        umask: Some(0o002),
        limits: limits.into_iter().flatten().collect(),
        cgroups: group.procs(),
        keep: inherited.iter().map(|(number, _)| Keep { number: *number }).collect(),
        lock: true,
        log: Some(paths.log.clone()),
        pid_file: Some(paths.pid_file.clone()),
        drop_capabilities: settings.clear_capabilities,
    };
    let descriptors = inherited.into_iter().map(|(_, fd)| fd).chain([lock]).collect();
    match virt_launch::launch(&driver.launcher, &request, descriptors) {
        Ok(launched) => Ok(Process::from_pidfd(launched.pid, launched.pidfd)),
        Err(e) => Err(launch_error(e, &driver.launcher)),
    }
}

fn launch_error(e: io::Error, launcher: &Path) -> Error {
    let failure = e.get_ref().and_then(|inner| inner.downcast_ref::<virt_launch::Failure>()).cloned();
    match failure {
        Some(f) if f.step == Step::Exec => {
            let cause = io::Error::from_raw_os_error(f.errno);
            system(format!("cannot execute binary {}", f.what), cause)
        }
        Some(f) if f.step == Step::PidFile => {
            let cause = io::Error::from_raw_os_error(f.errno);
            system(format!("Failed to write pid file '{}'", f.what), cause)
        }
        Some(f) => Error::new(Code::InternalError, From::Qemu, f.to_string()),
        None => system(format!("cannot run '{}'", launcher.display()), e),
    }
}

fn undo_file(undo: &mut Undo, name: &'static str, path: PathBuf) {
    undo.add(name, move || match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(system(format!("cannot remove '{}'", path.display()), e))
        }
        _ => Ok(()),
    });
}

fn undo_folder(undo: &mut Undo, path: PathBuf) {
    undo.add("private folder", move || match fs::remove_dir_all(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(system(format!("cannot remove '{}'", path.display()), e))
        }
        _ => Ok(()),
    });
}
