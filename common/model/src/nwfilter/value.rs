//! The values of rules: how each kind is read, checked and written. What a variable stands for passes through the same
//! readers, so nothing but checked numbers, addresses and flags ever reaches a firewall.

use core::net::{IpAddr, Ipv6Addr};
use std::fmt::Write;

use virt_xml::{Value as _, parse_ip};

use super::variable::VarRef;
use crate::Mac;

/// The longest comment; the rest is cut off, as the reference does.
const COMMENT: usize = 256;
/// The longest name of a set.
const SET_NAME: usize = 31;
/// How many sides of a packet a set may look at.
const SIDES: usize = 6;

/// Names of numbers.
pub type Names = &'static [(u32, &'static str)];

/// Ethernet's protocols by name.
pub const ETHERTYPES: Names =
    &[(0x800, "ipv4"), (0x806, "arp"), (0x8035, "rarp"), (0x86dd, "ipv6"), (0x8100, "vlan")];
/// IP's protocols by name.
pub const IP_PROTOCOLS: Names = &[
    (6, "tcp"),
    (17, "udp"),
    (136, "udplite"),
    (50, "esp"),
    (51, "ah"),
    (1, "icmp"),
    (2, "igmp"),
    (132, "sctp"),
    (58, "icmpv6"),
];
/// ARP's operations by name.
pub const ARP_OPERATIONS: Names = &[
    (1, "Request"),
    (2, "Reply"),
    (3, "Request_Reverse"),
    (4, "Reply_Reverse"),
    (5, "DRARP_Request"),
    (6, "DRARP_Reply"),
    (7, "DRARP_Error"),
    (8, "InARP_Request"),
    (9, "ARP_NAK"),
];
/// The states of a connection, in the order they are written; the bit is the place.
pub const STATES: [&str; 4] = ["NEW", "ESTABLISHED", "RELATED", "INVALID"];
/// TCP's flags in the order of their bits.
pub const TCP_FLAGS: [&str; 6] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG"];

/// What an attribute holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A hardware address.
    Mac,
    /// Its mask: ones, then zeros.
    MacMask,
    /// An IPv4 address.
    V4,
    /// A prefix of IPv4, also as a netmask.
    V4Mask,
    /// An IPv6 address.
    V6,
    /// A prefix of IPv6, also as a mask.
    V6Mask,
    /// A number, decimal or with `0x`.
    Number {
        /// The least.
        min: u32,
        /// The most.
        max: u32,
        /// Numbers that are written as names.
        names: Names,
    },
    /// A number, decimal only.
    Decimal {
        /// The most.
        max: u32,
    },
    /// A switch; what is no yes is a no.
    Bool,
    /// Free text.
    Comment,
    /// States of connections.
    States,
    /// TCP flags: which are looked at, and which of them are set.
    TcpFlags,
    /// The name of a set that somebody else keeps.
    SetName,
    /// Which sides of the packet are looked up in the set.
    SetSides,
}

/// A checked value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Known once the filter is put on a card.
    Var(VarRef),
    /// A number; `hex` is how it was written.
    Number {
        /// The number.
        value: u32,
        /// Whether it was written with `0x`.
        hex: bool,
    },
    /// A hardware address or its mask.
    Mac(Mac),
    /// An address.
    Address(IpAddr),
    /// The length of a prefix.
    Prefix(u8),
    /// A switch.
    Bool(bool),
    /// A text.
    Text(String),
    /// Bits as in [`STATES`]; `None` is "NONE": no look at connections at all.
    States(Option<u8>),
    /// Bits as in [`TCP_FLAGS`].
    TcpFlags {
        /// Which are looked at.
        mask: u8,
        /// Which of them are set.
        flags: u8,
    },
    /// For each side whether it is the source.
    Sides(Vec<bool>),
}

impl Kind {
    /// Reads a value; `None` when it is none of this kind. A text that begins with `$` is a variable.
    pub fn parse(self, text: &str) -> Option<Value> {
        match self {
            Self::Comment => Some(Value::Text(text.chars().take(COMMENT).collect())),
            _ if text.starts_with('$') => VarRef::parse(text).map(Value::Var),
            _ => self.parse_plain(text),
        }
    }

