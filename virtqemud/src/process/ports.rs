//! TCP ports for displays, never given out twice.
//!
//! A port counts as free when it can be bound on the wildcard address of both families, as libvirt tries it. Between
//! our try and QEMU's own bind another daemon could take the port, so a lock file per port, shared by all daemons of
//! the host whatever their root, is held while the guest runs.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use virt_error::{Domain, Error, Result};

/// The ports of one kind of display.
pub struct Ports {
    /// "VNC" in error texts.
    what: &'static str,
    range: RangeInclusive<u16>,
    locks: PathBuf,
    taken: Mutex<BTreeMap<u16, Option<File>>>,
}

/// A port in use; dropping it frees the port.
pub struct Port {
    number: u16,
    ports: Arc<Ports>,
}

impl Ports {
    /// `locks` is the folder of lock files; it is the same for all daemons of a host.
    pub fn new(what: &'static str, range: RangeInclusive<u16>, locks: PathBuf) -> Arc<Self> {
        Arc::new(Self { what, range, locks, taken: Mutex::new(BTreeMap::new()) })
    }

    /// The lowest free port. Blocking, a few system calls.
    pub fn take(self: &Arc<Self>) -> Result<Port> {
        for number in self.range.clone() {
            if self.taken.lock().contains_key(&number) {
                continue;
            }
            let Some(lock) = self.lock(number) else { continue };
            if !is_free(number).map_err(|e| Error::system(Domain::None, "cannot open a socket", e))? {
                continue;
            }
            if let std::collections::btree_map::Entry::Vacant(slot) = self.taken.lock().entry(number) {
                slot.insert(lock);
                return Ok(Port { number, ports: self.clone() });
            }
        }
        let text = format!(
            "Unable to find an unused port in range '{}' ({}-{})",
            self.what,
            self.range.start(),
            self.range.end()
        );
        Err(Error::internal(Domain::None, text))
    }

    /// Marks a port that a guest uses already: one that its document names, or of a guest that was adopted.
    pub fn mark(self: &Arc<Self>, number: u16) -> Option<Port> {
        let lock = self.lock(number).flatten();
        let mut taken = self.taken.lock();
        if taken.contains_key(&number) {
            return None;
        }
        taken.insert(number, lock);
        Some(Port { number, ports: self.clone() })
    }

    /// `None`: another daemon has it. `Some(None)`: locks do not work here, the bind decides alone.
    fn lock(&self, number: u16) -> Option<Option<File>> {
        let path = self.locks.join(number.to_string());
        let file = match OpenOptions::new().create(true).append(true).mode(0o666).open(path) {
            Ok(file) => file,
            Err(_) => return Some(None),
        };
        flock(&file, FlockOperation::NonBlockingLockExclusive).ok().map(|()| Some(file))
    }
}

impl Port {
    /// The port.
    pub fn number(&self) -> u16 {
        self.number
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.ports.taken.lock().remove(&self.number);
    }
}

fn is_free(number: u16) -> io::Result<bool> {
    let v4 = SocketAddr::V4(SocketAddrV4::new([0, 0, 0, 0].into(), number));
    let v6 = SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, number, 0, 0));
    Ok(can_bind(AddressFamily::INET, v4)? && can_bind(AddressFamily::INET6, v6)?)
}

fn can_bind(family: AddressFamily, address: SocketAddr) -> io::Result<bool> {
    let socket = match rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None) {
        Ok(socket) => socket,
        // A host without this family cannot have the port taken in it.
        Err(rustix::io::Errno::AFNOSUPPORT) => return Ok(true),
        Err(e) => return Err(e.into()),
    };
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if family == AddressFamily::INET6 {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    match rustix::net::bind(&socket, &address) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::ADDRINUSE) => Ok(false),
        Err(rustix::io::Errno::ADDRNOTAVAIL) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_given_once_and_come_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("bound");
        let busy = listener.local_addr().expect("address").port();
        let end = busy.saturating_add(20);
        let ports = Ports::new("VNC", busy..=end, dir.path().into());
        let first = ports.take().expect("a free port");
        assert!(first.number() > busy, "a port in use is passed over");
        let second = ports.take().expect("another free port");
        assert!(second.number() > first.number());
        let other = Ports::new("VNC", busy..=end, dir.path().into());
        let third = other.take().expect("a port of another daemon");
        assert!(third.number() > second.number(), "another daemon's ports are passed over");
        let number = first.number();
        drop(first);
        assert_eq!(ports.take().expect("free again").number(), number);
    }

    #[test]
    fn a_full_range_is_an_error() {
        let dir = tempfile::tempdir().expect("a folder");
        let listener = std::net::TcpListener::bind(("0.0.0.0", 0)).expect("bound");
        let busy = listener.local_addr().expect("address").port();
        let ports = Ports::new("vnc", busy..=busy, dir.path().into());
        let e = ports.take().map(|p| p.number()).expect_err("none left");
        assert_eq!(
            e.message(),
            format!("internal error: Unable to find an unused port in range 'vnc' ({busy}-{busy})")
        );
        let held = ports.mark(busy);
        assert!(held.is_some() && ports.mark(busy).is_none());
    }
}
