//! From a definition to a command line: the part of a start that knows documents.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use virt_error::Result;
use virt_model::domain::Domain;
use virt_model::domain::disk::{BackingStore, Disk};
use virt_model::domain::source::DiskSource;

use crate::command::NetFds;
use crate::process::dac::Owner;
use crate::process::paths::RunPaths;
use crate::sealing::Sealing;

/// Where one run of a guest takes place.
#[derive(Debug, Clone)]
pub struct Place {
    /// The guest's number in this run.
    pub id: i32,
    /// The process waits for a saved state.
    pub restored: bool,
    /// Its files.
    pub paths: RunPaths,
    /// Number of the monitor's listening socket in the process.
    pub monitor: i32,
    /// Numbers of other listening sockets in the process, by path.
    pub sockets: HashMap<String, i32>,
    /// Whom it runs as, when files and labels tell.
    pub owner: Option<Owner>,
    /// Descriptors of network cards in the process, by alias.
    pub cards: HashMap<String, NetFds>,
    /// Key and values of images' secrets; without it such an image is refused.
    pub sealing: Option<Arc<Sealing>>,
}

/// A process to start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// The emulator's version for the log.
    pub version: String,
    /// How much memory it may lock, bytes; unset leaves what the daemon may.
    pub memlock: Option<u64>,
}

/// Knows documents and emulators. Blocking: it may probe an emulator.
pub trait Planner: Send + Sync {
    /// The live document of a run: everything a definition leaves open is decided, except ports.
    fn prepare(&self, config: &Domain, place: &Place) -> Result<Domain>;

    /// The command line of a live document whose ports are decided.
    fn command(&self, live: &Domain, place: &Place) -> Result<Command>;

    /// libvirt's names of what the guest's emulator can, for its status file.
    fn capabilities(&self, live: &Domain) -> Vec<String> {
        let _ = live;
        Vec::new()
    }
}

/// Shared by all guests.
pub type SharedPlanner = Arc<dyn Planner>;

/// Files that QEMU opens: kernel, firmware and images. Sockets and devices of the host are not among them.
pub fn files(live: &Domain) -> Vec<PathBuf> {
    use virt_model::domain::chardev::CharBackend;
    let os = &live.os;
    let mut found: Vec<&str> =
        [&os.kernel, &os.initrd, &os.dtb, &os.shim].into_iter().flatten().map(String::as_str).collect();
    found.extend(live.devices.disks.iter().flat_map(disk_files));
    for backend in output_files(live) {
        if let CharBackend::File(file) = backend {
            found.extend(file.path.as_deref());
        }
    }
    let mut paths: Vec<PathBuf> = found.into_iter().map(PathBuf::from).collect();
    paths.extend(crate::process::nvram::path(os));
    paths.dedup();
    paths
}

/// The files of a disk: its image, then what that lies on.
pub fn disk_files(disk: &Disk) -> Vec<&str> {
    let mut sources = vec![&disk.source];
    let mut under = disk.backing.as_deref();
    while let Some(BackingStore { source: Some(source), backing, .. }) = under {
        sources.push(source);
        under = backing.as_deref();
    }
    let local = |s: &&DiskSource| matches!(s, DiskSource::File(_) | DiskSource::Block(_));
    sources.into_iter().filter(local).filter_map(DiskSource::path).collect()
}

/// The host sides of all ports.
pub fn output_files(live: &Domain) -> impl Iterator<Item = &virt_model::domain::chardev::CharBackend> {
    let devices = &live.devices;
    let serials = devices.serials.iter().map(|d| &d.backend);
    let parallels = devices.parallels.iter().map(|d| &d.backend);
    let channels = devices.channels.iter().map(|d| &d.backend);
    serials.chain(parallels).chain(channels)
}
