//! QEMU's names of disks and images, as they stand in a status file. libvirt finds a disk's counters, and what a snapshot
//! works on, by these alone. What libvirt noted of a guest that it started stays as it is.

use virt_model::domain::Domain;
use virt_model::domain::disk::{BackingStore, Disk, DiskBus, DiskPrivate};
use virt_model::domain::source::{DiskSource, ImagePrivate, NetworkProtocol, NodeName, SecretObject};

use crate::command::{has_format_node, node_name};

/// Adds them to a status file's document.
pub fn note(live: &mut Domain) {
    for disk in live.devices.disks.iter_mut().filter(|d| d.target.bus != Some(DiskBus::Sd)) {
        if disk.private.is_none() {
            disk.private = place(disk).map(|qom| DiskPrivate { qom: Some(qom) });
        }
        let format = disk.driver.format.map(|f| f.as_str());
        let index = disk.source.common().index;
        note_image(&mut disk.source, index, format);
        note_under(disk.backing.as_deref_mut());
    }
}

fn note_under(mut backing: Option<&mut BackingStore>) {
    while let Some(image) = backing {
        let format = image.format.as_ref().and_then(|f| f.kind).map(|f| f.as_str());
        if let Some(source) = &mut image.source {
            note_image(source, image.index, format);
        }
        backing = image.backing.as_deref_mut();
    }
}

/// Where QEMU tells a disk's counters: what `query-block` calls `qdev`.
fn place(disk: &Disk) -> Option<String> {
    let alias = disk.info.alias.as_deref()?;
    match disk.target.bus {
        Some(DiskBus::Virtio) => Some(format!("/machine/peripheral/{alias}/virtio-backend")),
        Some(DiskBus::Usb) => Some(format!("/machine/peripheral/{alias}/{alias}.0/legacy[0]")),
        _ => Some(alias.to_owned()),
    }
}

fn note_image(source: &mut DiskSource, index: Option<u32>, format: Option<&str>) {
    let (Some(index), false) = (index, source.is_empty()) else { return };
    if let Some(store) = source.common_mut().data_store.as_deref_mut() {
        let (index, format) = (store.source.common().index, store.format.map(|f| f.as_str()));
        note_image(&mut store.source, index, format);
    }
    if source.common().private.as_ref().is_some_and(|p| !p.nodenames.names.is_empty()) {
        return;
    }
    let prefix = format!("libvirt-{index}");
    let name = |kind: &str, layer| NodeName { kind: kind.into(), name: node_name(&prefix, layer) };
    let mut names = vec![name("storage", "storage")];
    if has_format_node(source, format.unwrap_or("raw")) {
        names.push(name("format", "format"));
    }
    if !source.common().slices.slices.is_empty() {
        names.push(name("slice-storage", "slice-sto"));
    }
    let secret = |kind: &str, alias| SecretObject { kind: Some(kind.into()), alias: Some(alias) };
    let common = source.common();
    let mut secrets = Vec::new();
    if common.auth.is_some() {
        secrets.push(secret("auth", format!("{prefix}-storage-auth-secret0")));
    }
    let encryption = common.encryption.iter().flat_map(|e| &e.secrets).enumerate();
    secrets.extend(
        encryption.map(|(n, _)| secret("encryption", format!("{prefix}-format-encryption-secret{n}"))),
    );
    let tls = match source {
        DiskSource::Network(s) => s.protocol == NetworkProtocol::Nbd && s.tls == Some(true),
        _ => false,
    };
    let private: &mut ImagePrivate = source.common_mut().private.get_or_insert_default();
    private.nodenames.names = names;
    private.objects.secrets = secrets;
    private.objects.tls = tls.then(|| format!("obj{prefix}-storage_tls0"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt_model::Mode;

    fn noted(disk: &str) -> String {
        let mut live = Domain::default();
        match crate::config::devices::read(disk, Mode::STATUS).expect("a disk") {
            crate::config::devices::Device::Disk(disk) => live.devices.disks.push(*disk),
            other => panic!("{other:?}"),
        }
        note(&mut live);
        virt_xml::format(&live.devices.disks[0], "disk", Mode::STATUS)
    }

    #[test]
    fn each_layer_of_an_image_has_its_name() {
        let text = noted(
            "<disk type='file'><driver type='qcow2'/><source file='/top' index='3'/>\
             <backingStore type='file' index='6'><format type='raw'/><source file='/base'/><backingStore/></backingStore>\
             <target dev='vda' bus='virtio'/><alias name='virtio-disk0'/></disk>",
        );
        for name in [
            "<nodename type='storage' name='libvirt-3-storage'/>",
            "<nodename type='format' name='libvirt-3-format'/>",
            "<nodename type='storage' name='libvirt-6-storage'/>",
            "<qom name='/machine/peripheral/virtio-disk0/virtio-backend'/>",
        ] {
            assert!(text.contains(name), "{name}: {text}");
        }
        assert!(!text.contains("libvirt-6-format"), "a raw image has none: {text}");
    }

    #[test]
    fn what_another_noted_stays() {
        let text = noted(
            "<disk type='file'><driver type='qcow2'/><source file='/top' index='3'><privateData><nodenames>\
             <nodename type='storage' name='other'/></nodenames></privateData></source>\
             <target dev='sda' bus='scsi'/><alias name='scsi0-0-0-0'/><privateData><qom name='there'/></privateData></disk>",
        );
        assert!(text.contains("name='other'") && text.contains("<qom name='there'/>"), "{text}");
        assert!(!text.contains("libvirt-3"), "{text}");
    }
}
