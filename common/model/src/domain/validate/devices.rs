//! Controllers and the devices with little to say.

use virt_error::{Code, Result};
use virt_xml::{At, El};

use super::super::Domain;
use super::super::address::Address;
use super::super::controller::{Controller, ControllerKind};
use super::super::filesystem::FsSource;
use super::super::graphics::Graphics;
use super::super::hostdev::HostdevSource;
use super::super::info::each;
use super::super::input::InputBus;
use super::super::memory::{MemoryDevice, MemoryModel};
use super::super::misc::{IommuDriver, IommuModel};
use super::super::sound::AudioIo;
use super::{detail, fail, twice, unsupported, xml};

pub(super) fn controllers(d: &Domain) -> Result<()> {
    each(&d.devices.controllers, controller)
}

/// Each device by itself.
pub(super) fn singly(d: &Domain) -> Result<()> {
    let dev = &d.devices;
    if d.features.ps2.as_ref().is_some_and(|s| !s.on())
        && dev.inputs.iter().any(|i| i.bus == Some(InputBus::Ps2))
    {
        return unsupported("ps2 bus inputs require the ps2 feature not to be disabled");
    }
    each(&dev.iommus, |iommu| {
        if iommu.model == IommuModel::Virtio && iommu.driver != IommuDriver::default() {
            return xml("iommu model 'virtio' doesn't support additional attributes");
        }
        Ok(())
    })?;
    for (i, one) in dev.audios.iter().enumerate() {
        let place = format!("/domain/devices/audio[{}]", i + 1);
        [&one.input, &one.output].into_iter().try_for_each(audio).within(&place)?;
    }
    each(&dev.filesystems, |fs| {
        let dir = match &fs.source {
            FsSource::Mount(m) => m.dir.as_deref().or(m.socket.as_deref()),
            _ => Some(""),
        };
        let target = fs.target.as_deref().filter(|t| !t.is_empty());
        match (target, dir) {
            (Some(t), None) => return fail(Code::NoSource, t),
            (None, dir) => return fail(Code::NoTarget, dir.unwrap_or_default()),
            _ => {}
        }
        Ok(())
    })?;
    // Whole pages, and a power of two.
    const PAGE_KIB: u64 = 4;
    if dev
        .pstore
        .as_ref()
        .is_some_and(|p| p.size.is_some_and(|s| s.kib < PAGE_KIB || !s.kib.is_power_of_two()))
    {
        return xml("invalid size of ACPI ERST pstore device");
    }
    each(&dev.memories, memory)
}

/// Devices of which there are too many, or that name others that are not there.
pub(super) fn together(d: &Domain) -> Result<()> {
    let dev = &d.devices;
    if let Some(model) = twice(dev.panics.iter().filter_map(|p| p.model)) {
        return xml(format!("Multiple panic devices with model '{model}'"));
    }
    if let Some(id) = twice(dev.audios.iter().map(|a| a.id)) {
        return xml(format!("audio ID {id} is used multiple times")).within("/domain/devices/audio");
    }
    let known = |id: u32| dev.audios.iter().any(|a| a.id == id);
    let graphics = dev.graphics.iter().filter_map(|g| match g {
        Graphics::Vnc(v) => v.audio,
        _ => None,
    });
    if let Some(id) = dev.sounds.iter().filter_map(|s| s.audio).chain(graphics).find(|id| !known(*id)) {
        return xml(format!("no audio device with ID {id}"));
    }
    memory_overlap(&dev.memories)
}

fn controller(c: &Controller) -> Result<()> {
    let virtio_scsi = c.kind == ControllerKind::Scsi
        && matches!(
            c.model.as_deref(),
            None | Some("auto" | "virtio-scsi" | "virtio-transitional" | "virtio-non-transitional")
        );
    if (c.driver.iothread.is_some() || !c.driver.iothreads.iothreads.is_empty()) && !virtio_scsi {
        return xml("'iothread' attribute only supported for virtio scsi controllers");
    }
    if c.kind == ControllerKind::Pci && matches!(c.model.as_deref(), Some("pci-root" | "pcie-root")) {
        if c.info.address.is_some() {
            return unsupported("pci-root and pcie-root controllers should not have an address");
        }
        if c.target.index.is_some_and(|t| (t == 0) != (c.index == Some(0))) {
            return unsupported(
                "Only the PCI controller with index 0 can have target index 0, and vice versa",
            );
        }
        if c.index == Some(0) && c.target.node.is_some() {
            return unsupported("The PCI controller with index=0 can't be associated with a NUMA node");
        }
    }
    Ok(())
}

