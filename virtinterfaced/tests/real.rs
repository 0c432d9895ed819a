//! Interfaces for real, in a network namespace of the test's own. Needs root; without it the test says that it was skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use virt_host::link;
use virt_model::interface::Interface;
use virt_object::busy::Busy;
use virtinterfaced::backend::{Backend, Tool};
use virtinterfaced::driver::{Driver, Folders};
use virtinterfaced::transaction;

/// Runs `test` on a runtime whose threads are in a new network namespace with two wires.
fn alone<F: Future<Output = ()>>(test: impl FnOnce(tempfile::TempDir) -> F + Send + 'static) {
    if !nix::unistd::geteuid().is_root() || !Path::new("/sbin/ip").exists() {
        println!("skipped: needs root and ip");
        return;
    }
    let own = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let done =
            Command::new("ip").args("link add eth0 type veth peer name eth1".split(' ')).status().unwrap();
        assert!(done.success());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(test(tempfile::tempdir().unwrap()));
    });
    own.join().unwrap();
}

fn driver(root: &Path) -> Arc<Driver> {
    let folders =
        Folders { config: root.join("etc/libvirt/interface"), transaction: root.join("lib/transaction") };
    std::fs::create_dir_all(root.join("lib")).unwrap();
    let backend = Backend::find(&root.join("etc"));
    assert_eq!(backend.tool, Tool::Kernel, "no tool of the host is told of another root");
    let driver = Driver::new(folders, backend, tokio::runtime::Handle::current(), Busy::new());
    driver.load().unwrap();
    driver
}

const BRIDGE: &str = "<interface type='bridge' name='br7'>\n  <start mode='onboot'/>\n  <mtu size='1400'/>\n  \
    <protocol family='ipv4'>\n    <ip address='10.77.0.1' prefix='24'/>\n  </protocol>\n  \
    <bridge stp='off' delay='0'>\n    <interface type='ethernet' name='eth0'>\n    </interface>\n  </bridge>\n</interface>\n";

fn files(root: &Path) -> Vec<String> {
    let all = std::fs::read_dir(root.join("etc/systemd/network")).unwrap().flatten();
    let mut names: Vec<String> = all.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_bridge_is_defined_started_stopped_and_removed() {
    alone(|root| async move {
        let driver = driver(root.path());
        let row = driver.define(BRIDGE.into()).await.unwrap();
        assert!(!row.active && !link::exists("br7"));
        assert_eq!(driver.document("br7", true).await.unwrap().format(), BRIDGE);
        assert_eq!(files(root.path()), ["10-virt-br7.netdev", "10-virt-br7.network", "10-virt-eth0.network"]);
        driver.start("br7".into()).await.unwrap();
        let live = driver.document("br7", false).await.unwrap();
        assert_eq!((live.mtu, live.inner()[0].name.as_str()), (Some(1400), "eth0"));
        Interface::parse(&live.format()).unwrap();
        let row = driver.by_name("br7").await.unwrap();
        assert!(row.active);
        let mac = row.mac.unwrap().to_string();
        // A bridge takes the address of its port.
        let twice = driver.by_mac(&mac).await.unwrap_err();
        assert_eq!(twice.code() as i32, 59);
        let again = driver.start("br7".into()).await.unwrap_err();
        assert_eq!(again.message(), "Requested operation is not valid: interface is already running");
        // A new daemon knows all of it.
        let second = self::driver(root.path());
        assert_eq!(second.document("br7", true).await.unwrap().format(), BRIDGE);
        second.destroy("br7".into()).await.unwrap();
        assert!(!link::exists("br7") && link::exists("eth0"));
        second.undefine("br7".into()).await.unwrap();
        assert_eq!(second.by_name("br7").await.unwrap_err().code() as i32, 57);
        assert!(files(root.path()).is_empty());
    });
}

#[test]
fn a_failed_start_leaves_nothing() {
    alone(|root| async move {
        let driver = driver(root.path());
        driver.define(BRIDGE.replace("eth0", "nosuch0")).await.unwrap();
        let error = driver.start("br7".into()).await.unwrap_err();
        assert!(error.message().contains("no interface 'nosuch0'"), "{error:?}");
        assert!(!link::exists("br7"));
        driver.define(BRIDGE.replace("<ip address='10.77.0.1' prefix='24'/>", "<dhcp/>")).await.unwrap();
        let error = driver.start("br7".into()).await.unwrap_err();
        assert_eq!(error.code() as i32, 67);
        assert!(!link::exists("br7"));
    });
}

#[test]
fn changes_can_be_taken_back_by_another_daemon() {
    alone(|root| async move {
        let first = driver(root.path());
        let one = "<interface type='ethernet' name='eth1'>\n  <start mode='none'/>\n</interface>\n";
        first.define(one.into()).await.unwrap();
        let before: Vec<_> = files(root.path());
        assert_eq!(transaction::commit(&first).await.unwrap_err().code() as i32, 55);
        transaction::begin(&first).await.unwrap();
        assert_eq!(transaction::begin(&first).await.unwrap_err().code() as i32, 55);
        first.define(BRIDGE.into()).await.unwrap();
        first.start("br7".into()).await.unwrap();
        first.undefine("eth1".into()).await.unwrap();
        drop(first);
        let second = driver(root.path());
        transaction::rollback(&second).await.unwrap();
        assert_eq!(files(root.path()), before);
        assert_eq!(second.document("eth1", true).await.unwrap().format(), one);
        assert!(!second.definitions.load().value.contains_key("br7"));
        assert!(!link::exists("br7") && link::exists("eth0"), "what was made since is gone, cards stay");
        assert_eq!(transaction::rollback(&second).await.unwrap_err().code() as i32, 55);
    });
}

#[test]
fn what_was_there_before_is_not_taken_back() {
    alone(|root| async move {
        let driver = driver(root.path());
        // Somebody else's bridge, of the same name.
        let made = Command::new("ip").args("link add br7 type bridge".split(' ')).status().unwrap();
        assert!(made.success());
        transaction::begin(&driver).await.unwrap();
        driver.define(BRIDGE.into()).await.unwrap();
        transaction::rollback(&driver).await.unwrap();
        assert!(driver.definitions.load().value.is_empty());
        assert!(link::exists("br7"));
    });
}
