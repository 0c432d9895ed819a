//! The host's own interfaces, made by systemd-networkd from our definitions.

use std::path::Path;

use virt_testkit::bed::{AtEnd, sh};
use virt_testkit::host::Host;
use virt_testkit::wait;

use crate::inside;

/// Two cards to build on, and systemd-networkd.
fn cards() -> AtEnd {
    sh(
        "modprobe -q dummy numdummies=0 || true; modprobe 8021q; modprobe bonding max_bonds=0
        ip link add bede0 type dummy; ip link add bede1 type dummy; systemctl start systemd-networkd.service",
    );
    AtEnd::sh(
        "for i in bedbond bedbr bede0.77 bede0; do virsh -q iface-undefine $i >/dev/null 2>&1; done
        networkctl reload
        for i in bedbond bedbr bede0.77 bede0 bede1; do ip link del $i 2>/dev/null; done
        systemctl stop systemd-networkd.socket systemd-networkd.service",
    )
}

fn define(host: &Host, name: &str, xml: &str) {
    host.virsh(&["iface-define", &host.document(name, xml)]);
}

/// virsh 11.3 says that it is destroyed, and exits with 1 all the same: also with libvirt's own `test:///default`.
fn destroy(host: &Host, name: &str) {
    let run = host.try_virsh(&["iface-destroy", name]);
    assert_eq!(run.err, "", "{run}");
    wait::until("it is down", || !host.virsh(&["iface-list"]).contains(name));
}

fn there(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

fn files() -> String {
    sh("ls /etc/systemd/network | grep 10-virt | xargs || true")
}

#[test]
fn a_vlan_lives_and_ends() {
    inside(|host| {
        let _cards = cards();
        define(
            host,
            "vlan",
            "<interface type='vlan' name='bede0.77'><start mode='onboot'/><protocol family='ipv4'>\
             <ip address='10.77.0.1' prefix='24'/></protocol><vlan tag='77'><interface name='bede0'/></vlan></interface>",
        );
        host.virsh(&["iface-start", "bede0.77"]);
        wait::until("the VLAN has its address", || sh("ip -o addr show").contains("10.77.0.1/24"));
        let shown = sh("ip -d link show bede0.77");
        assert!(shown.contains("vlan protocol 802.1Q id 77") && shown.contains("bede0.77@bede0"), "{shown}");
        assert!(host.virsh(&["iface-list"]).contains("bede0.77"));
        let live = host.virsh(&["iface-dumpxml", "bede0.77"]);
        assert!(live.contains("<vlan tag='77'>") && live.contains("bede0"), "{live}");
        // What is defined is there again after a restart of its maker.
        sh("ip link del bede0.77; systemctl restart systemd-networkd.service");
        wait::until("the VLAN is made again", || there("bede0.77"));
        destroy(host, "bede0.77");
        assert!(!host.virsh(&["iface-list"]).contains("bede0.77"));
        host.virsh(&["iface-undefine", "bede0.77"]);
        assert_eq!(files(), "");
    });
}

#[test]
fn a_bond_has_its_members() {
    inside(|host| {
        let _cards = cards();
        define(
            host,
            "bond",
            "<interface type='bond' name='bedbond'><start mode='onboot'/><protocol family='ipv4'>\
             <ip address='10.78.0.1' prefix='24'/></protocol><bond mode='active-backup'><miimon freq='100' updelay='200'/>\
             <interface type='ethernet' name='bede0'/><interface type='ethernet' name='bede1'/></bond></interface>",
        );
        host.virsh(&["iface-start", "bedbond"]);
        let state = || sh("cat /proc/net/bonding/bedbond 2>/dev/null || true");
        wait::until("both cards are in the bond", || {
            ["bede0", "bede1"].iter().all(|card| state().contains(&format!("Slave Interface: {card}")))
        });
        assert!(state().contains("fault-tolerance (active-backup)"), "{}", state());
        assert!(state().contains("MII Polling Interval (ms): 100"), "{}", state());
        wait::until("the bond has its address", || sh("ip -o addr show bedbond").contains("10.78.0.1/24"));
        let live = host.virsh(&["iface-dumpxml", "bedbond"]);
        assert!(live.contains("mode='active-backup'") && live.contains("bede1"), "{live}");
        destroy(host, "bedbond");
        host.virsh(&["iface-undefine", "bedbond"]);
        assert_eq!(files(), "");
    });
}

#[test]
fn a_change_can_be_taken_back() {
    inside(|host| {
        let _cards = cards();
        define(host, "card", "<interface type='ethernet' name='bede0'><start mode='onboot'/></interface>");
        let before = files();
        host.virsh(&["iface-begin"]);
        let bridge = "<interface type='bridge' name='bedbr'><start mode='onboot'/><bridge stp='off'>\
                      <interface type='ethernet' name='bede0'/></bridge></interface>";
        define(host, "bridge", bridge);
        host.virsh(&["iface-start", "bedbr"]);
        wait::until("the bridge has its port", || Path::new("/sys/class/net/bedbr/brif/bede0").exists());
        host.virsh(&["iface-rollback"]);
        assert_eq!(files(), before, "as before the change");
        assert!(!there("bedbr") && there("bede0"), "what was made since is gone");
        assert!(!host.virsh(&["iface-list", "--all"]).contains("bedbr"));

        host.virsh(&["iface-begin"]);
        define(host, "bridge", bridge);
        host.virsh(&["iface-commit"]);
        assert!(host.virsh(&["iface-list", "--all"]).contains("bedbr"));
        host.virsh(&["iface-undefine", "bedbr"]);
        host.virsh(&["iface-undefine", "bede0"]);
        assert_eq!(files(), "");
    });
}
