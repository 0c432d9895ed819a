//! Named sets of settings that guests' cards choose from.

use virt_xml::rt_error::Result;
use virt_xml::{El, Mode, Xml, YesNo};

use super::xml_error;
use crate::domain::net::{Bandwidth, VirtualPort, Vlan};

/// `<portgroup>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = PortGroup::before, open)]
pub struct PortGroup {
    #[xml(attr)]
    pub name: Option<String>,
    /// The group of cards that name none.
    #[xml(attr, with = YesNo, keep_if = is_set)]
    pub default: Option<bool>,
    #[xml(attr = "trustGuestRxFilters", with = YesNo)]
    pub trust_guest_rx_filters: Option<bool>,
    #[xml(child)]
    pub vlan: Option<Vlan>,
    #[xml(child)]
    pub virtualport: Option<VirtualPort>,
    #[xml(child)]
    pub bandwidth: Option<Bandwidth>,
}

fn is_set(value: &bool, _: Mode) -> bool {
    *value
}

impl PortGroup {
    fn before(e: El<'_>) -> Result<()> {
        match e.attr("name") {
            None => Err(xml_error(e, "Missing required name attribute in portgroup")),
            Some(_) => Ok(()),
        }
    }
}
