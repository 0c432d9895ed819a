//! What a document as a whole must keep to, with the reference's codes and texts.

use core::net::IpAddr;

use virt_xml::rt_error::{Code, Domain, Error, Result};
use virt_xml::{El, Xml};

use super::dns::Dns;
use super::forward::ForwardMode;
use super::ip::{Ip, network_address};
use super::{Network, unsupported, xml_error};
use crate::domain::net::{Bandwidth, VirtualPort};

/// Refusals that name values which cannot be read at all; called before the fields are.
pub(super) fn root(e: El<'_>, name: &str) -> Result<()> {
    if let Some(v) = e.attr("ipv6")
        && !["yes", "no"].contains(&v)
    {
        return Err(xml_error(e, format!("Invalid ipv6 setting '{v}' in network '{name}'")));
    }
    if let Some(v) = e.attr("trustGuestRxFilters")
        && !["yes", "no"].contains(&v)
    {
        return Err(xml_error(e, format!("Invalid trustGuestRxFilters setting '{v}' in network '{name}'")));
    }
    if let Some(v) = e.child("mtu").and_then(|m| m.attr("size"))
        && virt_xml::parse_int(v, 10).is_none_or(|n| u32::try_from(n).is_err())
    {
        return Err(xml_error(e, format!("Invalid mtu size '{v}' in network '{name}'")));
    }
    // Where packets leave by is looked at after what stays inside.
    if let Some(dns) = e.child("dns") {
        Dns::read(dns)?;
    }
    e.children_named("ip").try_for_each(|ip| Ip::read(ip).map(drop))?;
    if let Some(v) = e.child("mac").and_then(|m| m.attr("address")) {
        let Ok(mac) = <crate::Mac as virt_xml::Value>::parse(v) else {
            return Err(xml_error(e, format!("Invalid bridge mac address '{v}' in network '{name}'")));
        };
        if mac.0[0] & 1 != 0 {
            return Err(xml_error(
                e,
                format!("Invalid multicast bridge mac address '{v}' in network '{name}'"),
            ));
        }
    }
    Ok(())
}

/// All rules that tie parts together.
pub(super) fn whole(net: &Network, e: El<'_>) -> Result<()> {
    if net.title.as_ref().is_some_and(|t| t.contains('\n')) {
        return Err(xml_error(e, "Network title can't contain newlines"));
    }
    if let Some(domain) = &net.domain
        && domain.register == Some(true)
        && domain.local_only != Some(true)
    {
        let text = format!(
            "attribute 'register=yes' in <domain> element requires 'localOnly=yes' in network {}",
            net.name()
        );
        return Err(unsupported(e, text));
    }
    bandwidths(net, e)?;
    routes(net, e)?;
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
            if mode == ForwardMode::Nat && net.ips.is_empty() {
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
            if net.bridge.name.is_some() && mode != ForwardMode::Bridge {
                return Err(xml_error(
                    e,
                    format!("bridge name not allowed in {mode} mode (network '{name}')"),
                ));
            }
            let pf = net.forward.as_ref().is_some_and(|f| f.pf.is_some());
            own_bridge_only(net, e)?;
            if net.bridge.name.is_some() && (interfaces > 0 || pf) {
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

fn bandwidths(net: &Network, e: El<'_>) -> Result<()> {
    let all = net.portgroups.iter().map(|g| &g.bandwidth).chain([&net.bandwidth]);
    all.flatten().try_for_each(check_bandwidth).map_err(|error| error.with("line", e.line()))
}

pub(super) fn check_bandwidth(bandwidth: &Bandwidth) -> Result<()> {
    for rate in [&bandwidth.inbound, &bandwidth.outbound].into_iter().flatten() {
        if rate.floor.is_some() {
            let text = "floor attribute is not supported for this config";
            return Err(Error::new(Code::ConfigUnsupported, Domain::None, text));
        }
        if rate.average.is_none() {
            let text = "Missing mandatory average or floor attributes";
            return Err(Error::new(Code::XmlDetail, Domain::None, text));
        }
    }
    Ok(())
}

/// A route's gateway must be a neighbour.
fn routes(net: &Network, e: El<'_>) -> Result<()> {
    for route in &net.routes {
        let reaches = |address: IpAddr, prefix: u32| {
            address.is_ipv4() == route.gateway.is_ipv4()
                && network_address(address, prefix) == network_address(route.gateway, prefix)
        };
        if !net.ips.iter().any(|ip| ip.prefix_length().is_some_and(|p| reaches(ip.address, p))) {
            let text = format!(
                "unreachable static route gateway '{}' specified for network '{}'",
                route.gateway,
                net.name()
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
