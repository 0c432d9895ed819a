//! Static routes to what lies behind a guest.

use core::net::{IpAddr, Ipv4Addr};

use virt_xml::rt_error::Result;
use virt_xml::{El, NonZero, Xml, parse_ip, rt};

use super::ip::{mask_prefix, network_address};
use super::{network_of, xml_error};

/// `<route>`.
#[derive(Debug, Clone, PartialEq, Xml)]
#[xml(before = Route::before, check = Route::check)]
pub struct Route {
    #[xml(attr)]
    pub family: Option<String>,
    #[xml(attr, required)]
    pub address: IpAddr,
    #[xml(attr)]
    pub netmask: Option<Ipv4Addr>,
    #[xml(attr)]
    pub prefix: Option<u32>,
    #[xml(attr, required)]
    pub gateway: IpAddr,
    #[xml(attr, with = NonZero)]
    pub metric: Option<u32>,
}

impl Route {
    /// The length of the prefix: given, from the netmask, or a single address.
    pub fn prefix_length(&self) -> Option<u32> {
        match (self.prefix, self.netmask) {
            (Some(prefix), _) => Some(prefix),
            (None, Some(mask)) => mask_prefix(mask),
            (None, None) => match self.address {
                IpAddr::V4(a) if a.is_unspecified() => Some(0),
                IpAddr::V6(a) if a.is_unspecified() => Some(0),
                IpAddr::V4(a) => match a.octets()[0] {
                    0..=127 => Some(8),
                    128..=191 => Some(16),
                    192..=223 => Some(24),
                    _ => None,
                },
                IpAddr::V6(_) => Some(64),
            },
        }
    }

    fn before(e: El<'_>) -> Result<()> {
        let name = network_of(e);
        // A metric that cannot be one is told before what the route is.
        rt::attr::<NonZero, u32>(Some(e), "metric", None)?;
        let mut both = [None; 2];
        for (attr, at) in ["address", "gateway"].into_iter().zip(&mut both) {
            let Some(text) = e.attr(attr) else {
                return Err(xml_error(
                    e,
                    format!("{name}: Missing required {attr} attribute in route definition"),
                ));
            };
            let address = parse_ip(text).ok_or_else(|| {
                xml_error(e, format!("{name}: Bad network {attr} '{text}' in route definition"))
            })?;
            *at = Some(address);
        }
        let [Some(address), Some(gateway)] = both else { return Ok(()) };
        let family = e.attr("family");
        let wrong = |what: &str| {
            let of = if family == Some("ipv6") { what } else { "address" };
            let shown = e.attr(of).unwrap_or_default();
            match family {
                None => xml_error(
                    e,
                    format!("{name}: No family specified for non-IPv4 {what} '{shown}' in route definition"),
                ),
                Some("ipv4") => xml_error(
                    e,
                    format!(
                        "{name}: IPv4 family specified for non-IPv4 {what} '{shown}' in route definition"
                    ),
                ),
                Some(_) if what == "gateway" => xml_error(
                    e,
                    format!(
                        "{name}: ipv6 specified for non-IPv6 gateway address '{shown}' in route definition"
                    ),
                ),
                Some(_) => xml_error(
                    e,
                    format!(
                        "{name}: ipv6 family specified for non-IPv6 {what} '{shown}' in route definition"
                    ),
                ),
            }
        };
        match family {
            None | Some("ipv4" | "ipv6") => {
                let v6 = family == Some("ipv6");
                if address.is_ipv6() != v6 {
                    return Err(wrong("address"));
                }
                if gateway.is_ipv6() != v6 {
                    return Err(wrong("gateway"));
                }
            }
            Some(other) => {
                return Err(xml_error(
                    e,
                    format!("{name}: Unrecognized family '{other}' in route definition"),
                ));
            }
        }
        if let Some(mask) = e.attr("netmask") {
            if parse_ip(mask).is_none() {
                return Err(xml_error(
                    e,
                    format!("{name}: Bad netmask address '{mask}' in route definition"),
                ));
            }
            if address.is_ipv6() {
                let text = format!(
                    "{name}: Specifying netmask invalid for IPv6 address '{address}' in route definition"
                );
                return Err(xml_error(e, text));
            }
            if e.attr("prefix").is_some() {
                return Err(xml_error(
                    e,
                    format!("{name}: Route definition cannot have both a prefix and a netmask"),
                ));
            }
        }
        let most = if address.is_ipv6() { 128 } else { 32 };
        if let Some(n) = e.attr("prefix").and_then(|p| virt_xml::parse_int(p, 10))
            && n > most
        {
            return Err(xml_error(
                e,
                format!("{name}: Invalid prefix {n} specified in route definition, must be 0 - {most}"),
            ));
        }
        Ok(())
    }

    fn check(&mut self, e: El<'_>) -> Result<()> {
        let name = network_of(e);
        let Some(prefix) = self.prefix_length() else { return Ok(()) };
        if network_address(self.address, prefix) != self.address {
            let text = format!(
                "{name}: Address '{}' in route definition is not a network address",
                e.attr("address").unwrap_or_default()
            );
            return Err(xml_error(e, text));
        }
        Ok(())
    }
}
