//! The sockets systemd handed over, by their names.

use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use nix::libc;
use virt_error::{Domain, Error, Result};
use virt_rpc::listen::Inherited;

/// Takes them from the environment; once, before any other thread runs.
pub(crate) fn sockets() -> Result<Inherited> {
    // Read before listenfd, which removes its own variables.
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut listed = ListenFd::from_env();
    let mut names = names.split(':');
    let mut sockets = Vec::new();
    for at in 0..listed.len() {
        let name = names.next().unwrap_or("unknown").to_string();
        let failed = |e| Error::system(Domain::None, format!("cannot use inherited descriptor '{name}'"), e);
        // A try with the wrong type leaves the descriptor in its place.
        let stream = listed.take_custom::<OwnedFd>(at, libc::AF_UNIX, libc::SOCK_STREAM, "unix stream");
        let socket = match stream {
            Ok(socket) => socket,
            Err(_) => listed
                .take_custom::<OwnedFd>(at, libc::AF_UNIX, libc::SOCK_SEQPACKET, "unix seqpacket")
                .or_else(|_| listed.take_tcp_listener(at).map(|l| l.map(OwnedFd::from)))
                .map_err(failed)?,
        };
        sockets.extend(socket.map(|s| (name, s)));
    }
    Ok(Inherited::new(sockets))
}
