//! What the host's tools are told, and that no document tells them more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use proptest::prelude::*;
use virt_model::interface::Interface;
use virtinterfaced::driver::checked;
use virtinterfaced::{ifupdown, networkd};

fn parse(xml: &str) -> Interface {
    Interface::parse(xml).unwrap()
}

const BRIDGE: &str = "<interface type='bridge' name='br0'><start mode='onboot'/><mtu size='1500'/>\
    <protocol family='ipv4'><dhcp peerdns='no'/></protocol><protocol family='ipv6'><autoconf/></protocol>\
    <bridge stp='off' delay='0.5'><interface type='bond' name='bond0'><bond mode='active-backup'>\
    <miimon freq='100' updelay='10'/><interface type='ethernet' name='eth0'/></bond></interface>\
    <interface type='vlan' name='eth1.42'><vlan tag='42'><interface name='eth1'/></vlan></interface></bridge></interface>";

#[test]
fn networkd_is_told_of_every_interface_inside() {
    let bridge = parse(BRIDGE);
    let files = networkd::files([&bridge].into_iter());
    let has = |name: &str, lines: &[&str]| {
        let text = &files[&format!("10-virt-{name}")];
        for line in lines {
            assert!(text.lines().any(|l| l == *line), "{name} has no {line}:\n{text}");
        }
    };
    has("br0.netdev", &["Kind=bridge", "STP=no", "ForwardDelaySec=0.5"]);
    has("br0.network", &["Name=br0", "MTUBytes=1500", "DHCP=ipv4", "IPv6AcceptRA=yes", "UseDNS=no"]);
    has("bond0.netdev", &["Kind=bond", "Mode=active-backup", "MIIMonitorSec=100ms", "UpDelaySec=10ms"]);
    has("bond0.network", &["Bridge=br0"]);
    has("eth0.network", &["Bond=bond0"]);
    has("eth1.42.netdev", &["Kind=vlan", "Id=42"]);
    has("eth1.network", &["VLAN=eth1.42"]);
    // An interface's own definition does not make it forget whose part it is.
    let own = parse("<interface type='ethernet' name='eth0'><mtu size='9000'/></interface>");
    let files = networkd::files([&own, &bridge].into_iter());
    let text = &files["10-virt-eth0.network"];
    assert!(text.contains("MTUBytes=9000") && text.contains("Bond=bond0"), "{text}");
}

#[test]
fn ifupdown_is_told_too() {
    let files = ifupdown::files([&parse(BRIDGE)].into_iter());
    assert!(files["virt-br0"].starts_with("# Managed"));
    assert!(
        files["virt-br0"]
            .contains("auto br0\niface br0 inet dhcp\n    mtu 1500\n    bridge_ports bond0 eth1.42\n")
    );
    assert!(
        files["virt-bond0"]
            .contains("    bond-slaves eth0\n    bond-mode active-backup\n    bond-miimon 100\n")
    );
    assert!(files["virt-eth0"].contains("    bond-master bond0\n"));
    assert!(files["virt-eth1_42"].contains("    vlan-raw-device eth1\n"));
}

proptest! {
    #[test]
    fn no_value_becomes_a_line(word in "[a-z0-9\\[\\]=*?;#%$\"' \n\t./:\\\\-]{1,14}|\\PC{1,10}", number in "[0-9a-z.\n=-]{1,6}") {
        let w = word.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;");
        for xml in [
            format!("<interface type='ethernet' name='{w}'/>"),
            format!("<interface type='vlan' name='v'><vlan tag='5'><interface name='{w}'/></vlan></interface>"),
            format!("<interface type='bridge' name='b'><bridge delay='{number}'><interface type='ethernet' name='{w}'/></bridge></interface>"),
            format!("<interface type='ethernet' name='e'><protocol family='ipv4'><ip address='{w}'/><route gateway='{w}'/></protocol></interface>"),
        ] {
            let Ok(of) = checked(&xml) else { continue };
            let keys = ["Name", "Kind", "Id", "VLAN", "Bridge", "ForwardDelaySec", "DHCP", "IPv6AcceptRA", "LinkLocalAddressing", "Address", "Gateway"];
            for (name, text) in networkd::files([&of].into_iter()) {
                prop_assert!(!name.contains('/') && name.starts_with("10-virt-"), "{name}");
                for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with(['#', '['])) {
                    let (key, value) = line.split_once('=').unwrap();
                    prop_assert!(keys.contains(&key), "{line}");
                    prop_assert!(!value.contains(['*', '?', '[', '%', ' ', '\t', '"', '\\']), "{line}");
                }
            }
            for (name, text) in ifupdown::files([&of].into_iter()) {
                prop_assert!(!name.contains(['/', '.']), "{name}");
                let known = ["#", "auto", "iface", "address", "gateway", "bridge_ports", "bridge_fd", "vlan-raw-device"];
                for line in text.lines() {
                    prop_assert!(known.contains(&line.split_whitespace().next().unwrap_or("#")), "{line}");
                }
            }
        }
    }
}
