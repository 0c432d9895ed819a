//! The kinds of pools behind one trait. Everything here blocks and runs on a thread that [`crate::call`] gives.

mod block;
mod chap;
mod dir;
mod disk;
mod folder;
mod gluster;
#[cfg(test)]
mod hostile;
mod iscsi;
mod iscsi_direct;
mod logical;
mod mounted;
mod mpath;
mod rbd;
mod scsi;
mod zfs;

use std::path::Path;
use std::sync::Arc;

use virt_error::{Code, Domain, Error, Result};
use virt_host::tool::{Cancel, Tools};
use virt_model::storage::source::{Extent, PoolSource};
use virt_model::storage::target::Permissions;
use virt_model::storage::{Pool, PoolType, Volume as Document, VolumeType};

use crate::keys::Keys;
use crate::pool::Sizes;
use crate::volume::create::How;
use crate::volume::tasks::Progress;
use crate::volume::{Volume, Volumes};

pub use folder::Folder;

/// What a backend works with.
pub struct Cx<'a> {
    /// Programs of the host.
    pub tools: &'a dyn Tools,
    /// Passwords and passphrases.
    pub keys: &'a dyn Keys,
    /// Somebody may want the work to end.
    pub cancel: Cancel,
    /// How far the work is.
    pub progress: Progress,
    /// What the last look at the pool found.
    pub known: Arc<Volumes>,
}

impl<'a> Cx<'a> {
    /// For work whose progress nobody asks for.
    pub fn new(tools: &'a dyn Tools, keys: &'a dyn Keys, cancel: Cancel) -> Self {
        Self { tools, keys, cancel, progress: Progress::default(), known: Arc::default() }
    }
}

/// What a pool holds.
#[derive(Debug, Clone, Default)]
pub struct Content {
    /// How full it is.
    pub sizes: Sizes,
    /// Its volumes.
    pub volumes: Vec<Volume>,
    /// Volumes that are as the last look found them.
    pub same: Vec<Arc<Volume>>,
    /// The target's owner and mode, where it has a path.
    pub permissions: Option<Permissions>,
    /// What is free of its first device.
    pub free: Vec<Extent>,
}

/// What a change of a volume changes of its pool.
#[derive(Debug, Clone, Default)]
pub struct Room {
    /// How full it is; `None` when it does not tell.
    pub sizes: Option<Sizes>,
    /// What is free of its first device.
    pub free: Vec<Extent>,
}

/// What building does with what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// Nothing was said: nothing is formatted where that may lose data.
    Unsaid,
    /// Format whatever is there.
    Yes,
    /// Format only what is empty.
    No,
}

/// A volume to be made.
pub struct Create<'a> {
    /// Its document: path and key are set.
    pub wanted: &'a Document,
    /// How.
    pub how: How,
    /// Whose content it gets.
    pub from: Option<&'a Source>,
}

/// A volume whose content is copied.
pub struct Source {
    /// The kind of its pool.
    pub kind: PoolType,
    /// The volume.
    pub volume: Arc<Volume>,
}

impl Source {
    /// The file or device to read; a link in a folder does not lead out of it.
    ///
    /// # Errors
    /// Code 38 when it is not there, code 55 for a link that leads out.
    pub fn content(&self) -> Result<std::path::PathBuf> {
        let path = Path::new(self.volume.path());
        match path.parent() {
            Some(folder) if self.kind.is_folder() => crate::paths::inside(folder, self.volume.name()),
            _ => Ok(path.to_path_buf()),
        }
    }
}

/// A new capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resize {
    /// Bytes.
    pub capacity: u64,
    /// It is less than before.
    pub shrink: bool,
    /// Take all blocks at once.
    pub allocate: bool,
}

