//! Ports of the host that lead to guests: whose address is meant, and the rules.
//!
//! ```text
//!   from outside, or from the host itself --> to an address of the host, port P --> to the guest's address, port Q
//!   from a guest of the same network --> the same, and answers come back by the host: it stands in for the sender
//! ```

use std::net::IpAddr;

use virt_error::{Code, Domain, Error, Result};
use virt_model::Mac;
use virt_model::network::Network;
use virt_model::network::forward::ForwardMode;
use virt_model::network::forwarding::{Guest, PortForward, PortForwards, Range, Transport};
use virt_model::network::ip::network_address;
use virt_model::network::port::NetworkPort;
use virt_xml::Value;

use super::{Chain, Family, Net, Rule, Verdict};
use crate::dnsmasq::leases::Lease;

/// A range of the host's ports, and the guest it leads to now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// TCP or UDP.
    pub proto: Transport,
    /// Only this address of the host.
    pub address: Option<IpAddr>,
    /// Only what comes in here.
    pub dev: Option<String>,
    /// The guest.
    pub guest: IpAddr,
    /// The ports.
    pub range: Range,
}

/// Whether guests of such a network can answer who asks them from outside, and there are rules for it.
pub fn possible(mode: ForwardMode) -> bool {
    matches!(mode, ForwardMode::Nat | ForwardMode::Route)
}

fn unsupported(text: impl Into<String>) -> Error {
    Error::new(Code::ConfigUnsupported, Domain::Network, text)
}

/// Checks the forwards of a network, or of a port in it, against the network.
///
/// # Errors
/// Code 67 for a network that they cannot work in, or a guest outside of it; code 27 for a name that no interface has.
pub fn check(net: &Network, forwards: &[PortForward]) -> Result<()> {
    if forwards.is_empty() {
        return Ok(());
    }
    let name = net.name();
    if !possible(net.mode()) {
        return Err(unsupported(format!(
            "network '{name}' has port forwards, but its forward mode is neither nat nor route"
        )));
    }
    for forward in forwards {
        if let Some(dev) = &forward.dev {
            virt_host::link::check_name(dev)?;
        }
        if let Some(Guest::Address(guest)) = forward.guest
            && own(net, guest).is_none()
        {
            return Err(unsupported(format!(
                "port forward to {guest}, which is no address of network '{name}'"
            )));
        }
    }
    Ok(())
}

/// The forwards of a network and of its ports; a port's lead to its own card unless they say otherwise.
pub fn all(net: &Network, ports: &[NetworkPort]) -> Vec<PortForward> {
    // A document that cannot be read was refused before it got here.
    let mut found = PortForwards::of(net).unwrap_or_default().forwards;
    for port in ports {
        found.extend(port.forwards.forwards.iter().map(|f| of_port(f, port)));
    }
    found
}

/// A port's forward with the guest it leads to.
pub fn of_port(forward: &PortForward, port: &NetworkPort) -> PortForward {
    PortForward { guest: forward.guest.or(port.mac.map(Guest::Card)), ..forward.clone() }
}

/// The address of the guest a forward leads to, if it is known by now: what the document keeps for a card comes before
/// what was leased to it.
pub fn guest(net: &Network, leases: &[Lease], forward: &PortForward) -> Option<IpAddr> {
    let v4 = forward.address.map(|a| a.is_ipv4());
    match forward.guest? {
        Guest::Address(address) => Some(address),
        Guest::Card(mac) => {
            let kept = net
                .ips
                .iter()
                .flat_map(|ip| &ip.hosts)
                .filter(|h| h.mac.as_ref().is_some_and(|m| m.mac == mac))
                .filter_map(|h| h.ip);
            let is =
                |l: &&Lease| l.mac_address.as_deref().is_some_and(|m| Mac::parse(m).is_ok_and(|m| m == mac));
            // The newest is the last.
            let leased = leases.iter().rev().filter(is).filter_map(|l| l.ip_address.parse().ok());
            kept.chain(leased)
                .find(|ip: &IpAddr| own(net, *ip).is_some() && v4.is_none_or(|v4| v4 == ip.is_ipv4()))
        }
    }
}

