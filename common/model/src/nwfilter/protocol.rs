//! What rules can look at: a table of protocols and their attributes, in the order in which they are written.

use super::value::{ARP_OPERATIONS, ETHERTYPES, IP_PROTOCOLS, Kind};

/// One attribute of a rule's protocol.
#[derive(Debug, PartialEq, Eq)]
pub struct Attr {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// The attribute whose `match='no'` counts for this one too: a mask follows its address.
    pub follows: Option<&'static str>,
}

/// Where a protocol is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// In every frame.
    Link,
    /// In packets of IPv4, with connections known.
    V4,
    /// In packets of IPv6, with connections known.
    V6,
}

/// A protocol that rules can name.
#[derive(Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Its element.
    pub name: &'static str,
    /// Where it is looked at.
    pub layer: Layer,
    /// The number in the frame's or the packet's head; 0 when all are meant.
    pub number: u16,
    groups: &'static [&'static [Attr]],
}

impl Protocol {
    /// The one of this name.
    pub fn from_name(name: &str) -> Option<&'static Self> {
        PROTOCOLS.iter().find(|p| p.name == name)
    }

    /// Its attributes in the order of the document.
    pub fn attrs(&self) -> impl Iterator<Item = &'static Attr> + use<> {
        self.groups.iter().flat_map(|g| g.iter())
    }
}

const fn attr(name: &'static str, kind: Kind) -> Attr {
    Attr { name, kind, follows: None }
}

const fn with(name: &'static str, kind: Kind, follows: &'static str) -> Attr {
    Attr { name, kind, follows: Some(follows) }
}

const fn number(max: u32) -> Kind {
    Kind::Number { min: 0, max, names: &[] }
}

const U8: Kind = number(0xff);
const U16: Kind = number(0xffff);
const U32: Kind = number(u32::MAX);
const ETHER: Kind = Kind::Number { min: 0x600, max: 0xffff, names: ETHERTYPES };
const ENCAP: Kind = Kind::Number { min: 0x3c, max: 0xffff, names: ETHERTYPES };
const IP_PROTOCOL: Kind = Kind::Number { min: 0, max: 0xff, names: IP_PROTOCOLS };
const OPERATION: Kind = Kind::Number { min: 0, max: 0xffff, names: ARP_OPERATIONS };
const DSCP: Attr = attr("dscp", number(63));

const COMMENT: &[Attr] = &[attr("comment", Kind::Comment)];
const SOURCE: &[Attr] = &[attr("srcmacaddr", Kind::Mac), with("srcmacmask", Kind::MacMask, "srcmacaddr")];
const TARGET: &[Attr] = &[attr("dstmacaddr", Kind::Mac), with("dstmacmask", Kind::MacMask, "dstmacaddr")];
const STP: &[Attr] = &[
    attr("type", U8),
    attr("flags", U8),
    attr("root-priority", U16),
    with("root-priority-hi", U16, "root-priority"),
    attr("root-address", Kind::Mac),
    with("root-address-mask", Kind::MacMask, "root-address"),
    attr("root-cost", U32),
    with("root-cost-hi", U32, "root-cost"),
    attr("sender-priority", U16),
    with("sender-priority-hi", U16, "sender-priority"),
    attr("sender-address", Kind::Mac),
    with("sender-address-mask", Kind::MacMask, "sender-address"),
    attr("port", U16),
    with("port-hi", U16, "port"),
    attr("age", U16),
    with("age-hi", U16, "age"),
    attr("max-age", U16),
    with("max-age-hi", U16, "max-age"),
    attr("hello-time", U16),
    with("hello-time-hi", U16, "hello-time"),
    attr("forward-delay", U16),
    with("forward-delay-hi", U16, "forward-delay"),
];
const ARP: &[Attr] = &[
    attr("hwtype", U16),
    attr("protocoltype", U16),
    attr("opcode", OPERATION),
    attr("arpsrcmacaddr", Kind::Mac),
    attr("arpdstmacaddr", Kind::Mac),
    attr("arpsrcipaddr", Kind::V4),
    attr("arpsrcipmask", Kind::V4Mask),
    attr("arpdstipaddr", Kind::V4),
    attr("arpdstipmask", Kind::V4Mask),
    attr("gratuitous", Kind::Bool),
];
const V4_ADDRESSES: &[Attr] = &[
    attr("srcipaddr", Kind::V4),
    with("srcipmask", Kind::V4Mask, "srcipaddr"),
    attr("dstipaddr", Kind::V4),
    with("dstipmask", Kind::V4Mask, "dstipaddr"),
];
const V6_ADDRESSES: &[Attr] = &[
    attr("srcipaddr", Kind::V6),
    with("srcipmask", Kind::V6Mask, "srcipaddr"),
    attr("dstipaddr", Kind::V6),
    with("dstipmask", Kind::V6Mask, "dstipaddr"),
];
const V4_RANGES: &[Attr] = &[
    attr("srcipfrom", Kind::V4),
    with("srcipto", Kind::V4, "srcipfrom"),
    attr("dstipfrom", Kind::V4),
    with("dstipto", Kind::V4, "dstipfrom"),
];
const V6_RANGES: &[Attr] = &[
    attr("srcipfrom", Kind::V6),
    with("srcipto", Kind::V6, "srcipfrom"),
    attr("dstipfrom", Kind::V6),
    with("dstipto", Kind::V6, "dstipfrom"),
];
const LINK_PORTS: &[Attr] = &[
    attr("protocol", IP_PROTOCOL),
    attr("srcportstart", U16),
    attr("srcportend", U16),
    attr("dstportstart", U16),
    attr("dstportend", U16),
];
const CONNECTION: &[Attr] =
    &[DSCP, attr("connlimit-above", Kind::Decimal { max: 0xffff }), attr("state", Kind::States)];
