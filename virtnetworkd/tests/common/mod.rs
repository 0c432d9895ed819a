//! What tests with real networks share: a network namespace of their own, a driver, and places to speak from.
#![allow(dead_code, reason = "each test uses its part")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use virt_error::Domain;
use virt_host::link;
use virt_object::busy::Busy;
use virt_object::events::{Journal, Limits};
use virt_object::owner::Kind;
use virtnetworkd::driver::{Driver, Folders};

/// Runs `test` on a runtime whose threads, and all they start, are in a new network namespace.
pub fn alone<F: Future<Output = ()>>(test: impl FnOnce(tempfile::TempDir) -> F + Send + 'static) {
    let tools = ["/usr/sbin/dnsmasq", "/usr/sbin/nft"].iter().all(|t| Path::new(t).exists());
    if !nix::unistd::geteuid().is_root() || !tools {
        println!("skipped: needs root, dnsmasq and nft");
        return;
    }
    let own = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(test(tempfile::tempdir().unwrap()));
    });
    own.join().unwrap();
}

pub fn driver(root: &Path) -> Arc<Driver> {
    let folders = Folders {
        config: root.join("etc"),
        run: root.join("run"),
        dnsmasq: root.join("dnsmasq"),
        hook: root.join("hook"),
        firewalld: root.join("firewall-cmd"),
        sys: virt_host::sriov::Sysfs::at(&root.join("sys")),
    };
    std::fs::create_dir_all(&folders.run).unwrap();
    // dnsmasq reads its host files without rights of its own.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(root, open).unwrap();
    let journal = Journal::open(&folders.run.join("events"), Limits::default(), Busy::new()).unwrap();
    let kind = Kind::new(Domain::Network, tokio::runtime::Handle::current(), Busy::new());
    let helper = env!("CARGO_BIN_EXE_virt-leaseshelper").into();
    Driver::new(folders, kind, Arc::new(journal), helper).unwrap()
}

pub fn rules() -> String {
    let out = Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

/// No bridge, rule, process or file is left of a network on vt1.
pub fn nothing_left(driver: &Driver) {
    assert!(!link::exists("vt1") && !rules().contains("virt_network"), "{}", rules());
    let left = |dir: &Path, ending: &str| {
        std::fs::read_dir(dir).unwrap().flatten().any(|e| e.file_name().to_string_lossy().ends_with(ending))
    };
    assert!(!left(&driver.folders.run, ".xml") && !left(&driver.folders.run, ".pid"));
    assert!(!left(&driver.folders.dnsmasq, ".conf"));
}

/// Runs a program that must succeed.
#[track_caller]
pub fn run(program: &str, args: &[&str]) {
    let done = Command::new(program).args(args).output().unwrap();
    assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A network namespace with one card: a guest, or a host outside.
pub struct Place {
    holder: Option<std::process::Child>,
}

impl Place {
    /// Behind a cable with the end `h-NAME` here, on a bridge and with a way out if one is given.
    pub fn new(name: &str, address: &str, at: Option<(&str, &str)>) -> Self {
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let holder = Command::new("unshare").args(["-n", "sleep", "600"]).spawn().unwrap();
        let pid = holder.id().to_string();
        while std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|n| n == own) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let end = format!("h-{name}");
        run("ip", &["link", "add", &end, "type", "veth", "peer", "name", "eth0", "netns", &pid]);
        run("ip", &["link", "set", &end, "up"]);
        let place = Self { holder: Some(holder) };
        let net = format!("--net={}", place.path());
        run("nsenter", &[&net, "ip", "address", "add", address, "dev", "eth0"]);
        run("nsenter", &[&net, "ip", "link", "set", "eth0", "up"]);
        if let Some((bridge, gateway)) = at {
            run("ip", &["link", "set", &end, "master", bridge]);
            run("nsenter", &[&net, "ip", "route", "add", "default", "via", gateway]);
        }
        place
    }

    /// Where the test itself is.
    pub fn here() -> Self {
        Self { holder: None }
    }

    /// The file that stands for the namespace.
    pub fn path(&self) -> String {
        self.holder
            .as_ref()
            .map_or_else(|| "/proc/thread-self/ns/net".into(), |h| format!("/proc/{}/ns/net", h.id()))
    }

    /// Runs something there, on a thread of its own.
    pub fn within<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(self.path()).unwrap();
        std::thread::scope(|scope| {
            let there = scope.spawn(move || {
                nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                what()
            });
            there.join().unwrap()
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(holder) = &mut self.holder {
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}
