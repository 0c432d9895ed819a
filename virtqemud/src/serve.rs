//! From the daemon's frame to a serving driver.

use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use virt_api::domain::v1alpha1::domain_block_service_server::DomainBlockServiceServer;
use virt_api::domain::v1alpha1::domain_console_service_server::DomainConsoleServiceServer;
use virt_api::domain::v1alpha1::domain_device_service_server::DomainDeviceServiceServer;
use virt_api::domain::v1alpha1::domain_interface_service_server::DomainInterfaceServiceServer;
use virt_api::domain::v1alpha1::domain_job_service_server::DomainJobServiceServer;
use virt_api::domain::v1alpha1::domain_save_service_server::DomainSaveServiceServer;
use virt_api::domain::v1alpha1::domain_service_server::DomainServiceServer;
use virt_api::domain::v1alpha1::domain_stats_service_server::DomainStatsServiceServer;
use virt_api::domain::v1alpha1::domain_tuning_service_server::DomainTuningServiceServer;
use virt_api::domain::v1alpha1::guest_agent_service_server::GuestAgentServiceServer;
use virt_api::domain::v1alpha1::monitor_service_server::MonitorServiceServer;
use virt_api::host::v1alpha1::host_service_server::HostServiceServer;
use virt_daemon::{Conf, Context, Mode, Paths, Running};
use virt_error::{Code, Domain, Error, Result};
use virt_host::node::Node;
use virt_object::autostart::once_per_boot;
use virt_object::blocking;
use virt_object::events::{Journal, Limits};
use virt_rpc::server::Services;
use virt_rpc::service;

use crate::api::block::BlockApi;
use crate::api::device::DeviceApi;
use crate::api::domain::DomainApi;
use crate::api::events::JournalSink;
use crate::api::guest_agent::AgentApi;
use crate::api::host::HostApi;
use crate::api::interface::InterfaceApi;
use crate::api::job::JobApi;
use crate::api::save::SaveApi;
use crate::api::stats::StatsApi;
use crate::api::tuning::TuningApi;
use crate::command;
use crate::definitions::Definitions;
use crate::document::planner::DocumentPlanner;
use crate::driver::{Driver, Parts};
use crate::emulator::Emulators;
use crate::guest::{adopt, autostart};
use crate::host::HostFacts;
use crate::process::paths::Folders;
use crate::settings::Settings;

/// Folder of port locks: one for all daemons of a host, whatever their root.
const PORT_LOCKS: &str = "/run/virtd/ports";
/// libvirt's partition of guests.
const MACHINE: &str = "/machine";
/// Where packages put the launcher.
const LAUNCHERS: [&str; 2] = ["/usr/libexec/virtd/virt-launch", "/usr/lib/virtd/virt-launch"];

