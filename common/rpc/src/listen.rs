//! Listening unix sockets: inherited from systemd by name, or bound by path.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use virt_error::{Domain, Error, Result};

/// The longest path of a unix socket, without the closing zero byte.
pub const MAX_PATH: usize = 107;
const BACKLOG: i32 = 512;

/// What kind of socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// gRPC and libvirt's own protocol.
    Stream,
    /// The descriptor channel.
    SeqPacket,
}

/// A socket to listen on.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The name systemd's socket unit gives it (FileDescriptorName=); by convention the file's own name.
    pub name: String,
    /// Where to bind it when it was not inherited.
    pub path: PathBuf,
    /// Stream or seqpacket.
    pub kind: Kind,
    /// Permission bits of the file when bound here.
    pub mode: u32,
    /// Group of the file when bound here; `None` keeps the process's.
    pub group: Option<u32>,
}

/// A listening socket that does not block.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    guard: Guard,
}

/// The sockets systemd handed over. Take it from the environment once, before the first thread starts.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(String, OwnedFd)>);

impl Inherited {
    /// With these sockets; the daemon crate reads them from the environment.
    pub fn new(sockets: Vec<(String, OwnedFd)>) -> Self {
        Self(sockets)
    }

    /// Whether systemd started us by socket activation.
    pub fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// Names that nobody took: a unit file and the daemon disagree.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Takes the socket of this name, or binds the path.
    pub fn take_or_bind(&mut self, spec: &Spec) -> Result<Listener> {
        match self.0.iter().position(|(name, _)| *name == spec.name) {
            Some(at) => adopt(self.0.remove(at).1, spec),
            None => bind(spec),
        }
    }

    /// Takes the socket of this name if it was handed over.
    pub fn take(&mut self, spec: &Spec) -> Result<Option<Listener>> {
        let at = self.0.iter().position(|(name, _)| *name == spec.name);
        at.map(|at| adopt(self.0.remove(at).1, spec)).transpose()
    }
}

impl Listener {
    /// For tokio. A seqpacket listener fits too: accepting is the same. The guard removes the file of a socket that
    /// was bound here.
    pub fn into_tokio(self) -> Result<(tokio::net::UnixListener, Guard)> {
        let listener = tokio::net::UnixListener::from_std(self.socket.into());
        let listener =
            listener.map_err(|e| Error::system(Domain::Rpc, "cannot use a listening socket", e))?;
        Ok((listener, self.guard))
    }
}

/// Removes the file of a socket that was bound here (not of an inherited one).
#[derive(Debug)]
pub struct Guard(Option<PathBuf>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            let _ = fs::remove_file(path);
        }
    }
}

/// Refuses a socket path that the kernel could not bind, with a clear text.
pub fn check_path(path: &Path) -> Result<()> {
    let length = path.as_os_str().len();
    if length <= MAX_PATH {
        return Ok(());
    }
    let text = format!("socket path '{}' has {length} bytes, the limit is {MAX_PATH}", path.display());
    Err(Error::internal(Domain::Rpc, text))
}

fn adopt(socket: OwnedFd, spec: &Spec) -> Result<Listener> {
    let failed =
        |e: io::Error| Error::system(Domain::Rpc, format!("cannot use inherited socket '{}'", spec.name), e);
    let wanted = socket_type(spec.kind);
    let found = rustix::net::sockopt::socket_type(&socket).map_err(|e| failed(e.into()))?;
    if found != wanted {
        return Err(Error::internal(
            Domain::Rpc,
            format!("inherited socket '{}' is of the wrong type", spec.name),
        ));
    }
    rustix::io::ioctl_fionbio(&socket, true).map_err(|e| failed(e.into()))?;
    Ok(Listener { socket, guard: Guard(None) })
}

fn bind(spec: &Spec) -> Result<Listener> {
    check_path(&spec.path)?;
    let path = &spec.path;
    let failed = |e: io::Error| {
        Error::system(Domain::Rpc, format!("Failed to bind socket to '{}'", path.display()), e)
    };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    remove_stale(path).map_err(failed)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, socket_type(spec.kind), flags, None)
        .map_err(|e| failed(e.into()))?;
    let address = SocketAddrUnix::new(path.as_path()).map_err(|e| failed(e.into()))?;
    rustix::net::bind(&socket, &address).map_err(|e| failed(e.into()))?;
    let bound = Listener { socket, guard: Guard(Some(path.clone())) };
    if spec.group.is_some() {
        std::os::unix::fs::chown(path, None, spec.group).map_err(failed)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(spec.mode)).map_err(failed)?;
    // Nobody can connect before this call, whatever the mode was until now.
    rustix::net::listen(&bound.socket, BACKLOG).map_err(|e| failed(e.into()))?;
    Ok(bound)
}

/// A socket file that nobody listens on is left over from a daemon that was killed. Anything else stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(meta) if meta.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
    }
}

fn socket_type(kind: Kind) -> SocketType {
    match kind {
        Kind::Stream => SocketType::STREAM,
        Kind::SeqPacket => SocketType::SEQPACKET,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(path: PathBuf) -> Spec {
        Spec { name: "x".into(), path, kind: Kind::Stream, mode: 0o660, group: None }
    }

    #[test]
    fn binds_over_a_stale_socket_and_cleans_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/x.sock");
        let first = bind(&spec(path.clone())).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        std::mem::forget(first);
        drop(bind(&spec(path.clone())).unwrap());
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        let error = bind(&spec(path.clone())).unwrap_err();
        assert!(error.message().starts_with("Failed to bind socket to '"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn long_paths_are_named() {
        let error = bind(&spec(PathBuf::from(format!("/tmp/{}", "x".repeat(120))))).unwrap_err();
        assert!(error.message().contains("has 125 bytes, the limit is 107"), "{error}");
    }

    #[test]
    fn inherited_sockets_are_found_by_name_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let socket = || OwnedFd::from(std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap());
        let mut inherited = Inherited::new(vec![("x".into(), socket())]);
        assert!(inherited.take_or_bind(&spec(dir.path().join("unused"))).unwrap().guard.0.is_none());
        assert!(!inherited.any());
        fs::remove_file(dir.path().join("s")).unwrap();
        let mut inherited = Inherited::new(vec![("x".into(), socket())]);
        let wrong = Spec { kind: Kind::SeqPacket, ..spec(dir.path().join("unused")) };
        assert!(inherited.take(&wrong).is_err());
    }
}
