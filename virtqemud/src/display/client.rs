//! A client of a console that comes with its own connection: the descriptor goes to QEMU, which serves it like one that
//! came through a port.

use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde_json::json;
use virt_consts::VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH;
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::graphics::Graphics;

use crate::guest::Work;
use crate::qmp::Client;

/// QEMU's name of the descriptor on its way in.
const NAME: &str = "graphicsfd";

/// Makes `socket` a client of the guest's console `index`. `flags`: virDomainOpenGraphicsFlags.
///
/// # Errors
/// Code 1 for a console that is not there, and with QEMU's text; code 67 for one that takes nobody so; code 8 for a
/// descriptor that is no stream socket.
pub async fn add(work: &mut Work, index: u32, socket: OwnedFd, flags: u32) -> Result<()> {
    let consoles = &work.run()?.live.devices.graphics;
    let console = usize::try_from(index).ok().and_then(|at| consoles.get(at));
    let console = console
        .ok_or_else(|| Error::internal(From::Qemu, format!("No graphics backend with index {index}")))?;
    let protocol = match console {
        Graphics::Vnc(_) => "vnc",
        Graphics::Spice(_) => "spice",
        other => {
            let text = format!("Can only open VNC or SPICE graphics backends, not {}", other.kind());
            return Err(Error::new(Code::ConfigUnsupported, From::Qemu, text));
        }
    };
    // QEMU aborts over some descriptors that are none.
    let kind = rustix::net::sockopt::socket_type(socket.as_fd());
    if kind != Ok(SocketType::STREAM) {
        return Err(Error::new(
            Code::InvalidArg,
            From::Qemu,
            "the connection to a display must be a stream socket",
        ));
    }
    let monitor = work.monitor()?;
    monitor.run_untyped_with_fds("getfd", &json!({ "fdname": NAME }), vec![socket]).await?;
    let mut wanted = json!({"protocol": protocol, "fdname": NAME});
    if flags & VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH != 0 {
        wanted["skipauth"] = true.into();
    }
    let added = monitor.run_untyped("add_client", &wanted).await;
    if added.is_err() {
        forget(&monitor).await;
    }
    added?;
    Ok(())
}

/// One that QEMU refused may be its own still.
async fn forget(monitor: &Client) {
    if let Err(error) = monitor.run_untyped("closefd", &json!({ "fdname": NAME })).await {
        tracing::debug!(%error, "a descriptor that QEMU no longer knows");
    }
}

/// Both ends of a new connection.
///
/// # Errors
/// Code 38: the host is out of descriptors.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|e| Error::system(From::Qemu, "Unable to create socket pair", e.into()))
}
