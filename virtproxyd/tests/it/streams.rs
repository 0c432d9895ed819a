//! Streams: a console both ways, a file downwards.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use virt_wire::client::{ClientStream, StreamPart};
use virt_wire::remote::{procs, *};

use crate::bed::{Bed, dom, until};

fn console() -> DomainOpenConsoleArgs {
    DomainOpenConsoleArgs { dom: dom("vm1", 1), dev_name: None, flags: 0 }
}

fn guest_end(bed: &Bed) -> UnixStream {
    bed.state.console.lock().take().expect("the console is open")
}

async fn data(stream: &mut ClientStream) -> Bytes {
    match timeout(Duration::from_secs(10), stream.recv()).await.expect("data comes").unwrap() {
        Some(StreamPart::Data(data)) => data,
        other => panic!("wanted data, got {other:?}"),
    }
}

#[tokio::test]
async fn a_console_talks_both_ways() {
    let bed = Bed::start();
    let client = bed.client().await;
    let ((), mut stream) = client.open_stream::<procs::DomainOpenConsole>(&console()).await.unwrap();
    let mut guest = guest_end(&bed);
    guest.write_all(b"login: ").unwrap();
    assert_eq!(&data(&mut stream).await[..], b"login: ");
    stream.send(Bytes::from_static(b"root\n")).await.unwrap();
    client.call::<procs::ConnectGetLibVersion>(&()).await.unwrap();
    guest.set_nonblocking(true).unwrap();
    let mut got = Vec::new();
    until("the guest hears", || {
        let mut buffer = [0; 64];
        if let Ok(n) = guest.read(&mut buffer) {
            got.extend_from_slice(&buffer[..n]);
        }
        got == b"root\n"
    })
    .await;
    stream.finish().await.unwrap();
    until("the guest's side is closed", || matches!(guest.read(&mut [0; 8]), Ok(0))).await;
}

#[tokio::test]
async fn an_abort_ends_a_stream_that_is_stuck() {
    let bed = Bed::start();
    let client = bed.client().await;
    let ((), mut stream) = client.open_stream::<procs::DomainOpenConsole>(&console()).await.unwrap();
    let guest = guest_end(&bed);
    // Nobody reads at the guest: some of this stays in the proxy.
    for _ in 0..8 {
        stream.send(Bytes::from(vec![0; 200_000])).await.unwrap();
    }
    stream.abort().await.unwrap();
    client.call::<procs::ConnectGetLibVersion>(&()).await.unwrap();
    drop(guest);
}

#[tokio::test]
async fn the_guests_end_is_told_and_the_client_finishes() {
    let bed = Bed::start();
    let client = bed.client().await;
    let ((), mut stream) = client.open_stream::<procs::DomainOpenConsole>(&console()).await.unwrap();
    drop(guest_end(&bed));
    let end = timeout(Duration::from_secs(10), stream.recv()).await.expect("the end is told").unwrap();
    assert!(end.is_none(), "{end:?}");
    stream.finish().await.unwrap();
}

#[tokio::test]
async fn a_file_comes_whole() {
    let bed = Bed::start();
    let client = bed.client().await;
    let args = DomainScreenshotArgs { dom: dom("vm1", 1), screen: 0, flags: 0 };
    let (ret, mut stream) = client.open_stream::<procs::DomainScreenshot>(&args).await.unwrap();
    assert_eq!(ret.mime.as_deref(), Some("image/x-portable-pixmap"));
    let mut total = 0;
    while let Some(StreamPart::Data(data)) = stream.recv().await.unwrap() {
        assert!(data.iter().all(|b| *b == 7));
        total += data.len();
    }
    assert_eq!(total, 600_000);
    stream.finish().await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_closes_its_console() {
    let bed = Bed::start();
    let client = bed.client().await;
    let (_, stream) = client.open_stream::<procs::DomainOpenConsole>(&console()).await.unwrap();
    let mut guest = guest_end(&bed);
    guest.set_nonblocking(true).unwrap();
    drop((stream, client));
    until("the console is closed", || matches!(guest.read(&mut [0; 8]), Ok(0))).await;
}
