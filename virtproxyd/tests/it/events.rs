//! Registering for events and getting them, in both forms and over a daemon's restart.

use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;
use virt_wire::frame::Frame;
use virt_wire::remote::{events as ev, procs, *};

use crate::bed::{Bed, dom, parts, until};

async fn next(events: &mut Receiver<Frame>) -> Frame {
    timeout(Duration::from_secs(10), events.recv()).await.expect("an event comes").expect("the link is open")
}

fn lifecycle(frame: &Frame) -> (i32, String, i32) {
    let msg = frame.event::<ev::DomainEventCallbackLifecycle>().expect("a lifecycle event").unwrap();
    (msg.callback_id, msg.msg.dom.name, msg.msg.event)
}

fn register(event_id: i32, dom: Option<NonnullDomain>) -> ConnectDomainEventCallbackRegisterAnyArgs {
    ConnectDomainEventCallbackRegisterAnyArgs { event_id, dom }
}

#[tokio::test]
async fn events_reach_callbacks_in_order() {
    let bed = Bed::start();
    let client = bed.client().await;
    let mut events = client.events();
    let all = client.call::<procs::ConnectDomainEventCallbackRegisterAny>(&register(0, None)).await.unwrap();
    let one = register(0, Some(dom("vm2", 2)));
    let one = client.call::<procs::ConnectDomainEventCallbackRegisterAny>(&one).await.unwrap();
    for name in ["vm1", "vm2"] {
        let n = if name == "vm1" { 1 } else { 2 };
        client.call::<procs::DomainCreate>(&DomainCreateArgs { dom: dom(name, n) }).await.unwrap();
    }
    client.call::<procs::DomainDestroy>(&DomainDestroyArgs { dom: dom("vm1", 1) }).await.unwrap();
    assert_eq!(lifecycle(&next(&mut events).await), (all.callback_id, "vm1".into(), 2));
    assert_eq!(lifecycle(&next(&mut events).await), (all.callback_id, "vm2".into(), 2));
    assert_eq!(lifecycle(&next(&mut events).await), (one.callback_id, "vm2".into(), 2));
    assert_eq!(lifecycle(&next(&mut events).await), (all.callback_id, "vm1".into(), 5));
}

#[tokio::test]
async fn the_old_forms_still_work() {
    let bed = Bed::start();
    let client = bed.client().await;
    let mut events = client.events();
    client.call::<procs::ConnectDomainEventRegister>(&()).await.unwrap();
    let again = client.call::<procs::ConnectDomainEventRegister>(&()).await.unwrap_err();
    assert_eq!(parts(&again), (8, 0, "invalid argument: event callback already tracked".to_string()));
    client.call::<procs::DomainCreate>(&DomainCreateArgs { dom: dom("vm1", 1) }).await.unwrap();
    let msg = next(&mut events).await.event::<ev::DomainEventLifecycle>().expect("the old form").unwrap();
    assert_eq!((msg.dom.name.as_str(), msg.dom.id, msg.event), ("vm1", 1, 2));
    client.call::<procs::ConnectDomainEventDeregister>(&()).await.unwrap();
    let missing = client.call::<procs::ConnectDomainEventDeregister>(&()).await.unwrap_err();
    assert_eq!(parts(&missing), (1, 7, "internal error: domain event 0 not registered".to_string()));
}

#[tokio::test]
async fn wrong_registrations_are_refused_in_the_references_words() {
    let bed = Bed::start();
    let client = bed.client().await;
    for id in [28, -1] {
        let error = client.call::<procs::ConnectDomainEventCallbackRegisterAny>(&register(id, None)).await;
        assert_eq!(parts(&error.unwrap_err()), (1, 7, format!("internal error: unsupported event ID {id}")));
    }
    let old = ConnectDomainEventRegisterAnyArgs { event_id: 16 };
    let error = client.call::<procs::ConnectDomainEventRegisterAny>(&old).await.unwrap_err();
    assert_eq!(error.message(), "internal error: unsupported event ID 16");
    let drop = ConnectDomainEventCallbackDeregisterAnyArgs { callback_id: 77 };
    let error = client.call::<procs::ConnectDomainEventCallbackDeregisterAny>(&drop).await.unwrap_err();
    assert_eq!(error.message(), "internal error: domain event callback 77 not registered");
    // What `virsh event --all` does.
    for id in 0..28 {
        client.call::<procs::ConnectDomainEventCallbackRegisterAny>(&register(id, None)).await.unwrap();
    }
}

#[tokio::test]
async fn events_go_on_after_a_restart() {
    let mut bed = Bed::start();
    let client = bed.client().await;
    let mut events = client.events();
    let id = client.call::<procs::ConnectDomainEventCallbackRegisterAny>(&register(0, None)).await.unwrap();
    client.call::<procs::DomainCreate>(&DomainCreateArgs { dom: dom("vm1", 1) }).await.unwrap();
    assert_eq!(lifecycle(&next(&mut events).await), (id.callback_id, "vm1".into(), 2));
    bed.kill_fake();
    // What happens while the proxy is not connected is in the journal.
    let lifecycle_event = virt_api::domain::v1alpha1::LifecycleEvent { event: 3, detail: 0 };
    bed.state.event("vm2", virt_api::domain::v1alpha1::watch_response::Event::Lifecycle(lifecycle_event));
    bed.start_fake();
    assert_eq!(lifecycle(&next(&mut events).await), (id.callback_id, "vm2".into(), 3));
    client.call::<procs::DomainDestroy>(&DomainDestroyArgs { dom: dom("vm1", 1) }).await.unwrap();
    assert_eq!(lifecycle(&next(&mut events).await), (id.callback_id, "vm1".into(), 5));
}

#[tokio::test]
async fn lost_events_end_the_link_after_the_close_callback() {
    let mut bed = Bed::start();
    let client = bed.client().await;
    let mut events = client.events();
    client.call::<procs::ConnectRegisterCloseCallback>(&()).await.unwrap();
    client.call::<procs::ConnectDomainEventCallbackRegisterAny>(&register(0, None)).await.unwrap();
    bed.kill_fake();
    bed.state.journal.lock().epoch += 1;
    bed.start_fake();
    let frame = next(&mut events).await;
    frame.event::<ev::ConnectEventConnectionClosed>().expect("the close callback").unwrap();
    until("the link closes", || client.is_closed()).await;
}
