//! Traffic limits, VLANs and macvtaps. Who talks to the host or a guest is a network namespace at the end of a veth pair.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use virt_testkit::bed::{AtEnd, sh, try_sh};
use virt_testkit::host::{Host, bare_xml};
use virt_testkit::wait;

use crate::inside;

/// A machine of its own at a port of `bridge`: namespace `name`, its end `eth0` with `address`, the bridge's end `name0`.
pub fn peer(name: &str, bridge: &str, address: &str) -> AtEnd {
    sh(&format!(
        "ip netns add {name}; ip link add {name}0 type veth peer name eth0 netns {name}
         ip link set {name}0 master {bridge} up
         ip -n {name} addr add {address} dev eth0; ip -n {name} link set eth0 up; ip -n {name} link set lo up"
    ));
    AtEnd::sh(format!("ip link del {name}0\nip netns del {name}"))
}

/// Waits until frames pass: a bridge with the spanning tree protocol lets a new port learn first.
pub fn until_reached(address: &str) {
    wait::until(&format!("{address} answers"), || try_sh(&format!("busybox ping -c 1 -W 1 {address}")).ok());
}

/// A bare guest with `card` among its devices, started. Ends with the test.
fn guest(host: &Host, stem: &str, card: &str) -> String {
    let name = host.name(stem);
    let xml = bare_xml(&name).replace("<devices>", &format!("<devices>{card}"));
    host.virsh(&["define", &host.document(&name, &xml)]);
    host.virsh(&["start", &name]);
    name
}

/// The host's end of a guest's first card.
fn device(host: &Host, guest: &str) -> String {
    let list = host.virsh(&["domiflist", guest]);
    list.split_whitespace().next().expect("a card").to_owned()
}

/// What traffic control says of an interface.
fn tc(what: &str) -> String {
    sh(&format!("tc -s {what}"))
}

/// The number after the first `word`.
fn number_after(text: &str, word: &str) -> u64 {
    let rest = text.split(word).nth(1).unwrap_or_else(|| panic!("no {word} in {text}"));
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number after {word} in {text}"))
}

/// Thousands of bytes a second of the network's bridge.
const RATE: u64 = 256;

fn limited(host: &Host) -> AtEnd {
    let xml = format!(
        "<network><name>bedlimit</name><bridge name='bedlimit'/>\
         <bandwidth><inbound average='{RATE}' burst='32'/><outbound average='{RATE}' burst='32'/></bandwidth>\
         <ip address='192.168.150.1' netmask='255.255.255.0'/></network>"
    );
    host.virsh(&["net-define", &host.document("bedlimit", &xml)]);
    let undo = AtEnd::sh(
        "virsh -q net-destroy bedlimit >/dev/null 2>&1\nvirsh -q net-undefine bedlimit >/dev/null 2>&1",
    );
    host.virsh(&["net-start", "bedlimit"]);
    undo
}

#[test]
fn a_networks_limits_hold() {
    inside(|host| {
        let _net = limited(host);
        assert!(tc("class show dev bedlimit").contains("rate 2048Kbit"), "{}", tc("class show dev bedlimit"));
        assert!(tc("qdisc show dev bedlimit").contains("qdisc sfq"), "{}", tc("qdisc show dev bedlimit"));
        assert!(tc("filter show dev bedlimit ingress").contains("rate 2048Kbit"));
        let _peer = peer("bedp", "bedlimit", "192.168.150.2/24");
        until_reached("192.168.150.2");

        // Into the network: what arrives in a time can be no more than the rate allows, whatever else this machine does.
        const BYTES: u64 = 800_000;
        let begin = Instant::now();
        sh(&format!(
            "ip netns exec bedp timeout 60 socat -u TCP-LISTEN:7777 OPEN:/srv/got,creat,trunc & got=$!
             until ip netns exec bedp ss -Hltn | grep -q :7777; do sleep 0.05; done
             head -c {BYTES} /dev/zero | socat -u - TCP:192.168.150.2:7777; wait $got"
        ));
        let took = begin.elapsed();
        let got = fs::metadata("/srv/got").unwrap().len();
        fs::remove_file("/srv/got").unwrap();
        assert_eq!(got, BYTES);
        // The burst goes at once, and TCP's own buffers are on the other side of the limit.
        let least = Duration::from_millis((BYTES - 100_000) / RATE);
        let class = tc("class show dev bedlimit");
        println!("{BYTES} bytes in {took:?}, at least {least:?}\n{class}");
        assert!(took >= least, "{took:?}");
        assert!(number_after(&class, "overlimits") > 0, "{class}");

        // Out of it: what is over the rate is dropped, and the rest arrives.
        sh("head -c 1500000 /dev/zero | ip netns exec bedp socat -u -b 1400 - UDP-SENDTO:192.168.150.1:9");
        let filter = tc("filter show dev bedlimit ingress");
        assert!(number_after(&filter, "(dropped") > 0, "{filter}");
        host.virsh(&["net-destroy", "bedlimit"]);
        assert!(!Path::new("/sys/class/net/bedlimit").exists());
    });
}

