//! Ports: the places guests' cards hold in a running network.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;
use virt_api::network::v1alpha1::{ListPortsResponse, Port};
use virt_error::{Code, Domain, Error, Result};
use virt_model::network::Network as Document;
use virt_model::network::forward::ForwardMode;
use virt_model::network::port::{BridgePlug, NetworkPort, Plug};
use virt_object::blocking;
use virt_object::owner::{Class, Spec};

use crate::firewall::forwards;
use crate::hooks::{self, Moment};
use crate::network::{Network, NetworkExt, Work, invalid};
use crate::{pool, shares, status};
use virt_host::link;

fn answer(network: &Network, port: &NetworkPort) -> Port {
    Port {
        network: Some(network.reference()),
        uuid: Bytes::copy_from_slice(port.uuid.unwrap_or_default().as_bytes()),
        xml: port.format(),
    }
}

/// All ports of a network.
pub(super) fn list(network: &Network) -> ListPortsResponse {
    let published = network.published();
    ListPortsResponse { ports: published.value.ports.iter().map(|p| answer(network, p)).collect() }
}

pub(super) fn uuid_of(bytes: &[u8]) -> Result<Uuid> {
    Uuid::from_slice(bytes).map_err(|_| Error::new(Code::InvalidArg, Domain::Network, "a UUID has 16 bytes"))
}

pub(super) fn missing(uuid: &Uuid) -> Error {
    Error::new(Code::NoNetworkPort, Domain::Network, format!("Network port with UUID {uuid} does not exist"))
}

/// One port.
pub(super) fn get(network: &Network, uuid: &[u8]) -> Result<Port> {
    let uuid = uuid_of(uuid)?;
    let published = network.published();
    let found = published.value.ports.iter().find(|p| p.uuid == Some(uuid));
    found.map(|p| answer(network, p)).ok_or_else(|| missing(&uuid))
}

/// What a card of this network is plugged into.
fn plug(net: &Document, ports: &[NetworkPort], wanted: &NetworkPort) -> Result<Plug> {
    let mac_table_manager = net.bridge.mac_table_manager;
    match (&net.bridge.name, net.mode()) {
        (Some(bridge), mode) if net.owns_bridge() || mode == ForwardMode::Bridge => {
            link::check_name(bridge)?;
            let plug = BridgePlug { bridge: bridge.clone(), mac_table_manager };
            Ok(if net.owns_bridge() { Plug::Network(plug) } else { Plug::Bridge(plug) })
        }
        _ => pool::choose(net, ports, wanted),
    }
}

/// Takes a place; with `reclaim` the document says what the card is plugged into already.
pub(super) async fn create(network: &Network, xml: &str, reclaim: bool) -> Result<Port> {
    let mut port = NetworkPort::parse(xml)?;
    let uuid = *port.uuid.get_or_insert_with(Uuid::new_v4);
    if !reclaim && port.plug.is_some() {
        let text = "Port reclaim not requested but plug type is not none";
        return Err(Error::new(Code::InvalidArg, Domain::Network, text));
    }
    if reclaim && port.plug.is_none() {
        let text = "Port reclaim requested but plug type is none";
        return Err(Error::new(Code::InvalidArg, Domain::Network, text));
    }
    let port = network
        .work(Spec::new("port", Class::Modify), move |work| {
            Box::pin(async move {
                let published = work.published();
                let Some(live) = &published.value.live else {
                    return Err(invalid(format!("network '{}' is not active", published.value.name)));
                };
                if published.value.ports.iter().any(|p| p.uuid == Some(uuid)) {
                    let text = format!("Network port with UUID {uuid} already exists");
                    return Err(Error::new(Code::NetworkPortExist, Domain::Network, text));
                }
                inherit(&mut port, live, &published.value.ports)?;
                shares::claim(&mut port, live, &published.value.ports)?;
                let lead = &port.forwards.forwards;
                forwards::check(live, lead)?;
                work.driver.no_clash(&work.uuid, lead)?;
                if forwards::all(live, &published.value.ports)
                    .iter()
                    .any(|f| lead.iter().any(|n| n.clashes(f)))
                {
                    return Err(invalid("another port forward takes the same port of the host"));
                }
                let mut ports = (*published.value.ports).clone();
                ports.push(port.clone());
                let ports = Arc::new(ports);
                let shown = pool::shown(live, &ports);
                hooks::run(&work.driver.folders.hook, Moment::PortCreated, &shown, Some(&port)).await?;
                status::save_port(work, &port)?;
                let kept = keep(work, live, &ports, &port).await;
                let enforced = match kept {
                    Ok(()) if !port.forwards.forwards.is_empty() => {
                        work.driver.enforce(work.uuid, live, &ports).await
                    }
                    other => other,
                };
                if let Err(error) = enforced {
                    give_back(work, live, &published.value.ports, &port).await;
                    status::remove_port(work, &uuid);
                    return Err(error);
                }
                work.publish(|p| p.ports = ports);
                Ok(port)
            })
        })
        .await?;
    Ok(answer(network, &port))
}

