//! Named sets of settings that guests' cards choose from.

use virt_xml::rt_error::Result;
use virt_xml::{El, Mode, Xml, YesElse, YesNo, rt};

use super::{drop_empty, xml_error};
use crate::domain::net::{Bandwidth, VirtualPort, Vlan};

/// `<portgroup>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = PortGroup::before, check = PortGroup::check, open)]
pub struct PortGroup {
    #[xml(attr)]
    pub name: Option<String>,
    /// The group of cards that name none.
    #[xml(attr, with = YesElse, keep_if = is_set)]
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
    fn check(&mut self, e: El<'_>) -> Result<()> {
        drop_empty(&mut self.bandwidth, e);
        // A switch's port that says nothing.
        self.virtualport.take_if(|port| *port == VirtualPort::default());
        Ok(())
    }

    fn before(e: El<'_>) -> Result<()> {
        if e.attr("name").is_none_or(str::is_empty) {
            return Err(xml_error(e, "Missing required name attribute in portgroup"));
        }
        // The order in which the reference finds mistakes.
        rt::attr::<YesNo, bool>(Some(e), "trustGuestRxFilters", None)?;
        rt::child::<VirtualPort>(Some(e), "virtualport")?;
        rt::child::<Bandwidth>(Some(e), "bandwidth").map(drop)
    }
}
