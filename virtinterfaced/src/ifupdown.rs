//! Definitions as ifupdown's stanzas: one file below /etc/network/interfaces.d for every interface that a definition speaks
//! of.

use std::collections::BTreeMap;
use std::fmt::Write;

use virt_model::interface::{Interface, InterfaceKind, StartMode, Stp};

/// How our files' names begin; all others are somebody else's. No dot: ifupdown reads no file with one.
pub const PREFIX: &str = "virt-";

/// All files by name.
pub fn files<'a>(definitions: impl Iterator<Item = &'a Interface>) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for top in definitions {
        gather(top, None, &mut files);
    }
    files
}

fn gather(of: &Interface, bond: Option<&str>, files: &mut BTreeMap<String, String>) {
    for inner in of.inner() {
        gather(inner, (of.kind == InterfaceKind::Bond).then_some(of.name.as_str()), files);
    }
    let name = format!("{PREFIX}{}", of.name.replace('.', "_"));
    files.insert(name, stanzas(of, bond));
}

fn stanzas(of: &Interface, bond: Option<&str>) -> String {
    let mut out = "# Managed by virtinterfaced; changes are replaced. Use `virsh iface-edit`.\n".to_string();
    match of.start {
        Some(StartMode::Onboot) => drop(writeln!(out, "auto {}", of.name)),
        Some(StartMode::Hotplug) => drop(writeln!(out, "allow-hotplug {}", of.name)),
        _ => {}
    }
    let mut first = true;
    for protocol in &of.protocols {
        let family = if protocol.family.as_str() == "ipv6" { "inet6" } else { "inet" };
        let method = match (&protocol.dhcp, protocol.ips.is_empty(), protocol.autoconf) {
            (Some(_), ..) => "dhcp",
            (None, false, _) => "static",
            (None, true, true) => "auto",
            (None, true, false) => "manual",
        };
        let _ = writeln!(out, "iface {} {family} {method}", of.name);
        for (at, ip) in protocol.ips.iter().enumerate() {
            if at > 0 {
                let _ = writeln!(out, "iface {} {family} static", of.name);
            }
            let prefix = ip.prefix.map(|p| format!("/{p}")).unwrap_or_default();
            let _ = writeln!(out, "    address {}{prefix}", ip.address);
            if let Some(gateway) = protocol.gateway.filter(|_| at == 0) {
                let _ = writeln!(out, "    gateway {gateway}");
            }
        }
        if std::mem::take(&mut first) {
            options(of, bond, &mut out);
        }
    }
    if first {
        let _ = writeln!(out, "iface {} inet manual", of.name);
        options(of, bond, &mut out);
    }
    out
}

fn options(of: &Interface, bond: Option<&str>, out: &mut String) {
    let mut put = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(out, "    {key} {value}");
        }
    };
    let inner = || {
        let names: Vec<&str> = of.inner().iter().map(|i| i.name.as_str()).collect();
        if names.is_empty() { "none".into() } else { names.join(" ") }
    };
    put("mtu", of.mtu.map(|m| m.to_string()));
    put("hwaddress", of.mac.map(|m| m.to_string()));
    put("bond-master", bond.map(str::to_string));
    if let Some(bridge) = &of.bridge {
        put("bridge_ports", Some(inner()));
        put("bridge_stp", bridge.stp.map(|s| if s == Stp::On { "on" } else { "off" }.into()));
        put("bridge_fd", bridge.delay.as_ref().and_then(|d| d.parse::<f64>().ok()).map(|d| d.to_string()));
    }
    if let Some(bonding) = &of.bond {
        put("bond-slaves", Some(inner()));
        put("bond-mode", bonding.mode.map(|m| m.to_string()));
        if let Some(mii) = &bonding.miimon {
            put("bond-miimon", Some(mii.freq.to_string()));
            put("bond-updelay", mii.updelay.map(|d| d.to_string()));
            put("bond-downdelay", mii.downdelay.map(|d| d.to_string()));
        }
        if let Some(arp) = &bonding.arpmon {
            put("bond-arp-interval", Some(arp.interval.to_string()));
            put("bond-arp-ip-target", Some(arp.target.to_string()));
        }
    }
    put("vlan-raw-device", of.vlan.as_ref().and_then(|v| v.below.clone()));
}
