//! `--validate`: documents held against the schemas that libvirt publishes, and `virsh edit`, which asks for it.

use std::path::Path;
use std::process::Command;

use virt_testkit::host::{Host, bare_xml};

fn schemas() -> bool {
    let there = Path::new("/usr/share/libvirt/schemas/domain.rng").exists();
    if !there {
        eprintln!("skipped: libvirt's schemas are not installed");
    }
    there
}

#[test]
fn a_document_that_breaks_the_schema_is_refused_when_asked() {
    if !schemas() {
        return;
    }
    let host = Host::start();
    let name = host.name("valid");
    let kinds = [
        ("define", "undefine", "domain", bare_xml(&name)),
        ("net-define", "net-undefine", "network", format!("<network><name>{name}</name></network>")),
        (
            "pool-define",
            "pool-undefine",
            "pool",
            format!("<pool type='dir'><name>{name}</name><target><path>/nonexistent</path></target></pool>"),
        ),
        ("nwfilter-define", "nwfilter-undefine", "filter", format!("<filter name='{name}'></filter>")),
    ];
    for (define, undefine, root, good) in kinds {
        let bad = good.replace(&format!("</{root}>"), &format!("<foo/></{root}>"));
        assert_ne!(bad, good);
        let file = host.document("bad", &bad);
        let refused = host.try_virsh(&[define, &file, "--validate"]);
        assert!(!refused.ok(), "{refused}");
        assert!(refused.err.contains("XML document failed to validate against schema"), "{refused}");
        assert!(refused.err.contains("foo"), "{refused}");
        assert!(!host.try_virsh(&[undefine, &name]).ok(), "{define}: nothing was made");
        host.virsh(&[define, &host.document("good", &good), "--validate"]);
        host.virsh(&[undefine, &name]);
        // What the schema does not know is skipped when nobody asks, as ever.
        if root == "domain" {
            host.virsh(&[define, &file]);
            host.virsh(&[undefine, &name]);
        }
    }
    let broken = host.try_virsh(&["define", &host.document("broken", "<domain"), "--validate"]);
    assert!(!broken.ok() && !broken.err.contains("schema"), "what is no XML is told as such\n{broken}");
}

#[test]
fn a_guest_is_edited() {
    if !schemas() {
        return;
    }
    let host = Host::start();
    let name = host.name("edited");
    host.virsh(&["define", &host.document(&name, &bare_xml(&name))]);
    let edit = |script: &str| {
        let mut virsh = Command::new("virsh");
        virsh.args(["-c", host.uri(), "edit", &name]).env("EDITOR", format!("sed -i '{script}'"));
        virsh.stdin(std::process::Stdio::null()).output().unwrap()
    };
    let done = edit("s,<vcpu,<title>new</title><vcpu,");
    assert!(done.status.success(), "{done:?}");
    assert!(host.virsh(&["dumpxml", &name]).contains("<title>new</title>"));
    // virsh would ask what to do now; without a terminal it gives up.
    let refused = edit("s,new</title>,worse</title><foo/>,");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Failed."), "{refused:?}");
    assert!(host.virsh(&["dumpxml", &name]).contains("<title>new</title>"));
    host.virsh(&["undefine", &name]);
}
