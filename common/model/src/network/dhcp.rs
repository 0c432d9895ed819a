//! The DHCP server of one address.

use core::net::IpAddr;

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, Xml, names, parse_ip};

use super::ip::Ip;
use super::{network_of, unsupported, xml_error};
use crate::{Mac, WrittenMac};

names! {
    /// What a lease time counts.
    pub enum LeaseUnit { Minutes = "minutes", Seconds = "seconds", Hours = "hours" }
}

/// `<range>`: addresses given out.
#[derive(Debug, Clone, PartialEq, Xml)]
#[xml(before = range, check = DhcpRange::check)]
pub struct DhcpRange {
    #[xml(attr, required)]
    pub start: IpAddr,
    #[xml(attr, required)]
    pub end: IpAddr,
    #[xml(child)]
    pub lease: Option<Lease>,
}

/// `<lease>`: how long an address is given for; 0 is for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Xml)]
#[xml(check = Lease::check)]
pub struct Lease {
    #[xml(attr)]
    pub expiry: Option<u64>,
    #[xml(attr)]
    pub unit: Option<LeaseUnit>,
}

/// `<host>`: an address kept for one guest. In an order to delete, parts may be missing.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = host, check = DhcpHost::check)]
pub struct DhcpHost {
    #[xml(attr)]
    pub mac: Option<WrittenMac>,
    /// A DHCPv6 client's identifier.
    #[xml(attr)]
    pub id: Option<String>,
    #[xml(attr)]
    pub name: Option<String>,
    #[xml(attr)]
    pub ip: Option<IpAddr>,
    #[xml(child)]
    pub lease: Option<Lease>,
}

/// `<bootp>`: what a guest boots from over the network.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Bootp {
    #[xml(attr, required)]
    pub file: String,
    #[xml(attr)]
    pub server: Option<IpAddr>,
}

impl Lease {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        let Some(expiry) = self.expiry else { return Ok(()) };
        let unit = self.unit.unwrap_or_default();
        let too_short = match unit {
            LeaseUnit::Seconds => expiry < 120,
            LeaseUnit::Minutes => expiry < 2,
            LeaseUnit::Hours => false,
        };
        if expiry > 0 && too_short {
            return Err(unsupported(e, "The minimum lease time should be greater than 2 minutes"));
        }
        self.unit = (expiry > 0).then_some(unit);
        Ok(())
    }
}

impl DhcpRange {
    /// How many addresses.
    pub fn count(&self) -> u64 {
        match (self.start, self.end) {
            (IpAddr::V4(a), IpAddr::V4(b)) => u64::from(u32::from(b).wrapping_sub(u32::from(a))) + 1,
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let many = u128::from(b).wrapping_sub(u128::from(a));
                u64::try_from(many).unwrap_or(u64::MAX).saturating_add(1)
            }
            _ => 0,
        }
    }

    fn check(&mut self, e: El<'_>) -> Result<()> {
        self.lease = self.lease.filter(|l| l.expiry.is_some());
        let place =
            e.parent().and_then(|dhcp| dhcp.parent()).filter(|ip| ip.name() == "ip").and_then(Ip::place);
        place.map_or(Ok(()), |(address, prefix)| check_range(e, self, address, prefix))
    }
}

impl DhcpHost {
    fn check(&mut self, _: El<'_>) -> Result<()> {
        self.lease = self.lease.filter(|l| l.expiry.is_some());
        Ok(())
    }
}

fn range(e: El<'_>) -> Result<()> {
    let name = network_of(e);
    for attr in ["start", "end"] {
        let missing =
            || xml_error(e, format!("Missing '{attr}' attribute in dhcp range for network '{name}'"));
        let text = e.attr(attr).ok_or_else(missing)?;
        if parse_ip(text).is_none() {
            let text = format!("Cannot parse socket address '{text}': Name or service not known");
            return Err(e.error(Code::SystemError, Domain::None, text));
        }
    }
    Ok(())
}

/// Whether the host stands in an IPv6 address's section.
fn is_ipv6(e: El<'_>) -> bool {
    let ip = e.parent().and_then(|dhcp| dhcp.parent());
    ip.is_some_and(|ip| ip.attr("family") == Some("ipv6"))
}

