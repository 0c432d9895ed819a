//! A domain's event as messages of the wire.
//!
//! Most callback messages are the callback's id followed by the old message, so an event is encoded once and the old
//! form is what follows the id.

use bytes::Bytes;
use virt_api::domain::v1alpha1::{self as api, WatchResponse, watch_response::Event};
use virt_wire::frame::{Header, MessageType, OutFrame, Status};
use virt_wire::program::Program;
use virt_wire::qemu;
use virt_wire::remote::{self, *};
use virt_wire::xdr::{XdrEncode, XdrError, to_bytes};

use super::{Interest, Registration};
use crate::calls::domain_to_wire;
use crate::params;

/// The serial of events; clients ignore it (the reference sends 1).
const SERIAL: u32 = 1;
/// Where the callback id stands in a callback message.
const ID: std::ops::Range<usize> = 0..4;
/// The qemu program's message for a raw monitor event.
const MONITOR_EVENT: i32 = 6;

/// One event number's message, encoded with callback id 0.
struct Encoded {
    /// virDomainEventID.
    id: i32,
    callback: Vec<u8>,
    /// The old form's body; `None` when it is what follows the callback id.
    legacy: Option<Vec<u8>>,
}

/// The messages for everyone who wants to hear of the event.
pub(crate) fn messages(event: &WatchResponse, registered: &[Registration]) -> Vec<OutFrame> {
    let Some(what) = &event.event else { return Vec::new() };
    let Ok(dom) = domain_to_wire(event.domain.clone()) else { return Vec::new() };
    let mut wanted = registered.iter().filter(|r| r.only.is_none_or(|uuid| uuid == dom.uuid)).peekable();
    if wanted.peek().is_none() {
        return Vec::new();
    }
    if let Event::Monitor(monitor) = what {
        return wanted.filter_map(|r| to_monitor(r, &dom, monitor)).collect();
    }
    let encoded = match encode(&dom, what) {
        Ok(encoded) => encoded,
        Err(error) => {
            tracing::warn!(%error, "an event has no form on the wire");
            return Vec::new();
        }
    };
    let frames = wanted.flat_map(|r| encoded.iter().filter_map(|e| to_frame(r, e)));
    frames.collect()
}

fn to_frame(registration: &Registration, encoded: &Encoded) -> Option<OutFrame> {
    let row = EVENTS_DOMAIN.iter().find(|row| row.id == encoded.id)?;
    match registration.interest {
        Interest::Domain(id) if id == encoded.id => {
            let mut body = encoded.callback.clone();
            body.get_mut(ID)?.copy_from_slice(&registration.id.to_be_bytes());
            message(&remote::PROGRAM, row.callback, body)
        }
        Interest::Legacy(id) if id == encoded.id => {
            let body = encoded.legacy.clone().or_else(|| Some(encoded.callback.get(ID.end..)?.to_vec()))?;
            message(&remote::PROGRAM, row.legacy?, body)
        }
        _ => None,
    }
}

fn to_monitor(
    registration: &Registration,
    dom: &NonnullDomain,
    event: &api::MonitorEvent,
) -> Option<OutFrame> {
    let Interest::Monitor(filter) = &registration.interest else { return None };
    let fits = match &filter.event {
        None => true,
        Some(name) if filter.any_case => name.eq_ignore_ascii_case(&event.event),
        Some(name) => *name == event.event,
    };
    let body = qemu::DomainMonitorEventMsg {
        callback_id: registration.id,
        dom: dom.clone(),
        event: event.event.clone(),
        seconds: event.seconds,
        micros: event.micros,
        details: event.details.clone(),
    };
    fits.then(|| message(&qemu::PROGRAM, MONITOR_EVENT, to_bytes(&body).ok()?)).flatten()
}

pub(super) fn message(program: &Program, proc: i32, body: Vec<u8>) -> Option<OutFrame> {
    let (prog, vers, kind) = (program.number, program.version, MessageType::MESSAGE);
    let header = Header { prog, vers, proc, kind, serial: SERIAL, status: Status::OK };
    OutFrame::raw(header, Bytes::from(body)).ok()
}

