//! Looking at the files of a document before QEMU gets them: what is missing is told before anything changes, and what
//! would hold QEMU up when it opens it (a named pipe waits for a writer) never reaches it.

use std::fs;
use std::os::unix::fs::FileTypeExt;

use rustix::io::Errno;
use virt_error::{Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::disk::{BackingStore, Disk};
use virt_model::domain::source::DiskSource;

use super::dac::Owner;

/// Looks at all files that a guest's QEMU will read. Blocking.
///
/// # Errors
/// Code 38 for a file that is not there or is a folder, code 1 for one that is no image.
pub fn check(live: &Domain, owner: Option<Owner>) -> Result<()> {
    live.devices.disks.iter().try_for_each(|disk| check_disk(disk, owner))?;
    let os = &live.os;
    let boot = [&os.kernel, &os.initrd, &os.dtb, &os.shim].into_iter().flatten();
    // A boot file that is missing is QEMU's to tell, as in the reference.
    boot.filter(|path| fs::metadata(path).is_ok_and(|m| m.file_type().is_fifo()))
        .try_for_each(|path| Err(no_image(path)))
}

/// Looks at a disk's image and at the images under it that the document names. Blocking.
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
    let Some(path) = source.path().filter(|p| p.starts_with('/')) else { return Ok(()) };
    let kind = match fs::metadata(path) {
        Ok(meta) => meta.file_type(),
        Err(e) => {
            let Owner { uid, gid } = owner.unwrap_or(Owner {
                uid: rustix::process::geteuid().as_raw(),
                gid: rustix::process::getegid().as_raw(),
            });
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

/// QEMU's own words for what its file driver cannot use.
fn no_image(path: &str) -> Error {
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
}
