//! Bridges and their addresses, by netlink.

mod netlink;

use std::io;
use std::net::IpAddr;
use std::path::Path;

use virt_error::{Code, Domain, Error, Result};
use virt_model::Mac;

use netlink::{Message, Socket};

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
        && name.bytes().all(|b| b.is_ascii_graphic() && !b"/:\\\"'`$,;%".contains(&b));
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

/// What a new bridge is like.
#[derive(Debug, Clone)]
pub struct Bridge<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its hardware address.
    pub mac: Option<Mac>,
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
        m.bytes(netlink::IFLA_ADDRESS, &mac.0);
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
    let what = failed("Unable to create bridge", bridge.name);
    Socket::open().and_then(|mut s| s.ask(m)).map_err(what)
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

/// Brings an interface up or down.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn set_up(name: &str, up: bool) -> Result<()> {
    check_name(name)?;
    let set = || Socket::open()?.ask(Message::set_link_up(index(name)?, up));
    set().map_err(failed("Cannot set interface flags on", name))
}

/// Gives an interface an address.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn add_address(name: &str, address: IpAddr, prefix: u8) -> Result<()> {
    check_name(name)?;
    let set = || Socket::open()?.ask(Message::new_address(index(name)?, address, prefix));
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
        for bad in
            ["", ".", "..", "a/b", "a b", "x;y", "$(id)", "virbr%d", "sixteen-letters-", "a\n", "\"x\""]
        {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        for good in ["virbr0", "br-lan", "a.100", "vnet@x"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
    }
}
