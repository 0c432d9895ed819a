//! A daemon that dies and comes back: every guest is whole again, or what is left of it is gone.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use common::{Host, QEMU, has_qemu, until};
use rustix::process::Signal;
use virt_host::process::Process;
use virt_object::owner::{Class, Spec};
use virtqemud::guest::start::Start;
use virtqemud::guest::state::{Kind, Paused, Running, Shutoff, State};
use virtqemud::guest::stop::destroy;
use virtqemud::guest::{Guest, Published, adopt};

const CHANGE: Spec = Spec::new("change", Class::Lifecycle);

/// The daemon's end without any farewell: the driver is forgotten with all its tasks, the root stays.
fn die(host: Host) -> tempfile::TempDir {
    let fresh = tempfile::Builder::new().prefix("vq").tempdir().expect("a folder");
    let mut host = std::mem::ManuallyDrop::new(host);
    std::mem::replace(&mut host.root, fresh)
}

/// The same definition as a restarted daemon reads it from disk.
fn redefine(host: &Host, old: &Published, uuid: &uuid::Uuid) -> Arc<Guest> {
    let guest = Guest::new(&host.driver, *uuid, Published::inactive(&old.name, old.config.clone()));
    host.driver.guests.insert(&old.name, *uuid, guest).expect("inserted")
}

/// A daemon of its own runtime, so that its end takes all tasks along.
fn daemon() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

#[test]
fn running_guests_are_found_again() {
    if !has_qemu() {
        return;
    }
    let first = daemon();
    let (root, published, uuid) = first.block_on(async {
        let host = Host::new();
        let guest = host.define("vm1", "<serial type='pty'/>", "");
        host.start(&guest, Start::default()).await.expect("starts");
        let (published, uuid) = (guest.published().value.clone(), *guest.uuid());
        (die(host), published, uuid)
    });
    first.shutdown_background();

    daemon().block_on(async {
        let host = Host::on(root);
        let guest = redefine(&host, &published, &uuid);
        let begun = Instant::now();
        assert_eq!(adopt::all(&host.driver).await.expect("adopted"), 1);
        println!("visible after {:?}", begun.elapsed());
        let p = guest.published().value.clone();
        assert_eq!(
            (p.state, p.id, p.pid),
            (State::Running(Running::Booted), Some(1), published.pid),
            "at once"
        );
        guest.work(CHANGE, |w| Box::pin(w.suspend())).await.expect("the monitor answers");
        assert_eq!(guest.published().value.state, State::Paused(Paused::User));
        let tty =
            |p: &Published| p.live.as_ref().unwrap().devices.serials[0].backend.path().map(str::to_string);
        assert_eq!(tty(&guest.published().value), tty(&published));
        destroy(&guest, false).await.expect("destroyed");
        assert_eq!(host.leftovers(), Vec::<PathBuf>::new());
        host.start(&guest, Start::default()).await.expect("starts again");
        assert_eq!(guest.published().value.id, Some(2), "ids go on");
        destroy(&guest, false).await.expect("destroyed");
        assert!(host.busy.count() <= 1);
    });
}

#[test]
fn what_happened_meanwhile_is_settled() {
    if !has_qemu() {
        return;
    }
    let first = daemon();
    let (root, guests) = first.block_on(async {
        let host = Host::new();
        let mut guests = Vec::new();
        for name in ["dead", "hung", "paused"] {
            let guest = host.define(name, "", "");
            host.start(&guest, Start { paused: name == "paused", ..Start::default() }).await.expect("starts");
            guests.push((guest.published().value.clone(), *guest.uuid()));
        }
        (die(host), guests)
    });
    first.shutdown_background();
    let process = |n: usize| Process::open(guests[n].0.pid.expect("a process")).expect("it lives");
    let dead = process(0);
    dead.signal(Signal::KILL).expect("killed");
    while dead.is_alive() {
        std::thread::yield_now();
    }
    process(1).signal(Signal::STOP).expect("stopped");

    daemon().block_on(async {
        let host = Host::on(root);
        let found: Vec<_> = guests.iter().map(|(p, uuid)| redefine(&host, p, uuid)).collect();
        let begun = Instant::now();
        adopt::all(&host.driver).await.expect("adopted");
        assert!(begun.elapsed().as_secs() < 2, "a hung guest holds nobody up");
        until("the dead one is off", || found[0].published().value.state.kind() == Kind::Shutoff).await;
        assert_eq!(found[0].published().value.state, State::Shutoff(Shutoff::Crashed));
        assert_eq!(host.events.all(), ["1 lifecycle 5 5"]);
        assert_eq!(
            found[1].published().value.state,
            State::Running(Running::Booted),
            "the hung one is visible"
        );
        assert_eq!(found[2].published().value.state, State::Paused(Paused::User));
        found[2].work(CHANGE, |w| Box::pin(w.resume())).await.expect("resumed");
        process(1).signal(Signal::CONT).expect("goes on");
        found[1].work(CHANGE, |w| Box::pin(w.suspend())).await.expect("reached after all");
        for guest in &found[1..] {
            destroy(guest, false).await.expect("destroyed");
        }
        assert_eq!(host.leftovers(), Vec::<PathBuf>::new());
    });
}

