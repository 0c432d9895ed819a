//! Definitions as systemd-networkd's files: a `.netdev` for what is to be made, a `.network` for every interface that a
//! definition speaks of.
//!
//! All values are numbers, addresses, words of closed sets, and names that were checked.

use std::collections::BTreeMap;
use std::fmt::Write;

use virt_model::interface::{Bond, Family, Interface, InterfaceKind, StartMode, Stp};

/// How our files' names begin; all others are somebody else's.
pub const PREFIX: &str = "10-virt-";

/// What is known of one interface from all definitions.
#[derive(Default)]
struct Device<'a> {
    definition: Option<&'a Interface>,
    master: Option<(&'static str, &'a str)>,
    vlans: Vec<&'a str>,
}

/// All files by name.
pub fn files<'a>(definitions: impl Iterator<Item = &'a Interface>) -> BTreeMap<String, String> {
    let mut devices: BTreeMap<&str, Device<'_>> = BTreeMap::new();
    let all: Vec<&Interface> = definitions.collect();
    // A definition of its own counts more than what stands inside another one.
    for top in all.iter().rev() {
        gather(top, None, &mut devices);
    }
    for top in &all {
        devices.entry(&top.name).or_default().definition = Some(top);
    }
    let mut files = BTreeMap::new();
    for (name, device) in &devices {
        if let Some(netdev) = device.definition.and_then(netdev) {
            files.insert(format!("{PREFIX}{name}.netdev"), netdev);
        }
        files.insert(format!("{PREFIX}{name}.network"), network(name, device));
    }
    files
}

fn gather<'a>(
    of: &'a Interface,
    master: Option<(&'static str, &'a str)>,
    devices: &mut BTreeMap<&'a str, Device<'a>>,
) {
    let device = devices.entry(&of.name).or_default();
    device.definition = Some(of);
    device.master = master.or(device.master);
    let key = if of.kind == InterfaceKind::Bond { "Bond" } else { "Bridge" };
    for inner in of.inner() {
        gather(inner, Some((key, &of.name)), devices);
    }
    if let Some(below) = of.vlan.as_ref().and_then(|v| v.below.as_deref()) {
        devices.entry(below).or_default().vlans.push(&of.name);
    }
}

fn head() -> String {
    "# Managed by virtinterfaced; changes are replaced. Use `virsh iface-edit`.\n".into()
}

fn netdev(of: &Interface) -> Option<String> {
    let kind = match of.kind {
        InterfaceKind::Ethernet => return None,
        InterfaceKind::Bridge => "bridge",
        InterfaceKind::Bond => "bond",
        InterfaceKind::Vlan => "vlan",
    };
    let mut out = head();
    let _ = writeln!(out, "[NetDev]\nName={}\nKind={kind}", of.name);
    if let Some(mac) = of.mac {
        let _ = writeln!(out, "MACAddress={mac}");
    }
    if let Some(bridge) = &of.bridge {
        let _ = writeln!(out, "\n[Bridge]");
        if let Some(stp) = bridge.stp {
            let _ = writeln!(out, "STP={}", if stp == Stp::On { "yes" } else { "no" });
        }
        if let Some(delay) = bridge.delay.as_ref().and_then(|d| d.parse::<f64>().ok()) {
            let _ = writeln!(out, "ForwardDelaySec={delay}");
        }
    }
    if let Some(bond) = &of.bond {
        bonding(bond, &mut out);
    }
    if let Some(vlan) = &of.vlan {
        let _ = writeln!(out, "\n[VLAN]\nId={}", vlan.tag);
    }
    Some(out)
}

fn bonding(bond: &Bond, out: &mut String) {
    let _ = writeln!(out, "\n[Bond]");
    if let Some(mode) = bond.mode {
        let _ = writeln!(out, "Mode={mode}");
    }
    if let Some(mii) = &bond.miimon {
        let times =
            [("MIIMonitorSec", Some(mii.freq)), ("UpDelaySec", mii.updelay), ("DownDelaySec", mii.downdelay)];
        for (key, time) in times.into_iter().filter_map(|(k, t)| Some((k, t?))) {
            let _ = writeln!(out, "{key}={time}ms");
        }
    }
    if let Some(arp) = &bond.arpmon {
        let _ = writeln!(out, "ARPIntervalSec={}ms\nARPIPTargets={}", arp.interval, arp.target);
        if let Some(validate) = arp.validate {
            let _ = writeln!(out, "ARPValidate={validate}");
        }
    }
}

fn network(name: &str, device: &Device<'_>) -> String {
    let mut out = head();
    let _ = writeln!(out, "[Match]\nName={name}");
    if let Some(of) = device.definition {
        let _ = writeln!(out, "\n[Link]");
        if let Some(mtu) = of.mtu {
            let _ = writeln!(out, "MTUBytes={mtu}");
        }
        if let Some(mac) = of.mac.filter(|_| of.kind == InterfaceKind::Ethernet) {
            let _ = writeln!(out, "MACAddress={mac}");
        }
        if of.start == Some(StartMode::None) {
            let _ = writeln!(out, "ActivationPolicy=manual");
        }
    }
    let _ = writeln!(out, "\n[Network]");
    if let Some((key, master)) = device.master {
        let _ = writeln!(out, "{key}={master}");
    }
    for vlan in &device.vlans {
        let _ = writeln!(out, "VLAN={vlan}");
    }
    if let Some(of) = device.definition {
        addresses(of, &mut out);
    }
    out
}

fn addresses(of: &Interface, out: &mut String) {
    let family = |f| of.protocols.iter().find(|p| p.family == f);
    let (v4, v6) = (family(Family::Ipv4), family(Family::Ipv6));
    let dhcp = |p: Option<&virt_model::interface::Protocol>| p.is_some_and(|p| p.dhcp.is_some());
    let _ = writeln!(
        out,
        "DHCP={}",
        match (dhcp(v4), dhcp(v6)) {
            (true, true) => "yes",
            (true, false) => "ipv4",
            (false, true) => "ipv6",
            (false, false) => "no",
        }
    );
    let _ = writeln!(out, "IPv6AcceptRA={}", if v6.is_some_and(|p| p.autoconf) { "yes" } else { "no" });
    if v6.is_none() {
        let _ = writeln!(out, "LinkLocalAddressing=no");
    }
    for protocol in &of.protocols {
        for ip in &protocol.ips {
            let prefix = ip.prefix.map(|p| format!("/{p}")).unwrap_or_default();
            let _ = writeln!(out, "Address={}{prefix}", ip.address);
        }
        if let Some(gateway) = protocol.gateway {
            let _ = writeln!(out, "Gateway={gateway}");
        }
    }
    for (section, protocol) in [("DHCPv4", v4), ("DHCPv6", v6)] {
        if let Some(dns) = protocol.and_then(|p| p.dhcp.as_ref()).and_then(|d| d.peerdns) {
            let _ = writeln!(out, "\n[{section}]\nUseDNS={}", if dns { "yes" } else { "no" });
        }
    }
}
