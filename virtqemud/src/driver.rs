//! What all guests of the daemon share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use uuid::Uuid;
use virt_api::domain::v1alpha1 as api;
use virt_api::domain::v1alpha1::watch_response::Event;
use virt_error::{Code, Domain, Error, Result};
use virt_host::cgroup::Layout;
use virt_object::busy::Busy;
use virt_object::owner::Kind;
use virt_object::registry::{self, IdCounter, Registry};
use virt_secret::ask::Secrets;

use crate::guest::plan::SharedPlanner;
use crate::guest::{Guest, Published};
use crate::net::{Names, Networks};
use crate::process::dac::{Dac, Owner};
use crate::process::paths::Folders;
use crate::process::ports::Ports;
use crate::settings::Settings;
use crate::volumes::Volumes;

/// Where events go.
pub trait EventSink: Send + Sync {
    /// Appends an event of a guest to the journal.
    fn append(&self, domain: api::DomainRef, event: Event);
}

/// What a driver is made from.
pub struct Parts {
    /// qemu.conf.
    pub settings: Settings,
    /// Where files are.
    pub folders: Folders,
    /// Counts the reasons to stay.
    pub busy: Busy,
    /// Where jobs run.
    pub work: tokio::runtime::Handle,
    /// Knows documents and emulators.
    pub planner: SharedPlanner,
    /// Where events go.
    pub events: Arc<dyn EventSink>,
    /// The program that starts processes.
    pub launcher: PathBuf,
    /// Group above all guests' control groups; `None` uses none (a session daemon).
    pub partition: Option<String>,
    /// Folder of port locks, the same for all daemons of a host.
    pub port_locks: PathBuf,
    /// Where other daemons' sockets are.
    pub sockets: PathBuf,
}

/// The driver.
pub struct Driver {
    /// qemu.conf.
    pub settings: Settings,
    /// Where files are.
    pub folders: Folders,
    /// All guests.
    pub guests: Arc<Registry<Guest>>,
    /// What the guests' owners share.
    pub kind: Arc<Kind>,
    /// Counts the reasons to stay.
    pub busy: Busy,
    /// Numbers of running guests.
    pub ids: IdCounter,
    /// Knows documents and emulators.
    pub planner: SharedPlanner,
    /// Gives files to QEMU's user and back.
    pub dac: Dac,
    /// TCP ports of displays.
    pub display_ports: Arc<Ports>,
    /// TCP ports of VNC over WebSocket.
    pub websocket_ports: Arc<Ports>,
    /// The program that starts processes.
    pub launcher: PathBuf,
    /// The host's control groups.
    pub cgroups: Layout,
    /// Group above all guests' control groups.
    pub partition: Option<String>,
    /// virtnetworkd.
    pub networks: Arc<Networks>,
    /// virtstoraged.
    pub volumes: Volumes,
    /// Where images' secrets come from.
    pub secrets: Secrets,
    /// Names of taps.
    pub names: Names,
    /// Whether virtnetworkd's events are followed.
    pub following: AtomicBool,
    events: Arc<dyn EventSink>,
}

