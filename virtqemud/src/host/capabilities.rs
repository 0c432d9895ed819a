//! The capabilities document: the host's part and one guest part for each architecture that has an emulator.

use std::sync::Arc;

use virt_host::node::{Node, cpu, cpuid, list};
use virt_xml::{Mode, Writer};

use super::xml::{empty, open, text};
use crate::cpu::decode::{self, Wanted};
use crate::cpu::features::{self, Features};
use crate::cpu::{HostCpu, table};
use crate::emulator::Emulator;

/// One security model as the document names it.
pub struct SecurityModel {
    /// "none", "dac" ...
    pub name: String,
    /// Domain of interpretation.
    pub doi: String,
    /// Base label of every domain type, if the model has one.
    pub label: Option<String>,
}

/// What the host part is made from.
pub struct Host<'a> {
    /// The machine.
    pub node: &'a Node,
    /// The host's UUID.
    pub uuid: String,
    /// Its processor.
    pub cpu: HostCpu,
    /// Security drivers, the primary first.
    pub security: &'a [SecurityModel],
}

/// The whole document.
pub fn document(host: &Host<'_>, emulators: &[(&str, Arc<Emulator>)]) -> String {
    let mut w = Writer::new(Mode::default());
    w.start("capabilities");
    host_part(&mut w, host);
    for (arch, emulator) in emulators {
        guest_part(&mut w, arch, emulator);
    }
    w.end();
    // The reference sets its parts apart by empty lines.
    let mut out = String::new();
    for line in w.finish().lines() {
        out.push_str(line);
        out.push('\n');
        if matches!(line, "<capabilities>" | "  </host>" | "  </guest>") {
            out.push('\n');
        }
    }
    out
}

fn host_part(w: &mut Writer, host: &Host<'_>) {
    w.start("host");
    text(w, "uuid", &[], &host.uuid);
    cpu_part(w, host);
    power(w, host.node);
    let iommu = host.node.files().list("/sys/kernel/iommu_groups").is_ok_and(|l| !l.is_empty());
    empty(w, "iommu", &[("support", super::xml::yes(iommu))]);
    w.start("migration_features");
    empty(w, "live", &[]);
    w.start("uri_transports");
    text(w, "uri_transport", &[], "tcp");
    text(w, "uri_transport", &[], "rdma");
    w.end();
    w.end();
    topology(w, host.node);
    caches(w, host.node);
    for model in host.security {
        w.start("secmodel");
        text(w, "model", &[], &model.name);
        text(w, "doi", &[], &model.doi);
        for kind in ["kvm", "qemu"] {
            if let Some(label) = &model.label {
                text(w, "baselabel", &[("type", kind)], label);
            }
        }
        w.end();
    }
    w.end();
}

/// The host's `<cpu>` element alone, as CPU comparisons take it.
pub fn host_cpu(host: &Host<'_>) -> String {
    let mut w = Writer::new(Mode::default());
    cpu_part(&mut w, host);
    w.finish()
}

fn cpu_part(w: &mut Writer, host: &Host<'_>) {
    let node = host.node;
    w.start("cpu");
    text(w, "arch", &[], cpu::arch());
    let own = &host.cpu;
    let mut extra = Features::new();
    if own.signature.family > 0 {
        let wanted = Wanted {
            features: &own.features,
            vendor: own.vendor,
            signature: Some(own.signature),
            named: &[],
        };
        if let Some(found) = decode::for_host(table::all(), &wanted) {
            text(w, "model", &[], found.model.name);
            extra = found.extra;
        }
        if let Some(vendor) = own.vendor {
            text(w, "vendor", &[], vendor);
        }
        microcode(w, node);
        let s = own.signature;
        let numbers = [s.family, s.model, s.stepping].map(|n| n.to_string());
        empty(w, "signature", &[("family", &numbers[0]), ("model", &numbers[1]), ("stepping", &numbers[2])]);
        counter(w, node, &own.features);
    }
    let shape = node.shape();
    let numbers = [shape.sockets, 1, 1, shape.cores, shape.threads].map(|n| n.to_string());
    let names = ["sockets", "dies", "clusters", "cores", "threads"];
    let attrs: Vec<(&str, &str)> = names.into_iter().zip(numbers.iter().map(String::as_str)).collect();
    empty(w, "topology", &attrs);
    if let Some(bits) = cpuid::address_bits(node.cpuid()) {
        empty(w, "maxphysaddr", &[("mode", "emulate"), ("bits", &bits.to_string())]);
    }
    for name in features::in_order(&extra) {
        empty(w, "feature", &[("name", name)]);
    }
    for pages in node.pages(None) {
        empty(w, "pages", &[("unit", "KiB"), ("size", &pages.size.to_string())]);
    }
    w.end();
}

