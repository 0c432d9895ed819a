//! Network interfaces of the host, by netlink: bridges and their ports, macvtaps, addresses, routes, what there is.
//!
//! Everything happens in the network namespace of the calling thread, so nothing is read from /sys.

mod bridge;
mod limits;
mod macvtap;
pub(crate) mod netlink;
mod query;
mod shares;
mod stacked;

use std::io;
use std::net::IpAddr;
use std::path::Path;

use virt_error::{Code, Domain, Error, Result};

use netlink::{Message, Socket};

pub use bridge::{Bridge, Port, PortVlan, create_bridge, plug, remove_bridge, set_port_vlans, unplug};
pub use limits::{Limit, set_limits, set_shared_limits};
pub use macvtap::{MacvtapMode, create_macvtap};
pub use query::{Details, Link, Neighbour, Statistics, get, list, neighbours};
pub use shares::{FIRST_SHARE, Share, remove_share, set_share};
pub use stacked::{create_bond, create_vlan};

/// A hardware address.
pub type HardwareAddress = [u8; 6];

/// The kernel's limit for an interface's name, without the closing zero.
const NAME_MAX: usize = 15;

/// Checks a name before it reaches the kernel, a path under /proc, a rule or a configuration file.
///
/// # Errors
/// Code 27 for a name that no interface can have.
pub fn check_name(name: &str) -> Result<()> {
    let fits = !name.is_empty()
        && name.len() <= NAME_MAX
        && name != "."
        && name != ".."
        // What begins with @ is a set for nft; with * or ? in it a name fits others for nft and dnsmasq.
        && !name.starts_with('@')
        && name.bytes().all(|b| b.is_ascii_graphic() && !b"/:\\\"'`$,;%*?#&|<>(){}[]!~^".contains(&b));
    if fits {
        return Ok(());
    }
    Err(Error::new(
        Code::XmlError,
        Domain::Network,
        format!("Invalid bridge name '{}'", name.escape_default()),
    ))
}

/// Whether an interface of this name exists.
pub fn exists(name: &str) -> bool {
    check_name(name).is_ok() && index(name).is_ok()
}

fn index(name: &str) -> io::Result<u32> {
    Ok(nix::net::if_::if_nametoindex(name)?)
}

fn failed(what: &str, name: &str) -> impl FnOnce(io::Error) -> Error {
    let text = format!("{what} {name}");
    move |e| Error::system(Domain::None, text, e)
}

/// Brings an interface up or down.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn set_up(name: &str, up: bool) -> Result<()> {
    check_name(name)?;
    let set = || Socket::open()?.ask(Message::set_link_up(index(name)?, up));
    set().map_err(failed("Cannot set interface flags on", name))
}

/// Changes an interface's MTU.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn set_mtu(name: &str, mtu: u32) -> Result<()> {
    check_name(name)?;
    let set = || {
        let mut m = Message::set_link(index(name)?);
        m.u32(netlink::IFLA_MTU, mtu);
        Socket::open()?.ask(m)
    };
    set().map_err(failed("Cannot set interface MTU on", &format!("'{name}'")))
}

/// Changes an interface's hardware address.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn set_mac(name: &str, mac: HardwareAddress) -> Result<()> {
    check_name(name)?;
    let set = || {
        let mut m = Message::set_link(index(name)?);
        m.bytes(netlink::IFLA_ADDRESS, &mac);
        Socket::open()?.ask(m)
    };
    let [a, b, c, d, e, f] = mac;
    let what = format!("Cannot set interface MAC to {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} on");
    set().map_err(failed(&what, &format!("'{name}'")))
}

/// Removes an interface. One that is gone is no error.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn remove(name: &str) -> Result<()> {
    check_name(name)?;
    let Ok(index) = index(name) else { return Ok(()) };
    let what = failed("Unable to remove interface", name);
    Socket::open().and_then(|mut s| s.ask(Message::del_link(index))).map_err(what)
}

/// Gives an interface an address; with `peer` the other end of a link between two.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn add_address(name: &str, address: IpAddr, prefix: u8, peer: Option<IpAddr>) -> Result<()> {
    check_name(name)?;
    let set = || Socket::open()?.ask(Message::new_address(index(name)?, address, prefix, peer));
    let what = format!("Failed to add IP address {address}/{prefix} to");
    set().map_err(failed(&what, name))
}

/// Adds a route through a gateway.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn add_route(name: &str, to: IpAddr, prefix: u8, gateway: IpAddr, metric: Option<u32>) -> Result<()> {
    check_name(name)?;
    let set = || Socket::open()?.ask(Message::new_route(index(name)?, to, prefix, gateway, metric));
    let what = format!("failed to add route {to}/{prefix} on");
    set().map_err(failed(&what, name))
}

/// The interface of the host's IPv4 default route, if there is one.
pub fn default_route() -> Option<String> {
    let text = std::fs::read_to_string("/proc/thread-self/net/route").ok()?;
    text.lines().skip(1).find_map(|line| {
        let f: Vec<&str> = line.split_ascii_whitespace().collect();
        (*f.get(1)? == "00000000" && *f.get(7)? == "00000000").then(|| f[0].to_string())
    })
}

/// The IPv4 routes of the host: interface, network, mask. Default routes are left out.
pub fn ipv4_routes() -> Vec<(String, u32, u32)> {
    let text = std::fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default();
    let hex = |s: &str| u32::from_str_radix(s, 16).ok().map(u32::from_be);
    let rows = text.lines().skip(1).filter_map(|line| {
        let f: Vec<&str> = line.split_ascii_whitespace().collect();
        Some((f.first()?.to_string(), hex(f.get(1)?)?, hex(f.get(7)?)?))
    });
    rows.filter(|r| r.2 != 0).collect()
}

/// Sets a value under /proc/sys. With `wanted` false a missing file is no failure.
///
/// # Errors
/// Code 38 when it cannot be written.
pub fn set_sysctl(path: &str, value: &str, wanted: bool) -> Result<()> {
    let file = Path::new("/proc/sys").join(path);
    if !wanted && !file.exists() {
        return Ok(());
    }
    // Only written when it differs: /proc/sys may be read-only where the value is right already.
    if std::fs::read_to_string(&file).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    std::fs::write(&file, value)
        .map_err(|e| Error::system(Domain::None, format!("cannot write to {}", file.display()), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_interface_has() {
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "x;y",
            "$(id)",
            "virbr%d",
            "sixteen-letters-",
            "a\n",
            "\"x\"",
            "e*",
            "*",
            "@set",
            "a#b",
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        for good in ["virbr0", "br-lan", "a.100", "vnet@x"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
    }
}
