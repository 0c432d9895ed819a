//! From QEMU's events to those clients know, where no state of ours changes.

use virt_api::domain::v1alpha1 as api;
use virt_api::domain::v1alpha1::watch_response::Event as Told;
use virt_consts::*;
use virt_model::domain::Domain;

use super::start::agent_channel;
use crate::qmp::Event;

/// What clients are told; `None` for events that are nobody's business.
pub fn event(event: &Event, live: Option<&Domain>) -> Option<Told> {
    match event.name.as_str() {
        "RESET" => Some(Told::Reboot(api::RebootEvent {})),
        "RTC_CHANGE" => Some(Told::RtcChange(api::RtcChangeEvent { offset: event.number("offset")? })),
        "WATCHDOG" => Some(Told::Watchdog(api::WatchdogEvent { action: watchdog(event.text("action")?) })),
        "BLOCK_IO_ERROR" => io_error(event, live),
        "VNC_CONNECTED" => graphics(event, VIR_DOMAIN_EVENT_GRAPHICS_CONNECT),
        "VNC_INITIALIZED" => graphics(event, VIR_DOMAIN_EVENT_GRAPHICS_INITIALIZE),
        "VNC_DISCONNECTED" => graphics(event, VIR_DOMAIN_EVENT_GRAPHICS_DISCONNECT),
        "DEVICE_TRAY_MOVED" => {
            let open = event.flag("tray-open")?;
            let reason =
                if open { VIR_DOMAIN_EVENT_TRAY_CHANGE_OPEN } else { VIR_DOMAIN_EVENT_TRAY_CHANGE_CLOSE };
            Some(Told::TrayChange(api::TrayChangeEvent { alias: alias(event.text("id")?)?, reason }))
        }
        "DEVICE_DELETED" => {
            Some(Told::DeviceRemoved(api::DeviceEvent { alias: event.text("device")?.into() }))
        }
        "DEVICE_UNPLUG_GUEST_ERROR" => {
            Some(Told::DeviceRemovalFailed(api::DeviceEvent { alias: event.text("device")?.into() }))
        }
        "VSERPORT_CHANGE" => {
            let agent = agent_channel(live?)?.info.alias.as_deref()?;
            if event.text("id")? != agent {
                return None;
            }
            let state = if event.flag("open")? {
                VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED
            } else {
                VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_DISCONNECTED
            };
            let reason = VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_REASON_CHANNEL;
            Some(Told::AgentLifecycle(api::AgentLifecycleEvent { state, reason }))
        }
        _ => None,
    }
}

fn watchdog(action: &str) -> i32 {
    match action {
        "pause" => VIR_DOMAIN_EVENT_WATCHDOG_PAUSE,
        "reset" => VIR_DOMAIN_EVENT_WATCHDOG_RESET,
        "poweroff" => VIR_DOMAIN_EVENT_WATCHDOG_POWEROFF,
        "shutdown" => VIR_DOMAIN_EVENT_WATCHDOG_SHUTDOWN,
        "debug" => VIR_DOMAIN_EVENT_WATCHDOG_DEBUG,
        "inject-nmi" => VIR_DOMAIN_EVENT_WATCHDOG_INJECTNMI,
        _ => VIR_DOMAIN_EVENT_WATCHDOG_NONE,
    }
}

fn io_error(event: &Event, live: Option<&Domain>) -> Option<Told> {
    let action = match event.text("action")? {
        "stop" => VIR_DOMAIN_EVENT_IO_ERROR_PAUSE,
        "report" => VIR_DOMAIN_EVENT_IO_ERROR_REPORT,
        _ => VIR_DOMAIN_EVENT_IO_ERROR_NONE,
    };
    let device_alias =
        event.text("qom-path").or_else(|| event.text("device")).and_then(alias).unwrap_or_default();
    let disk = live?.devices.disks.iter().find(|d| d.info.alias.as_deref() == Some(&device_alias));
    let source_path = disk.and_then(|d| d.source.path()).unwrap_or_default().to_string();
    // The only reason libvirt names.
    let reason = if event.flag("nospace") == Some(true) { "enospc" } else { "" };
    Some(Told::IoError(api::IoErrorEvent { source_path, device_alias, action, reason: reason.into() }))
}

/// "/machine/peripheral/virtio-disk0/virtio-backend" is "virtio-disk0"; a bare alias is itself.
fn alias(qom: &str) -> Option<String> {
    let name = match qom.strip_prefix("/machine/peripheral/") {
        Some(rest) => rest.split('/').next()?,
        None => qom,
    };
    (!name.is_empty()).then(|| name.to_string())
}

fn graphics(event: &Event, phase: i32) -> Option<Told> {
    let address = |side: &str| {
        let side = event.data.get(side)?;
        let text = |key: &str| side.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_string();
        let family = match text("family").as_str() {
            "ipv6" => VIR_DOMAIN_EVENT_GRAPHICS_ADDRESS_IPV6,
            "unix" => VIR_DOMAIN_EVENT_GRAPHICS_ADDRESS_UNIX,
            _ => VIR_DOMAIN_EVENT_GRAPHICS_ADDRESS_IPV4,
        };
        Some(api::GraphicsAddress { family, node: text("host"), service: text("service") })
    };
    let of = |side: &str, key: &str| event.data.get(side)?.get(key)?.as_str().map(str::to_string);
    let auth_scheme = of("server", "auth").unwrap_or_default();
    let subject = [("x509dname", "x509_dname"), ("saslUsername", "sasl_username")]
        .into_iter()
        .filter_map(|(kind, key)| {
            Some(api::GraphicsIdentity { r#type: kind.into(), name: of("client", key)? })
        })
        .collect();
    Some(Told::Graphics(api::GraphicsEvent {
        phase,
        local: address("server"),
        remote: address("client"),
        auth_scheme,
        subject,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn qemu(name: &str, data: serde_json::Value) -> Event {
        Event { name: name.into(), data, seconds: 0, micros: 0 }
    }

    #[test]
    fn events_are_libvirts() {
        let told = event(&qemu("RESET", json!({"guest": true, "reason": "guest-reset"})), None);
        assert_eq!(told, Some(Told::Reboot(api::RebootEvent {})));
        let told = event(&qemu("DEVICE_TRAY_MOVED", json!({"id": "ide0-1-0", "tray-open": true})), None);
        assert_eq!(
            told,
            Some(Told::TrayChange(api::TrayChangeEvent { alias: "ide0-1-0".into(), reason: 0 }))
        );
        let vnc = json!({
            "server": {"host": "127.0.0.1", "service": "5900", "family": "ipv4", "auth": "none"},
            "client": {"host": "127.0.0.1", "service": "41000", "family": "ipv4", "sasl_username": "fred"}
        });
        let Some(Told::Graphics(g)) = event(&qemu("VNC_INITIALIZED", vnc), None) else { panic!("no event") };
        assert_eq!((g.phase, g.auth_scheme.as_str(), g.subject[0].name.as_str()), (1, "none", "fred"));
    }

    #[test]
    fn hostile_and_unknown_events_are_nothing() {
        for (name, data) in [
            ("NEW_EVENT", json!({"x": 1})),
            ("RTC_CHANGE", json!({"offset": "soon"})),
            ("WATCHDOG", json!(null)),
            ("DEVICE_TRAY_MOVED", json!([])),
            ("VSERPORT_CHANGE", json!({"id": 5})),
            ("BLOCK_IO_ERROR", json!({"action": 7})),
        ] {
            assert_eq!(event(&qemu(name, data), None), None, "{name}");
        }
    }
}
