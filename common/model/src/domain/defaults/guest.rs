//! Memory, vcpus, clock, boot order and labels.

use std::collections::BTreeSet;

use virt_error::{Code, Domain as From, Error};
use virt_xml::At;

use crate::Uuid;

use super::super::clock::{Clock, ClockBasis, ClockOffset};
use super::super::cpu::Numa;
use super::super::os::{Boot, BootDevice};
use super::super::seclabel::{Seclabel, SeclabelKind};
use super::super::sysinfo::Sysinfo;
use super::super::tuning::LifecycleAction;
use super::super::vcpu::{Iothread, NumaMemory, NumaMode, Placement, VcpuState};
use super::super::{Domain, GenId};
use super::{Fresh, placement, unsupported, xml_error};
use crate::Size;

/// Completes what belongs to the guest as a whole.
///
/// Errors: 27 for no memory, repeated ids and bad labels, 67 for contradictions in boot order or NUMA tuning, 1 for an
/// incomplete clock.
pub fn guest(d: &mut Domain, fresh: &mut dyn Fresh) -> Result<(), Error> {
    if d.uuid.is_none() {
        // One that SMBIOS shows the guest is the guest's.
        let shown = d.sysinfo.iter().find_map(|s| match s {
            Sysinfo::Smbios(s) => s.system.get("uuid"),
            Sysinfo::Fwcfg(_) => None,
        });
        let shown = shown.and_then(|t| <crate::UuidText as virt_xml::Codec<Uuid>>::parse(t).ok());
        d.uuid = Some(shown.unwrap_or_else(|| fresh.uuid()));
    }
    if let Some(GenId { uuid: uuid @ None }) = &mut d.genid {
        *uuid = Some(fresh.uuid());
    }
    if let Some(numa) = d.cpu.as_mut().and_then(|c| c.numa.as_mut()) {
        number(numa);
    }
    memory(d).within("/domain/memory")?;
    if d.cpu.as_ref().and_then(|c| c.numa.as_ref()).is_none_or(|n| n.cells.is_empty())
        && let Some(huge) = &mut d.memory_backing.hugepages
        && let [page] = &mut huge.pages[..]
        && page.nodeset.as_ref().is_some_and(|set| set.iter().eq([0]))
    {
        // A guest without nodes has one: what is for it is for all.
        page.nodeset = None;
    }
    vcpus(d).within("/domain/vcpu")?;
    iothreads(d).within("/domain/iothreads")?;
    placement::schedulers(d);
    if let Some(numa) = d.cpu.as_mut().and_then(|c| c.numa.as_mut()) {
        placement::leftover_cpus(numa, d.vcpu.as_ref().and_then(|v| v.max).unwrap_or(1));
        placement::distances(numa);
    }
    unlimited(d);
    clock(d.clock.get_or_insert_default());
    d.on_poweroff.get_or_insert(LifecycleAction::Destroy);
    d.on_reboot.get_or_insert(LifecycleAction::Restart);
    d.on_crash.get_or_insert(LifecycleAction::Destroy);
    boot(d).within("/domain/os/boot")?;
    // A label of a model that is left to the driver in all else says nothing.
    d.seclabels.retain(|l| l.kind.is_some() || l.model.as_deref().is_none_or(|m| m == "none"));
    d.seclabels
        .iter_mut()
        .try_for_each(|l| seclabel(l, fresh.security_model()))
        .within("/domain/seclabel")?;
    Ok(())
}

/// NUMA nodes without a number get their place.
fn number(numa: &mut Numa) {
    for (i, cell) in numa.cells.iter_mut().enumerate() {
        cell.id.get_or_insert(i as u32);
    }
    numa.cells.sort_by_key(|c| c.id);
}

