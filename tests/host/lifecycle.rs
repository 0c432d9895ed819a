//! A guest's life, as virsh sees it.

use virt_testkit::host::{Host, Options, bare_xml, linux_xml};
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

/// Clients that define, start, destroy and remove the same guest at once: whoever comes too late is told, and no QEMU
/// outlives its guest.
#[test]
fn a_start_that_waited_for_an_undefine_leaves_no_emulator() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let name = host.name("fought-over");
    let program = r#"
import libvirt, os, sys, threading
uri, name, document = os.environ['URI'], sys.argv[1], open(sys.argv[2]).read()
libvirt.registerErrorHandler(lambda *a: None, None)
def fight(act):
    conn = libvirt.open(uri)
    for _ in range(20):
        try: act(conn)
        except libvirt.libvirtError as e:
            if e.get_error_code() not in (1, 9, 42, 55): raise
acts = [lambda c: c.defineXML(document), lambda c: c.lookupByName(name).create(),
        lambda c: c.lookupByName(name).create(), lambda c: c.lookupByName(name).undefine(),
        lambda c: c.lookupByName(name).destroy(), lambda c: c.createXML(document, 0)]
threads = [threading.Thread(target=fight, args=(act,)) for act in acts]
for t in threads: t.start()
for t in threads: t.join()
conn = libvirt.open(uri)
for dom in conn.listAllDomains():
    if dom.isActive(): dom.destroy()
    try: dom.undefine()
    except libvirt.libvirtError: pass
print(len(conn.listAllDomains()))
"#;
    let file = host.document(&name, &bare_xml(&name));
    assert_eq!(host.python(program, &[&name, &file]).trim(), "0");
    assert_eq!(host.emulators().len(), 0);
    let run = host.root().join("run/libvirt/qemu");
    for left in ["pid", "xml"] {
        let path = run.join(format!("{name}.{left}"));
        assert!(!path.exists(), "{}", path.display());
    }
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
