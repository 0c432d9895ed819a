//! What a document limits or protects is in force when the guest runs, or the guest does not start.

use std::fs;
use std::path::PathBuf;

use virt_testkit::host::{Host, Options, bare_xml};

/// The document with `parts` before its devices and `devices` among them.
fn with(name: &str, parts: &str, devices: &str) -> String {
    let xml = bare_xml(name);
    assert!(xml.contains("<devices>"), "{xml}");
    xml.replacen("<devices>", &format!("{parts}<devices>{devices}"), 1)
}

/// Host CPUs of the emulator's threads of this name.
fn allowed(emulator: u32, thread: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{emulator}/task")).unwrap().map(|t| t.unwrap().path());
    let named =
        tasks.filter(|t| fs::read_to_string(t.join("comm")).is_ok_and(|comm| comm.starts_with(thread)));
    let list = |task: PathBuf| {
        let status = fs::read_to_string(task.join("status")).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).unwrap();
        line.trim().to_owned()
    };
    named.map(list).collect()
}

/// A control file of the emulator's group, wherever the host has it; version 1's name and version 2's.
fn control(emulator: u32, files: [&str; 2]) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{emulator}/cgroup")).unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().filter(|l| l.contains(" - cgroup")).filter_map(|l| l.split(' ').nth(4));
    let mut places = mounts.flat_map(|mount| {
        let paths = groups.lines().filter_map(|l| l.splitn(3, ':').nth(2)).filter(|p| p.contains("qemu-"));
        paths.flat_map(move |path| files.map(|file| format!("{mount}{path}/{file}"))).collect::<Vec<_>>()
    });
    places.find_map(|place| fs::read_to_string(place).ok()).map(|text| text.trim().to_owned())
}

#[test]
fn limits_are_in_force_from_the_start() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let name = host.name("tuned");
    let image = host.files().join("tuned.img");
    fs::write(&image, vec![0; 1 << 20]).unwrap();
    let disk = format!(
        "<disk type='file' device='disk'><source file='{}'/><target dev='vda' bus='virtio'/>\
         <iotune><total_bytes_sec>1048576</total_bytes_sec></iotune></disk>",
        image.display()
    );
    let parts = "<cputune><vcpupin vcpu='0' cpuset='0'/><emulatorpin cpuset='0'/></cputune>";
    host.virsh(&["define", &host.document(&name, &with(&name, parts, &disk))]);
    host.virsh(&["start", &name]);
    let emulator = host.emulators()[0];
    assert_eq!(allowed(emulator, "CPU 0"), ["0"]);
    // The limit as QEMU itself tells it.
    let limits = host.virsh(&["blkdeviotune", &name, "vda", "--live"]);
    assert!(limits.lines().any(|l| l.starts_with("total_bytes_sec") && l.ends_with("1048576")), "{limits}");
    host.virsh(&["destroy", &name]);
    host.virsh(&["undefine", &name]);

    let parts =
        "<memtune><hard_limit unit='MiB'>600</hard_limit></memtune><cputune><shares>300</shares></cputune>";
    host.virsh(&["define", &host.document(&name, &with(&name, parts, ""))]);
    let run = host.try_virsh(&["start", &name]);
    if run.ok() {
        let emulator = host.emulators()[0];
        assert_eq!(control(emulator, ["cpu.shares", "cpu.weight"]).as_deref(), Some("300"));
        let limit = control(emulator, ["memory.limit_in_bytes", "memory.max"]);
        assert_eq!(limit.as_deref(), Some("629145600"));
        host.virsh(&["destroy", &name]);
    } else {
        assert!(run.err.contains("is not available on this host"), "{run}");
        assert!(host.emulators().is_empty(), "nothing is left of the attempt");
    }
    host.virsh(&["undefine", &name]);
}

#[test]
fn what_is_not_applied_does_not_start() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let name = host.name("asking");
    let label = "<seclabel type='static' model='selinux'><label>a:b:c:s0</label></seclabel>";
    let lease = "<lease><lockspace>s</lockspace><key>k</key><target path='/tmp/none'/></lease>";
    let cases = [
        ("<cputune><quota>5000</quota></cputune>", "", "processor periods or quotas"),
        ("<blkiotune><weight>500</weight></blkiotune>", "", "block I/O weights"),
        ("<resource><partition>/elsewhere</partition></resource>", "", "partition"),
        (label, "", "security driver for model selinux"),
        ("", lease, "lease"),
        ("<vcpu cpuset='1000'>1</vcpu>", "", "CPU affinity"),
    ];
    for (parts, devices, why) in cases {
        let mut xml = with(&name, parts, devices);
        if parts.starts_with("<vcpu") {
            xml = xml.replacen("<vcpu>1</vcpu>", "", 1);
        }
        host.virsh(&["define", &host.document(&name, &xml)]);
        let run = host.try_virsh(&["start", &name]);
        assert!(!run.ok() && run.err.contains(why), "{why}: {run}");
        assert!(host.emulators().is_empty(), "{why}: an emulator is left");
        host.virsh(&["undefine", &name]);
    }
}
