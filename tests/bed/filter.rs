//! Rules about connections where bridges know them themselves (`nf_conntrack_bridge`).

use virt_testkit::bed::{AtEnd, sh, try_sh};
use virt_testkit::host::Host;

use crate::inside;
use crate::network::peer;

const MAC: &str = "52:54:00:00:00:17";

/// A bridge with the host at 192.168.152.1, and a "guest" at .2 behind the filter `rules`: binding is what a start does.
fn guarded(host: &Host, rules: &str) -> [AtEnd; 2] {
    sh("modprobe nf_conntrack_bridge; ip link add bedfil type bridge forward_delay 0
        ip addr add 192.168.152.1/24 dev bedfil; ip link set bedfil up");
    let bridge = AtEnd::sh("ip link del bedfil");
    let peer = peer("bedg", "bedfil", "192.168.152.2/24");
    sh(&format!("ip -n bedg link set eth0 address {MAC}"));
    let xml = format!("<filter name='bedfilter' chain='root'>{rules}</filter>");
    host.virsh(&["nwfilter-define", &host.document("bedfilter", &xml)]);
    let binding = format!(
        "<filterbinding><owner><name>bedguest</name><uuid>5f0a3d4e-6b1c-4c6e-9d8d-2f7b3a1c0e42</uuid></owner>\
         <portdev name='bedg0'/><mac address='{MAC}'/><filterref filter='bedfilter'/></filterbinding>"
    );
    host.virsh(&["nwfilter-binding-create", &host.document("bedbinding", &binding)]);
    let undo = AtEnd::sh(
        "virsh -q nwfilter-binding-delete bedg0 >/dev/null\nvirsh -q nwfilter-undefine bedfilter >/dev/null
         pkill -f TCP-LISTEN:80",
    );
    // Ends first what is on the bridge.
    [undo, AtEnd::sh(format!("{}\n{}", peer.keep(), bridge.keep()))]
}

/// A server that says "hello" to everyone and keeps the connection for `seconds`.
fn server(netns: &str, port: u32, seconds: u32) {
    let run = if netns.is_empty() { String::new() } else { format!("ip netns exec {netns} ") };
    sh(&format!(
        "{run}setsid -f socat TCP-LISTEN:{port},fork,reuseaddr SYSTEM:'echo hello; sleep {seconds}' </dev/null >/dev/null 2>&1
         until {run}ss -Hltn | grep -q :{port}; do sleep 0.05; done"
    ));
}

/// Whether `netns` hears the server's "hello".
fn reaches(netns: &str, address: &str, port: u32) -> bool {
    let run = if netns.is_empty() { String::new() } else { format!("ip netns exec {netns} ") };
    let said =
        try_sh(&format!("{run}timeout 4 socat -u TCP:{address}:{port},connect-timeout=2 - | head -c 5"));
    said.out == "hello"
}

#[test]
fn answers_pass_and_questions_do_not() {
    inside(|host| {
        let _guarded = guarded(
            host,
            "<rule action='accept' direction='in' priority='100'><tcp dstportstart='8022'/></rule>\
             <rule action='accept' direction='out' priority='200'><tcp/></rule>\
             <rule action='accept' direction='inout' priority='300'><icmp/></rule>\
             <rule action='drop' direction='inout' priority='500'><all/></rule>",
        );
        assert!(sh("lsmod").contains("nf_conntrack_bridge"));
        server("", 8001, 0);
        server("bedg", 8001, 0);
        server("bedg", 8022, 0);
        assert!(reaches("bedg", "192.168.152.1", 8001), "the guest asks, the answer passes");
        assert!(reaches("", "192.168.152.2", 8022), "a service it offers");
        assert!(!reaches("", "192.168.152.2", 8001), "one it does not");
        sh("ping -c 1 -W 2 192.168.152.2 >/dev/null 2>&1 || busybox ping -c 1 -W 2 192.168.152.2");
        let rules = sh("nft list ruleset bridge");
        assert!(rules.contains("ct state"), "{rules}");
    });
}