/// One kind of pool.
pub trait Backend: Send + Sync {
    /// Programs without which it cannot work.
    fn needs(&self) -> &'static [&'static str] {
        &[]
    }

    /// The folder of a kind whose volumes are files there: what the kind does not do itself is done in it.
    fn folder<'a>(&self, _pool: &'a Pool) -> Option<Folder<'a>> {
        None
    }

    /// Whether a pool that was active when the daemon ended still is.
    fn is_active(&self, cx: &Cx<'_>, pool: &Pool) -> Result<bool>;

    /// Makes a pool usable: mounts, logs in, activates.
    fn start(&self, _cx: &Cx<'_>, _pool: &Pool) -> Result<()> {
        Ok(())
    }

    /// Takes back what starting did.
    fn stop(&self, _cx: &Cx<'_>, _pool: &Pool) -> Result<()> {
        Ok(())
    }

    /// Formats or makes what the pool lies on.
    fn build(&self, _cx: &Cx<'_>, _pool: &Pool, _overwrite: Overwrite) -> Result<()> {
        Ok(())
    }

    /// Deletes what the pool lies on.
    fn delete(&self, _cx: &Cx<'_>, pool: &Pool) -> Result<()> {
        in_folder(self.folder(pool), "pool does not support pool deletion")?.remove()
    }

    /// Looks at everything.
    fn refresh(&self, cx: &Cx<'_>, pool: &Pool) -> Result<Content> {
        in_folder(self.folder(pool), "pool does not support refreshing")?.refresh(cx)
    }

    /// How full it is now.
    fn sizes(&self, _cx: &Cx<'_>, pool: &Pool) -> Result<Sizes> {
        in_folder(self.folder(pool), "pool does not support refreshing")?.sizes()
    }

    /// How full it is now, and where. It fails nothing: a change that was made is made.
    fn room(&self, cx: &Cx<'_>, pool: &Pool) -> Room {
        Room { sizes: self.sizes(cx, pool).ok(), free: Vec::new() }
    }

    /// Path and key of a volume of this name.
    fn place(&self, pool: &Pool, name: &str) -> Result<(String, String)> {
        in_folder(self.folder(pool), "storage pool does not support volume creation")?.place(name)
    }

    /// What a new volume will be.
    fn volume_type(&self, pool: &Pool, wanted: &Document) -> VolumeType {
        self.folder(pool).map_or(VolumeType::Block, |_| Folder::volume_type(wanted))
    }

    /// Makes a volume.
    fn create(&self, cx: &Cx<'_>, pool: &Pool, create: &Create<'_>) -> Result<Volume> {
        in_folder(self.folder(pool), "storage pool does not support volume creation")?.create(cx, create)
    }

    /// Deletes a volume.
    fn delete_volume(&self, _cx: &Cx<'_>, pool: &Pool, volume: &Volume, flags: u32) -> Result<()> {
        in_folder(self.folder(pool), "storage pool does not support vol deletion")?
            .delete_volume(volume, flags)
    }

    /// Changes a volume's capacity.
    fn resize(&self, cx: &Cx<'_>, pool: &Pool, volume: &Volume, wanted: Resize) -> Result<()> {
        let text = "storage pool does not support changing of volume capacity";
        in_folder(self.folder(pool), text)?.resize(cx, volume, wanted)
    }

    /// One volume as it is now.
    fn look(&self, _cx: &Cx<'_>, pool: &Pool, volume: &Volume) -> Result<Volume> {
        match self.folder(pool) {
            Some(folder) => folder.look(volume),
            None if volume.kind() == VolumeType::Block => block::again(volume),
            None => Ok(volume.clone()),
        }
    }

    /// The file or device with a volume's content, for reading and writing it; it never lies outside the pool.
    fn content(&self, pool: &Pool, volume: &Volume) -> Result<std::path::PathBuf> {
        if self.folder(pool).is_none() && volume.kind() == VolumeType::Block {
            return block::content(volume);
        }
        in_folder(self.folder(pool), "storage pool does not support access to a volume's content")?
            .content(volume)
    }

    /// Whether what could become a pool of this kind can be found.
    fn finds_sources(&self, _kind: PoolType) -> bool {
        false
    }

    /// What could become a pool of this kind; only asked when it can be found.
    fn find_sources(&self, _cx: &Cx<'_>, _spec: Option<&PoolSource>) -> Result<Vec<PoolSource>> {
        Ok(Vec::new())
    }
}