/// Reads the configuration and all definitions, finds running guests again, and offers the services.
pub async fn start(context: Context) -> Result<Running> {
    let conf = Conf::load(context.paths.etc.join("qemu.conf"))?;
    let settings = Settings::read(&conf)?;
    let folders = folders(&context.paths);
    let journal = Arc::new(Journal::open(
        &folders.state.join("virtd-events"),
        Limits::default(),
        context.busy.clone(),
    )?);
    let emulators = Emulators::new(Some(folders.cache.join("virtd-emulators"))).with_nvram(folders.nvram());
    let emulators = Arc::new(emulators);
    let line = command::Settings { displays: settings.displays.clone(), ..command::Settings::default() };
    let owner = settings.user.as_ref().map(|u| u.owner);
    let driver = Driver::new(Parts {
        settings,
        folders: folders.clone(),
        busy: context.busy.clone(),
        work: context.work.clone(),
        planner: Arc::new(DocumentPlanner::new(emulators.clone(), line, folders.cache.join("capabilities"))),
        events: Arc::new(JournalSink(journal.clone())),
        launcher: launcher()?,
        partition: partition(&context.paths),
        port_locks: port_locks(&context.paths),
        sockets: context.paths.grpc(),
    })?;
    let definitions = Definitions::new(driver.clone(), emulators.clone());
    let loader = definitions.clone();
    let known = blocking::run(move || loader.load()).await?;
    let running = adopt::all(&driver).await?;
    tracing::info!(known, running, "guests");
    // Beside the service: a guest may take minutes.
    let starts = autostart::all(definitions.clone());
    once_per_boot(&context.work, &folders.state, Domain::Qemu, Duration::ZERO, starts).await?;
    let facts = Arc::new(HostFacts::new(Node::real(), emulators, "/", owner));
    let domains = DomainApi::new(definitions.clone(), journal.clone(), context.descriptors.clone());
    let services = Services::new()
        .add(service!(DomainServiceServer, domains.clone()))
        .add(service!(DomainConsoleServiceServer, domains.clone()))
        .add(service!(GuestAgentServiceServer, AgentApi::new(driver.clone())))
        .add(service!(DomainJobServiceServer, JobApi::new(driver.clone())))
        .add(service!(DomainSaveServiceServer, SaveApi::new(definitions.clone())))
        .add(service!(DomainBlockServiceServer, BlockApi::new(driver.clone())))
        .add(service!(MonitorServiceServer, domains))
        .add(service!(DomainDeviceServiceServer, DeviceApi::new(definitions.clone())))
        .add(service!(DomainInterfaceServiceServer, InterfaceApi::new(definitions.clone())))
        .add(service!(DomainStatsServiceServer, StatsApi::new(definitions.clone(), facts.clone())))
        .add(service!(DomainTuningServiceServer, TuningApi::new(definitions, facts.clone())))
        .add(service!(HostServiceServer, HostApi::new(facts)));
    Ok(Running::new(services).epoch(journal.epoch()).on_stop(async move {
        // A partition of our own goes when no guest is left in it; the host's shared one stays.
        if let Some(partition) = driver.partition.as_deref().filter(|p| *p != MACHINE) {
            driver.cgroups.remove_partition(partition);
        }
    }))
}

fn folders(paths: &Paths) -> Folders {
    match paths.mode {
        Mode::System => Folders {
            config: paths.etc.join("qemu"),
            state: paths.run.join("qemu"),
            lib: paths.lib.join("qemu"),
            log: paths.log.join("qemu"),
            cache: paths.cache.join("qemu"),
            // /var/lock, beside /var/lib.
            locks: paths.lib.ancestors().nth(2).map(|var| var.join("lock")),
        },
        Mode::Session => Folders::session(&paths.etc, &paths.run, &paths.cache),
    }
}

/// A daemon of the host uses libvirt's own partition; one on another root a part of it; a session none.
fn partition(paths: &Paths) -> Option<String> {
    match paths.mode {
        Mode::Session => None,
        Mode::System if !rustix::process::geteuid().is_root() => None,
        Mode::System if *paths == Paths::system(None) => Some(MACHINE.into()),
        Mode::System => {
            let mut hasher = std::hash::DefaultHasher::new();
            paths.run.hash(&mut hasher);
            Some(format!("{MACHINE}/virtd-{:016x}.partition", hasher.finish()))
        }
    }
}

fn port_locks(paths: &Paths) -> PathBuf {
    match paths.mode {
        Mode::System if rustix::process::geteuid().is_root() => PORT_LOCKS.into(),
        Mode::System | Mode::Session => paths.run.join("ports"),
    }
}

/// Beside the daemon's own program, or where packages put it.
fn launcher() -> Result<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("virt-launch")));
    let known = LAUNCHERS.iter().map(|p| Path::new(p).to_path_buf());
    beside.into_iter().chain(known).find(|p| p.is_file()).ok_or_else(|| {
        let text = "the program virt-launch is not installed";
        Error::new(Code::NoSource, Domain::Qemu, text).with("looked for", LAUNCHERS.join(", "))
    })
}
