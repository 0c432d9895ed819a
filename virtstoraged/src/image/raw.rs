//! Raw images: plain files, sparse or filled, and copies of files.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, ioctl_ficlone, seek};
use virt_error::{Domain, Error, Result};

use crate::backend::Cx;

/// How much is copied between two looks at the cancel switch.
const STEP: usize = 8 * 1024 * 1024;
/// The unit of holes that are found by looking at zeros.
const BLOCK: usize = 64 * 1024;

fn failed(what: &str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    let text = format!("{what} '{}'", path.display());
    move |e| Error::system(Domain::Storage, &text, e)
}

/// Makes a file that did not exist, only for its owner.
///
/// # Errors
/// Code 38.
pub fn make(path: &Path) -> Result<File> {
    let made = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    made.map_err(failed("cannot create path", path))
}

/// Gives a file its size and takes `allocation` bytes for it.
///
/// # Errors
/// Code 38, also for a full disk.
pub fn size(file: &File, path: &Path, capacity: u64, allocation: u64) -> Result<()> {
    file.set_len(capacity).map_err(failed("cannot extend file", path))?;
    allocate(file, path, 0, allocation)
}

/// Takes bytes of the disk for a file's part; writes zeros where the file system has no call for it.
///
/// # Errors
/// Code 38, also for a full disk.
pub fn allocate(file: &File, path: &Path, from: u64, length: u64) -> Result<()> {
    if length == 0 {
        return Ok(());
    }
    let what = format!("cannot allocate {length} bytes in file");
    match fallocate(file, FallocateFlags::empty(), from, length) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP) => {
            use std::os::unix::fs::FileExt;
            let zeros = vec![0; BLOCK];
            let mut at = from;
            while at < from + length {
                let n = usize::try_from(from + length - at).unwrap_or(BLOCK).min(BLOCK);
                file.write_all_at(&zeros[..n], at).map_err(failed(&what, path))?;
                at += n as u64;
            }
            Ok(())
        }
        Err(e) => Err(failed(&what, path)(e.into())),
    }
}

/// Makes `to` share `from`'s blocks.
///
/// # Errors
/// Code 38 when the file system cannot.
pub fn reflink(from: &File, from_path: &Path, to: &File) -> Result<()> {
    ioctl_ficlone(to, from).map_err(|e| failed("failed to clone files from", from_path)(e.into()))
}

/// Copies all of `from`; holes stay holes, blocks of zeros become holes when `sparse`.
///
/// # Errors
/// Code 38, also for a full disk; code 78 when cancelled.
pub fn copy(
    from: &File,
    from_path: &Path,
    to: &File,
    to_path: &Path,
    sparse: bool,
    cx: &Cx<'_>,
) -> Result<u64> {
    let reading = failed("failed reading from file", from_path);
    let writing = failed("failed writing to file", to_path);
    // Block devices tell their size only this way.
    let length = seek(from, SeekFrom::End(0)).map_err(|e| reading(e.into()))?;
    let regular = to.metadata().map_err(&writing)?.is_file();
    if regular {
        to.set_len(length).map_err(&writing)?;
    }
    cx.progress.expect(length);
    let mut buffer = vec![0; STEP];
    let mut at = 0;
    while at < length {
        cx.cancel.check(Domain::Storage)?;
        // The next part with data; a file system that knows no holes says: here.
        let data = match seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) if sparse => break,
            Err(_) => at,
        };
        at = if sparse { data } else { at };
        seek(from, SeekFrom::Start(at)).map_err(|e| reading(e.into()))?;
        let n = fill(from, &mut buffer).map_err(&reading)?;
        if n == 0 {
            break;
        }
        write(to, at, &buffer[..n], sparse && regular).map_err(&writing)?;
        at += n as u64;
        cx.progress.reach(at);
    }
    cx.progress.reach(length);
    Ok(length)
}

fn fill(mut from: &File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

fn write(mut to: &File, at: u64, bytes: &[u8], holes: bool) -> std::io::Result<()> {
    let zeros = [0; BLOCK];
    for (n, block) in bytes.chunks(BLOCK).enumerate() {
        if holes && *block == zeros[..block.len()] {
            continue;
        }
        seek(to, SeekFrom::Start(at + (n * BLOCK) as u64))?;
        to.write_all(block)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::NoKeys;
    use std::os::unix::fs::MetadataExt;
    use virt_host::tool::{Cancel, RecordedTools};

    #[test]
    fn a_copy_keeps_content_and_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let from = make(&a).unwrap();
        size(&from, &a, 20 << 20, 0).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&from, b"middle", 9 << 20).unwrap();
        let to = make(&b).unwrap();
        let tools = RecordedTools::new([]);
        let cx = Cx::new(&tools, &NoKeys, Cancel::default());
        assert_eq!(copy(&from, &a, &to, &b, true, &cx).unwrap(), 20 << 20);
        assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
        assert!(to.metadata().unwrap().blocks() * 512 < 1 << 20);
        cx.cancel.cancel();
        assert!(copy(&from, &a, &to, &b, true, &cx).is_err());
        assert!(make(&b).is_err(), "an existing file is never taken");
        allocate(&to, &b, 0, 20 << 20).unwrap();
        assert!(to.metadata().unwrap().blocks() * 512 >= 20 << 20);
    }
}
