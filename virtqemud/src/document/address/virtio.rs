//! virtio devices on machines where they do not sit on PCI: channel devices of IBM Z, memory-mapped ones of Arm and
//! RISC-V boards.

use std::collections::BTreeSet;

use virt_error::Result;

use crate::document::types::{
    Address, BalloonModel, CcwAddress, ControllerKind, DeviceInfo, DiskBus, Domain, FsDriverType,
    HostdevModel, HostdevSource, InputBus, MemoryModel, RngModel, SoundModel, VideoKind, VirtioModel,
};
use crate::document::{machine, xml_error};
use crate::emulator::Emulator;

/// The channel subsystem of virtual devices.
const CSSID: u32 = 0xfe;

pub(super) fn assign(def: &mut Domain, emulator: &Emulator) -> Result<()> {
    let name = def.os.kind.machine.clone().unwrap_or_default();
    if machine::is_s390(&name) {
        channels(def)
    } else {
        mapped(def, &emulator.arch, &name);
        Ok(())
    }
}

/// Numbers that were given stay; all others get the lowest free ones, in the order of the visit.
fn channels(def: &mut Domain) -> Result<()> {
    let mut used = BTreeSet::new();
    let mut twice = None;
    // A console of a virtio-serial controller needs none, but what a document names is taken.
    let mut take = |info: &DeviceInfo| {
        if let Some(Address::Ccw(CcwAddress { cssid: Some(css), ssid: Some(ss), devno: Some(devno) })) =
            &info.address
            && !used.insert((*css, *ss, *devno))
        {
            twice.get_or_insert((*css, *ss, *devno));
        }
    };
    def.devices.consoles.iter().for_each(|c| take(&c.info));
    visit(def, true, &mut |info, _| take(info));
    if let Some((css, ss, devno)) = twice {
        return Err(xml_error(format!("The CCW devno '{css:x}.{ss:x}.{devno:04x}' is in use already")));
    }
    let mut full = false;
    visit(def, true, &mut |info, _| {
        let given = match &info.address {
            None => false,
            Some(Address::Ccw(a)) => a.devno.is_some(),
            Some(_) => true,
        };
        if given {
            return;
        }
        match (0..=0xffff).find(|n| !used.contains(&(CSSID, 0, *n))) {
            Some(devno) => {
                used.insert((CSSID, 0, devno));
                info.address =
                    Some(Address::Ccw(CcwAddress { cssid: Some(CSSID), ssid: Some(0), devno: Some(devno) }));
            }
            None => full = true,
        }
    });
    if full { Err(xml_error("There are no more free CCW devnos.")) } else { Ok(()) }
}

/// Boards without PCI Express map virtio devices into memory; so does a guest that does it with one of its devices.
fn mapped(def: &mut Domain, arch: &str, name: &str) {
    let board = machine::is_arm(arch) && !machine::has_pcie_root(arch, name);
    let mut chosen = board;
    let can = board || machine::is_arm_virt(arch, name) || machine::is_riscv_virt(arch, name);
    visit(def, false, &mut |info, virtio| {
        chosen |= can && virtio && info.address == Some(Address::VirtioMmio);
    });
    if chosen {
        visit(def, false, &mut |info, virtio| {
            if virtio {
                info.address.get_or_insert(Address::VirtioMmio);
            }
        });
    }
}

/// Visits virtio devices (and channel devices passed through), in the order in which the reference numbers them. As
/// channel devices all variants count, and some that are never mapped.
fn visit(def: &mut Domain, channel: bool, act: &mut dyn FnMut(&mut DeviceInfo, bool)) {
    let plain = |m: Option<VirtioModel>| {
        channel || matches!(m, None | Some(VirtioModel::Default | VirtioModel::Virtio))
    };
    let named = |m: &str| m == "virtio" || channel && m.starts_with("virtio-");
    let d = &mut def.devices;
    for x in d.disks.iter_mut().filter(|x| x.target.bus == Some(DiskBus::Virtio) && plain(x.model)) {
        act(&mut x.info, true);
    }
    for x in d.interfaces.iter_mut().filter(|x| x.model.as_deref().is_some_and(named)) {
        act(&mut x.info, true);
    }
    for x in d.sounds.iter_mut().filter(|x| x.model == SoundModel::Virtio) {
        act(&mut x.info, true);
    }
    for x in &mut d.hostdevs {
        match (&x.source, x.model) {
            (HostdevSource::ScsiHost(_), None | Some(HostdevModel::Default | HostdevModel::Virtio)) => {
                act(&mut x.info, true);
            }
            (HostdevSource::Mdev(_), Some(HostdevModel::VfioCcw)) => act(&mut x.info, false),
            _ => {}
        }
    }
    for x in d.videos.iter_mut().filter(|x| x.model.kind == VideoKind::Virtio) {
        act(&mut x.info, true);
    }
    for x in &mut d.controllers {
        let virtio = match x.kind {
            ControllerKind::VirtioSerial => x.model.as_deref().is_none_or(named),
            ControllerKind::Scsi => {
                x.model.as_deref().is_some_and(|m| m == "virtio-scsi" || channel && named(m))
            }
            _ => false,
        };
        if virtio {
            act(&mut x.info, true);
        }
    }
    for x in d.inputs.iter_mut().filter(|x| x.bus == Some(InputBus::Virtio) && plain(x.model)) {
        act(&mut x.info, true);
    }
    for x in d.filesystems.iter_mut().filter(|x| x.driver.kind != Some(FsDriverType::Mtp) && plain(x.model)) {
        act(&mut x.info, channel);
    }
    let balloon = |m| match m {
        BalloonModel::Virtio => true,
        BalloonModel::Transitional | BalloonModel::NonTransitional => channel,
        BalloonModel::Xen | BalloonModel::None => false,
    };
    if let Some(x) = d.memballoon.as_mut().filter(|x| balloon(x.model)) {
        act(&mut x.info, true);
    }
    for x in d.rngs.iter_mut().filter(|x| channel || x.model == RngModel::Virtio) {
        act(&mut x.info, true);
    }
    for x in
        d.memories.iter_mut().filter(|x| matches!(x.model, MemoryModel::VirtioMem | MemoryModel::VirtioPmem))
    {
        act(&mut x.info, true);
    }
    if let Some(x) = d.vsock.as_mut().filter(|x| plain(x.model)) {
        act(&mut x.info, channel);
    }
    for x in &mut d.cryptos {
        act(&mut x.info, true);
    }
}
