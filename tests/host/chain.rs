//! Images that lie on images: the guest gets all of them, and only as long as it runs.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use virt_testkit::host::{Host, Options};

fn image(args: &[&str]) {
    assert!(Command::new("qemu-img").args(["create", "-q"]).args(args).status().unwrap().success());
}

fn guest(name: &str, disk: &Path) -> String {
    format!(
        "<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>\
         <os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>\
         <devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{}'/>\
         <target dev='vda' bus='virtio'/></disk><memballoon model='none'/></devices></domain>",
        disk.display()
    )
}

/// What QEMU says that each image lies on.
fn opened(host: &Host, name: &str) -> String {
    let ask = r#"{"execute":"query-named-block-nodes","arguments":{"flat":true}}"#;
    host.virsh(&["qemu-monitor-command", name, ask])
}

#[test]
fn a_guest_reads_what_its_image_lies_on() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let at = |name: &str| host.files().join(name);
    let text = |name: &str| at(name).to_string_lossy().into_owned();
    image(&["-f", "raw", &text("base"), "1M"]);
    image(&["-f", "qcow2", "-F", "raw", "-b", &text("base"), &text("middle")]);
    image(&["-f", "qcow2", "-F", "qcow2", "-b", "middle", &text("top")]);
    image(&["-f", "qcow2", "-F", "qcow2", "-b", "middle", &text("plugged")]);
    let name = host.name("chain");
    let owner = |name: &str| fs::metadata(at(name)).unwrap().uid();
    let before = owner("base");
    host.virsh(&["create", &host.document(&name, &guest(&name, &at("top")))]);
    let told = host.virsh(&["dumpxml", &name]);
    for name in ["middle", "base"] {
        assert!(told.contains(&format!("<source file='{}'/>", text(name))), "{told}");
    }
    assert!(told.contains("<backingStore type='file' index='2'>"), "{told}");
    let nodes = opened(&host, &name);
    for file in ["top", "middle", "base"] {
        assert!(nodes.contains(&format!("\"file\":\"{}\"", text(file))), "{file}: {nodes}");
    }
    assert!(nodes.contains("libvirt-3-storage"), "{nodes}");
    let plain = host.virsh(&["dumpxml", "--inactive", &name]);
    assert!(!plain.contains("middle"), "what was found is no configuration: {plain}");

    // A plugged disk brings what it lies on, and takes it away again.
    host.virsh(&["attach-disk", &name, &text("plugged"), "vdb", "--subdriver", "qcow2"]);
    assert!(opened(&host, &name).contains("libvirt-6-storage"));
    assert!(host.virsh(&["dumpxml", &name]).contains("<backingStore type='file' index='5'>"));
    assert_eq!(owner("base"), owner("plugged"));
    host.virsh(&["destroy", &name]);
    for name in ["top", "middle", "base", "plugged"] {
        assert_eq!(owner(name), before, "{name} is its owner's again");
    }

    fs::remove_file(at("middle")).unwrap();
    let missing = host.try_virsh(&["create", &host.document(&name, &guest(&name, &at("top")))]);
    assert!(missing.err.contains("Cannot access backing file"), "{missing}");
    assert!(host.emulators().is_empty());
}