/// The reference lets all ports follow the first source port.
const PORTS: &[Attr] = &[
    attr("srcportstart", U16),
    with("srcportend", U16, "srcportstart"),
    with("dstportstart", U16, "srcportstart"),
    with("dstportend", U16, "srcportstart"),
];
/// Only rules for all protocols look sets up; elsewhere the reference passes over them.
const SETS: &[Attr] = &[attr("ipset", Kind::SetName), attr("ipsetflags", Kind::SetSides)];
const ICMP: &[Attr] = &[attr("type", U8), with("code", U8, "type")];
const ICMP_RANGES: &[Attr] =
    &[attr("type", U8), with("typeend", U8, "type"), with("code", U8, "type"), with("codeend", U8, "type")];
const FLAGS: &[Attr] = &[attr("flags", Kind::TcpFlags)];
const MAC_ONLY: &[Attr] = &[attr("srcmacaddr", Kind::Mac)];

macro_rules! protocols {
    ($($name:literal $layer:ident $number:literal: $($group:expr),*;)*) => {
        &[$(Protocol { name: $name, layer: Layer::$layer, number: $number, groups: &[$($group),*, COMMENT] }),*]
    };
}

/// All protocols.
pub const PROTOCOLS: &[Protocol] = protocols! {
    "mac" Link 0: SOURCE, TARGET, &[attr("protocolid", ETHER)];
    "vlan" Link 0x8100: SOURCE, TARGET, &[attr("vlanid", number(0xfff)), attr("encap-protocol", ENCAP)];
    "stp" Link 0: SOURCE, STP;
    "arp" Link 0x806: SOURCE, TARGET, ARP;
    "rarp" Link 0x8035: SOURCE, TARGET, ARP;
    "ip" Link 0x800: SOURCE, TARGET, V4_ADDRESSES, LINK_PORTS, &[DSCP];
    "ipv6" Link 0x86dd: SOURCE, TARGET, V6_ADDRESSES, LINK_PORTS, ICMP_RANGES;
    "tcp" V4 6: MAC_ONLY, V4_ADDRESSES, V4_RANGES, CONNECTION, PORTS, FLAGS;
    "udp" V4 17: MAC_ONLY, V4_ADDRESSES, V4_RANGES, CONNECTION, PORTS;
    "udplite" V4 136: MAC_ONLY, V4_ADDRESSES, V4_RANGES, CONNECTION;
    "esp" V4 50: MAC_ONLY, V4_ADDRESSES, V4_RANGES, CONNECTION;
    "ah" V4 51: MAC_ONLY, V4_ADDRESSES, V4_RANGES, CONNECTION;
    "sctp" V4 132: MAC_ONLY, V4_ADDRESSES, V4_RANGES, CONNECTION, PORTS;
    "icmp" V4 1: MAC_ONLY, V4_ADDRESSES, V4_RANGES, CONNECTION, ICMP;
    "igmp" V4 2: MAC_ONLY, V4_ADDRESSES, V4_RANGES, CONNECTION;
    "all" V4 0: MAC_ONLY, V4_ADDRESSES, V4_RANGES, CONNECTION, SETS;
    "tcp-ipv6" V6 6: MAC_ONLY, V6_ADDRESSES, V6_RANGES, CONNECTION, PORTS, FLAGS;
    "udp-ipv6" V6 17: MAC_ONLY, V6_ADDRESSES, V6_RANGES, CONNECTION, PORTS;
    "udplite-ipv6" V6 136: MAC_ONLY, V6_ADDRESSES, V6_RANGES, CONNECTION;
    "esp-ipv6" V6 50: MAC_ONLY, V6_ADDRESSES, V6_RANGES, CONNECTION;
    "ah-ipv6" V6 51: MAC_ONLY, V6_ADDRESSES, V6_RANGES, CONNECTION;
    "sctp-ipv6" V6 132: MAC_ONLY, V6_ADDRESSES, V6_RANGES, CONNECTION, PORTS;
    "icmpv6" V6 58: MAC_ONLY, V6_ADDRESSES, V6_RANGES, CONNECTION, ICMP;
    "all-ipv6" V6 0: MAC_ONLY, V6_ADDRESSES, V6_RANGES, CONNECTION, SETS;
};
