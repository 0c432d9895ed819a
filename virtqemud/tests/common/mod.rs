//! A driver on a temporary root, with a planner that writes command lines by hand.
#![allow(dead_code, clippy::expect_used, clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use uuid::Uuid;
use virt_api::domain::v1alpha1 as api;
use virt_api::domain::v1alpha1::watch_response::Event;
use virt_daemon::Conf;
use virt_error::Result;
use virt_model::Mode;
use virt_model::domain::Domain;
use virt_object::busy::Busy;
use virt_object::owner::{Class, Spec};
use virtqemud::driver::{Driver, EventSink, Parts};
use virtqemud::guest::plan::{Command, Place, Planner};
use virtqemud::guest::start::Start;
use virtqemud::guest::{Guest, Published};
use virtqemud::process::paths::Folders;
use virtqemud::settings::Settings;

pub const QEMU: &str = "/usr/bin/qemu-system-x86_64";
pub const START: Spec = Spec::new("start", Class::Lifecycle);

/// Remembers events as short words.
#[derive(Default)]
pub struct Recorder(Mutex<Vec<String>>);

impl EventSink for Recorder {
    fn append(&self, domain: api::DomainRef, event: Event) {
        let id = domain.id.map_or("-".to_string(), |id| id.to_string());
        let word = match event {
            Event::Lifecycle(e) => format!("{id} lifecycle {} {}", e.event, e.detail),
            Event::AgentLifecycle(e) => format!("{id} agent {} {}", e.state, e.reason),
            Event::Reboot(_) => format!("{id} reboot"),
            other => format!("{id} {other:?}"),
        };
        self.0.lock().push(word);
    }
}

impl Recorder {
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

/// Writes the smallest command line; documents may add arguments of their own by `qemu:arg`.
pub struct Bare;

impl Planner for Bare {
    fn prepare(&self, config: &Domain, _: &Place) -> Result<Domain> {
        let mut live = config.clone();
        for (at, serial) in live.devices.serials.iter_mut().enumerate() {
            serial.info.alias = Some(format!("serial{at}"));
        }
        for (at, channel) in live.devices.channels.iter_mut().enumerate() {
            channel.info.alias = Some(format!("channel{at}"));
        }
        Ok(live)
    }

    fn command(&self, live: &Domain, place: &Place) -> Result<Command> {
        let program = live.devices.emulator.clone().unwrap_or_else(|| QEMU.into());
        let name = live.name.clone().unwrap_or_default();
        let mut argv: Vec<String> = vec![program, "-name".into(), format!("guest={name}")];
        argv.extend(
            ["-S", "-machine", "pc", "-accel", "tcg", "-m", "16", "-nodefaults", "-display", "none"]
                .map(Into::into),
        );
        argv.extend(["-no-user-config", "-no-shutdown", "-chardev"].map(Into::into));
        argv.push(format!("socket,id=charmonitor,fd={},server=on,wait=off", place.monitor));
        argv.extend(["-mon", "chardev=charmonitor,id=monitor,mode=control"].map(Into::into));
        for serial in &live.devices.serials {
            let alias = serial.info.alias.clone().unwrap_or_default();
            argv.extend(["-chardev".into(), format!("pty,id=char{alias}")]);
            argv.extend(["-device".into(), format!("isa-serial,chardev=char{alias},id={alias}")]);
        }
        argv.extend(live.qemu.args.clone());
        let env = vec![("LC_ALL".into(), "C".into()), ("PATH".into(), "/usr/bin:/bin".into())];
        Ok(Command { argv, env, version: "test".into(), memlock: None })
    }
}

/// A driver with its root.
pub struct Host {
    pub root: tempfile::TempDir,
    pub driver: Arc<Driver>,
    pub events: Arc<Recorder>,
    pub busy: Busy,
}

impl Host {
    pub fn new() -> Self {
        Self::on(tempfile::Builder::new().prefix("vq").tempdir().expect("a folder"))
    }

    /// A driver on an existing root: what a restarted daemon is.
    pub fn on(root: tempfile::TempDir) -> Self {
        Self::with(root, Arc::new(Bare))
    }

