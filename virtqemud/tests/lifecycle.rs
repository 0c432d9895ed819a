//! Real emulators through the guest's owner: start, stop, everything between, and nothing left behind.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use common::{Host, START, has_qemu, until};
use rustix::process::Signal;
use virt_object::owner::{Class, Spec};
use virtqemud::guest::start::Start;
use virtqemud::guest::state::{Kind, Paused, Running, Shutoff, State};
use virtqemud::guest::stop::destroy;

const CHANGE: Spec = Spec::new("change", Class::Lifecycle);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_runs_and_ends_and_leaves_nothing() {
    if !has_qemu() {
        return;
    }
    let host = Host::new();
    let guest = host.define("vm1", "<serial type='pty'/>", "");
    host.start(&guest, Start::default()).await.expect("starts");
    let p = guest.published().value.clone();
    assert_eq!((p.state, p.id), (State::Running(Running::Booted), Some(1)));
    let tty = p.live.as_ref().unwrap().devices.serials[0].backend.path().expect("a path").to_string();
    assert!(tty.starts_with("/dev/pts/"), "{tty}");
    assert!(host.driver.guests.by_id(1).is_some());
    assert!(host.busy.count() > 0, "the daemon stays");
    let e = host.start(&guest, Start::default()).await.expect_err("runs already");
    assert_eq!(e.message(), "Requested operation is not valid: domain is already running");

    guest.work(CHANGE, |w| Box::pin(w.suspend())).await.expect("suspended");
    assert_eq!(guest.published().value.state, State::Paused(Paused::User));
    guest.work(CHANGE, |w| Box::pin(w.suspend())).await.expect("twice is fine");
    guest.work(CHANGE, |w| Box::pin(w.resume())).await.expect("resumed");
    assert_eq!(guest.published().value.state, State::Running(Running::Unpaused));
    let e = guest.work(CHANGE, |w| Box::pin(w.resume())).await.expect_err("runs");
    assert_eq!(e.message(), "Requested operation is not valid: domain is already running");
    guest.work(CHANGE, |w| Box::pin(w.reset())).await.expect("reset");
    until("a reboot is told", || host.events.all().iter().any(|e| e == "1 reboot")).await;

    destroy(&guest, false).await.expect("destroyed");
    assert_eq!(guest.published().value.state, State::Shutoff(Shutoff::Destroyed));
    let told: Vec<_> = host.events.take().into_iter().filter(|e| !e.ends_with("reboot")).collect();
    assert_eq!(
        told,
        [
            "1 lifecycle 4 0",
            "1 lifecycle 2 0",
            "1 lifecycle 3 0",
            "1 lifecycle 4 0",
            "1 lifecycle 6 2",
            "1 lifecycle 5 1"
        ]
    );
    assert_eq!(host.leftovers(), Vec::<std::path::PathBuf>::new());
    let e = destroy(&guest, false).await.expect_err("does not run");
    assert_eq!(e.message(), "Requested operation is not valid: domain is not running");
    let log = std::fs::read_to_string(host.driver.folders.log.join("vm1.log")).expect("a log");
    assert!(
        log.contains("starting up libvirt version: 11.3.0")
            && log.ends_with("shutting down, reason=destroyed\n"),
        "{log}"
    );
    until("idle", || host.busy.count() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_emulator_is_seen_at_once() {
    if !has_qemu() {
        return;
    }
    let host = Host::new();
    let guest = host.define("vm1", "", "");
    host.start(&guest, Start { paused: true, ..Start::default() }).await.expect("starts");
    assert_eq!(guest.published().value.state, State::Paused(Paused::User));
    guest.shared().process().expect("a process").signal(Signal::KILL).expect("killed");
    let begun = Instant::now();
    until("shut off", || guest.published().value.state.kind() == Kind::Shutoff).await;
    println!("seen after {:?}", begun.elapsed());
    assert_eq!(guest.published().value.state, State::Shutoff(Shutoff::Crashed));
    assert_eq!(host.events.take(), ["1 lifecycle 2 0", "1 lifecycle 3 0", "1 lifecycle 5 5"]);
    assert_eq!(host.leftovers(), Vec::<std::path::PathBuf>::new());
    // A second run has a new number.
    host.start(&guest, Start::default()).await.expect("starts again");
    assert_eq!(guest.published().value.id, Some(2));
    guest.shared().process().expect("a process").signal(Signal::TERM).expect("asked");
    until("shut off", || guest.published().value.state.kind() == Kind::Shutoff).await;
    assert_eq!(guest.published().value.state, State::Shutoff(Shutoff::Shutdown));
    assert_eq!(
        host.events.take(),
        ["2 lifecycle 4 0", "2 lifecycle 2 0", "2 lifecycle 6 2", "2 lifecycle 5 0"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_start_leaves_nothing_and_tells_why() {
    if !has_qemu() {
        return;
    }
    let host = Host::new();
    let bad = "<qemu:commandline><qemu:arg value='-no-such-option'/></qemu:commandline>";
    let guest = host.define("vm1", "", "");
    drop(guest);
    let xml = |rest: &str, devices: &str| {
        format!(
            "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>bad</name>\
             <memory unit='MiB'>16</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os>\
             <devices>{devices}</devices>{rest}</domain>"
        )
    };
    let guest = host.define_xml(&xml(bad, ""));
    let e = host.start(&guest, Start::default()).await.expect_err("cannot start");
    assert!(
        e.message().starts_with("internal error: QEMU unexpectedly closed the monitor (vm='bad'): "),
        "{e}"
    );
    assert!(e.message().contains("invalid option"), "{e}");
    assert_eq!(guest.published().value.state, State::Shutoff(Shutoff::Failed));
    assert_eq!(host.leftovers(), Vec::<std::path::PathBuf>::new());
    assert_eq!(host.events.take(), Vec::<String>::new());
    host.driver.guests.remove(guest.uuid());

    let guest = host.define_xml(&xml("", "<emulator>/no/such/emulator</emulator>"));
    let e = host.start(&guest, Start::default()).await.expect_err("no emulator");
    assert_eq!(e.message(), "cannot execute binary /no/such/emulator: No such file or directory");
    assert_eq!(host.leftovers(), Vec::<std::path::PathBuf>::new());
    host.driver.guests.remove(guest.uuid());

    let disk = "<disk type='file'><source file='/nonexistent/x'/><target dev='vda'/></disk>";
    let guest = host.define_xml(&xml("", disk));
    let e = host.start(&guest, Start::default()).await.expect_err("no disk");
    assert!(e.message().starts_with("Cannot access storage file '/nonexistent/x' (as uid:"), "{e}");
    assert_eq!(host.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_guest_can_be_destroyed_and_looked_at() {
    if !has_qemu() {
        return;
    }
    let host = Host::new();
    let guest = host.define("vm1", "", "");
    host.start(&guest, Start::default()).await.expect("starts");
    let process = guest.shared().process().expect("a process");
    process.signal(Signal::STOP).expect("stopped");
    // A job hangs on the monitor meanwhile.
    let hung = {
        let guest = guest.clone();
        tokio::spawn(async move { guest.work(CHANGE, |w| Box::pin(w.suspend())).await })
    };
    until("the job runs", || guest.holders().running.is_some()).await;
    assert_eq!(guest.published().value.state, State::Running(Running::Booted), "looking needs no turn");
    let begun = Instant::now();
    let ended = {
        let guest = guest.clone();
        tokio::spawn(async move { destroy(&guest, false).await })
    };
    // Time for quit; then KILL works on a stopped process where TERM does not.
    ended.await.expect("ran").expect("destroyed");
    println!("destroyed a hung guest in {:?}", begun.elapsed());
    // A stopped QEMU is woken to act on TERM, and may answer what it owed before it ends: the job ends either way.
    let hung = tokio::time::timeout(Duration::from_secs(5), hung).await.expect("the job ends").expect("ran");
    println!("the hung job: {hung:?}");
    assert_eq!(guest.published().value.state, State::Shutoff(Shutoff::Destroyed));
    assert_eq!(host.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_closes_its_monitor_is_ended() {
    let host = Host::new();
    // No emulator at all: a program that takes the descriptor, says garbage and goes on.
    let script = host.root.path().join("fake");
    std::fs::write(
        &script,
        "#!/usr/bin/python3\nimport socket, time\ns = socket.socket(fileno=30)\nc, _ = s.accept()\nc.sendall(b'hello\\r\\n')\ntime.sleep(60)\n",
    )
    .expect("written");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("executable");
    let xml = format!(
        "<domain type='qemu'><name>odd</name><memory unit='MiB'>16</memory><vcpu>1</vcpu><os><type>hvm</type></os>\
         <devices><emulator>{}</emulator></devices></domain>",
        script.display()
    );
    let guest = host.define_xml(&xml);
    let e = host.start(&guest, Start::default()).await.expect_err("no greeting");
    assert!(e.message().contains("closed the monitor"), "{e}");
    assert_eq!(host.leftovers(), Vec::<std::path::PathBuf>::new(), "the process is gone too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_and_destroys_are_quick() {
    if !has_qemu() {
        return;
    }
    let host = Host::new();
    let guest = host.define("vm1", "", "");
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        let t = Instant::now();
        host.start(&guest, Start::default()).await.expect("starts");
        up.push(t.elapsed());
        let t = Instant::now();
        destroy(&guest, false).await.expect("destroyed");
        down.push(t.elapsed());
    }
    up.sort();
    down.sort();
    println!("start {:?}, destroy {:?} (medians)", up[4], down[4]);
    let _ = START;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_meets_the_end_of_its_guest_says_that_it_does_not_run() {
    if !has_qemu() {
        return;
    }
    let host = Host::new();
    let guest = host.define("vm1", "", "");
    host.start(&guest, Start::default()).await.expect("starts");
    let spec = Spec::new("memory", Class::Modify);
    let met = guest.work(spec, |w| {
        Box::pin(async move {
            let process = w.run()?.process.clone();
            process.signal(Signal::KILL).expect("killed");
            // Long enough that the command is on its way when the connection ends, or comes too late.
            while process.is_alive() {
                tokio::task::yield_now().await;
            }
            virtqemud::live::iothreads::add(w, 3).await
        })
    });
    let e = met.await.expect_err("gone");
    assert_eq!(e.message(), "Requested operation is not valid: domain is not running", "{e:?}");
    until("shut off", || guest.published().value.state.kind() == Kind::Shutoff).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reboot_ends_the_guest_where_its_document_says_so() {
    use virt_model::domain::tuning::LifecycleAction;
    use virtqemud::config::lifecycle::Event;
    if !has_qemu() {
        return;
    }
    let host = Host::new();
    let guest = host.define("vm1", "", "<on_reboot>destroy</on_reboot>");
    host.start(&guest, Start::default()).await.expect("starts");
    guest.work(CHANGE, |w| Box::pin(w.reset())).await.expect("reset");
    until("shut off", || guest.published().value.state == State::Shutoff(Shutoff::Shutdown)).await;
    assert_eq!(
        host.events.take(),
        ["1 lifecycle 4 0", "1 lifecycle 2 0", "1 lifecycle 6 2", "1 lifecycle 5 0"]
    );
    host.start(&guest, Start::default()).await.expect("starts again");
    let change = |action| {
        guest.work(CHANGE, move |w| Box::pin(virtqemud::live::lifecycle::set(w, Event::Reboot, action)))
    };
    change(LifecycleAction::Restart).await.expect("changed while it runs");
    guest.work(CHANGE, |w| Box::pin(w.reset())).await.expect("reset");
    until("a reboot is told", || host.events.all().iter().any(|e| e == "2 reboot")).await;
    assert_eq!(guest.published().value.state.kind(), Kind::Running);
    change(LifecycleAction::Destroy).await.expect("changed while it runs");
    guest.work(CHANGE, |w| Box::pin(w.reset())).await.expect("reset");
    until("shut off", || guest.published().value.state.kind() == Kind::Shutoff).await;
}
