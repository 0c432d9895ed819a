//! How a network reaches the outside.

use core::net::Ipv4Addr;

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, Value, Xml, YesElse, YesNo, names, parse_int};

use super::{detail, network_of, unsupported, xml_error};
use crate::domain::address::PciAddress;

names! {
    /// `<forward mode='...'>`.
    pub enum ForwardMode {
        Nat = "nat", None = "none", Route = "route", Open = "open", Bridge = "bridge", Private = "private", Vepa = "vepa",
        Passthrough = "passthrough", Hostdev = "hostdev"
    }
    /// The driver that hands a host card to a guest.
    pub enum HostdevDriverName { Default = "default", Kvm = "kvm", Vfio = "vfio", Xen = "xen" }
}

impl ForwardMode {
    /// Whether networks of this mode have a bridge of their own, with addresses and services.
    pub fn owns_bridge(self) -> bool {
        matches!(self, Self::None | Self::Nat | Self::Route | Self::Open)
    }
}

/// `<forward>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = Forward::before, check = Forward::check)]
pub struct Forward {
    /// Always the first interface's name, once read.
    #[xml(attr)]
    pub dev: Option<String>,
    #[xml(attr)]
    pub mode: ForwardMode,
    /// Whether libvirt takes host cards from their driver and gives them back (hostdev only).
    #[xml(attr, with = YesElse)]
    pub managed: Option<bool>,
    #[xml(child)]
    pub driver: HostdevDriver,
    #[xml(child)]
    pub nat: Nat,
    #[xml(child)]
    pub pf: Option<ForwardPf>,
    #[xml(child = "interface")]
    pub interfaces: Vec<ForwardInterface>,
    #[xml(child = "address")]
    pub addresses: Vec<ForwardAddress>,
}

/// `<driver>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct HostdevDriver {
    #[xml(attr)]
    pub name: Option<HostdevDriverName>,
    #[xml(attr)]
    pub model: Option<String>,
}

/// `<nat>`: how addresses are translated.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Nat::check)]
pub struct Nat {
    #[xml(attr, with = YesNo)]
    pub ipv6: Option<bool>,
    #[xml(child)]
    pub address: Option<NatAddress>,
    #[xml(child)]
    pub port: Option<NatPorts>,
}

impl Nat {
    fn check(&mut self, _: El<'_>) -> Result<()> {
        // Ports 0 to 0 say nothing.
        self.port.take_if(|ports| ports.end == 0);
        Ok(())
    }
}

/// Addresses that guests' packets bear outside.
#[derive(Debug, Clone, PartialEq, Xml)]
#[xml(before = nat_address)]
pub struct NatAddress {
    #[xml(attr, required)]
    pub start: Ipv4Addr,
    #[xml(attr, required)]
    pub end: Ipv4Addr,
}

/// Ports that guests' packets bear outside.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = nat_ports)]
pub struct NatPorts {
    #[xml(attr)]
    pub start: u16,
    #[xml(attr)]
    pub end: u16,
}

/// The physical function whose virtual functions form the pool.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = pf)]
pub struct ForwardPf {
    #[xml(attr)]
    pub dev: String,
    #[xml(attr, live)]
    pub connections: Option<u32>,
}

/// A host interface of the pool.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = interface)]
pub struct ForwardInterface {
    #[xml(attr)]
    pub dev: String,
    #[xml(attr, live)]
    pub connections: Option<u32>,
}

/// A host card of the pool by its PCI address.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = address)]
pub struct ForwardAddress {
    #[xml(attr = "type")]
    pub kind: String,
    #[xml(flatten)]
    pub pci: PciAddress,
    #[xml(attr, live)]
    pub connections: Option<u32>,
}

fn nat_address(e: El<'_>) -> Result<()> {
    let name = network_of(e);
    let mut ends = [Ipv4Addr::UNSPECIFIED; 2];
    for (attr, at) in ["start", "end"].into_iter().zip(&mut ends) {
        let Some(text) = e.attr(attr) else {
            let text = format!(
                "missing '{attr}' attribute in <address> element in <nat> in <forward> in network {name}"
            );
            return Err(xml_error(e, text));
        };
        *at = Value::parse(text).map_err(|_| {
            xml_error(
                e,
                format!("Bad ipv4 {attr} address '{text}' in <nat> in <forward> in network '{name}'"),
            )
        })?;
    }
    let bad = |what: &str| {
        let text = format!("range {} - {} is {what}", ends[0], ends[1]);
        Err(e.error(Code::InternalError, Domain::None, text))
    };
    if ends[0] > ends[1] {
        return bad("reversed ");
    }
    if u32::from(ends[1]) - u32::from(ends[0]) > 65535 {
        return bad("too large (> 65535)");
    }
    Ok(())
}

