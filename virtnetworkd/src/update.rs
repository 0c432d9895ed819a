//! Changing one part of a network's document. Pure; codes and texts are the reference's.

use virt_consts::*;
use virt_error::{Code, Domain, Error, Result};
use virt_model::network::Network;
use virt_model::network::dhcp::{DhcpHost, DhcpRange};
use virt_model::network::dns::{DnsHost, Srv, Txt};
use virt_model::network::forward::{Forward, ForwardInterface};
use virt_model::network::ip::Ip;
use virt_model::network::portgroup::PortGroup;
use virt_model::{Element, Mode};
use virt_xml::{Document, Node, Xml};

use crate::network::invalid;

/// What is done with the part (virNetworkUpdateCommand).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// It replaces the one it matches.
    Modify,
    /// The one it matches goes.
    Delete,
    /// It comes after all others.
    AddLast,
    /// It comes before all others.
    AddFirst,
}

impl Command {
    /// From the API's number.
    ///
    /// # Errors
    /// Code 84 for one that there is none of.
    pub fn from_number(number: u32) -> Result<Self> {
        match number {
            1 => Ok(Self::Modify),
            2 => Ok(Self::Delete),
            3 => Ok(Self::AddLast),
            4 => Ok(Self::AddFirst),
            _ => Err(unsupported(format!("unrecognized network update command code {number}"))),
        }
    }
}

/// The names of the sections, by number, as texts have them.
const SECTIONS: [&str; 13] = [
    "none",
    "bridge",
    "domain",
    "ip",
    "ip-dhcp-host",
    "ip-dhcp-range",
    "forward",
    "forward-interface",
    "forward-pf",
    "portgroup",
    "dns-host",
    "dns-txt",
    "dns-srv",
];

fn unsupported(text: impl Into<String>) -> Error {
    Error::new(Code::OperationUnsupported, Domain::Network, text)
}

/// A change that was asked for.
#[derive(Debug, Clone)]
pub struct Update {
    /// What is done.
    pub command: Command,
    /// virNetworkUpdateSection.
    pub section: u32,
    /// Which of several `<ip>`; -1 for the one that fits.
    pub parent: i32,
    /// The part's document.
    pub xml: String,
}

impl Update {
    /// Applies the change.
    ///
    /// # Errors
    /// Code 84 for a section that cannot be changed, 55 for a part that is or is not there, 27 for another element than
    /// the section's, and what the part's own rules refuse.
    pub fn apply(&self, net: &mut Network) -> Result<()> {
        match i32::try_from(self.section).unwrap_or(-1) {
            VIR_NETWORK_SECTION_IP_DHCP_HOST => self.dhcp_host(net),
            VIR_NETWORK_SECTION_IP_DHCP_RANGE => self.dhcp_range(net),
            VIR_NETWORK_SECTION_FORWARD_INTERFACE => self.interface(net),
            VIR_NETWORK_SECTION_PORTGROUP => self.portgroup(net),
            VIR_NETWORK_SECTION_DNS_HOST => self.dns_host(net),
            VIR_NETWORK_SECTION_DNS_TXT => self.dns_txt(net),
            VIR_NETWORK_SECTION_DNS_SRV => self.dns_srv(net),
            _ => {
                let known = SECTIONS.get(self.section as usize).filter(|_| self.section > 0);
                Err(match known {
                    Some(name) => {
                        unsupported(format!("can't update '{name}' section of network '{}'", net.name()))
                    }
                    None => unsupported("can't update unrecognized section of network".to_string()),
                })
            }
        }
    }

    /// The part's element, whose name must be the section's.
    fn element(&self, net: &Network, name: &str) -> Result<Element> {
        let document = Document::parse(&self.xml, Mode::CONFIG, Domain::Network)?;
        let element = document.root().to_element();
        if element.name == name {
            return Ok(element);
        }
        let text = format!(
            "unexpected element <{}>, expecting <{name}>, while updating network '{}'",
            element.name,
            net.name()
        );
        Err(Error::new(Code::XmlError, Domain::Network, text))
    }

