//! Hostile frames against the protocol layer alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use virt_testkit::hostile::hostile_session;
use virt_testkit::wire_server::listen;
use virt_wire::client::Client;
use virt_wire::frame::FRAME_MAX;

#[tokio::test]
async fn the_protocol_layer_survives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let server = listen(&path).unwrap();
    let report = hostile_session(&path, "test:///default", 1, 4000).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.frames, 4000);
    assert!(report.errors > 1000 && report.closed > 300, "the frames did not bite: {report:?}");
    server.abort();
}

/// A length word costs its sender nothing, so it must cost the reader nothing either.
#[tokio::test]
async fn claimed_lengths_take_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let server = listen(&path).unwrap();
    let before = resident();
    let mut links = Vec::new();
    for _ in 0..100 {
        let mut link = UnixStream::connect(&path).await.unwrap();
        let mut claim = (FRAME_MAX as u32).to_be_bytes().to_vec();
        claim.resize(3000, 0);
        link.write_all(&claim).await.unwrap();
        links.push(link);
    }
    // The last of them is served, so the others were read.
    let client = Client::connect_unix(&path).await.unwrap();
    client.authenticate().await.unwrap();
    let grown = resident().saturating_sub(before);
    assert!(grown < 8 << 20, "100 claims of 32 MiB took {grown} bytes");
    server.abort();
}

/// Resident memory of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