fn host(e: El<'_>) -> Result<()> {
    let (name, ipv6) = (network_of(e), is_ipv6(e));
    if let Some(text) = e.attr("mac") {
        if ipv6 {
            let text = format!(
                "Invalid to specify MAC address '{text}' in network '{name}' IPv6 static host definition"
            );
            return Err(xml_error(e, text));
        }
        let Ok(mac) = <Mac as virt_xml::Value>::parse(text) else {
            return Err(xml_error(e, format!("Cannot parse MAC address '{text}' in network '{name}'")));
        };
        if mac.0[0] & 1 != 0 {
            let text = format!("expected unicast mac address, found multicast '{text}' in network '{name}'");
            return Err(xml_error(e, text));
        }
    }
    if let Some(id) = e.attr("id")
        && let Some(bad) = id.chars().find(|c| !c.is_ascii_hexdigit() && *c != ':')
    {
        return Err(xml_error(e, format!("Invalid character '{bad}' in id '{id}' of network '{name}'")));
    }
    if let Some(host) = e.attr("name")
        && !host.starts_with(|c: char| c.is_ascii_alphanumeric())
    {
        return Err(xml_error(e, format!("Cannot use host name '{host}' in network '{name}'")));
    }
    let ip = e.attr("ip");
    if let Some(ip) = ip
        && parse_ip(ip).is_none()
    {
        return Err(xml_error(
            e,
            format!("Invalid IP address in static host definition for network '{name}'"),
        ));
    }
    if e.mode().partial {
        if e.attr("mac").is_none() && e.attr("name").is_none() && ip.is_none() {
            let text = format!(
                "At least one of name, mac, or ip attribute must be specified for static host definition in network '{name}'"
            );
            return Err(xml_error(e, text));
        }
        return Ok(());
    }
    let named = e.attr("name").is_some();
    if ipv6 && e.attr("id").is_none() && !named {
        let text = format!("Static host definition in IPv6 network '{name}' must have id or name attribute");
        return Err(xml_error(e, text));
    }
    if !ipv6 && e.attr("mac").is_none() && !named {
        let text = format!("Static host definition in IPv4 network '{name}' must have mac or name attribute");
        return Err(xml_error(e, text));
    }
    if ip.is_none() {
        return Err(xml_error(
            e,
            format!("Missing IP address in static host definition for network '{name}'"),
        ));
    }
    Ok(())
}

/// Checks a range against the address it belongs to (code 1, the texts of the reference).
fn check_range(e: El<'_>, range: &DhcpRange, address: IpAddr, prefix: Option<u32>) -> Result<()> {
    let (start, end) = (range.start, range.end);
    let bad = |text: String| Err(e.error(Code::InternalError, Domain::None, text));
    if start.is_ipv4() != end.is_ipv4() {
        return bad(format!("mismatch of address family in range {start} - {end}"));
    }
    if start.is_ipv4() != address.is_ipv4() {
        return bad(format!("mismatch of address family in range {start} - {end} for network {address}"));
    }
    let Some(prefix) = prefix else {
        return bad(format!("bad prefix -1 for network {address} when checking range {start} - {end}"));
    };
    {
        let net = super::ip::network_address(address, prefix);
        if super::ip::network_address(start, prefix) != net || super::ip::network_address(end, prefix) != net
        {
            return bad(format!("range {start} - {end} is not entirely within network {address}/{prefix}"));
        }
    }
    match (start, end) {
        (IpAddr::V4(a), IpAddr::V4(b)) if a > b => return bad(format!("range {start} - {end} is reversed ")),
        (IpAddr::V6(a), IpAddr::V6(b)) if a > b => {
            return bad(format!("range {start} - {end} start larger than end"));
        }
        _ => {}
    }
    {
        let net = super::ip::network_address(address, prefix);
        if let (IpAddr::V4(a), IpAddr::V4(b), IpAddr::V4(net)) = (start, end, net) {
            let host_bits = u32::MAX.checked_shr(prefix).unwrap_or(0);
            if a == net {
                return bad(format!(
                    "start of range {start} - {end} in network {address}/{prefix} is the network address"
                ));
            }
            if u32::from(b) == u32::from(net) | host_bits {
                return bad(format!(
                    "end of range {start} - {end} in network {address}/{prefix} is the broadcast address"
                ));
            }
        }
    }
    if range.count() > 65536 {
        return bad(format!("range {start} - {end} is too large (> 65535)"));
    }
    Ok(())
}
