//! A daemon in this process, with a service that shows what a handler sees.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use virt_api::domain::v1alpha1::domain_stats_service_client::DomainStatsServiceClient;
use virt_api::domain::v1alpha1::domain_stats_service_server::{DomainStatsService, DomainStatsServiceServer};
use virt_api::domain::v1alpha1::monitor_service_client::MonitorServiceClient;
use virt_api::domain::v1alpha1::monitor_service_server::{MonitorService, MonitorServiceServer};
use virt_api::domain::v1alpha1::*;
use virt_error::{Code, Domain, Error, Result};
use virt_object::busy::Busy;
use virt_rpc::client::{ClientSession, Daemon};
use virt_rpc::descriptor::{Descriptors, KnownSocket, SocketPaths, Trust};
use virt_rpc::listen::{Inherited, Kind, Spec};
use virt_rpc::server::{Server, Services};
use virt_rpc::{Caller, IntoStatus, Sessions};

pub const NAME: &str = "virttestd";
pub const NOBODY: u32 = 65534;

/// A running test daemon.
pub struct Host {
    pub dir: TempDir,
    pub sessions: Sessions,
    pub busy: Busy,
    pub closed: Arc<AtomicUsize>,
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<Result<()>>,
}

impl Host {
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), Duration::from_secs(2)).await
    }

    /// virtproxyd runs as `nobody` here.
    pub async fn start_with_proxy() -> Self {
        Self::start_trusting(tempfile::tempdir().unwrap(), Duration::from_secs(2), vec![NOBODY]).await
    }

    pub async fn start_in(dir: TempDir, drain: Duration) -> Self {
        Self::start_trusting(dir, drain, Vec::new()).await
    }

    async fn start_trusting(dir: TempDir, drain: Duration, proxies: Vec<u32>) -> Self {
        // Other users' threads connect too.
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let known = |name: &str, read_only| KnownSocket { path: dir.path().join(name), read_only };
        let sockets = vec![known("libvirt-sock", false), known("libvirt-sock-ro", true)];
        let busy = Busy::new();
        let server = Server {
            sessions: Sessions::new(busy.clone()),
            descriptors: Descriptors::new(Trust { sockets, proxies }),
            epoch: 77,
            busy: busy.clone(),
        };
        let closed = Arc::new(AtomicUsize::new(0));
        let tester = Tester { descriptors: server.descriptors.clone(), closed: closed.clone() };
        let services = Services::new()
            .add(virt_rpc::service!(MonitorServiceServer, tester.clone()))
            .add(virt_rpc::service!(DomainStatsServiceServer, tester));
        let (stop, mut stopping) = watch::channel(false);
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let paths = SocketPaths::new(dir.path(), NAME);
        let bind = |path: PathBuf, kind| {
            let spec = Spec { name: String::new(), path, kind, mode: 0o666, group: None };
            Inherited::default().take_or_bind(&spec).unwrap()
        };
        let (grpc, channel) = (bind(paths.grpc, Kind::Stream), bind(paths.descriptors, Kind::SeqPacket));
        let sessions = server.sessions.clone();
        let serving = tokio::spawn(async move {
            let until = async move { drop(stopping.wait_for(|s| *s).await) };
            server.serve(services, grpc, channel, move || ready.send(()).unwrap(), until, drain).await
        });
        is_ready.await.unwrap();
        Self { dir, sessions, busy, closed, stop, serving }
    }

    pub fn daemon(&self) -> Daemon {
        Daemon::with_patience(self.dir.path(), NAME, Duration::from_secs(5))
    }

    /// A legacy client's connection: its own end, and the end virtproxyd accepted.
    pub fn legacy_client(&self, listener: &str) -> (UnixStream, UnixStream) {
        let path = self.dir.path().join(listener);
        connect_pair(&path)
    }

    pub async fn stop(self) -> (Result<()>, TempDir) {
        self.stop.send_replace(true);
        (self.serving.await.unwrap(), self.dir)
    }
}

/// Binds `path` anew, connects to it, and gives both ends.
pub fn connect_pair(path: &Path) -> (UnixStream, UnixStream) {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).unwrap();
    let client = UnixStream::connect(path).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Asks a native client's command.
pub async fn command(daemon: &Daemon, text: &str) -> Result<String, Status> {
    send(daemon, Request::new(message(text))).await
}

