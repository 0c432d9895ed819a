//! Making a volume in a folder: in a workshop beside its place, and moved there when it is whole.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use virt_error::{Domain, Error, Result};
use virt_model::storage::volume::VolumeTarget;
use virt_model::storage::{Volume as Document, VolumeType};

use super::{look, own};
use crate::backend::{Create, Cx, Source, failed, no_support, unsupported};
use crate::image::{mark, qemu_img, raw};
use crate::paths::Workshop;
use crate::volume::Volume;

/// Mode of a volume when the document says none.
const FILE_MODE: u32 = 0o600;

pub(super) fn create(folder: &Path, cx: &Cx<'_>, create: &Create<'_>) -> Result<Volume> {
    let wanted = create.wanted;
    let name = wanted.name();
    let workshop = Workshop::open(folder)?;
    let path = workshop.path(name);
    fill(cx, create, &path).map_err(|e| workshop.hide(e))?;
    let asked = &wanted.target.permissions;
    own(&path, asked).map_err(|e| workshop.hide(e))?;
    let mode = fs::Permissions::from_mode(asked.mode.unwrap_or(FILE_MODE));
    fs::set_permissions(&path, mode)
        .map_err(failed("cannot set mode of", &path))
        .map_err(|e| workshop.hide(e))?;
    workshop.finish(name)?;
    look::again(folder, &Volume::new(settled(wanted)))
}

/// What stays of the request: the rest is told by the file.
fn settled(wanted: &Document) -> Document {
    let mut document = wanted.clone();
    document.target.nocow = false;
    document.source = None;
    if let Some(backing) = document.backing.as_mut()
        && backing.format.is_none()
    {
        backing.format = Some("raw".to_string());
    }
    document
}

fn fill(cx: &Cx<'_>, create: &Create<'_>, path: &Path) -> Result<()> {
    let wanted = create.wanted;
    let plain = is_raw(&wanted.target) && wanted.target.encryption.is_none();
    if wanted.target.format.as_deref() == Some("dir") {
        let flags = create.how.flags();
        if flags != 0 {
            return Err(Error::unsupported_flags(Domain::Storage, "createFileDir", flags));
        }
        if wanted.backing_path().is_some() {
            return Err(no_support("backing storage not supported for directories volumes"));
        }
        if create.from.is_some() {
            return Err(no_support("cannot copy from volume to a directory volume"));
        }
        return fs::DirBuilder::new().mode(0o700).create(path).map_err(failed("cannot create path", path));
    }
    if wanted.kind == Some(VolumeType::Ploop) {
        return Err(no_support("ploop volumes"));
    }
    match create.from {
        None if plain => empty(wanted, create, path),
        None => qemu_img::create(cx, wanted, path, create.how.preallocate),
        Some(source) => copy(cx, create, source, path),
    }
}

/// Whether a volume holds plain bytes: as the content of an ISO image are.
fn is_raw(target: &VolumeTarget) -> bool {
    target.format.as_deref().is_none_or(|format| matches!(format, "raw" | "iso"))
}

/// Notes a volume as raw; what is to become an ISO image shall be found as one.
fn note(wanted: &Document, path: &Path) {
    if wanted.target.format.as_deref() != Some("iso") {
        mark::set(path, "raw");
    }
}

fn empty(wanted: &Document, create: &Create<'_>, path: &Path) -> Result<()> {
    raw_only(wanted, create)?;
    if create.how.reflink {
        return Err(unsupported("a new volume without a source shares no blocks"));
    }
    let file = raw::make(path)?;
    no_cow(&file, wanted);
    let capacity = wanted.capacity.map_or(0, |b| b.0);
    let allocation = wanted.allocation.map_or(capacity, |b| b.0);
    raw::size(&file, path, capacity.max(allocation), allocation)?;
    note(wanted, path);
    Ok(())
}

/// Refuses what a raw volume cannot have.
fn raw_only(wanted: &Document, create: &Create<'_>) -> Result<()> {
    if create.how.preallocate {
        return Err(unsupported("metadata preallocation is not supported for raw volumes"));
    }
    if wanted.backing_path().is_some() {
        return Err(no_support("backing storage not supported for raw volumes"));
    }
    Ok(())
}

fn copy(cx: &Cx<'_>, create: &Create<'_>, source: &Source, path: &Path) -> Result<()> {
    let (wanted, from) = (create.wanted, &source.volume);
    if from.kind() == VolumeType::Dir {
        return Err(no_support("cannot copy from directory volume"));
    }
    if matches!(from.kind(), VolumeType::Network | VolumeType::NetDir) {
        return Err(no_support("copies of network volumes"));
    }
    let from_path = source.content()?;
    let from_path = from_path.as_path();
    // What the pool knows of the source, not what its header says.
    let from_raw = from.kind() == VolumeType::Block || is_raw(&from.document.target);
    let encrypted = [wanted, &from.document].iter().any(|v| v.target.encryption.is_some());
    if !from_raw || !is_raw(&wanted.target) || encrypted {
        if create.how.reflink {
            return Err(Error::unsupported_flags(Domain::Storage, "storageBackendCreateQemuImg", 2));
        }
        let mut given = from.document.clone();
        if from_raw {
            given.target.format = Some("raw".to_string());
        }
        qemu_img::convert(cx, (from_path, &given), wanted, path, create.how.preallocate)?;
        if is_raw(&wanted.target) && wanted.target.encryption.is_none() {
            note(wanted, path);
        }
        return Ok(());
    }
    raw_only(wanted, create)?;
    let reading = fs::File::open(from_path).map_err(failed("could not open input path", from_path))?;
    let file = raw::make(path)?;
    no_cow(&file, wanted);
    if create.how.reflink {
        raw::reflink(&reading, from_path, &file)?;
    } else {
        let capacity = wanted.capacity.map_or(0, |b| b.0);
        // Fewer bytes asked for than there are: holes are welcome.
        let sparse = wanted.allocation.is_some_and(|a| a.0 < capacity);
        let length = raw::copy(&reading, from_path, &file, path, sparse, cx)?;
        if capacity > length {
            file.set_len(capacity).map_err(failed("cannot extend file", path))?;
        }
        if !sparse {
            raw::allocate(&file, path, 0, capacity.max(length))?;
        }
    }
    note(wanted, path);
    Ok(())
}

/// Turns copy-on-write off for a file that is still empty, where the file system has such a thing.
fn no_cow(file: &fs::File, wanted: &Document) {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    if !wanted.target.nocow {
        return;
    }
    let done = ioctl_getflags(file).and_then(|flags| ioctl_setflags(file, flags | IFlags::NOCOW));
    if let Err(error) = done {
        tracing::debug!(%error, "copy-on-write stays on");
    }
}
