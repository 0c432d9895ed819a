//! What many definitions and many clients needed goes back to the kernel once they are gone.

use std::time::{Duration, Instant};

use virt_testkit::host::{Host, Options, bare_xml};

/// What may stay: lists of events, caches, pieces of pages.
const STAYS: u64 = 6 << 20;
/// The daemons wait some seconds for quiet.
const PATIENCE: Duration = Duration::from_secs(60);

const WORK: &str = r#"
import libvirt, os, sys
xml, name = sys.argv[1:]
actor = libvirt.open(os.environ["URI"])
title = "<title>" + "x" * 4000 + "</title>"
document = lambda i: xml.replace("<name>" + name + "</name>", "<name>%s-%d</name>%s" % (name, i, title))
domains = [actor.defineXML(document(i)) for i in range(1500)]
clients = [libvirt.open(os.environ["URI"]) for i in range(300)]
for c in clients: c.listAllDomains()
for d in domains: d.undefine()
for c in clients: c.close()
"#;

#[test]
fn memory_goes_back_after_work() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let name = host.name("memory");
    host.virsh(&["list"]);
    let daemons = ["virtqemud", "virtproxyd"];
    let before = daemons.map(|d| host.resident(d));
    host.python(WORK, &[&bare_xml(&name), &name]);
    let end = Instant::now() + PATIENCE;
    loop {
        let now = daemons.map(|d| host.resident(d));
        let grown = |(now, before): (&u64, &u64)| now.saturating_sub(*before);
        if now.iter().zip(&before).map(grown).all(|grown| grown < STAYS) {
            return;
        }
        assert!(Instant::now() < end, "{daemons:?}: {before:?} before, {now:?} now");
        std::thread::sleep(Duration::from_millis(500));
    }
}
