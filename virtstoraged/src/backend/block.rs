//! Volumes that are block devices: what a device itself tells.

use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, SeekFrom, seek};
use virt_error::{Domain, Error, Result};
use virt_model::storage::target::Permissions;
use virt_model::storage::volume::{Bytes, VolumeTarget};
use virt_model::storage::{Told, Volume as Document, VolumeType};

use super::failed;
use crate::pool::Sizes;
use crate::volume::Volume;

/// A volume that a tool or the kernel told of.
pub fn told(
    name: &str,
    path: &str,
    key: &str,
    format: Option<&str>,
    (capacity, allocation): (u64, u64),
) -> Volume {
    Volume::new(Document {
        kind: Some(VolumeType::Block),
        name: Some(name.to_string()),
        key: Some(key.to_string()),
        capacity: Some(Bytes(capacity)),
        allocation: Some(Bytes(allocation)),
        physical: Some(Told { bytes: capacity }),
        target: VolumeTarget {
            path: Some(path.to_string()),
            format: format.map(str::to_string),
            permissions: permissions(Path::new(path)),
            ..VolumeTarget::default()
        },
        ..Document::default()
    })
}

fn permissions(path: &Path) -> Permissions {
    let Ok(meta) = std::fs::metadata(path) else { return Permissions::default() };
    Permissions {
        mode: Some(meta.mode() & 0o7777),
        owner: Some(meta.uid()),
        group: Some(meta.gid()),
        label: None,
    }
}

/// How large a device is, bytes.
///
/// # Errors
/// Code 38; code 1 for what is no block device.
pub fn size(path: &Path) -> Result<u64> {
    let cannot = failed("cannot open volume", path);
    let meta = std::fs::metadata(path).map_err(&cannot)?;
    if !meta.file_type().is_block_device() {
        let text = format!("'{}' is not a block device", path.display());
        return Err(Error::internal(Domain::Storage, text));
    }
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or(0);
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(&cannot)?;
    seek(&file, SeekFrom::End(0)).map_err(|e| failed("cannot seek to end of file", path)(e.into()))
}

/// One device as it is now.
///
/// # Errors
/// As [`size`].
pub fn again(volume: &Volume) -> Result<Volume> {
    let path = Path::new(volume.path());
    let mut now = volume.clone();
    let size = size(path)?;
    now.set_sizes(size, volume.allocation().max(size), Some(size));
    now.document.target.permissions = permissions(path);
    Ok(now)
}

/// Where a volume's content is.
///
/// # Errors
/// As [`size`].
pub fn content(volume: &Volume) -> Result<PathBuf> {
    let path = PathBuf::from(volume.path());
    size(&path).map(|_| path)
}

/// The sum of all volumes, for pools that are nothing but their volumes.
pub fn sum(volumes: &[Volume]) -> Sizes {
    let total = |of: fn(&Volume) -> u64| volumes.iter().map(of).fold(0_u64, u64::saturating_add);
    let (capacity, allocation) = (total(Volume::capacity), total(Volume::allocation));
    Sizes { capacity, allocation, available: capacity.saturating_sub(allocation) }
}

/// The steadiest name of a device under a pool's target folder; the device's own without one.
pub fn stable(target: &str, device: &str) -> String {
    let target = Path::new(target);
    if target == Path::new("/dev") || !target.starts_with("/dev") {
        return device.to_string();
    }
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    let Some(wanted) = real(Path::new(device)) else { return device.to_string() };
    let mut found: Vec<_> =
        std::fs::read_dir(target).into_iter().flatten().flatten().map(|e| e.path()).collect();
    found.sort();
    let found = found.into_iter().find(|link| real(link).as_ref() == Some(&wanted));
    found.and_then(|p| p.into_os_string().into_string().ok()).unwrap_or_else(|| device.to_string())
}

/// A number that a tool printed, bytes.
///
/// # Errors
/// Code 1.
pub fn number(text: &str, what: &str) -> Result<u64> {
    let digits = text.trim().trim_end_matches(['B', 'b']);
    digits.parse().map_err(|_| Error::internal(Domain::Storage, format!("malformed {what} '{text}'")))
}
