//! Consoles and channels: bytes between a client's descriptor and a port of the guest.
//!
//! The client gets one end of a socket pair; a task moves bytes between the other end and the port until either side
//! closes, another client takes the port by force, or the guest ends. A slow side holds the other up, nothing is lost.

mod lock;
mod pty;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::chardev::{ChannelTarget, CharBackend};
use virt_object::blocking;

use crate::guest::{Guest, not_running};

/// A port of a running guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its device's alias.
    pub alias: String,
    /// How it is reached.
    pub way: Way,
}

/// How a port is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// A pseudo terminal.
    Pty(String),
    /// A unix socket that QEMU listens on.
    Unix(String),
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A console or serial port.
    Console,
    /// A channel.
    Channel,
}

/// The port a request names: by alias, or the first one; a channel also by its name in the guest.
///
/// Errors: code 1 in the reference's words.
pub fn find(live: &Domain, what: What, wanted: Option<&str>) -> Result<Port> {
    match what {
        What::Console => console(live, wanted),
        What::Channel => channel(live, wanted),
    }
}

fn console(live: &Domain, wanted: Option<&str>) -> Result<Port> {
    let d = &live.devices;
    let consoles = d.consoles.iter().map(|c| (&c.info.alias, &c.backend));
    let serials = d.serials.iter().map(|c| (&c.info.alias, &c.backend));
    let parallels = d.parallels.iter().map(|c| (&c.info.alias, &c.backend));
    let mut all = consoles.chain(serials).chain(parallels);
    let found = match wanted {
        None => all.next(),
        Some(wanted) => all.find(|(alias, _)| alias.as_deref() == Some(wanted)),
    };
    let none = || {
        Error::internal(From::Qemu, format!("cannot find character device {}", wanted.unwrap_or("<null>")))
    };
    let (alias, backend) = found.ok_or_else(none)?;
    let alias = alias.clone().unwrap_or_default();
    let not_pty = || Error::internal(From::Qemu, format!("character device {alias} is not using a PTY"));
    let way = match backend {
        CharBackend::Pty(pty) => Way::Pty(pty.path.clone().ok_or_else(not_pty)?),
        CharBackend::Unix(unix) => Way::Unix(unix.path.clone().ok_or_else(not_pty)?),
        _ => return Err(not_pty()),
    };
    Ok(Port { alias, way })
}

fn channel(live: &Domain, wanted: Option<&str>) -> Result<Port> {
    let mut all = live.devices.channels.iter();
    let name = |c: &virt_model::domain::chardev::Channel| match &c.target {
        Some(ChannelTarget::Virtio(t) | ChannelTarget::Xen(t)) => t.name.clone(),
        _ => None,
    };
    let found = match wanted {
        None => all.next(),
        Some(wanted) => {
            all.find(|c| c.info.alias.as_deref() == Some(wanted) || name(c).as_deref() == Some(wanted))
        }
    };
    let none = || Error::internal(From::Qemu, format!("cannot find channel {}", wanted.unwrap_or("<null>")));
    let channel = found.ok_or_else(none)?;
    let alias = channel.info.alias.clone().unwrap_or_default();
    match &channel.backend {
        CharBackend::Unix(unix) if unix.path.is_some() => {
            Ok(Port { alias, way: Way::Unix(unix.path.clone().unwrap_or_default()) })
        }
        _ => Err(Error::internal(From::Qemu, format!("channel {alias} is not using a UNIX socket"))),
    }
}

/// Opens a port and returns the client's end.
///
/// Errors: code 55 when the guest does not run; code 9 when somebody has the port and `force` is off; code 38 when it
/// cannot be opened. `locks` is the folder of terminals' lock files; a session daemon may not write there.
pub async fn open(
    guest: &Arc<Guest>,
    what: What,
    wanted: Option<&str>,
    force: bool,
    locks: Option<&Path>,
) -> Result<OwnedFd> {
    let snapshot = guest.published();
    let live = snapshot.value.live.as_ref().ok_or_else(not_running)?;
    let port = find(live, what, wanted)?;
    let taken = guest.shared().open_console(&port.alias, force).ok_or_else(|| {
        let what = match what {
            What::Console => "console session",
            What::Channel => "channel stream",
        };
        Error::new(Code::OperationFailed, From::Qemu, format!("Active {what} exists for this domain"))
    })?;
    let failed = |e| Error::system(From::None, "unable to create socket pair", e);
    let (theirs, ours) = StdStream::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    let ours = UnixStream::from_std(ours).map_err(failed)?;
    match port.way {
        Way::Pty(path) => {
            let lock = match locks.map(Path::to_path_buf) {
                Some(folder) => {
                    let terminal = path.clone();
                    Some(blocking::run(move || lock::take(&folder, &terminal)).await?)
                }
                None => None,
            };
            let pty = pty::open(&path)?;
            tokio::spawn(async move {
                until_taken(taken, pty::bridge(pty, ours)).await;
                drop(lock);
            });
        }
        Way::Unix(path) => {
            let far = UnixStream::connect(&path)
                .await
                .map_err(|e| Error::system(From::None, format!("unable to connect to socket '{path}'"), e))?;
            tokio::spawn(until_taken(taken, async move {
                let (mut near, mut far) = (ours, far);
                copy_bidirectional(&mut near, &mut far).await.map(drop)
            }));
        }
    }
    Ok(theirs.into())
}

async fn until_taken(taken: oneshot::Receiver<()>, work: impl Future<Output = std::io::Result<()>>) {
    tokio::select! {
        done = work => if let Err(error) = done {
            tracing::debug!(%error, "a console ended");
        },
        _ = taken => tracing::debug!("a console was taken away"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt_model::Mode;

    fn live() -> Domain {
        let xml = "<domain type='qemu'><name>a</name><os><type>hvm</type></os><devices>\
            <serial type='pty'><source path='/dev/pts/3'/><alias name='serial0'/></serial>\
            <serial type='null'><alias name='serial1'/></serial>\
            <channel type='unix'><source mode='bind' path='/run/c'/><target type='virtio' name='org.x.0'/><alias name='channel0'/></channel>\
            </devices></domain>";
        Domain::parse(xml, Mode::LIVE).expect("a document")
    }

    #[test]
    fn ports_are_found_as_the_reference_finds_them() {
        let live = live();
        let text = |what, wanted| find(&live, what, wanted).expect_err("none").message();
        let found = |what, wanted| find(&live, what, wanted).expect("a port");
        assert_eq!(found(What::Console, None).way, Way::Pty("/dev/pts/3".into()));
        assert_eq!(found(What::Console, Some("serial0")).alias, "serial0");
        assert_eq!(text(What::Console, Some("nope")), "internal error: cannot find character device nope");
        assert_eq!(
            text(What::Console, Some("serial1")),
            "internal error: character device serial1 is not using a PTY"
        );
        assert_eq!(found(What::Channel, Some("org.x.0")).way, Way::Unix("/run/c".into()));
        assert_eq!(found(What::Channel, Some("channel0")), found(What::Channel, None));
        assert_eq!(text(What::Channel, Some("nosuch")), "internal error: cannot find channel nosuch");
    }
}