    /// Reads the part. One that is to be deleted may be given in part; any other is held to the rules of its place.
    fn read<T: Xml>(&self, net: &Network, name: &'static str, places: Vec<Element>) -> Result<T> {
        let mut text = String::new();
        let element = self.element(net, name)?;
        if self.command == Command::Delete {
            element.dump(&mut text, 0, true);
            return T::read(Document::parse(&text, Mode::CONFIG, Domain::Network)?.root());
        }
        let depth = places.len();
        let within = places.into_iter().rev().fold(element, |inner, mut place| {
            place.children.push(Node::Element(inner));
            place
        });
        let title =
            Element { name: "name".into(), attrs: Vec::new(), children: vec![Node::Text(net.name().into())] };
        let root = Element {
            name: "network".into(),
            attrs: Vec::new(),
            children: vec![Node::Element(title), Node::Element(within)],
        };
        root.dump(&mut text, 0, true);
        let document = Document::parse(&text, Mode::CONFIG, Domain::Network)?;
        let mut at = document.root().children().nth(1);
        for _ in 0..depth {
            at = at.and_then(|e| e.children().next());
        }
        T::read(at.ok_or_else(|| Error::internal(Domain::Network, "a part lost its place"))?)
    }

    fn insert<T>(&self, list: &mut Vec<T>, value: T) {
        match self.command {
            Command::AddFirst => list.insert(0, value),
            _ => list.push(value),
        }
    }

