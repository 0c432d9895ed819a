//! Hostile frames against the protocol layer alone.

use virt_testkit::hostile::hostile_session;
use virt_testkit::wire_server::listen;

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