fn memory(d: &mut Domain) -> Result<(), Error> {
    let nodes = d.cpu.iter().flat_map(|c| &c.numa).flat_map(|n| &n.cells).filter_map(|c| c.memory.kib);
    let nodes: u64 = nodes.fold(0, u64::saturating_add);
    let devices = d.devices.memories.iter().filter_map(|m| m.target.size).map(|s| s.kib);
    let devices = devices.fold(0, u64::saturating_add);
    let memory = d.memory.get_or_insert_default();
    if nodes > 0 {
        memory.size.kib = nodes.saturating_add(devices);
    } else if devices > memory.size.kib {
        return Err(xml_error("Total size of memory devices exceeds the total memory size"));
    }
    if memory.size.kib.saturating_sub(devices) == 0 {
        return Err(xml_error("Memory size must be specified via <memory> or in the <numa> configuration"));
    }
    let total = memory.size;
    let current = d.current_memory.get_or_insert(total);
    if current.kib == 0 || *current > total {
        *current = total;
    }
    if d.max_memory.as_ref().is_some_and(|m| m.slots.is_none() && m.size == Size::default()) {
        d.max_memory = None;
    }
    if let Some(max) = &d.max_memory {
        if max.slots.is_some_and(|s| s > 0) && max.size == Size::default() {
            return Err(xml_error(
                "maximum memory size must be specified when specifying number of memory slots",
            ));
        }
        if max.size < total {
            return Err(xml_error(
                "maximum memory size must be equal or greater than the actual memory size",
            ));
        }
    }
    Ok(())
}

/// More vcpus than any machine has; a hostile count must not fill memory.
const MOST_VCPUS: u32 = 16384;

fn vcpus(d: &mut Domain) -> Result<(), Error> {
    d.numatune.memnodes.iter_mut().for_each(|n| _ = n.mode.get_or_insert_default());
    let numa_auto = match d.numatune.memory.as_mut() {
        None => false,
        Some(m) => {
            m.mode.get_or_insert_default();
            if m.nodeset.is_none() && m.placement.is_none() {
                // The vcpus' place is left to the host, or reading would have refused it.
                m.placement = Some(Placement::Auto);
            }
            if m.placement == Some(Placement::Auto) {
                m.nodeset = None;
            }
            if m.placement == Some(Placement::Static) {
                m.placement = None;
            }
            m.placement == Some(Placement::Auto)
        }
    };
    let listed = &d.vcpus.vcpus;
    let online = (!listed.is_empty()).then(|| listed.iter().filter(|v| v.enabled).count() as u32);
    let vcpu = d.vcpu.get_or_insert_default();
    let max = *vcpu.max.get_or_insert(1);
    // A list of vcpus says itself how many there are at first.
    vcpu.current = online.or(vcpu.current);
    if online.is_some() {
        let listed = std::mem::take(&mut d.vcpus.vcpus);
        // Numbers that are too large stay, to be refused.
        let beyond: Vec<_> = listed.iter().filter(|v| v.id >= max).cloned().collect();
        let of = |id| listed.iter().find(|v| v.id == id).cloned();
        let all =
            (0..max.min(MOST_VCPUS)).map(|id| of(id).unwrap_or(VcpuState { id, ..VcpuState::default() }));
        d.vcpus.vcpus = all.chain(beyond).collect();
        d.vcpus.vcpus.iter_mut().for_each(|v| _ = v.hotpluggable.get_or_insert(!v.enabled));
    }
    let current = vcpu.current.unwrap_or(max);
    if max == 0 {
        return Err(Error::new(Code::XmlError, From::Domain, "domain config contains no vcpus"));
    }
    if current > max {
        return Err(unsupported("maximum vCPU count must not be less than current vCPU count"));
    }
    if current == max || current == 0 {
        vcpu.current = None;
    }
    vcpu.placement.get_or_insert_default();
    if numa_auto && vcpu.cpuset.is_none() {
        vcpu.placement = Some(Placement::Auto);
    }
    // Who leaves the vcpus' place to the host leaves the memory's to it too.
    if vcpu.placement == Some(Placement::Auto) && d.numatune.memory.is_none() {
        d.numatune.memory = Some(NumaMemory {
            mode: Some(NumaMode::Strict),
            placement: Some(Placement::Auto),
            nodeset: None,
        });
    }
    if vcpu.placement == Some(Placement::Auto) {
        vcpu.cpuset = None;
    }
    Ok(())
}

/// `<iothreads>` and `<iothreadids>` agree; ids not listed are the smallest free ones.
fn iothreads(d: &mut Domain) -> Result<(), Error> {
    /// More threads than any host runs; a hostile count must not fill memory.
    const MOST: u32 = 65536;
    let wanted = d.iothreads.unwrap_or(0);
    if wanted > MOST {
        return Err(xml_error(format!("invalid iothreads count '{wanted}'")));
    }
    let list = &mut d.iothreadids.iothreads;
    let mut used = BTreeSet::new();
    for t in list.iter() {
        if !used.insert(t.id) {
            return Err(xml_error(format!("duplicate iothread id '{}' found", t.id)));
        }
    }
    if list.is_empty() {
        // Threads without any setting are just counted: see `Domain::iothread_ids`.
        d.iothreads = d.iothreads.filter(|n| *n > 0);
        return Ok(());
    }
    let mut next = 1;
    while (list.len() as u32) < wanted {
        while used.contains(&next) {
            next += 1;
        }
        used.insert(next);
        list.push(Iothread { id: next, ..Iothread::default() });
    }
    d.iothreads = Some(list.len() as u32);
    Ok(())
}

