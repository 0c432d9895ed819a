//! What a card of a network was plugged into while the guest runs.
//!
//! The status file keeps it beside the card's own source; clients see a card of the resolved type whose source names
//! both the network and what it led to.

use virt_xml::{Xml, YesNo, names};

use super::interface::{
    BridgeNet, DirectMode, DirectNet, HostdevNet, HostdevNetAddress, Interface, NetSource, NetworkNet,
};
use super::net::{Bandwidth, VirtualPort, Vlan};
use crate::network::bridge::MacTableManager;

names! {
    /// What a network led to.
    pub enum ActualKind { Network = "network", Bridge = "bridge", Direct = "direct", Hostdev = "hostdev" }
}

/// `<actual>` of a status file.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Actual {
    /// What it led to.
    #[xml(attr = "type")]
    pub kind: Option<ActualKind>,
    /// Whether a host card is taken from its driver and given back.
    #[xml(attr, with = YesNo)]
    pub managed: Option<bool>,
    /// A bridge, or an interface of the host with a mode.
    #[xml(child)]
    pub source: ActualSource,
    /// VLANs of card, portgroup or network.
    #[xml(child)]
    pub vlan: Option<Vlan>,
    /// Likewise.
    #[xml(child)]
    pub virtualport: Option<VirtualPort>,
    /// Likewise.
    #[xml(child)]
    pub bandwidth: Option<Bandwidth>,
    /// Likewise.
    #[xml(attr = "port@isolated", with = YesNo)]
    pub isolated: Option<bool>,
}

/// `<source>` of an actual connection.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct ActualSource {
    /// The bridge.
    #[xml(attr)]
    pub bridge: Option<String>,
    /// Who tells the bridge where guests are.
    #[xml(attr = "macTableManager")]
    pub mac_table_manager: Option<MacTableManager>,
    /// The interface of the host.
    #[xml(attr)]
    pub dev: Option<String>,
    /// How it is shared.
    #[xml(attr)]
    pub mode: Option<DirectMode>,
    /// The host card.
    #[xml(child)]
    pub address: Option<HostdevNetAddress>,
}

impl Interface {
    /// What the card is plugged into: a network's card has it from its port, others from their own source.
    pub fn connection(&self) -> NetSource {
        match (&self.source, &self.actual) {
            (NetSource::Network(own), Some(actual)) => resolved(own, actual),
            (source, _) => source.clone(),
        }
    }

    /// Settings that card, portgroup and network share: those of the port, where there is one.
    pub fn limits(&self) -> Option<&Bandwidth> {
        self.actual.as_ref().and_then(|a| a.bandwidth.as_ref()).or(self.bandwidth.as_ref())
    }

    /// VLANs of the connection.
    pub fn vlans(&self) -> Option<&Vlan> {
        self.actual.as_ref().and_then(|a| a.vlan.as_ref()).or(self.vlan.as_ref())
    }

    /// Whether other isolated cards of the bridge are out of reach.
    pub fn is_isolated(&self) -> bool {
        self.actual.as_ref().and_then(|a| a.isolated).or(self.isolated) == Some(true)
    }

    /// The card as clients of a running guest see it.
    pub fn shown(&self) -> Self {
        let mut shown = self.clone();
        let Some(actual) = shown.actual.take() else { return shown };
        shown.source = self.connection();
        if actual.kind == Some(ActualKind::Hostdev) {
            shown.managed = actual.managed;
        }
        shown.vlan = actual.vlan.or(shown.vlan);
        shown.virtualport = actual.virtualport.or(shown.virtualport);
        shown.bandwidth = actual.bandwidth.or(shown.bandwidth);
        shown.isolated = actual.isolated.or(shown.isolated);
        shown
    }

    /// Takes off what only a running guest's card has.
    pub fn forget_run(&mut self) {
        self.actual = None;
        let (network, portgroup) = match &mut self.source {
            NetSource::Network(n) => {
                *n = NetworkNet {
                    network: n.network.take(),
                    portgroup: n.portgroup.take(),
                    ..NetworkNet::default()
                };
                return;
            }
            NetSource::Bridge(b) => (b.network.take(), b.portgroup.take()),
            NetSource::Direct(d) => (d.network.take(), d.portgroup.take()),
            _ => return,
        };
        // A resolved card that a client sends back is its network's again.
        if network.is_some() {
            self.source = NetSource::Network(NetworkNet { network, portgroup, ..NetworkNet::default() });
        } else if let NetSource::Bridge(b) = &mut self.source {
            b.mac_table_manager = None;
        }
    }
}

fn resolved(own: &NetworkNet, actual: &Actual) -> NetSource {
    let (network, portgroup, port_id) = (own.network.clone(), own.portgroup.clone(), own.port_id);
    let source = actual.source.clone();
    let manager = source.mac_table_manager.map(|m| m.as_str().to_string());
    match actual.kind {
        Some(ActualKind::Bridge) => NetSource::Bridge(BridgeNet {
            network,
            portgroup,
            port_id,
            bridge: source.bridge,
            mac_table_manager: manager,
        }),
        Some(ActualKind::Direct) => {
            NetSource::Direct(DirectNet { network, portgroup, port_id, dev: source.dev, mode: source.mode })
        }
        Some(ActualKind::Hostdev) => NetSource::Hostdev(HostdevNet { address: source.address }),
        Some(ActualKind::Network) | None => NetSource::Network(NetworkNet {
            network,
            portgroup,
            port_id,
            bridge: source.bridge,
            dev: source.dev,
            mode: source.mode,
            mac_table_manager: manager,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt_xml::Mode;

    const STATUS: &str = "<interface type='network'>
  <mac address='52:54:00:00:00:01'/>
  <source network='lan' portgroup='a' portid='0307674f-b263-460a-a958-7819fb84309c'/>
  <actual type='direct'>
    <source dev='eth0' mode='bridge'/>
  </actual>
  <target dev='macvtap0'/>
</interface>
";

    #[test]
    fn clients_see_what_the_network_led_to() {
        let card: Interface =
            virt_xml::parse(STATUS, "interface", Mode::STATUS, virt_xml::rt_error::Domain::Domain).unwrap();
        assert_eq!(virt_xml::format(&card, "interface", Mode::STATUS), STATUS);
        let shown = virt_xml::format(&card.shown(), "interface", Mode::LIVE);
        assert!(shown.starts_with("<interface type='direct'>"), "{shown}");
        let source = "<source network='lan' portgroup='a' portid='0307674f-b263-460a-a958-7819fb84309c' dev='eth0' mode='bridge'/>";
        assert!(shown.contains(source) && !shown.contains("actual"), "{shown}");
        let mut back: Interface =
            virt_xml::parse(&shown, "interface", Mode::LIVE, virt_xml::rt_error::Domain::Domain).unwrap();
        back.forget_run();
        assert_eq!(
            virt_xml::format(&back, "interface", Mode::LIVE),
            "<interface type='network'>
  <mac address='52:54:00:00:00:01'/>
  <source network='lan' portgroup='a'/>
  <target dev='macvtap0'/>
</interface>
"
        );
    }
}
