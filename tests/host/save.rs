//! Guests saved into files: brought back, changed in the file, and exchanged with another server.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use virt_testkit::host::{Host, Options, bare_xml};
use virt_testkit::wait;

#[test]
fn a_saved_guest_comes_back_as_it_was() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let name = host.name("saved");
    host.virsh(&["create", &host.document(&name, &bare_xml(&name))]);
    let uuid = host.virsh(&["domuuid", &name]);
    let file = host.files().join("guest.save");
    let to = file.to_string_lossy().into_owned();
    host.virsh(&["save", &name, &to]);
    assert_eq!(host.try_virsh(&["domstate", &name]).code, Some(1), "it was transient and has ended");
    assert!(host.emulators().is_empty());
    let bytes = fs::read(&file).unwrap();
    assert!(bytes.starts_with(b"LibvirtQemudSave"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "memory is private");

    host.virsh(&["restore", &to]);
    assert_eq!(host.virsh(&["domstate", &name, "--reason"]), "running (restored)");
    assert_eq!(host.virsh(&["domuuid", &name]), uuid);
    let twice = host.try_virsh(&["restore", &to]);
    assert!(twice.err.contains(&format!("domain '{name}' is already active")), "{twice}");

    // A guest that stood still stays so, unless asked.
    host.virsh(&["suspend", &name]);
    host.virsh(&["save", &name, &to]);
    host.virsh(&["restore", &to]);
    assert_eq!(host.virsh(&["domstate", &name, "--reason"]), "paused (migrating)");
    host.virsh(&["save", &name, &to, "--running"]);
    host.virsh(&["restore", &to]);
    assert_eq!(host.virsh(&["domstate", &name]), "running");

    // What cannot be written leaves nothing, and the guest running.
    let nowhere = host.try_virsh(&["save", &name, "/no/such/folder/save"]);
    assert!(nowhere.err.contains("Failed to create file '/no/such/folder/save'"), "{nowhere}");
    let full = host.try_virsh(&["save", &name, "/dev/full"]);
    assert_eq!(full.code, Some(1), "{full}");
    assert_eq!(host.virsh(&["domstate", &name]), "running");
    host.virsh(&["destroy", &name]);
}

#[test]
fn the_document_in_the_file_can_be_changed() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let name = host.name("edited");
    host.virsh(&["create", &host.document(&name, &bare_xml(&name))]);
    let file = host.files().join("guest.save");
    let to = file.to_string_lossy().into_owned();
    host.virsh(&["save", &name, &to]);
    let length = fs::metadata(&file).unwrap().len();
    let xml = host.virsh(&["save-image-dumpxml", &to, "--security-info"]);
    let titled = xml.replacen("</uuid>", "</uuid><title>once more</title>", 1);
    host.virsh(&["save-image-define", &to, &host.document("titled", &titled), "--paused"]);
    assert_eq!(fs::metadata(&file).unwrap().len(), length, "the guest's state stays where it is");
    assert!(host.virsh(&["save-image-dumpxml", &to]).contains("<title>once more</title>"));
    let other = host.document("other", &xml.replace(&name, "other"));
    let refused = host.try_virsh(&["save-image-define", &to, &other]);
    assert!(refused.err.contains("Target domain name 'other' does not match source"), "{refused}");
    let refused = host.try_virsh(&["restore", &to, "--xml", &other]);
    assert!(refused.err.contains("Target domain name 'other' does not match source"), "{refused}");
    let long = titled.replace("once more", &"x".repeat(80_000));
    let refused = host.try_virsh(&["save-image-define", &to, &host.document("long", &long)]);
    assert!(refused.err.contains("new xml too large to fit in file"), "{refused}");
    host.virsh(&["restore", &to]);
    assert_eq!(host.virsh(&["domstate", &name]), "paused");
    assert!(host.virsh(&["dumpxml", &name]).contains("<title>once more</title>"));
    host.virsh(&["destroy", &name]);

    // A file that is not whole starts nothing, and neither does one whose state is cut off.
    let mut bytes = fs::read(&file).unwrap();
    bytes[12..16].copy_from_slice(b"Part");
    fs::write(&file, &bytes).unwrap();
    let refused = host.try_virsh(&["restore", &to]);
    assert!(refused.err.contains("save image is incomplete"), "{refused}");
    bytes[12..16].copy_from_slice(b"Save");
    bytes.truncate(bytes.len() / 2);
    fs::write(&file, &bytes).unwrap();
    let refused = host.try_virsh(&["restore", &to]);
    assert!(refused.err.contains("load of migration failed: "), "{refused}");
    wait::until("nothing is left", || host.emulators().is_empty());
    assert_eq!(host.try_virsh(&["domstate", &name]).code, Some(1));
}

