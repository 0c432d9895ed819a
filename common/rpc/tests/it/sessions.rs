//! Sessions: opened with a token, used by metadata, ended by their stream.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tonic::Request;
use virt_api::domain::v1alpha1::MonitorCommandRequest;
use virt_api::domain::v1alpha1::monitor_service_client::MonitorServiceClient;
use virt_api::session::v1alpha1::OpenRequest;
use virt_api::session::v1alpha1::session_service_client::SessionServiceClient;
use virt_error::Code;
use virt_rpc::client::{Client, ClientSession, Daemon};
use virt_rpc::from_status;
use virt_rpc::session::METADATA;

use crate::harness::*;

async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} did not happen in 5 s");
}

#[tokio::test]
async fn a_sessions_end_runs_its_hooks() {
    let host = Host::start().await;
    let (_client, accepted) = host.legacy_client("libvirt-sock");
    let client = || Client { socket: Some(accepted.as_fd()), ..Client::default() };
    let one = ClientSession::open(&host.daemon(), client()).await.unwrap();
    let two = ClientSession::open(&host.daemon(), client()).await.unwrap();
    command_in(&one, "hook a").await.unwrap();
    command_in(&one, "hook b").await.unwrap();
    command_in(&two, "hook c").await.unwrap();
    assert_eq!((host.sessions.len(), host.busy.count()), (2, 2));
    drop(one);
    eventually("the end of session one", || host.sessions.len() == 1).await;
    eventually("its two hooks", || host.closed.load(Ordering::SeqCst) == 2).await;
    command_in(&two, "who").await.unwrap();
    drop(two);
    eventually("the third hook", || host.closed.load(Ordering::SeqCst) == 3).await;
    eventually("the daemon being idle", || host.busy.count() == 0).await;
}

#[tokio::test]
async fn a_dead_proxy_ends_its_sessions() {
    let host = Host::start().await;
    let dir = host.dir.path().to_path_buf();
    // Its runtime ends as if it had been killed: the connection just closes.
    let proxy = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let session = ClientSession::open(&Daemon::new(dir, NAME), Client::default()).await.unwrap();
            command_in(&session, "hook a").await.unwrap();
            std::mem::forget(session);
        });
    });
    eventually("the hook", || host.closed.load(Ordering::SeqCst) == 1).await;
    proxy.join().unwrap();
    assert!(host.sessions.is_empty());
}

#[tokio::test]
async fn unknown_and_foreign_sessions_are_refused() {
    let host = Host::start().await;
    let call = |id: String| {
        let mut request = Request::new(MonitorCommandRequest { command: "who".into(), ..Default::default() });
        request.metadata_mut().insert(METADATA, id.parse().unwrap());
        request
    };
    let mut client = MonitorServiceClient::new(host.daemon().channel());
    for id in ["", "00000000000000000000000000000000", "x y"] {
        let status = client.command(call(id.into())).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
        assert_eq!(from_status(&status).code(), Code::AuthFailed);
    }
    // A session of ours, used by another user who somehow learned its id.
    let mut sessions = SessionServiceClient::new(host.daemon().channel());
    let mut stream = sessions.open(OpenRequest::default()).await.unwrap().into_inner();
    let id = stream.message().await.unwrap().unwrap().session;
    client.command(call(id.clone())).await.unwrap();
    let (dir, stolen) = (host.dir.path().to_path_buf(), call(id));
    let status = tokio::task::spawn_blocking(move || {
        as_nobody(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let channel = Daemon::new(dir, NAME).channel();
                MonitorServiceClient::new(channel).command(stolen).await.unwrap_err()
            })
        })
    });
    if let Some(status) = status.await.unwrap() {
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
    }
}

#[tokio::test]
async fn a_token_opens_one_session() {
    let host = Host::start().await;
    let mut sessions = SessionServiceClient::new(host.daemon().channel());
    for token in [vec![1u8; 16], vec![1; 3], vec![1; 100]] {
        let open = OpenRequest { token: token.into(), ..Default::default() };
        let status = sessions.open(open).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
    }
    assert!(host.sessions.is_empty());
}

#[tokio::test]
async fn the_daemons_end_closes_sessions_and_runs_hooks() {
    let host = Host::start().await;
    let session = ClientSession::open(&host.daemon(), Client::default()).await.unwrap();
    command_in(&session, "hook a").await.unwrap();
    let closed = host.closed.clone();
    assert!(!session.is_closed());
    let (result, _dir) = host.stop().await;
    result.unwrap();
    session.closed().await;
    eventually("the hook", || closed.load(Ordering::SeqCst) == 1).await;
}
