//! Sockets that ports of a guest listen on are made by the daemon and handed to QEMU as descriptors, as the reference
//! does: QEMU's own user may not write in the folder that the document names, and a client may connect from the moment
//! the guest exists.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use virt_error::{Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::chardev::{CharBackend, SocketMode};

use super::dac::Owner;
use crate::guest::plan::output_files;

/// Who may connect, as in the reference: the folder above decides about the rest.
const MODE: u32 = 0o775;

/// The paths of the sockets on which a guest's ports listen, each once.
pub fn paths(live: &Domain) -> Vec<PathBuf> {
    let consoles = live.devices.consoles.iter().map(|c| &c.backend);
    let mut found: Vec<PathBuf> = Vec::new();
    for backend in output_files(live).chain(consoles) {
        if let CharBackend::Unix(unix) = backend
            && unix.mode == Some(SocketMode::Bind)
            && let Some(path) = &unix.path
            && !found.iter().any(|f| f == Path::new(path))
        {
            found.push(path.into());
        }
    }
    found
}

/// The numbers that the sockets get in QEMU, from `first` on, by path.
pub fn numbers(paths: &[PathBuf], first: i32) -> HashMap<String, i32> {
    paths.iter().map(|p| p.display().to_string()).zip(first..).collect()
}

/// Makes a listening socket. A socket that an earlier run left is replaced; anything else is left alone. Blocking.
///
/// # Errors
/// Code 38: the path is too long, taken, or its folder is not there.
pub fn listen(path: &Path, owner: Option<Owner>) -> Result<OwnedFd> {
    let failed =
        |e| Error::system(From::Qemu, format!("Unable to create unix socket '{}'", path.display()), e);
    if fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket()) && !is_served(path) {
        fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    let given = || -> io::Result<()> {
        fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
        owner.map_or(Ok(()), |o| chown(path, Some(o.uid), Some(o.gid)))
    };
    if let Err(e) = given() {
        drop(fs::remove_file(path));
        return Err(failed(e));
    }
    Ok(listener.into())
}

/// Whether somebody listens there: a guest that runs keeps its socket.
fn is_served(path: &Path) -> bool {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let tried = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .and_then(|s| connect(&s, &SocketAddrUnix::new(path)?));
    // A full queue of connections is somebody's too.
    matches!(tried, Ok(()) | Err(rustix::io::Errno::AGAIN))
}

/// Removes the sockets of a run that has ended.
pub fn remove(paths: &[PathBuf]) {
    for path in paths {
        let ours = fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
        if ours
            && let Err(error) = fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %path.display(), "cannot remove what a guest left");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_made_once_and_nothing_else_is_lost() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("port.sock");
        let first = listen(&path, None).expect("made");
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
        assert!(listen(&path, None).is_err(), "somebody listens there");
        drop(first);
        let _second = listen(&path, None).expect("a stale socket is replaced");
        remove(std::slice::from_ref(&path));
        assert!(!path.exists());
        let file = dir.path().join("file");
        fs::write(&file, b"x").expect("written");
        assert!(listen(&file, None).is_err(), "a file is no socket");
        remove(std::slice::from_ref(&file));
        assert_eq!(fs::read(&file).expect("still there"), b"x");
        let long = dir.path().join("x".repeat(200));
        assert!(listen(&long, None).is_err());
    }
}
