//! Defaults of serial ports, consoles and channels.

use super::machine;
use super::types::{CharBackend, ConsoleTarget, Domain, Serial, SerialModel, SerialTarget};
use crate::emulator::Emulator;

/// Before ports are numbered and consoles found: paths that are not configuration go.
pub fn before(def: &mut Domain) {
    for channel in &mut def.devices.channels {
        if let CharBackend::Unix(s) = &mut channel.backend
            && s.path.as_deref().is_some_and(is_made)
        {
            s.path = None;
        }
    }
}

/// Fills in the device behind each serial port.
pub fn complete(def: &mut Domain, emulator: &Emulator) {
    for redirdev in &mut def.devices.redirdevs {
        if let CharBackend::Dbus(s) = &mut redirdev.backend {
            s.channel.get_or_insert_with(|| "org.qemu.usbredir".into());
        }
    }
    let name = def.os.kind.machine.clone().unwrap_or_default();
    for serial in &mut def.devices.serials {
        complete_serial(serial, &emulator.arch, &name);
    }
}

/// The first console is where the serial port is that it stands for.
pub fn twin_address(def: &mut Domain) {
    if let (Some(serial), Some(console)) = (def.devices.serials.first(), def.devices.consoles.first_mut())
        && console.target.kind == Some(ConsoleTarget::Serial)
    {
        console.info.address = serial.info.address.clone();
    }
}

/// Paths that libvirt itself gives channels.
pub(super) fn is_made(path: &str) -> bool {
    ["/var/lib/libvirt/qemu/channel/target/", "/var/lib/libvirt/qemu/channel/", "/run/libvirt/qemu/channel/"]
        .iter()
        .any(|prefix| {
            path.strip_prefix(prefix).is_some_and(|rest| {
                rest.split('/').next().is_some_and(|dir| {
                    dir.starts_with("domain-")
                        || dir
                            .split('-')
                            .next()
                            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
                })
            })
        })
}

fn complete_serial(serial: &mut Serial, arch: &str, name: &str) {
    let t = &mut serial.target;
    // Older documents have ISA ports on machines that never had any.
    if t.kind == Some(SerialTarget::Isa) && t.model.is_none() && !machine::is_x86(arch) {
        t.kind = None;
    }
    let kind = match t.kind {
        Some(SerialTarget::None) | None => {
            let kind = if machine::is_x86(arch) {
                SerialTarget::Isa
            } else if machine::is_pseries(name) {
                SerialTarget::SpaprVio
            } else if machine::is_arm_virt(arch, name) || arch.starts_with("riscv") || arch == "loongarch64" {
                SerialTarget::System
            } else if arch == "s390x" {
                SerialTarget::Sclp
            } else {
                SerialTarget::None
            };
            t.kind = (kind != SerialTarget::None).then_some(kind);
            kind
        }
        Some(kind) => kind,
    };
    if matches!(t.model, None | Some(SerialModel::None)) {
        t.model = match kind {
            SerialTarget::Isa => Some(SerialModel::IsaSerial),
            SerialTarget::Usb => Some(SerialModel::UsbSerial),
            SerialTarget::Pci => Some(SerialModel::PciSerial),
            SerialTarget::SpaprVio => Some(SerialModel::SpaprVty),
            SerialTarget::System if machine::is_arm(arch) => Some(SerialModel::Pl011),
            SerialTarget::System if machine::is_x86(arch) => None,
            SerialTarget::System => Some(SerialModel::Uart16550a),
            SerialTarget::Sclp => Some(SerialModel::SclpConsole),
            SerialTarget::IsaDebug => Some(SerialModel::IsaDebugcon),
            SerialTarget::None => None,
        };
    }
}
