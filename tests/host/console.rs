//! The console as a person at a terminal has it: `virsh console` with keys.

use virt_testkit::host::{Host, linux_xml};

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
