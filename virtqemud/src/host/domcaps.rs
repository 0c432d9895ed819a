//! The domain capabilities document: what one emulator offers for one machine with one accelerator.

use virt_host::node::cpuid;
use virt_xml::{Mode, Writer};

use super::firmware::Firmware;
use super::xml::{choices, empty, open, text, yes};
use crate::cpu::probe::Offer;
use crate::cpu::{Accelerator, HostModel, features};
use crate::emulator::{Emulator, Machine};

/// What the document is about.
pub struct Subject<'a> {
    /// The emulator.
    pub emulator: &'a Emulator,
    /// libvirt's name of the architecture asked for.
    pub arch: &'a str,
    /// Its machine.
    pub machine: &'a Machine,
    /// libvirt's domain type: "qemu" or "kvm".
    pub accelerator: Accelerator,
    /// Upper limit of the accelerator, if it has one below the machine's.
    pub max_vcpus: Option<u32>,
    /// CPU models under this accelerator.
    pub offer: &'a Offer,
    /// What the host's model is.
    pub host_model: Option<HostModel>,
    /// Firmware images of the host.
    pub firmware: &'a [Firmware],
    /// Images that are offered where no descriptor is about the machine.
    pub loaders: &'a [String],
    /// The host's CPU.
    pub cpuid: &'a dyn cpuid::Cpuid,
    /// Whether a software TPM is installed.
    pub swtpm: bool,
    /// Models with deprecated features left out (`VIR_CONNECT_GET_DOMAIN_CAPABILITIES_DISABLE_DEPRECATED_FEATURES`).
    pub without_deprecated: bool,
}

/// The whole document.
pub fn document(s: &Subject<'_>) -> String {
    let mut w = Writer::new(Mode::default());
    w.start("domainCapabilities");
    text(&mut w, "path", &[], &s.emulator.path.display().to_string());
    text(&mut w, "domain", &[], domain_type(s.accelerator));
    text(&mut w, "machine", &[], &s.machine.name);
    text(&mut w, "arch", &[], s.arch);
    let vcpus = s.max_vcpus.map_or(s.machine.cpu_max, |max| max.min(s.machine.cpu_max));
    empty(&mut w, "vcpu", &[("max", &vcpus.to_string())]);
    empty(&mut w, "iothreads", &[("supported", yes(s.emulator.has_type("iothread")))]);
    os(&mut w, s);
    cpu(&mut w, s);
    open(&mut w, "memoryBacking", &[("supported", "yes")]);
    let memfd = s.emulator.has_type("memory-backend-memfd").then_some("memfd");
    choices(&mut w, "sourceType", &["file", "anonymous"].into_iter().chain(memfd).collect::<Vec<_>>());
    w.end();
    devices(&mut w, s);
    features_part(&mut w, s);
    w.end();
    w.finish()
}

/// libvirt's domain type for an accelerator.
pub fn domain_type(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Tcg => "qemu",
        Accelerator::Kvm => "kvm",
    }
}

fn os(w: &mut Writer, s: &Subject<'_>) {
    let fits = |f: &&Firmware| f.serves(&s.emulator.target, &s.machine.name);
    let found: Vec<&Firmware> = s.firmware.iter().filter(fits).collect();
    let interface = |name: &str| found.iter().any(|f| f.interfaces.iter().any(|i| i == name));
    open(w, "os", &[("supported", "yes")]);
    let kinds = [("bios", interface("bios")), ("efi", interface("uefi"))];
    choices(w, "firmware", &kinds.iter().filter(|(_, on)| *on).map(|(n, _)| *n).collect::<Vec<_>>());
    open(w, "loader", &[("supported", "yes")]);
    let mut shown: Vec<String> = Vec::new();
    for firmware in found.iter().filter(|f| f.path.exists()) {
        let path = firmware.path.display().to_string();
        if !shown.contains(&path) {
            shown.push(path);
        }
    }
    for path in if found.is_empty() { s.loaders } else { &shown } {
        text(w, "value", &[], path);
    }
    choices(w, "type", &["rom", "pflash"]);
    choices(w, "readonly", &["yes", "no"]);
    let secure = found.iter().any(|f| f.has("secure-boot") && f.has("requires-smm"));
    choices(w, "secure", if secure { &["yes", "no"] } else { &["no"] });
    w.end();
    w.end();
}

