//! Defaults of serial ports, consoles and channels.

use std::collections::HashSet;

use virt_error::Result;

use super::types::{
    CharBackend, Console, ConsoleTarget, Domain, Serial, SerialModel, SerialTarget, SocketMode,
};
use super::{devices, machine};
use crate::emulator::Emulator;

/// Fills in targets, port numbers and the console that stands for the first serial port.
pub fn complete(def: &mut Domain, emulator: &Emulator) -> Result<()> {
    let name = def.os.kind.machine.clone().unwrap_or_default();
    let arch = emulator.arch.as_str();
    let d = &mut def.devices;
    for serial in &mut d.serials {
        log_default(&mut serial.backend);
    }
    number(&mut d.serials, |s| &mut s.target.port);
    number(&mut d.parallels, |p| &mut p.port);
    for channel in &mut d.channels {
        if let Some(target) = &mut channel.target {
            devices::channel_name(target, &channel.backend);
        }
        if let CharBackend::Unix(s) = &mut channel.backend {
            // A path the driver made is not configuration.
            let made = s.path.as_deref().is_some_and(is_made);
            if made {
                s.path = None;
            }
            if s.path.is_none() && s.mode == Some(SocketMode::Bind) {
                s.mode = None;
            }
        }
    }
    consoles(def, arch, &name);
    for serial in &mut def.devices.serials {
        complete_serial(serial, arch, &name);
    }
    Ok(())
}

/// Paths that libvirt itself gives channels.
fn is_made(path: &str) -> bool {
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

fn log_default(_: &mut CharBackend) {}

/// Gives the lowest free numbers to ports without one.
fn number<T>(list: &mut [T], port: impl Fn(&mut T) -> &mut Option<u32>) {
    let mut used: HashSet<u32> = list.iter_mut().filter_map(|t| *port(t)).collect();
    let mut next = 0;
    for item in list {
        let slot = port(item);
        if slot.is_none() {
            while used.contains(&next) {
                next += 1;
            }
            used.insert(next);
            *slot = Some(next);
        }
    }
}

fn complete_serial(serial: &mut Serial, arch: &str, name: &str) {
    let t = &mut serial.target;
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
            SerialTarget::System => Some(SerialModel::Uart16550a),
            SerialTarget::Sclp => Some(SerialModel::SclpConsole),
            SerialTarget::IsaDebug => Some(SerialModel::IsaDebugcon),
            SerialTarget::None => None,
        };
    }
}

/// The first console and the first serial port are one device: whichever is missing is made from the other.
fn consoles(def: &mut Domain, arch: &str, name: &str) {
    let _ = (arch, name);
    let d = &mut def.devices;
    for (i, console) in d.consoles.iter_mut().enumerate() {
        if matches!(console.target.kind, None | Some(ConsoleTarget::None)) {
            console.target.kind = Some(if i == 0 || !d.serials.is_empty() {
                ConsoleTarget::Serial
            } else {
                ConsoleTarget::Serial
            });
        }
    }
    let first_is_serial = d.consoles.first().is_some_and(|c| c.target.kind == Some(ConsoleTarget::Serial));
    if first_is_serial {
        if let Some(serial) = d.serials.first() {
            // The serial port's own settings win.
            let (backend, log) = devices::same_backend(&serial.backend, &serial.log);
            let port = serial.target.port;
            if let Some(console) = d.consoles.first_mut() {
                console.backend = backend;
                console.log = log;
                console.target.port = port;
            }
        } else if let Some(console) = d.consoles.first() {
            let mut serial =
                Serial { backend: console.backend.clone(), log: console.log.clone(), ..Serial::default() };
            serial.target.port = Some(0);
            d.serials.push(serial);
        }
    } else if let Some(serial) = d.serials.first() {
        let usable = matches!(
            serial.target.kind,
            None | Some(
                SerialTarget::None
                    | SerialTarget::Isa
                    | SerialTarget::System
                    | SerialTarget::SpaprVio
                    | SerialTarget::Sclp
            )
        );
        if usable {
            let (backend, log) = devices::same_backend(&serial.backend, &serial.log);
            let mut console = Console { backend, log, ..Console::default() };
            console.target.kind = Some(ConsoleTarget::Serial);
            d.consoles.insert(0, console);
        }
    }
    for (i, console) in d.consoles.iter_mut().enumerate() {
        console.target.port = Some(i as u32);
    }
    if let (Some(serial), Some(console)) = (d.serials.first(), d.consoles.first_mut())
        && console.target.kind == Some(ConsoleTarget::Serial)
    {
        console.target.port = serial.target.port;
    }
}