/// A message whose old form has the same body.
fn both(id: i32, body: &impl XdrEncode) -> Result<Encoded, XdrError> {
    let mut callback = vec![0; ID.end];
    body.encode(&mut callback)?;
    Ok(Encoded { id, callback, legacy: None })
}

/// A message that carries the callback id itself.
fn inline(id: i32, body: &impl XdrEncode) -> Result<Encoded, XdrError> {
    Ok(Encoded { id, callback: to_bytes(body)?, legacy: None })
}

/// A power message: the new form has a reason between the id and the old body.
fn power(id: i32, reason: i32, dom: &NonnullDomain) -> Result<Encoded, XdrError> {
    let legacy = to_bytes(dom)?;
    let mut callback = vec![0; ID.end];
    reason.encode(&mut callback)?;
    callback.extend_from_slice(&legacy);
    Ok(Encoded { id, callback, legacy: Some(legacy) })
}

fn encode(dom: &NonnullDomain, event: &Event) -> Result<Vec<Encoded>, XdrError> {
    let dom = dom.clone();
    let one = |encoded: Result<Encoded, XdrError>| encoded.map(|e| vec![e]);
    match event {
        // The stream's own beginning; monitor events have a program of their own.
        Event::Ready(_) | Event::Monitor(_) => Ok(Vec::new()),
        Event::Lifecycle(e) => {
            one(both(0, &DomainEventLifecycleMsg { dom, event: e.event, detail: e.detail }))
        }
        Event::Reboot(_) => one(both(1, &DomainEventRebootMsg { dom })),
        Event::RtcChange(e) => one(both(2, &DomainEventRtcChangeMsg { dom, offset: e.offset })),
        Event::Watchdog(e) => one(both(3, &DomainEventWatchdogMsg { dom, action: e.action })),
        Event::IoError(e) => io_error(dom, e),
        Event::Graphics(e) => one(both(5, &graphics(dom, e))),
        Event::ControlError(_) => one(both(7, &DomainEventControlErrorMsg { dom })),
        Event::BlockJob(e) => block_job(dom, e),
        Event::DiskChange(e) => one(both(9, &disk_change(dom, e))),
        Event::TrayChange(e) => {
            let (dev_alias, reason) = (e.alias.clone(), e.reason);
            one(both(10, &DomainEventTrayChangeMsg { dom, dev_alias, reason }))
        }
        Event::PmWakeup(e) => one(power(11, e.reason, &dom)),
        Event::PmSuspend(e) => one(power(12, e.reason, &dom)),
        Event::BalloonChange(e) => one(both(13, &DomainEventBalloonChangeMsg { dom, actual: e.actual })),
        Event::PmSuspendDisk(e) => one(power(14, e.reason, &dom)),
        Event::DeviceRemoved(e) => {
            one(both(15, &DomainEventDeviceRemovedMsg { dom, dev_alias: e.alias.clone() }))
        }
        Event::DeviceAdded(e) => one(inline(
            19,
            &DomainEventCallbackDeviceAddedMsg { callback_id: 0, dom, dev_alias: e.alias.clone() },
        )),
        Event::DeviceRemovalFailed(e) => {
            let dev_alias = e.alias.clone();
            one(inline(22, &DomainEventCallbackDeviceRemovalFailedMsg { callback_id: 0, dom, dev_alias }))
        }
        other => newer(dom, other).map(|e| e.into_iter().collect()),
    }
}

