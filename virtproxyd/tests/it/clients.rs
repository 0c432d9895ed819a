//! Unmodified clients. Skipped, saying so, where they are not installed.

use std::process::Command;

use crate::bed::Bed;

/// Runs a program against the proxy on a thread of its own, for the proxy lives on the test's.
async fn run(program: &str, args: &[&str]) -> Option<(bool, String)> {
    let mut command = Command::new(program);
    command.args(args);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    match output {
        Ok(output) => {
            let text =
                [output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).into_owned()).concat();
            Some((output.status.success(), text))
        }
        Err(_) => {
            eprintln!("skipped: {program} is not installed");
            None
        }
    }
}

fn uri(bed: &Bed) -> String {
    format!("qemu+unix:///system?socket={}", bed.socket().display())
}

#[tokio::test]
async fn virsh_lists_and_shows() {
    let bed = Bed::start();
    bed.state.set_running("vm2", Some(3));
    let uri = uri(&bed);
    let Some((ok, text)) = run("virsh", &["-c", &uri, "list", "--all"]).await else { return };
    assert!(ok, "{text}");
    let rows: Vec<Vec<&str>> = text.lines().skip(2).map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["3", "vm2", "running"], "{text}");
    assert_eq!(rows[1], ["-", "vm1", "shut", "off"], "{text}");
    let (ok, text) = run("virsh", &["-c", &uri, "domstate", "nosuch"]).await.unwrap();
    assert!(!ok && text.contains("error: failed to get domain 'nosuch'"), "{text}");
    let (ok, text) = run("virsh", &["-c", &uri, "dumpxml", "vm1"]).await.unwrap();
    assert!(ok && text.contains("<name>vm1</name>"), "{text}");
    let (ok, text) = run("virsh", &["-c", &uri, "net-list"]).await.unwrap();
    let expected = "this function is not supported by the connection driver: virConnectNumOfNetworks";
    assert!(!ok && text.contains(expected), "{text}");
}

#[tokio::test]
async fn libvirt_python_gets_events() {
    let bed = Bed::start();
    let uri = uri(&bed);
    let program = "
import libvirt, sys
libvirt.virEventRegisterDefaultImpl()
c = libvirt.open(sys.argv[1])
seen = []
c.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                         lambda c, d, e, r, o: seen.append((d.name(), e, r)), None)
d = c.lookupByName('vm1')
d.create()
while len(seen) < 1: libvirt.virEventRunDefaultImpl()
d.destroy()
while len(seen) < 2: libvirt.virEventRunDefaultImpl()
print(seen, d.isActive(), d.info()[0], c.getLibVersion())
";
    let Some((ok, text)) = run("/usr/bin/python3", &["-c", program, &uri]).await else { return };
    if text.contains("No module named 'libvirt'") {
        return eprintln!("skipped: libvirt-python is not installed");
    }
    assert!(ok, "{text}");
    assert_eq!(text.trim(), "[('vm1', 2, 0), ('vm1', 5, 1)] 0 5 11003000");
}
