//! Reaching a daemon that is missing, silent, starting or restarting.

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use virt_error::Code;
use virt_rpc::client::{Client, ClientSession, Daemon, Unreachable};
use virt_rpc::{from_status, to_status};

use crate::harness::*;

#[tokio::test]
async fn a_missing_daemon_is_told_from_a_silent_one() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::with_patience(dir.path(), NAME, Duration::from_millis(200));
    assert!(!daemon.installed());
    let status = command(&daemon, "who").await.unwrap_err();
    assert!(!Unreachable::cause_of(&status).unwrap().installed());

    let path = dir.path().join("virttestd.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(daemon.installed());
    let start = Instant::now();
    let status = command(&daemon, "who").await.unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(100), "gave up after {:?}", start.elapsed());
    assert!(Unreachable::cause_of(&status).unwrap().installed());
    let error = from_status(&status);
    let expected = format!("Failed to connect socket to '{}': Connection refused", path.display());
    assert_eq!((error.code(), error.message()), (Code::SystemError, expected));
    // The error can go on to the next client.
    assert_eq!(from_status(&to_status(&error)).message(), error.message());
}

#[tokio::test]
async fn a_daemon_that_starts_late_is_reached() {
    let dir = tempfile::tempdir().unwrap();
    drop(UnixListener::bind(dir.path().join("virttestd.sock")).unwrap());
    let daemon = Daemon::with_patience(dir.path(), NAME, Duration::from_secs(5));
    let call = tokio::spawn(async move { command(&daemon, "echo late").await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let _host = Host::start_in(dir, Duration::from_secs(1)).await;
    assert_eq!(call.await.unwrap().unwrap(), "late");
}

#[tokio::test]
async fn a_restarted_daemon_is_reached_by_the_next_call() {
    let host = Host::start().await;
    let daemon = host.daemon();
    let session = ClientSession::open(&daemon, Client::default()).await.unwrap();
    command(&daemon, "who").await.unwrap();
    let (_, dir) = host.stop().await;
    session.closed().await;
    let _host = Host::start_in(dir, Duration::from_secs(1)).await;
    assert_eq!(command(&daemon, "echo again").await.unwrap(), "again");
    // The old session is gone, a new one works.
    assert_eq!(command_in(&session, "who").await.unwrap_err().code(), tonic::Code::Unauthenticated);
    let session = ClientSession::open(&daemon, Client::default()).await.unwrap();
    command_in(&session, "who").await.unwrap();
}

#[tokio::test]
async fn many_sessions_share_one_connection() {
    let host = Host::start().await;
    let daemon = host.daemon();
    let mut sessions = Vec::new();
    for _ in 0..1000 {
        sessions.push(ClientSession::open(&daemon, Client::default()).await.unwrap());
    }
    assert_eq!(host.sessions.len(), 1000);
    command_in(&sessions[999], "who").await.unwrap();
}
