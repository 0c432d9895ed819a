//! Ports of USB controllers and hubs.

use std::collections::BTreeMap;

use virt_error::Result;
use virt_xml::At;

use crate::document::types::{
    Address, ControllerKind, DeviceInfo, DiskBus, Domain, FsDriverType, HostdevSource, Hub, HubKind,
    InputBus, SerialTarget, SoundModel, UsbAddress,
};
use crate::document::{unsupported, xml_error};

/// Ports of a hub.
const HUB_PORTS: usize = 8;

/// A controller's root hub, or a hub: which ports are taken, and the hub in each.
#[derive(Default)]
struct Node {
    ports: Vec<Option<Option<Box<Node>>>>,
}

impl Node {
    fn new(ports: usize) -> Self {
        Self { ports: (0..ports).map(|_| None).collect() }
    }

    /// The first free port: a hub's own ports before those of hubs on it.
    fn free(&self) -> Option<Vec<u32>> {
        if let Some(port) = self.ports.iter().position(Option::is_none) {
            return Some(vec![port as u32 + 1]);
        }
        self.ports.iter().enumerate().find_map(|(i, port)| {
            let mut path = port.as_ref()?.as_ref()?.free().filter(|below| below.len() < 4)?;
            path.insert(0, i as u32 + 1);
            Some(path)
        })
    }

    /// How many ports are free, hubs' included.
    fn count(&self) -> usize {
        self.ports
            .iter()
            .map(|p| match p {
                None => 1,
                Some(Some(hub)) => hub.count(),
                Some(None) => 0,
            })
            .sum()
    }
}

struct Usb {
    controllers: BTreeMap<u32, Node>,
}

impl Usb {
    fn take(&mut self, bus: u32, path: &[u32], hub: Option<usize>) -> Result<()> {
        let shown = path.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
        let Some(mut node) = self.controllers.get_mut(&bus) else {
            return Err(xml_error(format!("Missing USB bus {bus}")));
        };
        let Some((last, above)) = path.split_last() else { return Ok(()) };
        for port in above {
            let slot = (*port as usize).checked_sub(1).and_then(|i| node.ports.get_mut(i));
            node = match slot {
                Some(Some(Some(hub))) => hub,
                _ => {
                    return Err(xml_error(format!(
                        "there is no hub at port {port} in USB address bus: {bus} port: {shown}"
                    )));
                }
            };
        }
        let Some(slot) = (*last as usize).checked_sub(1).and_then(|i| node.ports.get_mut(i)) else {
            return Err(xml_error(format!("requested USB port {shown} not present on USB bus {bus}")));
        };
        if slot.is_some() {
            return Err(xml_error(format!("Duplicate USB address bus {bus} port {shown}")));
        }
        *slot = Some(hub.map(|ports| Box::new(Node::new(ports))));
        Ok(())
    }

    fn find(&self, bus: Option<u32>) -> Option<(u32, Vec<u32>)> {
        let mut chosen = self.controllers.iter().filter(|(i, _)| bus.is_none_or(|b| b == **i));
        chosen.find_map(|(i, node)| Some((*i, node.free()?)))
    }
}

/// Ports of a controller model; 0 for companions and for none.
fn ports_of(model: &str, ports: Option<u32>) -> usize {
    match model {
        "piix3-uhci" | "piix4-uhci" | "vt82c686b-uhci" => 2,
        "ehci" | "ich9-ehci1" => 6,
        "pci-ohci" => 3,
        "nec-xhci" | "qemu-xhci" | "qusb1" | "qusb2" => {
            ports.unwrap_or(if model.starts_with("qusb") { 8 } else { 4 }) as usize
        }
        _ => 0,
    }
}