fn clock(clock: &mut Clock) {
    if matches!(clock.offset, ClockOffset::Utc | ClockOffset::Localtime)
        && clock.adjustment.as_deref().is_some_and(|a| a != "reset")
    {
        let local = clock.offset == ClockOffset::Localtime;
        clock.basis = Some(if local { ClockBasis::Localtime } else { ClockBasis::Utc });
        clock.offset = ClockOffset::Variable;
    }
    match clock.offset {
        ClockOffset::Utc | ClockOffset::Localtime => clock.basis = None,
        ClockOffset::Variable => {
            let number = clock.adjustment.as_deref().and_then(|a| virt_xml::parse_int(a, 10));
            let number = number.filter(|n| i64::try_from(*n).is_ok());
            clock.adjustment = Some(number.unwrap_or(0).to_string());
            clock.basis.get_or_insert_default();
        }
        ClockOffset::Timezone | ClockOffset::Absolute => {}
    }
}

/// Either devices have places in the boot order or `<os>` lists kinds of devices; the disk is the default.
fn boot(d: &mut Domain) -> Result<(), Error> {
    let mut orders = BTreeSet::new();
    let dev = &d.devices;
    let infos = dev.disks.iter().map(|x| &x.info).chain(dev.interfaces.iter().map(|x| &x.info));
    let infos =
        infos.chain(dev.hostdevs.iter().map(|x| &x.info)).chain(dev.redirdevs.iter().map(|x| &x.info));
    for info in infos.chain(dev.filesystems.iter().map(|x| &x.info)) {
        if let Some(boot) = &info.boot
            && !orders.insert(boot.order)
        {
            let text = format!("boot order '{}' used for more than one device", boot.order);
            return Err(unsupported(text)).at(info.place);
        }
    }
    if !orders.is_empty() && !d.os.boots.is_empty() {
        return Err(unsupported("per-device boot elements cannot be used together with os/boot elements"));
    }
    if d.os.kind.name.as_deref() == Some("hvm") && orders.is_empty() && d.os.boots.is_empty() {
        d.os.boots.push(Boot { dev: BootDevice::Hd });
    }
    Ok(())
}

/// A dynamic label without a model gets the host's; a host without one gives none.
fn seclabel(label: &mut Seclabel, model: &str) -> Result<(), Error> {
    if label.kind.is_none() && label.model.is_none() {
        return Err(xml_error("missing security model in domain seclabel"));
    }
    if label.kind == Some(SeclabelKind::Dynamic) && label.model.is_none() {
        label.model = Some(model.to_string());
    }
    if label.kind == Some(SeclabelKind::Dynamic) && label.model.as_deref() == Some("none") {
        (label.kind, label.relabel) = (Some(SeclabelKind::None), None);
    }
    let kind = *label.kind.get_or_insert(SeclabelKind::None);
    match kind {
        SeclabelKind::Static => {
            if label.label.is_none() {
                return Err(xml_error("security label is missing"));
            }
            label.relabel.get_or_insert(false);
        }
        SeclabelKind::Dynamic => {
            if label.relabel == Some(false) {
                return Err(unsupported("dynamic label type must use resource relabeling"));
            }
            label.relabel.get_or_insert(true);
        }
        SeclabelKind::None => {
            if label.relabel == Some(true) {
                return Err(unsupported("resource relabeling is not compatible with 'none' label type"));
            }
            label.relabel = None;
            label.model.get_or_insert_with(|| "none".to_string());
            (label.label, label.baselabel) = (None, None);
        }
    }
    if label.model.is_none() {
        return Err(xml_error("missing security model in domain seclabel"));
    }
    Ok(())
}

/// A limit at or over the kernel's largest is none.
fn unlimited(d: &mut Domain) {
    const UNLIMITED: u64 = 9_007_199_254_740_991;
    let tune = &mut d.memtune;
    for limit in [&mut tune.hard_limit, &mut tune.soft_limit, &mut tune.swap_hard_limit] {
        if limit.is_some_and(|l| l.kib >= UNLIMITED) {
            *limit = None;
        }
    }
}