/// A guest without USB has no second controller of it, and the parts of one have a controller that leads them.
pub(in super::super) fn usb_controllers(list: &[Controller], _: El<'_>) -> Result<()> {
    let usb: Vec<_> = list.iter().filter(|c| c.kind == ControllerKind::Usb).collect();
    let none = usb.iter().any(|c| c.model.as_deref() == Some("none"));
    if none && usb.len() > 1 {
        let read = usb.last().map(|c| c.info.place).unwrap_or_default();
        return detail("Can't add another USB controller: USB is disabled for this domain").at(read);
    }
    let part = |c: &Controller| {
        c.info.master_startport.is_some() || c.model.as_deref().is_some_and(|m| m.starts_with("ich9-uhci"))
    };
    // Indexes that were left out are given later.
    for one in usb.iter().filter(|c| part(c)) {
        let leads = |c: &Controller| !part(c) && (c.index == one.index || one.index.is_none());
        if !usb.iter().any(|c| leads(c)) {
            return detail("No master USB controller specified").at(one.info.place);
        }
    }
    Ok(())
}

/// What is refused as soon as the devices are listed: a guest without USB has no USB devices; messages of shared memory
/// need a server.
pub(super) fn while_reading(d: &Domain) -> Result<()> {
    let dev = &d.devices;
    if let Some(second) = dev.iommus.get(1) {
        return xml("only a single IOMMU device is supported").at(second.info.place);
    }
    let off = |c: &Controller| c.kind == ControllerKind::Usb && c.model.as_deref() == Some("none");
    let none = dev.controllers.iter().any(off);
    each(&dev.shmems, |shmem| {
        if shmem.msi.is_some() && shmem.server.is_none() {
            return xml("msi option is only supported with a server");
        }
        Ok(())
    })?;
    if none && !dev.hubs.is_empty() {
        return unsupported("Can't add USB hub: USB is disabled for this domain")
            .within("/domain/devices/hub");
    }
    if none && dev.inputs.iter().any(|i| i.bus == Some(InputBus::Usb)) {
        return unsupported("Can't add USB input device. USB bus is disabled");
    }
    if none && dev.hostdevs.iter().any(|h| matches!(h.source, HostdevSource::Usb(_))) {
        return unsupported("Can't add host USB device: USB is disabled in this host");
    }
    if none && !dev.redirdevs.is_empty() {
        return unsupported("Device requires USB, but USB is disabled for this domain");
    }
    Ok(())
}

fn audio(io: &AudioIo) -> Result<()> {
    if io.fixed_settings == Some(true) && io.mixing_engine != Some(true) {
        return unsupported("fixed audio settings requires mixing engine");
    }
    if io.settings.clone().unwrap_or_default() != Default::default() && io.fixed_settings != Some(true) {
        return unsupported("audio settings specified without fixed settings flag");
    }
    Ok(())
}

/// The size of a transparent huge page, in KiB: virtio memory comes and goes in whole ones.
const LEAST_BLOCK: u64 = 2048;

fn memory(m: &MemoryDevice) -> Result<()> {
    let size = m.target.size.map_or(0, |s| s.kib);
    match m.model {
        MemoryModel::Nvdimm | MemoryModel::VirtioPmem if m.source.path.is_none() => {
            detail(format!("path is required for model '{}'", m.model))
        }
        MemoryModel::Nvdimm => {
            if let Some(label) = &m.target.label
                && label.size.kib >= size
            {
                return xml("label size must be smaller than NVDIMM size");
            }
            Ok(())
        }
        MemoryModel::VirtioMem => {
            let block = m.target.block.map_or(0, |b| b.kib);
            let requested = m.target.requested.map_or(0, |r| r.kib);
            if !block.is_power_of_two() {
                return detail("block size must be a power of two");
            }
            if block < LEAST_BLOCK {
                return detail(format!("block size too small, must be at least {LEAST_BLOCK}KiB"));
            }
            if requested > size {
                return detail("requested size must be smaller than or equal to @size");
            }
            if !requested.is_multiple_of(block) {
                return detail("requested size must be an integer multiple of block size");
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Places in the guest's memory that were given do not overlap.
fn memory_overlap(devices: &[MemoryDevice]) -> Result<()> {
    let place = |m: &MemoryDevice| {
        let base = match &m.info.address {
            Some(Address::Dimm(a)) => a.base.or(m.target.base),
            _ => m.target.base,
        };
        base.filter(|b| *b > 0)
            .map(|b| (b, b.saturating_add(m.target.size.map_or(0, |s| s.kib).saturating_mul(1024))))
    };
    let places: Vec<_> = devices.iter().filter_map(place).collect();
    // Sorted by where they begin: only neighbours can overlap first.
    let mut sorted = places.clone();
    sorted.sort_unstable();
    let clash = sorted.windows(2).any(|pair| pair[1].0 < pair[0].1);
    for (i, (from, to)) in places.iter().enumerate().filter(|_| clash) {
        for (other, end) in places.iter().skip(i + 1) {
            if from < end && other < to {
                return unsupported(format!(
                    "memory device address [0x{from:x}:0x{to:x}] overlaps with other memory device (0x{other:x})"
                ));
            }
        }
    }
    Ok(())
}