    pub fn with(root: tempfile::TempDir, planner: Arc<dyn Planner>) -> Self {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).expect("open to QEMU");
        let events = Arc::new(Recorder::default());
        let busy = Busy::new();
        let conf = Conf::parse("qemu.conf", "").expect("a file");
        let is_root = nix::unistd::geteuid().is_root();
        let driver = Driver::new(Parts {
            settings: Settings::read(&conf).expect("defaults"),
            folders: Folders::system(root.path()),
            busy: busy.clone(),
            work: tokio::runtime::Handle::current(),
            planner,
            events: events.clone(),
            launcher: launcher(),
            partition: is_root.then(|| format!("/machine/virtd-test-{}", std::process::id())),
            sockets: root.path().join("run/libvirt/grpc"),
            port_locks: root.path().join("ports"),
        })
        .expect("a driver");
        Self { root, driver, events, busy }
    }

    pub fn define(&self, name: &str, devices: &str, rest: &str) -> Arc<Guest> {
        let xml = format!(
            "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>{name}</name>\
             <memory unit='MiB'>16</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os>{rest}\
             <devices><emulator>{QEMU}</emulator>{devices}</devices></domain>"
        );
        self.define_xml(&xml)
    }

    pub fn define_xml(&self, xml: &str) -> Arc<Guest> {
        let mut config = Domain::parse(xml, Mode::CONFIG).expect("a document");
        let uuid = Uuid::new_v4();
        config.uuid = Some(uuid);
        let name = config.name.clone().expect("a name");
        let published = Published::inactive(&name, Some(Arc::new(config)));
        let guest = Guest::new(&self.driver, uuid, published);
        self.driver.guests.insert(&name, uuid, guest).expect("inserted")
    }

    pub async fn start(&self, guest: &Guest, how: Start) -> Result<()> {
        let config = guest.published().value.config.clone().expect("persistent");
        guest.work(START, move |w| Box::pin(w.start(config, how))).await
    }

    /// What is left of guests: files under /run and private folders, control groups.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let f = &self.driver.folders;
        let mut left = Vec::new();
        for dir in [f.state.clone(), f.state.join("channel"), f.lib.clone(), f.lib.join("ram")] {
            for entry in std::fs::read_dir(&dir).expect("a folder").flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if !matches!(name.as_str(), "channel" | "ram" | "nvram" | "save" | "virtd-next-id") {
                    left.push(entry.path());
                }
            }
        }
        let partition = self.driver.partition.clone().unwrap_or_default();
        for controller in ["cpu", "cpuset", "memory", "unified"] {
            let dir = Path::new("/sys/fs/cgroup").join(controller).join(partition.trim_start_matches('/'));
            if partition.is_empty() || !dir.is_dir() {
                continue;
            }
            let entries = std::fs::read_dir(dir).expect("a folder").flatten();
            left.extend(entries.filter(|e| e.path().is_dir()).map(|e| e.path()));
        }
        left
    }

    /// Ends what a failed test left running.
    pub fn clean(&self) {
        for guest in self.driver.guests.list().iter() {
            if let Some(process) = guest.shared().process() {
                let _ = process.signal(rustix::process::Signal::KILL);
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.clean();
        let Some(partition) = &self.driver.partition else { return };
        for controller in ["cpu", "cpuset", "memory", "blkio", "freezer", "unified"] {
            let dir = Path::new("/sys/fs/cgroup").join(controller).join(partition.trim_start_matches('/'));
            for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten().filter(|e| e.path().is_dir())
            {
                let _ = std::fs::remove_dir(entry.path());
            }
            let _ = std::fs::remove_dir(dir);
        }
    }
}

/// The launcher beside the test's own folder.
pub fn launcher() -> PathBuf {
    let exe = std::env::current_exe().expect("a path");
    let path = exe.parent().and_then(Path::parent).expect("target folder").join("virt-launch");
    assert!(
        path.exists(),
        "{} is missing: build the workspace first (cargo build -p virt-launch)",
        path.display()
    );
    path
}

pub fn has_qemu() -> bool {
    let there = Path::new(QEMU).exists();
    if !there {
        eprintln!("skipped: no {QEMU}");
    }
    there
}

/// Waits for a condition, at most ten seconds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(10), "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
