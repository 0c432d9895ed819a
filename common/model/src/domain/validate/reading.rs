//! What the reference refuses while it reads, in its order: before emulator, machine and devices are looked at. Parts
//! of the document that are read later are looked up in the text.

use std::collections::BTreeSet;

use virt_error::{Code, Domain as From, Error, Result};
use virt_xml::{At, El};

use super::super::clock::{Clock, ClockOffset};
use super::super::cpu::{Cpu, Numa};
use super::super::memory::MemoryBacking;
use super::super::os::is_architecture;
use super::super::seclabel::Seclabel;
use super::super::sysinfo::{Smbios, Sysinfo};
use super::super::tuning::BlkioTune;
use super::super::vcpu::{CpuTune, NumaTune, Placement, VcpuSched, Vcpus};
use super::{detail, internal, twice, unsupported, xml};
use crate::Bitmap;

/// The number that an element's text is; 0 if it is none.
fn number(e: Option<El<'_>>) -> Option<u32> {
    e.map(|e| e.text().trim_ascii().parse().unwrap_or(0))
}

fn most_vcpus(domain: El<'_>) -> u32 {
    number(domain.child("vcpu")).unwrap_or(1)
}

/// The ids of all I/O threads; of those that are only counted, the smallest free ones.
fn iothread_ids(domain: El<'_>) -> BTreeSet<u32> {
    /// More than any host runs.
    const MOST: u32 = 65536;
    let listed = domain.child("iothreadids");
    let listed = listed.iter().flat_map(|l| l.children_named("iothread"));
    let mut ids: BTreeSet<u32> = listed.filter_map(|t| t.attr("id")?.parse().ok()).collect();
    let count = number(domain.child("iothreads")).unwrap_or(0).min(MOST) as usize;
    let mut next = 1;
    while ids.len() < count {
        ids.insert(next);
        next += 1;
    }
    ids
}

/// The kinds of guests that documents can name.
const GUESTS: &[&str] = &["hvm", "xen", "linux", "exe", "uml", "xenpvh"];

/// What kind of guest it is: known well before the rest of `<os>` is read. A boot loader of the host's stands for Xen.
pub(in super::super) fn guest_kind(bootloader: &Option<String>, e: El<'_>) -> Result<()> {
    let kind = e.child("os").and_then(|os| os.child("type"));
    let name = kind.map(|k| k.text()).filter(|t| !t.is_empty());
    match name.as_deref() {
        None if bootloader.is_none() => return xml("an os <type> must be specified").within("/domain/os"),
        Some(name) if !GUESTS.contains(&name) => {
            return unsupported(format!("unknown OS type '{name}'")).within("/domain/os/type");
        }
        _ => {}
    }
    match kind.and_then(|k| k.attr("arch")) {
        Some(arch) if !is_architecture(arch) => {
            unsupported(format!("Unknown architecture {arch}")).within("/domain/os/type")
        }
        _ => Ok(()),
    }
}

/// Labels of several models all say which; none is there twice.
pub(in super::super) fn labels(labels: &[Seclabel], _: El<'_>) -> Result<()> {
    if let Some(model) = twice(labels.iter().map(|l| l.model.as_deref())) {
        let model = model.unwrap_or("(null)");
        return detail(format!("seclabel for model {model} is already provided")).within("/domain/seclabel");
    }
    if labels.len() > 1 && labels.iter().any(|l| l.model.is_none()) {
        return xml("missing security model when using multiple labels").within("/domain/seclabel");
    }
    Ok(())
}

pub(in super::super) fn blkio(tune: &BlkioTune, _: El<'_>) -> Result<()> {
    match tune.devices.iter().any(|d| d.path.is_none()) {
        true => unsupported("missing per-device path").within("/domain/blkiotune/device"),
        false => Ok(()),
    }
}

pub(in super::super) fn page_sizes(backing: &MemoryBacking, _: El<'_>) -> Result<()> {
    let pages = backing.hugepages.iter().flat_map(|h| &h.pages);
    match pages.into_iter().any(|p| p.size.kib == 0) {
        true => detail("hugepage size can't be zero").within("/domain/memoryBacking/hugepages"),
        false => Ok(()),
    }
}

/// vcpus of the list are within the count, and so is the number of those at boot.
pub(in super::super) fn vcpu_list(list: &Vcpus, e: El<'_>) -> Result<()> {
    let most = most_vcpus(e);
    if let Some(wrong) = list.vcpus.iter().find(|v| v.id >= most) {
        let text = format!("vcpu id '{}' is out of range of maximum vcpu count", wrong.id);
        return xml(text).within("/domain/vcpus");
    }
    let current = e.child("vcpu").and_then(|v| v.attr("current")?.parse::<u32>().ok());
    if list.vcpus.is_empty() && current == Some(0) {
        return unsupported("vcpu 0 can't be offline").within("/domain/vcpu");
    }
    match list.vcpus.is_empty() && current.is_some_and(|c| c > most) {
        true => {
            unsupported("maximum vCPU count must not be less than current vCPU count").within("/domain/vcpu")
        }
        false => Ok(()),
    }
}

