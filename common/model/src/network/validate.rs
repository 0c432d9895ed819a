//! What a document as a whole must keep to, with the reference's codes and texts.

use core::net::IpAddr;

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{Codec, El, Xml, YesNo, rt};

use super::bridge::Bridge;
use super::dns::{Dns, DomainName};
use super::forward::ForwardMode;
use super::ip::{Ip, network_address};
use super::portgroup::PortGroup;
use super::route::Route;
use super::{Network, unsupported, xml_error};
use crate::domain::net::{Bandwidth, VirtualPort, Vlan};

/// Refusals of the document's own values that name them in words of their own; called before the fields are read.
pub(super) fn own(e: El<'_>, name: &str) -> Result<()> {
    if let Some(v) = e.attr("ipv6")
        && !["yes", "no"].contains(&v)
    {
        return Err(xml_error(e, format!("Invalid ipv6 setting '{v}' in network '{name}'")));
    }
    mac(e, name)?;
    if let Some(v) = e.child("mtu").and_then(|m| m.attr("size")).filter(|v| !v.is_empty())
        && virt_xml::parse_int(v, 10).is_none_or(|n| u32::try_from(n).is_err())
    {
        return Err(xml_error(e, format!("Invalid mtu size '{v}' in network '{name}'")));
    }
    Ok(())
}

fn mac(e: El<'_>, name: &str) -> Result<()> {
    let Some(v) = e.child("mac").and_then(|m| m.attr("address")).filter(|v| !v.is_empty()) else {
        return Ok(());
    };
    let Ok(mac) = <crate::Mac as virt_xml::Value>::parse(v) else {
        return Err(xml_error(e, format!("Invalid bridge mac address '{v}' in network '{name}'")));
    };
    if mac.0[0] & 1 != 0 {
        return Err(xml_error(e, format!("Invalid multicast bridge mac address '{v}' in network '{name}'")));
    }
    Ok(())
}

/// The mistake that the reference would find first, of a document that has one. Where packets leave by is looked at last.
pub(super) fn first(e: El<'_>) -> Result<()> {
    let text = |name: &str| e.child(name).map(|c| c.text().into_owned());
    let name = text("name").unwrap_or_default();
    if name.is_empty() {
        return Ok(());
    }
    if let Some(uuid) = text("uuid").filter(|u| !u.is_empty())
        && <crate::UuidText as Codec<crate::Uuid>>::parse(&uuid).is_err()
    {
        return Err(e.error(Code::InternalError, Domain::Network, "malformed uuid element"));
    }
    title(text("title").as_deref(), e)?;
    if e.attr("ipv6").is_some_and(|v| !["yes", "no"].contains(&v)) {
        return own(e, &name);
    }
    rt::attr::<YesNo, bool>(Some(e), "trustGuestRxFilters", None)?;
    let domain = rt::child::<DomainName>(Some(e), "domain")?;
    registration(domain.as_ref(), &name, e)?;
    rt::child::<Bandwidth>(Some(e), "bandwidth")?;
    rt::child::<Vlan>(Some(e), "vlan")?;
    rt::attr::<YesNo, bool>(e.child("port"), "isolated", None)?;
    rt::child::<Bridge>(Some(e), "bridge")?;
    own(e, &name)?;
    rt::child::<Dns>(Some(e), "dns")?;
    rt::child::<VirtualPort>(Some(e), "virtualport")?;
    rt::children::<PortGroup>(Some(e), "portgroup")?;
    let ips = rt::children::<Ip>(Some(e), "ip")?;
    for route in e.children_named("route") {
        routes(&[Route::read(route)?], &ips, &name, e)?;
    }
    Ok(())
}

fn title(title: Option<&str>, e: El<'_>) -> Result<()> {
    match title.is_some_and(|t| t.contains('\n')) {
        true => Err(xml_error(e, "Network title can't contain newlines")),
        false => Ok(()),
    }
}

/// Only names that nobody outside knows can be told to the host.
fn registration(domain: Option<&DomainName>, name: &str, e: El<'_>) -> Result<()> {
    if domain.is_some_and(|d| d.register == Some(true) && d.local_only != Some(true)) {
        let text = format!(
            "attribute 'register=yes' in <domain> element requires 'localOnly=yes' in network {name}"
        );
        return Err(unsupported(e, text));
    }
    Ok(())
}

