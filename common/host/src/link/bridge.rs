//! Bridges and their ports.

use std::io;

use virt_error::{Domain, Error, Result};

use super::netlink::{self, Message, Socket};
use super::{HardwareAddress, check_name, failed, index};

/// What a new bridge is like.
#[derive(Debug, Clone)]
pub struct Bridge<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its hardware address.
    pub mac: Option<HardwareAddress>,
    /// Its MTU.
    pub mtu: Option<u32>,
    /// Spanning tree protocol.
    pub stp: bool,
    /// Forward delay, seconds.
    pub delay: u64,
}

/// Makes a bridge; it is down.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn create_bridge(bridge: &Bridge<'_>) -> Result<()> {
    check_name(bridge.name)?;
    let mut m = Message::new_link();
    m.text(netlink::IFLA_IFNAME, bridge.name);
    if let Some(mac) = bridge.mac {
        m.bytes(netlink::IFLA_ADDRESS, &mac);
    }
    if let Some(mtu) = bridge.mtu {
        m.u32(netlink::IFLA_MTU, mtu);
    }
    m.nest(netlink::IFLA_LINKINFO, |m| {
        m.text(netlink::IFLA_INFO_KIND, "bridge");
        m.nest(netlink::IFLA_INFO_DATA, |m| {
            // Set before STP is on: the kernel then raises what is too short for it, instead of refusing it.
            let delay = u32::try_from(bridge.delay.min(300) * 100).unwrap_or(0);
            m.u32(netlink::IFLA_BR_FORWARD_DELAY, delay);
            m.u32(netlink::IFLA_BR_STP_STATE, u32::from(bridge.stp));
        });
    });
    Socket::open().and_then(|mut s| s.ask(m)).map_err(|e| {
        // The kernel does not say what it does not like; of what is asked only this can be out of its bounds.
        let mtu = bridge.mtu.is_some() && e.raw_os_error() == Some(nix::libc::EINVAL);
        let name = bridge.name;
        let what = if mtu {
            format!("Cannot set interface MTU on '{name}'")
        } else {
            format!("Unable to create bridge {name}")
        };
        Error::system(Domain::None, what, e)
    })
}

/// Removes a bridge. One that is gone is no error.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn remove_bridge(name: &str) -> Result<()> {
    check_name(name)?;
    let Ok(index) = index(name) else { return Ok(()) };
    let what = failed("Unable to remove bridge", name);
    Socket::open().and_then(|mut s| s.ask(Message::del_link(index))).map_err(what)
}

/// How an interface is plugged into a bridge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Port {
    /// It reaches the host and other ports, but no other isolated port.
    pub isolated: bool,
    /// The only hardware address behind it: the bridge does not learn, and sends it nothing else.
    pub only: Option<HardwareAddress>,
}

/// Makes an interface a port of a bridge.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn plug(bridge: &str, name: &str, port: &Port) -> Result<()> {
    check_name(bridge)?;
    check_name(name)?;
    let join = || -> io::Result<()> {
        let own = index(name)?;
        let mut m = Message::set_link(own);
        m.u32(netlink::IFLA_MASTER, index(bridge)?);
        let mut socket = Socket::open()?;
        socket.ask(m)?;
        if port.isolated || port.only.is_some() {
            let mut m = Message::set_bridge_port(own);
            m.nest(netlink::IFLA_PROTINFO, |m| {
                m.u8(netlink::IFLA_BRPORT_ISOLATED, u8::from(port.isolated));
                if port.only.is_some() {
                    m.u8(netlink::IFLA_BRPORT_LEARNING, 0);
                    m.u8(netlink::IFLA_BRPORT_UNICAST_FLOOD, 0);
                }
            });
            socket.ask(m)?;
        }
        if let Some(mac) = port.only {
            socket.ask(Message::new_bridge_entry(own, mac))?;
        }
        Ok(())
    };
    join().map_err(|e| {
        Error::system(virt_error::Domain::None, format!("Unable to add bridge {bridge} port {name}"), e)
    })
}

/// The VLAN that the kernel puts every port of a bridge into.
const FIRST_VLAN: u16 = 1;
const VLAN_PVID: u16 = 2;
const VLAN_UNTAGGED: u16 = 4;

/// A VLAN of a bridge's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortVlan {
    /// Its number.
    pub id: u16,
    /// Frames without a tag that come in belong to it.
    pub native: bool,
    /// Its frames go out without their tag.
    pub untagged: bool,
}

/// Makes `vlans` all that a bridge's port is in. They count where the bridge filters by VLANs, which is its owner's choice.
///
/// # Errors
/// Code 38 with the kernel's reason: it may be built without VLANs for bridges.
pub fn set_port_vlans(name: &str, vlans: &[PortVlan]) -> Result<()> {
    check_name(name)?;
    let info = |mut m: Message, flags: u16, id: u16| {
        let [value, number] = [flags.to_ne_bytes(), id.to_ne_bytes()];
        let value = [value, number].concat();
        m.nest(netlink::IFLA_AF_SPEC, |m| m.bytes(netlink::IFLA_BRIDGE_VLAN_INFO, &value));
        m
    };
    let set = || -> io::Result<()> {
        let own = index(name)?;
        let mut socket = Socket::open()?;
        if vlans.iter().all(|v| v.id != FIRST_VLAN) {
            match socket.ask(info(Message::del_bridge_vlan(own), 0, FIRST_VLAN)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        for vlan in vlans {
            let native = if vlan.native { VLAN_PVID } else { 0 };
            let flags = native | if vlan.untagged { VLAN_UNTAGGED } else { 0 };
            socket.ask(info(Message::set_bridge_port(own), flags, vlan.id))?;
        }
        Ok(())
    };
    set().map_err(|e| {
        Error::system(virt_error::Domain::None, format!("error adding vlan filter to interface {name}"), e)
    })
}

/// Takes an interface out of its bridge.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn unplug(name: &str) -> Result<()> {
    check_name(name)?;
    let leave = || {
        let mut m = Message::set_link(index(name)?);
        m.u32(netlink::IFLA_MASTER, 0);
        Socket::open()?.ask(m)
    };
    leave().map_err(failed("Unable to remove bridge port", name))
}