    /// Reads a value that is no variable.
    pub fn parse_plain(self, text: &str) -> Option<Value> {
        Some(match self {
            Self::Mac => Value::Mac(Mac::parse(text).ok()?),
            Self::MacMask => {
                let mask = Mac::parse(text).ok()?;
                let bits = mask.0.iter().fold(0_u64, |n, b| (n << 8) | u64::from(*b)) << 16;
                (bits.leading_ones() == bits.count_ones()).then_some(Value::Mac(mask))?
            }
            Self::V4 => Value::Address(parse_ip(text).filter(IpAddr::is_ipv4)?),
            Self::V6 => Value::Address(IpAddr::V6(text.parse::<Ipv6Addr>().ok()?)),
            Self::V4Mask => Value::Prefix(prefix(text, 32, |t| {
                let Some(IpAddr::V4(mask)) = parse_ip(t) else { return None };
                let bits = u32::from(mask);
                (bits.leading_ones() == bits.count_ones()).then(|| bits.count_ones())
            })?),
            Self::V6Mask => Value::Prefix(prefix(text, 128, |t| {
                let bits = u128::from(t.parse::<Ipv6Addr>().ok()?);
                (bits.leading_ones() == bits.count_ones()).then(|| bits.count_ones())
            })?),
            Self::Number { min, max, names } => {
                if let Some((value, _)) = names.iter().find(|(_, name)| name.eq_ignore_ascii_case(text)) {
                    return Some(Value::Number { value: *value, hex: false });
                }
                let hex = text.starts_with("0x") || text.starts_with("0X");
                let value = u32::try_from(virt_xml::parse_int(text, if hex { 16 } else { 10 })?).ok()?;
                (min..=max).contains(&value).then_some(Value::Number { value, hex })?
            }
            Self::Decimal { max } => {
                let value = u32::try_from(virt_xml::parse_int(text, 10)?).ok()?;
                (value <= max).then_some(Value::Number { value, hex: false })?
            }
            Self::Bool => Value::Bool(matches!(text, "true" | "yes" | "1")),
            Self::Comment => return self.parse(text),
            Self::States => states(text)?,
            Self::TcpFlags => {
                let (mask, flags) = text.split_once('/')?;
                Value::TcpFlags { mask: tcp_flags(mask)?, flags: tcp_flags(flags)? }
            }
            Self::SetName => {
                let good = |c: char| c.is_ascii_alphanumeric() || "_.:+- ".contains(c);
                (text.len() <= SET_NAME && text.chars().all(good)).then(|| Value::Text(text.into()))?
            }
            Self::SetSides => {
                let side = |s: &str| match s {
                    s if s.eq_ignore_ascii_case("src") => Some(true),
                    s if s.eq_ignore_ascii_case("dst") => Some(false),
                    _ => None,
                };
                let sides: Vec<bool> = text.split(',').map(side).collect::<Option<_>>()?;
                (sides.len() <= SIDES).then_some(Value::Sides(sides))?
            }
        })
    }

    /// Writes a value of this kind.
    pub fn format(self, value: &Value) -> String {
        match (self, value) {
            (_, Value::Var(var)) => var.to_string(),
            (Self::Number { names, .. }, Value::Number { value, hex }) => {
                match names.iter().find(|(n, _)| n == value) {
                    Some((_, name)) => (*name).to_string(),
                    None if *hex => format!("{value:#x}"),
                    None => value.to_string(),
                }
            }
            (_, Value::Number { value, .. }) => value.to_string(),
            (_, Value::Mac(mac)) => mac.to_string(),
            (_, Value::Address(address)) => virt_xml::ip_text(*address),
            (_, Value::Prefix(prefix)) => prefix.to_string(),
            (_, Value::Bool(on)) => on.to_string(),
            (_, Value::Text(text)) => text.clone(),
            (_, Value::States(None)) => "NONE".into(),
            (_, Value::States(Some(bits))) => list(&STATES, *bits),
            (_, Value::TcpFlags { mask, flags }) => {
                let mut out = named_flags(*mask);
                let _ = write!(out, "/{}", named_flags(*flags));
                out
            }
            (_, Value::Sides(sides)) => {
                let names: Vec<_> = sides.iter().map(|src| if *src { "src" } else { "dst" }).collect();
                names.join(",")
            }
        }
    }
}

fn list(names: &[&str], bits: u8) -> String {
    let set = names.iter().enumerate().filter(|(n, _)| bits & (1 << n) != 0).map(|(_, name)| *name);
    set.collect::<Vec<_>>().join(",")
}

fn named_flags(bits: u8) -> String {
    match bits {
        0 => "NONE".into(),
        0x3f => "ALL".into(),
        bits => list(&TCP_FLAGS, bits),
    }
}

fn bits(names: &[&str], text: &str) -> Option<u8> {
    let parts = text.split(',').map(str::trim).filter(|p| !p.is_empty());
    let bit = |part: &str| Some(1 << names.iter().position(|n| n.eq_ignore_ascii_case(part))?);
    parts.map(bit).try_fold(0_u8, |all, bit: Option<u8>| Some(all | bit?))
}

fn states(text: &str) -> Option<Value> {
    let none = |part: &str| part.trim().eq_ignore_ascii_case("NONE");
    let rest: Vec<&str> = text.split(',').filter(|p| !none(p)).collect();
    let bits = bits(&STATES, &rest.join(","))?;
    Some(Value::States((!text.split(',').any(none)).then_some(bits)))
}

fn tcp_flags(text: &str) -> Option<u8> {
    match text {
        t if t.contains('/') => None,
        t if t.eq_ignore_ascii_case("ALL") => Some(0x3f),
        t if t.eq_ignore_ascii_case("NONE") => Some(0),
        t => bits(&TCP_FLAGS, t),
    }
}

fn prefix(text: &str, most: u32, mask: impl Fn(&str) -> Option<u32>) -> Option<u8> {
    let length = match virt_xml::parse_int(text, 10) {
        Some(n) => u32::try_from(n).ok()?,
        None => mask(text)?,
    };
    u8::try_from(length).ok().filter(|n| u32::from(*n) <= most)
}
