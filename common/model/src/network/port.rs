//! A guest card's place in a network, and what it was plugged into.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, Mode, Xml, YesNo, rt};

use super::bridge::MacTableManager;
use super::forward::HostdevDriver;
use super::forwarding::PortForwards;
use crate::domain::address::PciAddress;
use crate::domain::interface::DirectMode;
use crate::domain::net::{Bandwidth, VirtualPort, Vlan};
use crate::{Mac, Uuid, UuidText};

/// `<networkport>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = NetworkPort::before, check = NetworkPort::check)]
pub struct NetworkPort {
    #[xml(leaf, with = UuidText, say(InternalError, "Unable to parse UUID '{}'", Network))]
    pub uuid: Option<Uuid>,
    #[xml(child)]
    pub owner: PortOwner,
    /// The portgroup.
    #[xml(leaf)]
    pub group: Option<String>,
    #[xml(attr = "mac@address")]
    pub mac: Option<Mac>,
    #[xml(child)]
    pub virtualport: Option<VirtualPort>,
    #[xml(child)]
    pub bandwidth: Option<Bandwidth>,
    #[xml(child)]
    pub vlan: Option<Vlan>,
    #[xml(attr = "port@isolated", with = YesNo)]
    pub isolated: Option<bool>,
    #[xml(attr = "rxfilters@trustGuest", with = YesNo)]
    pub trust_guest_rx_filters: Option<bool>,
    #[xml(child)]
    pub plug: Option<Plug>,
    /// Our extension: ports of the host that lead to the card.
    #[xml(flatten)]
    pub forwards: PortForwards,
}

/// The guest a port is for.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct PortOwner {
    #[xml(leaf)]
    pub name: Option<String>,
    #[xml(leaf, with = UuidText, say(InternalError, "Unable to parse UUID '{}'", Network))]
    pub uuid: Option<Uuid>,
}

/// What a port is plugged into.
#[derive(Debug, Clone, PartialEq, Xml)]
#[xml(tag = "type")]
pub enum Plug {
    /// A bridge of the network's own.
    Network(BridgePlug),
    /// A bridge of the host.
    Bridge(BridgePlug),
    /// A host interface.
    Direct(DirectPlug),
    /// A host card as a whole.
    #[xml("hostdev-pci")]
    HostdevPci(HostdevPlug),
}

/// A bridge.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct BridgePlug {
    #[xml(attr, required)]
    pub bridge: String,
    #[xml(attr = "macTableManager")]
    pub mac_table_manager: Option<MacTableManager>,
}

/// macvtap over a host interface.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct DirectPlug {
    #[xml(attr, required)]
    pub dev: String,
    #[xml(attr)]
    pub mode: Option<DirectMode>,
}

/// A host card.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct HostdevPlug {
    #[xml(attr, with = YesNo)]
    pub managed: Option<bool>,
    #[xml(child)]
    pub driver: HostdevDriver,
    #[xml(child)]
    pub address: PciAddress,
}

impl NetworkPort {
    /// Reads a document.
    pub fn parse(text: &str) -> Result<Self> {
        virt_xml::parse(text, "networkport", Mode::LIVE, Domain::Network)
    }

    /// Writes the document, ending in a newline.
    pub fn format(&self) -> String {
        virt_xml::format(self, "networkport", Mode::STATUS)
    }

    /// What a port must have is looked at before anything else it says.
    fn before(e: El<'_>) -> Result<()> {
        let missing = |what: &str| Err(e.error(Code::InternalError, Domain::Network, what.to_string()));
        let filled = |e: Option<El<'_>>, name: &str| {
            e.and_then(|e| e.child(name)).is_some_and(|c| !c.text().is_empty())
        };
        if !filled(Some(e), "uuid") {
            return missing("network port has no uuid");
        }
        let uuid = |e: El<'_>| {
            rt::leaf::<UuidText, Uuid>(Some(e), "uuid", None).map_err(|_| {
                let uuid = e.child("uuid").map(|c| c.text().into_owned()).unwrap_or_default();
                e.error(Code::InternalError, Domain::Network, format!("Unable to parse UUID '{uuid}'"))
            })
        };
        uuid(e)?;
        let owner = e.child("owner");
        if !filled(owner, "name") {
            return missing("network port has no owner name");
        }
        if !filled(owner, "uuid") {
            return missing("network port has no owner UUID");
        }
        owner.map_or(Ok(None), uuid)?;
        let mac = e.child("mac").and_then(|m| m.attr("address")).filter(|m| !m.is_empty());
        let Some(mac) = mac else { return missing("network port has no mac") };
        if <Mac as virt_xml::Value>::parse(mac).is_err() {
            return missing(&format!("Unable to parse MAC '{mac}'"));
        }
        if let Some(plug) = e.child("plug") {
            let need = |attr: &str, what: &str| match plug.attr(attr).is_none_or(str::is_empty) {
                true => {
                    Err(plug.error(Code::XmlError, Domain::Network, format!("Missing network port {what}")))
                }
                false => Ok(()),
            };
            match plug.attr("type") {
                Some("network" | "bridge") => need("bridge", "bridge name")?,
                Some("direct") => need("dev", "link device name")?,
                _ => {}
            }
        }
        Ok(())
    }

    fn check(&mut self, e: El<'_>) -> Result<()> {
        super::drop_empty(&mut self.bandwidth, e);
        self.virtualport.take_if(|port| *port == VirtualPort::default());
        Ok(())
    }
}
