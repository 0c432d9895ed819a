//! Ports of the host that lead to guests: adding, removing and listing them, in a network's document or at a port.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;
use virt_api::network::v1alpha1 as api;
use virt_error::{Code, Domain, Error, Result};
use virt_model::Mac;
use virt_model::network::forwarding::{Guest, PortForward, PortForwards, Range, Transport};
use virt_object::blocking;
use virt_object::owner::{Class, Spec};
use virt_xml::Value;

use super::ports;
use crate::definitions::{self, Affect};
use crate::driver::Driver;
use crate::firewall::forwards;
use crate::lifecycle;
use crate::network::{Network, Work, invalid};
use crate::status;

fn bad(text: impl Into<String>) -> Error {
    Error::new(Code::InvalidArg, Domain::Network, text)
}

fn read(forward: &api::PortForward) -> Result<PortForward> {
    let proto = Transport::from_name(&forward.proto)
        .ok_or_else(|| bad(format!("'{}' is no protocol of a port forward", forward.proto)))?;
    let address = |text: &Option<String>| {
        let parse = |t: &String| t.parse().map_err(|_| bad(format!("'{t}' is no address")));
        text.as_ref().map(parse).transpose()
    };
    let guest = match (address(&forward.guest)?, &forward.mac) {
        (Some(_), Some(_)) => return Err(bad("a port forward leads to a guest or to a mac, not to both")),
        (Some(address), None) => Some(Guest::Address(address)),
        (None, Some(mac)) => Some(Guest::Card(
            Mac::parse(mac).map_err(|_| Error::new(Code::InvalidMac, Domain::Network, mac.clone()))?,
        )),
        (None, None) => None,
    };
    let port = |n: u32| u16::try_from(n).map_err(|_| bad(format!("{n} is no port")));
    let or = |n: u32, other: u32| if n == 0 { other } else { n };
    let range = |r: &api::PortRange| {
        let (start, end, to) = (port(r.start)?, port(or(r.end, r.start))?, port(or(r.to, r.start))?);
        Range::new(start, end, to).ok_or_else(|| bad(format!("{start}-{end} to {to} is no range of ports")))
    };
    let ranges = forward.ranges.iter().map(range).collect::<Result<Vec<_>>>()?;
    if ranges.is_empty() {
        return Err(bad("a port forward needs a range of ports"));
    }
    Ok(PortForward { proto, address: address(&forward.address)?, dev: forward.dev.clone(), guest, ranges })
}

fn answer(forward: &PortForward) -> api::PortForward {
    let range = |r: &Range| api::PortRange { start: r.start.into(), end: r.end.into(), to: r.to.into() };
    let (guest, mac) = match forward.guest {
        Some(Guest::Address(address)) => (Some(address.to_string()), None),
        Some(Guest::Card(mac)) => (None, Some(mac.to_string())),
        None => (None, None),
    };
    api::PortForward {
        proto: forward.proto.to_string(),
        address: forward.address.map(|a| a.to_string()),
        dev: forward.dev.clone(),
        guest,
        mac,
        ranges: forward.ranges.iter().map(range).collect(),
    }
}

/// What is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// One more.
    Add,
    /// The one of the same protocol, address, interface and ranges goes.
    Remove,
}

impl Change {
    fn apply(self, list: &mut Vec<PortForward>, forward: &PortForward) -> Result<()> {
        let same = |f: &PortForward| {
            (f.proto, f.address, &f.dev, &f.ranges)
                == (forward.proto, forward.address, &forward.dev, &forward.ranges)
        };
        match self {
            Self::Add if list.iter().any(|f| f.clashes(forward)) => {
                Err(invalid("another port forward takes the same port of the host"))
            }
            Self::Add => {
                list.push(forward.clone());
                Ok(())
            }
            Self::Remove => {
                let missing = || invalid("there is no such port forward");
                list.remove(list.iter().position(same).ok_or_else(missing)?);
                Ok(())
            }
        }
    }
}

