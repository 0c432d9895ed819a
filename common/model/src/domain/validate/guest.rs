//! Boot, CPU, NUMA, memory backing, labels and what the guest reads of its make.

use virt_error::Result;
use virt_xml::{At, Place};

use super::super::Domain;
use super::super::cpu::CpuMode;
use super::super::os::{AcpiTableKind, Firmware, LoaderKind, Os};
use super::super::source::ImageFormat;
use super::super::vcpu::NumaMode;
use super::reading::{cpu_error, loader};
use super::{detail, internal, twice, unsupported, xml};

pub(super) fn check(d: &Domain) -> Result<()> {
    firmware(&d.os).within("/domain/os")?;
    cpu(d).within("/domain/cpu/numa")?;
    numatune(d).within("/domain/numatune")?;
    hugepages(d).within("/domain/memoryBacking/hugepages")?;
    let map = &d.idmap;
    if map.uids.is_empty() != map.gids.is_empty() {
        return unsupported("uid and gid should be mapped both").within("/domain/idmap");
    }
    Ok(())
}

/// What clashes within one element.
pub(super) fn while_reading(d: &Domain) -> Result<()> {
    for (boot, place) in boot_orders(d) {
        loadparm(boot).at(place)?;
    }
    let feature = |name: &str, on: bool| {
        d.os.firmware_features.features.iter().any(|f| f.name.as_str() == name && f.enabled == on)
    };
    if feature("secure-boot", false) && feature("enrolled-keys", true) {
        let text = "firmware feature 'enrolled-keys' cannot be enabled when firmware feature 'secure-boot' is disabled";
        return detail(text).within("/domain/os/firmware");
    }
    if let Some(cpu) = &d.cpu
        && cpu.vendor.is_some()
        && cpu.model.as_ref().is_none_or(|m| m.name.is_none())
        && cpu.mode.unwrap_or_default() == CpuMode::Custom
    {
        let text = "CPU vendor specified without CPU model";
        return Err(cpu_error(text)).within("/domain/cpu");
    }
    if let Some(kind) = twice(d.os.acpi.tables.iter().map(|t| t.kind).filter(|k| *k != AcpiTableKind::Raw)) {
        return xml(format!("ACPI table type '{kind}' may only appear once")).within("/domain/os/acpi");
    }
    if let Some(cpu) = &d.cpu
        && let Some(name) = twice(cpu.features.iter().filter_map(|f| f.name.as_deref()))
    {
        let text = format!("CPU feature '{name}' specified more than once");
        return Err(cpu_error(text)).within("/domain/cpu");
    }
    if let Some(event) = twice(d.perf.events.iter().map(|e| e.name)) {
        return xml(format!("perf event '{event}' was already specified")).within("/domain/perf");
    }
    loader(&d.os).within("/domain/os")
}

fn boot_orders(d: &Domain) -> impl Iterator<Item = (&str, Place)> {
    let dev = &d.devices;
    let infos = dev.disks.iter().map(|x| &x.info).chain(dev.interfaces.iter().map(|x| &x.info));
    let infos =
        infos.chain(dev.hostdevs.iter().map(|x| &x.info)).chain(dev.redirdevs.iter().map(|x| &x.info));
    infos.filter_map(|i| Some((i.boot.as_ref()?.loadparm.as_deref()?, i.place)))
}

fn loadparm(parm: &str) -> Result<()> {
    let parm = parm.to_ascii_uppercase();
    if parm.is_empty() || parm.len() > 8 {
        return internal(format!("loadparm value '{parm}' must be between 1 and 8 characters"));
    }
    if !parm.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b' ') {
        return internal(format!(
            "invalid loadparm value '{parm}', expecting chars in set of [a-zA-Z0-9.] and blank spaces"
        ));
    }
    Ok(())
}