#[test]
fn a_cards_limits_follow_its_document() {
    inside(|host| {
        let _net = limited(host);
        let card = "<interface type='network'><source network='bedlimit'/>\
                    <bandwidth><inbound average='100' peak='300' burst='64'/><outbound average='200'/></bandwidth></interface>";
        let name = guest(host, "card", card);
        let tap = device(host, &name);
        let class = tc(&format!("class show dev {tap}"));
        assert!(
            class.contains("rate 800Kbit") && class.contains("ceil 2400Kbit") && class.contains("burst 64Kb"),
            "{class}"
        );
        let filter = tc(&format!("filter show dev {tap} ingress"));
        assert!(filter.contains("rate 1600Kbit"), "{filter}");
        // Changed while the guest runs, then taken away.
        host.virsh(&["domiftune", &name, &tap, "--inbound", "500", "--live"]);
        assert!(tc(&format!("class show dev {tap}")).contains("rate 4Mbit"));
        host.virsh(&["domiftune", &name, &tap, "--inbound", "0", "--outbound", "0", "--live"]);
        assert!(!tc(&format!("qdisc show dev {tap}")).contains("htb"));
        assert_eq!(tc(&format!("filter show dev {tap} ingress")), "");
        host.virsh(&["destroy", &name]);
        assert!(!Path::new("/sys/class/net").join(&tap).exists(), "{tap}");
    });
}

/// A bridge that filters by VLANs, not ours.
fn bridge(name: &str) -> AtEnd {
    sh(&format!("ip link add {name} type bridge vlan_filtering 1 forward_delay 0; ip link set {name} up"));
    AtEnd::sh(format!("ip link del {name}"))
}

#[test]
fn a_cards_vlan_is_the_bridges_business() {
    inside(|host| {
        let _bridge = bridge("bedvlan");
        let _inside = peer("bedin", "bedvlan", "192.168.151.2/24");
        sh("bridge vlan del dev bedin0 vid 1; bridge vlan add dev bedin0 vid 42 pvid untagged");
        let _outside = peer("bedout", "bedvlan", "192.168.151.2/24");
        let card =
            "<interface type='bridge'><source bridge='bedvlan'/><vlan><tag id='42'/></vlan></interface>";
        let name = guest(host, "vlan", card);
        let tap = device(host, &name);
        let vlans = sh(&format!("bridge vlan show dev {tap} | tail -n +2 | sed 's/{tap}//' | xargs"));
        assert_eq!(vlans, "42 PVID Egress Untagged", "and not in the bridge's own VLAN");

        // A question to everyone reaches the guest from its VLAN, and from no other.
        let _count = AtEnd::sh("nft delete table bridge bedcount");
        sh(&format!(
            "nft 'add table bridge bedcount; add counter bridge bedcount seen
             add chain bridge bedcount post {{ type filter hook postrouting priority 0; }}
             add rule bridge bedcount post oifname {tap} ether type arp counter name seen'"
        ));
        let seen = || number_after(&sh("nft list counter bridge bedcount seen"), "packets");
        let _ = try_sh("ip netns exec bedout busybox arping -c 2 -w 3 -I eth0 192.168.151.99");
        assert_eq!(seen(), 0, "from another VLAN");
        let _ = try_sh("ip netns exec bedin busybox arping -c 2 -w 3 -I eth0 192.168.151.99");
        assert!(seen() > 0, "from its own");
        host.virsh(&["destroy", &name]);

        let trunk = "<interface type='bridge'><source bridge='bedvlan'/>\
                     <vlan trunk='yes'><tag id='7' nativeMode='untagged'/><tag id='8'/></vlan></interface>";
        let name = guest(host, "trunk", trunk);
        let tap = device(host, &name);
        let vlans = sh(&format!("bridge vlan show dev {tap} | tail -n +2 | sed 's/{tap}//' | xargs"));
        assert_eq!(vlans, "7 PVID Egress Untagged 8");
        host.virsh(&["destroy", &name]);
    });
}