fn cpu(w: &mut Writer, s: &Subject<'_>) {
    w.start("cpu");
    if s.accelerator == Accelerator::Kvm {
        open(w, "mode", &[("name", "host-passthrough"), ("supported", "yes")]);
        // A 32-bit emulator is not asked what of its CPU can migrate.
        let migratable: &[&str] = if s.emulator.arch == "i686" { &["off"] } else { &["on", "off"] };
        choices(w, "hostPassthroughMigratable", migratable);
        w.end();
    } else {
        empty(w, "mode", &[("name", "host-passthrough"), ("supported", "no")]);
    }
    if s.offer.maximum {
        open(w, "mode", &[("name", "maximum"), ("supported", "yes")]);
        choices(w, "maximumMigratable", &["on", "off"]);
        w.end();
    } else {
        empty(w, "mode", &[("name", "maximum"), ("supported", "no")]);
    }
    host_model(w, s);
    if s.offer.models.is_empty() {
        empty(w, "mode", &[("name", "custom"), ("supported", "no")]);
    } else {
        custom(w, s);
    }
    w.end();
}

fn host_model(w: &mut Writer, s: &Subject<'_>) {
    let Some(host) = &s.host_model else {
        empty(w, "mode", &[("name", "host-model"), ("supported", "no")]);
        return;
    };
    open(w, "mode", &[("name", "host-model"), ("supported", "yes")]);
    text(w, "model", &[("fallback", "forbid")], host.described.model.name);
    if let Some(vendor) = host.vendor {
        text(w, "vendor", &[], vendor);
    }
    if let Some(bits) = cpuid::address_bits(s.cpuid).filter(|_| s.accelerator == Accelerator::Kvm) {
        empty(w, "maxphysaddr", &[("mode", "passthrough"), ("limit", &bits.to_string())]);
    }
    for name in features::in_order(&host.described.extra) {
        empty(w, "feature", &[("policy", "require"), ("name", name)]);
    }
    for name in host.described.disabled() {
        empty(w, "feature", &[("policy", "disable"), ("name", name)]);
    }
    w.end();
}

fn custom(w: &mut Writer, s: &Subject<'_>) {
    open(w, "mode", &[("name", "custom"), ("supported", "yes")]);
    for model in s.offer.models.iter().filter(|m| !(s.without_deprecated && m.deprecated)) {
        let usable = match &model.blockers {
            None => "unknown",
            Some(list) => yes(list.is_empty()),
        };
        let mut attrs = vec![("usable", usable)];
        if model.deprecated {
            attrs.push(("deprecated", "yes"));
        }
        attrs.push(("vendor", model.vendor.unwrap_or("unknown")));
        if let Some(canonical) = &model.alias_of {
            attrs.push(("canonical", canonical));
        }
        text(w, "model", &attrs, &model.name);
        let blockers = model.blockers.as_deref().unwrap_or_default();
        if !blockers.is_empty() {
            open(w, "blockers", &[("model", &model.name)]);
            for name in blockers {
                empty(w, "feature", &[("name", name)]);
            }
            w.end();
        }
    }
    w.end();
}

fn is_x86(s: &Subject<'_>) -> bool {
    matches!(s.emulator.arch.as_str(), "x86_64" | "i686")
}

