//! Whether a document can take the place of another under a running guest: what the guest sees must not change.

use virt_error::{Code, Domain as From, Error, Result};

use super::Domain;
use super::address::Address;
use super::info::DeviceInfo;

fn refuse<T>(text: String) -> Result<T> {
    Err(Error::new(Code::ConfigUnsupported, From::Domain, text))
}

/// "Target ... does not match source ...".
fn same<T: PartialEq>(what: &str, target: &T, source: &T, show: impl Fn(&T) -> String) -> Result<()> {
    if target == source {
        return Ok(());
    }
    refuse(format!("Target {what} {} does not match source {}", show(target), show(source)))
}

fn count(what: &str, target: usize, source: usize) -> Result<()> {
    same(&format!("domain {what} count"), &target, &source, ToString::to_string)
}

/// A part that either is the same or is not, without a short name of its value.
fn equal<T: PartialEq>(what: &str, target: &T, source: &T) -> Result<()> {
    if target == source { Ok(()) } else { refuse(format!("Target {what} does not match source")) }
}

fn text(v: &Option<String>) -> String {
    v.clone().unwrap_or_default()
}

/// The address, and the ROM's visibility.
fn place(target: &DeviceInfo, source: &DeviceInfo) -> Result<()> {
    let kind = |a: &Option<Address>| a.as_ref().map_or("none", Address::tag);
    let (t, s) = (kind(&target.address), kind(&source.address));
    same("device address type", &t, &s, ToString::to_string)?;
    match (&target.address, &source.address) {
        (Some(Address::Pci(a)), Some(Address::Pci(b))) => {
            let at = |p: &super::address::PciAddress| (p.domain, p.bus, p.slot, p.function);
            if at(a) != at(b) {
                return refuse(format!("Target device PCI address {a} does not match source {b}"));
            }
        }
        (a, b) => equal(&format!("device {t} address"), a, b)?,
    }
    equal("device ROM", &target.rom, &source.rom)?;
    same("device ACPI index", &target.acpi_index, &source.acpi_index, |i| i.unwrap_or(0).to_string())
}

impl Domain {
    /// Refuses (code 67) a document under which the guest would see other hardware than under `self`.
    ///
    /// Host paths, labels, limits and aliases may differ: a guest that is migrated or restored keeps none of them.
    pub fn check_stability(&self, target: &Domain) -> Result<()> {
        let (s, t) = (self, target);
        same("domain virt type", &t.virt_type, &s.virt_type, ToString::to_string)?;
        same("domain uuid", &t.uuid, &s.uuid, |u| u.map(|u| u.to_string()).unwrap_or_default())?;
        if t.name != s.name {
            return refuse(format!(
                "Target domain name '{}' does not match source '{}'",
                text(&t.name),
                text(&s.name)
            ));
        }
        equal("domain generation id", &t.genid, &s.genid)?;
        let memory = |d: &Domain| d.memory.as_ref().map_or(0, |m| m.size.kib);
        same("domain max memory", &memory(t), &memory(s), ToString::to_string)?;
        equal("domain memory slots", &t.max_memory, &s.max_memory)?;
        let vcpus = |d: &Domain| d.vcpu.as_ref().and_then(|v| v.max).unwrap_or(1);
        same("domain vCPU max", &vcpus(t), &vcpus(s), ToString::to_string)?;
        same("domain OS type", &t.os.kind.name, &s.os.kind.name, text)?;
        same("domain architecture", &t.os.kind.arch, &s.os.kind.arch, text)?;
        same("domain machine type", &t.os.kind.machine, &s.os.kind.machine, text)?;
        same("domain SMBIOS mode", &t.os.smbios, &s.os.smbios, |m| {
            m.map(|m| m.to_string()).unwrap_or_default()
        })?;
        equal("domain features", &t.features, &s.features)?;
        equal("domain timers", &t.clock.as_ref().map(|c| &c.timers), &s.clock.as_ref().map(|c| &c.timers))?;
        equal("domain CPU", &t.cpu, &s.cpu)?;
        equal("domain sysinfo", &t.sysinfo, &s.sysinfo)?;
        devices(s, t)
    }
}

/// Pairs devices of one kind and compares what the guest sees of each.
macro_rules! pairs {
    ($s:ident, $t:ident, $list:ident, $what:literal, |$a:ident, $b:ident| $body:block) => {
        count($what, $t.devices.$list.iter().count(), $s.devices.$list.iter().count())?;
        for ($a, $b) in $t.devices.$list.iter().zip(&$s.devices.$list) {
            $body
            place(&$a.info, &$b.info)?;
        }
    };
}