/// What forwards lead to now. Those whose guest has no address yet are left out.
pub fn resolve(net: &Network, ports: &[NetworkPort], leases: &[Lease]) -> Vec<Forwarded> {
    let mut out: Vec<Forwarded> = Vec::new();
    for forward in all(net, ports) {
        let Some(guest) = guest(net, leases, &forward) else { continue };
        out.extend(forward.ranges.iter().map(|range| Forwarded {
            proto: forward.proto,
            address: forward.address,
            dev: forward.dev.clone(),
            guest,
            range: *range,
        }));
    }
    out
}

/// The network's own net that an address is in.
fn own(net: &Network, address: IpAddr) -> Option<Net> {
    net.ips.iter().find_map(|ip| {
        let prefix = ip.prefix_length()?;
        let same = ip.address.is_ipv4() == address.is_ipv4()
            && network_address(ip.address, prefix) == network_address(address, prefix);
        same.then(|| (network_address(ip.address, prefix), prefix))
    })
}

/// The rules of one range.
pub(super) fn rules(f: &Forwarded, bridge: &str, net: &Network) -> Vec<Rule> {
    let Some(own) = own(net, f.guest) else { return Vec::new() };
    let (family, full) = if f.guest.is_ipv4() { (Family::V4, 32) } else { (Family::V6, 128) };
    let new = |chain, verdict| Rule { protocol: Some(f.proto.as_str()), ..Rule::new(chain, family, verdict) };
    let mut lead = new(Chain::Forwards, Verdict::Dnat(f.guest, f.range.to));
    (lead.iif, lead.to) = (f.dev.clone(), f.address.map(|a| (a, full)));
    lead.ports = Some((f.range.start, f.range.end));
    let there = |mut rule: Rule| {
        rule.to = Some((f.guest, full));
        rule.ports = Some((f.range.to, f.range.to.saturating_add(f.range.more())));
        rule.forwarded = true;
        rule
    };
    let mut pass = there(new(Chain::Input, Verdict::Accept));
    pass.oif = Some(bridge.into());
    let mut stand_in = there(new(Chain::Nat, Verdict::Masquerade(None)));
    stand_in.from = Some(own);
    vec![lead, pass, stand_in]
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt_model::Mode;

    #[test]
    fn a_card_is_found_by_what_is_kept_and_what_is_leased() {
        let text = "<network><name>n</name><forward mode='nat'/><bridge name='b0'/><ip address='10.0.0.1' prefix='24'>\
                    <dhcp><range start='10.0.0.2' end='10.0.0.9'/><host mac='52:54:00:00:00:01' ip='10.0.0.3'/></dhcp></ip></network>";
        let net = Network::parse(text, Mode::CONFIG).unwrap();
        let to = |last: u8| PortForward {
            proto: Transport::Tcp,
            address: None,
            dev: None,
            guest: Some(Guest::Card(Mac([0x52, 0x54, 0, 0, 0, last]))),
            ranges: vec![Range::new(80, 80, 80).unwrap()],
        };
        let lease = |ip: &str| Lease {
            ip_address: ip.into(),
            mac_address: Some("52:54:00:00:00:02".into()),
            ..Lease::default()
        };
        let leases = [lease("192.0.2.1"), lease("10.0.0.7"), lease("garbage")];
        assert_eq!(guest(&net, &leases, &to(1)), Some("10.0.0.3".parse().unwrap()));
        assert_eq!(guest(&net, &leases, &to(2)), Some("10.0.0.7".parse().unwrap()));
        assert_eq!(guest(&net, &leases, &to(3)), None);
        check(&net, &[to(1)]).unwrap();
        let outside = PortForward { guest: Some(Guest::Address("10.0.1.1".parse().unwrap())), ..to(1) };
        assert_eq!(check(&net, &[outside]).unwrap_err().code(), Code::ConfigUnsupported);
        let hostile = PortForward { dev: Some("eth*".into()), ..to(1) };
        assert!(check(&net, &[hostile]).is_err());
        let isolated = Network::parse(&text.replace("<forward mode='nat'/>", ""), Mode::CONFIG).unwrap();
        assert!(check(&isolated, &[to(1)]).is_err());
    }
}
