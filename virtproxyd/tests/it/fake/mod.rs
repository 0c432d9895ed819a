//! A hypervisor daemon without a hypervisor: the real gRPC server, sessions and descriptor channel over a table of
//! domains in memory. It runs on a thread of its own and can be killed and started again on the same state.

#![allow(dead_code, reason = "each test binary uses a part")]

mod stubs;

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use tonic::Status;
use virt_api::common::v1alpha1 as common;
use virt_api::domain::v1alpha1::domain_console_service_server::DomainConsoleServiceServer;
use virt_api::domain::v1alpha1::domain_service_server::DomainServiceServer;
use virt_api::domain::v1alpha1::{self as domain, watch_response::Event};
use virt_api::host::v1alpha1::host_service_server::HostServiceServer;
use virt_error::{Code, Domain, Error};
use virt_object::busy::Busy;
use virt_object::changes;
use virt_rpc::descriptor::{Descriptors, KnownSocket, SocketPaths, Trust};
use virt_rpc::listen::{Inherited, Kind, Spec};
use virt_rpc::server::{Server, Services};
use virt_rpc::session::Sessions;

pub struct State {
    pub domains: Mutex<BTreeMap<String, domain::Domain>>,
    pub journal: Mutex<Journal>,
    /// Told whenever an event was appended.
    pub appended: watch::Sender<u64>,
    /// How many sessions are open now.
    pub sessions: Mutex<Vec<virt_rpc::session::Session>>,
    /// The other end of the console that was opened last.
    pub console: Mutex<Option<UnixStream>>,
    /// While set, GetXml waits: a call that hangs.
    pub hold: watch::Sender<bool>,
    pub release: Notify,
    /// How often Get was asked.
    pub gets: AtomicUsize,
}

pub struct Journal {
    pub epoch: u64,
    /// The number of the first event that is still there.
    pub first: u64,
    pub events: Vec<domain::WatchResponse>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            domains: Mutex::default(),
            journal: Mutex::new(Journal { epoch: 7, first: 1, events: Vec::new() }),
            appended: watch::Sender::new(0),
            sessions: Mutex::default(),
            console: Mutex::default(),
            hold: watch::Sender::new(false),
            release: Notify::new(),
            gets: AtomicUsize::new(0),
        }
    }
}

pub fn uuid(n: u8) -> [u8; 16] {
    [n; 16]
}

impl State {
    /// Adds an inactive domain.
    pub fn define(&self, name: &str, n: u8) {
        let domain = domain::DomainRef { uuid: uuid(n).to_vec().into(), name: name.to_string(), id: None };
        let state = domain::DomainState { state: domain::State::Shutoff.into(), reason: 0 };
        let row = domain::Domain {
            domain: Some(domain),
            state: Some(state),
            persistent: true,
            os_type: "hvm".to_string(),
            max_memory: 262_144,
            vcpus: 2,
            ..Default::default()
        };
        self.domains.lock().insert(name.to_string(), row);
        changes::note();
    }

    pub fn event(&self, name: &str, event: Event) {
        let domain = self.domains.lock().get(name).and_then(|d| d.domain.clone());
        let mut journal = self.journal.lock();
        let number = journal.first + journal.events.len() as u64;
        let cursor = Some(common::Cursor { epoch: journal.epoch, number });
        journal.events.push(domain::WatchResponse { cursor, domain, event: Some(event) });
        drop(journal);
        self.appended.send_replace(number);
    }

    /// The domain that a reference names.
    pub fn find(&self, wanted: Option<domain::DomainRef>) -> Result<domain::Domain, Error> {
        let wanted = wanted.unwrap_or_default();
        let domains = self.domains.lock();
        let same = |d: &domain::DomainRef| match (wanted.uuid.is_empty(), wanted.name.as_str(), wanted.id) {
            (false, ..) => d.uuid == wanted.uuid,
            (true, "", id) => id.is_some() && d.id == id,
            (true, name, _) => d.name == name,
        };
        let found = domains.values().find(|row| row.domain.as_ref().is_some_and(same)).cloned();
        let name = wanted.name;
        found.ok_or_else(|| {
            Error::new(Code::NoDomain, Domain::Qemu, format!("no domain with matching name '{name}'"))
        })
    }

    pub fn set_running(&self, name: &str, id: Option<u32>) {
        let mut domains = self.domains.lock();
        let row = domains.get_mut(name).expect("the domain is there");
        row.domain.as_mut().expect("a row has its domain").id = id;
        let state = if id.is_some() { domain::State::Running } else { domain::State::Shutoff };
        row.state = Some(domain::DomainState { state: state.into(), reason: 1 });
        drop(domains);
        changes::note();
    }
}

pub fn lacking() -> Status {
    Status::unimplemented("the fake does not do this")
}

/// The handlers of all services.
#[derive(Clone)]
pub struct Handlers {
    pub state: Arc<State>,
    pub descriptors: Descriptors,
}

/// A running fake.
pub struct Fake {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// Starts `daemon` with its sockets in `dir/grpc`, for clients of the socket at `legacy`.
    pub fn start(dir: &Path, daemon: &str, legacy: &[(PathBuf, bool)], state: Arc<State>) -> Self {
        let (dir, daemon, legacy) = (dir.join("grpc"), daemon.to_string(), legacy.to_vec());
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let serving = serve(dir, &daemon, legacy, state, move || ready.send(()).unwrap());
                tokio::select! {
                    () = serving => {}
                    // Dropped where it stands, as by kill -9: no drain, no farewell.
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv_timeout(Duration::from_secs(10)).expect("the fake starts");
        Self { stop: Some(stop), thread: Some(thread) }
    }

    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.end();
    }
}

async fn serve(
    dir: PathBuf,
    daemon: &str,
    legacy: Vec<(PathBuf, bool)>,
    state: Arc<State>,
    ready: impl FnOnce(),
) {
    let busy = Busy::new();
    let sockets = legacy.into_iter().map(|(path, read_only)| KnownSocket { path, read_only }).collect();
    let descriptors = Descriptors::new(Trust { sockets, proxies: Vec::new() });
    let epoch = state.journal.lock().epoch;
    let server =
        Server { sessions: Sessions::new(busy.clone()), descriptors: descriptors.clone(), epoch, busy };
    let handlers = Handlers { state, descriptors };
    let services = Services::new()
        .add(virt_rpc::service!(DomainServiceServer, handlers.clone()))
        .add(virt_rpc::service!(DomainConsoleServiceServer, handlers.clone()))
        .add(virt_rpc::service!(HostServiceServer, handlers));
    let paths = SocketPaths::new(&dir, daemon);
    let bind = |name: String, path: PathBuf, kind| {
        Inherited::default().take_or_bind(&Spec { name, path, kind, mode: 0o600, group: None }).unwrap()
    };
    let grpc = bind(format!("{daemon}.sock"), paths.grpc, Kind::Stream);
    let channel = bind(format!("{daemon}-fd"), paths.descriptors, Kind::SeqPacket);
    server.serve(services, grpc, channel, ready, std::future::pending(), Duration::ZERO).await.unwrap();
}
