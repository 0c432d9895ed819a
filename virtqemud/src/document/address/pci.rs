//! PCI addresses: fixed places of the chipset, places the document names, and the next free ones for all others.
//!
//! The devices are placed on a copy first, where missing buses may be added; when some were, their controllers join
//! the document and the devices are placed again.

use virt_error::{Domain as From, Error, Result};
use virt_xml::At;

use super::bus::{BusModel, Connect, PciPlace, PciSet};
use super::pci_devices::{Needs, controller as controller_needs, video as video_needs, visit};
use crate::document::implicit::add_controller;
use crate::document::types::{
    Address, Controller, ControllerKind, DeviceInfo, Domain, PciAddress, PciModelName, SoundModel,
};
use crate::document::{machine, unsupported, xml_error};
use crate::emulator::Emulator;

pub(super) fn assign(def: &mut Domain, emulator: &Emulator) -> Result<()> {
    let name = def.os.kind.machine.clone().unwrap_or_default();
    let express = machine::has_pcie_root(&emulator.arch, &name);
    // Boards of these architectures that have no PCI are left without: whatever their devices are, they sit elsewhere.
    let board = machine::is_arm(&emulator.arch)
        || emulator.arch.starts_with("riscv")
        || emulator.arch == "loongarch64";
    if board && !express && !machine::has_pci_root(&emulator.arch, &name) {
        return Ok(());
    }
    let guest = Guest { needs: Needs::of(&name, &emulator.arch), name };
    let models = buses(def, false)?;
    let spare_port = express && models.len() <= 1;
    let mut trial = def.clone();
    let mut set = PciSet::new(&buses(def, true)?, true);
    set.many_roots = machine::is_pseries(&guest.name);
    guest.collect(&mut trial, &mut set)?;
    let root = matches!(models.first(), Some(Some(BusModel::PciRoot))) && machine::is_i440fx(&guest.name);
    let bridge = BusModel::PciBridge.connect();
    if root {
        guest.chipset(&mut trial, &mut set)?;
        // Room for a bridge is kept as long as there is any room at all.
        if set.buses.iter().flatten().any(|b| !b.is_full()) {
            set.next(bridge, 0)?;
        }
        guest.place_all(&mut trial, &mut set)?;
        let mut known = models.len();
        while known < set.buses.len() {
            set.next(bridge, 0)?;
            known += 1;
        }
    } else {
        guest.chipset(&mut trial, &mut set)?;
        guest.place_all(&mut trial, &mut set)?;
        if spare_port && set.buses.len() > models.len().max(1) {
            set.next(Connect::PCIE.and(Connect::HOTPLUG), 0)?;
        }
    }
    let added: Vec<(u32, BusModel)> = set
        .buses
        .iter()
        .enumerate()
        .filter(|(i, _)| models.get(*i).is_none_or(Option::is_none))
        .filter_map(|(i, b)| Some((i as u32, b.as_ref()?.model)))
        .collect();
    if added.is_empty() && !root {
        *def = trial;
    } else {
        for (index, model) in added {
            add_controller(def, ControllerKind::Pci, index, Some(model.name()));
            if let Some(c) = def
                .devices
                .controllers
                .iter_mut()
                .find(|c| c.kind == ControllerKind::Pci && c.index == Some(index))
            {
                c.pci_model = Some(match model {
                    BusModel::PciRoot => PciModelName::SpaprPhb,
                    BusModel::PciBridge => PciModelName::PciBridge,
                    BusModel::PcieToPciBridge => PciModelName::PciePciBridge,
                    _ => PciModelName::PcieRootPort,
                });
            }
        }
        let models = buses(def, false)?;
        set = PciSet::new(&models, false);
        guest.collect(def, &mut set)?;
        guest.chipset(def, &mut set)?;
        guest.place_all(def, &mut set)?;
    }
    share_slots(def, &guest, &set)?;
    host_bridges(def);
    port_options(def);
    Ok(())
}

/// Models of the guest's PCI buses by index.
fn buses(def: &Domain, fill: bool) -> Result<Vec<Option<BusModel>>> {
    let mut models: Vec<Option<BusModel>> = Vec::new();
    for c in def.devices.controllers.iter().filter(|c| c.kind == ControllerKind::Pci) {
        let index = c.index.unwrap_or(0) as usize;
        if index > 255 {
            return Err(xml_error(format!("PCI controller index {index} too high, maximum is 255")));
        }
        if models.len() <= index {
            models.resize(index + 1, None);
        }
        if models[index].is_some() {
            return Err(xml_error(format!("Multiple 'pci' controllers with index '{index}'")));
        }
        models[index] = c.model.as_deref().and_then(BusModel::from_name);
    }
    let pseries = machine::is_pseries(def.os.kind.machine.as_deref().unwrap_or_default());
    // An index nobody named is a bus of the usual kind.
    let filler = match models.first() {
        Some(Some(BusModel::PciRoot)) if pseries => BusModel::PciRoot,
        Some(Some(BusModel::PcieRoot)) => BusModel::PcieRootPort,
        _ => BusModel::PciBridge,
    };
    if fill && models.len() > 1 {
        models.iter_mut().for_each(|m| *m = m.or(Some(filler)));
    }
    Ok(models)
}

