//! Which packets of a network may go where: rules from documents, their form for nftables, and what is in force.

mod follow;
mod force;
pub mod foreign;
pub mod forwards;
mod nft;
pub mod switch;
pub mod zones;

use std::net::{IpAddr, Ipv4Addr};

use virt_model::network::Network;
use virt_model::network::forward::ForwardMode;
use virt_model::network::ip::network_address;

pub use force::Firewall;
pub use forwards::Forwarded;
pub use nft::{Placed, TABLE, removal, whole};

/// Where a rule stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Chain {
    /// Between guests of one network.
    Cross,
    /// To guests.
    Input,
    /// From guests.
    Output,
    /// What guests' packets look like outside.
    Nat,
    /// Which guests ports of the host lead to.
    Forwards,
}

/// An IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Version 4.
    V4,
    /// Version 6.
    V6,
}

/// A network: address and prefix.
pub type Net = (IpAddr, u32);

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may go on.
    Accept,
    /// It is refused, and its sender is told.
    Reject,
    /// Its address stays.
    Return,
    /// The address of the way out, ports of this range.
    Masquerade(Option<(u16, u16)>),
    /// Addresses and ports of these ranges.
    Snat((Ipv4Addr, Ipv4Addr), Option<(u16, u16)>),
    /// It goes to this guest, the rule's first port to this one.
    Dnat(IpAddr, u16),
}

/// One rule; what is `None` matches all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where it stands.
    pub chain: Chain,
    /// Which packets the chain sees.
    pub family: Family,
    /// The packet comes from this interface.
    pub iif: Option<String>,
    /// The packet goes to this interface.
    pub oif: Option<String>,
    /// "tcp" or "udp".
    pub protocol: Option<&'static str>,
    /// The packet comes from here.
    pub from: Option<Net>,
    /// The packet goes here.
    pub to: Option<Net>,
    /// The packet goes anywhere but here.
    pub not_to: Option<Net>,
    /// The packet goes to one of these ports.
    pub ports: Option<(u16, u16)>,
    /// The packet belongs to a connection that was let through.
    pub established: bool,
    /// The packet was sent to the host and leads to a guest.
    pub forwarded: bool,
    /// What happens to it.
    pub verdict: Verdict,
}

impl Rule {
    fn new(chain: Chain, family: Family, verdict: Verdict) -> Self {
        Self {
            chain,
            family,
            iif: None,
            oif: None,
            protocol: None,
            from: None,
            to: None,
            not_to: None,
            ports: None,
            established: false,
            forwarded: false,
            verdict,
        }
    }
}

/// The rules of one active network, in the order they are tried in each chain. Forwards to addresses outside the network
/// are left out.
pub fn rules(net: &Network, forwarded: &[Forwarded]) -> Vec<Rule> {
    let mode = net.mode();
    let Some(bridge) = net.bridge.name.clone().filter(|_| net.owns_bridge() && mode != ForwardMode::Open)
    else {
        return Vec::new();
    };
    let way_out = net.forward.as_ref().and_then(|f| f.dev.clone());
    let mut out = Vec::new();
    for ip in &net.ips {
        let Some(prefix) = ip.prefix_length() else { continue };
        let own: Net = (network_address(ip.address, prefix), prefix);
        let family = if ip.is_ipv6() { Family::V6 } else { Family::V4 };
        match mode {
            ForwardMode::Nat if family == Family::V4 || nat_ipv6(net) => {
                masquerade(net, family, own, way_out.as_deref(), &mut out);
                through(&bridge, family, own, way_out.as_deref(), true, &mut out);
            }
            // IPv6 in a nat network without translation, and routed networks: let through both ways.
            ForwardMode::Nat | ForwardMode::Route => {
                through(&bridge, family, own, way_out.as_deref(), false, &mut out);
            }
            _ => {}
        }
    }
    if forwards::possible(mode) {
        out.extend(forwarded.iter().flat_map(|f| forwards::rules(f, &bridge, net)));
    }
    for family in families(net) {
        let mut cross = Rule::new(Chain::Cross, family, Verdict::Accept);
        (cross.iif, cross.oif) = (Some(bridge.clone()), Some(bridge.clone()));
        let mut input = Rule::new(Chain::Input, family, Verdict::Reject);
        input.oif = Some(bridge.clone());
        let mut output = Rule::new(Chain::Output, family, Verdict::Reject);
        output.iif = Some(bridge.clone());
        out.extend([cross, input, output]);
    }
    out
}

fn nat_ipv6(net: &Network) -> bool {
    net.forward.as_ref().is_some_and(|f| f.nat.ipv6 == Some(true))
}

/// IPv6 is only ruled where the network speaks it.
fn families(net: &Network) -> impl Iterator<Item = Family> {
    let v6 = net.ipv6 == Some(true) || net.ips.iter().any(|ip| ip.is_ipv6());
    [Some(Family::V4), v6.then_some(Family::V6)].into_iter().flatten()
}

fn through(
    bridge: &str,
    family: Family,
    own: Net,
    dev: Option<&str>,
    answers_only: bool,
    out: &mut Vec<Rule>,
) {
    let mut input = Rule::new(Chain::Input, family, Verdict::Accept);
    input.iif = dev.map(Into::into);
    input.oif = Some(bridge.into());
    input.to = Some(own);
    input.established = answers_only;
    let mut output = Rule::new(Chain::Output, family, Verdict::Accept);
    output.from = Some(own);
    output.iif = Some(bridge.into());
    output.oif = dev.map(Into::into);
    out.extend([input, output]);
}

fn masquerade(net: &Network, family: Family, own: Net, dev: Option<&str>, out: &mut Vec<Rule>) {
    let nat = net.forward.as_ref().map(|f| &f.nat);
    let ports = nat.and_then(|n| n.port.as_ref()).map_or((1024, 65535), |p| (p.start, p.end));
    let addresses =
        nat.and_then(|n| n.address.as_ref()).map(|a| (a.start, a.end)).filter(|_| family == Family::V4);
    let verdict = |ports| match addresses {
        Some(range) => Verdict::Snat(range, ports),
        None => Verdict::Masquerade(ports),
    };
    // Multicast and broadcast of the network stay in it.
    let local: &[Net] = match family {
        Family::V4 => &[(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 24), (IpAddr::V4(Ipv4Addr::BROADCAST), 32)],
        Family::V6 => &[(IpAddr::V6(std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0)), 16)],
    };
    for to in local {
        let mut stay = Rule::new(Chain::Nat, family, Verdict::Return);
        (stay.from, stay.to, stay.oif) = (Some(own), Some(*to), dev.map(Into::into));
        out.push(stay);
    }
    for protocol in [Some("tcp"), Some("udp"), None] {
        let mut change = Rule::new(Chain::Nat, family, verdict(protocol.map(|_| ports)));
        (change.protocol, change.from, change.not_to) = (protocol, Some(own), Some(own));
        change.oif = dev.map(Into::into);
        out.push(change);
    }
}