/// Adds or removes a forward.
pub(super) async fn change(
    network: &Network,
    request: api::PortForwardRequest,
    change: Change,
) -> Result<()> {
    let wanted = request.forward.as_ref().ok_or_else(|| bad("no port forward is given"))?;
    let forward = read(wanted)?;
    let port = if request.port_uuid.is_empty() { None } else { Some(ports::uuid_of(&request.port_uuid)?) };
    if port.is_none() && forward.guest.is_none() && change == Change::Add {
        return Err(bad("a port forward of a network needs a guest or a mac"));
    }
    network
        .work(Spec::new("forward", Class::Modify), move |work| {
            Box::pin(async move {
                match port {
                    Some(port) => at_port(work, port, &forward, change).await,
                    None => in_document(work, request.flags, &forward, change).await,
                }
            })
        })
        .await
}

async fn in_document(work: &mut Work, flags: u32, forward: &PortForward, change: Change) -> Result<()> {
    let before = work.published();
    let affect = Affect::resolve(flags, &before.value)?;
    if affect.live && change == Change::Add {
        let taken = before.value.ports.iter().flat_map(|p| &p.forwards.forwards);
        if taken.into_iter().any(|f| f.clashes(forward)) {
            return Err(invalid("another port forward takes the same port of the host"));
        }
    }
    let live = definitions::change(work, affect, |net| {
        let mut all = PortForwards::of(net)?;
        change.apply(&mut all.forwards, forward)?;
        all.keep_in(net)
    })
    .await?;
    match (&before.value.live, live) {
        (Some(old), Some(new)) => lifecycle::refresh(work, old, &new).await,
        _ => Ok(()),
    }
}

async fn at_port(work: &mut Work, uuid: Uuid, forward: &PortForward, change: Change) -> Result<()> {
    let before = work.published();
    let Some(live) = &before.value.live else {
        return Err(invalid(format!("network '{}' is not active", before.value.name)));
    };
    let mut ports = (*before.value.ports).clone();
    let port = ports.iter_mut().find(|p| p.uuid == Some(uuid)).ok_or_else(|| ports::missing(&uuid))?;
    if change == Change::Add {
        forwards::check(live, std::slice::from_ref(forward))?;
        work.driver.no_clash(&work.uuid, std::slice::from_ref(forward))?;
        let own = forwards::all(live, &before.value.ports);
        if own.iter().any(|f| f.clashes(forward)) {
            return Err(invalid("another port forward takes the same port of the host"));
        }
    }
    change.apply(&mut port.forwards.forwards, forward)?;
    status::save_port(work, port)?;
    let ports = Arc::new(ports);
    work.driver.enforce(work.uuid, live, &ports).await?;
    work.publish(|p| p.ports = ports);
    Ok(())
}

/// All forwards, and where they lead.
pub(super) async fn list(driver: &Arc<Driver>, network: &Network) -> Result<api::ListPortForwardsResponse> {
    let published = network.published();
    let document = published.value.document()?.clone();
    let ports = published.value.ports.clone();
    let active = published.value.is_active();
    let files = driver.files(document.name());
    blocking::run(move || {
        let leases = if active { crate::dnsmasq::leases::of(&files, &document)? } else { Vec::new() };
        let one = |forward: PortForward, port: Option<Uuid>| api::ActiveForward {
            leads_to: forwards::guest(&document, &leases, &forward)
                .filter(|_| active)
                .map(|ip| ip.to_string()),
            forward: Some(answer(&forward)),
            port_uuid: port.map(|u| Bytes::copy_from_slice(u.as_bytes())).unwrap_or_default(),
        };
        let own = PortForwards::of(&document)?.forwards;
        let mut all: Vec<_> = own.into_iter().map(|f| one(f, None)).collect();
        for port in ports.iter() {
            all.extend(port.forwards.forwards.iter().map(|f| one(forwards::of_port(f, port), port.uuid)));
        }
        Ok(api::ListPortForwardsResponse { forwards: all })
    })
    .await
}
