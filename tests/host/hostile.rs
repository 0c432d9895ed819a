//! Hostile bytes against live daemons: every frame gets an error or a clean close, memory stays, others go on working.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use virt_testkit::host::{Host, Options, bare_xml, linux_xml};
use virt_testkit::hostile::{hostile_documents, hostile_session};
use virt_tests::level;

const DAEMONS: [&str; 2] = ["virtproxyd", "virtqemud"];
/// Memory a daemon may gain after the first tenth.
const ALLOWED: u64 = 5 << 20;

fn socket(host: &Host) -> PathBuf {
    host.root().join("run/libvirt/libvirt-sock")
}

/// Runs `work(part)` for ten parts while a second client works, and compares the memory after the first with the end.
fn besiege(host: &Host, work: impl Fn(u64)) {
    let name = host.name("bystander");
    host.virsh(&["create", &host.document(&name, &bare_xml(&name))]);
    // What is read once, when a call first needs it, is no growth.
    for args in [&["capabilities"][..], &["domcapabilities"], &["cpu-models", "x86_64"], &["nodeinfo"]] {
        host.virsh(args);
    }
    let pids = DAEMONS.map(|d| host.pid(d));
    let done = AtomicBool::new(false);
    let mut first = [0; 2];
    let calls = std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            let mut calls = 0;
            while !done.load(Ordering::Relaxed) {
                assert_eq!(host.virsh(&["domstate", &name]), "running");
                calls += 1;
            }
            calls
        });
        let siege = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for part in 0..10 {
                work(part);
                let now = DAEMONS.map(|d| host.resident(d));
                println!("part {part}: KiB of {DAEMONS:?}: {:?}", now.map(|b| b >> 10));
                if part == 0 {
                    first = now;
                }
            }
        }));
        done.store(true, Ordering::Relaxed);
        let calls = second.join();
        siege.unwrap_or_else(|e| std::panic::resume_unwind(e));
        calls.expect("the second client works throughout")
    });
    println!("the second client made {calls} calls meanwhile");
    assert!(calls > 0);
    assert_eq!(DAEMONS.map(|d| host.pid(d)), pids, "no daemon ended");
    for (daemon, first) in DAEMONS.iter().zip(first) {
        let last = host.resident(daemon);
        println!("{daemon}: {} KiB after the first tenth, {} KiB at the end", first >> 10, last >> 10);
        assert!(last <= first + ALLOWED, "{daemon} grew from {first} to {last} bytes");
    }
    host.virsh(&["destroy", &name]);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn frames() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let each = level(200, 2_000);
    let path = socket(&host);
    let runtime = runtime();
    besiege(&host, |part| {
        let report = runtime.block_on(hostile_session(&path, "qemu:///system", part, each)).unwrap();
        assert!(report.is_clean(), "part {part}: {report:#?}");
        assert_eq!(report.frames, each);
    });
}

#[test]
fn documents() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let path = socket(&host);
    let documents = [bare_xml("mangled"), linux_xml("mangled-linux", &host.image())];
    let runtime = runtime();
    besiege(&host, |part| {
        let (taken, refused) = runtime
            .block_on(hostile_documents(&path, "qemu:///system", part, 100, &documents))
            .unwrap_or_else(|e| panic!("part {part}: {e}"));
        assert_eq!(taken + refused, 100);
        assert!(refused > 10, "only {refused} of 100 mangled documents were refused");
    });
    assert_eq!(host.virsh(&["list", "--all", "--name"]), "");
}
