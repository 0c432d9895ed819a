//! A guest's memory in a file: asked for, and after a crash.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use virt_testkit::host::{Host, Options, bare_xml};
use virt_testkit::wait;

#[test]
fn memory_is_written_as_asked() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let name = host.name("dumped");
    host.virsh(&["create", &host.document(&name, &bare_xml(&name))]);
    let file = host.files().join("dump");
    let to = file.to_string_lossy().into_owned();
    let cases: [(&[&str], &[u8]); 7] = [
        (&[], b"QEVM"),
        (&["--bypass-cache"], b"QEVM"),
        (&["--bypass-cache", "--memory-only"], b"\x7fELF"),
        (&["--live"], b"QEVM"),
        (&["--memory-only"], b"\x7fELF"),
        (&["--memory-only", "--format", "kdump-zlib"], b"makedumpfile"),
        (&["--memory-only", "--reset"], b"\x7fELF"),
    ];
    for (options, magic) in cases {
        host.virsh(&[&["dump", &name, &to][..], options].concat());
        let bytes = fs::read(&file).unwrap();
        assert!(bytes.starts_with(magic), "{options:?}: {:?}", &bytes[..12]);
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600,
            "a guest's memory is private"
        );
        assert_eq!(host.virsh(&["domstate", &name, "--reason"]), "running (unpaused)");
        fs::remove_file(&file).unwrap();
    }
    assert!(host.virsh(&["domjobinfo", &name, "--completed"]).contains("Operation:        Dump"));
    assert_eq!(host.virsh(&["domjobinfo", &name]), "Job type:         None");
    let idle = host.try_virsh(&["domjobabort", &name]);
    assert!(idle.err.contains("no job is active on the domain"), "{idle}");
    // What cannot be written leaves nothing and the guest running.
    let windows = host.try_virsh(&["dump", &name, &to, "--memory-only", "--format", "win-dmp"]);
    assert!(windows.err.contains("operation failed: memory-only dump failed"), "{windows}");
    assert!(!file.exists());
    let nowhere = host.try_virsh(&["dump", &name, "/no/such/folder/dump"]);
    assert!(nowhere.err.contains("Failed to create file '/no/such/folder/dump'"), "{nowhere}");
    let full = host.try_virsh(&["dump", &name, "/dev/full"]);
    assert_eq!(full.code, Some(1), "{full}");
    assert!(Path::new("/dev/full").exists(), "a device is not removed");
    assert_eq!(host.virsh(&["domstate", &name]), "running");
    host.virsh(&["dump", &name, &to, "--crash"]);
    assert_eq!(host.try_virsh(&["domstate", &name]).code, Some(1), "it was transient and has ended");
    assert!(file.exists() && host.emulators().is_empty());
}

/// The machine's panic device says that the guest has crashed; the dump is there and the guest does what its document
/// says.
#[test]
fn a_guest_that_crashes_leaves_its_memory() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let folder = host.root().join("var/lib/libvirt/qemu/dump");
    for (action, after) in [("coredump-destroy", "shut off"), ("coredump-restart", "running")] {
        let name = host.name("crashing");
        let xml = bare_xml(&name)
            .replace("<devices>", &format!("<on_crash>{action}</on_crash><devices><panic model='isa'/>"));
        host.virsh(&["define", &host.document(&name, &xml)]);
        host.virsh(&["start", &name]);
        let id = host.virsh(&["domid", &name]);
        // What a guest's own system writes when it panics.
        host.virsh(&["qemu-monitor-command", &name, "--hmp", "o /b 0x505 1"]);
        let found = || {
            let files = fs::read_dir(&folder).into_iter().flatten().flatten().map(|f| f.path());
            let ours = format!("{id}-{}", name.chars().take(20).collect::<String>());
            files.into_iter().find(|f| f.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&ours)))
        };
        wait::until("the dump is there and whole", || {
            found().and_then(|f| fs::metadata(f).ok()).is_some_and(|m| m.len() > 16 << 20)
        });
        wait::until("its state is right", || host.virsh(&["domstate", &name]) == after);
        let file = found().unwrap();
        assert!(fs::read(&file).unwrap().starts_with(b"\x7fELF"));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let _ = host.try_virsh(&["destroy", &name]);
        host.virsh(&["undefine", &name]);
    }
}