fn microcode(w: &mut Writer, node: &Node) {
    let info = node.files().read("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|l| l.starts_with("microcode")).and_then(|l| l.split_once(':'));
    let value = line.and_then(|(_, v)| {
        let v = v.trim();
        v.strip_prefix("0x").map_or_else(|| v.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok())
    });
    if let Some(version) = value {
        empty(w, "microcode", &[("version", &version.to_string())]);
    }
}

fn counter(w: &mut Writer, node: &Node, set: &Features) {
    // Without an exact source the kernel's figure is the best there is; it is constant where invtsc is.
    let hertz = cpuid::tsc_frequency(node.cpuid()).or_else(|| {
        let info = node.files().read("/proc/cpuinfo").ok()?;
        let line = info.lines().find(|l| l.starts_with("cpu MHz"))?;
        let (whole, part) = line.split_once(':')?.1.trim().split_once('.')?;
        let part: u64 = format!("{part:0<6}").get(..6)?.parse().ok()?;
        whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(part)
    });
    if let Some(hertz) = hertz.filter(|_| set.contains("invtsc")) {
        empty(w, "counter", &[("name", "tsc"), ("frequency", &hertz.to_string()), ("scaling", "no")]);
    }
}

fn power(w: &mut Writer, node: &Node) {
    let states = node.files().value("/sys/power/state").unwrap_or_default();
    let has = |name: &str| states.split_whitespace().any(|s| s == name);
    w.start("power_management");
    if has("mem") {
        empty(w, "suspend_mem", &[]);
    }
    if has("disk") {
        empty(w, "suspend_disk", &[]);
    }
    if has("mem") && has("disk") {
        empty(w, "suspend_hybrid", &[]);
    }
    w.end();
}

fn topology(w: &mut Writer, node: &Node) {
    let cpus = node.cpus();
    let cells = node.cells();
    w.start("topology");
    open(w, "cells", &[("num", &cells.len().to_string())]);
    for cell in &cells {
        open(w, "cell", &[("id", &cell.id.to_string())]);
        text(w, "memory", &[("unit", "KiB")], &cell.memory.to_string());
        for pages in node.pages(Some(cell.id)) {
            let size = pages.size.to_string();
            text(w, "pages", &[("unit", "KiB"), ("size", &size)], &pages.total.to_string());
        }
        if !cell.distances.is_empty() {
            w.start("distances");
            for (id, value) in &cell.distances {
                empty(w, "sibling", &[("id", &id.to_string()), ("value", &value.to_string())]);
            }
            w.end();
        }
        let here: Vec<_> = cpus.iter().filter(|c| cell.cpus.contains(&c.id)).collect();
        open(w, "cpus", &[("num", &here.len().to_string())]);
        for cpu in here {
            let numbers = [cpu.id, cpu.socket, cpu.die, cpu.cluster, cpu.core].map(|n| n.to_string());
            let names = ["id", "socket_id", "die_id", "cluster_id", "core_id"];
            let siblings = list::format(&cpu.siblings);
            let mut attrs: Vec<(&str, &str)> =
                names.into_iter().zip(numbers.iter().map(String::as_str)).collect();
            attrs.push(("siblings", &siblings));
            empty(w, "cpu", &attrs);
        }
        w.end();
        w.end();
    }
    w.end();
    w.end();
}

fn caches(w: &mut Writer, node: &Node) {
    let banks = node.caches();
    if banks.is_empty() {
        return;
    }
    w.start("cache");
    for bank in banks {
        // The largest unit that leaves a whole number.
        let (size, unit) = match bank.size {
            s if s % (1 << 20) == 0 => (s >> 20, "MiB"),
            s => (s >> 10, "KiB"),
        };
        let attrs = [bank.id.to_string(), bank.level.to_string(), size.to_string(), list::format(&bank.cpus)];
        let named = [
            ("id", attrs[0].as_str()),
            ("level", &attrs[1]),
            ("type", bank.kind),
            ("size", &attrs[2]),
            ("unit", unit),
            ("cpus", &attrs[3]),
        ];
        empty(w, "bank", &named);
    }
    w.end();
}

fn guest_part(w: &mut Writer, arch: &str, emulator: &Emulator) {
    w.start("guest");
    text(w, "os_type", &[], "hvm");
    open(w, "arch", &[("name", arch)]);
    text(w, "wordsize", &[], if is_64_bit(arch) { "64" } else { "32" });
    text(w, "emulator", &[], &emulator.path.display().to_string());
    machines(w, emulator);
    empty(w, "domain", &[("type", "qemu")]);
    if emulator.kvm {
        empty(w, "domain", &[("type", "kvm")]);
    }
    w.end();
    w.start("features");
    if arch == "i686" {
        empty(w, "pae", &[]);
        empty(w, "nonpae", &[]);
    }
    let x86 = matches!(arch, "i686" | "x86_64");
    if x86 || matches!(arch, "aarch64" | "loongarch64") {
        empty(w, "acpi", &[("default", "on"), ("toggle", "yes")]);
    }
    if x86 {
        empty(w, "apic", &[("default", "on"), ("toggle", "no")]);
    }
    empty(w, "cpuselection", &[]);
    empty(w, "deviceboot", &[]);
    empty(w, "disksnapshot", &[("default", "on"), ("toggle", "no")]);
    empty(w, "externalSnapshot", &[]);
    w.end();
    w.end();
}

/// The default machine first, every alias right after its machine.
fn machines(w: &mut Writer, emulator: &Emulator) {
    let default = emulator.default_machine().map(|m| m.name.as_str());
    let first = emulator.machines.iter().filter(|m| Some(m.name.as_str()) == default);
    let others = emulator.machines.iter().filter(|m| Some(m.name.as_str()) != default && m.name != "none");
    for machine in first.chain(others) {
        let max = machine.cpu_max.to_string();
        let mut attrs = vec![("maxCpus", max.as_str())];
        if machine.deprecated {
            attrs.push(("deprecated", "yes"));
        }
        text(w, "machine", &attrs, &machine.name);
        if let Some(alias) = &machine.alias {
            attrs.insert(0, ("canonical", &machine.name));
            text(w, "machine", &attrs, alias);
        }
    }
}

fn is_64_bit(arch: &str) -> bool {
    // sh4eb is a 32-bit CPU; the reference tells otherwise, and tools compare.
    arch.contains("64") || matches!(arch, "alpha" | "s390x" | "sh4eb")
}
