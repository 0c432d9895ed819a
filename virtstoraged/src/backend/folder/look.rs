//! What a file of a pool is: its kind, sizes, owner and times, and what its header says.

use std::fs::{File, Metadata, OpenOptions};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::OFlags;
use virt_error::Result;
use virt_model::domain::source::{Encryption, EncryptionFormat, ImageFormat};
use virt_model::storage::target::Permissions;
use virt_model::storage::volume::{BackingStore, Bytes, ClusterSize, Features, Timestamps, VolumeTarget};
use virt_model::storage::{Told, Volume as Document, VolumeType};

use crate::backend::failed;
use crate::image::mark;
use crate::image::probe::{self, Probe};
use crate::volume::{Busy, Seen, Volume, missing};

/// A change within this time before a look may be followed by one that leaves the same times: clocks of file systems are coarse.
const SETTLED: Duration = Duration::from_secs(2);

/// What a look at one file found.
pub enum Found {
    /// A volume.
    New(Box<Volume>),
    /// The volume of the last look: its file was not touched.
    Same(Arc<Volume>),
}

/// Everything about a file; `None` for one that is no volume. A file that is untouched since it was `known` is not opened.
pub fn fresh(
    folder: &Path,
    name: &str,
    known: Option<&Arc<Volume>>,
    now: SystemTime,
) -> Result<Option<Found>> {
    let path = folder.join(name);
    let Some(meta) = stat(&path)? else { return Ok(None) };
    let seen = seen(&meta);
    if let Some(known) = known.filter(|k| k.seen == Some(seen) && k.busy == Busy::Free) {
        return Ok(Some(Found::Same(known.clone())));
    }
    let Some(document) = whole(folder, name, (path, meta))? else { return Ok(None) };
    // What else is told of such a volume does not lie in its file alone.
    let alone = document.kind == Some(VolumeType::File)
        && document.backing.is_none()
        && document.target.encryption.is_none();
    let changed = seen.times.iter().skip(1).map(|(seconds, _)| *seconds).max().unwrap_or(i64::MAX);
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(SETTLED);
    let settled = u64::try_from(changed).is_ok_and(|at| at < now.as_secs());
    let volume = Volume { seen: (alone && settled).then_some(seen), ..Volume::new(document) };
    Ok(Some(Found::New(Box::new(volume))))
}

fn seen(meta: &Metadata) -> Seen {
    Seen {
        id: (meta.dev(), meta.ino()),
        size: (meta.len(), meta.blocks()),
        access: (meta.mode(), meta.uid(), meta.gid()),
        times: [
            (meta.atime(), meta.atime_nsec()),
            (meta.mtime(), meta.mtime_nsec()),
            (meta.ctime(), meta.ctime_nsec()),
        ],
    }
}

/// Everything about a file that was looked at; `None` for one that is no volume (a pipe, a socket, a link to nothing).
fn whole(folder: &Path, name: &str, (path, meta): (PathBuf, Metadata)) -> Result<Option<Document>> {
    let mut document = plain(&path, name, &meta);
    if meta.is_dir() {
        return Ok(Some(document));
    }
    let Some((file, meta)) = open(&path)? else { return Ok(None) };
    let mut found = probe::file(&file, meta.len()).map_err(failed("cannot read header", &path))?;
    if found != Probe::default() && meta.is_file() && mark::is_raw(&path) {
        found = Probe::default();
    }
    told(&mut document, &found, folder);
    size(&mut document, &found, &file, &meta);
    Ok(Some(document))
}

/// Sizes, owner and times anew; format, base and switches as they were: of a base only a refresh tells more.
pub fn again(folder: &Path, old: &Volume) -> Result<Volume> {
    let path = folder.join(old.name());
    let gone = || missing(format!("no storage vol with matching path '{}'", path.display()));
    stat(&path)?.ok_or_else(gone)?;
    let (file, meta) = open(&path)?.ok_or_else(gone)?;
    let mut document = old.document.clone();
    let fresh = plain(&path, old.name(), &meta);
    document.target.permissions = fresh.target.permissions;
    document.target.timestamps = fresh.target.timestamps;
    document.allocation = fresh.allocation;
    document.physical = fresh.physical;
    document.capacity = fresh.capacity;
    if !meta.is_dir() {
        let format = ImageFormat::from_name(old.format()).unwrap_or_default();
        let header = probe::file(&file, meta.len()).map_err(failed("cannot read header", &path))?;
        let same = header.format() == format;
        // What stands in a header of another format than we know is nothing to us.
        let trusted = if same { header } else { Probe { format: Some(format), ..Probe::default() } };
        let lost = !same && !matches!(format, ImageFormat::Raw | ImageFormat::Iso);
        size(&mut document, &trusted, &file, &meta);
        if lost {
            document.capacity = old.document.capacity;
        }
    }
    Ok(Volume { document, busy: old.busy, seen: None })
}

