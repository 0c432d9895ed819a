//! Single files: replaced whole, removed without waiting for the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};
use virt_error::{Domain, Error, Result};

/// The longest document read back; the same as the longest message.
const MAX_FILE: u64 = 32 * 1024 * 1024;
/// Removed files whose blocks are not freed yet.
const MAX_REMOVED: usize = 256;
/// How long removed files gather before their blocks are freed together.
const GATHER: Duration = Duration::from_millis(10);
/// `EXT4_SUPER_MAGIC` of the kernel's public header `linux/magic.h`.
const EXT4: i64 = 0xEF53;
/// How the name of a document ends until it is whole.
pub(super) const UNFINISHED: &str = ".xml.new";

/// Writes a file whole: for status files and the like too. Without `durable` it survives a crash of the daemon but not
/// a power cut, which is all that files under /run need.
pub fn write_whole(path: &Path, parts: &[&[u8]], durable: bool) -> io::Result<()> {
    let temp = beside(path);
    let file = create(&temp, parts)?;
    if durable {
        sync_new(&file, &temp)?;
    }
    fs::rename(&temp, path)?;
    match path.parent().filter(|_| durable) {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// What `read` makes of every `.xml` file in `dir`: status files, at the start. One that cannot be used is logged and left
/// alone; one that was never whole, for its writer was killed, is removed. `domain` is for errors.
///
/// # Errors
/// Code 38 when the folder cannot be read.
pub fn load_whole<T>(dir: &Path, domain: Domain, mut read: impl FnMut(&Path) -> Result<T>) -> Result<Vec<T>> {
    let unreadable = |e| Error::system(domain, format!("cannot read '{}'", dir.display()), e);
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.to_str().is_some_and(|p| p.ends_with(UNFINISHED)) {
            fs::remove_file(&path).map_err(unreadable)?;
        }
        if path.extension().is_none_or(|e| e != "xml") {
            continue;
        }
        match read(&path) {
            Ok(one) => all.push(one),
            Err(error) => tracing::error!(?error, path = %path.display(), "a status file cannot be used"),
        }
    }
    Ok(all)
}

/// The name a file has until it is whole.
pub(super) fn beside(path: &Path) -> PathBuf {
    let mut temp = path.as_os_str().to_owned();
    temp.push(".new");
    PathBuf::from(temp)
}

/// Makes a file that only root may read. A full disk leaves no stump behind.
pub(super) fn create(path: &Path, parts: &[&[u8]]) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let written = parts.iter().try_for_each(|part| file.write_all(part));
    written.inspect_err(|_| drop(fs::remove_file(path)))?;
    Ok(file)
}

/// Brings a new file to the disk, or removes it.
pub(super) fn sync_new(file: &File, path: &Path) -> io::Result<()> {
    file.sync_all().inspect_err(|_| drop(fs::remove_file(path)))
}

/// Whether one fsync of a file that was just renamed brings its new name to the disk as well.
///
/// The manual asks for an fsync of the folder. ext4's journal has the rename in the transaction that the file's fsync
/// waits for, so the second would commit an empty one.
pub(super) fn sync_carries_name(file: &File) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|fs| fs.f_type == EXT4)
}

/// Reads a document back.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let size = fs::metadata(path)?.len();
    if size > MAX_FILE {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    fs::read_to_string(path)
}

/// Removes a file. The name is gone when this returns; the blocks are freed by a thread of their own, because a disk
/// that is told of freed blocks at once (mount option `discard`) takes milliseconds for it.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    // A file that is open somewhere keeps its blocks.
    let open =
        rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    fs::remove_file(path)?;
    if let (Ok(file), Some(freed)) = (open, freed()) {
        match freed.try_send(file) {
            // Full: whoever removes so much waits for the disk.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
    Ok(())
}

fn freed() -> Option<&'static SyncSender<OwnedFd>> {
    static FREED: OnceLock<Option<SyncSender<OwnedFd>>> = OnceLock::new();
    let start = || {
        let (send, receive) = sync_channel::<OwnedFd>(MAX_REMOVED);
        // Wakes for the first file and then takes what came meanwhile: a wake-up costs the remover more than the name.
        let close = move || {
            while let Ok(first) = receive.recv() {
                std::thread::sleep(GATHER);
                drop(first);
                receive.try_iter().for_each(drop);
            }
        };
        std::thread::Builder::new().name("freed-files".into()).spawn(close).ok().map(|_| send)
    };
    FREED.get_or_init(start).as_ref()
}
