//! The listening sockets and the clients that come through them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use virt_daemon::{Context, Mode};
use virt_error::Result;
use virt_object::busy::Busy;
use virt_rpc::listen::{Guard, Kind, Spec};

use crate::client;
use crate::house::House;
use crate::limits::Limits;
use crate::link::Entry;
use crate::route::Daemon;

/// The group whose members may use the read-write sockets.
const GROUP: &str = "libvirt";
/// After a failed accept (no descriptors left) others get time to close theirs.
const PAUSE: Duration = Duration::from_millis(100);

/// Sockets we bind ourselves when systemd hands none over, with what they serve. The names of the other daemons'
/// sockets are served too when systemd passes them.
const OWN: [(&str, Option<Daemon>); 2] = [("libvirt-sock", None), ("virtqemud-sock", Some(Daemon::Qemu))];

/// A bound socket, ready to accept.
pub struct Door {
    listener: UnixListener,
    entry: Entry,
    _guard: Guard,
}

/// All sockets of the daemon: inherited ones by name, our own ones bound where they were not inherited.
pub fn doors(context: &mut Context) -> Result<Vec<Door>> {
    let system = context.paths.mode == Mode::System;
    let group = nix::unistd::Group::from_name(GROUP).ok().flatten().map(|g| g.gid.as_raw());
    let group = group.filter(|_| system && nix::unistd::geteuid().is_root());
    let activated = context.inherited.any();
    let mut doors = Vec::new();
    for (path, read_only) in context.paths.legacy_sockets() {
        // A session has no read-only side: it is one user's own.
        if read_only && !system {
            continue;
        }
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        let (mode, group) = match (system, read_only) {
            (false, _) => (0o600, None),
            (true, true) => (0o666, group),
            (true, false) => (if group.is_some() { 0o660 } else { 0o600 }, group),
        };
        let spec = Spec { name: name.to_string(), path: path.clone(), kind: Kind::Stream, mode, group };
        let base = name.strip_suffix("-ro").unwrap_or(name);
        let ours = OWN.iter().any(|(n, _)| *n == base);
        let listener = match context.inherited.take(&spec)? {
            Some(listener) => listener,
            None if ours && !activated => context.inherited.take_or_bind(&spec)?,
            None => continue,
        };
        let (listener, guard) = listener.into_tokio()?;
        let entry = Entry { name: name.to_string(), read_only, only: only(base) };
        doors.push(Door { listener, entry, _guard: guard });
    }
    Ok(doors)
}

/// The hypervisor a driver's own socket is for.
fn only(base: &str) -> Option<Daemon> {
    Daemon::ALL.into_iter().find(|d| d.is_hypervisor() && base.strip_suffix("-sock") == Some(d.name()))
}

/// A door on a socket that exists already, for tests and embedding.
pub fn door(path: &Path, entry: Entry) -> Result<Door> {
    let spec =
        Spec { name: entry.name.clone(), path: path.into(), kind: Kind::Stream, mode: 0o600, group: None };
    let (listener, guard) = virt_rpc::listen::Inherited::default().take_or_bind(&spec)?.into_tokio()?;
    Ok(Door { listener, entry, _guard: guard })
}

/// How many clients each side may have. The daemon does not leave while one is in.
#[derive(Clone)]
pub struct Room {
    read_only: Arc<Semaphore>,
    read_write: Arc<Semaphore>,
    busy: Busy,
}

impl Room {
    /// Room for `max_clients` on either side.
    pub fn new(limits: &Limits, busy: Busy) -> Self {
        let side = || Arc::new(Semaphore::new(limits.clients));
        Self { read_only: side(), read_write: side(), busy }
    }
}

/// Accepts clients for ever. A full house lets new ones wait in the socket's queue, as the reference does.
pub async fn accept(door: Door, house: Arc<House>, room: Room) {
    let side = if door.entry.read_only { room.read_only } else { room.read_write };
    loop {
        let Ok(place) = side.clone().acquire_owned().await else { return };
        match door.listener.accept().await {
            Ok((stream, _)) => {
                let (entry, house) = (door.entry.clone(), house.clone());
                let stay = room.busy.token();
                tokio::spawn(async move {
                    client::serve(stream, entry, house).await;
                    drop((place, stay));
                });
            }
            Err(error) => {
                tracing::warn!(%error, socket = door.entry.name, "cannot accept a client");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
