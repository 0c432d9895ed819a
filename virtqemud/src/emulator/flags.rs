//! The names by which libvirt records in a guest's status file what its emulator can. A guest without such a record is
//! ended by libvirt when it takes over.
//!
//! On a host where libvirt has run, its own cache tells them. Elsewhere they follow from what QEMU tells: a part of
//! them, enough to go on with the guest.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use virt_model::Mode;
use virt_xml::Document;

use super::Emulator;

/// A file of the cache is never near this.
const MOST_BYTES: u64 = 4 << 20;

/// Flags that have the name of the type of object that they are about.
const TYPES: &[&str] = &[
    "VGA",
    "acpi-erst",
    "am53c974",
    "bochs-display",
    "cirrus-vga",
    "dbus-vmstate",
    "dc390",
    "e1000",
    "hda-duplex",
    "hda-micro",
    "hda-output",
    "i8042",
    "ich9-ahci",
    "ich9-intel-hda",
    "ich9-usb-ehci1",
    "intel-iommu",
    "ioh3420",
    "isa-serial",
    "ivshmem-doorbell",
    "ivshmem-plain",
    "megasas",
    "memory-backend-memfd",
    "mptsas1068",
    "nec-usb-xhci",
    "nvdimm",
    "pc-dimm",
    "pci-bridge",
    "pci-ohci",
    "pci-serial",
    "pcie-pci-bridge",
    "pcie-root-port",
    "piix3-usb-uhci",
    "piix4-usb-uhci",
    "pr-manager-helper",
    "pvpanic",
    "pvpanic-pci",
    "pvscsi",
    "pxb",
    "pxb-pcie",
    "qemu-xhci",
    "ramfb",
    "rng-builtin",
    "rng-egd",
    "rng-random",
    "rtl8139",
    "scsi-block",
    "thread-context",
    "tpm-crb",
    "tpm-emulator",
    "tpm-passthrough",
    "tpm-tis",
    "usb-audio",
    "usb-ehci",
    "usb-hub",
    "usb-kbd",
    "usb-mtp",
    "usb-redir",
    "usb-serial",
    "usb-storage",
    "vfio-pci",
    "vhost-user-gpu",
    "vhost-user-vga",
    "virtio-iommu-pci",
    "virtio-mem-pci",
    "virtio-mmio",
    "virtio-pmem-pci",
    "virtio-scsi-pci",
    "virtio-vga",
    "vmcoreinfo",
    "vmgenid",
    "vmware-svga",
    "x3130-upstream",
    "xio3130-downstream",
];

/// What every QEMU has that we run at all.
const ALWAYS: &[&str] = &[
    "blockdev.nbd.tls-hostname",
    "calc-dirty-rate",
    "device.json+hotplug",
    "dirtyrate-param.mode",
    "netdev.json",
    "query-cpu-definitions",
    "query-cpu-model-expansion",
    "query-dirty-rate",
    "query-stats",
    "query-stats-schemas",
    "screendump_device",
    "set-action",
];

/// The flags of an emulator. `cache` is libvirt's folder of what it found out about emulators. Blocking.
pub fn recorded(cache: &Path, emulator: &Emulator) -> Vec<String> {
    let files = fs::read_dir(cache).into_iter().flatten().flatten().map(|e| e.path());
    let documents = files.filter(|p| p.extension().is_some_and(|e| e == "xml"));
    let known = documents.filter_map(|p| from_cache(&p, emulator)).next();
    known.unwrap_or_else(|| derived(emulator))
}

/// The flags in a file of the cache, if it is about this emulator as it is now.
fn from_cache(file: &Path, emulator: &Emulator) -> Option<Vec<String>> {
    let small = fs::metadata(file).ok().filter(|m| m.is_file() && m.len() <= MOST_BYTES)?;
    let text = fs::read_to_string(file).ok().filter(|_| small.len() > 0)?;
    let doc = Document::parse(&text, Mode::CONFIG, virt_error::Domain::Qemu).ok()?;
    let root = doc.root();
    let leaf = |name: &str| root.child(name).map(|e| e.text().into_owned());
    let path = leaf("emulator").filter(|p| Path::new(p) == emulator.path)?;
    let changed = fs::metadata(&path).ok()?.ctime().to_string();
    if leaf("qemuctime")? != changed {
        return None;
    }
    let names = root.children_named("flag").filter_map(|e| e.attr("name")).map(str::to_string);
    let names: Vec<String> = names.collect();
    (!names.is_empty()).then_some(names)
}

fn derived(emulator: &Emulator) -> Vec<String> {
    let accelerators = [("kvm", emulator.kvm), ("tcg", emulator.has_type("tcg-accel"))];
    let types = TYPES.iter().copied().filter(|t| emulator.has_type(t));
    let accelerators = accelerators.into_iter().filter(|(_, there)| *there).map(|(name, _)| name);
    accelerators.chain(types).chain(ALWAYS.iter().copied()).map(str::to_string).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::emulator::Identity;

    fn emulator(path: PathBuf) -> Emulator {
        Emulator {
            path,
            identity: Identity { mtime_ns: 0, size: 0, kvm_device: false, modules_ns: 0 },
            version: (10, 0, 0),
            package: String::new(),
            arch: "x86_64".into(),
            target: "x86_64".into(),
            kvm: false,
            machines: Vec::new(),
            cpus: Vec::new(),
            options: Default::default(),
            types: ["qemu-xhci".to_string(), "tcg-accel".to_string()].into(),
            sev: None,
            properties: Default::default(),
        }
    }

    #[test]
    fn libvirts_own_record_counts_while_it_is_about_this_binary() {
        let folder = tempfile::tempdir().expect("a folder");
        let binary = folder.path().join("qemu");
        fs::write(&binary, "x").expect("a file");
        let changed = fs::metadata(&binary).expect("a file").ctime();
        let record = |time: i64| {
            format!(
                "<qemuCaps><emulator>{}</emulator><qemuctime>{time}</qemuctime><flag name='one'/><flag name='two'/></qemuCaps>",
                binary.display()
            )
        };
        let emulator = emulator(binary.clone());
        let file = folder.path().join("a.xml");
        fs::write(&file, record(changed)).expect("a file");
        assert_eq!(recorded(folder.path(), &emulator), ["one", "two"]);
        for other in [record(changed + 1), "<qemuCaps/>".into(), "no document".into()] {
            fs::write(&file, other).expect("a file");
            let names = recorded(folder.path(), &emulator);
            assert!(names.contains(&"qemu-xhci".into()) && names.contains(&"tcg".into()), "{names:?}");
            assert!(!names.contains(&"kvm".into()) && !names.contains(&"usb-hub".into()), "{names:?}");
        }
    }
}
