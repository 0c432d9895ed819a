//! gRPC clients: no proxy in between, one answer for a whole table, events that go on after the daemon was killed.

use std::time::Duration;

use tokio::time::timeout;
use virt_api::common::v1alpha1::Cursor;
use virt_api::domain::v1alpha1::domain_service_client::DomainServiceClient;
use virt_api::domain::v1alpha1::watch_response::Event;
use virt_api::domain::v1alpha1::{ListRequest, WatchRequest, WatchResponse};
use virt_rpc::client;
use virt_rpc::client::Daemon;
use virt_testkit::host::{Host, Options, bare_xml};

const PATIENCE: Duration = Duration::from_secs(20);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn daemon(host: &Host) -> Daemon {
    Daemon::new(host.root().join("run/libvirt/grpc"), "virtqemud")
}

#[test]
fn one_list_has_what_virsh_shows() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let (on, off) = (host.name("on"), host.name("off"));
    host.virsh(&["create", &host.document(&on, &bare_xml(&on))]);
    host.virsh(&["define", &host.document(&off, &bare_xml(&off))]);
    runtime().block_on(async {
        let daemon = daemon(&host);
        let mut domains = client!(DomainServiceClient, daemon);
        let request = ListRequest { with_xml: true, ..ListRequest::default() };
        let listed = domains.list(request).await.unwrap().into_inner().domains;
        let mut rows: Vec<_> = listed
            .iter()
            .map(|d| (d.domain.as_ref().unwrap().name.clone(), d.persistent, d.xml.contains("<domain")))
            .collect();
        rows.sort();
        assert_eq!(rows, [(off.clone(), true, true), (on.clone(), false, true)]);
        let count = ListRequest { count_only: true, ..ListRequest::default() };
        assert_eq!(domains.list(count).await.unwrap().into_inner().count, 2);
        let unknown = ListRequest { filter: 1 << 31, ..ListRequest::default() };
        assert!(domains.list(unknown).await.is_err(), "unknown filter bits are refused");
    });
    assert!(host.pid("virtqemud").is_some());
    host.virsh(&["destroy", &on]);
}

/// Waits for the next event and checks that its number follows.
async fn next(stream: &mut tonic::Streaming<WatchResponse>, last: &mut Option<Cursor>) -> Option<Event> {
    let message = timeout(PATIENCE, stream.message()).await.expect("an event in time").unwrap().unwrap();
    let cursor = message.cursor.unwrap();
    if let Some(before) = last.replace(cursor) {
        assert_eq!(cursor.epoch, before.epoch, "the journal survives");
        assert!(cursor.number >= before.number, "{before:?} then {cursor:?}");
    }
    message.event
}

#[test]
fn a_watch_goes_on_after_a_kill_without_a_gap() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let name = host.name("seen");
    let file = host.document(&name, &bare_xml(&name));
    runtime().block_on(async {
        let daemon = daemon(&host);
        let mut domains = client!(DomainServiceClient, daemon);
        let mut cursor = None;
        let mut stream = domains.watch(WatchRequest::default()).await.unwrap().into_inner();
        assert!(matches!(next(&mut stream, &mut cursor).await, Some(Event::Ready(_))));
        host.virsh(&["define", &file]);
        let mut seen = Vec::new();
        seen.push(lifecycle(next(&mut stream, &mut cursor).await));
        host.kill("virtqemud");
        // These happen while nobody watches.
        host.virsh(&["start", &name]);
        host.virsh(&["undefine", &name]);
        // Another client, which goes on where the first one was.
        let daemon = self::daemon(&host);
        let mut domains = client!(DomainServiceClient, daemon);
        let request = WatchRequest { after: cursor, domain: None };
        let mut stream = domains.watch(request).await.unwrap().into_inner();
        host.virsh(&["destroy", &name]);
        while seen.last() != Some(&(5, 1)) {
            match next(&mut stream, &mut cursor).await {
                Some(Event::Ready(_)) => {}
                event => seen.push(lifecycle(event)),
            }
        }
        // Defined, resumed, started, undefined, shut down by the host, stopped as destroyed.
        assert_eq!(seen, [(0, 0), (4, 0), (2, 0), (1, 0), (6, 2), (5, 1)]);
    });
}

fn lifecycle(event: Option<Event>) -> (i32, i32) {
    match event {
        Some(Event::Lifecycle(e)) => (e.event, e.detail),
        other => panic!("{other:?} is no lifecycle event"),
    }
}
