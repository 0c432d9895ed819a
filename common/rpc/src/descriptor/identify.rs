//! Checks a client's socket that virtproxyd hands over, and reads who the client is.
//!
//! virtproxyd is unprivileged and could be taken over, so it vouches for nobody. The kernel does: SO_PEERCRED of an
//! *accepted* socket names the process that connected. The checks make sure that it is one:
//!
//! - a connected unix stream socket that does not listen;
//! - its own name is the path of a known libvirt listening socket. Only the accepting end bears the listener's name: an end
//!   made by connect() or socketpair() is unnamed. So a taken-over proxy cannot pass off its own connection to some
//!   service of root (whose SO_PEERCRED says uid 0) as a client of libvirt;
//! - the other end still holds the connection.
//!
//! What is left to a taken-over proxy: to act as the clients that are connected to it at that time. See
//! docs/adr/0003-sessions-and-descriptor-channel.md.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{UnixAddr, getpeername, getsockname, getsockopt, sockopt};
use rustix::net::{AddressFamily, SocketType};
use virt_api::session::v1alpha1::Identify;
use virt_error::{Code, Domain, Error, Result};

use crate::caller::{Asserted, Identity};
use crate::peer::Peer;

/// A listening socket whose clients may be handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSocket {
    /// Its path, as bound.
    pub path: PathBuf,
    /// Its clients may only look.
    pub read_only: bool,
}

/// What virtproxyd is believed.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The libvirt sockets whose clients may be handed over.
    pub sockets: Vec<KnownSocket>,
    /// The users virtproxyd runs as. They may assert SASL and TLS names (root and the daemon's own user may too), and they
    /// are nobody by themselves: their calls need a session that was opened with a token.
    pub proxies: Vec<u32>,
}

/// Who the client is, for an Identify request of `sender`.
pub(super) fn identify(
    request: Identify,
    socket: Option<BorrowedFd<'_>>,
    sender: Peer,
    trust: &Trust,
) -> Result<Identity> {
    let asserted = asserted_name(&request, sender, trust)?;
    let Some(socket) = socket else {
        if asserted.is_none() {
            return Err(refused("it has neither a socket nor a name"));
        }
        return Ok(Identity { unix: None, asserted, read_only: request.read_only });
    };
    let listener =
        check(socket, &trust.sockets).map_err(|e| refused("its socket cannot be read").with_source(e))??;
    let unix = Peer::of(socket).map_err(|e| refused("its credentials cannot be read").with_source(e))?;
    let read_only = request.read_only || listener.read_only;
    Ok(Identity { unix: Some(unix), asserted, read_only })
}

fn asserted_name(request: &Identify, sender: Peer, trust: &Trust) -> Result<Option<Asserted>> {
    if request.asserted_name.is_empty() {
        return Ok(None);
    }
    let own = rustix::process::geteuid().as_raw();
    if sender.uid != 0 && sender.uid != own && !trust.proxies.contains(&sender.uid) {
        return Err(refused("this user may not assert names"));
    }
    if !matches!(request.mechanism.as_str(), "sasl" | "tls") {
        return Err(refused("its name was proved by an unknown mechanism"));
    }
    if request.asserted_name.len() > 1024 || request.asserted_name.chars().any(char::is_control) {
        return Err(refused("its name is not acceptable"));
    }
    let (mechanism, name) = (request.mechanism.clone(), request.asserted_name.clone());
    Ok(Some(Asserted { mechanism, name }))
}

fn check<'k>(socket: BorrowedFd<'_>, known: &'k [KnownSocket]) -> io::Result<Result<&'k KnownSocket>> {
    let family = rustix::net::sockopt::socket_domain(socket)?;
    let kind = rustix::net::sockopt::socket_type(socket)?;
    if family != AddressFamily::UNIX || kind != SocketType::STREAM {
        return Ok(Err(refused("its descriptor is not a unix stream socket")));
    }
    if getsockopt(&socket, sockopt::AcceptConn)? {
        return Ok(Err(refused("its socket listens")));
    }
    if getpeername::<UnixAddr>(std::os::fd::AsRawFd::as_raw_fd(&socket)).is_err() || hung_up(socket)? {
        return Ok(Err(refused("its socket is not connected")));
    }
    let name: UnixAddr = getsockname(std::os::fd::AsRawFd::as_raw_fd(&socket))?;
    let listener = known.iter().find(|k| name.path() == Some(&k.path));
    Ok(listener.ok_or_else(|| refused("its socket was not accepted by a libvirt listener")))
}

fn hung_up(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let mut poll = [PollFd::new(socket.as_fd(), PollFlags::empty())];
    let timeout = PollTimeout::try_from(Duration::ZERO).unwrap_or(PollTimeout::ZERO);
    nix::poll::poll(&mut poll, timeout)?;
    Ok(poll[0].revents().is_some_and(|r| r.intersects(PollFlags::POLLHUP | PollFlags::POLLERR)))
}

fn refused(why: &str) -> Error {
    Error::new(Code::AuthFailed, Domain::Rpc, format!("cannot identify the client: {why}"))
}