struct Guest {
    needs: Needs,
    name: String,
}

/// The address a device has, unless it leaves the choice to us.
fn given(info: &DeviceInfo) -> Option<PciPlace> {
    match &info.address {
        Some(Address::Pci(a)) if !a.is_unset() => Some(place_of(a)),
        _ => None,
    }
}

fn place_of(a: &PciAddress) -> PciPlace {
    PciPlace { domain: a.domain, bus: a.bus, slot: a.slot as u8, function: a.function as u8 }
}

/// Whether the device waits for a PCI address.
fn waits(info: &DeviceInfo) -> bool {
    match &info.address {
        None => true,
        Some(Address::Pci(a)) => a.is_unset(),
        Some(_) => false,
    }
}

fn store(info: &mut DeviceInfo, place: PciPlace) {
    let kept = match info.address.take() {
        Some(Address::Pci(a)) => a,
        _ => PciAddress::default(),
    };
    info.address = Some(Address::Pci(PciAddress {
        domain: place.domain,
        bus: place.bus,
        slot: u32::from(place.slot),
        function: u32::from(place.function),
        ..kept
    }));
}

fn at(slot: u8, function: u8) -> PciPlace {
    PciPlace { domain: 0, bus: 0, slot, function }
}

impl Guest {
    /// Devices that are at a fixed place by design and must not clash with themselves.
    fn is_builtin(&self, c: &Controller, place: PciPlace) -> bool {
        let i440fx = machine::is_i440fx(&self.name);
        match c.kind {
            ControllerKind::Ide => i440fx && c.index == Some(0) && place == at(1, 1),
            ControllerKind::Usb => i440fx && c.model.as_deref() == Some("piix3-uhci") && place == at(1, 2),
            ControllerKind::Sata => machine::is_q35(&self.name) && c.index == Some(0) && place == at(0x1f, 2),
            _ => false,
        }
    }

    /// Takes the places the document names.
    fn collect(&self, def: &mut Domain, set: &mut PciSet) -> Result<()> {
        let mut first: Vec<(PciPlace, Connect, virt_xml::Place)> = Vec::new();
        for c in &def.devices.controllers {
            let Some(place) = given(&c.info) else { continue };
            let piix3 = match c.kind {
                ControllerKind::Ide => c.index == Some(0) && place == at(1, 1),
                ControllerKind::Usb => c.model.as_deref() == Some("piix3-uhci") && place == at(1, 2),
                _ => false,
            };
            if piix3 && !matches!(set.buses.first(), Some(Some(b)) if b.model == BusModel::PciRoot) {
                let text = "Bus 0 must be PCI for integrated PIIX3 USB or IDE controllers";
                return Err(Error::internal(From::Qemu, text)).at(c.info.place);
            }
            if c.kind == ControllerKind::Pci {
                let model = c.model.as_deref().and_then(BusModel::from_name);
                match model {
                    Some(BusModel::PciRoot | BusModel::PcieRoot) => {
                        return Err(unsupported(
                            "pci-root and pcie-root controllers should not have an address",
                        ))
                        .at(c.info.place);
                    }
                    Some(model) => first.push((place, model.connect(), c.info.place)),
                    None => {}
                }
            } else if let Some(needs) = controller_needs(c, self.needs)
                && !self.is_builtin(c, place)
            {
                first.push((place, needs, c.info.place));
            }
        }
        for (place, needs, read) in first {
            set.reserve(place, needs, true).at(read)?;
        }
        visit(
            def,
            self.needs,
            &mut |(info, needs)| match given(info) {
                Some(place) => set.reserve(place, needs, true).at(info.place),
                None => Ok(()),
            },
            &mut |_| Ok(()),
        )
    }

    /// Places that the machine itself uses, and devices that belong there.
    fn chipset(&self, def: &mut Domain, set: &mut PciSet) -> Result<()> {
        if machine::is_i440fx(&self.name) {
            self.piix3(def, set)
        } else if machine::is_q35(&self.name) {
            self.ich9(def, set)
        } else {
            Ok(())
        }
    }

