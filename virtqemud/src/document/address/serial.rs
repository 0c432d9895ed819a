//! Ports of virtio-serial controllers.

use std::collections::{BTreeMap, BTreeSet};

use virt_error::Result;

use crate::document::implicit::add_controller;
use crate::document::types::{Address, ChannelTarget, ControllerKind, Domain, VirtioSerialAddress};
use crate::document::xml_error;

/// Ports of a controller that does not say how many it has.
const PORTS: u32 = 31;

#[derive(Default)]
struct Ports {
    controllers: BTreeMap<u32, (u32, BTreeSet<u32>)>,
    /// The first controller that may have a free port.
    open: u32,
}

impl Ports {
    fn take(&mut self, controller: u32, port: u32) -> Result<()> {
        let Some((most, used)) = self.controllers.get_mut(&controller) else {
            return Err(xml_error(format!("virtio serial controller {controller} is missing")));
        };
        if port >= *most {
            return Err(xml_error(format!(
                "virtio serial controller {controller} does not have port {port}"
            )));
        }
        if !used.insert(port) {
            return Err(xml_error(format!(
                "virtio serial port {port} on controller {controller} is already occupied"
            )));
        }
        Ok(())
    }

    fn free(&self, controller: u32, from: u32) -> Option<u32> {
        let (most, used) = self.controllers.get(&controller)?;
        (from..*most).find(|p| !used.contains(p))
    }
}

pub(super) fn assign(def: &mut Domain) -> Result<()> {
    let mut ports = Ports::default();
    for c in def.devices.controllers.iter().filter(|c| c.kind == ControllerKind::VirtioSerial) {
        ports.controllers.insert(c.index.unwrap_or(0), (c.ports.unwrap_or(PORTS), BTreeSet::new()));
    }
    // Places the document names come first.
    for channel in &def.devices.channels {
        if let Some(Address::VirtioSerial(a)) = &channel.info.address
            && a.port > 0
        {
            ports.take(a.controller, a.port)?;
        }
    }
    for console in &def.devices.consoles {
        if let Some(Address::VirtioSerial(a)) = &console.info.address
            && a.port > 0
        {
            ports.take(a.controller, a.port)?;
        }
    }
    let mut added = Vec::new();
    for channel in &mut def.devices.channels {
        if matches!(channel.target, Some(ChannelTarget::Virtio(_))) {
            place(&mut channel.info.address, &mut ports, 1, &mut added)?;
        }
    }
    for index in added {
        add_controller(def, ControllerKind::VirtioSerial, index, None);
    }
    Ok(())
}

/// Finds a port from `from` on; adds a controller when all are full.
fn place(address: &mut Option<Address>, ports: &mut Ports, from: u32, added: &mut Vec<u32>) -> Result<()> {
    match address {
        Some(Address::VirtioSerial(a)) if a.port == 0 => {
            let Some(port) = ports.free(a.controller, from) else {
                return Err(xml_error(format!(
                    "Unable to find a free port on virtio-serial controller {}",
                    a.controller
                )));
            };
            ports.take(a.controller, port)?;
            a.port = port;
        }
        None => {
            // Controllers before this one were full already, and nothing is given back.
            let rest = ports.controllers.range(ports.open..).map(|(c, _)| *c);
            let found = rest.into_iter().find_map(|c| Some((c, ports.free(c, from)?)));
            let (controller, port) = match found {
                Some(found) => {
                    ports.open = found.0;
                    found
                }
                None => {
                    let next = ports.controllers.keys().last().map_or(0, |c| c + 1);
                    ports.controllers.insert(next, (PORTS, BTreeSet::new()));
                    added.push(next);
                    (next, from)
                }
            };
            ports.take(controller, port)?;
            *address = Some(Address::VirtioSerial(VirtioSerialAddress { controller, bus: 0, port }));
        }
        _ => {}
    }
    Ok(())
}
