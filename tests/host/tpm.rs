//! Guests with an emulated TPM: a swtpm beside each, its state kept by the guest's UUID.

use std::fs;
use std::path::{Path, PathBuf};

use virt_testkit::host::{Host, Options};
use virt_testkit::wait;

fn document(name: &str, backend: &str) -> String {
    format!(
        "<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>\
         <os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>\
         <devices><controller type='usb' model='none'/><memballoon model='none'/>\
         <tpm model='tpm-crb'>{backend}</tpm></devices></domain>"
    )
}

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// The number of the guest's swtpm, from its file.
fn number(pid_files: &Path, name: &str) -> Option<i32> {
    let files = fs::read_dir(pid_files).ok()?.flatten().map(|e| e.path());
    let wanted = format!("-{name}-swtpm.pid");
    let mut own = files.filter(|p| p.to_string_lossy().ends_with(&wanted));
    fs::read_to_string(own.next()?).ok()?.trim().parse().ok()
}

fn alive(pid: i32) -> bool {
    // A process that ended and was not waited for has no command line.
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

fn states(root: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(root.join("var/lib/libvirt/swtpm")).into_iter().flatten().flatten();
    folders.map(|e| e.path()).collect()
}

#[test]
fn a_guest_has_a_tpm_that_outlives_the_daemon_and_ends_with_the_guest() {
    let Some(host) = Host::ours(Options::default()) else { return };
    if !installed("swtpm") || !installed("swtpm_setup") {
        println!("skipped: swtpm and swtpm_setup are not installed");
        return;
    }
    let name: String = host.name("tpm").chars().take(20).collect();
    let run = host.root().join("run/libvirt/qemu/swtpm");
    let xml = document(&name, "<backend type='emulator' version='2.0'/>");
    host.virsh(&["define", &host.document(&name, &xml)]);
    host.virsh(&["start", &name]);
    let pid = number(&run, &name).expect("a swtpm's number");
    assert!(alive(pid), "a guest's TPM runs");
    let [state] = &states(host.root())[..] else { panic!("one state: {:?}", states(host.root())) };
    assert!(state.join("tpm2/tpm2-00.permall").is_file(), "made by swtpm_setup");
    let seen = host.virsh(&["qemu-monitor-command", &name, r#"{"execute":"query-tpm"}"#]);
    assert!(seen.contains("tpm-crb"), "{seen}");

    // A killed daemon leaves guest and TPM alone; the next one ends both.
    host.kill("virtqemud");
    assert!(host.virsh(&["list", "--name"]).contains(&name));
    assert!(alive(pid));
    host.virsh(&["destroy", &name]);
    wait::until("the TPM has left", || !alive(pid));
    wait::until("its files are gone", || fs::read_dir(&run).is_ok_and(|d| d.count() == 0));
    assert!(state.join("tpm2/tpm2-00.permall").is_file(), "the state stays");

    // The same state at the next start; a TPM that dies takes nothing of the daemon with it.
    let before = fs::metadata(state.join("tpm2")).expect("a folder").created().ok();
    host.virsh(&["start", &name]);
    assert_eq!(fs::metadata(state.join("tpm2")).expect("a folder").created().ok(), before);
    host.virsh(&["destroy", &name]);
    host.virsh(&["undefine", &name]);
    assert!(!state.exists(), "a state nobody can use is removed");

    // A start that fails later leaves neither process nor state.
    let broken = xml.replace(
        "</devices>",
        "<disk type='file'><source file='/nonexistent'/><target dev='vda'/></disk></devices>",
    );
    host.virsh(&["define", &host.document(&name, &broken)]);
    assert!(!host.try_virsh(&["start", &name]).ok());
    assert!(states(host.root()).is_empty() && number(&run, &name).is_none());
    host.virsh(&["undefine", &name]);
}