/// Looks at a file before it is opened: opening a device may do something.
fn stat(path: &Path) -> Result<Option<Metadata>> {
    match std::fs::metadata(path) {
        Ok(meta) => Ok(can_be_volume(&meta).then_some(meta)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("cannot open volume", path)(e)),
    }
}

fn can_be_volume(meta: &Metadata) -> bool {
    let kind = meta.file_type();
    kind.is_file() || kind.is_dir() || kind.is_block_device()
}

/// Opens a file that [`stat`] took for a volume, without being held up by a pipe or taken in by a terminal.
fn open(path: &Path) -> Result<Option<(File, Metadata)>> {
    let cannot = failed("cannot open volume", path);
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(&cannot)?;
    let meta = file.metadata().map_err(&cannot)?;
    Ok(can_be_volume(&meta).then_some((file, meta)))
}

/// What the file system alone tells.
fn plain(path: &Path, name: &str, meta: &Metadata) -> Document {
    let text = path.to_string_lossy().into_owned();
    let kind = match meta.file_type() {
        t if t.is_dir() => VolumeType::Dir,
        t if t.is_block_device() => VolumeType::Block,
        _ => VolumeType::File,
    };
    let dir = kind == VolumeType::Dir;
    let taken = if dir { 0 } else { meta.blocks().saturating_mul(512) };
    Document {
        kind: Some(kind),
        name: Some(name.to_string()),
        key: Some(text.clone()),
        capacity: Some(Bytes(if dir { 0 } else { meta.len() })),
        allocation: Some(Bytes(taken)),
        physical: (!dir && meta.len() > 0).then_some(Told { bytes: meta.len() }),
        target: VolumeTarget {
            path: Some(text),
            format: Some(if dir { "dir" } else { "raw" }.to_string()),
            permissions: permissions_of(meta),
            timestamps: timestamps(meta),
            ..VolumeTarget::default()
        },
        ..Document::default()
    }
}

/// What the header tells.
fn told(document: &mut Document, found: &Probe, folder: &Path) {
    let target = &mut document.target;
    target.format = Some(found.format().as_str().to_string());
    if found.format == Some(ImageFormat::Qcow2) {
        // The reference tells neither version nor switches of the old kind.
        target.compat = found.compat.filter(|c| *c != "0.10").map(str::to_string);
        target.cluster_size = found.cluster_size.map(ClusterSize);
        target.features = target.compat.as_ref().map(|_| Features {
            lazy_refcounts: found.lazy_refcounts,
            extended_l2: found.extended_l2,
            data_file: found.data_file,
        });
    }
    target.encryption = found.encryption.map(|format| {
        let format = if format == EncryptionFormat::Luks2 { EncryptionFormat::Luks } else { format };
        Encryption { format, ..Encryption::default() }
    });
    document.backing = found.backing.as_ref().map(|base| {
        let here = !base.name.contains(':') || base.name.starts_with('/');
        let path = if here { folder.join(&base.name) } else { PathBuf::from(&base.name) };
        // A base whose format nobody names is told as what it is without looking into it.
        let format = base.format.unwrap_or(ImageFormat::Raw).as_str().to_string();
        base_now(BackingStore {
            path: Some(path.to_string_lossy().into_owned()),
            format: Some(format),
            ..BackingStore::default()
        })
    });
}

/// Owner and times of a base that is a file here.
fn base_now(mut base: BackingStore) -> BackingStore {
    if let Some(path) = base.path.as_deref().filter(|p| p.starts_with('/')).map(Path::new)
        && let Ok(meta) = std::fs::metadata(path)
    {
        base.permissions = permissions_of(&meta);
        base.timestamps = timestamps(&meta);
    }
    base
}

fn size(document: &mut Document, found: &Probe, file: &File, meta: &Metadata) {
    let mut physical = meta.len();
    if meta.file_type().is_block_device() {
        physical = rustix::fs::seek(file, rustix::fs::SeekFrom::End(0)).unwrap_or(0);
        document.physical = Some(Told { bytes: physical });
        document.allocation = Some(Bytes(physical));
    }
    let mut head = [0; 512];
    let payload = (found.encryption.is_some() && found.format.is_none())
        .then(|| file.read_exact_at(&mut head, 0).ok().and_then(|()| probe::luks_payload(&head)))
        .flatten();
    // A header that tells no size is as good as none.
    let capacity = found
        .capacity
        .filter(|size| *size > 0)
        .unwrap_or_else(|| physical.saturating_sub(payload.unwrap_or(0)));
    document.capacity = Some(Bytes(capacity));
}

