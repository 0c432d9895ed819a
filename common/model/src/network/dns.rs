//! Names that the network's DNS server knows.

use core::net::IpAddr;

use virt_xml::rt_error::Result;
use virt_xml::{El, Xml, YesNo, parse_int, parse_ip, rt};

use super::{detail, network_of, xml_error};

/// `<domain>`: the DNS domain of the guests.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct DomainName {
    #[xml(attr, even_empty)]
    pub name: Option<String>,
    #[xml(attr = "localOnly", with = YesNo)]
    pub local_only: Option<bool>,
    /// Whether the host's resolver is told.
    #[xml(attr, with = YesNo)]
    pub register: Option<bool>,
}

/// `<dns>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = Dns::before, check = Dns::check)]
pub struct Dns {
    #[xml(attr, with = YesNo)]
    pub enable: Option<bool>,
    #[xml(attr = "forwardPlainNames", with = YesNo)]
    pub forward_plain_names: Option<bool>,
    #[xml(child = "forwarder")]
    pub forwarders: Vec<Forwarder>,
    #[xml(child = "txt")]
    pub txts: Vec<Txt>,
    #[xml(child = "srv")]
    pub srvs: Vec<Srv>,
    #[xml(child = "host")]
    pub hosts: Vec<DnsHost>,
}

impl Dns {
    /// Whether there is a server at all.
    pub fn enabled(&self) -> bool {
        self.enable != Some(false)
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Records are looked at in the reference's order.
    fn before(e: El<'_>) -> Result<()> {
        rt::attr::<YesNo, bool>(Some(e), "enable", None)?;
        rt::attr::<YesNo, bool>(Some(e), "forwardPlainNames", None)?;
        e.children_named("forwarder").try_for_each(forwarder)?;
        e.children_named("host").try_for_each(host)?;
        e.children_named("srv").try_for_each(srv)
    }

    fn check(&mut self, e: El<'_>) -> Result<()> {
        let records = self.forwarders.len() + self.txts.len() + self.srvs.len() + self.hosts.len();
        if !self.enabled() && records > 0 {
            let name = network_of(e);
            return Err(xml_error(e, format!("Extra data in disabled network '{name}'")));
        }
        Ok(())
    }
}

/// A server that questions go on to: all, or those about one domain.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = forwarder)]
pub struct Forwarder {
    #[xml(attr, even_empty)]
    pub domain: Option<String>,
    #[xml(attr)]
    pub addr: Option<IpAddr>,
}

/// A text record.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = txt)]
pub struct Txt {
    #[xml(attr, even_empty)]
    pub name: String,
    /// May be missing in an order to delete.
    #[xml(attr, even_empty)]
    pub value: Option<String>,
}

/// A service record.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = srv)]
pub struct Srv {
    #[xml(attr, even_empty)]
    pub service: Option<String>,
    #[xml(attr, even_empty)]
    pub protocol: Option<String>,
    #[xml(attr, even_empty)]
    pub domain: Option<String>,
    #[xml(attr, even_empty)]
    pub target: Option<String>,
    #[xml(attr)]
    pub port: Option<u16>,
    #[xml(attr, keep_if = not_zero)]
    pub priority: Option<u16>,
    #[xml(attr, keep_if = not_zero)]
    pub weight: Option<u16>,
}

/// Names of one address.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = host)]
pub struct DnsHost {
    #[xml(attr)]
    pub ip: Option<IpAddr>,
    #[xml(leaf = "hostname")]
    pub hostnames: Vec<String>,
}

fn not_zero(value: &u16, _: virt_xml::Mode) -> bool {
    *value != 0
}

fn forwarder(e: El<'_>) -> Result<()> {
    let name = network_of(e);
    match (e.attr("addr"), e.attr("domain")) {
        (None, None) => {
            Err(xml_error(e, "Invalid forwarder element, must contain at least one of addr or domain"))
        }
        (Some(addr), _) if parse_ip(addr).is_none() => {
            Err(xml_error(e, format!("Invalid forwarder IP address '{addr}' in network '{name}'")))
        }
        _ => Ok(()),
    }
}

fn txt(e: El<'_>) -> Result<()> {
    let name = network_of(e);
    let Some(record) = e.attr("name") else {
        return Err(detail(
            e,
            format!("missing required name attribute in DNS TXT record of network {name}"),
        ));
    };
    // As the server's configuration parts them.
    if record.contains([' ', '\t', '\n', ',']) {
        let text = format!("prohibited character in DNS TXT record name '{record}' of network {name}");
        return Err(detail(e, text));
    }
    if !e.mode().partial && e.attr("value").is_none() {
        let text =
            format!("missing required value attribute in DNS TXT record named '{record}' of network {name}");
        return Err(detail(e, text));
    }
    Ok(())
}

fn srv(e: El<'_>) -> Result<()> {
    let (name, whole) = (network_of(e), !e.mode().partial);
    let service = e.attr("service").unwrap_or("(null)");
    for attr in ["service", "protocol"] {
        let Some(text) = e.attr(attr) else {
            if !whole {
                continue;
            }
            let of = if attr == "service" { String::new() } else { format!(" '{service}'") };
            let text = format!("missing required {attr} attribute in DNS SRV record{of} of network '{name}'");
            return Err(detail(e, text));
        };
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-+/".contains(&b)) {
            let text = format!(
                "invalid character in {attr} attribute '{text}' in DNS SRV record of network '{name}'"
            );
            return Err(detail(e, text));
        }
    }
    for (attr, least, invalid) in
        [("port", 1, "invalid"), ("priority", 0, "Invalid"), ("weight", 0, "invalid")]
    {
        let Some(text) = e.attr(attr) else { continue };
        let bad = || {
            detail(
                e,
                format!("{invalid} DNS SRV {attr} attribute for service '{service}' in network '{name}'"),
            )
        };
        let number = parse_int(text, 10).filter(|n| u32::try_from(*n).is_ok()).ok_or_else(bad)?;
        if e.attr("target").is_none() {
            let text = format!(
                "DNS SRV {attr} attribute not permitted without target for service '{service}' in network '{name}'"
            );
            return Err(detail(e, text));
        }
        if !(least..=65535).contains(&number) {
            return Err(bad());
        }
    }
    Ok(())
}

fn host(e: El<'_>) -> Result<()> {
    let (name, ip) = (network_of(e), e.attr("ip"));
    let refuse = |what: &str| Err(detail(e, format!("{what} in network '{name}' DNS HOST record")));
    let named = e.children_named("hostname").next().is_some();
    let empty = e.children_named("hostname").any(|h| h.text().is_empty());
    let partial = e.mode().partial;
    if empty || !named && !partial {
        return refuse("Missing hostname");
    }
    match ip {
        Some(ip) if parse_ip(ip).is_none() => refuse("Invalid IP address"),
        None if !partial => refuse("Missing IP address"),
        None if !named => {
            Err(detail(e, format!("Missing ip and hostname in network '{name}' DNS HOST record")))
        }
        _ => Ok(()),
    }
}