    /// The address whose DHCP section is meant.
    fn ip<'n>(&self, net: &'n mut Network, what: &str) -> Result<&'n mut Ip> {
        let name = net.name().to_string();
        let at = match usize::try_from(self.parent) {
            Ok(at) => at,
            Err(_) => {
                let serving = net.ips.iter().position(Ip::has_dhcp);
                let fits = serving.or_else(|| net.ips.iter().position(|ip| !ip.is_ipv6()));
                fits.ok_or_else(|| {
                    let text = format!(
                        "couldn't update {what} entry - no <ip> element suitable found in network '{name}'"
                    );
                    invalid(text)
                })?
            }
        };
        net.ips.get_mut(at).ok_or_else(|| {
            invalid(format!(
                "couldn't update {what} entry - no <ip> element found at index {at} in network '{name}'"
            ))
        })
    }

    fn dhcp_host(&self, net: &mut Network) -> Result<()> {
        let name = net.name().to_string();
        let v6 = self.ip(net, "dhcp host")?.is_ipv6();
        let family = vec![("family".to_string(), if v6 { "ipv6" } else { "ipv4" }.to_string())];
        let ip = Element { name: "ip".into(), attrs: family, children: Vec::new() };
        let dhcp = Element { name: "dhcp".into(), attrs: Vec::new(), children: Vec::new() };
        let host: DhcpHost = self.read(net, "host", vec![ip, dhcp])?;
        let or_null = |v: Option<String>| v.unwrap_or_else(|| "(null)".into());
        let mac = host.mac.map(|m| m.to_string());
        let address = host.ip.map(|ip| ip.to_string());
        let hosts = &mut self.ip(net, "dhcp host")?.hosts;
        // A field that was not given matches nothing when looking for a twin, and anything when deleting.
        let shares = |h: &DhcpHost| {
            (host.mac.is_some() && h.mac == host.mac)
                || (host.id.is_some() && h.id == host.id)
                || (host.name.is_some() && h.name == host.name)
        };
        match self.command {
            Command::Modify => {
                let Some(at) = hosts.iter().position(|h| shares(h) || (host.ip.is_some() && h.ip == host.ip))
                else {
                    return Err(invalid(format!(
                        "couldn't locate an existing dhcp host entry with \"mac='{}'\" \"name='{}'\" \"ip='{}'\" in network '{name}'",
                        or_null(mac),
                        or_null(host.name.clone()),
                        or_null(address)
                    )));
                };
                hosts[at] = host;
            }
            Command::AddLast | Command::AddFirst => {
                if hosts.iter().any(|h| shares(h) || h.ip == host.ip) {
                    return Err(invalid(format!(
                        "there is an existing dhcp host entry in network '{name}' that matches \"<host mac='{}' name='{}' ip='{}'/>\"",
                        or_null(mac),
                        or_null(host.name.clone()),
                        or_null(address)
                    )));
                }
                self.insert(hosts, host);
            }
            Command::Delete => {
                let matches = |h: &DhcpHost| {
                    (host.mac.is_none() || h.mac == host.mac)
                        && (host.id.is_none() || h.id == host.id)
                        && (host.name.is_none() || h.name == host.name)
                        && (host.ip.is_none() || h.ip == host.ip)
                };
                let missing =
                    || invalid(format!("couldn't locate a matching dhcp host entry in network '{name}'"));
                hosts.remove(hosts.iter().position(matches).ok_or_else(missing)?);
            }
        }
        Ok(())
    }

    fn dhcp_range(&self, net: &mut Network) -> Result<()> {
        let name = net.name().to_string();
        if self.command == Command::Modify {
            return Err(unsupported("dhcp ranges cannot be modified, only added or deleted"));
        }
        let range: DhcpRange = self.read(net, "range", Vec::new())?;
        let ranges = &mut self.ip(net, "dhcp range")?.ranges;
        let found = ranges.iter().position(|r| r.start == range.start && r.end == range.end);
        match (self.command, found) {
            (Command::Delete, Some(at)) => drop(ranges.remove(at)),
            (Command::Delete, None) => {
                return Err(invalid(format!(
                    "couldn't locate a matching dhcp range entry in network '{name}'"
                )));
            }
            (_, Some(_)) => {
                return Err(invalid(format!(
                    "there is an existing dhcp range entry in network '{name}' that matches \"<range start='{}' end='{}'/>\"",
                    range.start, range.end
                )));
            }
            (_, None) => self.insert(ranges, range),
        }
        Ok(())
    }

    fn interface(&self, net: &mut Network) -> Result<()> {
        let name = net.name().to_string();
        if self.command == Command::Modify {
            return Err(unsupported("forward interface entries cannot be modified, only added or deleted"));
        }
        let interface: ForwardInterface = self.read(net, "interface", Vec::new())?;
        let missing = || {
            invalid(format!(
                "couldn't find an interface entry in network '{name}' matching <interface dev='{}'>",
                interface.dev
            ))
        };
        let forward: &mut Forward = match &mut net.forward {
            Some(forward) => forward,
            None if self.command == Command::Delete => return Err(missing()),
            None => {
                return Err(unsupported(format!(
                    "can't update 'forward-interface' section of network '{name}'"
                )));
            }
        };
        let found = forward.interfaces.iter().position(|i| i.dev == interface.dev);
        match (self.command, found) {
            (Command::Delete, Some(at)) => drop(forward.interfaces.remove(at)),
            (Command::Delete, None) => return Err(missing()),
            (_, Some(_)) => {
                return Err(invalid(format!(
                    "there is an existing interface entry in network '{name}' that matches \"<interface dev='{}'>\"",
                    interface.dev
                )));
            }
            (_, None) => self.insert(&mut forward.interfaces, interface),
        }
        forward.dev = forward.interfaces.first().map(|i| i.dev.clone());
        Ok(())
    }

    fn portgroup(&self, net: &mut Network) -> Result<()> {
        let name = net.name().to_string();
        let group: PortGroup = self.read(net, "portgroup", Vec::new())?;
        let this = group.name.clone().unwrap_or_default();
        let found = net.portgroups.iter().position(|g| g.name == group.name);
        match (self.command, found) {
            (Command::Delete, Some(at)) => drop(net.portgroups.remove(at)),
            (Command::Modify, Some(at)) => net.portgroups[at] = group,
            (Command::Delete | Command::Modify, None) => {
                let text = format!(
                    "couldn't find a portgroup entry in network '{name}' matching <portgroup name='{this}'>"
                );
                return Err(invalid(text));
            }
            (_, Some(_)) => {
                let text = format!(
                    "there is an existing portgroup entry in network '{name}' that matches \"<portgroup name='{this}'>\""
                );
                return Err(invalid(text));
            }
            (_, None) => self.insert(&mut net.portgroups, group),
        }
        Ok(())
    }

    fn dns_host(&self, net: &mut Network) -> Result<()> {
        let name = net.name().to_string();
        let host: DnsHost = self.read(net, "host", Vec::new())?;
        let is_add = matches!(self.command, Command::AddLast | Command::AddFirst);
        let matches = |h: &DnsHost| {
            let same_ip = host.ip.is_some() && h.ip == host.ip;
            same_ip || (is_add || host.ip.is_none()) && h.hostnames.iter().any(|n| host.hostnames.contains(n))
        };
        let found: Vec<usize> =
            net.dns.hosts.iter().enumerate().filter(|(_, h)| matches(h)).map(|(at, _)| at).collect();
        match (self.command, found.as_slice()) {
            (Command::AddLast | Command::AddFirst, []) => self.insert(&mut net.dns.hosts, host),
            (Command::AddLast | Command::AddFirst, _) => {
                let text = format!(
                    "there is already at least one DNS HOST record with a matching field in network {name}"
                );
                return Err(invalid(text));
            }
            (_, []) => {
                return Err(invalid(format!("couldn't locate a matching DNS HOST record in network {name}")));
            }
            (_, [_, _, ..]) => {
                return Err(invalid(format!(
                    "multiple matching DNS HOST records were found in network {name}"
                )));
            }
            (Command::Delete, [at]) => drop(net.dns.hosts.remove(*at)),
            (Command::Modify, [at]) => net.dns.hosts[*at] = host,
        }
        Ok(())
    }

    fn dns_txt(&self, net: &mut Network) -> Result<()> {
        let name = net.name().to_string();
        let txt: Txt = self.read(net, "txt", Vec::new())?;
        let found = net.dns.txts.iter().position(|t| t.name == txt.name);
        match (self.command, found) {
            (Command::Delete, Some(at)) => drop(net.dns.txts.remove(at)),
            (Command::Modify, Some(at)) => net.dns.txts[at] = txt,
            (Command::Delete | Command::Modify, None) => {
                return Err(invalid(format!("couldn't locate a matching DNS TXT record in network {name}")));
            }
            (_, Some(_)) => {
                let text =
                    format!("there is already a DNS TXT record with name '{}' in network {name}", txt.name);
                return Err(invalid(text));
            }
            (_, None) => self.insert(&mut net.dns.txts, txt),
        }
        Ok(())
    }

    fn dns_srv(&self, net: &mut Network) -> Result<()> {
        let name = net.name().to_string();
        if self.command == Command::Modify {
            return Err(unsupported("DNS SRV records cannot be modified, only added or deleted"));
        }
        let srv: Srv = self.read(net, "srv", Vec::new())?;
        fn same<T: PartialEq>(wanted: &Option<T>, have: &Option<T>) -> bool {
            wanted.is_none() || wanted == have
        }
        let matches = |s: &Srv| {
            same(&srv.service, &s.service)
                && same(&srv.protocol, &s.protocol)
                && same(&srv.domain, &s.domain)
                && same(&srv.target, &s.target)
                && same(&srv.port, &s.port)
                && same(&srv.priority, &s.priority)
                && same(&srv.weight, &s.weight)
        };
        let found: Vec<usize> =
            net.dns.srvs.iter().enumerate().filter(|(_, s)| matches(s)).map(|(at, _)| at).collect();
        match (self.command, found.as_slice()) {
            (Command::Delete, [at]) => drop(net.dns.srvs.remove(*at)),
            (Command::Delete, []) => {
                return Err(invalid(format!("couldn't locate a matching DNS SRV record in network {name}")));
            }
            (Command::Delete, _) => {
                return Err(invalid(format!(
                    "multiple DNS SRV records matching all specified fields were found in network {name}"
                )));
            }
            (_, []) => self.insert(&mut net.dns.srvs, srv),
            (_, _) => {
                let text = format!(
                    "there is already at least one DNS SRV record matching all specified fields in network {name}"
                );
                return Err(invalid(text));
            }
        }
        Ok(())
    }
}