#[test]
fn half_started_guests_are_cleaned_up() {
    if !has_qemu() {
        return;
    }
    let first = daemon();
    let (root, published, uuid) = first.block_on(async {
        let host = Host::new();
        let guest = host.define("half", "", "");
        host.start(&guest, Start::default()).await.expect("starts");
        let (published, uuid) = (guest.published().value.clone(), *guest.uuid());
        (die(host), published, uuid)
    });
    first.shutdown_background();
    // As a daemon leaves it that died between the status file and the greeting.
    let status = root.path().join("run/libvirt/qemu/half.xml");
    let text = std::fs::read_to_string(&status).expect("a status file");
    let pid = published.pid.expect("a process");
    let text = text.replace("state='running' reason='booted'", "state='paused' reason='starting up'");
    std::fs::write(&status, text).expect("written");
    daemon().block_on(async {
        let host = Host::on(root);
        let guest = redefine(&host, &published, &uuid);
        assert_eq!(adopt::all(&host.driver).await.expect("adopted"), 0);
        until("cleaned up", || guest.published().value.state.kind() == Kind::Shutoff).await;
        assert_eq!(guest.published().value.state, State::Shutoff(Shutoff::Failed));
        assert!(Process::open(pid).is_err() || !Process::open(pid).expect("a zombie").is_alive());
        assert_eq!(host.leftovers(), Vec::<PathBuf>::new());
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_status_files_do_no_harm() {
    let host = Host::new();
    let folder = host.driver.folders.state.clone();
    std::fs::write(folder.join("garbage.xml"), "<<<").expect("written");
    std::fs::write(folder.join("empty.xml"), "").expect("written");
    let mut innocent = Killed(std::process::Command::new("sleep").arg("60").spawn().expect("sleep"));
    // A number that now belongs to somebody else, and folders outside of ours.
    let domain = format!(
        "<domain type='qemu' id='5'><name>stale</name><uuid>{}</uuid><memory>16384</memory><vcpu>1</vcpu>\
         <os><type>hvm</type></os><devices><emulator>{QEMU}</emulator></devices></domain>",
        uuid::Uuid::new_v4()
    );
    let text = format!(
        "<domstatus state='running' reason='booted' pid='{}'><monitor path='/etc/passwd' type='unix'/>\
         <libDir path='/etc'/><channelTargetDir path='/'/>{domain}</domstatus>",
        innocent.0.id()
    );
    std::fs::write(folder.join("stale.xml"), text).expect("written");
    assert_eq!(adopt::all(&host.driver).await.expect("adopted"), 0);
    until("the stale file is gone", || !folder.join("stale.xml").exists()).await;
    assert!(innocent.0.try_wait().expect("asked").is_none(), "a stranger's process is left alone");
    assert!(std::path::Path::new("/etc/passwd").exists());
    until("the transient guest is forgotten", || host.driver.guests.is_empty()).await;
    assert!(folder.join("garbage.xml").exists(), "what cannot be read is left alone");
    std::fs::remove_file(folder.join("garbage.xml")).expect("removed");
    std::fs::remove_file(folder.join("empty.xml")).expect("removed");
    assert_eq!(host.driver.ids.next().expect("an id"), 6, "numbers go on after the highest seen");
}

struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