/// Refuses a pool whose target is not a whole path. It and what is under it become arguments of tools, where a path that
/// begins otherwise may mean something else; what it is relative to nobody could say anyway.
///
/// # Errors
/// Code 8.
pub fn check_target(pool: &Pool) -> Result<()> {
    if !pool.kind.has_target() || pool.path().starts_with('/') {
        return Ok(());
    }
    let text = format!("storage pool target path '{}' is not absolute", pool.path());
    Err(Error::new(Code::InvalidArg, Domain::Storage, text))
}

/// What is done in a folder is not done by a kind that has none.
fn in_folder<'a>(folder: Option<Folder<'a>>, refusal: &str) -> Result<Folder<'a>> {
    folder.ok_or_else(|| no_support(refusal))
}

/// All kinds that are built.
pub struct Backends {
    tools: Arc<dyn Tools>,
    keys: Arc<dyn Keys>,
    run: std::path::PathBuf,
}

impl Backends {
    /// With these programs; private mounts are made in `run`.
    pub fn new(tools: Arc<dyn Tools>, keys: Arc<dyn Keys>, run: std::path::PathBuf) -> Self {
        Self { tools, keys, run }
    }

    /// Passwords and passphrases.
    pub fn keys(&self) -> &Arc<dyn Keys> {
        &self.keys
    }

    /// Programs of the host.
    pub fn tools(&self) -> &Arc<dyn Tools> {
        &self.tools
    }

    /// The backend of a kind.
    ///
    /// # Errors
    /// Code 1 for a kind that is not built.
    pub fn of(&self, kind: PoolType) -> Result<Arc<dyn Backend>> {
        Ok(match kind {
            PoolType::Dir => Arc::new(dir::Dir),
            PoolType::Fs | PoolType::Netfs | PoolType::Vstorage => Arc::new(mounted::Mounted { kind }),
            PoolType::Logical => Arc::new(logical::Logical),
            PoolType::Disk => Arc::new(disk::Disk),
            PoolType::Iscsi => Arc::new(iscsi::Iscsi),
            PoolType::IscsiDirect => Arc::new(iscsi_direct::IscsiDirect),
            PoolType::Scsi => Arc::new(scsi::Scsi),
            PoolType::Mpath => Arc::new(mpath::Mpath),
            PoolType::Rbd => Arc::new(rbd::Rbd),
            PoolType::Gluster => Arc::new(gluster::Gluster { run: self.run.clone() }),
            PoolType::Zfs => Arc::new(zfs::Zfs),
            // Removed from QEMU and from the reference.
            PoolType::Sheepdog => {
                let text = format!("missing backend for pool type {} ({kind})", kind.number());
                return Err(Error::internal(Domain::Storage, text));
            }
        })
    }

    /// Whether this host can have pools of a kind: it is built, and its programs are installed.
    pub fn supports(&self, kind: PoolType) -> bool {
        self.of(kind).is_ok_and(|b| b.needs().iter().all(|program| self.tools.find(program).is_some()))
    }
}

/// Code 3: "this function is not supported by the connection driver: ..."
pub(crate) fn no_support(text: &str) -> Error {
    Error::no_support(Domain::Storage, text)
}

/// A failed call about a path.
pub(crate) fn failed(what: &str, path: &Path) -> impl Fn(std::io::Error) -> Error + use<> {
    let text = format!("{what} '{}'", path.display());
    move |e| Error::system(Domain::Storage, &text, e)
}

/// "unsupported configuration: ..." of the storage driver.
pub(crate) fn unsupported(text: impl Into<String>) -> Error {
    Error::new(Code::ConfigUnsupported, Domain::Storage, text)
}
