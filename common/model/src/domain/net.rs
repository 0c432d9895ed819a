//! Network settings that guests' cards share with networks: addresses, VLANs, bandwidth, virtual ports.

use virt_xml::{Xml, YesNo, names};

use crate::{Uuid, UuidText};

/// An IP address of a card.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct IpAddress {
    #[xml(attr)]
    pub address: Option<String>,
    #[xml(attr)]
    pub family: Option<String>,
    #[xml(attr)]
    pub prefix: Option<u32>,
    #[xml(attr)]
    pub peer: Option<String>,
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
pub struct Vlan {
    #[xml(attr, with = YesNo)]
    pub trunk: Option<bool>,
    #[xml(child = "tag")]
    pub tags: Vec<VlanTag>,
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
pub struct Bandwidth {
    #[xml(attr = "classID", status)]
    pub class_id: Option<u32>,
    #[xml(child)]
    pub inbound: Option<Rate>,
    #[xml(child)]
    pub outbound: Option<Rate>,
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
pub struct VirtualPort {
    #[xml(attr = "type")]
    pub kind: Option<String>,
    #[xml(child)]
    pub parameters: VirtualPortParameters,
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