/// There and back: what we save the reference restores, and the other way round.
#[test]
fn saved_guests_change_servers() {
    let Some(uri) = virt_tests::reference() else { return };
    let Some(host) = Host::ours(Options::default()) else { return };
    let reference = |args: &[&str]| {
        let out = Command::new("virsh").args(["-q", "-c", &uri]).args(args).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_string()
    };
    let name = host.name("exchanged");
    host.virsh(&["create", &host.document(&name, &bare_xml(&name))]);
    let file = host.files().join("guest.save");
    let path = file.to_string_lossy().into_owned();
    host.virsh(&["save", &name, &path]);
    reference(&["restore", &path]);
    assert_eq!(reference(&["domstate", &name, "--reason"]), "running (restored)");
    reference(&["save", &name, &path]);
    host.virsh(&["restore", &path]);
    assert_eq!(host.virsh(&["domstate", &name, "--reason"]), "running (restored)");
    host.virsh(&["destroy", &name]);
}

/// A file that cannot be removed would take the guest back a second time: its disks are further by then.
#[test]
fn a_managed_save_that_stays_is_void() {
    let Some(host) = Host::ours(Options::default()) else { return };
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root makes a file that stays");
        return;
    }
    let name = host.name("stays");
    host.virsh(&["define", &host.document(&name, &bare_xml(&name))]);
    let file = host.root().join("var/lib/libvirt/qemu/save").join(format!("{name}.save"));
    host.virsh(&["start", &name]);
    host.virsh(&["managedsave", &name]);
    // What something is mounted on does not go.
    let mount = |args: &[&std::ffi::OsStr]| {
        let done = std::process::Command::new(args[0]).args(&args[1..]).status().unwrap();
        assert!(done.success());
    };
    mount(&["mount".as_ref(), "--bind".as_ref(), file.as_os_str(), file.as_os_str()]);
    host.virsh(&["start", &name]);
    assert_eq!(host.virsh(&["domstate", &name, "--reason"]), "running (restored)");
    assert!(fs::read(&file).unwrap().starts_with(b"LibvirtQemudPart"));
    host.virsh(&["destroy", &name]);
    let booted = || {
        assert!(host.virsh(&["dominfo", &name]).contains("Managed save:   no"));
        host.virsh(&["start", &name]);
        assert_eq!(host.virsh(&["domstate", &name, "--reason"]), "running (booted)");
        host.virsh(&["destroy", &name]);
    };
    booted();
    // Nor does another daemon take it for a saved guest.
    host.kill("virtqemud");
    booted();
    mount(&["umount".as_ref(), file.as_os_str()]);
    host.virsh(&["undefine", &name]);
}

#[test]
fn the_next_start_goes_on_where_a_managed_save_stopped() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let name = host.name("kept");
    host.virsh(&["define", &host.document(&name, &bare_xml(&name))]);
    let file = host.root().join("var/lib/libvirt/qemu/save").join(format!("{name}.save"));
    let save = || {
        host.virsh(&["start", &name]);
        host.virsh(&["managedsave", &name]);
    };
    save();
    assert!(host.virsh(&["list", "--all", "--managed-save"]).contains("saved"));
    let refused = host.try_virsh(&["undefine", &name]);
    assert!(refused.err.contains("Refusing to undefine while domain managed save image exists"), "{refused}");

    // Another daemon finds it; the guest runs from it once.
    host.kill("virtqemud");
    assert!(host.virsh(&["dominfo", &name]).contains("Managed save:   yes"));
    let bytes = fs::read(&file).unwrap();
    host.virsh(&["start", &name]);
    assert_eq!(host.virsh(&["domstate", &name, "--reason"]), "running (restored)");
    assert!(!file.exists());
    host.virsh(&["destroy", &name]);

    // A start that fails leaves it, a start afresh gives it up.
    save();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(host.try_virsh(&["start", &name]).code, Some(1));
    assert!(file.exists());
    host.virsh(&["start", &name, "--force-boot"]);
    assert_eq!(host.virsh(&["domstate", &name, "--reason"]), "running (booted)");
    assert!(!file.exists());

    // A guest that runs is further than any file, and a half written one is none.
    fs::write(&file, &bytes).unwrap();
    host.kill("virtqemud");
    assert_eq!(host.virsh(&["domstate", &name]), "running");
    assert!(!file.exists());
    host.virsh(&["destroy", &name]);
    fs::write(&file, b"LibvirtQemudPart and no more").unwrap();
    host.kill("virtqemud");
    assert!(host.virsh(&["dominfo", &name]).contains("Managed save:   no"));
    save();
    host.virsh(&["undefine", &name, "--managed-save"]);
    assert!(!file.exists());
}
