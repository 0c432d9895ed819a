//! Network settings that guests' cards share with networks: addresses, VLANs, bandwidth, virtual ports.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, Writer, Xml, YesNo, names};

use crate::{Uuid, UuidText};

/// An IP address of a card.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = IpAddress::check)]
pub struct IpAddress {
    #[xml(attr)]
    pub address: Option<String>,
    #[xml(attr)]
    pub family: Option<String>,
    #[xml(attr, read_if = virt_xml::not_zero)]
    pub prefix: Option<u32>,
    #[xml(attr)]
    pub peer: Option<String>,
}

impl IpAddress {
    /// The address itself says of which family it is.
    fn check(&mut self, e: El<'_>) -> Result<()> {
        let bad = |code, text: String| Err(e.error(code, Domain::None, text));
        let Some(text) = &self.address else {
            return bad(Code::XmlError, "Missing required address in <ip>".into());
        };
        let Some(address) = virt_xml::parse_ip(text) else {
            return bad(Code::XmlError, format!("Invalid address '{text}' in <ip>"));
        };
        // One that was named must be that one.
        let other = if address.is_ipv4() { "ipv6" } else { "ipv4" };
        if self.family.as_deref() == Some(other) {
            return bad(Code::XmlError, format!("Invalid address '{text}' in <ip>"));
        }
        if let Some(text) = &mut self.peer {
            let Some(peer) = virt_xml::parse_ip(text) else {
                return bad(Code::InvalidArg, format!("Invalid peer '{text}' in <ip>"));
            };
            *text = peer.to_string();
        }
        self.address = Some(address.to_string());
        self.family = Some(if address.is_ipv4() { "ipv4" } else { "ipv6" }.into());
        Ok(())
    }
}

/// A route.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Route {
    #[xml(attr)]
    pub family: Option<String>,
    #[xml(attr)]
    pub address: Option<String>,
    #[xml(attr)]
    pub netmask: Option<String>,
    #[xml(attr)]
    pub prefix: Option<u32>,
    #[xml(attr)]
    pub gateway: Option<String>,
    #[xml(attr)]
    pub metric: Option<u32>,
}

names! {
    /// How untagged packets are treated.
    pub enum NativeVlan { Default = "default", Tagged = "tagged", Untagged = "untagged" }
}

/// VLANs of a port.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Vlan::check)]
pub struct Vlan {
    #[xml(attr, with = YesNo)]
    pub trunk: Option<bool>,
    #[xml(child = "tag")]
    pub tags: Vec<VlanTag>,
}

impl Vlan {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        let bad = |text: String| Err(e.error(Code::XmlError, Domain::None, text));
        if self.tags.is_empty() {
            return bad("missing tag id - each <vlan> must have at least one <tag id='n'/> subelement".into());
        }
        if let Some(tag) = self.tags.iter().find(|t| t.id > 4095) {
            return bad(format!("vlan tag id {} too large (maximum 4095)", tag.id));
        }
        if self.tags.len() > 1 && self.trunk == Some(false) {
            let text =
                "invalid \"trunk='no'\" in <vlan> - trunk='yes' is required for more than one vlan tag";
            return bad(text.into());
        }
        if self.tags.len() > 1 {
            self.trunk = Some(true);
        }
        if self.trunk == Some(false) {
            self.trunk = None;
        }
        Ok(())
    }
}

/// One VLAN.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct VlanTag {
    #[xml(attr, required)]
    pub id: u32,
    #[xml(attr = "nativeMode")]
    pub native_mode: Option<NativeVlan>,
}

/// Traffic limits: KiB a second, bursts in KiB.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Bandwidth::check)]
pub struct Bandwidth {
    #[xml(attr = "classID", status)]
    pub class_id: Option<u32>,
    #[xml(flatten)]
    pub tags: OpenTags,
    #[xml(child)]
    pub inbound: Option<Rate>,
    #[xml(child)]
    pub outbound: Option<Rate>,
}

/// An element the reference never shortens to `<x/>`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct OpenTags;

impl Xml for OpenTags {
    fn read(_: El<'_>) -> Result<Self> {
        Ok(Self)
    }
    fn write_attrs(&self, _: &mut Writer) {}
    fn write_children(&self, w: &mut Writer) {
        w.open_lines();
    }
}

impl Bandwidth {
    /// A direction needs a rate to be a limit; 0 is none.
    fn check(&mut self, e: El<'_>) -> Result<()> {
        for rate in [&self.inbound, &self.outbound].into_iter().flatten() {
            if rate.average.is_none() && rate.floor.is_none() {
                let text = "Missing mandatory average or floor attributes";
                return Err(e.error(Code::XmlDetail, Domain::None, text));
            }
        }
        for direction in [&mut self.inbound, &mut self.outbound] {
            let Some(rate) = direction else { continue };
            for value in [&mut rate.average, &mut rate.peak, &mut rate.floor, &mut rate.burst] {
                *value = value.filter(|v| *v > 0);
            }
            if rate.average.is_none() && rate.floor.is_none() {
                *direction = None;
            }
        }
        Ok(())
    }
}

/// One direction's limit.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Rate {
    #[xml(attr)]
    pub average: Option<u64>,
    #[xml(attr)]
    pub peak: Option<u64>,
    #[xml(attr)]
    pub floor: Option<u64>,
    #[xml(attr)]
    pub burst: Option<u64>,
}

/// The port of a switch.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = VirtualPort::check)]
pub struct VirtualPort {
    #[xml(attr = "type")]
    pub kind: Option<String>,
    #[xml(child)]
    pub parameters: VirtualPortParameters,
}

impl VirtualPort {
    /// The kinds of switches there are.
    const KINDS: [&str; 5] = ["none", "802.1Qbg", "802.1Qbh", "openvswitch", "midonet"];

    fn check(&mut self, e: El<'_>) -> Result<()> {
        // Each kind of switch has parameters of its own.
        let p = std::mem::take(&mut self.parameters);
        self.parameters = match self.kind.as_deref() {
            Some("802.1Qbg") => VirtualPortParameters { interfaceid: None, profileid: None, ..p },
            Some("802.1Qbh") => VirtualPortParameters { profileid: p.profileid, ..Default::default() },
            Some("openvswitch") => VirtualPortParameters {
                interfaceid: p.interfaceid,
                profileid: p.profileid,
                ..Default::default()
            },
            Some("midonet") => VirtualPortParameters { interfaceid: p.interfaceid, ..Default::default() },
            _ => p,
        };
        match &self.kind {
            Some(kind) if !Self::KINDS.contains(&kind.as_str()) => Err(e.error(
                Code::ConfigUnsupported,
                Domain::None,
                format!("unknown virtualport type {kind}"),
            )),
            _ => Ok(()),
        }
    }
}

/// What the switch must know.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct VirtualPortParameters {
    #[xml(attr)]
    pub managerid: Option<u32>,
    #[xml(attr)]
    pub typeid: Option<u32>,
    #[xml(attr)]
    pub typeidversion: Option<u32>,
    #[xml(attr, with = UuidText)]
    pub instanceid: Option<Uuid>,
    #[xml(attr, with = UuidText)]
    pub interfaceid: Option<Uuid>,
    #[xml(attr)]
    pub profileid: Option<String>,
}
