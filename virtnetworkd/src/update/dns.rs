//! Records of the network's DNS server.

use virt_error::Result;
use virt_model::Element;
use virt_model::network::Network;
use virt_model::network::dns::{DnsHost, Srv, Txt};

use super::{Command, Update, element, unrecognized, unsupported};
use crate::network::invalid;

fn within() -> Vec<Element> {
    vec![element("dns", &[], Vec::new())]
}

/// The places in a list of what matches.
fn places<T>(list: &[T], matches: impl Fn(&T) -> bool) -> Vec<usize> {
    list.iter().enumerate().filter(|(_, one)| matches(one)).map(|(at, _)| at).collect()
}

impl Update {
    pub(super) fn dns_host(&self, net: &mut Network, part: Element) -> Result<()> {
        Self::expect(net, &part, "host")?;
        let name = net.name().to_string();
        let partial = matches!(self.command, Command::Delete | Command::Modify);
        let host: DnsHost = Self::read(net, part, within(), partial)?;
        // By its address; one that is to go, by a name too.
        let by_name = |h: &DnsHost| {
            self.command == Command::Delete && h.hostnames.iter().any(|n| host.hostnames.contains(n))
        };
        let found = places(&net.dns.hosts, |h| host.ip.is_some() && h.ip == host.ip || by_name(h));
        match (self.command, found.as_slice()) {
            (Command::Unknown(number), _) => return Err(unrecognized(number)),
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

    pub(super) fn dns_txt(&self, net: &mut Network, part: Element) -> Result<()> {
        Self::expect(net, &part, "txt")?;
        let name = net.name().to_string();
        let partial = matches!(self.command, Command::Delete | Command::Modify);
        let txt: Txt = Self::read(net, part, within(), partial)?;
        let found = net.dns.txts.iter().position(|t| t.name == txt.name);
        match (self.command, found) {
            (Command::Unknown(number), _) => return Err(unrecognized(number)),
            (Command::Delete, Some(at)) => drop(net.dns.txts.remove(at)),
            (Command::Modify, Some(_)) if txt.value.is_none() => {
                return Err(invalid(format!("missing value of modifying DNS TXT record in network {name}")));
            }
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

    pub(super) fn dns_srv(&self, net: &mut Network, part: Element) -> Result<()> {
        if self.command == Command::Modify {
            return Err(unsupported("DNS SRV records cannot be modified, only added or deleted"));
        }
        Self::expect(net, &part, "srv")?;
        let name = net.name().to_string();
        let srv: Srv = Self::read(net, part, within(), self.command == Command::Delete)?;
        fn same<T: PartialEq>(wanted: &Option<T>, have: &Option<T>) -> bool {
            wanted.is_none() || wanted == have
        }
        let found = places(&net.dns.srvs, |s| {
            same(&srv.service, &s.service)
                && same(&srv.protocol, &s.protocol)
                && same(&srv.domain, &s.domain)
                && same(&srv.target, &s.target)
                && same(&srv.port, &s.port)
                && same(&srv.priority, &s.priority)
                && same(&srv.weight, &s.weight)
        });
        match (self.command, found.as_slice()) {
            (Command::Unknown(number), _) => return Err(unrecognized(number)),
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