fn nat_ports(e: El<'_>) -> Result<()> {
    let name = network_of(e);
    let bad = |attr: &str| {
        let text = format!(
            "Missing or invalid '{attr}' attribute in <port> in <nat> in <forward> in network {name}"
        );
        detail(e, text)
    };
    let read = |attr: &str| {
        let number = e.attr(attr).and_then(|text| parse_int(text, 10));
        number.filter(|n| (0..=65535).contains(n)).ok_or_else(|| bad(attr))
    };
    let (start, end) = (read("start")?, read("end")?);
    if start > end { Err(bad("end")) } else { Ok(()) }
}

fn pf(e: El<'_>) -> Result<()> {
    let name = network_of(e);
    let text = || format!("Missing required dev attribute in <pf> element of network '{name}'");
    e.attr("dev").map(drop).ok_or_else(|| xml_error(e, text()))
}

fn interface(e: El<'_>) -> Result<()> {
    let name = network_of(e);
    let text =
        || format!("Missing required dev attribute in <forward> <interface> element of network {name}");
    e.attr("dev").map(drop).ok_or_else(|| xml_error(e, text()))
}

fn address(e: El<'_>) -> Result<()> {
    let name = network_of(e);
    match e.attr("type") {
        None => Err(xml_error(e, format!("missing address type in network {name}"))),
        Some("pci") => Ok(()),
        Some(kind) => Err(unsupported(e, format!("unknown address type '{kind}' in network {name}"))),
    }
}

/// `0000:00:03.0`.
fn pci_text(a: &PciAddress) -> String {
    format!("{:04x}:{:02x}:{:02x}.{:x}", a.domain, a.bus, a.slot, a.function)
}

impl Forward {
    fn before(e: El<'_>) -> Result<()> {
        let name = network_of(e);
        let mode = match e.attr("mode") {
            None => ForwardMode::Nat,
            Some(mode) => ForwardMode::from_name(mode)
                .ok_or_else(|| unsupported(e, format!("unknown forwarding type '{mode}'")))?,
        };
        for part in ["pf", "nat"] {
            if e.children_named(part).nth(1).is_some() {
                let text = format!("Only one <{part}> element is allowed in <forward> of network {name}");
                return Err(xml_error(e, text));
            }
        }
        let Some(nat) = e.child("nat") else { return Ok(()) };
        if mode != ForwardMode::Nat {
            let text = format!(
                "The <nat> element can only be used when <forward> 'mode' is 'nat' in network {name}"
            );
            return Err(xml_error(e, text));
        }
        for part in ["address", "port"] {
            if nat.children_named(part).nth(1).is_some() {
                let text =
                    format!("Only one <{part}> element is allowed in <nat> in <forward> in network {name}");
                return Err(xml_error(nat, text));
            }
        }
        Ok(())
    }

    fn check(&mut self, e: El<'_>) -> Result<()> {
        let name = network_of(e);
        let listed = !self.addresses.is_empty() || self.pf.is_some();
        if let Some(dev) = &self.dev {
            if listed {
                let text = format!(
                    "the <forward> 'dev' attribute cannot be used when <address> or <pf> sub-elements are present in network {name}"
                );
                return Err(xml_error(e, text));
            }
            match self.interfaces.first() {
                None => self.interfaces.push(ForwardInterface { dev: dev.clone(), connections: None }),
                Some(first) if first.dev != *dev => {
                    let text = format!(
                        "<forward dev='{dev}'> must match first <interface dev='{}'/> in network {name}",
                        first.dev
                    );
                    return Err(xml_error(e, text));
                }
                Some(_) => {}
            }
        }
        for (i, interface) in self.interfaces.iter().enumerate() {
            if self.interfaces[..i].iter().any(|other| other.dev == interface.dev) {
                let text = format!("interface '{}' can only be listed once in network {name}", interface.dev);
                return Err(xml_error(e, text));
            }
        }
        for (i, address) in self.addresses.iter().enumerate() {
            if self.addresses[..i].iter().any(|other| other.pci == address.pci) {
                let text = format!(
                    "PCI device '{}' can only be listed once in network {name}",
                    pci_text(&address.pci)
                );
                return Err(xml_error(e, text));
            }
        }
        // A card's functions are found when the network starts; none of them is what packets leave by.
        self.dev = self.interfaces.first().filter(|_| self.pf.is_none()).map(|i| i.dev.clone());
        let alone = self.interfaces.is_empty() && self.addresses.is_empty() && self.pf.is_none();
        if alone && self.driver.name.is_none() && self.nat == Nat::default() {
            // With nothing to drive it says nothing.
            self.driver = HostdevDriver::default();
        }
        self.managed = (self.mode == ForwardMode::Hostdev).then(|| self.managed.unwrap_or(false));
        Ok(())
    }
}
