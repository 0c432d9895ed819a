//! What a document limits is in the guest's own control group, in version 2's files.

use std::fs;

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
        let parts = "<memtune><hard_limit unit='MiB'>600</hard_limit></memtune><cputune><shares>300</shares></cputune>";
        let name = define(host, "limits", parts);
        host.virsh(&["start", &name]);
        println!("{}", place(&name));
        assert_eq!(control(&name, "cpu.weight"), "300");
        assert_eq!(control(&name, "memory.max"), (600_u64 << 20).to_string());
        assert!(control(&name, "cgroup.controllers").contains("io"));
        // As clients are told.
        assert!(host.virsh(&["memtune", &name]).contains("614400"));
        assert!(
            host.virsh(&["schedinfo", &name])
                .lines()
                .any(|l| l.starts_with("cpu_shares") && l.ends_with("300"))
        );
        // A daemon that comes back finds them.
        sh_kill();
        assert_eq!(control(&name, "cpu.weight"), "300");
        host.virsh(&["destroy", &name]);
    });
}

fn sh_kill() {
    virt_testkit::bed::sh("systemctl kill -s KILL virtqemud.service");
}
