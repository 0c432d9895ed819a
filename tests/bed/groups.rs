//! What a document limits is in the guest's own control group, in version 2's files.

use std::fs;

use virt_testkit::bed::{AtEnd, sh};
use virt_testkit::host::{Host, bare_xml};

use crate::inside;

/// Where the guest's processes are, and the guest's own group: the one named after it.
fn place(name: &str) -> String {
    let pid = fs::read_to_string(format!("/run/libvirt/qemu/{name}.pid")).unwrap();
    let text = fs::read_to_string(format!("/proc/{}/cgroup", pid.trim())).unwrap();
    let path = text.trim().strip_prefix("0::").unwrap().to_owned();
    let own = path.split_inclusive('/').scan(String::new(), |so_far, part| {
        so_far.push_str(part);
        Some(so_far.trim_end_matches('/').to_owned())
    });
    let own = own.into_iter().find(|p| p.rsplit('/').next().is_some_and(|last| last.contains("qemu")));
    format!("/sys/fs/cgroup{}", own.unwrap_or_else(|| panic!("{path} is not a guest's")))
}

/// A control file below the guest's group: wherever the value is set, the emulator is under it.
fn control(name: &str, file: &str) -> String {
    let path = format!("{}/{file}", place(name));
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}")).trim().to_owned()
}

fn define(host: &Host, stem: &str, parts: &str) -> String {
    let name = host.name(stem);
    let xml = bare_xml(&name).replacen("<devices>", &format!("{parts}<devices>"), 1);
    host.virsh(&["define", &host.document(&name, &xml)]);
    name
}

#[test]
fn limits_are_in_the_guests_group() {
    inside(|host| {
        let disk = sh("modprobe loop; truncate -s 16M /srv/io; losetup -f --show /srv/io");
        let _disk = AtEnd::sh(format!("losetup -d {disk}\nrm -f /srv/io"));
        let numbers = sh(&format!("cat /sys/block/{}/dev", disk.trim_start_matches("/dev/")));
        let parts = format!(
            "<memtune><hard_limit unit='MiB'>600</hard_limit></memtune>\
             <cputune><shares>300</shares><period>100000</period><quota>30000</quota>\
             <global_period>100000</global_period><global_quota>50000</global_quota></cputune>\
             <blkiotune><device><path>{disk}</path><read_bytes_sec>1048576</read_bytes_sec></device></blkiotune>"
        );
        let name = define(host, "limits", &parts);
        host.virsh(&["start", &name]);
        println!("{}", place(&name));
        assert_eq!(control(&name, "cpu.weight"), "300");
        assert_eq!(control(&name, "cpu.max"), "50000 100000");
        assert_eq!(control(&name, "memory.max"), (600_u64 << 20).to_string());
        let io = control(&name, "io.max");
        assert!(io.starts_with(&format!("{numbers} rbps=1048576 ")), "{io}");
        let vcpu = sh(&format!(
            "cat {}/$(cd {0}; ls -d vcpu0 libvirt/vcpu0 2>/dev/null | head -1)/cpu.max",
            place(&name)
        ));
        assert_eq!(vcpu, "30000 100000");
        // As clients are told.
        assert!(host.virsh(&["memtune", &name]).contains("614400"));
        let told = host.virsh(&["schedinfo", &name]);
        for (key, value) in [("cpu_shares", "300"), ("global_quota", "50000"), ("vcpu_quota", "30000")] {
            let found = told.lines().any(|l| l.starts_with(key) && l.ends_with(&format!(" {value}")));
            assert!(found, "{key}: {told}");
        }

        // Changed while it runs; a daemon that comes back finds what there is.
        host.virsh(&["schedinfo", &name, "--live", "--set", "global_quota=20000"]);
        host.virsh(&["memtune", &name, "--live", "--hard-limit", "700M"]);
        host.virsh(&["blkiotune", &name, "--live", "--device-read-bytes-sec", &format!("{disk},0")]);
        sh("systemctl kill -s KILL virtqemud.service");
        assert!(host.virsh(&["memtune", &name]).contains("716800"));
        assert_eq!(control(&name, "cpu.max"), "20000 100000");
        assert_eq!(control(&name, "memory.max"), (700_u64 << 20).to_string());
        assert_eq!(control(&name, "io.max"), "");
        host.virsh(&["destroy", &name]);
    });
}
