//! Looking at the files of a document before QEMU gets them: what is missing is told before anything changes, and what
//! would hold QEMU up when it opens it (a named pipe waits for a writer) never reaches it.

use std::fs;
use std::os::unix::fs::FileTypeExt;

use rustix::io::Errno;
use virt_consts::{
    VIR_DOMAIN_EVENT_DISK_CHANGE_MISSING_ON_START, VIR_DOMAIN_EVENT_DISK_DROP_MISSING_ON_START,
};
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::disk::{BackingStore, Disk, DiskDevice};
use virt_model::domain::source::{DiskSource, StartupPolicy};

use super::dac::Owner;

/// Looks at all files that a guest's QEMU will read. Blocking.
///
/// # Errors
/// Code 38 for a file that is not there or is a folder, code 1 for one that is no image.
pub fn check(live: &Domain, owner: Option<Owner>) -> Result<()> {
    live.devices.disks.iter().try_for_each(|disk| check_disk(disk, owner))?;
    let os = &live.os;
    if let Some(path) = super::nvram::path(os)
        && fs::metadata(&path).is_ok_and(|m| m.file_type().is_fifo())
    {
        return Err(no_image(&path.to_string_lossy()));
    }
    let boot = [&os.kernel, &os.initrd, &os.dtb, &os.shim].into_iter().flatten();
    // A boot file that is missing is QEMU's to tell, as in the reference.
    boot.filter(|path| fs::metadata(path).is_ok_and(|m| m.file_type().is_fifo()))
        .try_for_each(|path| Err(no_image(path)))
}

/// An image that was left out of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Its path.
    pub image: String,
    /// The device.
    pub alias: String,
    /// `virConnectDomainEventDiskChangeReason`.
    pub reason: i32,
}

/// Leaves out what is missing and may be (`startupPolicy='optional'`): media of drives, and whole disks. Blocking.
///
/// "requisite" media may be missing only where a guest comes from elsewhere, which a start is not.
pub fn drop_optional(live: &mut Domain, owner: Option<Owner>) -> Vec<Dropped> {
    let mut dropped = Vec::new();
    live.devices.disks.retain_mut(|disk| {
        let optional = disk.source.common().startup_policy == Some(StartupPolicy::Optional);
        if !optional || check_disk(disk, owner).is_ok() {
            return true;
        }
        let drive = matches!(disk.device, DiskDevice::Cdrom | DiskDevice::Floppy);
        dropped.push(Dropped {
            image: disk.source.path().unwrap_or_default().to_string(),
            alias: disk.info.alias.clone().unwrap_or_default(),
            reason: if drive {
                VIR_DOMAIN_EVENT_DISK_CHANGE_MISSING_ON_START
            } else {
                VIR_DOMAIN_EVENT_DISK_DROP_MISSING_ON_START
            },
        });
        if drive {
            disk.source = DiskSource::default();
            disk.backing = None;
            disk.driver.format = None;
        }
        drive
    });
    dropped
}

/// Looks at a disk's image and at the images under it. Blocking.
///
/// # Errors
/// As [`check`].
pub fn check_disk(disk: &Disk, owner: Option<Owner>) -> Result<()> {
    check_source(&disk.source, owner)?;
    let mut under = disk.backing.as_deref();
    while let Some(BackingStore { source: Some(source), backing, .. }) = under {
        check_source(source, owner)?;
        under = backing.as_deref();
    }
    Ok(())
}

fn check_source(source: &DiskSource, owner: Option<Owner>) -> Result<()> {
    if let DiskSource::Volume(volume) = source
        && let Some(name) = &volume.volume
    {
        // Only one that may be missing comes so far without a place.
        let text = format!("no storage vol with matching name '{name}'");
        return Err(Error::new(Code::NoStorageVol, From::Storage, text));
    }
    let Some(path) = source.path().filter(|p| p.starts_with('/')) else { return Ok(()) };
    let kind = match fs::metadata(path) {
        Ok(meta) => meta.file_type(),
        Err(e) => {
            let Owner { uid, gid } = user(owner);
            let text = format!("Cannot access storage file '{path}' (as uid:{uid}, gid:{gid})");
            return Err(Error::system(From::Storage, text, e));
        }
    };
    match source {
        DiskSource::File(_) | DiskSource::Block(_) if kind.is_dir() => {
            let text = format!("cannot read header '{path}'");
            Err(Error::system(From::Storage, text, Errno::ISDIR.into()))
        }
        DiskSource::File(_) | DiskSource::Block(_) if kind.is_fifo() || kind.is_socket() => {
            Err(no_image(path))
        }
        _ => Ok(()),
    }
}

/// Whom QEMU runs as.
pub(super) fn user(owner: Option<Owner>) -> Owner {
    let own = || Owner { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() };
    owner.unwrap_or_else(own)
}

/// QEMU's own words for what its file driver cannot use.
pub(super) fn no_image(path: &str) -> Error {
    Error::internal(From::Qemu, format!("'file' driver requires '{path}' to be a regular file"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt_error::Code;
    use virt_model::Mode;

    fn disk(path: &std::path::Path) -> Disk {
        let xml = format!("<disk type='file'><source file='{}'/><target dev='vda'/></disk>", path.display());
        match crate::config::devices::read(&xml, Mode::CONFIG).expect("a disk") {
            crate::config::devices::Device::Disk(disk) => *disk,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_files_with_bytes_are_images() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        fs::write(at("image"), b"x").expect("written");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .expect("a named pipe");
        let told = |name: &str| check_disk(&disk(&at(name)), None).map_err(|e| (e.code(), e.message()));
        assert_eq!(told("image"), Ok(()));
        let (code, text) = told("pipe").expect_err("a pipe is no image");
        assert!(code == Code::InternalError && text.contains("to be a regular file"), "{text}");
        let (code, text) = told("missing").expect_err("nothing is no image");
        assert!(code == Code::SystemError && text.starts_with("Cannot access storage file"), "{text}");
        let (code, text) = told("").expect_err("a folder is no image");
        assert!(code == Code::SystemError && text.ends_with("Is a directory"), "{text}");
    }

    #[test]
    fn what_is_optional_and_missing_is_left_out() {
        let xml = |kind: &str, policy: &str| {
            format!(
                "<disk type='file' device='{kind}'><source file='/nonexistent/{kind}' startupPolicy='{policy}'/>\
                 <target dev='vda' bus='virtio'/></disk>"
            )
        };
        let mut live = Domain::default();
        for (kind, policy) in [("disk", "optional"), ("cdrom", "optional"), ("disk", "mandatory")] {
            match crate::config::devices::read(&xml(kind, policy), Mode::CONFIG).expect("a disk") {
                crate::config::devices::Device::Disk(disk) => live.devices.disks.push(*disk),
                other => panic!("{other:?}"),
            }
        }
        let dropped = drop_optional(&mut live, None);
        let told: Vec<_> = dropped.iter().map(|d| (d.image.as_str(), d.reason)).collect();
        assert_eq!(told, [("/nonexistent/disk", 1), ("/nonexistent/cdrom", 0)]);
        let left: Vec<_> = live.devices.disks.iter().map(|d| (d.device, d.source.is_empty())).collect();
        assert_eq!(left, [(DiskDevice::Cdrom, true), (DiskDevice::Disk, false)]);
    }
}
