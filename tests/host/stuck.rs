//! A guest whose QEMU stands still: nobody waits long for it, and nobody else notices.

use std::time::{Duration, Instant};

use virt_testkit::host::{Host, Options, bare_xml};
use virt_testkit::wait;

/// What a call may take that must not wait for the stuck guest, on a busy machine.
const SOON: Duration = Duration::from_secs(3);

/// Lets a stopped process go on, also when the test fails.
struct Stopped(u32);

impl Stopped {
    fn new(pid: u32) -> Self {
        signal(pid, "STOP");
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal(self.0, "CONT");
    }
}

fn signal(pid: u32, name: &str) {
    let sent = std::process::Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(sent.expect("kill").success(), "signal {name} to {pid}");
}

#[track_caller]
fn soon<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = act();
    let took = begun.elapsed();
    assert!(took < SOON, "{what} took {took:?}");
    done
}

#[test]
fn a_stopped_emulator_holds_nobody_up() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let (stuck, other) = (host.name("stuck"), host.name("other"));
    host.virsh(&["create", &host.document(&stuck, &bare_xml(&stuck))]);
    let pid = host.emulators()[0];
    host.virsh(&["create", &host.document(&other, &bare_xml(&other))]);
    let before = host.virsh(&["domstats", &stuck]);
    assert!(before.contains("vcpu.0.state=1"), "{before}");
    let stopped = Stopped::new(pid);
    for flags in [&["--nowait"][..], &[]] {
        let stats = soon("domstats", || host.virsh(&[&["domstats"], flags].concat()));
        let of = |name: &str| stats.split("Domain: ").find(|s| s.starts_with(&format!("'{name}'"))).unwrap();
        assert!(of(&stuck).contains("state.state=1"), "{stats}");
        assert!(of(&stuck).contains("vcpu.0.state=1"), "the last known values\n{stats}");
        assert!(of(&other).contains("vcpu.0.state=1"), "{stats}");
    }
    for command in ["suspend", "shutdown", "reset"] {
        let run = soon(command, || host.try_virsh(&[command, &stuck]));
        assert!(run.code == Some(1) && run.err.contains("the emulator's process is stopped"), "{run}");
    }
    let vcpus = soon("vcpuinfo", || host.virsh(&["vcpuinfo", &stuck]));
    assert!(vcpus.contains("CPU time"), "the host tells, QEMU is not asked\n{vcpus}");
    soon("domstate", || host.virsh(&["domstate", &stuck]));
    soon("dumpxml", || host.virsh(&["dumpxml", &stuck]));
    soon("suspend of another guest", || host.virsh(&["suspend", &other]));
    soon("resume of another guest", || host.virsh(&["resume", &other]));
    drop(stopped);
    // What was asked of it meanwhile happens now, and is seen.
    wait::until("the suspend arrives", || host.virsh(&["domstate", &stuck]) == "paused");
    host.virsh(&["resume", &stuck]);
    let stopped = Stopped::new(pid);
    soon("destroy", || host.virsh(&["destroy", &stuck]));
    // Its number may be another's by now.
    std::mem::forget(stopped);
    assert_eq!(host.emulators().len(), 1);
    host.virsh(&["destroy", &other]);
}