/// Pins and schedules are of vcpus and threads that are there, one of each.
pub(in super::super) fn schedulers(tune: &CpuTune, e: El<'_>) -> Result<()> {
    placed(tune, e).within("/domain/cputune")
}

fn placed(tune: &CpuTune, e: El<'_>) -> Result<()> {
    if let Some(vcpu) = twice(tune.vcpupins.iter().map(|p| p.vcpu)) {
        return internal(format!("duplicate vcpupin for vcpu '{vcpu}'"));
    }
    let threads = iothread_ids(e);
    if let Some(pin) = tune.iothreadpins.iter().find(|p| !threads.contains(&p.iothread)) {
        return unsupported(format!("Cannot find 'iothread' : {}", pin.iothread));
    }
    if let Some(id) = twice(tune.iothreadpins.iter().map(|p| p.iothread)) {
        return internal(format!("duplicate iothreadpin for same iothread '{id}'"));
    }
    let most = most_vcpus(e);
    for (i, sched) in tune.vcpuscheds.iter().enumerate() {
        let VcpuSched { vcpus, .. } = sched;
        if let Some(vcpu) = vcpus.last().filter(|v| *v >= most) {
            return unsupported(format!("vCPU '{vcpu}' is not present in domain definition"));
        }
        apart(vcpus, tune.vcpuscheds[..i].iter().map(|s| &s.vcpus), "vcpusched", "vcpus")?;
    }
    for (i, sched) in tune.iothreadscheds.iter().enumerate() {
        if let Some(id) = sched.iothreads.iter().find(|id| !threads.contains(id)) {
            return unsupported(format!("Cannot find 'iothread' : {id}"));
        }
        let before = tune.iothreadscheds[..i].iter().map(|s| &s.iothreads);
        apart(&sched.iothreads, before, "iothreadsched", "iothreads")?;
    }
    Ok(())
}

fn apart<'a>(
    set: &Bitmap,
    mut others: impl Iterator<Item = &'a Bitmap>,
    element: &str,
    attribute: &str,
) -> Result<()> {
    match others.any(|o| o.overlaps(set)) {
        true => detail(format!("'{element}' attributes '{attribute}' must not overlap")),
        false => Ok(()),
    }
}

/// NUMA nodes are numbered without gaps, share no vcpus and know each other.
pub(in super::super) fn cells(cpu: &Option<Cpu>, e: El<'_>) -> Result<()> {
    let numa = cpu.as_ref().and_then(|c| c.numa.as_ref());
    if let Some(numa) = numa {
        node_list(numa).within("/domain/cpu/numa")?;
    }
    let highest = numa.into_iter().flat_map(|n| &n.cells).filter_map(|c| c.cpus.as_ref()?.last()).max();
    match highest.unwrap_or(0) >= most_vcpus(e) {
        true => internal("CPU IDs in <numa> exceed the <vcpu> count").within("/domain/cpu/numa"),
        false => Ok(()),
    }
}

fn node_list(numa: &Numa) -> Result<()> {
    let count = numa.cells.len() as u32;
    let id = |i: usize| numa.cells[i].id.unwrap_or(i as u32);
    let mut seen = BTreeSet::new();
    for (i, cell) in numa.cells.iter().enumerate() {
        if let Some(level) = twice(cell.caches.iter().map(|c| c.level)) {
            return xml(format!("Cache level '{level}' already defined"));
        }
        if id(i) >= count {
            return xml(
                "Exactly one 'cell' element per guest NUMA cell allowed, non-contiguous ranges or ranges not starting from 0 are not allowed",
            );
        }
        if !seen.insert(id(i)) {
            return xml(format!("Duplicate NUMA cell info for cell id '{}'", id(i)));
        }
    }
    for (i, a) in numa.cells.iter().enumerate() {
        for (j, b) in numa.cells.iter().enumerate().skip(i + 1) {
            if let (Some(x), Some(y)) = (&a.cpus, &b.cpus)
                && x.overlaps(y)
            {
                let (low, high) = (id(i).min(id(j)), id(i).max(id(j)));
                return unsupported(format!("NUMA cells {high} and {low} have overlapping vCPU ids"));
            }
        }
        for sibling in &a.distances.siblings {
            let (other, value) = (sibling.id, sibling.value);
            if other >= count {
                return xml(format!(
                    "'sibling_id {other}' does not refer to a valid cell within NUMA 'cell id {}'",
                    id(i)
                ));
            }
            if !(10..=255).contains(&value) || (other == id(i) && value != 10) {
                return xml(format!(
                    "'value {value}' is invalid for 'sibling id {other}' under NUMA 'cell id {}'",
                    id(i)
                ));
            }
        }
    }
    Ok(())
}

/// Where memory comes from is said in full, and of nodes that are there.
pub(in super::super) fn numa_places(tune: &NumaTune, e: El<'_>) -> Result<()> {
    numatune(tune, e).within("/domain/numatune")
}

