//! Registering for events of networks, storage pools and secrets.

use virt_api::{network, secret, storage};
use virt_error::{Domain, Error, Result};
use virt_wire::program::EventRow;
use virt_wire::remote::{procs, *};
use virt_wire::xdr::Uuid;

use super::{Call, Ctx, calls};
use crate::api::watch::Feed;
use crate::events::Interest;

pub(super) const CALLS: &[Call] = calls! {
    ask procs::ConnectNetworkEventRegisterAny => register_network;
    now procs::ConnectNetworkEventDeregisterAny => deregister_network;
    ask procs::ConnectStoragePoolEventRegisterAny => register_pool;
    now procs::ConnectStoragePoolEventDeregisterAny => deregister_pool;
    ask procs::ConnectSecretEventRegisterAny => register_secret;
    now procs::ConnectSecretEventDeregisterAny => deregister_secret;
};

/// Registers for an event of one kind of object, called `noun` in refusals.
async fn register<T: Feed>(
    c: Ctx,
    noun: &str,
    rows: &[EventRow],
    event: i32,
    only: Option<Uuid>,
) -> Result<i32> {
    if !rows.iter().any(|row| row.id == event) {
        return Err(Error::internal(Domain::Rpc, format!("unsupported {noun} event ID {event}")));
    }
    c.link.watch_events::<T>(c.info, Interest::Of(T::OBJECT, event), only).await
}

/// Takes a registration back.
fn deregister<T: Feed>(c: &Ctx, noun: &str, id: i32) -> Result<()> {
    let is_it = |i: &Interest| matches!(i, Interest::Of(object, _) if *object == T::OBJECT);
    let found = c.link.events()?.remove(|r| r.id == id && is_it(&r.interest));
    let missing = || Error::internal(Domain::Rpc, format!("{noun} event callback {id} not registered"));
    if found { Ok(()) } else { Err(missing()) }
}

async fn register_network(
    c: Ctx,
    a: ConnectNetworkEventRegisterAnyArgs,
) -> Result<ConnectNetworkEventRegisterAnyRet> {
    let only = a.net.map(|n| n.uuid);
    let registered =
        register::<network::v1alpha1::WatchResponse>(c, "network", EVENTS_NETWORK, a.event_id, only);
    Ok(ConnectNetworkEventRegisterAnyRet { callback_id: registered.await? })
}

fn deregister_network(c: &Ctx, a: ConnectNetworkEventDeregisterAnyArgs) -> Result<()> {
    deregister::<network::v1alpha1::WatchResponse>(c, "network", a.callback_id)
}

async fn register_pool(
    c: Ctx,
    a: ConnectStoragePoolEventRegisterAnyArgs,
) -> Result<ConnectStoragePoolEventRegisterAnyRet> {
    let only = a.pool.map(|p| p.uuid);
    let registered = register::<storage::v1alpha1::WatchResponse>(
        c,
        "storage pool",
        EVENTS_STORAGE_POOL,
        a.event_id,
        only,
    );
    Ok(ConnectStoragePoolEventRegisterAnyRet { callback_id: registered.await? })
}

fn deregister_pool(c: &Ctx, a: ConnectStoragePoolEventDeregisterAnyArgs) -> Result<()> {
    deregister::<storage::v1alpha1::WatchResponse>(c, "storage pool", a.callback_id)
}

async fn register_secret(
    c: Ctx,
    a: ConnectSecretEventRegisterAnyArgs,
) -> Result<ConnectSecretEventRegisterAnyRet> {
    let only = a.secret.map(|s| s.uuid);
    let registered =
        register::<secret::v1alpha1::WatchResponse>(c, "secret", EVENTS_SECRET, a.event_id, only);
    Ok(ConnectSecretEventRegisterAnyRet { callback_id: registered.await? })
}

fn deregister_secret(c: &Ctx, a: ConnectSecretEventDeregisterAnyArgs) -> Result<()> {
    deregister::<secret::v1alpha1::WatchResponse>(c, "secret", a.callback_id)
}
