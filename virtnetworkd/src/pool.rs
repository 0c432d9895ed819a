//! Networks without a bridge of their own: which interface or card of the host a guest's card gets. Pure.

use virt_error::{Domain, Error, Result};
use virt_model::domain::address::PciAddress;
use virt_model::domain::interface::DirectMode;
use virt_model::network::Network;
use virt_model::network::forward::{Forward, ForwardMode};
use virt_model::network::port::{DirectPlug, HostdevPlug, NetworkPort, Plug};

fn direct_mode(mode: ForwardMode) -> Option<DirectMode> {
    match mode {
        ForwardMode::Bridge => Some(DirectMode::Bridge),
        ForwardMode::Private => Some(DirectMode::Private),
        ForwardMode::Vepa => Some(DirectMode::Vepa),
        ForwardMode::Passthrough => Some(DirectMode::Passthrough),
        ForwardMode::Nat
        | ForwardMode::None
        | ForwardMode::Route
        | ForwardMode::Open
        | ForwardMode::Hostdev => None,
    }
}

fn on_interface(ports: &[NetworkPort], dev: &str) -> u32 {
    count(ports, |plug| matches!(plug, Plug::Direct(d) if d.dev == dev))
}

fn on_card(ports: &[NetworkPort], address: &PciAddress) -> u32 {
    count(ports, |plug| matches!(plug, Plug::HostdevPci(h) if h.address == *address))
}

fn count(ports: &[NetworkPort], is: impl Fn(&Plug) -> bool) -> u32 {
    let found = ports.iter().filter(|p| p.plug.as_ref().is_some_and(&is)).count();
    u32::try_from(found).unwrap_or(u32::MAX)
}

/// What a new port of a network without a bridge is plugged into.
///
/// # Errors
/// Code 1 when nothing is free, or the network names nothing.
pub fn choose(net: &Network, ports: &[NetworkPort], wanted: &NetworkPort) -> Result<Plug> {
    let refuse = |text: String| Err(Error::internal(Domain::Network, text));
    let name = net.name();
    let forward = net.forward.clone().unwrap_or_default();
    let Some(mode) = direct_mode(net.mode()) else { return card(name, &forward, ports) };
    if forward.interfaces.is_empty() {
        return refuse(format!(
            "network '{name}' uses a direct mode, but has no forward dev and no interface pool"
        ));
    }
    // A switch that authenticates guests by their port needs the port for one guest.
    let switch = wanted.virtualport.as_ref().and_then(|v| v.kind.as_deref());
    let alone = mode == DirectMode::Passthrough || mode == DirectMode::Private && switch == Some("802.1Qbh");
    let used = |dev: &str| on_interface(ports, dev);
    let found = if alone {
        forward.interfaces.iter().find(|i| used(&i.dev) == 0)
    } else {
        forward.interfaces.iter().min_by_key(|i| used(&i.dev))
    };
    match found {
        Some(interface) => Ok(Plug::Direct(DirectPlug { dev: interface.dev.clone(), mode: Some(mode) })),
        None => refuse(format!(
            "network '{name}' requires exclusive access to interfaces, but none are available"
        )),
    }
}

fn card(name: &str, forward: &Forward, ports: &[NetworkPort]) -> Result<Plug> {
    match forward.addresses.iter().find(|a| on_card(ports, &a.pci) == 0) {
        Some(free) => Ok(Plug::HostdevPci(HostdevPlug {
            managed: forward.managed,
            driver: forward.driver.clone(),
            address: free.pci.clone(),
        })),
        None => {
            let text =
                format!("network '{name}' requires exclusive access to interfaces, but none are available");
            Err(Error::internal(Domain::Network, text))
        }
    }
}

/// The running document as clients see it: how many cards hold what.
pub fn shown(net: &Network, ports: &[NetworkPort]) -> Network {
    let some = |n: u32| Some(n).filter(|n| *n > 0);
    let mut shown = net.clone();
    shown.connections = some(u32::try_from(ports.len()).unwrap_or(u32::MAX));
    if let Some(forward) = &mut shown.forward {
        for interface in &mut forward.interfaces {
            interface.connections = some(on_interface(ports, &interface.dev));
        }
        for address in &mut forward.addresses {
            address.connections = some(on_card(ports, &address.pci));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt_model::Mode;

    fn network(mode: &str) -> Network {
        let text = format!(
            "<network><name>p</name><forward mode='{mode}'><interface dev='eth0'/><interface dev='eth1'/></forward></network>"
        );
        Network::parse(&text, Mode::CONFIG).unwrap()
    }

    fn take(net: &Network, ports: &mut Vec<NetworkPort>) -> Result<String> {
        let plug = choose(net, ports, &NetworkPort::default())?;
        let Plug::Direct(d) = &plug else { panic!("{plug:?}") };
        let dev = d.dev.clone();
        ports.push(NetworkPort { plug: Some(plug), ..NetworkPort::default() });
        Ok(dev)
    }

    #[test]
    fn interfaces_are_shared_evenly_or_not_at_all() {
        let (shared, mut ports) = (network("bridge"), Vec::new());
        let got: Vec<_> = (0..4).map(|_| take(&shared, &mut ports).unwrap()).collect();
        assert_eq!(got, ["eth0", "eth1", "eth0", "eth1"]);
        assert!(
            shown(&shared, &ports).format(Mode::LIVE).contains("<interface dev='eth0' connections='2'/>")
        );
        let (alone, mut ports) = (network("passthrough"), Vec::new());
        let got: Vec<_> = (0..2).map(|_| take(&alone, &mut ports).unwrap()).collect();
        assert_eq!(got, ["eth0", "eth1"]);
        let text = take(&alone, &mut ports).unwrap_err().message();
        assert!(text.ends_with("requires exclusive access to interfaces, but none are available"), "{text}");
    }
}
