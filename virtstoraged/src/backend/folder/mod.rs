//! Volumes that are files of a folder: what pools of type dir, fs, netfs and vstorage share.

mod look;
mod make;
#[cfg(test)]
mod tests;

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::statvfs;
use virt_consts::VIR_STORAGE_VOL_DELETE_WITH_SNAPSHOTS;
use virt_error::{Domain, Error, Result};
use virt_model::storage::target::Permissions;
use virt_model::storage::{Pool, Volume as Document, VolumeType};

use self::look::Found;
use super::{Content, Create, Cx, Resize, failed};
use crate::image::{qemu_img, raw};
use crate::keys;
use crate::paths;
use crate::pool::Sizes;
use crate::volume::Volume;

/// Mode of a new pool's folder.
const FOLDER_MODE: u32 = 0o711;
/// Headers that are read at the same time: their reading waits for disks, not for processors.
const READERS: usize = 8;
/// Fewer files than this are not worth a thread.
const PART: usize = 64;

/// A pool's folder.
pub struct Folder<'a> {
    pool: &'a Pool,
    path: &'a Path,
}

impl<'a> Folder<'a> {
    /// The folder of a pool's target.
    pub fn of(pool: &'a Pool) -> Self {
        Self { pool, path: Path::new(pool.path()) }
    }

    fn permissions(&self) -> &Permissions {
        &self.pool.target.permissions
    }

    /// Makes the folder with its parents, owner and mode; one that is there only gets what the document says.
    pub fn make(&self) -> Result<()> {
        let cannot = failed("cannot create path", self.path);
        let asked = self.permissions();
        if !self.path.is_dir() {
            if let Some(parent) = self.path.parent() {
                fs::DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(&cannot)?;
            }
            fs::DirBuilder::new().mode(FOLDER_MODE).create(self.path).map_err(&cannot)?;
            let mode = asked.mode.unwrap_or(FOLDER_MODE);
            fs::set_permissions(self.path, fs::Permissions::from_mode(mode)).map_err(&cannot)?;
        } else if let Some(mode) = asked.mode {
            fs::set_permissions(self.path, fs::Permissions::from_mode(mode)).map_err(&cannot)?;
        }
        own(self.path, asked)
    }

    /// Removes the folder, when it is empty.
    pub fn remove(&self) -> Result<()> {
        paths::sweep(self.path);
        fs::remove_dir(self.path).map_err(failed("failed to remove pool", self.path))
    }

    /// How full its file system is.
    pub fn sizes(&self) -> Result<Sizes> {
        let s = statvfs(self.path).map_err(|e| failed("cannot statvfs path", self.path)(e.into()))?;
        let (capacity, available) =
            (s.f_frsize.saturating_mul(s.f_blocks), s.f_frsize.saturating_mul(s.f_bfree));
        Ok(Sizes { capacity, available, allocation: capacity.saturating_sub(available) })
    }

    /// All volumes and the sizes. Headers are read by several threads.
    pub fn refresh(&self, cx: &Cx<'_>) -> Result<Content> {
        let names = self.names()?;
        let part = names.len().div_ceil(READERS).max(PART);
        let now = SystemTime::now();
        let (mut volumes, mut same) = (Vec::new(), Vec::new());
        std::thread::scope(|scope| {
            let readers: Vec<_> = names
                .chunks(part)
                .map(|names| {
                    scope.spawn(move || {
                        let wanted = names.iter().take_while(|_| !cx.cancel.is_cancelled());
                        wanted.filter_map(|name| self.found(name, cx, now)).collect::<Vec<_>>()
                    })
                })
                .collect();
            for reader in readers {
                for found in reader.join().unwrap_or_default() {
                    match found {
                        Found::New(volume) => volumes.push(*volume),
                        Found::Same(volume) => same.push(volume),
                    }
                }
            }
        });
        cx.cancel.check(Domain::Storage)?;
        keys::name_secrets(cx.keys, &mut volumes);
        Ok(Content {
            sizes: self.sizes()?,
            volumes,
            same,
            permissions: look::permissions(self.path).ok(),
            free: Vec::new(),
        })
    }

