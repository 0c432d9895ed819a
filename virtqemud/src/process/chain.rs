//! The images that an image lies on, as its header and theirs name them. They become part of the running guest's
//! document: QEMU opens what stands there and nothing else, and the files are lent to it.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use virt_error::{Code, Domain as From, Error, Result};
use virt_image::{Base, Probe};
use virt_model::domain::Domain;
use virt_model::domain::disk::{BackingStore, Disk, FormatElement};
use virt_model::domain::source::{BlockImage, DiskSource, FileImage, ImageCommon, ImageFormat, ImagePrivate};

use super::dac::Owner;
use super::images::{no_image, user};
use crate::document::nodes;

/// Images that may lie on each other.
const MAX_CHAIN: usize = 200;

/// Completes the disks of a guest that is being started, the last first, as the reference numbers them. Blocking.
///
/// # Errors
/// As [`complete`].
pub fn complete_all(live: &mut Domain, owner: Option<Owner>) -> Result<()> {
    let mut next = nodes::next_index(live);
    live.devices.disks.iter_mut().rev().try_for_each(|disk| complete(disk, &mut next, owner))
}

/// Writes into a disk what its image lies on, down to the end; `next` is the number of the next image. A chain that the
/// document tells is left as it is. Blocking.
///
/// # Errors
/// Code 38 for an image that is not there, code 1 for what is none and for a ring, code 55 when an image does not tell the
/// format of the one under it: guessing it would let a guest choose.
pub fn complete(disk: &mut Disk, next: &mut u32, owner: Option<Owner>) -> Result<()> {
    let local = matches!(disk.source, DiskSource::File(_) | DiskSource::Block(_));
    let (None, true, Some(path)) = (&disk.backing, local, disk.source.path()) else { return Ok(()) };
    let walk = Walk { top: path, owner };
    disk.backing = walk.under(Path::new(path), disk.driver.format, 0, next)?;
    Ok(())
}

/// One way down.
struct Walk<'a> {
    top: &'a str,
    owner: Option<Owner>,
}

impl Walk<'_> {
    /// What lies under an image: an empty element where it stands on its own; nothing where only QEMU can tell.
    fn under(
        &self,
        image: &Path,
        format: Option<ImageFormat>,
        depth: usize,
        next: &mut u32,
    ) -> Result<Option<Box<BackingStore>>> {
        let end = Ok(Some(Box::default()));
        if !format.is_some_and(may_have_base) {
            return end;
        }
        // What is missing or no such image is told by who looks at the disk, or by QEMU.
        let Ok(Probe { backing: Some(base), .. }) = header(image) else { return end };
        if depth == MAX_CHAIN {
            let text = format!("backing store for {} is self-referential or too deeply nested", self.top);
            return Err(Error::internal(From::Storage, text));
        }
        let local =
            !base.name.starts_with("json:") && !base.name.split('/').next().is_some_and(|f| f.contains(':'));
        if !local {
            return match base.format {
                Some(_) => Ok(None),
                None => Err(no_format(&base, image)),
            };
        }
        let path = image.parent().unwrap_or(Path::new("/")).join(&base.name);
        let meta = fs::metadata(&path).map_err(|e| {
            let Owner { uid, gid } = user(self.owner);
            let text = format!(
                "Cannot access backing file '{}' of storage file '{}' (as uid:{uid}, gid:{gid})",
                path.display(),
                image.display()
            );
            Error::system(From::Storage, text, e)
        })?;
        let text = path.to_string_lossy().into_owned();
        let relative = (!base.name.starts_with('/')).then(|| base.name.clone());
        let private =
            relative.map(|name| Box::new(ImagePrivate { rel_path: Some(name), ..Default::default() }));
        let common = ImageCommon { private, ..ImageCommon::default() };
        let source = match meta.file_type() {
            kind if kind.is_file() => DiskSource::File(FileImage { file: Some(text), common, fdgroup: None }),
            kind if kind.is_block_device() => DiskSource::Block(BlockImage { dev: Some(text), common }),
            _ => return Err(no_image(&text)),
        };
        let format = match base.format {
            Some(format) => format,
            // Without a word from the image only one that looks like nothing else is used.
            None if header(&path).is_ok_and(|found| found.format.is_none()) => ImageFormat::Raw,
            None => return Err(no_format(&base, image)),
        };
        let index = *next;
        *next += 1;
        Ok(Some(Box::new(BackingStore {
            detected: true,
            format: Some(FormatElement { kind: Some(format), ..FormatElement::default() }),
            source: Some(source),
            index: Some(index),
            backing: self.under(&path, Some(format), depth + 1, next)?,
        })))
    }
}

/// Formats whose images may lie on others.
fn may_have_base(format: ImageFormat) -> bool {
    matches!(format, ImageFormat::Qcow2 | ImageFormat::Qcow | ImageFormat::Qed | ImageFormat::Vmdk)
}