fn devices(s: &Domain, t: &Domain) -> Result<()> {
    pairs!(s, t, disks, "disk", |a, b| {
        same("disk device", &a.device, &b.device, ToString::to_string)?;
        same("disk bus", &a.target.bus, &b.target.bus, |v| v.map(|v| v.to_string()).unwrap_or_default())?;
        same("disk", &a.target.dev, &b.target.dev, text)?;
        same("disk serial", &a.serial, &b.serial, text)?;
        same("disk wwn", &a.wwn, &b.wwn, text)?;
        equal("disk model", &a.model, &b.model)?;
        equal("disk access mode", &a.readonly, &b.readonly)?;
        equal("disk geometry", &(&a.geometry, &a.blockio), &(&b.geometry, &b.blockio))?;
        equal("disk virtio options", &a.driver.virtio, &b.driver.virtio)?;
    });
    pairs!(s, t, controllers, "controller", |a, b| {
        same("controller type", &a.kind, &b.kind, ToString::to_string)?;
        same("controller index", &a.index, &b.index, |v| v.unwrap_or(0).to_string())?;
        same("controller model", &a.model, &b.model, text)?;
        same("controller ports", &a.ports, &b.ports, |v| v.unwrap_or(0).to_string())?;
        equal("controller target", &(&a.pci_model, &a.target), &(&b.pci_model, &b.target))?;
    });
    pairs!(s, t, filesystems, "filesystem", |a, b| {
        same("filesystem guest target", &a.target, &b.target, text)?;
    });
    pairs!(s, t, interfaces, "net card", |a, b| {
        let mac = |i: &super::interface::Interface| i.mac.as_ref().and_then(|m| m.address);
        same("network card mac", &mac(a), &mac(b), |m| m.map(|m| m.to_string()).unwrap_or_default())?;
        same("network card model", &a.model, &b.model, text)?;
        same("network card MTU", &a.mtu, &b.mtu, |m| m.unwrap_or(0).to_string())?;
        equal("network card virtio options", &a.driver.virtio, &b.driver.virtio)?;
    });
    pairs!(s, t, inputs, "input device", |a, b| {
        same("input device type", &a.kind, &b.kind, ToString::to_string)?;
        equal("input device bus", &a.bus, &b.bus)?;
    });
    pairs!(s, t, sounds, "sound card", |a, b| {
        same("sound card model", &a.model, &b.model, ToString::to_string)?;
    });
    pairs!(s, t, videos, "video card", |a, b| {
        same("video card model", &a.model.kind, &b.model.kind, ToString::to_string)?;
        equal("video card memory and heads", &a.model, &b.model)?;
    });
    pairs!(s, t, hostdevs, "host device", |a, b| {
        equal("host device mode", &(a.mode, a.source.tag()), &(b.mode, b.source.tag()))?;
    });
    pairs!(s, t, smartcards, "smartcard", |_a, _b| {});
    pairs!(s, t, serials, "serial port", |a, b| {
        equal("serial port", &a.target, &b.target)?;
    });
    pairs!(s, t, parallels, "parallel port", |a, b| {
        equal("parallel port", &a.port, &b.port)?;
    });
    pairs!(s, t, channels, "channel", |a, b| {
        equal("channel", &a.target.as_ref().map(|c| c.tag()), &b.target.as_ref().map(|c| c.tag()))?;
    });
    pairs!(s, t, consoles, "console", |a, b| {
        equal("console", &a.target.kind, &b.target.kind)?;
    });
    pairs!(s, t, hubs, "hub device", |_a, _b| {});
    pairs!(s, t, redirdevs, "redirected devices", |_a, _b| {});
    pairs!(s, t, watchdogs, "watchdogs", |a, b| {
        same("watchdog model", &a.model, &b.model, ToString::to_string)?;
    });
    pairs!(s, t, memballoon, "memory balloon", |a, b| {
        same("balloon model", &a.model, &b.model, ToString::to_string)?;
    });
    pairs!(s, t, rngs, "RNG device", |a, b| {
        same("RNG model", &a.model, &b.model, ToString::to_string)?;
    });
    pairs!(s, t, panics, "panic device", |a, b| {
        equal("panic model", &a.model, &b.model)?;
    });
    pairs!(s, t, shmems, "shared memory device", |a, b| {
        equal("shared memory size and model", &(a.size, a.model), &(b.size, b.model))?;
    });
    pairs!(s, t, memories, "memory device", |a, b| {
        same("memory device model", &a.model, &b.model, ToString::to_string)?;
        equal("memory device size", &a.target.size, &b.target.size)?;
    });
    pairs!(s, t, iommus, "IOMMU device", |a, b| {
        equal("IOMMU", &(a.model, &a.driver), &(b.model, &b.driver))?;
    });
    pairs!(s, t, vsock, "vsock", |a, b| {
        equal("vsock model", &a.model, &b.model)?;
    });
    count("TPM device", t.devices.tpms.len(), s.devices.tpms.len())?;
    pairs!(s, t, cryptos, "crypto device", |a, b| {
        equal("crypto model", &a.model, &b.model)?;
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt_xml::Mode;

    fn guest(devices: &str, machine: &str) -> Domain {
        let text = format!(
            "<domain type='qemu'><name>g</name><memory>1024</memory><os><type arch='x86_64' machine='{machine}'>hvm</type></os>\
             <devices>{devices}</devices></domain>"
        );
        Domain::parse(&text, Mode::CONFIG).expect("a guest")
    }

    #[test]
    fn what_the_guest_sees_must_stay() {
        let disk = |file: &str, slot: u32| {
            format!(
                "<disk><source file='{file}'/><target dev='vda' bus='virtio'/><address type='pci' slot='0x{slot:02x}'/></disk>"
            )
        };
        let source = guest(&disk("/a", 3), "pc");
        assert!(source.check_stability(&guest(&disk("/b", 3), "pc")).is_ok(), "another file is fine");
        for (target, want) in [
            (
                guest(&disk("/a", 4), "pc"),
                "Target device PCI address 0000:00:04.0 does not match source 0000:00:03.0",
            ),
            (guest("", "pc"), "Target domain disk count 0 does not match source 1"),
            (guest(&disk("/a", 3), "q35"), "Target domain machine type q35 does not match source pc"),
        ] {
            let e = source.check_stability(&target).expect_err("refused");
            assert_eq!((e.code() as i32, e.info()), (67, Some(want)));
        }
    }
}
