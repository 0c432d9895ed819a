//! An address of the network's bridge, with the services on it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use virt_xml::rt_error::Result;
use virt_xml::{El, Mode, Value, Xml, YesNo, parse_ip};

use super::dhcp::{Bootp, DhcpHost, DhcpRange};
use super::{network_of, unsupported, xml_error};

/// `<ip>`.
#[derive(Debug, Clone, PartialEq, Xml)]
#[xml(before = Ip::before, check = Ip::check, open)]
pub struct Ip {
    #[xml(attr)]
    pub family: Option<String>,
    #[xml(attr, required)]
    pub address: IpAddr,
    #[xml(attr)]
    pub netmask: Option<Ipv4Addr>,
    #[xml(attr, keep_if = not_zero)]
    pub prefix: Option<u32>,
    /// Questions for names of these addresses stay in the network.
    #[xml(attr = "localPtr", with = YesNo)]
    pub local_ptr: Option<bool>,
    #[xml(attr = "tftp@root", loose)]
    pub tftp_root: Option<String>,
    #[xml(child = "dhcp/range")]
    pub ranges: Vec<DhcpRange>,
    #[xml(child = "dhcp/host")]
    pub hosts: Vec<DhcpHost>,
    #[xml(child = "dhcp/bootp")]
    pub bootp: Option<Bootp>,
}

fn not_zero(value: &u32, _: Mode) -> bool {
    *value != 0
}

/// The address with all bits after the prefix cleared.
pub fn network_address(address: IpAddr, prefix: u32) -> IpAddr {
    match address {
        IpAddr::V4(a) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(a) & mask))
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(a) & mask))
        }
    }
}

/// The prefix a netmask means; `None` when its bits are not in one row.
pub fn mask_prefix(mask: Ipv4Addr) -> Option<u32> {
    let bits = u32::from(mask);
    (bits.leading_ones() == bits.count_ones()).then(|| bits.count_ones())
}

impl Ip {
    /// The address and prefix of an element that [`Self::before`] has passed.
    pub(super) fn place(e: El<'_>) -> Option<(IpAddr, Option<u32>)> {
        let own = Self {
            family: None,
            address: parse_ip(e.attr("address")?)?,
            netmask: e.attr("netmask").and_then(|m| Value::parse(m).ok()),
            prefix: e.attr("prefix").and_then(|p| p.parse().ok()),
            local_ptr: None,
            tftp_root: None,
            ranges: Vec::new(),
            hosts: Vec::new(),
            bootp: None,
        };
        Some((own.address, own.prefix_length()))
    }

    /// Whether it is an IPv6 address.
    pub fn is_ipv6(&self) -> bool {
        self.address.is_ipv6()
    }

    /// The prefix: given, from the netmask, or the one of the address's class; `None` for a netmask with holes.
    pub fn prefix_length(&self) -> Option<u32> {
        match (self.prefix, self.netmask, self.address) {
            (Some(prefix), _, _) => Some(prefix),
            (None, Some(mask), _) => mask_prefix(mask),
            (None, None, IpAddr::V6(_)) => Some(64),
            (None, None, IpAddr::V4(a)) => Some(match a.octets()[0] {
                0..=127 => 8,
                128..=191 => 16,
                192..=223 => 24,
                // Neither A, B nor C: no network is meant.
                _ => return None,
            }),
        }
    }

    /// Whether guests get addresses from it.
    pub fn has_dhcp(&self) -> bool {
        !self.ranges.is_empty() || !self.hosts.is_empty()
    }

    fn before(e: El<'_>) -> Result<()> {
        let name = network_of(e);
        let Some(text) = e.attr("address").filter(|a| !a.is_empty()) else {
            return Err(xml_error(e, format!("Missing required address attribute in network '{name}'")));
        };
        let Some(address) = parse_ip(text) else {
            return Err(xml_error(e, format!("Invalid address '{text}' in network '{name}'")));
        };
        match e.attr("netmask") {
            Some(mask) if parse_ip(mask).is_none() => {
                return Err(xml_error(e, format!("Invalid netmask '{mask}' in network '{name}'")));
            }
            _ => {}
        }
        let (v6, netmask, prefix) = (address.is_ipv6(), e.attr("netmask"), e.attr("prefix"));
        match e.attr("family") {
            None if v6 => {
                let text = format!("no family specified for non-IPv4 address '{text}' in network '{name}'");
                return Err(unsupported(e, text));
            }
            Some("ipv4") if v6 => {
                let text = format!("ipv4 family specified for non-IPv4 address '{text}' in network '{name}'");
                return Err(unsupported(e, text));
            }
            Some("ipv6") if !v6 => {
                let text =
                    format!("Family 'ipv6' specified for non-IPv6 address '{text}' in network '{name}'");
                return Err(unsupported(e, text));
            }
            None | Some("ipv4" | "ipv6") => {}
            Some(family) => {
                return Err(xml_error(e, format!("Unrecognized family '{family}' in network '{name}'")));
            }
        }
        if netmask.is_some() && v6 {
            let text = format!("netmask not allowed for IPv6 address '{text}' in network '{name}'");
            return Err(unsupported(e, text));
        }
        if netmask.is_some() && prefix.is_some() {
            let text = format!("Network '{name}' IP address cannot have both a prefix and a netmask");
            return Err(unsupported(e, text));
        }
        if netmask.and_then(parse_ip).is_some_and(|m| m.is_ipv6()) {
            let mask = netmask.unwrap_or_default();
            let text = format!(
                "Invalid netmask '{mask}' for address '{text}' in network '{name}' (both must be IPv4)"
            );
            return Err(unsupported(e, text));
        }
        if v6 && e.child("tftp").is_some() {
            return Err(unsupported(
                e,
                format!("Unsupported <tftp> element in an IPv6 element in network '{name}'"),
            ));
        }
        let (family, most) = if v6 { ("IPv6", 128) } else { ("IPv4", 32) };
        if let Some(n) = prefix.and_then(|p| virt_xml::parse_int(p, 10))
            && n > most
        {
            return Err(unsupported(e, format!("Invalid {family} prefix '{n}' in network '{name}'")));
        }
        Ok(())
    }

    fn check(&mut self, _: El<'_>) -> Result<()> {
        if self.is_ipv6() || !self.has_dhcp() {
            // No such thing as BOOTP there, or nobody to tell it; the reference drops it.
            self.bootp = None;
        }
        Ok(())
    }
}