/// Events that only exist in the callback form.
fn newer(dom: NonnullDomain, event: &Event) -> Result<Option<Encoded>, XdrError> {
    let callback_id = 0;
    let encoded = match event {
        Event::Tunable(e) => {
            let params = params::to_wire(e.params.clone());
            inline(17, &DomainEventCallbackTunableMsg { callback_id, dom, params })
        }
        Event::AgentLifecycle(e) => {
            let (state, reason) = (e.state, e.reason);
            inline(18, &DomainEventCallbackAgentLifecycleMsg { callback_id, dom, state, reason })
        }
        Event::MigrationIteration(e) => {
            inline(20, &DomainEventCallbackMigrationIterationMsg { callback_id, dom, iteration: e.iteration })
        }
        Event::JobCompleted(e) => {
            let params = params::to_wire(e.params.clone());
            inline(21, &DomainEventCallbackJobCompletedMsg { callback_id, dom, params })
        }
        Event::MetadataChange(e) => {
            let (r#type, nsuri) = (e.r#type, e.namespace_uri.clone());
            inline(23, &DomainEventCallbackMetadataChangeMsg { callback_id, dom, r#type, nsuri })
        }
        Event::BlockThreshold(e) => inline(24, &block_threshold(dom, e)),
        Event::MemoryFailure(e) => {
            let (recipient, action, flags) = (e.recipient, e.action, e.flags);
            inline(25, &DomainEventMemoryFailureMsg { callback_id, dom, recipient, action, flags })
        }
        Event::MemoryDeviceSizeChange(e) => {
            let (alias, size) = (e.alias.clone(), e.size);
            inline(26, &DomainEventMemoryDeviceSizeChangeMsg { callback_id, dom, alias, size })
        }
        Event::NicMacChange(e) => inline(27, &nic_mac_change(dom, e)),
        _ => return Ok(None),
    };
    encoded.map(Some)
}

/// Told twice: without (4) and with (6) the reason.
fn io_error(dom: NonnullDomain, e: &api::IoErrorEvent) -> Result<Vec<Encoded>, XdrError> {
    let (src_path, dev_alias, action) = (e.source_path.clone(), e.device_alias.clone(), e.action);
    let plain = DomainEventIoErrorMsg {
        dom: dom.clone(),
        src_path: src_path.clone(),
        dev_alias: dev_alias.clone(),
        action,
    };
    let reason = e.reason.clone();
    let full = DomainEventIoErrorReasonMsg { dom, src_path, dev_alias, action, reason };
    Ok(vec![both(4, &plain)?, both(6, &full)?])
}

/// Told twice: with the source's path (8) and with the target's name (16).
fn block_job(dom: NonnullDomain, e: &api::BlockJobEvent) -> Result<Vec<Encoded>, XdrError> {
    let (r#type, status) = (e.r#type, e.status);
    let by_path = DomainEventBlockJobMsg { dom: dom.clone(), path: e.path.clone(), r#type, status };
    let by_target = DomainEventBlockJob2Msg { callback_id: 0, dom, dst: e.target.clone(), r#type, status };
    Ok(vec![both(8, &by_path)?, inline(16, &by_target)?])
}

fn graphics(dom: NonnullDomain, e: &api::GraphicsEvent) -> DomainEventGraphicsMsg {
    let address = |a: &Option<api::GraphicsAddress>| {
        let a = a.clone().unwrap_or_default();
        DomainEventGraphicsAddress { family: a.family, node: a.node, service: a.service }
    };
    let identity = |i: &api::GraphicsIdentity| DomainEventGraphicsIdentity {
        r#type: i.r#type.clone(),
        name: i.name.clone(),
    };
    DomainEventGraphicsMsg {
        dom,
        phase: e.phase,
        local: address(&e.local),
        remote: address(&e.remote),
        auth_scheme: e.auth_scheme.clone(),
        subject: e.subject.iter().map(identity).collect(),
    }
}

fn disk_change(dom: NonnullDomain, e: &api::DiskChangeEvent) -> DomainEventDiskChangeMsg {
    DomainEventDiskChangeMsg {
        dom,
        old_src_path: e.old_source.clone(),
        new_src_path: e.new_source.clone(),
        dev_alias: e.alias.clone(),
        reason: e.reason,
    }
}

fn block_threshold(dom: NonnullDomain, e: &api::BlockThresholdEvent) -> DomainEventBlockThresholdMsg {
    DomainEventBlockThresholdMsg {
        callback_id: 0,
        dom,
        dev: e.device.clone(),
        path: e.path.clone(),
        threshold: e.threshold,
        excess: e.excess,
    }
}

fn nic_mac_change(dom: NonnullDomain, e: &api::NicMacChangeEvent) -> DomainEventNicMacChangeMsg {
    DomainEventNicMacChangeMsg {
        callback_id: 0,
        dom,
        alias: e.alias.clone(),
        old_mac: e.old_mac.clone(),
        new_mac: e.new_mac.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt_wire::frame::Frame;
    use virt_wire::xdr::from_bytes;

    fn event(what: Event) -> WatchResponse {
        let domain = Some(api::DomainRef { uuid: vec![7; 16].into(), name: "vm".into(), id: Some(3) });
        WatchResponse { cursor: None, domain, event: Some(what) }
    }

    fn registration(id: i32, interest: Interest, only: Option<[u8; 16]>) -> Registration {
        Registration { id, interest, only }
    }

    fn sent(event: &WatchResponse, registered: &[Registration]) -> Vec<Frame> {
        let frames = messages(event, registered).into_iter();
        frames.map(|f| Frame::parse(f.into_bytes().into()).unwrap().0).collect()
    }

    #[test]
    fn both_forms_of_one_event() {
        let started = event(Event::Lifecycle(api::LifecycleEvent { event: 2, detail: 0 }));
        let registered = [
            registration(5, Interest::Domain(0), None),
            registration(6, Interest::Legacy(0), None),
            registration(7, Interest::Domain(0), Some([8; 16])),
            registration(8, Interest::Domain(1), None),
        ];
        let frames = sent(&started, &registered);
        assert_eq!(frames.len(), 2);
        assert_eq!((frames[0].header.proc, frames[0].header.serial), (318, 1));
        let callback: DomainEventCallbackLifecycleMsg = from_bytes(&frames[0].payload).unwrap();
        assert_eq!((callback.callback_id, callback.msg.event, callback.msg.dom.id), (5, 2, 3));
        assert_eq!(frames[1].header.proc, 107);
        let plain: DomainEventLifecycleMsg = from_bytes(&frames[1].payload).unwrap();
        assert_eq!(plain, callback.msg);
    }

    #[test]
    fn power_events_have_their_reason_in_the_new_form_only() {
        let wakeup = event(Event::PmWakeup(api::PmEvent { reason: 9 }));
        let registered =
            [registration(1, Interest::Domain(11), None), registration(2, Interest::Legacy(11), None)];
        let frames = sent(&wakeup, &registered);
        let callback: DomainEventCallbackPmwakeupMsg = from_bytes(&frames[0].payload).unwrap();
        assert_eq!((callback.callback_id, callback.reason), (1, 9));
        from_bytes::<DomainEventPmwakeupMsg>(&frames[1].payload).unwrap();
    }

    #[test]
    fn a_block_job_is_told_by_path_and_by_target() {
        let job = api::BlockJobEvent { path: "/a".into(), target: "vda".into(), r#type: 1, status: 2 };
        let registered =
            [registration(1, Interest::Domain(8), None), registration(2, Interest::Domain(16), None)];
        let frames = sent(&event(Event::BlockJob(job)), &registered);
        let by_path: DomainEventCallbackBlockJobMsg = from_bytes(&frames[0].payload).unwrap();
        let by_target: DomainEventBlockJob2Msg = from_bytes(&frames[1].payload).unwrap();
        assert_eq!((by_path.msg.path.as_str(), by_target.dst.as_str()), ("/a", "vda"));
        assert_eq!(by_target.callback_id, 2);
    }

    #[test]
    fn monitor_events_are_filtered_by_name() {
        use super::super::MonitorFilter;
        let filter = |name: &str, any_case| {
            Interest::Monitor(MonitorFilter { event: Some(name.to_string()), any_case })
        };
        let registered = [
            registration(1, filter("STOP", false), None),
            registration(2, filter("stop", false), None),
            registration(3, filter("stop", true), None),
        ];
        let stop = api::MonitorEvent { event: "STOP".into(), seconds: 1, micros: 2, details: None };
        let frames = sent(&event(Event::Monitor(stop)), &registered);
        let ids: Vec<i32> = frames
            .iter()
            .map(|f| from_bytes::<qemu::DomainMonitorEventMsg>(&f.payload).unwrap().callback_id)
            .collect();
        assert_eq!(ids, [1, 3]);
        assert_eq!(frames[0].header.prog, qemu::PROGRAM.number);
    }
}
