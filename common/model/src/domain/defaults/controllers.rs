//! Controllers that devices need and nobody listed.

use std::collections::{BTreeMap, BTreeSet};

use virt_error::Error;
use virt_xml::At;

use super::super::Domain;
use super::super::address::{Address, CcidAddress};
use super::super::chardev::{ChannelTarget, ConsoleTarget};
use super::super::controller::{Controller, ControllerKind};
use super::super::disk::DiskBus;
use super::super::hostdev::HostdevSource;
use super::xml_error;

/// Numbers controllers that have no index and adds those that devices' addresses name.
///
/// Errors: 27 when an index is given twice.
pub fn controllers(d: &mut Domain) -> Result<(), Error> {
    number_controllers(d);
    unique(d)?;
    smartcards(d);
    let mut wanted: Vec<(ControllerKind, u32)> = Vec::new();
    let mut serials: Vec<u32> = Vec::new();
    let mut need = |kind, index| match wanted.iter_mut().find(|w| w.0 == kind) {
        Some(w) => w.1 = w.1.max(index),
        None => wanted.push((kind, index)),
    };
    let dev = &d.devices;
    for disk in &dev.disks {
        let kind = match disk.target.bus {
            Some(DiskBus::Ide) => ControllerKind::Ide,
            Some(DiskBus::Fdc) => ControllerKind::Fdc,
            Some(DiskBus::Scsi) => ControllerKind::Scsi,
            Some(DiskBus::Sata) => ControllerKind::Sata,
            _ => continue,
        };
        if let Some(Address::Drive(a)) = &disk.info.address {
            need(kind, a.controller);
        }
    }
    let port = |address: &Option<Address>| match address {
        Some(Address::VirtioSerial(a)) => a.controller,
        _ => 0,
    };
    for channel in &dev.channels {
        if matches!(channel.target, Some(ChannelTarget::Virtio(_))) {
            need(ControllerKind::VirtioSerial, port(&channel.info.address));
            serials.push(port(&channel.info.address));
        }
    }
    for console in &dev.consoles {
        if console.target.kind == Some(ConsoleTarget::Virtio) {
            need(ControllerKind::VirtioSerial, port(&console.info.address));
            serials.push(port(&console.info.address));
        }
    }
    for card in &dev.smartcards {
        match &card.info.address {
            Some(Address::Ccid(a)) => need(ControllerKind::Ccid, a.controller),
            _ => need(ControllerKind::Ccid, 0),
        }
    }
    for hostdev in dev.hostdevs.iter().filter(|h| matches!(h.source, HostdevSource::Scsi(_))) {
        if let Some(Address::Drive(a)) = &hostdev.info.address {
            need(ControllerKind::Scsi, a.controller);
        }
    }
    let order = [
        ControllerKind::Scsi,
        ControllerKind::Fdc,
        ControllerKind::Ide,
        ControllerKind::Sata,
        ControllerKind::VirtioSerial,
        ControllerKind::Ccid,
    ];
    /// More controllers of a kind than any machine takes; a hostile index must not fill memory.
    const MOST: u32 = 4096;
    for kind in order {
        let Some((_, last)) = wanted.iter().find(|w| w.0 == kind) else { continue };
        if *last > MOST {
            return Err(xml_error(format!("'{kind}' controller index '{last}' is too large")));
        }
        for index in 0..=*last {
            // Ports name their controller; disks fill up all before theirs.
            if kind == ControllerKind::VirtioSerial && !serials.contains(&index) {
                continue;
            }
            if !d.devices.controllers.iter().any(|c| c.kind == kind && c.index == Some(index)) {
                add_controller(d, Controller::new(kind, index, None));
            }
        }
    }
    Ok(())
}

/// Adds a controller at its place: controllers of one kind stand together, in the order of their index.
pub fn add_controller(d: &mut Domain, controller: Controller) {
    let list = &mut d.devices.controllers;
    let same = |c: &&Controller| c.kind == controller.kind;
    let after = list.iter().rposition(|c| same(&c) && c.index < controller.index);
    let before = list.iter().position(|c| same(&c));
    let at = after.map(|a| a + 1).or(before).unwrap_or(list.len());
    list.insert(at, controller);
}

/// Gives each controller without an index the lowest one that is free, in the order of the document.
pub fn number_controllers(d: &mut Domain) {
    let mut used: BTreeMap<ControllerKind, BTreeSet<u32>> = BTreeMap::new();
    for c in &d.devices.controllers {
        used.entry(c.kind).or_default().extend(c.index);
    }
    // Where the search for each kind goes on: indexes only become taken.
    let mut next: BTreeMap<ControllerKind, u32> = BTreeMap::new();
    for i in 0..d.devices.controllers.len() {
        let kind = d.devices.controllers[i].kind;
        if d.devices.controllers[i].index.is_some() {
            continue;
        }
        // USB companions belong to the controller before them.
        let list = &d.devices.controllers;
        let ich9 = |c: &&Controller| c.model.as_deref().is_some_and(|m| m.starts_with("ich9-"));
        let before = match ich9(&&list[i]) {
            true => list[..i].iter().rfind(|c| c.kind == kind).filter(ich9).and_then(|c| c.index),
            false => None,
        };
        let shared = before.filter(|n| {
            !list[..i].iter().any(|c| c.kind == kind && c.index == Some(*n) && c.model == list[i].model)
        });
        let used = used.entry(kind).or_default();
        let next = next.entry(kind).or_default();
        let index = shared.unwrap_or_else(|| {
            while used.contains(next) {
                *next = next.saturating_add(1);
            }
            *next
        });
        used.insert(index);
        d.devices.controllers[i].index = Some(index);
    }
}

fn unique(d: &Domain) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    for c in &d.devices.controllers {
        // The parts of a USB controller share the index of the one that leads them.
        if c.kind == ControllerKind::Usb {
            let part = c.info.master_startport.is_some()
                || c.model.as_deref().is_some_and(|m| m.starts_with("ich9-uhci"));
            if !part && !seen.insert((c.kind, c.index)) {
                let index = c.index.unwrap_or_default();
                let text = format!("Duplicate USB controllers with index {index}");
                return Err(xml_error(text)).at(c.info.place);
            }
            continue;
        }
        if !seen.insert((c.kind, c.index)) {
            let text =
                format!("Multiple '{}' controllers with index '{}'", c.kind, c.index.unwrap_or_default());
            return Err(xml_error(text)).at(c.info.place);
        }
    }
    Ok(())
}

/// A smartcard without an address sits in the next slot of the first controller.
fn smartcards(d: &mut Domain) {
    let slot = |a: &Option<Address>| match a {
        Some(Address::Ccid(a)) if a.controller == 0 => Some(a.slot),
        _ => None,
    };
    let cards = &mut d.devices.smartcards;
    let mut next =
        cards.iter().filter_map(|c| slot(&c.info.address)).max().map_or(0, |s| s.saturating_add(1));
    for card in cards.iter_mut().filter(|c| c.info.address.is_none()) {
        card.info.address = Some(Address::Ccid(CcidAddress { controller: 0, slot: next }));
        next = next.saturating_add(1);
    }
}
