//! Guests with UEFI: real firmware, and its variables in a file of their own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use virt_testkit::host::{Host, Options};
use virt_testkit::wait;

/// Firmware without keys of its own, of which the host's descriptors tell.
const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

fn document(name: &str, os: &str, serial: &Path) -> String {
    format!(
        "<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>\
         <os firmware='efi'><type arch='x86_64' machine='q35'>hvm</type>\
         <firmware><feature enabled='no' name='secure-boot'/></firmware>{os}</os>\
         <features><acpi/></features><devices><controller type='usb' model='none'/><memballoon model='none'/>\
         <serial type='file'><source path='{}'/></serial></devices></domain>",
        serial.display()
    )
}

#[test]
fn a_guest_boots_uefi_with_variables_of_its_own() {
    let Some(host) = Host::ours(Options::default()) else { return };
    if !Path::new(CODE).is_file() {
        println!("skipped: no {CODE}");
        return;
    }
    let name = host.name("uefi");
    let serial = host.files().join("uefi.out");
    host.virsh(&["define", &host.document(&name, &document(&name, "", &serial))]);
    let own = host.root().join(format!("var/lib/libvirt/qemu/nvram/{name}_VARS.fd"));
    let xml = host.virsh(&["dumpxml", &name, "--inactive"]);
    assert!(xml.contains(&format!(">{}</nvram>", own.display())), "{xml}");
    assert!(!own.exists(), "made by the first start");
    host.virsh(&["undefine", &name]);

    host.virsh(&["define", &host.document(&name, &document(&name, "", &serial))]);
    host.virsh(&["start", &name]);
    assert_eq!(fs::metadata(&own).unwrap().len(), fs::metadata(VARS).unwrap().len());
    // The firmware itself, on the guest's serial port.
    wait::until("the firmware looks for something to boot", || {
        fs::read(&serial).is_ok_and(|text| String::from_utf8_lossy(&text).contains("BdsDxe"))
    });
    let refused = host.try_virsh(&["undefine", &name]);
    assert!(refused.err.contains("cannot undefine domain with nvram"), "{refused}");
    host.virsh(&["destroy", &name]);
    assert!(own.exists());

    // What the guest wrote stays; what is broken comes back from the template on request.
    fs::write(&own, "broken").unwrap();
    let refused = host.try_virsh(&["start", &name]);
    assert!(!refused.ok() && refused.err.contains("QEMU unexpectedly closed the monitor"), "{refused}");
    assert_eq!(fs::read(&own).unwrap(), b"broken");
    host.virsh(&["start", &name, "--reset-nvram"]);
    assert_eq!(fs::metadata(&own).unwrap().len(), fs::metadata(VARS).unwrap().len());
    host.virsh(&["destroy", &name]);
    host.virsh(&["undefine", &name, "--keep-nvram"]);
    assert!(own.exists());
    host.virsh(&["define", &host.document(&name, &document(&name, "", &serial))]);
    host.virsh(&["undefine", &name, "--nvram"]);
    assert!(!own.exists());

    // A start that fails leaves no variables behind.
    let os = format!(
        "<loader readonly='yes' type='pflash'>{CODE}</loader><nvram template='/nonexistent/VARS.fd'/>"
    );
    let xml = document(&name, &os, &serial).replace(" firmware='efi'", "");
    let xml = xml.replace("<firmware><feature enabled='no' name='secure-boot'/></firmware>", "");
    host.virsh(&["define", &host.document(&name, &xml)]);
    let refused = host.try_virsh(&["start", &name]);
    assert!(
        refused.err.contains("Failed to open file '/nonexistent/VARS.fd': No such file or directory"),
        "{refused}"
    );
    assert!(!own.exists() && host.emulators().is_empty());
    host.virsh(&["undefine", &name]);
}

#[test]
fn what_is_optional_may_be_missing_and_pipes_are_no_images() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let name = host.name("optional");
    let disk = |device: &str, policy: &str, bus: &str| {
        format!(
            "<disk type='file' device='{device}'><source file='/nonexistent/{device}'{policy}/><target dev='{bus}'/></disk>"
        )
    };
    let with = |disks: &str| {
        virt_testkit::host::bare_xml(&name).replacen("<devices>", &format!("<devices>{disks}"), 1)
    };
    let optional = " startupPolicy='optional'";
    let both = disk("cdrom", optional, "hdc") + &disk("disk", optional, "vda");
    host.virsh(&["define", &host.document(&name, &with(&both))]);
    host.virsh(&["start", &name]);
    let live = host.virsh(&["dumpxml", &name]);
    assert!(live.contains("device='cdrom'") && !live.contains("/nonexistent"), "{live}");
    assert!(!live.contains("<target dev='vda'"), "a disk without its image is left out\n{live}");
    let kept = host.virsh(&["dumpxml", &name, "--inactive"]);
    assert!(kept.contains("/nonexistent/cdrom") && kept.contains("/nonexistent/disk"), "{kept}");
    host.virsh(&["destroy", &name]);
    host.virsh(&["undefine", &name]);
    for policy in ["", " startupPolicy='mandatory'", " startupPolicy='requisite'"] {
        host.virsh(&["define", &host.document(&name, &with(&disk("cdrom", policy, "hdc")))]);
        let refused = host.try_virsh(&["start", &name]);
        assert!(refused.err.contains("Cannot access storage file '/nonexistent/cdrom'"), "{refused}");
        host.virsh(&["undefine", &name]);
    }
    // A pipe that an image's header names would hold QEMU up for ever.
    let (pipe, top) = (host.files().join("pipe"), host.files().join("top.qcow2"));
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let made = std::process::Command::new("qemu-img")
        .args(["create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b"])
        .args([&pipe, &top])
        .arg("1M")
        .status()
        .unwrap();
    assert!(made.success());
    let image = format!(
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{}'/><target dev='vda'/></disk>",
        top.display()
    );
    host.virsh(&["define", &host.document(&name, &with(&image))]);
    let refused = host.try_virsh(&["start", &name]);
    assert!(refused.err.contains("to be a regular file"), "{refused}");
    assert_eq!(fs::metadata(&top).unwrap().uid(), 0, "the image is nobody else's");
    host.virsh(&["undefine", &name]);
}