/// All rules that tie parts together.
pub(super) fn whole(net: &Network, e: El<'_>) -> Result<()> {
    title(net.title.as_deref(), e)?;
    registration(net.domain.as_ref(), net.name(), e)?;
    routes(&net.routes, &net.ips, net.name(), e)?;
    by_mode(net, e)?;
    if e.mode().known {
        return Ok(());
    }
    own_services(net, e)?;
    pool(net, e)?;
    portgroups(net, e)?;
    vlans(net, e)?;
    one_dhcp(net, e)
}

fn by_mode(net: &Network, e: El<'_>) -> Result<()> {
    let (name, mode) = (net.name(), net.mode());
    let interfaces = net.forward.as_ref().map_or(0, |f| f.interfaces.len());
    match mode {
        ForwardMode::None => {}
        ForwardMode::Nat | ForwardMode::Route => {
            if net.ips.is_empty() {
                let text =
                    format!("{mode} forwarding requested, but no IP address provided for network '{name}'");
                return Err(xml_error(e, text));
            }
            if interfaces > 1 {
                let text = format!(
                    "multiple forwarding interfaces specified for network '{name}', only one is supported"
                );
                return Err(xml_error(e, text));
            }
        }
        ForwardMode::Open => {
            if interfaces > 0 {
                let text = format!("forward dev not allowed for network '{name}' with forward mode='{mode}'");
                return Err(xml_error(e, text));
            }
        }
        ForwardMode::Bridge
        | ForwardMode::Private
        | ForwardMode::Vepa
        | ForwardMode::Passthrough
        | ForwardMode::Hostdev => {
            if mode != ForwardMode::Bridge {
                let bridge = &net.bridge;
                let said = [
                    (bridge.name.is_some(), "name"),
                    (bridge.zone.is_some(), "zone"),
                    (bridge.mac_table_manager.is_some(), "macTableManager setting"),
                ];
                if let Some((_, what)) = said.iter().find(|(said, _)| *said) {
                    let text = format!("bridge {what} not allowed in {mode} mode (network '{name}')");
                    return Err(xml_error(e, text));
                }
            }
            let pf = net.forward.as_ref().is_some_and(|f| f.pf.is_some());
            own_bridge_only(net, e)?;
            let cards = net.forward.as_ref().map_or(0, |f| f.addresses.len());
            if net.bridge.name.is_some() && (interfaces + cards > 0 || pf) {
                let text = format!(
                    "A network with forward mode='{mode}' can specify a bridge name or a forward dev, but not both (network '{name}')"
                );
                return Err(xml_error(e, text));
            }
        }
    }
    Ok(())
}

/// What is said of a bridge that is not the network's own.
fn own_bridge_only(net: &Network, e: El<'_>) -> Result<()> {
    let (name, mode) = (net.name(), net.mode());
    if net.bridge.stp.is_some() || net.bridge.delay.is_some() || net.bridge.zone.is_some() {
        let text = format!(
            "bridge delay/stp/zone options only allowed in open, route, nat, and isolated mode, not in {mode} (network '{name}')"
        );
        return Err(xml_error(e, text));
    }
    if net.mtu.is_some() {
        let text = format!(
            "mtu size only allowed in open, route, nat, and isolated mode, not in {mode} (network '{name}')"
        );
        return Err(xml_error(e, text));
    }
    Ok(())
}

/// What only a bridge of the network's own can have.
fn own_services(net: &Network, e: El<'_>) -> Result<()> {
    let (name, mode) = (net.name(), net.mode());
    if mode.owns_bridge() {
        return Ok(());
    }
    let refuse = |what: &str| {
        Err(unsupported(
            e,
            format!("Unsupported {what} element in network {name} with forward mode='{mode}'"),
        ))
    };
    if net.mac.is_some() {
        return refuse("<mac>");
    }
    if !net.ips.is_empty() {
        return refuse("<ip>");
    }
    if net.dns.enabled() && !net.dns.is_empty() {
        return refuse("<dns>");
    }
    if net.domain.is_some() {
        return refuse("<domain>");
    }
    if net.bandwidth.is_some() && mode != ForwardMode::Bridge {
        return refuse("network-wide <bandwidth>");
    }
    Ok(())
}

