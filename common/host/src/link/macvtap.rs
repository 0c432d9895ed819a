//! macvtaps: a hardware address of a guest's own on an interface of the host.

use std::io;

use virt_error::{Domain, Error, Result};

use super::netlink::{self, Message, Socket};
use super::{HardwareAddress, check_name, failed, index};

/// Which packets of one macvtap reach others of the same interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacvtapMode {
    /// None.
    Private,
    /// Those that the switch outside sends back.
    Vepa,
    /// All.
    Bridge,
    /// There is only one; it has the interface for itself.
    Passthrough,
}

impl MacvtapMode {
    fn number(self) -> u32 {
        match self {
            Self::Private => 1,
            Self::Vepa => 2,
            Self::Bridge => 4,
            Self::Passthrough => 8,
        }
    }
}

/// Makes a macvtap on interface `lower` and returns the number of its device file, `/dev/tapN`. It is down.
/// `None`: there is an interface of this name already.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn create_macvtap(
    name: &str,
    lower: &str,
    mac: HardwareAddress,
    mode: MacvtapMode,
) -> Result<Option<u32>> {
    check_name(name)?;
    check_name(lower)?;
    let under = index(lower).map_err(failed("Unable to get index for interface", lower))?;
    let mut m = Message::new_link();
    m.text(netlink::IFLA_IFNAME, name);
    m.u32(netlink::IFLA_LINK, under);
    m.bytes(netlink::IFLA_ADDRESS, &mac);
    m.nest(netlink::IFLA_LINKINFO, |m| {
        m.text(netlink::IFLA_INFO_KIND, "macvtap");
        m.nest(netlink::IFLA_INFO_DATA, |m| m.u32(netlink::IFLA_MACVLAN_MODE, mode.number()));
    });
    match Socket::open().and_then(|mut s| s.ask(m)) {
        Ok(()) => index(name).map(Some).map_err(failed("Unable to get index for interface", name)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(e) => {
            let text = format!("error creating macvtap interface {name}@{lower}");
            Err(Error::system(Domain::None, text, e))
        }
    }
}
