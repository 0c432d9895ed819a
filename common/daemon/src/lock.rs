//! Pid files with a lock, as the reference uses them: two daemons never share one root.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use virt_error::{Domain, Error, Result};

/// A locked pid file; the lock ends with the process or when this is dropped.
///
/// The lock is a record lock on the whole file, which also excludes the reference's daemons: they lock
/// `<run>/qemu/driver.pid` and its like the same way.
#[derive(Debug)]
pub struct PidFile {
    _file: File,
}

impl PidFile {
    /// Locks `path` and writes our process number. Error (text of the reference): another daemon holds it.
    pub fn acquire(path: &Path) -> Result<Self> {
        lock(path).map(|file| Self { _file: file }).map_err(|e| {
            Error::system(Domain::None, format!("Failed to acquire pid file '{}'", path.display()), e)
        })
    }
}

fn lock(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path)?;
    let whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // An open-file lock conflicts with a classic one, but is not lost when some other code opens and closes the file.
    fcntl(&file, FcntlArg::F_OFD_SETLK(&whole))?;
    file.set_len(0)?;
    write!(file, "{}", std::process::id())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x/driver.pid");
        let held = PidFile::acquire(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), std::process::id().to_string());
        let error = PidFile::acquire(&path).unwrap_err();
        let expected =
            format!("Failed to acquire pid file '{}': Resource temporarily unavailable", path.display());
        assert_eq!(error.message(), expected);
        drop(held);
        PidFile::acquire(&path).unwrap();
    }
}