    fn piix3(&self, def: &mut Domain, set: &mut PciSet) -> Result<()> {
        for c in &mut def.devices.controllers {
            let index = c.index.unwrap_or(0);
            let home = match c.kind {
                ControllerKind::Ide if index == 0 => at(1, 1),
                ControllerKind::Usb if index == 0 && c.model.as_deref() == Some("piix3-uhci") => at(1, 2),
                _ => continue,
            };
            match given(&c.info) {
                Some(place) if place == home => {}
                Some(_) if c.kind == ControllerKind::Ide => {
                    return Err(Error::internal(
                        From::Qemu,
                        "Primary IDE controller must have PCI address 0:0:1.1",
                    ))
                    .at(c.info.place);
                }
                Some(_) => {
                    return Err(Error::internal(
                        From::Qemu,
                        "PIIX3 USB controller at index 0 must have PCI address 0:0:1.2",
                    ))
                    .at(c.info.place);
                }
                None if waits(&c.info) => store(&mut c.info, home),
                None => continue,
            }
            set.reserve(home, self.needs.pci, true)?;
        }
        // The bridge to ISA itself, and power management.
        if !set.buses.is_empty() {
            chip(set, 1)?;
        }
        self.primary_video(def, set, at(2, 0))?;
        Ok(())
    }

    /// The primary card sits where firmware looks first, or in the first free place.
    fn primary_video(&self, def: &mut Domain, set: &mut PciSet, home: PciPlace) -> Result<()> {
        let Some(video) = def.devices.videos.first_mut().filter(|v| waits(&v.info)) else { return Ok(()) };
        let Some(needs) = video_needs(video.model.kind, self.needs) else { return Ok(()) };
        if set.slot_in_use(home) {
            let place = set.next(needs, 0)?;
            store(&mut video.info, place);
        } else {
            set.reserve(home, self.needs.pci, true)?;
            store(&mut video.info, home);
        }
        Ok(())
    }

    fn ich9(&self, def: &mut Domain, set: &mut PciSet) -> Result<()> {
        for c in &mut def.devices.controllers {
            let index = c.index.unwrap_or(0);
            match c.kind {
                ControllerKind::Sata if index == 0 => {
                    let home = at(0x1f, 2);
                    match given(&c.info) {
                        Some(place) if place != home => {
                            return Err(Error::internal(
                                From::Qemu,
                                "Primary SATA controller must have PCI address 0:0:1f.2",
                            ))
                            .at(c.info.place);
                        }
                        _ => store(&mut c.info, home),
                    }
                    set.reserve(home, self.needs.pci, true)?;
                }
                // The two USB 2 controllers of the real chip have their own slots; others are not kept out of them.
                ControllerKind::Usb if c.model.as_deref() == Some("ich9-uhci1") && waits(&c.info) => {
                    if let Some(slot) = [0x1d, 0x1a].into_iter().find(|s| !set.slot_in_use(at(*s, 0))) {
                        set.reserve(at(slot, 0), self.needs.pci, true)?;
                        store(&mut c.info, at(slot, 0));
                    }
                }
                ControllerKind::Pci
                    if c.model.as_deref() == Some("dmi-to-pci-bridge")
                        && waits(&c.info)
                        && !set.slot_in_use(at(0x1e, 0)) =>
                {
                    set.reserve(at(0x1e, 0), BusModel::DmiToPciBridge.connect(), true)?;
                    store(&mut c.info, at(0x1e, 0));
                }
                _ => {}
            }
        }
        chip(set, 0x1f)?;
        self.primary_video(def, set, at(1, 0))?;
        for sound in def.devices.sounds.iter_mut().filter(|s| s.model == SoundModel::Ich9) {
            if waits(&sound.info) && !set.slot_in_use(at(0x1b, 0)) {
                set.reserve(at(0x1b, 0), self.needs.pci, true)?;
                store(&mut sound.info, at(0x1b, 0));
            }
        }
        Ok(())
    }

    /// Gives every device that waits the next free place.
    fn place_all(&self, def: &mut Domain, set: &mut PciSet) -> Result<()> {
        for c in def.devices.controllers.iter_mut().filter(|c| c.kind == ControllerKind::Pci) {
            let model = c.model.as_deref().and_then(BusModel::from_name);
            let Some(model) = model.filter(|m| !matches!(m, BusModel::PciRoot | BusModel::PcieRoot)) else {
                continue;
            };
            if waits(&c.info) {
                let place = set.next_except(model.connect(), 0, c.index).at(c.info.place)?;
                store(&mut c.info, place);
            }
        }
        let set = std::cell::RefCell::new(set);
        visit(
            def,
            self.needs,
            &mut |(info, needs)| {
                if waits(info) {
                    let place = set.borrow_mut().next(needs, 0)?;
                    store(info, place);
                }
                Ok(())
            },
            &mut |controllers| self.place_controllers(controllers, &mut set.borrow_mut()),
        )
    }

