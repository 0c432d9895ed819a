//! A guest's CPU: what its document says while it runs, and what another host is told.

use virt_testkit::host::{Host, bare_xml};

fn with_cpu(name: &str, cpu: &str) -> String {
    bare_xml(name).replacen("<devices>", &format!("{cpu}<devices>"), 1)
}

#[test]
fn a_running_guests_document_says_what_its_cpu_has() {
    let host = Host::start();
    let name = host.name("cpu");
    let file = host.document(&name, &with_cpu(&name, "<cpu mode='host-model'/>"));
    host.virsh(&["define", &file]);
    assert!(host.virsh(&["dumpxml", &name]).contains("<cpu mode='host-model' check='partial'/>"));
    host.virsh(&["start", &name]);
    let live = host.virsh(&["dumpxml", &name]);
    assert!(live.contains("<cpu mode='custom' match='exact' check='full'>"), "{live}");
    assert!(live.contains("<feature policy='require' name='hypervisor'/>"), "{live}");
    for flag in ["--migratable", "--inactive"] {
        let asked = host.virsh(&["dumpxml", &name, flag]);
        assert!(asked.contains("<cpu mode='host-model' check='partial'/>"), "{flag}: {asked}");
    }
    host.virsh(&["destroy", &name]);
    host.virsh(&["undefine", &name]);
}

#[test]
fn a_start_refuses_what_the_host_cannot_give() {
    let host = Host::start();
    let name = host.name("cpu");
    let cases = [
        (
            "<cpu mode='custom' match='exact' check='partial'><model>qemu64</model><feature policy='forbid' name='sse'/></cpu>",
            "the CPU is incompatible with host CPU: Host CPU provides forbidden features: sse",
        ),
        (
            "<cpu mode='custom' match='exact' check='full'><model>486</model></cpu>",
            "operation failed: guest CPU doesn't match specification: extra features: ",
        ),
        (
            "<cpu mode='custom' match='exact'><model>no-such-cpu</model></cpu>",
            "Unknown CPU model no-such-cpu",
        ),
    ];
    for (cpu, text) in cases {
        let file = host.document(&name, &with_cpu(&name, cpu));
        let refused = host.try_virsh(&["create", &file]);
        assert!(refused.code == Some(1) && refused.err.contains(text), "{cpu}: {refused}");
        assert!(!host.virsh(&["list", "--all", "--name"]).lines().any(|l| l == name), "{cpu}");
    }
}