impl Driver {
    /// A driver without guests.
    ///
    /// Errors: a folder cannot be made, the id counter is damaged.
    pub fn new(parts: Parts) -> Result<Arc<Self>> {
        let Parts {
            settings,
            folders,
            busy,
            work,
            planner,
            events,
            launcher,
            partition,
            port_locks,
            sockets,
        } = parts;
        let owner = settings.user.as_ref().map(|u| u.owner);
        make_folders(&folders, owner)?;
        if let Err(error) = std::fs::create_dir_all(&port_locks) {
            // Ports are tried by binding anyway; the locks only close a gap between daemons.
            tracing::info!(%error, folder = %port_locks.display(), "no port locks");
        }
        let cgroups = match &partition {
            Some(_) => {
                Layout::detect().map_err(|e| Error::system(Domain::Cgroup, "cannot read mounts", e))?
            }
            None => Layout::default(),
        };
        let ports = |what, (low, high): (u16, u16)| Ports::new(what, low..=high, port_locks.clone());
        Ok(Arc::new(Self {
            guests: Arc::new(Registry::new(registry::DOMAIN)),
            kind: Arc::new(Kind::new(Domain::Qemu, work, busy.clone())),
            ids: IdCounter::open(folders.state.join("virtd-next-id"), Domain::Qemu)?,
            dac: Dac::new(settings.dynamic_ownership, settings.remember_owner, owner),
            display_ports: ports("display", settings.display_ports),
            websocket_ports: ports("webSocket", settings.websocket_ports),
            settings,
            folders,
            busy,
            planner,
            launcher,
            cgroups,
            partition,
            secrets: Secrets::new(sockets.clone()),
            networks: Arc::new(Networks::new(sockets.clone())),
            volumes: Volumes::new(sockets),
            names: Names::default(),
            following: AtomicBool::new(false),
            events,
        }))
    }

    /// Appends an event of a guest to the journal.
    pub fn emit(&self, uuid: &Uuid, published: &Published, event: Event) {
        self.events.append(published.reference(uuid), event);
    }

    /// The guest a request names: the first set field of UUID, name and id decides.
    ///
    /// Errors: code 42 in the reference's words.
    pub fn find(&self, wanted: Option<&api::DomainRef>) -> Result<Arc<Guest>> {
        let missing = |text: String| Error::new(Code::NoDomain, Domain::Qemu, text);
        let Some(wanted) = wanted else {
            return Err(Error::new(Code::InvalidArg, Domain::Qemu, "no domain is named"));
        };
        if !wanted.uuid.is_empty() {
            let uuid = Uuid::from_slice(&wanted.uuid)
                .map_err(|_| Error::new(Code::InvalidArg, Domain::Qemu, "a UUID has 16 bytes"))?;
            return visible(self.guests.by_uuid(&uuid)).ok_or_else(|| match wanted.name.as_str() {
                "" => missing(format!("no domain with matching uuid '{uuid}'")),
                name => missing(format!("no domain with matching uuid '{uuid}' ({name})")),
            });
        }
        if !wanted.name.is_empty() {
            let found = visible(self.guests.by_name(&wanted.name));
            return found.ok_or_else(|| missing(format!("no domain with matching name '{}'", wanted.name)));
        }
        match wanted.id.and_then(|id| i32::try_from(id).ok()) {
            Some(id) => {
                let found = visible(self.guests.by_id(id));
                found.ok_or_else(|| missing(format!("no domain with matching id {id}")))
            }
            None => Err(Error::new(Code::InvalidArg, Domain::Qemu, "no domain is named")),
        }
    }
}

/// A transient guest is nobody's business before its start has published a document.
fn visible(found: Option<Arc<Guest>>) -> Option<Arc<Guest>> {
    found.filter(|guest| guest.published().value.document().is_some())
}

/// The folders that guests' files go into, with the reference's owners.
fn make_folders(folders: &Folders, owner: Option<Owner>) -> Result<()> {
    let shared = [
        folders.state.clone(),
        folders.state.join("channel"),
        folders.lib.clone(),
        folders.lib.join("ram"),
        folders.nvram(),
        folders.saves(),
    ];
    for dir in &shared {
        make_folder(dir)?;
        if let Some(owner) = owner {
            std::os::unix::fs::chown(dir, Some(owner.uid), Some(owner.gid)).map_err(|e| {
                Error::system(Domain::Qemu, format!("unable to set ownership of '{}'", dir.display()), e)
            })?;
        }
    }
    [&folders.log, &folders.config, &folders.cache]
        .into_iter()
        .chain(&folders.locks)
        .try_for_each(|d| make_folder(d))
}

fn make_folder(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|e| {
        Error::system(Domain::Qemu, format!("Failed to create directory '{}'", dir.display()), e)
    })
}