    /// The names that can be volumes; others are passed over, as are our own unfinished ones.
    fn names(&self) -> Result<Vec<String>> {
        let unreadable = failed("cannot open directory", self.path);
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path).map_err(&unreadable)? {
            let name = entry.map_err(&unreadable)?.file_name();
            match paths::shown(&name) {
                Some(name) => names.push(name.to_string()),
                None => tracing::debug!(?name, "no name for a volume"),
            }
        }
        Ok(names)
    }

    fn found(&self, name: &str, cx: &Cx<'_>, now: SystemTime) -> Option<Found> {
        match look::fresh(self.path, name, cx.known.get(name), now) {
            Ok(found) => found,
            Err(error) => {
                // It may just have been removed, or belong to somebody else.
                tracing::debug!(?error, name, "a file is passed over");
                None
            }
        }
    }

    /// Path and key of a volume of this name.
    pub fn place(&self, name: &str) -> Result<(String, String)> {
        paths::check_name(self.pool.kind, name)?;
        let path = self.path.join(name);
        if fs::symlink_metadata(&path).is_ok() {
            return Err(paths::taken(&path));
        }
        let path = path.into_os_string().into_string().unwrap_or_default();
        Ok((path.clone(), path))
    }

    /// What a new volume will be.
    pub fn volume_type(wanted: &Document) -> VolumeType {
        match wanted.target.format.as_deref() {
            Some("dir") => VolumeType::Dir,
            _ => VolumeType::File,
        }
    }

    /// Makes a volume.
    pub fn create(&self, cx: &Cx<'_>, create: &Create<'_>) -> Result<Volume> {
        make::create(self.path, cx, create)
    }

    /// Deletes a volume; of a link only the link.
    pub fn delete_volume(&self, volume: &Volume, flags: u32) -> Result<()> {
        if flags & VIR_STORAGE_VOL_DELETE_WITH_SNAPSHOTS != 0 {
            return Err(Error::unsupported_flags(Domain::Storage, "storageBackendVolDeleteLocal", flags));
        }
        paths::check_name(self.pool.kind, volume.name())?;
        let path = self.path.join(volume.name());
        let is_dir = fs::symlink_metadata(&path).is_ok_and(|m| m.is_dir());
        let (done, what) = match is_dir {
            true => (fs::remove_dir(&path), "cannot remove directory"),
            false => (fs::remove_file(&path), "cannot unlink file"),
        };
        match done {
            // Somebody else was faster.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done.map_err(failed(what, &path)),
        }
    }

    /// Changes a volume's capacity.
    pub fn resize(&self, cx: &Cx<'_>, volume: &Volume, wanted: Resize) -> Result<()> {
        if volume.kind() == VolumeType::Dir {
            return Err(super::no_support("storage pool does not support changing of volume capacity"));
        }
        let gone = |e: Error| match e.errno() {
            errno if errno <= 0 => e,
            errno => {
                let cause = std::io::Error::from_raw_os_error(errno);
                failed("Unable to open", &self.path.join(volume.name()))(cause)
            }
        };
        let path = paths::inside(self.path, volume.name()).map_err(gone)?;
        if volume.format() != "raw" || volume.document.target.encryption.is_some() {
            let how = (wanted.shrink, wanted.allocate);
            return qemu_img::resize(cx, &path, &volume.document, wanted.capacity, how);
        }
        let file = fs::OpenOptions::new().read(true).write(true).open(&path);
        let file = file.map_err(failed("Unable to open", &path))?;
        let old = file.metadata().map_err(failed("cannot stat file", &path))?.len();
        if wanted.allocate && wanted.capacity > old {
            // Blocks first: a full disk must not leave a file that looks larger than it is.
            raw::allocate(&file, &path, old, wanted.capacity - old)
                .inspect_err(|_| drop(file.set_len(old)))?;
        }
        file.set_len(wanted.capacity).map_err(failed("Failed to truncate file", &path))
    }

    /// The file with a volume's content; never outside of the folder.
    pub fn content(&self, volume: &Volume) -> Result<PathBuf> {
        paths::inside(self.path, volume.name())
    }

    /// One volume as it is now; what only a look at the whole pool tells stays as it was.
    pub fn look(&self, volume: &Volume) -> Result<Volume> {
        look::again(self.path, volume)
    }
}

/// Gives a file the owner that was asked for.
fn own(path: &Path, asked: &Permissions) -> Result<()> {
    if asked.owner.is_none() && asked.group.is_none() {
        return Ok(());
    }
    std::os::unix::fs::chown(path, asked.owner, asked.group).map_err(|e| {
        let (uid, gid) = (asked.owner.map_or(-1, i64::from), asked.group.map_or(-1, i64::from));
        let text = format!("cannot chown '{}' to ({uid}, {gid})", path.display());
        Error::system(Domain::Storage, text, e)
    })
}
