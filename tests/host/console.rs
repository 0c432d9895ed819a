//! The console as a person at a terminal has it: `virsh console` with keys.

use virt_testkit::host::{Host, Options, bare_xml, linux_xml};
use virt_testkit::wait;

#[test]
fn keys_reach_the_guest_and_its_answer_comes_back() {
    let host = Host::start();
    let name = host.name("linux");
    let file = host.document(&name, &linux_xml(&name, &host.image()));
    host.virsh(&["create", &file]);
    let shown = host.console(&name, "guest ready", Some(("echo $((6*7))-answer\r", "42-answer")));
    assert!(shown.contains("42-answer"), "{shown}");
    // The console is free again.
    let shown = host.console(&name, "", Some(("echo $((4*4))-again\r", "16-again")));
    assert!(shown.contains("16-again"), "{shown}");
    host.virsh(&["destroy", &name]);
}

/// A terminal that somebody opened by himself is his: the lock file says so. Ours says the same to others.
#[test]
fn a_terminal_is_locked_while_it_is_used() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let name = host.name("locked");
    let xml = bare_xml(&name).replace("<serial type='null'/>", "<serial type='pty'/>");
    host.virsh(&["create", &host.document(&name, &xml)]);
    let terminal = host.virsh(&["ttyconsole", &name]);
    let lock = terminal.replacen("/dev", "", 1).replace('/', "_");
    let lock = host.root().join("var/lock").join(format!("LCK..{lock}"));
    let program = r#"
import libvirt, os, sys
conn = libvirt.open(os.environ["URI"])
libvirt.registerErrorHandler(lambda *a: None, None)
dom, lock, flags = conn.lookupByName(sys.argv[1]), sys.argv[2], int(sys.argv[3])
def opened(flags):
    stream = conn.newStream(libvirt.VIR_STREAM_NONBLOCK)
    try: dom.openConsole(None, stream, flags)
    except libvirt.libvirtError as e: return str(e)
    return stream
first = opened(flags)
if isinstance(first, str): print(first)
else:
    print(open(lock).read().strip() != "", opened(libvirt.VIR_DOMAIN_CONSOLE_SAFE))
    second = opened(libvirt.VIR_DOMAIN_CONSOLE_FORCE)
    print(not isinstance(second, str), os.path.exists(lock))
"#;
    let path = lock.to_string_lossy().into_owned();
    let told = host.python(program, &[&name, &path, "2"]);
    assert_eq!(told, "True operation failed: Active console session exists for this domain\nTrue True");
    wait::until("the lock file is gone", || !lock.exists());
    std::fs::write(&lock, format!("{:10}\n", std::process::id())).unwrap();
    let told = host.python(program, &[&name, &path, "2"]);
    assert!(told.contains(&format!("held by process {}", std::process::id())), "{told}");
    std::fs::remove_file(&lock).unwrap();
    host.virsh(&["destroy", &name]);
}
