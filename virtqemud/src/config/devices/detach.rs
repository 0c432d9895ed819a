//! Taking a device out of a configuration.

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::address::Address;
use virt_model::domain::chardev::{CharBackend, TcpProtocol};
use virt_model::domain::devices::Devices;
use virt_model::domain::info::DeviceInfo;
use virt_model::domain::interface::Interface;
use virt_model::domain::misc::Lease;
use virt_model::domain::{Domain, chardev};

use super::{Device, missing, same_place};

/// Removes the device that the document describes.
///
/// # Errors
/// Code 99 (for character devices 8) when there is none, code 9 when several fit, code 84 for kinds that stay.
pub fn detach(domain: &mut Domain, device: &Device) -> Result<()> {
    let d = &mut domain.devices;
    match device {
        Device::Disk(disk) => {
            let dev = disk.target.dev.as_deref().unwrap_or_default();
            take(
                &mut d.disks,
                |o| o.target.dev.as_deref() == Some(dev),
                || missing(format!("no target device {dev}")),
            )
        }
        Device::Controller(c) => {
            let index = c.index.unwrap_or(0);
            let fits = |o: &_| controller_fits(o, c.kind, index);
            take(&mut d.controllers, fits, not_in_configuration)
        }
        Device::Lease(lease) => {
            let same = |l: &Lease| (&l.lockspace, &l.key) == (&lease.lockspace, &lease.key);
            take(&mut d.leases, same, || missing(lease_text(lease, "does not exist")))
        }
        Device::Filesystem(fs) => {
            let none = || missing("no matching filesystem device was found");
            take(&mut d.filesystems, |o| o.target == fs.target, none)
        }
        Device::Interface(interface) => {
            let at = find_interface(d, interface)?;
            d.interfaces.remove(at);
            Ok(())
        }
        Device::Serial(s) => {
            let port = |o: &chardev::Serial| s.target.port.is_none() || s.target.port == o.target.port;
            take(&mut d.serials, |o| same_backend(&o.backend, &s.backend) && port(o), no_chardev)
        }
        Device::Parallel(p) => take(
            &mut d.parallels,
            |o| same_backend(&o.backend, &p.backend) && (p.port.is_none() || o.port == p.port),
            no_chardev,
        ),
        Device::Console(c) => take(
            &mut d.consoles,
            |o| same_backend(&o.backend, &c.backend) && o.target == c.target,
            no_chardev,
        ),
        Device::Channel(c) => {
            take(&mut d.channels, |o| same_backend(&o.backend, &c.backend) && o.same_target(c), no_chardev)
        }
        Device::Input(i) => {
            let same = |o: &_| input_fits(o, i);
            take(&mut d.inputs, same, || missing("matching input device not found"))
        }
        Device::Sound(s) => {
            let same =
                |o: &virt_model::domain::sound::Sound| o.model == s.model && same_place(&s.info, &o.info);
            take(&mut d.sounds, same, not_in_configuration)
        }
        Device::Hostdev(h) => take(&mut d.hostdevs, |o| o.source == h.source, not_in_configuration),
        Device::Redirdev(r) => {
            let same = |o: &virt_model::domain::misc::Redirdev| {
                o.bus == r.bus && same_backend(&o.backend, &r.backend) && same_place(&r.info, &o.info)
            };
            take(&mut d.redirdevs, same, || missing("no matching redirdev was not found"))
        }
        Device::Watchdog(w) => {
            let same = |o: &virt_model::domain::misc::Watchdog| o.model == w.model && o.action == w.action;
            take(&mut d.watchdogs, same, || missing("domain has no watchdog"))
        }
        Device::Rng(r) => {
            let same = |o: &virt_model::domain::misc::Rng| {
                o.model == r.model && o.backend == r.backend && same_place(&r.info, &o.info)
            };
            take(&mut d.rngs, same, || missing("no matching RNG device was found"))
        }
        Device::Shmem(s) => {
            take(&mut d.shmems, |o| o.name == s.name, || missing("matching shmem device was not found"))
        }
        Device::Memory(m) => {
            let same = |o: &virt_model::domain::memory::MemoryDevice| {
                o.model == m.model && o.target == m.target && same_place(&m.info, &o.info)
            };
            take(&mut d.memories, same, || missing("matching memory device was not found"))
        }
        Device::Vsock(v) => match d.vsock.take_if(|o| v.cid.is_none() || o.cid == v.cid) {
            Some(_) => Ok(()),
            None => Err(missing("matching vsock device not found")),
        },
        Device::Graphics(_) | Device::Fixed(_) => Err(device.unsupported("detach")),
    }
}

