//! Network settings that guests' cards share with networks: addresses, VLANs, bandwidth, virtual ports.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{Bad, Codec, El, Writer, Xml, YesNo, names};

pub use super::virtualport::{VirtualPort, VirtualPortParameters};

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
#[xml(before = Vlan::before, check = Vlan::check)]
pub struct Vlan {
    #[xml(attr, with = YesNo, loose)]
    pub trunk: Option<bool>,
    #[xml(child = "tag")]
    pub tags: Vec<VlanTag>,
}

impl Vlan {
    fn before(e: El<'_>) -> Result<()> {
        let bad = |text: String| Err(e.error(Code::XmlError, Domain::None, text));
        let (mut tags, mut native) = (0, false);
        for tag in e.children_named("tag") {
            let tag = VlanTag::read(tag)?;
            if tag.id > 4095 {
                return bad(format!("vlan tag id {} too large (maximum 4095)", tag.id));
            }
            if tag.native_mode.is_some() && std::mem::replace(&mut native, true) {
                return bad("duplicate native vlan setting".into());
            }
            tags += 1;
        }
        if tags == 0 {
            return bad("missing tag id - each <vlan> must have at least one <tag id='n'/> subelement".into());
        }
        let Some(trunk) = e.attr("trunk").filter(|t| !t.is_empty() && *t != "yes") else { return Ok(()) };
        if tags > 1 {
            return bad(format!(
                "invalid \"trunk='{trunk}'\" in <vlan> - trunk='yes' is required for more than one vlan tag"
            ));
        }
        if native {
            let text =
                "invalid configuration in <vlan> - \"trunk='no'\" is not allowed with a native vlan id";
            return bad(text.into());
        }
        match trunk {
            "no" => Ok(()),
            other => bad(format!("invalid \"trunk='{other}'\" in <vlan> - must be yes or no")),
        }
    }

    fn check(&mut self, _: El<'_>) -> Result<()> {
        // Several tags are always a trunk; that it is none need not be said.
        self.trunk = (self.tags.len() > 1 || self.trunk == Some(true)).then_some(true);
        Ok(())
    }
}

/// One VLAN.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct VlanTag {
    #[xml(attr, required)]
    pub id: u32,
    #[xml(attr = "nativeMode", with = Native)]
    pub native_mode: Option<NativeVlan>,
}

/// A mode; that it is the usual one cannot be said.
pub struct Native;

impl Codec<NativeVlan> for Native {
    fn parse(text: &str) -> Result<NativeVlan, Bad> {
        NativeVlan::from_name(text).filter(|m| *m != NativeVlan::Default).ok_or(Bad::Unknown)
    }
    fn put(value: &NativeVlan, out: &mut String) {
        out.push_str(value.as_str());
    }
}

/// Traffic limits: KiB a second, bursts in KiB.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = Bandwidth::before, check = Bandwidth::check)]
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
    /// What may be said depends on whose limits they are: only a card of a network can be promised a rate, and only a
    /// card's place in a network has a number for it.
    fn before(e: El<'_>) -> Result<()> {
        let (holder, kind) = e.parent().map_or(("", None), |p| (p.name(), p.attr("type")));
        let place = matches!(holder, "networkport" | "actual");
        if let Some(text) = e.attr("classID") {
            <u32 as virt_xml::Value>::parse(text).map_err(|bad| e.bad_attr("classID", text, bad))?;
            if !place && !e.mode().status {
                let text = "classID attribute not supported on <bandwidth> in this usage context";
                return Err(e.error(Code::XmlDetail, Domain::None, text));
            }
        }
        let promised = place || (holder == "interface" && kind == Some("network"));
        for name in ["inbound", "outbound"] {
            let Some(part) = e.child(name) else { continue };
            let rate = Rate::read(part)?;
            if rate.average.is_none() && rate.floor.is_none() {
                let text = "Missing mandatory average or floor attributes";
                return Err(part.error(Code::XmlDetail, Domain::None, text));
            }
            let unsupported = |text: &str| Err(part.error(Code::ConfigUnsupported, Domain::None, text));
            if rate.average.is_none() && (rate.peak.is_some() || rate.burst.is_some()) {
                return unsupported("'peak' and 'burst' require 'average' attribute");
            }
            if rate.floor.is_some() && !(promised && name == "inbound") {
                return unsupported("floor attribute is not supported for this config");
            }
        }
        Ok(())
    }

    /// A direction needs a rate to be a limit; 0 is none.
    fn check(&mut self, _: El<'_>) -> Result<()> {
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
