//! Registering for domain events: the callback forms, the old forms, and the qemu program's raw monitor events.

use virt_api::domain::v1alpha1::WatchResponse;
use virt_error::{Code, Domain, Error, Result};
use virt_wire::qemu::{self, procs as qemu_procs};
use virt_wire::remote::{procs, *};

use super::{Call, Ctx, calls};
use crate::events::{Interest, MonitorFilter};

/// virConnectDomainQemuMonitorEventRegisterFlags: compare without case.
const MONITOR_NOCASE: u32 = 2;

pub(super) const CALLS: &[Call] = calls! {
    ask procs::ConnectDomainEventRegister => register_lifecycle;
    now procs::ConnectDomainEventDeregister => deregister_lifecycle;
    ask procs::ConnectDomainEventRegisterAny => register_legacy;
    now procs::ConnectDomainEventDeregisterAny => deregister_legacy;
    ask procs::ConnectDomainEventCallbackRegisterAny => register;
    now procs::ConnectDomainEventCallbackDeregisterAny => deregister;
    ask qemu_procs::ConnectDomainMonitorEventRegister => register_monitor;
    now qemu_procs::ConnectDomainMonitorEventDeregister => deregister_monitor;
};

/// Checks an event number against the table of the form it is used with.
fn known(event: i32, legacy: bool) -> Result<i32> {
    let found = EVENTS_DOMAIN.iter().any(|row| row.id == event && (!legacy || row.legacy.is_some()));
    let unsupported = || Error::internal(Domain::Rpc, format!("unsupported event ID {event}"));
    if found { Ok(event) } else { Err(unsupported()) }
}

async fn register_lifecycle(c: Ctx, (): ()) -> Result<ConnectDomainEventRegisterRet> {
    c.link.watch_events::<WatchResponse>(c.info, Interest::Legacy(0), None).await?;
    Ok(ConnectDomainEventRegisterRet { cb_registered: 0 })
}

fn deregister_lifecycle(c: &Ctx, (): ()) -> Result<ConnectDomainEventDeregisterRet> {
    drop_legacy(c, 0)?;
    Ok(ConnectDomainEventDeregisterRet { cb_registered: 0 })
}

async fn register_legacy(c: Ctx, a: ConnectDomainEventRegisterAnyArgs) -> Result<()> {
    c.link.watch_events::<WatchResponse>(c.info, Interest::Legacy(known(a.event_id, true)?), None).await?;
    Ok(())
}

fn deregister_legacy(c: &Ctx, a: ConnectDomainEventDeregisterAnyArgs) -> Result<()> {
    drop_legacy(c, known(a.event_id, true)?)
}

fn drop_legacy(c: &Ctx, event: i32) -> Result<()> {
    let found = c.link.events()?.remove(|r| r.interest == Interest::Legacy(event));
    let missing = || Error::internal(Domain::Rpc, format!("domain event {event} not registered"));
    if found { Ok(()) } else { Err(missing()) }
}

async fn register(
    c: Ctx,
    a: ConnectDomainEventCallbackRegisterAnyArgs,
) -> Result<ConnectDomainEventCallbackRegisterAnyRet> {
    let interest = Interest::Domain(known(a.event_id, false)?);
    let callback_id = c.link.watch_events::<WatchResponse>(c.info, interest, a.dom.map(|d| d.uuid)).await?;
    Ok(ConnectDomainEventCallbackRegisterAnyRet { callback_id })
}

fn deregister(c: &Ctx, a: ConnectDomainEventCallbackDeregisterAnyArgs) -> Result<()> {
    let id = a.callback_id;
    let found = c.link.events()?.remove(|r| r.id == id && matches!(r.interest, Interest::Domain(_)));
    let missing = || Error::internal(Domain::Rpc, format!("domain event callback {id} not registered"));
    if found { Ok(()) } else { Err(missing()) }
}

async fn register_monitor(
    c: Ctx,
    a: qemu::ConnectDomainMonitorEventRegisterArgs,
) -> Result<qemu::ConnectDomainMonitorEventRegisterRet> {
    if a.flags & !MONITOR_NOCASE != 0 {
        // Also the regular-expression form (1): such a pattern comes from outside and is not worth an engine here.
        let text = format!("unsupported flags (0x{:x}) for a monitor event", a.flags & !MONITOR_NOCASE);
        return Err(Error::new(Code::ArgumentUnsupported, Domain::None, text));
    }
    let filter = MonitorFilter { event: a.event, any_case: a.flags & MONITOR_NOCASE != 0 };
    let dom = a.dom.map(|d| d.uuid);
    let callback_id = c.link.watch_events::<WatchResponse>(c.info, Interest::Monitor(filter), dom).await?;
    Ok(qemu::ConnectDomainMonitorEventRegisterRet { callback_id })
}

fn deregister_monitor(c: &Ctx, a: qemu::ConnectDomainMonitorEventDeregisterArgs) -> Result<()> {
    let id = a.callback_id;
    let found = c.link.events()?.remove(|r| r.id == id && matches!(r.interest, Interest::Monitor(_)));
    let missing = || Error::internal(Domain::Rpc, format!("qemu monitor event callback {id} not registered"));
    if found { Ok(()) } else { Err(missing()) }
}
