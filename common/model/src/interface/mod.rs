//! The host's network interfaces: what is configured, and what runs.
#![allow(missing_docs)] // The fields are the document's own names; comments stand where there is more to say.

use core::net::{IpAddr, Ipv4Addr};

use virt_xml::rt_error::{Code, Domain, Error, Result};
use virt_xml::{El, Mode, Xml, YesNo, names};

use crate::Mac;

/// How deep interfaces may lie in interfaces: a VLAN on a bond in a bridge.
const DEPTH: usize = 4;

names! {
    /// What an interface is.
    pub enum InterfaceKind { Ethernet = "ethernet", Bridge = "bridge", Bond = "bond", Vlan = "vlan" }
    /// When it comes up.
    pub enum StartMode { None = "none", Onboot = "onboot", Hotplug = "hotplug" }
    /// An address family.
    pub enum Family { Ipv4 = "ipv4", Ipv6 = "ipv6" }
    /// Whether it can carry packets, as the kernel says it.
    pub enum LinkState {
        Unknown = "unknown", NotPresent = "notpresent", Down = "down", LowerLayerDown = "lowerlayerdown",
        Testing = "testing", Dormant = "dormant", Up = "up",
    }
    /// How a bond uses its cards.
    pub enum BondMode {
        BalanceRr = "balance-rr", ActiveBackup = "active-backup", BalanceXor = "balance-xor", Broadcast = "broadcast",
        Lacp = "802.3ad", BalanceTlb = "balance-tlb", BalanceAlb = "balance-alb",
    }
    /// How a bond asks a card whether it is plugged in.
    pub enum Carrier { Ioctl = "ioctl", Netif = "netif" }
    /// When a bond believes ARP answers.
    pub enum Validate { None = "none", Active = "active", Backup = "backup", All = "all" }
    /// Spanning tree protocol.
    pub enum Stp { On = "on", Off = "off" }
}

/// `<interface>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = Interface::before, check = Interface::check, open)]
pub struct Interface {
    #[xml(attr = "type", say(XmlError, "unknown interface type {}", Interface))]
    pub kind: InterfaceKind,
    #[xml(attr)]
    pub name: String,
    #[xml(attr = "start@mode", say(XmlError, "unknown interface startmode {}", Interface))]
    pub start: Option<StartMode>,
    #[xml(attr = "mtu@size")]
    pub mtu: Option<u32>,
    #[xml(child = "protocol")]
    pub protocols: Vec<Protocol>,
    #[xml(child)]
    pub link: Option<Link>,
    #[xml(attr = "mac@address")]
    pub mac: Option<Mac>,
    #[xml(child)]
    pub bridge: Option<Bridge>,
    #[xml(child)]
    pub bond: Option<Bond>,
    #[xml(child)]
    pub vlan: Option<Vlan>,
}

/// `<link>`: what the cable says.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Link {
    /// Megabits a second.
    #[xml(attr)]
    pub speed: Option<u32>,
    #[xml(attr)]
    pub state: Option<LinkState>,
}

/// `<protocol>`: addresses of one family.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Protocol::check, open)]
pub struct Protocol {
    #[xml(attr, required)]
    pub family: Family,
    /// Addresses as routers announce them.
    #[xml(flag)]
    pub autoconf: bool,
    #[xml(child)]
    pub dhcp: Option<Dhcp>,
    #[xml(child = "ip")]
    pub ips: Vec<Ip>,
    #[xml(attr = "route@gateway")]
    pub gateway: Option<IpAddr>,
}

/// `<dhcp>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Dhcp {
    /// Whether the server's DNS servers are used.
    #[xml(attr, with = YesNo)]
    pub peerdns: Option<bool>,
}

/// `<ip>`.
#[derive(Debug, Clone, PartialEq, Xml)]
pub struct Ip {
    #[xml(attr, required)]
    pub address: IpAddr,
    #[xml(attr)]
    pub prefix: Option<u32>,
}

/// `<bridge>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Bridge::check)]
pub struct Bridge {
    #[xml(attr)]
    pub stp: Option<Stp>,
    /// Forward delay in seconds, as it was written.
    #[xml(attr)]
    pub delay: Option<String>,
    #[xml(child = "interface")]
    pub interfaces: Vec<Interface>,
}