/// The devices that guests are given, by the mode.
fn pool(net: &Network, e: El<'_>) -> Result<()> {
    let (name, mode) = (net.name(), net.mode());
    let Some(forward) = &net.forward else { return Ok(()) };
    if mode == ForwardMode::Hostdev {
        if let Some(interface) = forward.interfaces.first() {
            let text = format!(
                "hostdev network '{name}' lists '{}' in the device pool, but hostdev networks require all devices to be listed by PCI address, not network device name",
                interface.dev
            );
            return Err(unsupported(e, text));
        }
    } else if !forward.addresses.is_empty() {
        let text = format!(
            "network '{name}' has forward mode '{mode}' but lists a device by PCI address in the device pool. This is only supported for networks with forward mode 'hostdev'"
        );
        return Err(unsupported(e, text));
    }
    Ok(())
}

fn portgroups(net: &Network, e: El<'_>) -> Result<()> {
    let name = net.name();
    let mut default = None;
    for (i, group) in net.portgroups.iter().enumerate() {
        let this = group.name.as_deref().unwrap_or_default();
        if net.portgroups[..i].iter().any(|g| g.name == group.name) {
            let text =
                format!("multiple <portgroup> elements with the same name ({this}) in network '{name}'");
            return Err(unsupported(e, text));
        }
        if group.default == Some(true)
            && let Some(first) = default.replace(this)
        {
            let text = format!(
                "network '{name}' has multiple default <portgroup> elements ({first} and {this}), but only one default is allowed"
            );
            return Err(unsupported(e, text));
        }
    }
    Ok(())
}

/// VLANs need a switch that knows them: a host bridge, Open vSwitch, or a card as a whole.
fn vlans(net: &Network, e: El<'_>) -> Result<()> {
    let is_ovs = |port: Option<&VirtualPort>| port.and_then(|p| p.kind.as_deref()) == Some("openvswitch");
    let whole_card = matches!(net.mode(), ForwardMode::Hostdev | ForwardMode::Passthrough);
    let host_bridge = net.mode() == ForwardMode::Bridge && net.bridge.name.is_some();
    let network_allows = whole_card
        || (host_bridge && net.virtualport.is_none())
        || (net.mode() == ForwardMode::Bridge
            && net.bridge.name.is_some()
            && is_ovs(net.virtualport.as_ref()));
    let refuse = || {
        let name = net.name();
        let text = format!(
            "<vlan> element specified for network {name}, whose type doesn't support vlan configuration"
        );
        Err(unsupported(e, text))
    };
    if net.vlan.is_some() && !network_allows {
        return refuse();
    }
    for group in net.portgroups.iter().filter(|g| g.vlan.is_some()) {
        let group_allows = host_bridge && is_ovs(group.virtualport.as_ref());
        if !network_allows && !group_allows {
            return refuse();
        }
    }
    Ok(())
}

/// A route's gateway must be a neighbour.
fn routes(routes: &[Route], ips: &[Ip], name: &str, e: El<'_>) -> Result<()> {
    for route in routes {
        let reaches = |address: IpAddr, prefix: u32| {
            address.is_ipv4() == route.gateway.is_ipv4()
                && network_address(address, prefix) == network_address(route.gateway, prefix)
        };
        if !ips.iter().any(|ip| ip.prefix_length().is_some_and(|p| reaches(ip.address, p))) {
            let text = format!(
                "unreachable static route gateway '{}' specified for network '{name}'",
                route.gateway
            );
            return Err(unsupported(e, text));
        }
    }
    Ok(())
}

fn one_dhcp(net: &Network, e: El<'_>) -> Result<()> {
    for (v6, family) in [(false, "IPv4"), (true, "IPv6")] {
        if net.ips.iter().filter(|ip| ip.is_ipv6() == v6 && ip.has_dhcp()).count() > 1 {
            let text = format!(
                "Multiple {family} dhcp sections found -- dhcp is supported only for a single {family} address on each network"
            );
            return Err(unsupported(e, text));
        }
    }
    Ok(())
}