#[test]
fn a_macvtap_lives_with_its_guest() {
    inside(|host| {
        sh("ip link add bedlow type dummy; ip link set bedlow up");
        let _low = AtEnd::sh("ip link del bedlow");
        let card = "<interface type='direct'><source dev='bedlow' mode='bridge'/><mac address='52:54:00:00:00:42'/></interface>";
        let name = guest(host, "direct", card);
        let tap = device(host, &name);
        let shown = sh(&format!("ip -d link show {tap}"));
        assert!(shown.contains("macvtap mode bridge") && shown.contains("52:54:00:00:00:42"), "{shown}");
        let index = sh(&format!("cat /sys/class/net/{tap}/ifindex"));
        assert!(Path::new(&format!("/dev/tap{index}")).exists());
        // It is the guest's as long as the guest runs.
        sh("systemctl kill -s KILL virtqemud.service");
        assert_eq!(device(host, &name), tap);
        host.virsh(&["destroy", &name]);
        wait::until("the macvtap is gone", || !Path::new("/sys/class/net").join(&tap).exists());
    });
}

#[test]
fn a_floor_is_kept_for_its_card() {
    inside(|host| {
        let _net = limited(host);
        let card = |mac: &str, floor: u32| {
            format!(
                "<interface type='network'><source network='bedlimit'/><mac address='{mac}'/>\
                 <bandwidth><inbound average='{RATE}' floor='{floor}'/></bandwidth></interface>"
            )
        };
        let name = guest(host, "floor", &card("52:54:00:00:00:51", 200));
        let class = tc("class show dev bedlimit");
        assert!(class.contains("class htb 1:3 parent 1:1") && class.contains("rate 1600Kbit"), "{class}");
        assert!(class.contains("class htb 1:2 parent 1:1") && class.contains("rate 448Kbit"), "{class}");
        let _peer = peer("bedp", "bedlimit", "192.168.150.2/24");
        // Frames to the guest's address take its class, and only they. The bridge knows where it is.
        let sent = || {
            let classes = tc("class show dev bedlimit");
            let own =
                classes.split("class htb ").find(|c| c.starts_with("1:3 ")).expect("class 3").to_owned();
            number_after(&own, "Sent")
        };
        let before = sent();
        until_reached("192.168.150.2");
        assert_eq!(sent(), before, "others' frames are not its own");
        sh("ip neigh replace 192.168.150.9 lladdr 52:54:00:00:00:51 dev bedlimit
            busybox ping -c 3 -W 1 192.168.150.9 >/dev/null || true");
        assert!(sent() > before, "{}", tc("class show dev bedlimit"));

        // No more can be kept than there is, and a card that cannot have it leaves nothing.
        let more = host.name("more");
        let xml =
            bare_xml(&more).replace("<devices>", &format!("<devices>{}", card("52:54:00:00:00:52", 100)));
        host.virsh(&["define", &host.document(&more, &xml)]);
        let refused = host.try_virsh(&["start", &more]);
        assert!(refused.err.contains("overcommit 'average' on network 'bedlimit'"), "{refused}");
        assert!(!tc("class show dev bedlimit").contains("1:4"));

        host.virsh(&["destroy", &name]);
        wait::until("the share is given back", || {
            let class = tc("class show dev bedlimit");
            !class.contains("1:3") && !class.contains("rate 448Kbit")
        });
        host.virsh(&["start", &more]);
        assert!(tc("class show dev bedlimit").contains("rate 800Kbit"));
        host.virsh(&["destroy", &more]);
    });
}

/// A network that starts is in its zone of firewalld, stays there when firewalld forgets it, and its guests reach the host.
#[test]
fn bridges_are_in_zones_of_firewalld() {
    inside(|host| {
        sh("systemctl start firewalld");
        let _firewalld = AtEnd::sh("systemctl stop firewalld");
        let xml = |zone: &str| {
            format!(
                "<network><name>bedzone</name><bridge name='bedzone' stp='off'{zone}/>\
                 <ip address='192.168.153.1' netmask='255.255.255.0'/></network>"
            )
        };
        let refused = host.try_virsh(&["net-create", &host.document("bedzone", &xml(" zone='nosuchzone'"))]);
        assert!(refused.err.contains("INVALID_ZONE"), "{refused}");
        assert!(!Path::new("/sys/class/net/bedzone").exists(), "a refused start leaves nothing");
        let zone = || try_sh("firewall-cmd --get-zone-of-interface=bedzone").out;
        host.virsh(&["net-create", &host.document("bedzone", &xml(""))]);
        let _net = AtEnd::sh("virsh -q net-destroy bedzone");
        assert_eq!(zone().trim(), "libvirt");
        host.virsh(&["net-destroy", "bedzone"]);
        host.virsh(&["net-create", &host.document("bedzone", &xml(" zone='trusted'"))]);
        assert_eq!(zone().trim(), "trusted");
        let _peer = peer("bedz", "bedzone", "192.168.153.2/24");
        until_reached("192.168.153.2");
        sh("firewall-cmd --zone=trusted --remove-interface=bedzone");
        sh("firewall-cmd --reload");
        wait::until("the zone is back", || zone().trim() == "trusted");
        sh("ip netns exec bedz busybox ping -c 1 -W 5 192.168.153.1");
    });
}
