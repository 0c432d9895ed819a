//! Interfaces on top of others: virtual LANs and bonds.

use virt_error::Result;

use super::netlink::{self, Message, Socket};
use super::{check_name, failed, index};

/// Makes a virtual LAN on an interface; it is down.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn create_vlan(name: &str, below: &str, tag: u16) -> Result<()> {
    check_name(name)?;
    check_name(below)?;
    let make = || {
        let mut m = Message::new_link();
        m.text(netlink::IFLA_IFNAME, name);
        m.u32(netlink::IFLA_LINK, index(below)?);
        m.nest(netlink::IFLA_LINKINFO, |m| {
            m.text(netlink::IFLA_INFO_KIND, "vlan");
            m.nest(netlink::IFLA_INFO_DATA, |m| m.bytes(netlink::IFLA_VLAN_ID, &tag.to_ne_bytes()));
        });
        Socket::open()?.ask(m)
    };
    make().map_err(failed("Unable to create VLAN", name))
}

/// Makes a bond; it is down. `mode` is the kernel's number, `monitor` the time between looks at its cards in
/// milliseconds.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn create_bond(name: &str, mode: u8, monitor: Option<u32>) -> Result<()> {
    check_name(name)?;
    let make = || {
        let mut m = Message::new_link();
        m.text(netlink::IFLA_IFNAME, name);
        m.nest(netlink::IFLA_LINKINFO, |m| {
            m.text(netlink::IFLA_INFO_KIND, "bond");
            m.nest(netlink::IFLA_INFO_DATA, |m| {
                m.u8(netlink::IFLA_BOND_MODE, mode);
                if let Some(monitor) = monitor {
                    m.u32(netlink::IFLA_BOND_MIIMON, monitor);
                }
            });
        });
        Socket::open()?.ask(m)
    };
    make().map_err(failed("Unable to create bond", name))
}
