//! Devices a document needs without naming them: controllers under disks and channels, the card under a display, the
//! keyboard and mouse of a PC.

use std::collections::BTreeSet;

use virt_error::Result;
use virt_model::domain::defaults::disk_index;

use super::types::{
    Address, Audio, Controller, ControllerKind, DiskBus, Domain, DriveAddress, Hostdev, HostdevSource, Input,
    InputBus, InputKind, Video, VideoKind,
};
use super::{devices, machine};
use crate::emulator::Emulator;

/// Adds everything implied.
pub fn add(def: &mut Domain, emulator: &Emulator) -> Result<()> {
    let name = def.os.kind.machine.clone().unwrap_or_default();
    if let Some(kind) = devices::default_audio(def) {
        def.devices.audios.push(Audio { id: 1, kind, ..Audio::default() });
    }
    videos(def, emulator, &name);
    Ok(())
}

/// Units of a narrow SCSI bus.
const UNITS: u32 = 7;
/// Bounds what one document can make us add; the model refuses more.
const MOST_CONTROLLERS: u32 = 4096;

/// Host SCSI devices take the first free unit behind the disks.
pub(super) fn place_scsi_hostdevs(def: &mut Domain) {
    for dev in &mut def.devices.hostdevs {
        if let HostdevSource::Scsi(s) = &mut dev.source
            && s.protocol == Some(super::types::ScsiProtocol::Iscsi)
            && let Some(name) = &mut s.name
        {
            super::disks::first_unit(name);
        }
    }
    let mut used: BTreeSet<(u32, u32)> = BTreeSet::new();
    for disk in def.devices.disks.iter().filter(|d| d.target.bus == Some(DiskBus::Scsi)) {
        let number = disk_index(disk.target.dev.as_deref().unwrap_or_default());
        match (&disk.info.address, number) {
            (Some(Address::Drive(a)), _) => _ = used.insert((a.controller, a.unit)),
            (None, Some(n)) => _ = used.insert((n / UNITS, n % UNITS)),
            _ => {}
        }
    }
    let scsi = |dev: &&mut Hostdev| matches!(dev.source, HostdevSource::Scsi(_));
    let mut last = None;
    for dev in def.devices.hostdevs.iter_mut().filter(scsi) {
        if let Some(Address::Drive(a)) = &dev.info.address {
            used.insert((a.controller, a.unit));
            last = last.max(Some(a.controller));
        }
    }
    let mut place = (0, 0);
    for dev in def.devices.hostdevs.iter_mut().filter(scsi).filter(|d| d.info.address.is_none()) {
        while used.contains(&place) {
            place = if place.1 + 1 < UNITS { (place.0, place.1 + 1) } else { (place.0 + 1, 0) };
        }
        used.insert(place);
        last = last.max(Some(place.0));
        let (controller, unit) = place;
        dev.info.address = Some(Address::Drive(DriveAddress { controller, unit, ..DriveAddress::default() }));
    }
    for index in last.into_iter().flat_map(|last| 0..=last.min(MOST_CONTROLLERS)) {
        let there = |c: &Controller| c.kind == ControllerKind::Scsi && c.index == Some(index);
        if !def.devices.controllers.iter().any(there) {
            add_controller(def, ControllerKind::Scsi, index, None);
        }
    }
}

/// A PC has a mouse and a keyboard; only those count whose document says that they are the PC's own.
pub(super) fn inputs(def: &mut Domain, arch: &str) {
    if matches!(arch, "ppc64" | "ppc64le") && !def.devices.graphics.is_empty() {
        return usb_inputs(def);
    }
    if !machine::is_x86(arch) {
        return;
    }
    let off = def.features.ps2.as_ref().is_some_and(|s| s.state == Some(false));
    if off {
        return;
    }
    for kind in [InputKind::Mouse, InputKind::Keyboard] {
        let there = def.devices.inputs.iter().any(|i| i.kind == kind && i.bus == Some(InputBus::Ps2));
        if !there {
            def.devices.inputs.push(Input { kind, bus: Some(InputBus::Ps2), ..Input::default() });
        }
    }
}

/// A PowerPC guest with a display has a keyboard and something to point with on USB.
fn usb_inputs(def: &mut Domain) {
    let inputs = &mut def.devices.inputs;
    let mut ensure = |kind, kinds: &[InputKind]| {
        if !inputs.iter().any(|i| kinds.contains(&i.kind)) {
            inputs.push(Input { kind, bus: Some(InputBus::Usb), ..Input::default() });
        }
    };
    ensure(InputKind::Keyboard, &[InputKind::Keyboard]);
    ensure(InputKind::Mouse, &[InputKind::Mouse, InputKind::Tablet]);
}

fn videos(def: &mut Domain, emulator: &Emulator, name: &str) {
    if def.devices.graphics.is_empty() || !def.devices.videos.is_empty() {
        return;
    }
    let mut video = Video::default();
    video.model.kind = devices::default_video(emulator, name);
    video.model.heads = Some(1);
    video.model.primary = Some(true);
    if matches!(video.model.kind, VideoKind::Vga | VideoKind::Cirrus | VideoKind::Vmvga | VideoKind::Bochs) {
        video.model.vram = Some(16_384);
    }
    def.devices.videos.push(video);
}

/// A controller the address code must add.
pub(super) fn add_controller(def: &mut Domain, kind: ControllerKind, index: u32, model: Option<&str>) {
    virt_model::domain::defaults::add_controller(def, Controller::new(kind, index, model));
}