fn numatune(tune: &NumaTune, e: El<'_>) -> Result<()> {
    if let Some(m) = &tune.memory {
        if m.nodeset.as_ref().is_some_and(Bitmap::is_empty) {
            let written = e.child("numatune").and_then(|n| n.child("memory")?.attr("nodeset"));
            return unsupported(format!("Invalid value of 'nodeset': {}", written.unwrap_or_default()));
        }
        let vcpus_auto = e.child("vcpu").and_then(|v| v.attr("placement")) == Some("auto");
        if m.nodeset.is_none()
            && m.placement != Some(Placement::Auto)
            && !(m.placement.is_none() && vcpus_auto)
        {
            return unsupported("nodeset for NUMA memory tuning must be set if 'placement' is 'static'");
        }
    }
    let nodes = &tune.memnodes;
    if nodes.is_empty() {
        return Ok(());
    }
    let cells = e.child("cpu").and_then(|c| c.child("numa"));
    let cells = cells.map_or(0, |n| n.children_named("cell").count() as u32);
    if cells == 0 {
        return xml("Element 'memnode' is invalid without any guest NUMA cells");
    }
    for (i, node) in nodes.iter().enumerate() {
        if node.cellid >= cells {
            return xml("Argument 'cellid' in memnode element must correspond to existing guest's NUMA cell");
        }
        if nodes[..i].iter().any(|n| n.cellid == node.cellid) {
            return xml(format!("Multiple memnode elements with cellid {}", node.cellid));
        }
    }
    Ok(())
}

/// A clock says all that its kind needs.
pub(in super::super) fn clock(clock: &Option<Clock>, _: El<'_>) -> Result<()> {
    let Some(clock) = clock else { return Ok(()) };
    let incomplete = |what: &str, offset: &str| {
        internal(format!("missing '{what}' attribute for clock with offset='{offset}'"))
            .within("/domain/clock")
    };
    match (clock.offset, clock.adjustment.as_deref()) {
        (ClockOffset::Utc | ClockOffset::Localtime, Some(text))
            if text != "reset" && virt_xml::parse_int(text, 10).is_none() =>
        {
            xml(format!("unknown clock adjustment '{text}'")).within("/domain/clock")
        }
        (ClockOffset::Timezone, _) if clock.timezone.is_none() => incomplete("timezone", "timezone"),
        (ClockOffset::Absolute, _) if clock.start.is_none() => incomplete("start", "absolute"),
        _ => Ok(()),
    }
}

/// Texts of SMBIOS tables that have a form.
pub(in super::super) fn smbios(tables: &[Sysinfo], e: El<'_>) -> Result<()> {
    let own = e.child("uuid").map(|u| u.text().into_owned());
    for table in tables {
        if let Sysinfo::Smbios(s) = table {
            smbios_texts(s, own.as_deref()).within("/domain/sysinfo")?;
        }
    }
    Ok(())
}

fn uuid(text: &str) -> Option<crate::Uuid> {
    <crate::UuidText as virt_xml::Codec<crate::Uuid>>::parse(text).ok()
}

fn smbios_texts(s: &Smbios, own: Option<&str>) -> Result<()> {
    if let Some(date) = s.bios.get("date") {
        let parts: Vec<_> = date.split('/').collect();
        let number =
            |t: &str, range: std::ops::RangeInclusive<u32>| t.parse().is_ok_and(|n| range.contains(&n));
        let year = |t: &str| (t.len() == 2 && number(t, 0..=99)) || number(t, 1900..=9999);
        let fine = matches!(parts[..], [m, day, y] if number(m, 1..=12) && number(day, 1..=31) && year(y));
        if !fine {
            return detail("Invalid BIOS 'date' format");
        }
    }
    let Some(text) = s.system.get("uuid") else { return Ok(()) };
    let Some(shown) = uuid(text) else { return detail("malformed <sysinfo> uuid element") };
    match own.and_then(uuid) {
        Some(own) if own != shown => detail("UUID mismatch between <uuid> and <sysinfo>"),
        _ => Ok(()),
    }
}

/// Firmware that is not left to the host is named.
pub(super) fn loader(os: &super::super::os::Os) -> Result<()> {
    use super::super::os::Firmware;
    if os.firmware.is_some_and(|f| f != Firmware::None) {
        return Ok(());
    }
    if !os.firmware_features.features.is_empty() {
        return detail(
            "cannot use feature-based firmware autoselection when firmware autoselection is disabled",
        );
    }
    let unnamed = os.loader.as_ref().is_some_and(|l| l.path.is_none());
    match unnamed || (os.loader.is_none() && os.nvram.is_some()) {
        true => detail("no loader path specified and firmware auto selection disabled"),
        false => Ok(()),
    }
}

/// An error of the CPU's part.
pub(super) fn cpu_error(text: impl Into<String>) -> Error {
    Error::new(Code::XmlError, From::Cpu, text)
}
