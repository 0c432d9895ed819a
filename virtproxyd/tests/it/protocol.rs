//! Authentication, open, close, refusals: word for word what the reference answers.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use virt_wire::client::Client;
use virt_wire::conn::{FrameReader, Plain};
use virt_wire::frame::OutFrame;
use virt_wire::remote::{self, procs, *};
use virt_wire::xdr::to_bytes;
use virtproxyd::limits::Limits;

use crate::bed::{Bed, parts, until};

async fn raw(client: &Client, prog: u32, vers: u32, proc: i32, payload: &[u8]) -> (i32, i32, String) {
    match client.call_raw(prog, vers, proc, Bytes::copy_from_slice(payload)).await {
        Ok(_) => (0, 0, String::new()),
        Err(error) => parts(&error),
    }
}

async fn refused(client: &Client, proc: i32, payload: &[u8]) -> (i32, i32, String) {
    raw(client, remote::PROGRAM.number, 1, proc, payload).await
}

#[tokio::test]
async fn order_of_the_handshake() {
    let bed = Bed::start();
    let client = Client::connect_unix(bed.socket()).await.unwrap();
    let needed = (39, 7, "authentication required".to_string());
    assert_eq!(refused(&client, 157, &[]).await, needed);
    assert_eq!(refused(&client, 60, &[0, 0, 0, 10]).await, needed);
    assert_eq!(refused(&client, 9999, &[]).await.2, "unknown procedure: 9999");
    let types = client.call::<procs::AuthList>(&()).await.unwrap().types;
    assert_eq!(types, [AuthType::AUTH_NONE]);
    let failed = "authentication failed: authentication failed";
    assert_eq!(refused(&client, 67, &[]).await, (45, 7, failed.to_string()));

    let closed = (1, 7, "internal error: hypervisor connection not open".to_string());
    for proc in [157, 23, 105, 316, 360, 361] {
        assert_eq!(refused(&client, proc, &[0; 64]).await, closed, "{proc}");
    }
    assert_eq!(refused(&client, 60, &[0, 0, 0, 14]).await, closed);
    assert_eq!(refused(&client, 60, &[0, 0, 0, 10]).await.0, 0);

    client.open("", false).await.unwrap();
    assert_eq!(client.call::<procs::ConnectGetUri>(&()).await.unwrap().uri, "qemu:///system");
    let again = client.open("", false).await.unwrap_err();
    assert_eq!(parts(&again), (1, 7, "internal error: connection already open".to_string()));
    assert_eq!(refused(&client, 157, &[]).await, closed);
    client.open("qemu:///system", false).await.unwrap();
    assert_eq!(client.call::<procs::ConnectGetLibVersion>(&()).await.unwrap().lib_ver, 11_003_000);
    assert_eq!(client.call::<procs::ConnectGetType>(&()).await.unwrap().r#type, "QEMU");
    assert_eq!(client.call::<procs::ConnectIsSecure>(&()).await.unwrap().secure, 1);
    client.call::<procs::ConnectClose>(&()).await.unwrap();
    until("the link closes", || client.is_closed()).await;
}

#[tokio::test]
async fn nonsense_is_refused_and_the_link_stays_open() {
    let bed = Bed::start();
    let client = bed.client().await;
    let text = |s: &str| (39, 7, s.to_string());
    for number in [9999, 0, -1, 107, 454] {
        assert_eq!(refused(&client, number, &[]).await, text(&format!("unknown procedure: {number}")));
    }
    assert_eq!(raw(&client, 0x12345, 1, 1, &[]).await, text("Cannot find program 74565 version 1"));
    let remote = remote::PROGRAM.number;
    assert_eq!(raw(&client, remote, 2, 1, &[]).await, text("Cannot find program 536903814 version 2"));
    assert_eq!(refused(&client, 23, &[]).await, text("Unable to decode message payload"));
    assert_eq!(
        refused(&client, 23, &[0, 0, 0, 100, b'a', 0, 0, 0]).await.2,
        "Unable to decode message payload"
    );
    // Newer clients may send more than we know.
    let mut payload = to_bytes(&DomainLookupByNameArgs { name: "vm1".into() }).unwrap();
    payload.extend_from_slice(&[0; 8]);
    assert_eq!(refused(&client, 23, &payload).await.0, 0);
}

#[tokio::test]
async fn features_are_answered_by_their_owner() {
    let bed = Bed::start();
    let client = bed.client().await;
    for (feature, supported) in [(8, 1), (14, 1), (15, 1), (10, 1), (6, 1), (1, 0), (99, 0)] {
        let ret = client.call::<procs::ConnectSupportsFeature>(&ConnectSupportsFeatureArgs { feature }).await;
        assert_eq!(ret.unwrap().supported, supported, "{feature}");
    }
}

#[tokio::test]
async fn a_read_only_client_only_looks() {
    let bed = Bed::start();
    let flagged = Client::open_unix(bed.socket(), "qemu:///system", true).await.unwrap();
    for client in [bed.client_ro().await, flagged] {
        let define = DomainDefineXmlArgs { xml: "<a/>".into() };
        let error = client.call::<procs::DomainDefineXml>(&define).await.unwrap_err();
        let text = "operation forbidden: read only access prevents virDomainDefineXML";
        assert_eq!(parts(&error), (29, 20, text.to_string()));
        let secure = DomainGetXmlDescArgs { dom: crate::bed::dom("vm1", 1), flags: 1 };
        let error = client.call::<procs::DomainGetXmlDesc>(&secure).await.unwrap_err();
        assert_eq!(error.message(), "operation forbidden: virDomainGetXMLDesc with secure flag");
        let plain = DomainGetXmlDescArgs { flags: 0, ..secure };
        client.call::<procs::DomainGetXmlDesc>(&plain).await.unwrap();
    }
}

#[tokio::test]
async fn uris_without_a_daemon_have_no_driver() {
    let bed = Bed::start();
    for uri in ["lxc:///system", "xen:///system", "foo:///system", "network:///system"] {
        let error = Client::open_unix(bed.socket(), uri, false).await.err().unwrap();
        assert_eq!(parts(&error), (5, 0, format!("no connection driver available for {uri}")));
    }
}

#[tokio::test]
async fn calls_of_absent_daemons_are_not_supported() {
    let bed = Bed::start();
    let client = bed.client().await;
    let text = "this function is not supported by the connection driver: virConnectListAllNetworks";
    assert_eq!(refused(&client, 283, &[0; 8]).await, (3, 19, text.to_string()));
    assert_eq!(refused(&client, 313, &[0; 8]).await.0, 3);
    // A call that the daemon itself lacks.
    let error =
        client.call::<procs::DomainSuspend>(&DomainSuspendArgs { dom: crate::bed::dom("no", 9) }).await;
    assert_eq!(error.unwrap_err().code() as i32, 42);
    let error =
        client.call::<procs::DomainResume>(&DomainResumeArgs { dom: crate::bed::dom("vm1", 1) }).await;
    let text = "this function is not supported by the connection driver: virDomainResume";
    assert_eq!(parts(&error.unwrap_err()), (3, 20, text.to_string()));
}

#[tokio::test]
async fn clients_that_never_speak_are_dropped() {
    let limits = Limits { unauthenticated: Duration::from_millis(50), ..Limits::default() };
    let bed = Bed::with_limits(limits);
    let silent = Client::connect_unix(bed.socket()).await.unwrap();
    until("the silent client is dropped", || silent.is_closed()).await;
}

#[tokio::test]
async fn too_many_strangers_push_out_the_oldest() {
    let bed = Bed::with_limits(Limits { anonymous: 2, ..Limits::default() });
    let known = bed.client().await;
    let strangers = [
        Client::connect_unix(bed.socket()).await.unwrap(),
        Client::connect_unix(bed.socket()).await.unwrap(),
        Client::connect_unix(bed.socket()).await.unwrap(),
    ];
    until("the oldest is dropped", || strangers[0].is_closed()).await;
    strangers[2].authenticate().await.unwrap();
    assert!(!strangers[1].is_closed() && !known.is_closed());
}

#[tokio::test]
async fn a_full_house_lets_clients_wait() {
    let bed = Bed::with_limits(Limits { clients: 1, ..Limits::default() });
    let first = bed.client().await;
    let second = Client::connect_unix(bed.socket()).await.unwrap();
    let waiting = tokio::spawn(async move { second.authenticate().await });
    tokio::task::yield_now().await;
    // The read-only side has its own places.
    bed.client_ro().await;
    assert!(!waiting.is_finished());
    first.close().await.unwrap();
    waiting.await.unwrap().unwrap();
}

/// Opens by hand, without anything that answers pings.
async fn open_mute(bed: &Bed, keepalive: bool) -> FrameReader<Plain<OwnedReadHalf>> {
    let stream = UnixStream::connect(bed.socket()).await.unwrap();
    let (read, mut write) = stream.into_split();
    let open = ConnectOpenArgs { name: Some("qemu:///system".into()), flags: 0 };
    let feature = ConnectSupportsFeatureArgs { feature: if keepalive { 10 } else { 14 } };
    let calls = [
        OutFrame::call::<procs::AuthList>(0, &()),
        OutFrame::call::<procs::ConnectOpen>(1, &open),
        OutFrame::call::<procs::ConnectSupportsFeature>(2, &feature),
    ];
    for call in calls {
        write.write_all(&call.unwrap().into_bytes()).await.unwrap();
    }
    // Dropping this half would close the connection.
    write.forget();
    let mut reader = FrameReader::new(Plain(read));
    for _ in 0..3 {
        assert_eq!(reader.next().await.unwrap().unwrap().header.status.0, 0);
    }
    reader
}

#[tokio::test]
async fn a_client_that_asked_and_does_not_answer_is_dropped() {
    let interval = Duration::from_millis(20);
    let limits = Limits { keepalive_interval: Some(interval), keepalive_count: 3, ..Limits::default() };
    let bed = Bed::with_limits(limits);
    let mut never_asked = open_mute(&bed, false).await;
    let mut asked = open_mute(&bed, true).await;
    for _ in 0..3 {
        let ping = asked.next().await.unwrap().expect("a ping");
        let h = ping.header;
        assert_eq!((h.prog, h.proc, h.kind.0, h.serial), (0x6b65_6570, 1, 2, 0));
    }
    assert!(asked.next().await.unwrap().is_none(), "it is dropped after the last ping");
    assert!(tokio::time::timeout(interval, never_asked.next()).await.is_err(), "who did not ask gets none");
}

#[tokio::test]
async fn a_client_that_answers_lives_on() {
    let interval = Duration::from_millis(10);
    let limits = Limits { keepalive_interval: Some(interval), keepalive_count: 1, ..Limits::default() };
    let bed = Bed::with_limits(limits);
    let client = bed.client().await;
    let keepalive = ConnectSupportsFeatureArgs { feature: 10 };
    client.call::<procs::ConnectSupportsFeature>(&keepalive).await.unwrap();
    let begin = std::time::Instant::now();
    until("many intervals are over", || begin.elapsed() > 20 * interval).await;
    client.call::<procs::ConnectGetLibVersion>(&()).await.unwrap();
}
