//! Daemons that die, come back, or are not there.

use virt_wire::remote::{procs, *};
use virtproxyd::limits::Limits;

use crate::bed::{Bed, dom, parts};

#[tokio::test]
async fn the_next_call_after_a_restart_just_works() {
    let mut bed = Bed::start();
    let client = bed.client().await;
    let ask = DomainIsActiveArgs { dom: dom("vm1", 1) };
    for _ in 0..3 {
        client.call::<procs::DomainIsActive>(&ask).await.unwrap();
        bed.kill_fake();
        bed.start_fake();
        client.call::<procs::DomainIsActive>(&ask).await.unwrap();
    }
}

#[tokio::test]
async fn a_read_under_way_is_made_again() {
    let mut bed = Bed::start();
    let client = bed.client().await;
    bed.state.hold.send_replace(true);
    let reader = client.clone();
    let reading = tokio::spawn(async move {
        reader.call::<procs::DomainGetXmlDesc>(&DomainGetXmlDescArgs { dom: dom("vm1", 1), flags: 0 }).await
    });
    client.call::<procs::DomainIsActive>(&DomainIsActiveArgs { dom: dom("vm1", 1) }).await.unwrap();
    bed.kill_fake();
    bed.state.hold.send_replace(false);
    bed.start_fake();
    reading.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_installed_daemon_that_does_not_answer_is_named() {
    let mut bed = Bed::start();
    let client = bed.client().await;
    client.call::<procs::ConnectGetHostname>(&()).await.unwrap();
    bed.kill_fake();
    // A socket file that nobody listens on.
    let path = bed.dir().join("grpc/virtqemud.sock");
    let channel = bed.dir().join("grpc/virtqemud-fd");
    for path in [&path, &channel] {
        let _ = std::fs::remove_file(path);
        drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    }
    tokio::time::pause();
    let error = client.call::<procs::ConnectGetHostname>(&()).await.unwrap_err();
    let (code, domain, text) = parts(&error);
    assert_eq!((code, domain), (38, 7), "{text}");
    assert!(
        text.starts_with("Failed to connect socket to '") && text.ends_with("': Connection refused"),
        "{text}"
    );
    // Calls that need no daemon go on.
    client.call::<procs::ConnectGetLibVersion>(&()).await.unwrap();
}

#[tokio::test]
async fn without_any_daemon_nothing_can_be_opened() {
    let bed = Bed::without_daemon(Limits::default());
    let error =
        virt_wire::client::Client::open_unix(bed.socket(), "qemu:///system", false).await.err().unwrap();
    assert_eq!(parts(&error), (5, 0, "no connection driver available for qemu:///system".to_string()));
}
