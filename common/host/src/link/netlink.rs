//! The few route-netlink requests our daemons make: built as bytes, sent, and the kernel's answer read.
//!
//! ```text
//!   nlmsghdr (16 bytes) | ifinfomsg, ifaddrmsg or rtmsg | attributes: u16 length, u16 type, value, padding to 4
//! ```

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, setsockopt,
    socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_NEWTCLASS: u16 = 40;
const RTM_DELTCLASS: u16 = 41;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
/// Subsystem 10 (nftables), message 1.
const NFT_GETTABLE: u16 = 10 << 8 | 1;
const NFT_GETRULE: u16 = 10 << 8 | 7;
const NFT_GETSETELEM: u16 = 10 << 8 | 13;
const NFT_GETGEN: u16 = 10 << 8 | 16;
const NFTA_TABLE_NAME: u16 = 1;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;

pub(crate) const IFLA_ADDRESS: u16 = 1;
pub(crate) const IFLA_IFNAME: u16 = 3;
pub(crate) const IFLA_MTU: u16 = 4;
pub(crate) const IFLA_LINK: u16 = 5;
pub(crate) const IFLA_MASTER: u16 = 10;
pub(crate) const IFLA_PROTINFO: u16 = 12;
pub(crate) const IFLA_OPERSTATE: u16 = 16;
pub(crate) const IFLA_LINKINFO: u16 = 18;
pub(crate) const IFLA_STATS64: u16 = 23;
pub(crate) const IFLA_INFO_KIND: u16 = 1;
pub(crate) const IFLA_INFO_DATA: u16 = 2;
pub(crate) const IFLA_VLAN_ID: u16 = 1;
pub(crate) const IFLA_BOND_MODE: u16 = 1;
pub(crate) const IFLA_BOND_MIIMON: u16 = 3;
pub(crate) const IFLA_BR_FORWARD_DELAY: u16 = 1;
pub(crate) const IFLA_BR_STP_STATE: u16 = 5;
pub(crate) const IFLA_BRPORT_LEARNING: u16 = 8;
pub(crate) const IFLA_AF_SPEC: u16 = 26;
pub(crate) const IFLA_BRIDGE_VLAN_INFO: u16 = 2;
pub(crate) const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;
pub(crate) const IFLA_BRPORT_ISOLATED: u16 = 33;
pub(crate) const IFLA_MACVLAN_MODE: u16 = 1;
pub(crate) const NDA_DST: u16 = 1;
pub(crate) const NDA_LLADDR: u16 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const AF_BRIDGE: u8 = 7;
const NUD_PERMANENT: u16 = 0x80;
const NTF_MASTER: u8 = 4;
const IFF_UP: u32 = 1;
const IFA_F_NODAD: u8 = 2;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;

/// The kernel answers at once; this only keeps a fault from hanging a thread.
const ANSWER: Duration = Duration::from_secs(5);
const NESTED: u16 = 1 << 15;

/// A request under construction.
pub(crate) struct Message(Vec<u8>);

fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(a) => (AF_INET, a.octets().to_vec()),
        IpAddr::V6(a) => (AF_INET6, a.octets().to_vec()),
    }
}

