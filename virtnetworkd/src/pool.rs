//! Networks without a bridge of their own: which interface or card of the host a guest's card gets. Pure.

use virt_error::{Domain, Error, Result};
use virt_host::sriov::{PciPlace, Sysfs};
use virt_model::domain::address::PciAddress;
use virt_model::domain::interface::DirectMode;
use virt_model::network::Network;
use virt_model::network::forward::{Forward, ForwardAddress, ForwardInterface, ForwardMode};
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

/// As sysfs names it.
pub fn place(address: &PciAddress) -> PciPlace {
    let PciAddress { domain, bus, slot, function, .. } = *address;
    PciPlace { domain, bus, slot, function }
}

/// The document with the pool that a physical card's virtual functions form, as it runs. Blocking.
///
/// # Errors
/// Code 1 for a card without functions that guests can have.
pub fn expand(mut net: Network, sys: &Sysfs) -> Result<Network> {
    let Some(forward) = net.forward.as_mut().filter(|f| !f.mode.owns_bridge()) else { return Ok(net) };
    let Some(pf) = &forward.pf else { return Ok(net) };
    let functions = sys.functions(&pf.dev);
    if forward.mode == ForwardMode::Hostdev {
        let address = |p: PciPlace| PciAddress {
            domain: p.domain,
            bus: p.bus,
            slot: p.slot,
            function: p.function,
            ..PciAddress::default()
        };
        let addresses = functions.iter().map(|f| ForwardAddress {
            kind: "pci".into(),
            pci: address(f.place),
            connections: None,
        });
        forward.addresses = addresses.collect();
    } else {
        let named = functions.into_iter().filter_map(|f| f.interface);
        forward.interfaces = named.map(|dev| ForwardInterface { dev, connections: None }).collect();
    }
    if forward.addresses.is_empty() && forward.interfaces.is_empty() {
        let text = format!("No usable Vf's present on SRIOV PF {}", pf.dev);
        return Err(Error::internal(Domain::Network, text));
    }
    Ok(net)
}

/// The document without what [`expand`] has found.
pub fn unexpanded(net: &Network) -> Network {
    let mut net = net.clone();
    if let Some(forward) = net.forward.as_mut().filter(|f| f.pf.is_some()) {
        forward.addresses.clear();
        forward.interfaces.clear();
    }
    net
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
        let held = |n: &Option<u32>| n.unwrap_or(0);
        let functions = forward.interfaces.iter().map(|i| held(&i.connections));
        let all = functions.chain(forward.addresses.iter().map(|a| held(&a.connections))).sum();
        if let Some(pf) = &mut forward.pf {
            pf.connections = some(all);
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

    /// A card eth0 with two virtual functions, of which one has an interface.
    fn card() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let card = root.path().join("class/net/eth0/device");
        std::fs::create_dir_all(&card).unwrap();
        for (n, place) in ["0000:05:10.0", "0000:05:10.2"].into_iter().enumerate() {
            std::os::unix::fs::symlink(format!("../{place}"), card.join(format!("virtfn{n}"))).unwrap();
        }
        std::fs::create_dir_all(root.path().join("bus/pci/devices/0000:05:10.2/net/eth9")).unwrap();
        root
    }

    fn of_card(mode: &str) -> Network {
        let text = format!(
            "<network><name>p</name><forward mode='{mode}' managed='yes'><pf dev='eth0'/></forward></network>"
        );
        Network::parse(&text, Mode::CONFIG).unwrap()
    }

    #[test]
    fn the_functions_of_a_card_form_the_pool() {
        let root = card();
        let sys = Sysfs::at(root.path());
        let whole = expand(of_card("hostdev"), &sys).unwrap();
        let mut ports = Vec::new();
        for function in [0, 2] {
            let plug = choose(&whole, &ports, &NetworkPort::default()).unwrap();
            let Plug::HostdevPci(h) = &plug else { panic!("{plug:?}") };
            assert_eq!((h.address.bus, h.address.slot, h.address.function), (5, 16, function));
            assert_eq!(h.managed, Some(true));
            ports.push(NetworkPort { plug: Some(plug), ..NetworkPort::default() });
        }
        let text = choose(&whole, &ports, &NetworkPort::default()).unwrap_err().message();
        assert!(text.ends_with("requires exclusive access to interfaces, but none are available"), "{text}");
        let shown = shown(&whole, &ports).format(Mode::LIVE);
        assert!(shown.contains("<pf dev='eth0' connections='2'/>"), "{shown}");
        // What runs can be read back, and the configuration says what it said.
        let status = Network::parse(&whole.format(Mode::STATUS), Mode::STATUS).unwrap();
        assert_eq!(status.forward.unwrap().addresses.len(), 2);
        assert_eq!(unexpanded(&whole).format(Mode::CONFIG), of_card("hostdev").format(Mode::CONFIG));
        // A direct mode needs a function's interface.
        let direct = expand(of_card("passthrough"), &sys).unwrap();
        let plug = choose(&direct, &[], &NetworkPort::default()).unwrap();
        assert!(matches!(&plug, Plug::Direct(d) if d.dev == "eth9"), "{plug:?}");
        let back = Network::parse(&direct.format(Mode::STATUS), Mode::STATUS).unwrap();
        assert_eq!(back.forward.unwrap().interfaces.len(), 1);
        std::fs::remove_dir_all(root.path().join("class")).unwrap();
        let text = expand(of_card("hostdev"), &sys).unwrap_err().message();
        assert_eq!(text, "internal error: No usable Vf's present on SRIOV PF eth0");
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