fn firmware(os: &Os) -> Result<()> {
    let auto = os.firmware.is_some_and(|f| f != Firmware::None);
    let loader = os.loader.as_ref();
    let stateless = loader.and_then(|l| l.stateless);
    if os.nvram.is_some() || stateless == Some(false) {
        if auto && os.firmware != Some(Firmware::Efi) {
            return detail("Only EFI firmware permits NVRAM");
        }
        if !auto && loader.is_some_and(|l| l.kind == Some(LoaderKind::Rom)) {
            return detail("Only pflash loader type permits NVRAM");
        }
    }
    if let Some(nvram) = os.nvram.as_ref().filter(|_| stateless == Some(true)) {
        if nvram.template.is_some() {
            return detail("NVRAM template is not permitted when loader is stateless");
        }
        if nvram.path.is_some() || nvram.source.is_some() {
            return detail("NVRAM is not permitted when loader is stateless");
        }
    }
    let known = [ImageFormat::Raw, ImageFormat::Qcow2];
    if let Some(format) = loader.and_then(|l| l.format).filter(|f| !known.contains(f)) {
        return unsupported(format!("Unsupported loader format '{format}'"));
    }
    if let Some(format) = os.nvram.as_ref().and_then(|n| n.format).filter(|f| !known.contains(f)) {
        return unsupported(format!("Unsupported nvram format '{format}'"));
    }
    Ok(())
}

fn cpu(d: &Domain) -> Result<()> {
    let Some(cpu) = &d.cpu else { return Ok(()) };
    let Some(numa) = &cpu.numa else { return Ok(()) };
    let cell = |id: u32| numa.cells.iter().find(|c| c.id == Some(id));
    for link in numa.interconnects.latencies.iter().chain(&numa.interconnects.bandwidths) {
        if cell(link.initiator).is_some_and(|c| c.cpus.as_ref().is_none_or(crate::Bitmap::is_empty)) {
            return xml("NUMA nodes without CPUs can't be initiator");
        }
        let level = link.cache.filter(|n| *n > 0);
        if level.is_some_and(|n| cell(link.target).is_none_or(|c| c.caches.iter().all(|k| k.level != n))) {
            return xml("'cache' refers to a non-existent NUMA node cache");
        }
    }
    let twins = |list: &[super::super::cpu::Interconnect]| {
        twice(list.iter().map(|l| (l.initiator, l.target, l.cache, l.kind))).is_some()
    };
    if twins(&numa.interconnects.latencies) {
        return xml("Duplicate info for NUMA latencies");
    }
    if twins(&numa.interconnects.bandwidths) {
        return xml("Duplicate info for NUMA bandwidth");
    }
    Ok(())
}

fn cell_count(d: &Domain) -> u32 {
    d.cpu.as_ref().and_then(|c| c.numa.as_ref()).map_or(0, |n| n.cells.len() as u32)
}

/// Strict and loose ways of taking memory are not mixed.
fn numatune(d: &Domain) -> Result<()> {
    let restrictive = |m: Option<NumaMode>| m.unwrap_or_default() == NumaMode::Restrictive;
    let whole = d.numatune.memory.as_ref().is_some_and(|m| restrictive(m.mode));
    for node in &d.numatune.memnodes {
        if restrictive(node.mode) && !whole {
            return xml(
                "'restrictive' mode is required in memory element when mode is 'restrictive' in memnode element",
            );
        }
        if whole && !restrictive(node.mode) {
            return xml(
                "'restrictive' mode is required in memnode element when mode is 'restrictive' in memory element",
            );
        }
    }
    Ok(())
}

fn hugepages(d: &Domain) -> Result<()> {
    let Some(huge) = &d.memory_backing.hugepages else { return Ok(()) };
    let cells = cell_count(d);
    let mut master: Option<u64> = None;
    for (i, page) in huge.pages.iter().enumerate() {
        if let Some(set) = &page.nodeset {
            for other in huge.pages[..i].iter().filter_map(|p| p.nodeset.as_ref()) {
                if other.overlaps(set) {
                    let node = set.iter().find(|n| other.contains(*n)).unwrap_or(0);
                    let other =
                        huge.pages[..i].iter().find(|p| p.nodeset.as_ref().is_some_and(|s| s.contains(node)));
                    let other = other.map_or(0, |p| p.size.kib);
                    return detail(format!(
                        "nodeset attribute: {node} is in both sizes {other} and {}",
                        page.size.kib
                    ));
                }
            }
            // A guest without nodes has one, number 0, and then the set names all of it.
            if let Some(missing) = set.iter().find(|n| *n >= cells.max(1)) {
                return detail(format!("hugepages: node {missing} not found"));
            }
        }
        if page.nodeset.is_none() || cells == 0 {
            if let Some(first) = master {
                return detail(format!("two master hugepages detected: {} and {first}", page.size.kib));
            }
            master = Some(page.size.kib);
        }
    }
    Ok(())
}