/// Owner and mode of a path.
pub fn permissions(path: &Path) -> std::io::Result<Permissions> {
    std::fs::metadata(path).map(|meta| permissions_of(&meta))
}

fn permissions_of(meta: &Metadata) -> Permissions {
    Permissions {
        mode: Some(meta.mode() & 0o7777),
        owner: Some(meta.uid()),
        group: Some(meta.gid()),
        label: None,
    }
}

fn timestamps(meta: &Metadata) -> Timestamps {
    let text = |seconds: i64, nanos: i64| match nanos {
        0 => seconds.to_string(),
        _ => format!("{seconds}.{nanos:09}"),
    };
    let birth = meta.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let birth = birth.and_then(|at| Some((i64::try_from(at.as_secs()).ok()?, at.subsec_nanos())));
    Timestamps {
        atime: Some(text(meta.atime(), meta.atime_nsec())),
        mtime: Some(text(meta.mtime(), meta.mtime_nsec())),
        ctime: Some(text(meta.ctime(), meta.ctime_nsec())),
        btime: Some(birth.map_or_else(|| "0".to_string(), |(s, n)| text(s, i64::from(n)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::CWD;

    fn look(folder: &Path, name: &str) -> Option<Document> {
        match fresh(folder, name, None, SystemTime::now()).unwrap()? {
            Found::New(volume) => Some(volume.document),
            Found::Same(_) => None,
        }
    }

    #[test]
    fn an_untouched_file_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v");
        std::fs::write(&path, vec![0; 5000]).unwrap();
        let look = |known: Option<&Arc<Volume>>, later: u64| {
            let now = SystemTime::now() + Duration::from_secs(later);
            match fresh(dir.path(), "v", known, now).unwrap().unwrap() {
                Found::New(volume) => (Arc::new(*volume), false),
                Found::Same(volume) => (volume, true),
            }
        };
        // A file that may just be being written is never taken for settled.
        let (young, _) = look(None, 0);
        assert!(young.seen.is_none() && !look(Some(&young), 0).1);
        let (known, _) = look(None, 10);
        assert!(look(Some(&known), 10).1);
        let mut header = vec![0; 5000];
        header[..8].copy_from_slice(b"QFI\xfb\0\0\0\x02");
        header[20..24].copy_from_slice(&16_u32.to_be_bytes());
        std::thread::sleep(Duration::from_millis(20));
        std::fs::write(&path, &header).unwrap();
        let (changed, same) = look(Some(&known), 10);
        assert!(!same && changed.format() == "qcow2");
    }

    #[test]
    fn files_links_and_others() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("raw"), vec![1; 5000]).unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("dangling")).unwrap();
        rustix::fs::mknodat(
            CWD,
            dir.path().join("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let raw = look(dir.path(), "raw").unwrap();
        assert_eq!((raw.capacity, raw.target.format.as_deref()), (Some(Bytes(5000)), Some("raw")));
        let sub = look(dir.path(), "sub").unwrap();
        assert_eq!((sub.kind, sub.physical), (Some(VolumeType::Dir), None));
        assert!(look(dir.path(), "dangling").is_none());
        assert!(look(dir.path(), "pipe").is_none());
    }

    #[test]
    fn a_volume_made_raw_stays_raw() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v");
        let mut header = vec![0; 4096];
        header[..8].copy_from_slice(b"QFI\xfb\0\0\0\x02");
        header[20..24].copy_from_slice(&16_u32.to_be_bytes());
        std::fs::write(&path, &header).unwrap();
        assert_eq!(look(dir.path(), "v").unwrap().target.format.as_deref(), Some("qcow2"));
        mark::set(&path, "raw");
        if mark::is_raw(&path) {
            assert_eq!(look(dir.path(), "v").unwrap().target.format.as_deref(), Some("raw"));
            mark::clear(&path);
        }
        assert_eq!(look(dir.path(), "v").unwrap().target.format.as_deref(), Some("qcow2"));
        // What the pool knew as raw is not taken for anything else at a second look either.
        let mut document = look(dir.path(), "v").unwrap();
        document.target.format = Some("raw".into());
        let seen = again(dir.path(), &Volume::new(document)).unwrap();
        assert_eq!((seen.format(), seen.capacity()), ("raw", 4096));
    }
}
