//! Addresses that the network's DHCP server gives out and keeps for guests.

use virt_error::Result;
use virt_model::Element;
use virt_model::network::Network;
use virt_model::network::dhcp::{DhcpHost, DhcpRange};
use virt_model::network::ip::Ip;

use super::{Command, Update, element, unrecognized, unsupported};
use crate::network::invalid;

/// Where a part stands: within an address, and its `<dhcp>`.
fn places(ip: &Ip) -> Vec<Element> {
    let family = if ip.is_ipv6() { "ipv6" } else { "ipv4" };
    let mut attrs = vec![("family", family.to_string()), ("address", ip.address.to_string())];
    attrs.extend(ip.prefix_length().map(|p| ("prefix", p.to_string())));
    vec![element("ip", &attrs, Vec::new()), element("dhcp", &[], Vec::new())]
}

/// The DHCP server serves one address of each family.
fn check_alone(net: &Network, at: usize) -> Result<()> {
    let v6 = net.ips.get(at).is_some_and(Ip::is_ipv6);
    let mut others = net.ips.iter().enumerate().filter(|(i, ip)| *i != at && ip.is_ipv6() == v6);
    if others.any(|(_, ip)| ip.has_dhcp()) {
        let family = if v6 { "IPv6" } else { "IPv4" };
        return Err(invalid(format!("dhcp is supported only for a single {family} address on each network")));
    }
    Ok(())
}

impl Update {
    /// The place of the address whose DHCP section is meant: the one named, else the first that has one, else the first
    /// of IPv4, else the first.
    fn ip(&self, net: &Network) -> Result<usize> {
        let name = net.name();
        if let Ok(at) = usize::try_from(self.parent) {
            if at < net.ips.len() {
                return Ok(at);
            }
            let text = format!(
                "couldn't update dhcp host entry - no <ip> element found at index {at} in network '{name}'"
            );
            return Err(invalid(text));
        }
        let serving = net.ips.iter().position(Ip::has_dhcp);
        let fits = serving.or_else(|| net.ips.iter().position(|ip| !ip.is_ipv6()));
        fits.or((!net.ips.is_empty()).then_some(0)).ok_or_else(|| {
            invalid(format!("couldn't update dhcp host entry - no <ip> element found in network '{name}'"))
        })
    }

    pub(super) fn dhcp_host(&self, net: &mut Network, part: Element) -> Result<()> {
        Self::expect(net, &part, "host")?;
        let name = net.name().to_string();
        let at = self.ip(net)?;
        let own = &net.ips[at];
        let host: DhcpHost = Self::read(net, part, places(own), self.command.names_only())?;
        if !self.command.names_only() && host.ip.is_some_and(|ip| ip.is_ipv6() != own.is_ipv6()) {
            return Err(invalid(
                "the address family of a host entry IP must match the address family of the dhcp element's parent",
            ));
        }
        let mac = host.mac.as_ref().map_or("unknown", |m| m.as_str()).to_string();
        let title = host.name.clone().unwrap_or_else(|| "(null)".into());
        let ip = host.ip.map_or_else(|| "(null)".into(), |ip| ip.to_string());
        // A field that was not given matches nothing when looking for a twin, and anything when deleting.
        let twin = |h: &DhcpHost| {
            (host.mac.is_some() && h.mac == host.mac)
                || (host.name.is_some() && h.name == host.name)
                || (host.ip.is_some() && h.ip == host.ip)
        };
        let hosts = &mut net.ips[at].hosts;
        match self.command {
            Command::Modify => {
                let missing = || {
                    invalid(format!(
                        "couldn't locate an existing dhcp host entry with \"mac='{mac}'\" \"name='{title}'\" \"ip='{ip}'\" in network '{name}'"
                    ))
                };
                let found = hosts.iter().position(twin).ok_or_else(missing)?;
                hosts[found] = host;
            }
            Command::AddLast | Command::AddFirst => {
                if hosts.iter().any(twin) {
                    return Err(invalid(format!(
                        "there is an existing dhcp host entry in network '{name}' that matches \"<host mac='{mac}' name='{title}' ip='{ip}'/>\""
                    )));
                }
                self.insert(hosts, host);
                check_alone(net, at)?;
            }
            Command::Delete => {
                let matches = |h: &DhcpHost| {
                    (host.mac.is_none() || h.mac == host.mac)
                        && (host.name.is_none() || h.name == host.name)
                        && (host.ip.is_none() || h.ip == host.ip)
                };
                let missing =
                    || invalid(format!("couldn't locate a matching dhcp host entry in network '{name}'"));
                hosts.remove(hosts.iter().position(matches).ok_or_else(missing)?);
            }
            Command::Unknown(number) => return Err(unrecognized(number)),
        }
        Ok(())
    }

    pub(super) fn dhcp_range(&self, net: &mut Network, part: Element) -> Result<()> {
        Self::expect(net, &part, "range")?;
        let name = net.name().to_string();
        let at = self.ip(net)?;
        if self.command == Command::Modify {
            return Err(unsupported("dhcp ranges cannot be modified, only added or deleted"));
        }
        let range: DhcpRange = Self::read(net, part, places(&net.ips[at]), false)?;
        let ranges = &mut net.ips[at].ranges;
        let found = ranges.iter().position(|r| r.start == range.start && r.end == range.end);
        match (self.command, found) {
            (Command::Delete, Some(found)) => drop(ranges.remove(found)),
            (Command::Delete, None) => {
                return Err(invalid(format!(
                    "couldn't locate a matching dhcp range entry in network '{name}'"
                )));
            }
            (Command::Unknown(number), _) => return Err(unrecognized(number)),
            (_, Some(_)) => {
                return Err(invalid(format!(
                    "there is an existing dhcp range entry in network '{name}' that matches \"<range start='{}' end='{}'/>\"",
                    range.start, range.end
                )));
            }
            (_, None) => {
                self.insert(ranges, range);
                check_alone(net, at)?;
            }
        }
        Ok(())
    }
}
