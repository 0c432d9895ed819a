//! Events of networks, storage pools and secrets as messages of the wire.

use virt_api::{network, secret, storage};
use virt_wire::frame::OutFrame;
use virt_wire::program::EventRow;
use virt_wire::remote::{self, *};
use virt_wire::xdr::{Uuid, XdrEncode, to_bytes};

use super::{Interest, Registration, translate};
use crate::calls::{network_to_wire, pool_to_wire, secret_to_wire};
use crate::route::Object;

/// The message of event `id` for everyone who wants to hear of this object; `body` makes it for a callback's id.
fn told<M: XdrEncode>(
    registered: &[Registration],
    (object, rows): (Object, &[EventRow]),
    uuid: Uuid,
    id: i32,
    body: impl Fn(i32) -> M,
) -> Vec<OutFrame> {
    let Some(row) = rows.iter().find(|row| row.id == id) else { return Vec::new() };
    let wanted = registered
        .iter()
        .filter(|r| r.interest == Interest::Of(object, id) && r.only.is_none_or(|only| only == uuid));
    let frames = wanted
        .filter_map(|r| translate::message(&remote::PROGRAM, row.callback, to_bytes(&body(r.id)).ok()?));
    frames.collect()
}

/// Events of networks.
pub(crate) fn network(
    event: &network::v1alpha1::WatchResponse,
    registered: &[Registration],
) -> Vec<OutFrame> {
    use network::v1alpha1::watch_response::Event;
    let (Some(what), Ok(net)) = (&event.event, network_to_wire(event.network.clone())) else {
        return Vec::new();
    };
    let kind = (Object::Network, EVENTS_NETWORK);
    match what {
        Event::Ready(_) => Vec::new(),
        Event::Lifecycle(e) => told(registered, kind, net.uuid, 0, |callback_id| NetworkEventLifecycleMsg {
            callback_id,
            net: net.clone(),
            event: e.event,
            detail: 0,
        }),
        Event::MetadataChange(e) => {
            told(registered, kind, net.uuid, 1, |callback_id| NetworkEventCallbackMetadataChangeMsg {
                callback_id,
                net: net.clone(),
                r#type: e.r#type,
                nsuri: e.namespace_uri.clone(),
            })
        }
    }
}

/// Events of storage pools.
pub(crate) fn pool(event: &storage::v1alpha1::WatchResponse, registered: &[Registration]) -> Vec<OutFrame> {
    use storage::v1alpha1::watch_response::Event;
    let (Some(what), Ok(pool)) = (&event.event, pool_to_wire(event.pool.clone())) else {
        return Vec::new();
    };
    let kind = (Object::Storage, EVENTS_STORAGE_POOL);
    match what {
        Event::Ready(_) => Vec::new(),
        Event::Lifecycle(e) => told(registered, kind, pool.uuid, 0, |callback_id| {
            StoragePoolEventLifecycleMsg { callback_id, pool: pool.clone(), event: e.event, detail: 0 }
        }),
        Event::Refresh(_) => told(registered, kind, pool.uuid, 1, |callback_id| StoragePoolEventRefreshMsg {
            callback_id,
            pool: pool.clone(),
        }),
    }
}

/// Events of secrets.
pub(crate) fn secret(event: &secret::v1alpha1::WatchResponse, registered: &[Registration]) -> Vec<OutFrame> {
    use secret::v1alpha1::watch_response::Event;
    let (Some(what), Ok(secret)) = (&event.event, secret_to_wire(event.secret.clone())) else {
        return Vec::new();
    };
    let kind = (Object::Secret, EVENTS_SECRET);
    match what {
        Event::Ready(_) => Vec::new(),
        Event::Lifecycle(e) => told(registered, kind, secret.uuid, 0, |callback_id| {
            SecretEventLifecycleMsg { callback_id, secret: secret.clone(), event: e.event, detail: 0 }
        }),
        Event::ValueChanged(_) => told(registered, kind, secret.uuid, 1, |callback_id| {
            SecretEventValueChangedMsg { callback_id, secret: secret.clone() }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt_wire::frame::Frame;
    use virt_wire::xdr::from_bytes;

    #[test]
    fn a_callback_hears_of_its_kind_its_event_and_its_object() {
        use secret::v1alpha1::{LifecycleEvent, SecretRef, Usage, WatchResponse, watch_response::Event};
        let usage = Some(Usage { r#type: 1, id: "/a".into() });
        let secret = Some(SecretRef { uuid: vec![7; 16].into(), usage });
        let event = Some(Event::Lifecycle(LifecycleEvent { event: 1 }));
        let event = WatchResponse { cursor: None, secret, event };
        let of = |id, object, number, only| Registration { id, interest: Interest::Of(object, number), only };
        let registered = [
            of(1, Object::Secret, 0, None),
            of(2, Object::Secret, 1, None),
            of(3, Object::Network, 0, None),
            of(4, Object::Secret, 0, Some([7; 16])),
            of(5, Object::Secret, 0, Some([8; 16])),
            Registration { id: 6, interest: Interest::Domain(0), only: None },
        ];
        let frames = super::secret(&event, &registered).into_iter();
        let frames: Vec<Frame> = frames.map(|f| Frame::parse(f.into_bytes().into()).unwrap().0).collect();
        assert!(frames.iter().all(|f| f.header.proc == 382));
        let told: Vec<SecretEventLifecycleMsg> =
            frames.iter().map(|f| from_bytes(&f.payload).unwrap()).collect();
        assert_eq!(told.iter().map(|m| m.callback_id).collect::<Vec<_>>(), [1, 4]);
        assert_eq!((told[0].secret.usage_id.as_str(), told[0].event), ("/a", 1));
    }
}