pub(super) fn assign(def: &mut Domain) -> Result<()> {
    let mut usb = Usb { controllers: BTreeMap::new() };
    for c in def.devices.controllers.iter().filter(|c| c.kind == ControllerKind::Usb) {
        let ports = ports_of(c.model.as_deref().unwrap_or_default(), c.ports);
        if ports > 0 {
            usb.controllers.entry(c.index.unwrap_or(0)).or_insert_with(|| Node::new(ports));
        }
    }
    let none = def
        .devices
        .controllers
        .iter()
        .any(|c| c.kind == ControllerKind::Usb && c.model.as_deref() == Some("none"));
    // Hubs first: others sit on them.
    let mut hubs: Vec<usize> = (0..def.devices.hubs.len()).collect();
    hubs.sort_by_key(|i| depth(def.devices.hubs[*i].info.address.as_ref()));
    if none && !hubs.is_empty() {
        return Err(unsupported("Can't add USB hub: USB is disabled for this domain"));
    }
    let mut devices = 0;
    visit(def, &mut |_| devices += 1);
    if none && devices > 0 {
        let text = "USB is disabled for this domain, but USB devices are present in the domain XML";
        return Err(unsupported(text));
    }
    for i in hubs {
        if let Some((bus, path)) = given(def.devices.hubs[i].info.address.as_ref()) {
            usb.take(bus, &path, Some(HUB_PORTS)).at(def.devices.hubs[i].info.place)?;
        }
    }
    if def.devices.controllers.iter().all(|c| c.kind != ControllerKind::Usb) && wanted(def) == 0 {
        return Ok(());
    }
    let mut taken = Ok(());
    visit(def, &mut |info| {
        if taken.is_ok() && !matches!(info.address, None | Some(Address::Usb(_))) {
            taken = Err(xml_error("Invalid address for a USB device")).at(info.place);
        }
        if taken.is_ok()
            && let Some((bus, path)) = given(info.address.as_ref())
        {
            taken = usb.take(bus, &path, None).at(info.place);
        }
    });
    taken?;
    for hub in &mut def.devices.hubs {
        place(&mut usb, &mut hub.info.address, Some(HUB_PORTS)).at(hub.info.place)?;
    }
    // Too few ports: hubs are added, each costs one port and gives eight.
    let needed = wanted(def);
    let free: usize = usb.controllers.values().map(Node::count).sum();
    if needed > free && !none {
        let hubs = (needed - free + 1).div_ceil(HUB_PORTS - 1);
        for _ in 0..hubs {
            let mut hub = Hub { kind: HubKind::Usb, ..Hub::default() };
            if usb.controllers.is_empty() {
                break;
            }
            place(&mut usb, &mut hub.info.address, Some(HUB_PORTS))?;
            def.devices.hubs.push(hub);
        }
    }
    let mut placed = Ok(());
    visit(def, &mut |info| {
        if placed.is_ok() {
            placed = place(&mut usb, &mut info.address, None).at(info.place);
        }
    });
    placed?;
    Ok(())
}

fn depth(address: Option<&Address>) -> usize {
    given(address).map_or(usize::MAX, |(_, path)| path.len())
}

/// A USB address with a port.
fn given(address: Option<&Address>) -> Option<(u32, Vec<u32>)> {
    match address {
        Some(Address::Usb(a)) => {
            let path = a.path();
            (!path.is_empty()).then_some((a.bus, path))
        }
        _ => None,
    }
}

/// Devices that still need a port.
fn wanted(def: &mut Domain) -> usize {
    let mut count = 0;
    visit(def, &mut |info| count += usize::from(given(info.address.as_ref()).is_none()));
    count
}

fn place(usb: &mut Usb, address: &mut Option<Address>, hub: Option<usize>) -> Result<()> {
    let bus = match address {
        None => None,
        Some(Address::Usb(a)) if a.path().is_empty() => Some(a.bus),
        _ => return Ok(()),
    };
    let Some((bus, path)) = usb.find(bus) else {
        if usb.controllers.is_empty() && bus.is_none() {
            return Ok(());
        }
        if let Some(bus) = bus.filter(|b| !usb.controllers.contains_key(b)) {
            let text = format!("USB bus {bus} requested but no controller with that index is present");
            return Err(xml_error(text));
        }
        return Err(xml_error("No free USB ports"));
    };
    usb.take(bus, &path, hub)?;
    let port = path.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
    *address = Some(Address::Usb(UsbAddress { bus, port: Some(port) }));
    Ok(())
}

/// Every USB device but hubs, in the order the reference places them.
fn visit(def: &mut Domain, act: &mut dyn FnMut(&mut DeviceInfo)) {
    let d = &mut def.devices;
    for disk in d.disks.iter_mut().filter(|x| x.target.bus == Some(DiskBus::Usb)) {
        act(&mut disk.info);
    }
    for net in d.interfaces.iter_mut().filter(|n| n.model.as_deref() == Some("usb-net")) {
        act(&mut net.info);
    }
    for sound in d.sounds.iter_mut().filter(|s| s.model == SoundModel::Usb) {
        act(&mut sound.info);
    }
    for dev in d.hostdevs.iter_mut().filter(|h| matches!(h.source, HostdevSource::Usb(_))) {
        act(&mut dev.info);
    }
    for c in d.controllers.iter_mut().filter(|c| c.kind == ControllerKind::Ccid) {
        act(&mut c.info);
    }
    for serial in d.serials.iter_mut().filter(|s| s.target.kind == Some(SerialTarget::Usb)) {
        act(&mut serial.info);
    }
    for input in d.inputs.iter_mut().filter(|i| i.bus == Some(InputBus::Usb)) {
        act(&mut input.info);
    }
    for fs in d.filesystems.iter_mut().filter(|f| f.driver.kind == Some(FsDriverType::Mtp)) {
        act(&mut fs.info);
    }
    for dev in &mut d.redirdevs {
        act(&mut dev.info);
    }
}