/// Asks a session's command.
pub async fn command_in(session: &ClientSession, text: &str) -> Result<String, Status> {
    send(session.daemon(), session.request(message(text))).await
}

/// A call that read-only callers may make.
pub async fn look(session: &ClientSession) -> Result<(), Status> {
    let mut client = virt_rpc::client!(DomainStatsServiceClient, session.daemon());
    client.get_block_info(session.request(DeviceStatsRequest::default())).await.map(drop)
}

fn message(text: &str) -> MonitorCommandRequest {
    MonitorCommandRequest { command: text.to_string(), ..Default::default() }
}

async fn send(daemon: &Daemon, request: Request<MonitorCommandRequest>) -> Result<String, Status> {
    let mut client = virt_rpc::client!(MonitorServiceClient, daemon);
    Ok(client.command(request).await?.into_inner().result)
}

/// Runs `work` on a thread of user `nobody`; only root can.
pub fn as_nobody<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can act as another user");
        return None;
    }
    let thread = std::thread::spawn(move || {
        let (uid, gid) = (rustix::process::Uid::from_raw(NOBODY), rustix::process::Gid::from_raw(NOBODY));
        // The raw calls change this thread only.
        rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        work()
    });
    Some(thread.join().unwrap())
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

#[derive(Clone)]
struct Tester {
    descriptors: Descriptors,
    closed: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl MonitorService for Tester {
    async fn command(
        &self,
        request: Request<MonitorCommandRequest>,
    ) -> Result<Response<MonitorCommandResponse>, Status> {
        let caller = Caller::of(&request)?;
        let command = request.into_inner().command;
        let result = self.act(&caller, &command).await.status()?;
        Ok(Response::new(MonitorCommandResponse { result }))
    }
}

impl Tester {
    async fn act(&self, caller: &Caller, command: &str) -> Result<String> {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        match verb {
            "who" => {
                let id = caller.identity();
                let name = id.asserted.as_ref().map(|a| format!("{}:{}", a.mechanism, a.name));
                Ok(format!("uid={:?} name={name:?} ro={}", id.unix.map(|p| p.uid), caller.read_only()))
            }
            "fail" => Err(Error::new(Code::NoDomain, Domain::Qemu, rest)),
            "panic" => panic!("on purpose"),
            "hang" => std::future::pending().await,
            "hook" => {
                let session = caller.session().ok_or_else(|| Error::internal(Domain::None, "no session"))?;
                let closed = self.closed.clone();
                session.on_close(rest, move || async move { _ = closed.fetch_add(1, Ordering::SeqCst) })?;
                Ok(String::new())
            }
            "park" => {
                let (ours, theirs) = UnixStream::pair().unwrap();
                std::io::Write::write_all(&mut &ours, b"parked").unwrap();
                Ok(hex(&self.descriptors.park(vec![OwnedFd::from(theirs)], caller)?))
            }
            "take" => {
                let mut text = String::new();
                for descriptor in self.descriptors.take_offer(&unhex(rest), caller)? {
                    std::fs::File::from(descriptor).read_to_string(&mut text).unwrap();
                }
                Ok(text)
            }
            "echo" => Ok(rest.to_string()),
            _ => Err(Error::internal(Domain::None, "no such verb")),
        }
    }
}

#[tonic::async_trait]
impl DomainStatsService for Tester {
    async fn get_all(&self, _: Request<GetAllStatsRequest>) -> Result<Response<GetAllStatsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_block_info(
        &self,
        _: Request<DeviceStatsRequest>,
    ) -> Result<Response<BlockInfoResponse>, Status> {
        Ok(Response::new(BlockInfoResponse::default()))
    }

    async fn get_block_stats(
        &self,
        _: Request<DeviceStatsRequest>,
    ) -> Result<Response<StatsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_disk_errors(
        &self,
        _: Request<FlagsStatsRequest>,
    ) -> Result<Response<DiskErrorsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn start_dirty_rate(&self, _: Request<StartDirtyRateRequest>) -> Result<Response<Empty>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_cpu_stats(&self, _: Request<CpuStatsRequest>) -> Result<Response<CpuStatsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_memory_stats(
        &self,
        _: Request<FlagsStatsRequest>,
    ) -> Result<Response<MemoryStatsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}
