//! Names of devices in a running guest. The reference's own, for tools and saved images know them.

use super::machine;
use super::types::{
    Address, BalloonModel, ConsoleTarget, ControllerKind, Disk, DiskBus, Domain, MemoryModel,
};
use crate::emulator::Emulator;

/// Names every device that has no name of its own choosing.
pub fn assign(def: &mut Domain, emulator: &Emulator) {
    let name = def.os.kind.machine.clone().unwrap_or_default();
    let pcie = machine::has_pcie_root(&emulator.arch, &name);
    let d = &mut def.devices;
    let scsi_models: Vec<(u32, String)> = d
        .controllers
        .iter()
        .filter(|c| c.kind == ControllerKind::Scsi)
        .map(|c| (c.index.unwrap_or(0), c.model.clone().unwrap_or_default()))
        .collect();
    for disk in &mut d.disks {
        let alias = disk_alias(disk, &scsi_models);
        set(&mut disk.info.alias, || alias);
    }
    let builtin_ide = machine::has_builtin_ide(&name);
    let multiple_usb_zero = true;
    for c in &mut d.controllers {
        let index = c.index.unwrap_or(0);
        let alias = match c.kind {
            ControllerKind::Pci if index == 0 && pcie => "pcie.0".to_string(),
            ControllerKind::Pci => format!("pci.{index}"),
            ControllerKind::Ide if index == 0 && builtin_ide => "ide".to_string(),
            ControllerKind::Sata if index == 0 && machine::is_q35(&name) => "ide".to_string(),
            ControllerKind::Usb if index == 0 && multiple_usb_zero => "usb".to_string(),
            ControllerKind::Scsi if c.model.as_deref() == Some("ncr53c90") && index == 0 => {
                "scsi".to_string()
            }
            kind => format!("{kind}{index}"),
        };
        set(&mut c.info.alias, || alias);
    }
    number(d.filesystems.iter_mut().map(|x| &mut x.info.alias), "fs");
    number(d.interfaces.iter_mut().map(|x| &mut x.info.alias), "net");
    number(d.smartcards.iter_mut().map(|x| &mut x.info.alias), "smartcard");
    number(d.serials.iter_mut().map(|x| &mut x.info.alias), "serial");
    number(d.parallels.iter_mut().map(|x| &mut x.info.alias), "parallel");
    number(d.channels.iter_mut().map(|x| &mut x.info.alias), "channel");
    let first_serial = d.serials.first().and_then(|s| s.info.alias.clone());
    for (i, console) in d.consoles.iter_mut().enumerate() {
        let own = match (&first_serial, console.target.kind, i) {
            (Some(serial), Some(ConsoleTarget::Serial), 0) => serial.clone(),
            _ => format!("console{i}"),
        };
        if i == 0 && console.target.kind == Some(ConsoleTarget::Serial) && first_serial.is_some() {
            console.info.alias = Some(own);
        } else {
            set(&mut console.info.alias, || own);
        }
    }
    number(d.inputs.iter_mut().map(|x| &mut x.info.alias), "input");
    number(d.tpms.iter_mut().map(|x| &mut x.info.alias), "tpm");
    number(d.sounds.iter_mut().map(|x| &mut x.info.alias), "sound");
    number(d.videos.iter_mut().map(|x| &mut x.info.alias), "video");
    number(d.hostdevs.iter_mut().map(|x| &mut x.info.alias), "hostdev");
    number(d.redirdevs.iter_mut().map(|x| &mut x.info.alias), "redir");
    number(d.hubs.iter_mut().map(|x| &mut x.info.alias), "hub");
    number(d.watchdogs.iter_mut().map(|x| &mut x.info.alias), "watchdog");
    let balloon = d.memballoon.iter_mut().filter(|b| b.model != BalloonModel::None);
    number(balloon.map(|x| &mut x.info.alias), "balloon");
    number(d.rngs.iter_mut().map(|x| &mut x.info.alias), "rng");
    number(d.nvram.iter_mut().map(|x| &mut x.info.alias), "nvram");
    number(d.panics.iter_mut().map(|x| &mut x.info.alias), "panic");
    number(d.shmems.iter_mut().map(|x| &mut x.info.alias), "shmem");
    number(d.vsock.iter_mut().map(|x| &mut x.info.alias), "vsock");
    number(d.iommus.iter_mut().map(|x| &mut x.info.alias), "iommu");
    number(d.cryptos.iter_mut().map(|x| &mut x.info.alias), "crypto");
    number(d.pstore.iter_mut().map(|x| &mut x.info.alias), "pstore");
    let mut counts = std::collections::HashMap::new();
    for memory in &mut d.memories {
        let (prefix, by_slot) = match memory.model {
            MemoryModel::Dimm => ("dimm", true),
            MemoryModel::Nvdimm => ("nvdimm", true),
            MemoryModel::VirtioPmem => ("virtiopmem", false),
            MemoryModel::VirtioMem => ("virtiomem", false),
            MemoryModel::SgxEpc => ("epc", false),
        };
        let n = match (&memory.info.address, by_slot) {
            (Some(Address::Dimm(a)), true) => a.slot,
            _ => {
                let n = counts.entry(prefix).or_insert(0);
                *n += 1;
                *n - 1
            }
        };
        set(&mut memory.info.alias, || format!("{prefix}{n}"));
    }
}

fn number<'a>(aliases: impl Iterator<Item = &'a mut Option<String>>, prefix: &str) {
    for (i, alias) in aliases.enumerate() {
        set(alias, || format!("{prefix}{i}"));
    }
}

/// Names the user chose stay.
fn set(alias: &mut Option<String>, make: impl FnOnce() -> String) {
    if !alias.as_deref().is_some_and(|a| a.starts_with("ua-")) {
        *alias = Some(make());
    }
}

/// A disk's name says where it is plugged in.
pub fn disk_alias(disk: &Disk, scsi_models: &[(u32, String)]) -> String {
    let bus = disk.target.bus.unwrap_or_default();
    if let Some(Address::Drive(a)) = &disk.info.address {
        let parallel = scsi_models.iter().find(|(i, _)| *i == a.controller).is_some_and(|(_, m)| {
            matches!(m.as_str(), "lsilogic" | "ncr53c90" | "dc390" | "am53c974" | "buslogic")
        });
        return match bus {
            DiskBus::Scsi if !parallel => {
                format!("{bus}{}-{}-{}-{}", a.controller, a.bus, a.target, a.unit)
            }
            _ => format!("{bus}{}-{}-{}", a.controller, a.bus, a.unit),
        };
    }
    let n = super::target::index(disk.target.dev.as_deref().unwrap_or_default()).unwrap_or(0);
    match bus {
        DiskBus::Usb | DiskBus::Virtio | DiskBus::Xen | DiskBus::Sd => format!("{bus}-disk{n}"),
        _ => format!("{bus}{n}"),
    }
}
