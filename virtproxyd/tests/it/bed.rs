//! A proxy with its sockets in a temporary folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use virt_error::Error;
use virt_wire::client::Client;
use virt_wire::remote::NonnullDomain;
use virtproxyd::house::House;
use virtproxyd::limits::Limits;
use virtproxyd::link::Entry;
use virtproxyd::server::{self, Room};

use crate::fake::{Fake, State, uuid};

pub struct Bed {
    dir: TempDir,
    pub state: Arc<State>,
    pub fake: Option<Fake>,
}

impl Bed {
    /// A proxy and a running "virtqemud" that has the inactive domains `vm1` and `vm2`.
    pub fn start() -> Self {
        Self::with_limits(Limits::default())
    }

    pub fn with_limits(limits: Limits) -> Self {
        let mut bed = Self::without_daemon(limits);
        bed.start_fake();
        bed
    }

    /// The proxy alone. Must be called inside the runtime that shall run it.
    pub fn without_daemon(limits: Limits) -> Self {
        let dir = tempfile::Builder::new().prefix("px").tempdir().unwrap();
        let state = Arc::new(State::default());
        state.define("vm1", 1);
        state.define("vm2", 2);
        let house = Arc::new(House::new(dir.path().join("grpc"), true, limits));
        let room = Room::new(&limits, Default::default());
        for read_only in [false, true] {
            let name = if read_only { "libvirt-sock-ro" } else { "libvirt-sock" };
            let entry = Entry { name: name.to_string(), read_only, only: None };
            let door = server::door(&dir.path().join(name), entry).unwrap();
            tokio::spawn(server::accept(door, house.clone(), room.clone()));
        }
        Self { dir, state, fake: None }
    }

    pub fn start_fake(&mut self) {
        let legacy = [(self.socket(), false), (self.socket_ro(), true)];
        self.fake = Some(Fake::start(self.dir.path(), "virtqemud", &legacy, self.state.clone()));
    }

    pub fn kill_fake(&mut self) {
        self.fake.take().unwrap().kill();
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("libvirt-sock")
    }

    pub fn socket_ro(&self) -> PathBuf {
        self.dir.path().join("libvirt-sock-ro")
    }

    pub async fn client(&self) -> Client {
        Client::open_unix(self.socket(), "qemu:///system", false).await.unwrap()
    }

    pub async fn client_ro(&self) -> Client {
        Client::open_unix(self.socket_ro(), "qemu:///system", true).await.unwrap()
    }
}

pub fn dom(name: &str, n: u8) -> NonnullDomain {
    NonnullDomain { name: name.to_string(), uuid: uuid(n), id: -1 }
}

/// Code, domain and text, as a client sees an error.
pub fn parts(error: &Error) -> (i32, i32, String) {
    (error.code() as i32, error.domain() as i32, error.message())
}

/// Waits for a condition, up to ten seconds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain: {what}");
}