fn header(image: &Path) -> io::Result<Probe> {
    // A named pipe must not hold us up.
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(image)?;
    let kind = file.metadata()?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    virt_image::layer(&file)
}

fn no_format(base: &Base, image: &Path) -> Error {
    let text = format!(
        "format of backing image '{}' of image '{}' was not specified in the image metadata \
         (See https://libvirt.org/kbase/backing_chains.html for troubleshooting)",
        base.name,
        image.display()
    );
    Error::new(Code::OperationInvalid, From::Storage, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt_model::Mode;

    /// A qcow2 image on this base.
    fn overlay(path: &Path, on: &str, format: &str) {
        let mut bytes = vec![0u8; 4096];
        bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        bytes[8..16].copy_from_slice(&1024u64.to_be_bytes());
        bytes[16..20].copy_from_slice(&u32::try_from(on.len()).expect("short").to_be_bytes());
        bytes[20..24].copy_from_slice(&16u32.to_be_bytes());
        bytes[100..104].copy_from_slice(&104u32.to_be_bytes());
        if !format.is_empty() {
            bytes[104..108].copy_from_slice(&0xe279_2aca_u32.to_be_bytes());
            bytes[108..112].copy_from_slice(&u32::try_from(format.len()).expect("short").to_be_bytes());
            bytes[112..112 + format.len()].copy_from_slice(format.as_bytes());
        }
        bytes[1024..1024 + on.len()].copy_from_slice(on.as_bytes());
        fs::write(path, bytes).expect("written");
    }

    fn disk(path: &Path, format: ImageFormat) -> Disk {
        let xml = format!("<disk type='file'><source file='{}'/><target dev='vda'/></disk>", path.display());
        match crate::config::devices::read(&xml, Mode::CONFIG).expect("a disk") {
            crate::config::devices::Device::Disk(mut disk) => {
                disk.driver.format = Some(format);
                *disk
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_images_under_an_image_come_into_the_document() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        fs::write(at("base"), vec![0; 4096]).expect("written");
        overlay(&at("top"), "middle", "qcow2");
        overlay(&at("middle"), at("base").to_str().expect("text"), "raw");
        let mut top = disk(&at("top"), ImageFormat::Qcow2);
        complete(&mut top, &mut 7, None).expect("completed");
        let middle = top.backing.as_deref().expect("one");
        let base = middle.backing.as_deref().expect("two");
        let path = |b: &BackingStore| b.source.as_ref().and_then(|s| s.path().map(Into::into));
        assert_eq!((path(middle), middle.index), (Some(at("middle")), Some(7)));
        assert_eq!((path(base), base.index), (Some(at("base")), Some(8)));
        assert_eq!(base.backing.as_deref(), Some(&BackingStore::default()), "the end is told");
        assert!(middle.detected && base.detected);
        // A raw image is never looked into: its content is the guest's.
        let mut raw = disk(&at("top"), ImageFormat::Raw);
        complete(&mut raw, &mut 1, None).expect("completed");
        assert_eq!(raw.backing.as_deref(), Some(&BackingStore::default()));
        // A chain that the document ends stays ended.
        let mut ended = disk(&at("top"), ImageFormat::Qcow2);
        ended.backing = Some(Box::default());
        complete(&mut ended, &mut 1, None).expect("completed");
        assert_eq!(ended.backing.as_deref(), Some(&BackingStore::default()));
    }

    #[test]
    fn what_cannot_be_under_an_image_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        fs::write(at("base"), vec![0; 4096]).expect("written");
        overlay(&at("own"), "base", "raw");
        let told = |on: &str, format: &str| {
            overlay(&at("top"), on, format);
            let mut disk = disk(&at("top"), ImageFormat::Qcow2);
            complete(&mut disk, &mut 1, Some(Owner { uid: 1, gid: 2 })).map_err(|e| e.message())
        };
        assert_eq!(told("base", ""), Ok(()), "it looks like nothing but raw");
        assert_eq!(told("nbd://host/x", "raw"), Ok(()));
        let text = told("own", "").expect_err("a format that is not told");
        assert!(text.contains("format of backing image 'own' of image"), "{text}");
        let text = format!(
            "Cannot access backing file '{0}/gone' of storage file '{0}/top' (as uid:1, gid:2): No such file or directory",
            dir.path().display()
        );
        assert_eq!(told("gone", "raw"), Err(text));
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), kind, rustix::fs::Mode::RWXU, 0)
            .expect("a named pipe");
        assert!(told("pipe", "qcow2").is_err_and(|text| text.contains("to be a regular file")));
        assert!(told("top", "qcow2").is_err_and(|text| text.contains("self-referential")), "a ring");
    }
}
