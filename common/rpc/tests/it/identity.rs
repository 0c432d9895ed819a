//! Who the daemon believes a client to be.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use virt_error::Code;
use virt_rpc::client::{Client, ClientSession, Daemon};
use virt_rpc::{Asserted, from_status};

use crate::harness::*;

async fn open(daemon: &Daemon, socket: &impl AsFd) -> virt_error::Result<ClientSession> {
    ClientSession::open(daemon, Client { socket: Some(socket.as_fd()), ..Client::default() }).await
}

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[tokio::test]
async fn a_native_client_is_its_connections_peer() {
    let host = Host::start().await;
    let who = command(&host.daemon(), "who").await.unwrap();
    assert_eq!(who, format!("uid=Some({}) name=None ro=false", me()));
}

#[tokio::test]
async fn a_legacy_client_is_its_own_sockets_peer() {
    let host = Host::start().await;
    let (_client, accepted) = host.legacy_client("libvirt-sock");
    let session = open(&host.daemon(), &accepted).await.unwrap();
    assert_eq!((session.epoch(), session.read_only()), (77, false));
    assert_eq!(command_in(&session, "who").await.unwrap(), format!("uid=Some({}) name=None ro=false", me()));
}

#[tokio::test]
async fn another_users_client_stays_that_user() {
    let host = Host::start().await;
    let path = host.dir.path().join("libvirt-sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let Some(_client) = as_nobody(move || UnixStream::connect(path).unwrap()) else { return };
    let accepted = listener.accept().unwrap().0;
    let session = open(&host.daemon(), &accepted).await.unwrap();
    assert_eq!(command_in(&session, "who").await.unwrap(), format!("uid=Some({NOBODY}) name=None ro=false"));
}

#[tokio::test]
async fn the_read_only_socket_makes_read_only_clients() {
    let host = Host::start().await;
    let (_client, accepted) = host.legacy_client("libvirt-sock-ro");
    let session = open(&host.daemon(), &accepted).await.unwrap();
    assert!(session.read_only());
    let error = from_status(&command_in(&session, "who").await.unwrap_err());
    assert_eq!((error.code() as i32, error.domain() as i32), (29, 20));
    assert_eq!(error.message(), "operation forbidden: read only access prevents virDomainQemuMonitorCommand");
    look(&session).await.unwrap();
}

#[tokio::test]
async fn a_client_may_ask_for_less() {
    let host = Host::start().await;
    let (_client, accepted) = host.legacy_client("libvirt-sock");
    let client = Client { socket: Some(accepted.as_fd()), read_only: true, ..Client::default() };
    let session = ClientSession::open(&host.daemon(), client).await.unwrap();
    assert!(session.read_only() && command_in(&session, "who").await.is_err());
    look(&session).await.unwrap();
}

#[tokio::test]
async fn a_network_client_has_a_name_and_no_user() {
    let host = Host::start().await;
    let asserted = Some(Asserted { mechanism: "sasl".into(), name: "root".into() });
    let session =
        ClientSession::open(&host.daemon(), Client { asserted, ..Client::default() }).await.unwrap();
    assert_eq!(command_in(&session, "who").await.unwrap(), "uid=None name=Some(\"sasl:root\") ro=false");
    for (mechanism, name) in [("magic", "x"), ("tls", "a\nb")] {
        let asserted = Some(Asserted { mechanism: mechanism.into(), name: name.into() });
        let refused = ClientSession::open(&host.daemon(), Client { asserted, ..Client::default() }).await;
        assert_eq!(refused.err().unwrap().code(), Code::AuthFailed);
    }
}

#[tokio::test]
async fn only_the_proxys_user_may_assert_names() {
    let host = Host::start().await;
    let dir = host.dir.path().to_path_buf();
    let refused = tokio::task::spawn_blocking(move || {
        as_nobody(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let asserted = Some(Asserted { mechanism: "tls".into(), name: "admin".into() });
                let client = Client { asserted, ..Client::default() };
                ClientSession::open(&Daemon::new(dir, NAME), client).await.err().unwrap()
            })
        })
    });
    let Some(error) = refused.await.unwrap() else { return };
    assert!(error.message().contains("this user may not assert names"), "{error}");
}

#[tokio::test]
async fn the_proxys_user_is_nobody_without_a_client() {
    let host = Host::start_with_proxy().await;
    let dir = host.dir.path().to_path_buf();
    let (_client, accepted) = host.legacy_client("libvirt-sock");
    let asked = tokio::task::spawn_blocking(move || {
        as_nobody(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let daemon = Daemon::new(dir, NAME);
                let alone = command(&daemon, "who").await.unwrap_err();
                let own_session = ClientSession::open(&daemon, Client::default()).await.err().unwrap();
                let for_client = open(&daemon, &accepted).await.unwrap();
                let asserted = Some(Asserted { mechanism: "tls".into(), name: "CN=x".into() });
                let named =
                    ClientSession::open(&daemon, Client { asserted, ..Client::default() }).await.unwrap();
                (
                    alone.code(),
                    own_session.code(),
                    command_in(&for_client, "who").await.unwrap(),
                    command_in(&named, "who").await.unwrap(),
                )
            })
        })
    });
    let Some((alone, own_session, for_client, named)) = asked.await.unwrap() else { return };
    assert_eq!((alone, own_session), (tonic::Code::Unauthenticated, Code::AuthFailed));
    assert_eq!(for_client, format!("uid=Some({}) name=None ro=false", me()));
    assert_eq!(named, "uid=None name=Some(\"tls:CN=x\") ro=false");
}

/// What a taken-over proxy could try.
#[tokio::test]
async fn nothing_but_an_accepted_libvirt_connection_identifies() {
    let host = Host::start().await;
    let dir = host.dir.path();
    let daemon = host.daemon();
    let refusal = async |socket: OwnedFd, why: &str| {
        let error = open(&daemon, &socket).await.err().unwrap();
        assert_eq!(error.code(), Code::AuthFailed, "{why}");
        assert!(error.message().contains(why), "{error}");
    };
    let not_accepted = "was not accepted by a libvirt listener";
    // Its own connection to a service of root: the connecting end is unnamed, although the peer is root's.
    let (client, accepted) = host.legacy_client("libvirt-sock");
    refusal(client.try_clone().unwrap().into(), not_accepted).await;
    // A connection accepted by a listener of its own.
    let (_c, other) = connect_pair(&dir.join("evil-sock"));
    refusal(other.into(), not_accepted).await;
    // A name that only starts like the known one.
    let (_c, other) = connect_pair(&dir.join("libvirt-sock-x"));
    refusal(other.into(), not_accepted).await;
    // Both ends its own.
    refusal(UnixStream::pair().unwrap().0.into(), not_accepted).await;
    // A listener with the right name.
    let path = dir.join("libvirt-sock");
    std::fs::remove_file(&path).unwrap();
    refusal(UnixListener::bind(&path).unwrap().into(), "listens").await;
    // Not a unix stream socket at all.
    refusal(std::net::TcpListener::bind("127.0.0.1:0").unwrap().into(), "not a unix stream socket").await;
    refusal(std::io::pipe().unwrap().0.into(), "cannot be read").await;
    // A client that has gone.
    drop(client);
    refusal(accepted.into(), "not connected").await;
    assert!(host.sessions.is_empty());
}