/// Keeps what a port has claimed of the network's rate.
pub(super) async fn keep(
    work: &Work,
    live: &Arc<Document>,
    ports: &Arc<Vec<NetworkPort>>,
    port: &NetworkPort,
) -> Result<()> {
    if shares::sum(std::slice::from_ref(port)) == 0 {
        return Ok(());
    }
    status::save(work, live, ports)?;
    let (live, ports, port) = (live.clone(), ports.clone(), port.clone());
    blocking::run(move || shares::keep(&live, &ports, &port)).await
}

/// Gives back what was kept for a port; `ports` are the others.
pub(super) async fn give_back(
    work: &Work,
    live: &Arc<Document>,
    ports: &Arc<Vec<NetworkPort>>,
    port: &NetworkPort,
) {
    if shares::sum(std::slice::from_ref(port)) == 0 {
        return;
    }
    let saved = status::save(work, live, ports);
    let (live, ports, port) = (live.clone(), ports.clone(), port.clone());
    let given = blocking::run(move || shares::give_back(&live, &ports, &port)).await;
    if let Err(error) = saved.and(given) {
        // The port goes all the same; the bridge's end takes the rest along.
        tracing::warn!(%error, network = %work.uuid, "a share of the network's rate is not given back");
    }
}

/// What a card does not say itself comes from its portgroup, then from the network.
fn inherit(port: &mut NetworkPort, net: &Document, ports: &[NetworkPort]) -> Result<()> {
    if port.plug.is_none() {
        port.plug = Some(plug(net, ports, port)?);
    }
    let group = net.portgroup(port.group.as_deref());
    port.bandwidth = port.bandwidth.take().or_else(|| group?.bandwidth.clone());
    port.vlan = port.vlan.take().or_else(|| group?.vlan.clone()).or_else(|| net.vlan.clone());
    port.virtualport =
        port.virtualport.take().or_else(|| group?.virtualport.clone()).or_else(|| net.virtualport.clone());
    if let Some(switch) = port.virtualport.as_ref().filter(|_| net.owns_bridge()) {
        let kind = switch.kind.as_deref().unwrap_or("none");
        let text = format!(
            "<virtualport type='{kind}'> not supported for network '{}' which uses IP forwarding",
            net.name()
        );
        return Err(Error::new(Code::ConfigUnsupported, Domain::Network, text));
    }
    port.isolated = port.isolated.or(net.isolated);
    let trust = || group?.trust_guest_rx_filters;
    port.trust_guest_rx_filters = port.trust_guest_rx_filters.or_else(trust).or(net.trust_guest_rx_filters);
    Ok(())
}

/// Gives a place back.
pub(super) async fn delete(network: &Network, uuid: &[u8]) -> Result<()> {
    let uuid = uuid_of(uuid)?;
    network
        .work(Spec::new("port", Class::Modify), move |work| {
            Box::pin(async move {
                let before = work.published();
                let port = before.value.ports.iter().find(|p| p.uuid == Some(uuid));
                let port = port.ok_or_else(|| missing(&uuid))?;
                status::remove_port(work, &uuid);
                work.publish(|p| {
                    let rest = p.ports.iter().filter(|p| p.uuid != Some(uuid)).cloned().collect();
                    p.ports = Arc::new(rest);
                });
                if let Some(live) = &before.value.live {
                    give_back(work, live, &work.published().value.ports, port).await;
                    if !port.forwards.forwards.is_empty() {
                        work.driver.enforce(work.uuid, live, &work.published().value.ports).await?;
                    }
                    let shown = pool::shown(live, &work.published().value.ports);
                    hooks::tell(&work.driver.folders.hook, Moment::PortDeleted, &shown, Some(port)).await;
                }
                Ok(())
            })
        })
        .await
}
