//! Daemons come with the first call, leave when idle, and come again; several roots live side by side.

use virt_testkit::host::{Host, Options, bare_xml};
use virt_testkit::wait;

const DAEMONS: [&str; 2] = ["virtproxyd", "virtqemud"];

#[test]
fn idle_daemons_leave_and_the_next_call_brings_them_back() {
    let Some(host) = Host::ours(Options { timeout: 1, ..Options::default() }) else { return };
    assert_eq!(DAEMONS.map(|d| host.pid(d)), [None, None], "nothing runs before the first call");
    let name = host.name("kept");
    host.virsh(&["define", &host.document(&name, &bare_xml(&name))]);
    for _ in 0..2 {
        wait::until("both daemons have left", || DAEMONS.iter().all(|d| host.pid(d).is_none()));
        assert_eq!(host.virsh(&["domstate", &name]), "shut off");
    }
}

#[test]
fn a_daemon_with_a_running_guest_stays() {
    let Some(host) = Host::ours(Options { timeout: 1, ..Options::default() }) else { return };
    let name = host.name("runs");
    host.virsh(&["create", &host.document(&name, &bare_xml(&name))]);
    let pid = host.pid("virtqemud");
    for _ in 0..2 {
        wait::until("the proxy has left", || host.pid("virtproxyd").is_none());
        assert_eq!(host.virsh(&["domstate", &name]), "running");
        assert_eq!(host.pid("virtqemud"), pid);
    }
    host.virsh(&["destroy", &name]);
    wait::until("virtqemud has left", || host.pid("virtqemud").is_none());
}

#[test]
fn a_proxy_with_a_client_stays() {
    let Some(host) = Host::ours(Options { timeout: 1, ..Options::default() }) else { return };
    let name = host.name("kept");
    host.virsh(&["define", &host.document(&name, &bare_xml(&name))]);
    let uri = host.uri().to_string();
    // virsh keeps its connection while it waits for its next command.
    let mut shell = std::process::Command::new("virsh")
        .args(["-q", "-c", &uri])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait::until("the shell's proxy is there", || host.pid("virtproxyd").is_some());
    let pid = host.pid("virtproxyd");
    for _ in 0..2 {
        assert_eq!(host.virsh(&["domstate", &name]), "shut off");
        std::thread::sleep(std::time::Duration::from_millis(2_500));
        assert_eq!(host.pid("virtproxyd"), pid, "the proxy left under its client");
    }
    drop(shell.stdin.take());
    shell.wait().unwrap();
    wait::until("the proxy has left", || host.pid("virtproxyd").is_none());
}

#[test]
fn several_roots_know_nothing_of_each_other() {
    let Some(one) = Host::ours(Options::default()) else { return };
    let Some(two) = Host::ours(Options::default()) else { return };
    for host in [&one, &two] {
        host.virsh(&["create", &host.document("same", &bare_xml("same"))]);
    }
    one.virsh(&["destroy", "same"]);
    assert_eq!(two.virsh(&["domstate", "same"]), "running");
    assert_eq!((one.emulators().len(), two.emulators().len()), (0, 1));
    two.virsh(&["destroy", "same"]);
}

#[test]
fn a_session_is_an_ordinary_users_own() {
    let Some(host) = Host::ours(Options { session: true, ..Options::default() }) else { return };
    assert!(host.uri().starts_with("qemu+unix:///session?"));
    let name = host.name("mine");
    host.virsh(&["define", &host.document(&name, &bare_xml(&name))]);
    host.virsh(&["start", &name]);
    assert_eq!(host.virsh(&["domstate", &name]), "running");
    // The other daemons need no right of root's to answer.
    for list in ["net-list", "pool-list", "secret-list", "iface-list"] {
        host.virsh(&[list]);
    }
    host.virsh(&["destroy", &name]);
    host.virsh(&["undefine", &name]);
}
