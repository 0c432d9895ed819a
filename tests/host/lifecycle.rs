//! A guest's life, as virsh sees it.

use virt_testkit::host::{Host, bare_xml, linux_xml};
use virt_testkit::wait;

#[test]
fn a_real_guest_boots_is_watched_and_powered_off() {
    let host = Host::start();
    let name = host.name("linux");
    let file = host.document(&name, &linux_xml(&name, &host.image()));
    host.virsh(&["define", &file]);
    assert_eq!(host.virsh(&["domstate", &name, "--reason"]), "shut off (unknown)");
    host.virsh(&["start", &name]);
    assert_eq!(host.virsh(&["domstate", &name, "--reason"]), "running (booted)");
    assert!(host.virsh(&["list", "--name"]).lines().any(|l| l == name));
    let info = host.virsh(&["dominfo", &name]);
    for line in ["OS Type:        hvm", "State:          running", "CPU(s):         1", "Persistent:     yes"]
    {
        assert!(info.contains(line), "{line:?} is not in:\n{info}");
    }
    let shown = host.console(&name, "guest ready", None);
    assert!(shown.contains("guest ready"), "{shown}");
    host.virsh(&["suspend", &name]);
    assert_eq!(host.virsh(&["domstate", &name, "--reason"]), "paused (user)");
    host.virsh(&["resume", &name]);
    assert_eq!(host.virsh(&["domstate", &name, "--reason"]), "running (unpaused)");
    host.virsh(&["shutdown", &name, "--mode", "acpi"]);
    wait::until("the guest has powered off", || host.virsh(&["domstate", &name]) == "shut off");
    assert_eq!(host.virsh(&["domstate", &name, "--reason"]), "shut off (shutdown)");
    host.virsh(&["undefine", &name]);
    let gone = host.try_virsh(&["dominfo", &name]);
    assert_eq!(gone.code, Some(1), "{gone}");
    assert!(gone.err.contains("failed to get domain"), "{gone}");
}

#[test]
fn a_transient_guest_vanishes_when_destroyed() {
    let host = Host::start();
    let name = host.name("bare");
    let file = host.document(&name, &bare_xml(&name));
    host.virsh(&["create", &file]);
    assert!(host.virsh(&["dominfo", &name]).contains("Persistent:     no"));
    assert_eq!(host.try_virsh(&["create", &file]).code, Some(1), "a second one with this name");
    host.virsh(&["destroy", &name]);
    assert!(!host.virsh(&["list", "--all", "--name"]).lines().any(|l| l == name));
}

#[test]
fn refusals_say_why_and_change_nothing() {
    let host = Host::start();
    let name = host.name("bare");
    let file = host.document(&name, &bare_xml(&name));
    host.virsh(&["define", &file]);
    let cases: [(&[&str], &str); 4] = [
        (&["destroy", &name], "domain is not running"),
        (&["shutdown", &name], "domain is not running"),
        (&["suspend", &name], "domain is not running"),
        (&["dominfo", "no-such-guest"], "failed to get domain 'no-such-guest'"),
    ];
    for (args, text) in cases {
        let run = host.try_virsh(args);
        assert!(run.code == Some(1) && run.err.contains(text), "{run}");
    }
    let before = host.virsh(&["dumpxml", &name]);
    for spoilt in ["<domain", "<domain type='qemu'><memory>1</memory></domain>", "<network/>", ""] {
        let bad = host.document("bad", spoilt);
        assert_eq!(host.try_virsh(&["define", &bad]).code, Some(1), "{spoilt:?}");
    }
    assert_eq!(host.virsh(&["dumpxml", &name]), before);
    host.virsh(&["start", &name]);
    let again = host.try_virsh(&["start", &name]);
    assert!(again.err.contains("Domain is already active"), "{again}");
    host.virsh(&["destroy", &name]);
    host.virsh(&["undefine", &name]);
}

/// A running guest's definition goes, the guest stays until it ends.
#[test]
fn undefining_a_running_guest_makes_it_transient() {
    let host = Host::start();
    let name = host.name("bare");
    let file = host.document(&name, &bare_xml(&name));
    host.virsh(&["define", &file]);
    host.virsh(&["start", &name]);
    host.virsh(&["undefine", &name]);
    assert!(host.virsh(&["dominfo", &name]).contains("Persistent:     no"));
    host.virsh(&["destroy", &name]);
    assert_eq!(host.try_virsh(&["domstate", &name]).code, Some(1));
}

#[test]
fn what_was_defined_comes_back() {
    let host = Host::start();
    let name = host.name("kept");
    let file = host.document(&name, &bare_xml(&name));
    host.virsh(&["define", &file]);
    let first = host.virsh(&["dumpxml", &name, "--inactive"]);
    let again = host.document(&format!("{name}-again"), &first);
    host.virsh(&["define", &again]);
    assert_eq!(host.virsh(&["dumpxml", &name, "--inactive"]), first);
    host.virsh(&["desc", &name, "--config", "--title", "--new-desc", "a title"]);
    assert_eq!(host.virsh(&["desc", &name, "--title", "--config"]), "a title");
    let other = host.name("renamed");
    host.virsh(&["domrename", &name, &other]);
    assert!(host.virsh(&["dumpxml", &other]).contains("<title>a title</title>"));
    assert_eq!(host.try_virsh(&["dominfo", &name]).code, Some(1));
    host.virsh(&["undefine", &other]);
}