/// A choice is offered when the emulator has one of the types behind it.
fn offered<'a>(s: &Subject<'_>, rows: &[(&'a str, &[&str])]) -> Vec<&'a str> {
    let has = |types: &[&str]| types.is_empty() || types.iter().any(|t| s.emulator.has_type(t));
    rows.iter().filter(|(_, types)| has(types)).map(|(name, _)| *name).collect()
}

/// The three virtio models; the plain one on whatever bus the emulator has for it.
fn virtio_models(s: &Subject<'_>, device: &str) -> Vec<&'static str> {
    let has = |suffix: &str| s.emulator.has_type(&format!("{device}{suffix}"));
    let kinds = [
        ("virtio", has("-pci") || has("-ccw") || has("-device")),
        ("virtio-transitional", has("-pci-transitional")),
        ("virtio-non-transitional", has("-pci-non-transitional")),
    ];
    kinds.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect()
}

fn device(w: &mut Writer, name: &'static str, supported: bool, lists: &[(&str, Vec<&str>)]) {
    open(w, name, &[("supported", yes(supported))]);
    for (list, values) in lists.iter().filter(|_| supported) {
        choices(w, list, values);
    }
    w.end();
}

/// A device that is there when its first list has something in it.
fn listed(w: &mut Writer, name: &'static str, lists: &[(&str, Vec<&str>)]) {
    device(w, name, lists.first().is_some_and(|(_, values)| !values.is_empty()), lists);
}

fn disk(w: &mut Writer, s: &Subject<'_>) {
    let machine = s.machine.name.as_str();
    let ide = machine.starts_with("pc-i440fx") || matches!(machine, "g3beige" | "malta" | "sun4u");
    let floppy = !machine.starts_with("pseries");
    let mut buses = Vec::new();
    buses.extend(ide.then_some("ide"));
    buses.extend(floppy.then_some("fdc"));
    buses.extend(["scsi", "virtio"]);
    buses.extend(offered(s, &[("usb", &["usb-storage"]), ("sata", &["ich9-ahci"])]));
    let mut kinds = vec!["disk", "cdrom"];
    kinds.extend(floppy.then_some("floppy"));
    kinds.push("lun");
    let mut models = virtio_models(s, "virtio-blk");
    if models.is_empty() {
        models.push("virtio");
    }
    device(w, "disk", true, &[("diskDevice", kinds), ("bus", buses), ("model", models)]);
}

fn devices(w: &mut Writer, s: &Subject<'_>) {
    let x86 = is_x86(s);
    w.start("devices");
    disk(w, s);
    listed(w, "graphics", &[("type", graphics(s))]);
    let video: &[(&str, &[&str])] = &[
        ("vga", &["VGA"]),
        ("cirrus", &["cirrus-vga"]),
        ("vmvga", &["vmware-svga"]),
        ("qxl", &["qxl"]),
        ("virtio", &["virtio-gpu-pci", "virtio-gpu-device", "virtio-vga"]),
        ("none", &[]),
        ("bochs", &["bochs-display"]),
        ("ramfb", &["ramfb"]),
    ];
    listed(w, "video", &[("modelType", offered(s, video))]);
    let policies = vec!["default", "mandatory", "requisite", "optional"];
    let mut subsystems = offered(s, &[("usb", &["usb-host"])]);
    subsystems.extend(["pci", "scsi"]);
    let lists = [
        ("mode", vec!["subsystem"]),
        ("startupPolicy", policies),
        ("subsysType", subsystems),
        ("capsType", Vec::new()),
        ("pciBackend", Vec::new()),
    ];
    device(w, "hostdev", true, &lists);
    let backends: &[(&str, &[&str])] =
        &[("random", &["rng-random"]), ("egd", &["rng-egd"]), ("builtin", &["rng-builtin"])];
    let lists = [("model", virtio_models(s, "virtio-rng")), ("backendModel", offered(s, backends))];
    device(w, "rng", true, &lists);
    let rows: &[(&str, &[&str])] = &[
        ("path", &[]),
        ("handle", &[]),
        ("virtiofs", &["vhost-user-fs-pci", "vhost-user-fs-ccw", "vhost-user-fs-device"]),
    ];
    listed(w, "filesystem", &[("driverType", offered(s, rows))]);
    let mut tpm = offered(s, &[("passthrough", &["tpm-passthrough"])]);
    let software = s.swtpm && s.emulator.has_type("tpm-emulator");
    if software {
        tpm.extend(["emulator", "external"]);
    }
    let rows: &[(&str, &[&str])] = &[
        ("tpm-tis", &["tpm-tis", "tpm-tis-device"]),
        ("tpm-crb", &["tpm-crb"]),
        ("tpm-spapr", &["tpm-spapr"]),
        ("spapr-tpm-proxy", &["spapr-tpm-proxy"]),
    ];
    let mut lists = vec![("model", offered(s, rows)), ("backendModel", tpm)];
    lists.extend(software.then(|| ("backendVersion", vec!["1.2", "2.0"])));
    listed(w, "tpm", &lists);
    listed(w, "redirdev", &[("bus", offered(s, &[("usb", &["usb-redir"])]))]);
    let mut channels = vec!["pty", "unix"];
    channels.extend(s.emulator.has_type("chardev-spicevmc").then_some("spicevmc"));
    listed(w, "channel", &[("type", channels)]);
    let crypto: &[(&str, &[&str])] =
        &[("virtio", &["virtio-crypto-pci", "virtio-crypto-ccw", "virtio-crypto-device"])];
    let rows: &[(&str, &[&str])] =
        &[("builtin", &["cryptodev-backend-builtin"]), ("lkcf", &["cryptodev-backend-lkcf"])];
    let lists = [("model", offered(s, crypto)), ("type", vec!["qemu"]), ("backendModel", offered(s, rows))];
    device(w, "crypto", true, &lists);
    let mut nets = vec!["default"];
    nets.extend(s.emulator.at_least(7, 2).then_some("passt"));
    listed(w, "interface", &[("backendType", nets)]);
    let mut panic = Vec::new();
    panic.extend((x86 && s.emulator.has_type("pvpanic")).then_some("isa"));
    panic.extend(s.machine.name.starts_with("pseries").then_some("pseries"));
    panic.extend(x86.then_some("hyperv"));
    panic.extend((s.arch == "s390x").then_some("s390"));
    panic.extend(s.emulator.has_type("pvpanic-pci").then_some("pvpanic"));
    listed(w, "panic", &[("model", panic)]);
    w.end();
}

fn graphics<'a>(s: &Subject<'a>) -> Vec<&'a str> {
    let has = |name: &str| s.offer.displays.iter().any(|d| d == name);
    let group = |name: &str| s.emulator.options.contains(name);
    let rows = [
        ("sdl", has("sdl")),
        ("vnc", group("vnc")),
        ("spice", group("spice")),
        ("egl-headless", has("egl-headless")),
        ("dbus", has("dbus")),
    ];
    rows.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect()
}

fn features_part(w: &mut Writer, s: &Subject<'_>) {
    let x86 = is_x86(s);
    let arm_virt =
        s.machine.name.starts_with("virt") && matches!(s.emulator.arch.as_str(), "aarch64" | "armv7l");
    let keyboard = x86 && ["pc-", "isapc"].iter().any(|m| s.machine.name.starts_with(m));
    w.start("features");
    if arm_virt && s.accelerator == Accelerator::Tcg {
        open(w, "gic", &[("supported", "yes")]);
        choices(w, "version", &["2", "3"]);
        w.end();
    } else {
        empty(w, "gic", &[("supported", "no")]);
    }
    empty(w, "vmcoreinfo", &[("supported", yes(s.emulator.has_type("vmcoreinfo")))]);
    empty(w, "genid", &[("supported", yes(s.emulator.has_type("vmgenid")))]);
    empty(w, "backingStoreInput", &[("supported", "yes")]);
    empty(w, "backup", &[("supported", "yes")]);
    empty(w, "async-teardown", &[("supported", yes(s.emulator.at_least(8, 0)))]);
    if s.emulator.arch == "s390x" {
        empty(w, "s390-pv", &[("supported", "no")]);
    }
    empty(w, "ps2", &[("supported", yes(keyboard))]);
    match s.emulator.sev {
        Some(sev) => {
            open(w, "sev", &[("supported", "yes")]);
            text(w, "cbitpos", &[], &sev.cbitpos.to_string());
            text(w, "reducedPhysBits", &[], &sev.reduced_phys_bits.to_string());
            w.end();
        }
        None => empty(w, "sev", &[("supported", "no")]),
    }
    empty(w, "sgx", &[("supported", "no")]);
    if x86 {
        open(w, "hyperv", &[("supported", "yes")]);
        choices(w, "features", &["spinlocks", "vendor_id"]);
        w.end();
    }
    let kinds = offered(s, &[("sev", &["sev-guest"]), ("sev-snp", &["sev-snp-guest"])]);
    let kinds: Vec<_> = kinds.into_iter().filter(|_| s.emulator.sev.is_some()).collect();
    match kinds.is_empty() {
        true => empty(w, "launchSecurity", &[("supported", "no")]),
        false => {
            open(w, "launchSecurity", &[("supported", "yes")]);
            choices(w, "sectype", &kinds);
            w.end();
        }
    }
    w.end();
}
