//! Binding the sockets of a unit under a root folder.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};

use crate::unit::{Kind, SocketUnit};

/// A unix socket address holds 108 bytes with the closing zero.
pub const PATH_LIMIT: usize = 107;

/// A bound, listening socket.
#[derive(Debug)]
pub struct Listener {
    /// Name the daemon is told.
    pub fd_name: String,
    /// Where it is bound.
    pub path: PathBuf,
    /// The socket; close-on-exec.
    pub fd: OwnedFd,
}

/// Where a unit's path lies under `root`.
#[must_use]
pub fn under(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Binds `unit` under `root`, replacing a socket file nobody serves any more. A `private` one is this user's alone.
///
/// # Errors
/// A path over [`PATH_LIMIT`], or the system's refusal.
pub fn open(root: &Path, unit: &SocketUnit, private: bool) -> Result<Listener> {
    let path = under(root, &unit.path);
    let length = path.as_os_str().len();
    if length > PATH_LIMIT {
        bail!(
            "the socket path {} has {length} bytes, but a unix socket takes at most {PATH_LIMIT}: use a shorter root",
            path.display()
        );
    }
    let mode = if private { unit.mode & 0o700 } else { unit.mode };
    let fd = bound(unit.kind, &path, mode).with_context(|| format!("listening on {}", path.display()))?;
    Ok(Listener { fd_name: unit.fd_name.clone(), path, fd })
}

fn bound(kind: Kind, path: &Path, mode: u32) -> Result<OwnedFd> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
        _ => {}
    }
    let kind = match kind {
        Kind::Stream => SockType::Stream,
        Kind::SeqPacket => SockType::SeqPacket,
    };
    let fd = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &UnixAddr::new(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    listen(&fd, Backlog::new(4096).unwrap_or(Backlog::MAXCONN))?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(path: &str) -> SocketUnit {
        SocketUnit {
            name: "u".into(),
            path: path.into(),
            kind: Kind::Stream,
            mode: 0o600,
            fd_name: "n".into(),
            service: "s".into(),
        }
    }

    #[test]
    fn takes_the_place_of_a_stale_socket_and_sets_its_mode() -> Result<()> {
        let root = tempfile::tempdir()?;
        drop(open(root.path(), &unit("/run/s"), false)?);
        let listener = open(root.path(), &unit("/run/s"), false)?;
        let mode = fs::metadata(&listener.path)?.permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        std::os::unix::net::UnixStream::connect(&listener.path)?;
        Ok(())
    }

    #[test]
    fn a_long_root_is_refused_with_its_length() {
        let root = PathBuf::from(format!("/tmp/{}", "r".repeat(120)));
        let text = open(&root, &unit("/run/s"), false).unwrap_err().to_string();
        assert!(text.contains("131 bytes") && text.contains("107"), "{text}");
        assert!(!root.exists());
    }
}