/// `<bond>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Bond {
    #[xml(attr)]
    pub mode: Option<BondMode>,
    #[xml(child)]
    pub miimon: Option<MiiMonitor>,
    #[xml(child)]
    pub arpmon: Option<ArpMonitor>,
    #[xml(child = "interface")]
    pub interfaces: Vec<Interface>,
}

/// `<miimon>`: cards are asked; times in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct MiiMonitor {
    #[xml(attr, required)]
    pub freq: u32,
    #[xml(attr)]
    pub downdelay: Option<u32>,
    #[xml(attr)]
    pub updelay: Option<u32>,
    #[xml(attr)]
    pub carrier: Option<Carrier>,
}

/// `<arpmon>`: somebody is asked.
#[derive(Debug, Clone, PartialEq, Xml)]
pub struct ArpMonitor {
    /// Milliseconds.
    #[xml(attr, required)]
    pub interval: u32,
    #[xml(attr, required)]
    pub target: Ipv4Addr,
    #[xml(attr)]
    pub validate: Option<Validate>,
}

/// `<vlan>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Vlan {
    #[xml(attr, required)]
    pub tag: u32,
    /// The interface below.
    #[xml(attr = "interface@name")]
    pub below: Option<String>,
}

fn broken(text: impl Into<String>) -> Error {
    Error::new(Code::XmlError, Domain::Interface, text)
}

impl Interface {
    /// Reads a document.
    ///
    /// # Errors
    /// libvirt's code and text for what is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        virt_xml::parse(text, "interface", Mode::CONFIG, Domain::Interface)
    }

    /// Writes the document, ending in a newline.
    pub fn format(&self) -> String {
        virt_xml::format(self, "interface", Mode::CONFIG)
    }

    /// The interfaces inside.
    pub fn inner(&self) -> &[Interface] {
        let bridge = self.bridge.as_ref().map(|b| &b.interfaces);
        bridge.or(self.bond.as_ref().map(|b| &b.interfaces)).map_or(&[], Vec::as_slice)
    }

    fn before(e: El<'_>) -> Result<()> {
        let mut depth = 0;
        let mut up = e.parent();
        while let Some(parent) = up {
            depth += usize::from(parent.name() == "interface");
            up = parent.parent();
        }
        if depth >= DEPTH {
            return Err(broken("interfaces are nested too deeply"));
        }
        if e.attr("type").is_none() {
            return Err(broken("interface misses the type attribute"));
        }
        if e.attr("name").is_none_or(str::is_empty) {
            return Err(broken("interface has no name"));
        }
        Ok(())
    }

    fn check(&mut self, _: El<'_>) -> Result<()> {
        match self.kind {
            InterfaceKind::Bridge if self.bridge.is_none() => {
                Err(broken("bridge interface misses the bridge element"))
            }
            InterfaceKind::Bond if self.bond.is_none() => {
                Err(broken("bond interface misses the bond element"))
            }
            InterfaceKind::Bond if self.inner().is_empty() => Err(broken("bond has no interfaces")),
            InterfaceKind::Vlan => match &self.vlan {
                Some(vlan) if vlan.below.is_none() => Err(broken("vlan misses the interface name")),
                Some(vlan) if vlan.tag > 4095 => {
                    Err(broken(format!("vlan tag {} is not in 0..4095", vlan.tag)))
                }
                Some(_) => Ok(()),
                None => Err(broken("vlan interface misses the vlan element")),
            },
            _ => Ok(()),
        }
    }
}

impl Protocol {
    fn check(&mut self, _: El<'_>) -> Result<()> {
        let v6 = self.family == Family::Ipv6;
        for ip in &self.ips {
            if ip.address.is_ipv6() != v6 {
                return Err(broken(format!("address {} is not of family {}", ip.address, self.family)));
            }
            if ip.prefix.is_some_and(|p| p > if v6 { 128 } else { 32 }) {
                return Err(broken("Invalid ip address prefix value"));
            }
        }
        match self.gateway {
            Some(gateway) if gateway.is_ipv6() != v6 => {
                Err(broken(format!("gateway {gateway} is not of family {}", self.family)))
            }
            _ => Ok(()),
        }
    }
}

impl Bridge {
    fn check(&mut self, _: El<'_>) -> Result<()> {
        let number = |text: &String| text.parse::<f64>().is_ok_and(|n| (0.0..=300.0).contains(&n));
        match &self.delay {
            Some(delay) if !number(delay) => {
                Err(broken(format!("bridge delay '{delay}' is no number of seconds")))
            }
            _ => Ok(()),
        }
    }
}
