//! Network cards.

use virt_error::{Code, Result};

use super::super::Domain;
use super::super::info::each;
use super::super::interface::{Interface, NetBackendKind, NetSource, TeamingKind};
use super::{fail, unsupported, xml};

pub(super) fn check(d: &Domain) -> Result<()> {
    each(&d.devices.interfaces, one)
}

fn one(card: &Interface) -> Result<()> {
    if let NetSource::Server(s) | NetSource::Client(s) | NetSource::Mcast(s) | NetSource::Udp(s) =
        &card.source
    {
        if s.port.is_none() {
            return xml("Missing required attribute 'port' in element 'source'");
        }
        if s.address.is_none() && !matches!(card.source, NetSource::Server(_)) {
            return xml("Missing required attribute 'address' in element 'source'");
        }
    }
    if let NetSource::Hostdev(h) = &card.source
        && h.address.is_none()
    {
        return unsupported("unknown host device source address type '(null)'");
    }
    if let Some(mac) = card.mac.as_ref().and_then(|m| m.address).filter(|m| m.0[0] & 1 == 1) {
        return xml(format!("expected unicast mac address, found multicast '{mac}'"));
    }
    if let Some(model) = &card.model
        && !model.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    {
        return fail(Code::InvalidArg, "Model name contains invalid characters");
    }
    let virtio = card.model.as_deref().is_some_and(|m| m == "virtio" || m.starts_with("virtio-"));
    if !virtio {
        super::disk::no_virtio_options(&card.driver.virtio)?;
    }
    if let Some(teaming) = &card.teaming
        && teaming.kind == TeamingKind::Transient
        && teaming.persistent.is_none()
    {
        return unsupported("teaming persistent attribute must be set if teaming type is 'transient'");
    }
    for route in card.routes.iter().chain(match &card.source {
        NetSource::Ethernet(e) => &e.routes[..],
        _ => &[],
    }) {
        if route.gateway.is_none() {
            return xml("interface host IP: Missing required gateway attribute in route definition");
        }
    }
    if card.isolated == Some(true) && !matches!(card.source, NetSource::Network(_) | NetSource::Bridge(_)) {
        let mac = card.mac.as_ref().and_then(|m| m.address).map(|a| a.to_string()).unwrap_or_default();
        let kind = card.source.tag();
        return unsupported(format!(
            "interface {mac} - <port isolated='yes'/> is not supported for network interfaces with type='{kind}'"
        ));
    }
    let passt = card.backend.kind == Some(NetBackendKind::Passt);
    if !card.port_forwards.is_empty() && !passt {
        return unsupported(
            "The <portForward> element can only be used with the 'passt' backend of interface type='user' or type='vhostuser'",
        );
    }
    for forward in &card.port_forwards {
        for r in &forward.ranges {
            if r.start.is_none() && (r.end.is_some() || r.to.is_some() || r.exclude.is_some()) {
                return unsupported(
                    "The 'range' of a 'portForward' requires 'start' attribute if 'end', 'to', or 'exclude' is specified",
                );
            }
        }
        if let Some(a) = forward.address.as_deref().filter(|a| a.parse::<std::net::IpAddr>().is_err()) {
            return xml(format!("Invalid address '{a}' in <portForward>"));
        }
    }
    Ok(())
}