impl Message {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(body);
        Self(bytes)
    }

    fn link(kind: u16, flags: u16, index: u32, up: u32, change: u32) -> Self {
        let mut body = vec![0; 4];
        for word in [index, up, change] {
            body.extend(word.to_ne_bytes());
        }
        Self::new(kind, flags, &body)
    }

    pub(crate) fn new_link() -> Self {
        Self::link(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, 0, 0)
    }

    pub(crate) fn del_link(index: u32) -> Self {
        Self::link(RTM_DELLINK, 0, index, 0, 0)
    }

    pub(crate) fn set_link_up(index: u32, up: bool) -> Self {
        Self::link(RTM_NEWLINK, 0, index, if up { IFF_UP } else { 0 }, IFF_UP)
    }

    /// Changes of an existing interface; attributes follow.
    pub(crate) fn set_link(index: u32) -> Self {
        Self::link(RTM_NEWLINK, 0, index, 0, 0)
    }

    /// Changes of a bridge's port; `IFLA_PROTINFO` follows.
    pub(crate) fn set_bridge_port(index: u32) -> Self {
        let mut m = Self::link(RTM_SETLINK, 0, index, 0, 0);
        m.0[16] = AF_BRIDGE;
        m
    }

    /// Takes a VLAN from a bridge's port; `IFLA_AF_SPEC` follows.
    pub(crate) fn del_bridge_vlan(index: u32) -> Self {
        let mut m = Self::link(RTM_DELLINK, 0, index, 0, 0);
        m.0[16] = AF_BRIDGE;
        m
    }

    /// One table of the packet filter by its name.
    pub(crate) fn get_table(family: u8, name: &str) -> Self {
        let mut m = Self::new(NFT_GETTABLE, 0, &[family, 0, 0, 0]);
        m.text(NFTA_TABLE_NAME, name);
        m
    }

    /// All rules of an address family; attributes that choose among them follow.
    pub(crate) fn get_rules(family: u8) -> Self {
        Self::new(NFT_GETRULE, NLM_F_DUMP, &[family, 0, 0, 0])
    }

    /// The elements of one set; its names follow.
    pub(crate) fn get_elements(family: u8) -> Self {
        Self::new(NFT_GETSETELEM, NLM_F_DUMP, &[family, 0, 0, 0])
    }

    /// The number of the packet filter's present rules.
    pub(crate) fn get_generation() -> Self {
        Self::new(NFT_GETGEN, 0, &[0, 0, 0, 0])
    }

    /// One interface by its name.
    pub(crate) fn get_link(name: &str) -> Self {
        let mut m = Self::link(RTM_GETLINK, 0, 0, 0, 0);
        m.text(IFLA_IFNAME, name);
        m
    }

    /// All interfaces.
    pub(crate) fn get_links() -> Self {
        Self::link(RTM_GETLINK, NLM_F_DUMP, 0, 0, 0)
    }

    /// All neighbours of one IP version.
    pub(crate) fn get_neighbours(v6: bool) -> Self {
        let mut body = [0; 12];
        body[0] = if v6 { AF_INET6 } else { AF_INET };
        Self::new(RTM_GETNEIGH, NLM_F_DUMP, &body)
    }

    fn traffic(kind: u16, flags: u16, index: u32, parent: u32, handle: u32, info: u32) -> Self {
        let mut body = vec![0; 4];
        for word in [index, handle, parent, info] {
            body.extend(word.to_ne_bytes());
        }
        Self::new(kind, flags, &body)
    }

    /// A queueing discipline.
    pub(crate) fn new_qdisc(index: u32, parent: u32, handle: u32) -> Self {
        Self::traffic(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, index, parent, handle, 0)
    }

    /// Takes a queueing discipline away.
    pub(crate) fn del_qdisc(index: u32, parent: u32, handle: u32) -> Self {
        Self::traffic(RTM_DELQDISC, 0, index, parent, handle, 0)
    }

    /// A class of a queueing discipline.
    pub(crate) fn new_class(index: u32, parent: u32, handle: u32) -> Self {
        Self::traffic(RTM_NEWTCLASS, NLM_F_CREATE, index, parent, handle, 0)
    }

    /// Takes a class away.
    pub(crate) fn del_class(index: u32, parent: u32, handle: u32) -> Self {
        Self::traffic(RTM_DELTCLASS, 0, index, parent, handle, 0)
    }

    /// Takes all filters of a place and protocol away.
    pub(crate) fn del_filter(index: u32, parent: u32, info: u32) -> Self {
        Self::traffic(RTM_DELTFILTER, 0, index, parent, 0, info)
    }

    /// A filter; `info` is its place and protocol.
    pub(crate) fn new_filter(index: u32, parent: u32, info: u32) -> Self {
        Self::traffic(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, index, parent, 0, info)
    }

    /// A hardware address that a bridge finds behind a port.
    pub(crate) fn new_bridge_entry(index: u32, mac: [u8; 6]) -> Self {
        let mut body = vec![AF_BRIDGE, 0, 0, 0];
        body.extend(index.to_ne_bytes());
        body.extend(NUD_PERMANENT.to_ne_bytes());
        body.extend([NTF_MASTER, 0]);
        let mut m = Self::new(RTM_NEWNEIGH, NLM_F_CREATE, &body);
        m.bytes(NDA_LLADDR, &mac);
        m
    }

    pub(crate) fn new_address(index: u32, address: IpAddr, prefix: u8, peer: Option<IpAddr>) -> Self {
        let (family, bytes) = octets(address);
        let mut body = vec![family, prefix, IFA_F_NODAD, 0];
        body.extend(index.to_ne_bytes());
        let mut m = Self::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &body);
        m.bytes(IFA_LOCAL, &bytes);
        m.bytes(IFA_ADDRESS, &peer.map_or(bytes, |p| octets(p).1));
        if let (IpAddr::V4(a), None) = (address, peer) {
            let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
            m.bytes(IFA_BROADCAST, &(u32::from(a) | hosts).to_be_bytes());
        }
        m
    }

    pub(crate) fn new_route(
        index: u32,
        to: IpAddr,
        prefix: u8,
        gateway: IpAddr,
        metric: Option<u32>,
    ) -> Self {
        let (family, bytes) = octets(to);
        let body = [family, prefix, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, 0, RTN_UNICAST, 0, 0, 0, 0];
        let mut m = Self::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &body);
        m.bytes(RTA_DST, &bytes);
        m.bytes(RTA_GATEWAY, &octets(gateway).1);
        m.u32(RTA_OIF, index);
        m.u32(RTA_PRIORITY, metric.unwrap_or(1));
        m
    }

    /// An attribute of raw bytes.
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// An attribute of text with a closing zero.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat());
    }

    /// An attribute of one word.
    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// An attribute of one byte.
    pub(crate) fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    /// An attribute that holds attributes.
    pub(crate) fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) {
        let at = self.0.len();
        self.bytes(kind | NESTED, &[]);
        inside(self);
        let length = u16::try_from(self.0.len() - at).unwrap_or(u16::MAX);
        self.0[at..at + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

/// A netlink socket.
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// For interfaces, addresses, routes.
    pub(crate) fn open() -> io::Result<Self> {
        Self::of(SockProtocol::NetlinkRoute)
    }

    /// For the packet filter.
    pub(crate) fn open_netfilter() -> io::Result<Self> {
        Self::of(SockProtocol::NetlinkNetFilter)
    }

    fn of(protocol: SockProtocol) -> io::Result<Self> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        let wait = i64::try_from(ANSWER.as_secs()).unwrap_or(1);
        setsockopt(&fd, ReceiveTimeout, &TimeVal::seconds(wait))?;
        Ok(Self(fd))
    }

    fn send(&self, message: Message) -> io::Result<()> {
        let mut bytes = message.0;
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        sendto(self.0.as_raw_fd(), &bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        Ok(())
    }

    /// Sends a request and reads the kernel's verdict.
    pub(crate) fn ask(&mut self, message: Message) -> io::Result<()> {
        self.query(message).map(drop)
    }

    /// Sends a question and reads all messages of the answer, without their headers.
    pub(crate) fn query(&mut self, message: Message) -> io::Result<Vec<Vec<u8>>> {
        self.send(message)?;
        let mut found = Vec::new();
        // As large as the kernel ever makes a part of a long answer.
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let n = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            if read_part(buffer.get(..n).unwrap_or_default(), &mut found)? {
                return Ok(found);
            }
            if found.len() > MOST {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
        }
    }
}

/// Messages of one answer at most.
const MOST: usize = 1_000_000;

/// Takes the messages of one packet; true once the answer is complete.
fn read_part(mut bytes: &[u8], found: &mut Vec<Vec<u8>>) -> io::Result<bool> {
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    while !bytes.is_empty() {
        let length = word(bytes, 0).ok_or_else(bad)? as usize;
        let message = bytes.get(..length).filter(|m| m.len() >= 16).ok_or_else(bad)?;
        match half(message, 4).ok_or_else(bad)? {
            NLMSG_ERROR => {
                let code = word(message, 16).ok_or_else(bad)?.cast_signed();
                let verdict = io::Error::from_raw_os_error(code.saturating_neg());
                return if code == 0 { Ok(true) } else { Err(verdict) };
            }
            NLMSG_DONE => return Ok(true),
            _ => found.push(message.get(16..).unwrap_or_default().to_vec()),
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// A 16-bit field.
pub(crate) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes)
}

/// A 32-bit field.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes)
}

/// The attributes after a message's fixed part: kind and value.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(half(bytes, 0)?);
        let kind = half(bytes, 2)? & !NESTED;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_answers_are_errors_and_end() {
        let mut found = Vec::new();
        for bad in [&[1u8][..], &[200, 0, 0, 0, 1, 0, 0, 0], &[0; 16], &[4, 0, 0, 0, 0, 0, 0, 0]] {
            assert!(read_part(bad, &mut found).is_err(), "{bad:?}");
        }
        assert_eq!(attributes(&[0, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[9, 0, 1, 0, 7]).count(), 0);
        let two = [5, 0, 1, 0, 7, 0, 0, 0, 6, 0, 2, 0, 8, 9];
        assert_eq!(attributes(&two).collect::<Vec<_>>(), [(1, &[7][..]), (2, &[8, 9][..])]);
    }
}
