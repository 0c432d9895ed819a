//! What interfaces and neighbours there are.

use std::net::IpAddr;

use virt_error::{Domain, Error, Result};

use super::netlink::{self, Message, Socket, attributes, half, word};
use super::{HardwareAddress, check_name, failed};

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address, when it has one of six bytes.
    pub mac: Option<HardwareAddress>,
    /// Bytes a packet may have.
    pub mtu: u32,
    /// Number of the bridge it is a port of.
    pub master: Option<u32>,
    /// "bridge", "tun", "macvtap" ...; empty for cards.
    pub kind: String,
    /// Whether it is switched on.
    pub up: bool,
    /// Whether it can carry packets: RFC 2863's number, 6 is yes.
    pub state: u8,
    /// Number of the interface it lies on.
    pub below: Option<u32>,
    /// What its kind adds.
    pub details: Details,
    /// What went through it.
    pub statistics: Statistics,
}

/// What a kind of interfaces adds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Details {
    /// Nothing we know of.
    #[default]
    None,
    /// A bridge.
    Bridge {
        /// Spanning tree protocol.
        stp: bool,
        /// Forward delay in hundredths of a second.
        delay: u32,
    },
    /// A virtual LAN.
    Vlan {
        /// Its tag.
        tag: u16,
    },
    /// A bond.
    Bond {
        /// The kernel's number of its mode.
        mode: u8,
        /// Milliseconds between looks at its cards.
        monitor: u32,
    },
}

/// What went through an interface, as the host sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Faults while receiving.
    pub rx_errors: u64,
    /// Faults while sending.
    pub tx_errors: u64,
    /// Received packets that were thrown away.
    pub rx_dropped: u64,
    /// Packets to send that were thrown away.
    pub tx_dropped: u64,
}

/// Somebody the host has talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// Number of the interface.
    pub index: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its hardware address.
    pub mac: HardwareAddress,
}

/// Neighbours that did not answer have no hardware address worth telling.
const NUD_FAILED: u16 = 0x20;
const IFF_UP: u32 = 1;

/// One interface. `None`: there is none of this name.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn get(name: &str) -> Result<Option<Link>> {
    check_name(name)?;
    match Socket::open().and_then(|mut s| s.query(Message::get_link(name))) {
        Ok(found) => Ok(found.first().and_then(|m| link(m))),
        Err(e) if e.raw_os_error() == Some(nix::libc::ENODEV) => Ok(None),
        Err(e) => Err(failed("Cannot read interface", name)(e)),
    }
}

/// All interfaces.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn list() -> Result<Vec<Link>> {
    let found = Socket::open().and_then(|mut s| s.query(Message::get_links()));
    let found = found.map_err(|e| Error::system(Domain::None, "Cannot list interfaces", e))?;
    Ok(found.iter().filter_map(|m| link(m)).collect())
}

/// Everybody the host knows the hardware address of.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn neighbours() -> Result<Vec<Neighbour>> {
    let mut all = Vec::new();
    for v6 in [false, true] {
        let found = Socket::open().and_then(|mut s| s.query(Message::get_neighbours(v6)));
        let found = found.map_err(|e| Error::system(Domain::None, "Cannot list neighbours", e))?;
        all.extend(found.iter().filter_map(|m| neighbour(m)));
    }
    Ok(all)
}

fn link(message: &[u8]) -> Option<Link> {
    let mut link = Link { index: word(message, 4)?, up: word(message, 8)? & IFF_UP != 0, ..Link::default() };
    for (kind, value) in attributes(message.get(16..)?) {
        match kind {
            netlink::IFLA_IFNAME => link.name = text(value),
            netlink::IFLA_ADDRESS => link.mac = value.try_into().ok(),
            netlink::IFLA_MTU => link.mtu = word(value, 0)?,
            netlink::IFLA_MASTER => link.master = word(value, 0),
            netlink::IFLA_LINKINFO => {
                let found = attributes(value).find(|(kind, _)| *kind == netlink::IFLA_INFO_KIND);
                link.kind = found.map(|(_, value)| text(value)).unwrap_or_default();
                let data = attributes(value).find(|(kind, _)| *kind == netlink::IFLA_INFO_DATA);
                link.details = data.map(|(_, data)| details(&link.kind, data)).unwrap_or_default();
            }
            netlink::IFLA_OPERSTATE => link.state = value.first().copied().unwrap_or(0),
            netlink::IFLA_LINK => link.below = word(value, 0),
            netlink::IFLA_STATS64 => link.statistics = statistics(value)?,
            _ => {}
        }
    }
    Some(link)
}

fn details(kind: &str, data: &[u8]) -> Details {
    let find = |wanted| attributes(data).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let number = |wanted| find(wanted).and_then(|v| word(v, 0)).unwrap_or(0);
    match kind {
        "bridge" => Details::Bridge {
            stp: number(netlink::IFLA_BR_STP_STATE) != 0,
            delay: number(netlink::IFLA_BR_FORWARD_DELAY),
        },
        "vlan" => Details::Vlan { tag: find(netlink::IFLA_VLAN_ID).and_then(|v| half(v, 0)).unwrap_or(0) },
        "bond" => Details::Bond {
            mode: find(netlink::IFLA_BOND_MODE).and_then(|v| v.first().copied()).unwrap_or(0),
            monitor: number(netlink::IFLA_BOND_MIIMON),
        },
        _ => Details::None,
    }
}

fn text(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

fn statistics(value: &[u8]) -> Option<Statistics> {
    let number = |at: usize| {
        let bytes = value.get(at * 8..at * 8 + 8)?;
        bytes.try_into().ok().map(u64::from_ne_bytes)
    };
    Some(Statistics {
        rx_packets: number(0)?,
        tx_packets: number(1)?,
        rx_bytes: number(2)?,
        tx_bytes: number(3)?,
        rx_errors: number(4)?,
        tx_errors: number(5)?,
        rx_dropped: number(6)?,
        tx_dropped: number(7)?,
    })
}

fn neighbour(message: &[u8]) -> Option<Neighbour> {
    if half(message, 8)? & NUD_FAILED != 0 {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for (kind, value) in attributes(message.get(12..)?) {
        match kind {
            netlink::NDA_DST => {
                let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
                address = v4.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from)).ok();
            }
            netlink::NDA_LLADDR => mac = value.try_into().ok(),
            _ => {}
        }
    }
    Some(Neighbour { index: word(message, 4)?, address: address?, mac: mac? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_there() {
        let lo = get("lo").unwrap().unwrap();
        assert_eq!((lo.index, lo.name.as_str(), lo.master), (1, "lo", None));
        assert!(list().unwrap().iter().any(|l| l.name == "lo"));
        assert_eq!(get("no-such-link").unwrap(), None);
        neighbours().unwrap();
    }

    #[test]
    fn short_messages_are_nothing() {
        for length in 0..20 {
            assert_eq!(link(&vec![0; length]).filter(|l| l.index > 0), None);
            assert_eq!(neighbour(&vec![0; length]), None);
        }
    }
}