/// Removes the device of this alias.
///
/// # Errors
/// Code 1 when there is none.
pub fn detach_alias(domain: &mut Domain, alias: &str) -> Result<()> {
    let d = &mut domain.devices;
    let is = |info: &DeviceInfo| info.alias.as_deref() == Some(alias);
    macro_rules! try_lists {
        ($($list:ident),*) => {$(
            if let Some(at) = d.$list.iter().position(|o| is(&o.info)) {
                d.$list.remove(at);
                return Ok(());
            }
        )*};
    }
    each_list!(try_lists);
    if d.vsock.take_if(|v| is(&v.info)).is_some() {
        return Ok(());
    }
    Err(Error::internal(From::Domain, format!("no device found with alias {alias}")))
}

/// The one interface that a document describes: by hardware address, and place if given.
///
/// # Errors
/// Code 99 for none, code 9 for several.
pub fn find_interface(devices: &Devices, wanted: &Interface) -> Result<usize> {
    let mac = wanted.mac.as_ref().and_then(|m| m.address);
    let fits = |o: &Interface| {
        (mac.is_none() || o.mac.as_ref().and_then(|m| m.address) == mac) && same_place(&wanted.info, &o.info)
    };
    let mut found = devices.interfaces.iter().enumerate().filter(|(_, o)| fits(o)).map(|(at, _)| at);
    match (found.next(), found.next()) {
        (Some(at), None) => Ok(at),
        (Some(_), Some(_)) => {
            let text = match mac {
                Some(mac) => format!("multiple devices matching MAC address {mac} found"),
                None => "multiple matching devices found".to_string(),
            };
            Err(Error::new(Code::OperationFailed, From::Domain, text))
        }
        (None, _) => {
            let null = || "(<null>)".to_string();
            let place = match &wanted.info.address {
                Some(Address::Pci(a)) => a.to_string(),
                _ => null(),
            };
            let mac = mac.map_or_else(null, |m| m.to_string());
            let alias = wanted.info.alias.clone().unwrap_or_else(null);
            let text = format!(
                "no device found at address '{place}' matching MAC address '{mac}' and alias '{alias}'"
            );
            Err(Error::new(Code::DeviceMissing, From::Domain, text))
        }
    }
}

fn controller_fits(
    other: &virt_model::domain::controller::Controller,
    kind: virt_model::domain::controller::ControllerKind,
    index: u32,
) -> bool {
    other.kind == kind && other.index.unwrap_or(0) == index
}

fn input_fits(other: &virt_model::domain::input::Input, wanted: &virt_model::domain::input::Input) -> bool {
    other.kind == wanted.kind
        && (wanted.bus.is_none() || other.bus == wanted.bus)
        && same_place(&wanted.info, &other.info)
}

/// Whether two host sides are the same; a protocol that is not named is the plain one.
fn same_backend(one: &CharBackend, other: &CharBackend) -> bool {
    let plain = |backend: &CharBackend| {
        let mut backend = backend.clone();
        if let CharBackend::Tcp(tcp) = &mut backend {
            tcp.protocol.get_or_insert(TcpProtocol::Raw);
        }
        backend
    };
    plain(one) == plain(other)
}

fn take<T>(list: &mut Vec<T>, fits: impl Fn(&T) -> bool, none: impl Fn() -> Error) -> Result<()> {
    let at = list.iter().position(fits).ok_or_else(none)?;
    list.remove(at);
    Ok(())
}

fn not_in_configuration() -> Error {
    missing("device not present in domain configuration")
}

fn no_chardev() -> Error {
    Error::new(Code::InvalidArg, From::Qemu, "device not present in domain configuration")
}

/// "Lease k in lockspace s already exists".
pub(super) fn lease_text(lease: &Lease, what: &str) -> String {
    let (key, space) =
        (lease.key.as_deref().unwrap_or_default(), lease.lockspace.as_deref().unwrap_or("(null)"));
    format!("Lease {key} in lockspace {space} {what}")
}
