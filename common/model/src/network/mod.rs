//! The network document: a virtual network, its bridge, addresses and services; and the port document, one guest card's
//! place in a network.
//!
//! [`Network::parse`] reads and checks everything the document alone can tell; what depends on the host (a free
//! bridge name, whether a PCI device is a virtual function) is the driver's.
#![allow(missing_docs)] // The fields are the document's own names; comments stand where there is more to say.

pub mod bridge;
pub mod dhcp;
pub mod dns;
pub mod forward;
pub mod forwarding;
pub mod ip;
pub mod options;
pub mod port;
pub mod portgroup;
pub mod route;
mod validate;

use virt_xml::rt_error::{Code, Domain, Error, Result};
use virt_xml::{El, Mode, Xml, YesNo};

use crate::domain::metadata::Metadata;
use crate::domain::net::{Bandwidth, VirtualPort, Vlan};
use crate::{Mac, Uuid, UuidText};
use bridge::Bridge;
use dns::{Dns, DomainName};
use forward::{Forward, ForwardMode};
use ip::Ip;
use options::DnsmasqOptions;
use portgroup::PortGroup;
use route::Route;

/// `<network>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = Network::before, check = Network::check)]
pub struct Network {
    /// How many guest cards are plugged in.
    #[xml(attr, live)]
    pub connections: Option<u32>,
    /// Guests may speak IPv6 to each other though no IPv6 address is configured.
    #[xml(attr, with = YesNo, keep_if = is_set)]
    pub ipv6: Option<bool>,
    #[xml(attr = "trustGuestRxFilters", with = YesNo)]
    pub trust_guest_rx_filters: Option<bool>,
    #[xml(leaf)]
    pub name: Option<String>,
    #[xml(leaf, with = UuidText, say(InternalError, "malformed uuid element", Network))]
    pub uuid: Option<Uuid>,
    #[xml(leaf)]
    pub title: Option<String>,
    #[xml(leaf)]
    pub description: Option<String>,
    #[xml(child)]
    pub metadata: Metadata,
    #[xml(child)]
    pub forward: Option<Forward>,
    #[xml(child)]
    pub bridge: Bridge,
    #[xml(attr = "mtu@size", loose, keep_if = not_zero)]
    pub mtu: Option<u32>,
    #[xml(attr = "mac@address", loose)]
    pub mac: Option<Mac>,
    #[xml(child)]
    pub domain: Option<DomainName>,
    #[xml(child)]
    pub dns: Dns,
    #[xml(child)]
    pub vlan: Option<Vlan>,
    #[xml(child)]
    pub bandwidth: Option<Bandwidth>,
    #[xml(attr = "port@isolated", with = YesNo)]
    pub isolated: Option<bool>,
    #[xml(child = "ip")]
    pub ips: Vec<Ip>,
    #[xml(child = "route")]
    pub routes: Vec<Route>,
    #[xml(child)]
    pub virtualport: Option<VirtualPort>,
    #[xml(child = "portgroup")]
    pub portgroups: Vec<PortGroup>,
    #[xml(flatten)]
    pub dnsmasq: DnsmasqOptions,
}

fn is_set(value: &bool, _: Mode) -> bool {
    *value
}

fn not_zero(size: &u32, _: Mode) -> bool {
    *size != 0
}

impl Network {
    /// Reads a document. What only a running network has is left out when `mode.inactive`; one that is there already
    /// (`mode.known`) is not refused for what it says beyond its forward mode.
    ///
    /// Errors carry libvirt's code and text, with element path, line and value as context.
    pub fn parse(text: &str, mode: Mode) -> Result<Self> {
        virt_xml::parse_judged(text, "network", mode, Domain::Network, validate::first)
    }

    /// Writes the document, ending in a newline.
    pub fn format(&self, mode: Mode) -> String {
        virt_xml::format(self, "network", mode)
    }

    /// How the network reaches the outside; `None` for an isolated one.
    pub fn mode(&self) -> ForwardMode {
        self.forward.as_ref().map_or(ForwardMode::None, |f| f.mode)
    }

    /// Whether the network has a bridge of its own, with addresses and services.
    pub fn owns_bridge(&self) -> bool {
        self.mode().owns_bridge()
    }

    /// The name, or nothing before it was checked.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// The portgroup of this name; without one, the default portgroup.
    pub fn portgroup(&self, name: Option<&str>) -> Option<&PortGroup> {
        self.portgroups.iter().find(|g| match name {
            Some(name) => g.name.as_deref() == Some(name),
            None => g.default == Some(true),
        })
    }

    /// Fills in what the reference always writes for a bridge of the network's own.
    pub fn set_defaults(&mut self) {
        if self.owns_bridge() {
            self.bridge.stp.get_or_insert(true);
            self.bridge.delay.get_or_insert(0);
        }
        if self.domain.as_ref().is_some_and(|d| d.name.is_none()) {
            self.domain = None;
        }
    }

    fn before(e: El<'_>) -> Result<()> {
        let name = e.child("name").map(|n| n.text().to_string()).unwrap_or_default();
        if name.is_empty() {
            return Err(Error::bare(Code::NoName, Domain::Network).with("line", e.line()));
        }
        if name.contains('/') {
            return Err(
                Error::new(Code::XmlDetail, Domain::Xml, "invalid char in name: /").with("line", e.line())
            );
        }
        if name.contains('\n') {
            return Err(
                Error::new(Code::XmlDetail, Domain::Xml, "invalid char in name: \n").with("line", e.line())
            );
        }
        validate::own(e, &name)
    }

    fn check(&mut self, e: El<'_>) -> Result<()> {
        // The reference writes an isolated network without the element.
        self.forward.take_if(|f| f.mode == ForwardMode::None);
        drop_empty(&mut self.bandwidth, e);
        self.set_defaults();
        validate::whole(self, e)
    }
}

/// An empty `<bandwidth>` of this element is dropped; one whose limits are all 0 stays.
pub(crate) fn drop_empty(bandwidth: &mut Option<Bandwidth>, e: El<'_>) {
    let filled = e.child("bandwidth").is_some_and(|b| b.children().next().is_some());
    bandwidth.take_if(|b| !filled && b.inbound.is_none() && b.outbound.is_none());
}

/// The name of the network a part belongs to.
pub(crate) fn network_of(e: El<'_>) -> String {
    let mut at = e;
    while let Some(up) = at.parent() {
        at = up;
    }
    at.child("name").map(|n| n.text().to_string()).unwrap_or_default()
}

/// "XML error: ..." of the network driver.
pub(crate) fn xml_error(e: El<'_>, text: impl Into<String>) -> Error {
    e.error(Code::XmlError, Domain::Network, text)
}

/// "unsupported configuration: ..." of the network driver.
pub(crate) fn unsupported(e: El<'_>, text: impl Into<String>) -> Error {
    e.error(Code::ConfigUnsupported, Domain::Network, text)
}

/// A text without a prefix, as the reference reports some faults.
pub(crate) fn detail(e: El<'_>, text: impl Into<String>) -> Error {
    e.error(Code::XmlDetail, Domain::Network, text)
}
