//! What one small call costs over a unix socket, with all layers (access, session, panic guard) and without: two runtimes
//! of one thread each, as a daemon and virtproxyd have.
//!
//! `cargo bench -p virt-rpc` prints the time of a call in order, and calls per second with 32 in flight.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test or benchmark stops at the first surprise")]

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tonic::{Request, Response, Status};
use virt_api::domain::v1alpha1::monitor_service_client::MonitorServiceClient;
use virt_api::domain::v1alpha1::monitor_service_server::{MonitorService, MonitorServiceServer};
use virt_api::domain::v1alpha1::{MonitorCommandRequest, MonitorCommandResponse};
use virt_object::busy::Busy;
use virt_rpc::Sessions;
use virt_rpc::client::{Client, ClientSession, Daemon};
use virt_rpc::descriptor::{Descriptors, SocketPaths, Trust};
use virt_rpc::listen::{Inherited, Kind, Spec};
use virt_rpc::peer::Connection;
use virt_rpc::server::{Server, Services};

const NAME: &str = "virtbenchd";
const CALLS: u32 = 20_000;

struct Echo;

#[tonic::async_trait]
impl MonitorService for Echo {
    async fn command(
        &self,
        r: Request<MonitorCommandRequest>,
    ) -> Result<Response<MonitorCommandResponse>, Status> {
        Ok(Response::new(MonitorCommandResponse { result: r.into_inner().command }))
    }
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// The house's server.
fn serve_full(dir: &Path) {
    let paths = SocketPaths::new(dir, NAME);
    let bind = |path, kind| {
        let spec = Spec { name: String::new(), path, kind, mode: 0o600, group: None };
        Inherited::default().take_or_bind(&spec).unwrap()
    };
    std::thread::spawn(move || {
        one_thread().block_on(async move {
            let busy = Busy::new();
            let server = Server {
                sessions: Sessions::new(busy.clone()),
                descriptors: Descriptors::new(Trust::default()),
                epoch: 1,
                busy,
            };
            let services = Services::new().add(virt_rpc::service!(MonitorServiceServer, Echo));
            let (grpc, channel) = (bind(paths.grpc, Kind::Stream), bind(paths.descriptors, Kind::SeqPacket));
            server
                .serve(services, grpc, channel, || {}, std::future::pending(), Duration::ZERO)
                .await
                .unwrap();
        });
    });
}

/// tonic alone, for comparison.
fn serve_bare(dir: &Path) {
    let path = SocketPaths::new(dir, NAME).grpc;
    std::thread::spawn(move || {
        one_thread().block_on(async move {
            let listener = tokio::net::UnixListener::bind(path).unwrap();
            let incoming = async_stream(listener);
            tonic::transport::Server::builder()
                .add_service(MonitorServiceServer::new(Echo))
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
    });
}

fn async_stream(
    listener: tokio::net::UnixListener,
) -> impl futures_util::Stream<Item = std::io::Result<Connection>> {
    futures_util::stream::unfold(listener, |l| async move {
        Some((Connection::new(l.accept().await.unwrap().0), l))
    })
}

fn measure(label: &str, dir: &Path, in_session: bool) {
    let path = SocketPaths::new(dir, NAME).grpc;
    while !path.exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    one_thread().block_on(async {
        let daemon = Daemon::new(dir, NAME);
        let session = match in_session {
            true => Some(ClientSession::open(&daemon, Client::default()).await.unwrap()),
            false => None,
        };
        let message = || MonitorCommandRequest { command: "x".into(), ..Default::default() };
        let request = || session.as_ref().map_or_else(|| Request::new(message()), |s| s.request(message()));
        let mut client = MonitorServiceClient::new(daemon.channel());
        let mut times = Vec::new();
        for _ in 0..CALLS {
            let start = Instant::now();
            client.command(request()).await.unwrap();
            times.push(start.elapsed());
        }
        times.sort_unstable();
        let start = Instant::now();
        let callers = (0..32).map(|_| {
            let mut client = client.clone();
            let request = &request;
            async move {
                for _ in 0..CALLS / 32 {
                    client.command(request()).await.unwrap();
                }
            }
        });
        futures_util::future::join_all(callers).await;
        let rate = f64::from(CALLS) / start.elapsed().as_secs_f64();
        let at = |part: usize| times[times.len() * part / 100];
        println!(
            "{label:<28} median {:>9.1?}  p99 {:>9.1?}  {rate:>8.0} calls/s with 32 in flight",
            at(50),
            at(99)
        );
    });
}

fn main() {
    for _ in 0..2 {
        let (bare, full) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        serve_bare(bare.path());
        serve_full(full.path());
        measure("tonic alone", bare.path(), false);
        measure("all layers, native caller", full.path(), false);
        measure("all layers, in a session", full.path(), true);
    }
}
