//! The bridge that guests' cards are plugged into.

use virt_xml::rt_error::Result;
use virt_xml::{Bad, Codec, El, Xml, names, parse_int};

use super::{network_of, xml_error};

names! {
    /// Who fills the bridge's table of hardware addresses.
    pub enum MacTableManager { Default = "default", Kernel = "kernel", Libvirt = "libvirt" }
}

/// `<bridge>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = Bridge::before)]
pub struct Bridge {
    #[xml(attr, loose)]
    pub name: Option<String>,
    /// firewalld's zone.
    #[xml(attr)]
    pub zone: Option<String>,
    /// Spanning tree protocol.
    #[xml(attr, with = Stp)]
    pub stp: Option<bool>,
    /// Forward delay in seconds.
    #[xml(attr)]
    pub delay: Option<u64>,
    #[xml(attr = "macTableManager")]
    pub mac_table_manager: Option<MacTableManager>,
}

impl Bridge {
    fn before(e: El<'_>) -> Result<()> {
        let name = network_of(e);
        if let Some(delay) = e.attr("delay")
            && parse_int(delay, 10).is_none_or(|n| u64::try_from(n).is_err())
        {
            return Err(xml_error(e, format!("Invalid delay value in network '{name}'")));
        }
        if let Some(manager) = e.attr("macTableManager")
            && MacTableManager::from_name(manager).is_none_or(|m| m == MacTableManager::Default)
        {
            return Err(xml_error(
                e,
                format!("Invalid macTableManager setting '{manager}' in network '{name}'"),
            ));
        }
        Ok(())
    }
}

/// `off`; everything else means `on`, as the reference reads it.
pub struct Stp;

impl Codec<bool> for Stp {
    fn parse(text: &str) -> Result<bool, Bad> {
        Ok(text != "off")
    }
    fn put(value: &bool, out: &mut String) {
        out.push_str(if *value { "on" } else { "off" });
    }
}
