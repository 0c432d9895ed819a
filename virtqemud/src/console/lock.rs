//! Lock files of terminals, as programs that use serial lines keep them: `/var/lock/LCK.._pts_3` with the number of the
//! process that has the terminal. A tool that opens a guest's terminal by itself sees that it is taken, and so do we.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use virt_error::{Code, Domain as From, Error, Result};
use virt_host::process::Process;

/// Files of ours, each with the number of the lock that it stands for: a console that is taken by force gets a new one
/// before the old one is given back.
static OURS: Mutex<BTreeMap<PathBuf, u64>> = Mutex::new(BTreeMap::new());

/// A terminal that is ours; the file goes when this is dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    number: u64,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut ours = OURS.lock();
        if ours.get(&self.path) != Some(&self.number) {
            return;
        }
        ours.remove(&self.path);
        // Another process may have taken a file that it found stale.
        if holder(&self.path) == i32::try_from(std::process::id()).ok() {
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Locks a terminal in `folder`. A file of a process that is gone is replaced. Blocking, a few system calls.
///
/// # Errors
/// Code 9 when another process has it, code 38 when the file cannot be made.
pub fn take(folder: &Path, terminal: &str) -> Result<Lock> {
    let name = terminal.strip_prefix("/dev").unwrap_or(terminal).replace('/', "_");
    let path = folder.join(format!("LCK..{name}"));
    let failed = |e| {
        Error::system(
            From::None,
            format!("Couldn't create lock file for device '{terminal}' in path '{}'", path.display()),
            e,
        )
    };
    let mut ours = OURS.lock();
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    // Twice: once more after a stale file was removed.
    for _ in 0..2 {
        let made = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path);
        match made {
            Ok(mut file) => {
                file.write_all(format!("{own:10}\n").as_bytes()).map_err(failed)?;
                let number = ours.values().max().map_or(1, |n| n + 1);
                ours.insert(path.clone(), number);
                return Ok(Lock { path, number });
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(failed(e)),
        }
        if let Some(pid) = holder(&path).filter(|pid| *pid != own && is_alive(*pid)) {
            let text = format!(
                "Requested console pty '{terminal}' is locked by lock file '{}' held by process {pid}",
                path.display()
            );
            return Err(Error::new(Code::OperationFailed, From::None, text));
        }
        fs::remove_file(&path).map_err(failed)?;
    }
    Err(failed(io::ErrorKind::AlreadyExists.into()))
}

fn holder(path: &Path) -> Option<i32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A process of another user cannot be opened but is there.
fn is_alive(pid: i32) -> bool {
    match Process::open(pid) {
        Ok(process) => process.is_alive(),
        Err(e) => e.raw_os_error() != Some(rustix::io::Errno::SRCH.raw_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_one_user() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("LCK.._pts_7");
        let lock = take(dir.path(), "/dev/pts/7").expect("free");
        assert_eq!(fs::read_to_string(&path).expect("a file"), format!("{:10}\n", std::process::id()));
        let second = take(dir.path(), "/dev/pts/7").expect("taken over by the same daemon");
        drop(lock);
        assert!(path.exists(), "the newer one is still held");
        drop(second);
        assert!(!path.exists());
        // Process 1 is always there.
        fs::write(&path, "         1\n").expect("written");
        let e = take(dir.path(), "/dev/pts/7").expect_err("held by another");
        assert!(e.message().contains("held by process 1"), "{e}");
        fs::write(&path, format!("{:10}\n", i32::MAX)).expect("written");
        drop(take(dir.path(), "/dev/pts/7").expect("a stale file is replaced"));
        fs::write(&path, "no number").expect("written");
        drop(take(dir.path(), "/dev/pts/7").expect("so is one without sense"));
        assert!(take(Path::new("/no/such/folder"), "/dev/pts/7").is_err());
    }
}