    fn place_controllers(&self, controllers: &mut [Controller], set: &mut PciSet) -> Result<()> {
        for i in 0..controllers.len() {
            let c = &controllers[i];
            if c.kind == ControllerKind::Pci || !waits(&c.info) {
                continue;
            }
            let Some(needs) = controller_needs(c, self.needs) else { continue };
            let place = match c.kind {
                ControllerKind::Usb => match companion_function(c.model.as_deref().unwrap_or_default()) {
                    Some(function) => {
                        // All parts of one USB 2 controller share a slot.
                        let sibling = controllers
                            .iter()
                            .filter(|o| o.kind == ControllerKind::Usb && o.index == c.index)
                            .filter(|o| companion_function(o.model.as_deref().unwrap_or_default()).is_some())
                            .find_map(|o| given(&o.info));
                        match sibling {
                            Some(s) => {
                                let place = PciPlace { function, ..s };
                                set.reserve(place, needs, true).at(controllers[i].info.place)?;
                                place
                            }
                            None => set.next(needs, function)?,
                        }
                    }
                    None => set.next(needs, 0)?,
                },
                _ => set.next(needs, 0)?,
            };
            store(&mut controllers[i].info, place);
        }
        Ok(())
    }
}

/// The function of each part of an ICH9 USB 2 controller.
fn companion_function(model: &str) -> Option<u8> {
    match model {
        "ich9-ehci1" => Some(7),
        "ich9-uhci1" => Some(0),
        "ich9-uhci2" => Some(1),
        "ich9-uhci3" => Some(2),
        _ => None,
    }
}

/// A device that shares its slot with others says so at function 0.
fn share_slots(def: &mut Domain, guest: &Guest, set: &PciSet) -> Result<()> {
    let mark = |info: &mut DeviceInfo| {
        if let Some(Address::Pci(a)) = &mut info.address
            && a.function == 0
            && a.multifunction.is_none()
            && set.is_shared(place_of(a))
        {
            a.multifunction = Some(true);
        }
    };
    for c in &mut def.devices.controllers {
        mark(&mut c.info);
    }
    visit(
        def,
        guest.needs,
        &mut |(info, _)| {
            mark(info);
            Ok(())
        },
        &mut |_| Ok(()),
    )
}

/// Each host bridge of PowerPC has a number, the first is 0.
fn host_bridges(def: &mut Domain) {
    let all = &mut def.devices.controllers;
    let bridge = |c: &&mut Controller| c.pci_model == Some(PciModelName::SpaprPhb);
    let mut used: Vec<u32> = all.iter_mut().filter(bridge).filter_map(|c| c.target.index).collect();
    for c in all.iter_mut().filter(bridge).filter(|c| c.target.index.is_none()) {
        let first = u32::from(c.index != Some(0));
        let free = (first..).find(|n| !used.contains(n));
        used.extend(free);
        c.target.index = free;
    }
}

/// What PCI controllers show the guest of themselves.
fn port_options(def: &mut Domain) {
    let mut lowest = def
        .devices
        .controllers
        .iter()
        .filter(|c| matches!(c.model.as_deref(), Some("pci-expander-bus" | "pcie-expander-bus")))
        .filter_map(|c| c.target.bus_nr)
        .min()
        .unwrap_or(256);
    for c in def.devices.controllers.iter_mut().filter(|c| c.kind == ControllerKind::Pci) {
        let index = c.index.unwrap_or(0);
        let place = given(&c.info).unwrap_or_default();
        let t = &mut c.target;
        match c.model.as_deref().unwrap_or_default() {
            "pci-bridge" => {
                t.chassis_nr.get_or_insert(index);
            }
            "pcie-root-port" => {
                t.chassis.get_or_insert(index);
                t.port.get_or_insert(u32::from(place.slot) << 3 | u32::from(place.function));
            }
            "pcie-switch-downstream-port" => {
                t.chassis.get_or_insert(index);
                t.port.get_or_insert(u32::from(place.slot));
            }
            "pci-expander-bus" | "pcie-expander-bus" if t.bus_nr.is_none() => {
                lowest = lowest.saturating_sub(2);
                t.bus_nr = Some(lowest);
            }
            _ => {}
        }
    }
}

/// Functions 0 and 3 of a chip of the board's own: no device can be there.
fn chip(set: &mut PciSet, slot: u8) -> Result<()> {
    for function in [0, 3] {
        if set.in_use(at(slot, function)) {
            let text = format!("Attempted double use of PCI Address 0000:00:{slot:02x}.{function}");
            return Err(xml_error(text));
        }
        set.occupy(at(slot, function));
    }
    Ok(())
}
