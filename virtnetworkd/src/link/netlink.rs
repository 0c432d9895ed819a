//! The few route-netlink requests this daemon makes: built as bytes, sent, and the kernel's answer read.
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
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;

pub(super) const IFLA_ADDRESS: u16 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MTU: u16 = 4;
pub(super) const IFLA_LINKINFO: u16 = 18;
pub(super) const IFLA_INFO_KIND: u16 = 1;
pub(super) const IFLA_INFO_DATA: u16 = 2;
pub(super) const IFLA_BR_FORWARD_DELAY: u16 = 1;
pub(super) const IFLA_BR_STP_STATE: u16 = 5;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IFF_UP: u32 = 1;
const IFA_F_NODAD: u8 = 2;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;

/// The kernel answers at once; this only keeps a fault from hanging a thread.
const ANSWER: Duration = Duration::from_secs(5);
const NESTED: u16 = 1 << 15;

/// A request under construction.
pub(super) struct Message(Vec<u8>);

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

    pub(super) fn new_link() -> Self {
        Self::link(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, 0, 0)
    }

    pub(super) fn del_link(index: u32) -> Self {
        Self::link(RTM_DELLINK, 0, index, 0, 0)
    }

    pub(super) fn set_link_up(index: u32, up: bool) -> Self {
        Self::link(RTM_NEWLINK, 0, index, if up { IFF_UP } else { 0 }, IFF_UP)
    }

    pub(super) fn new_address(index: u32, address: IpAddr, prefix: u8) -> Self {
        let (family, bytes) = octets(address);
        let mut body = vec![family, prefix, IFA_F_NODAD, 0];
        body.extend(index.to_ne_bytes());
        let mut m = Self::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &body);
        m.bytes(IFA_LOCAL, &bytes);
        m.bytes(IFA_ADDRESS, &bytes);
        if let IpAddr::V4(a) = address {
            let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
            m.bytes(IFA_BROADCAST, &(u32::from(a) | hosts).to_be_bytes());
        }
        m
    }

    pub(super) fn new_route(
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
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// An attribute of text with a closing zero.
    pub(super) fn text(&mut self, kind: u16, value: &str) {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat());
    }

    /// An attribute of one word.
    pub(super) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// An attribute that holds attributes.
    pub(super) fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) {
        let at = self.0.len();
        self.bytes(kind | NESTED, &[]);
        inside(self);
        let length = u16::try_from(self.0.len() - at).unwrap_or(u16::MAX);
        self.0[at..at + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

/// A netlink socket.
pub(super) struct Socket(OwnedFd);

impl Socket {
    pub(super) fn open() -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        let wait = i64::try_from(ANSWER.as_secs()).unwrap_or(1);
        setsockopt(&fd, ReceiveTimeout, &TimeVal::seconds(wait))?;
        Ok(Self(fd))
    }

    /// Sends a request and reads the kernel's verdict.
    pub(super) fn ask(&mut self, message: Message) -> io::Result<()> {
        let mut bytes = message.0;
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        sendto(self.0.as_raw_fd(), &bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut answer = [0; 8192];
        let n = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let answer = answer.get(..n).unwrap_or_default();
        let kind = answer.get(4..6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
        let code = answer.get(16..20).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes);
        match (kind, code) {
            (Some(NLMSG_ERROR), Some(0)) => Ok(()),
            (Some(NLMSG_ERROR), Some(code)) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
