//! Filters for real: frames through a bridge, in a network namespace of the test's own. Needs root and nft; without them
//! the tests say that they were skipped.
//!
//! ```text
//!   guest --- tap0 [bridge] other0 --- other       frames are put in at one end and looked for at the other
//!                  [      ] third0 --- third       no filter: its frame tells that all before it are through
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use virt_object::busy::Busy;
use virt_packet_sys::Packets;
use virtnwfilterd::driver::{Driver, Folders};
use virtnwfilterd::{bindings, definitions, stock};

const GUEST: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const OTHER: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];
const ALL: &[virt_packet_sys::Step] = &[(0x06, 0, 0, 0xffff)];

fn sh(line: &str) -> String {
    let out = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Runs `test` on a runtime whose threads, and all they start, are in a new network namespace with the wires laid.
fn alone<F: Future<Output = ()>>(test: impl FnOnce(Bed) -> F + Send + 'static) {
    let tools = ["/usr/sbin/nft", "/sbin/ip"].iter().all(|t| Path::new(t).exists());
    if !nix::unistd::geteuid().is_root() || !tools {
        println!("skipped: needs root, nft and ip");
        return;
    }
    let own = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        // One processor: frames arrive in the order in which they were sent.
        let mut one = nix::sched::CpuSet::new();
        one.set(0).unwrap();
        nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &one).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(test(Bed::new()));
    });
    own.join().unwrap();
}

struct Bed {
    root: tempfile::TempDir,
    guest: Packets,
    other: Packets,
    third: Packets,
}

impl Bed {
    fn new() -> Self {
        sh("ip link add br0 type bridge stp_state 0 forward_delay 0");
        for wire in ["tap0:guest", "other0:other", "third0:third"] {
            let (a, b) = wire.split_once(':').unwrap();
            sh(&format!("ip link add {a} type veth peer name {b} && ip link set {a} master br0"));
            for end in [a, b] {
                // No frames of the host's own.
                sh(&format!("ip link set {end} addrgenmode none up"));
            }
        }
        sh("ip link set br0 addrgenmode none up");
        let open = |name: &str| {
            let index = nix::net::if_::if_nametoindex(name).unwrap();
            Packets::open(index, ALL).unwrap()
        };
        let bed = Self {
            root: tempfile::tempdir().unwrap(),
            guest: open("guest"),
            other: open("other"),
            third: open("third"),
        };
        // The ports forward once the bridge has seen them come up.
        let start = Instant::now();
        while !bed.arrives(&bed.guest, &bed.other, &frame(OTHER, GUEST, 0x88b5, b"up?"), false) {
            assert!(start.elapsed() < Duration::from_secs(20), "the bridge does not forward");
        }
        bed
    }

    fn driver(&self) -> Arc<Driver> {
        let root = self.root.path();
        let folders = Folders {
            config: root.join("etc/nwfilter"),
            bindings: root.join("bindings"),
            run: root.join("run"),
        };
        std::fs::create_dir_all(root.join("etc")).unwrap();
        stock::install(&folders.config).unwrap();
        std::fs::create_dir_all(&folders.bindings).unwrap();
        std::fs::create_dir_all(&folders.run).unwrap();
        let driver = Driver::new(folders, tokio::runtime::Handle::current(), Busy::new());
        definitions::load(&driver).unwrap();
        driver
    }

    /// Whether a frame put in at `from` comes out at `to`.
    fn arrives(&self, from: &Packets, to: &Packets, frame: &[u8], sure: bool) -> bool {
        let mark: [u8; 8] = uuid::Uuid::new_v4().as_bytes()[..8].try_into().unwrap();
        let marked = [frame, &mark].concat();
        from.send(&marked).unwrap();
        let after = [&self::frame([0xff; 6], [2, 0, 0, 0, 0, 9], 0x88b6, b"after")[..], &mark].concat();
        let mut buffer = [0; 2048];
        let mut found = false;
        let start = Instant::now();
        loop {
            self.third.send(&after).unwrap();
            while let Some(seen) = to.next(&mut buffer, Duration::from_millis(20)).unwrap() {
                let got = &buffer[..seen.length];
                if seen.outgoing || !got.ends_with(&mark) {
                    continue;
                }
                if got[12..14] == [0x88, 0xb6] {
                    return found;
                }
                found = true;
            }
            if !sure && start.elapsed() > Duration::from_millis(200) {
                return false;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "the frame after it did not arrive");
        }
    }

    fn out(&self, frame: &[u8]) -> bool {
        self.arrives(&self.guest, &self.other, frame, true)
    }

    /// Into the guest. What tells that all is through must itself pass, so it is looked for beside the filter.
    fn inward(&self, frame: &[u8]) -> bool {
        let mark: [u8; 8] = uuid::Uuid::new_v4().as_bytes()[..8].try_into().unwrap();
        self.other.send(&[frame, &mark].concat()).unwrap();
        let mut buffer = [0; 2048];
        // One processor does all the work of a send before the next one.
        let after = [&self::frame([0xff; 6], OTHER, 0x88b7, b"after")[..], &mark].concat();
        self.other.send(&after).unwrap();
        let start = Instant::now();
        loop {
            match self.third.next(&mut buffer, Duration::from_millis(20)).unwrap() {
                Some(seen) if !seen.outgoing && buffer[..seen.length] == after[..] => break,
                _ => assert!(start.elapsed() < Duration::from_secs(20), "the frame after it did not arrive"),
            }
        }
        while let Some(seen) = self.guest.next(&mut buffer, Duration::from_millis(50)).unwrap() {
            let got = &buffer[..seen.length];
            if !seen.outgoing && got.ends_with(&mark) && got[12..14] != [0x88, 0xb7] {
                return true;
            }
        }
        false
    }
}

fn frame(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(*c.get(1).unwrap_or(&0))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()
}

/// An IPv4 packet; the mark that is put behind it counts as part of it.
fn ipv4(macs: ([u8; 6], [u8; 6]), from: [u8; 4], to: [u8; 4], protocol: u8, inner: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + inner.len() + 8).unwrap();
    let mut head = vec![0x45, 0];
    head.extend(length.to_be_bytes());
    head.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
    head.extend(from);
    head.extend(to);
    let sum = checksum(&head);
    head[10..12].copy_from_slice(&sum.to_be_bytes());
    frame(macs.1, macs.0, 0x800, &[&head[..], inner].concat())
}

fn udp(from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + data.len() + 8).unwrap();
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &length.to_be_bytes(), &[0, 0], data].concat()
}

fn tcp(from: u16, to: u16, flags: u8, seq: u32, ack: u32) -> Vec<u8> {
    let mut t = [&from.to_be_bytes()[..], &to.to_be_bytes(), &seq.to_be_bytes(), &ack.to_be_bytes()].concat();
    t.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    t
}

fn arp(sender: [u8; 6], ip: [u8; 4]) -> Vec<u8> {
    let body = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &sender, &ip, &[0; 6], &[10, 0, 0, 2]].concat();
    frame([0xff; 6], GUEST, 0x806, &body)
}

const OUT: ([u8; 6], [u8; 6]) = (GUEST, OTHER);
const IN: ([u8; 6], [u8; 6]) = (OTHER, GUEST);

fn binding(filter: &str, parameters: &[(&str, &str)]) -> String {
    let parameters: String =
        parameters.iter().map(|(n, v)| format!("<parameter name='{n}' value='{v}'/>")).collect();
    format!(
        "<filterbinding><owner><name>g</name><uuid>d54df46f-1ab5-4a22-8618-4560ef5fac2c</uuid></owner>\
         <portdev name='tap0'/><linkdev name='br0'/><mac address='52:54:00:00:00:01'/>\
         <filterref filter='{filter}'>{parameters}</filterref></filterbinding>"
    )
}

fn table() -> String {
    sh("nft list ruleset")
}

#[test]
fn clean_traffic_passes_only_the_cards_own() {
    alone(|bed| async move {
        let driver = bed.driver();
        let spoofed = ipv4(([2, 0, 0, 0, 0, 7], OTHER), [10, 0, 0, 1], [10, 0, 0, 2], 17, &udp(1, 2, b""));
        assert!(bed.out(&spoofed), "no filter yet");
        bindings::create(&driver, binding("clean-traffic", &[("IP", "10.0.0.1"), ("IP", "10.0.0.3")]))
            .await
            .unwrap();
        let own = |ip| ipv4(OUT, ip, [10, 0, 0, 2], 17, &udp(1, 2, b""));
        assert!(bed.out(&own([10, 0, 0, 1])) && bed.out(&own([10, 0, 0, 3])));
        assert!(!bed.out(&own([10, 0, 0, 4])), "an address of somebody else");
        assert!(!bed.out(&spoofed), "a hardware address of somebody else");
        assert!(bed.out(&arp(GUEST, [10, 0, 0, 1])));
        assert!(!bed.out(&arp(GUEST, [10, 0, 0, 4])) && !bed.out(&arp(OTHER, [10, 0, 0, 1])));
        assert!(!bed.out(&frame(OTHER, GUEST, 0x86dd, &[0x60; 60])), "neither IPv4 nor ARP");
        assert!(bed.inward(&ipv4(IN, [10, 9, 9, 9], [10, 0, 0, 1], 17, &udp(1, 2, b""))), "incoming IPv4");
        assert!(!bed.inward(&frame(GUEST, OTHER, 0x86dd, &[0x60; 60])), "incoming IPv6");
        bindings::delete(&driver, "tap0".into()).await.unwrap();
        assert!(bed.out(&spoofed), "the filter is off");
        assert!(!table().contains("virt_nwfilter"), "{}", table());
        assert_eq!(std::fs::read_dir(&driver.folders.bindings).unwrap().count(), 0);
    });
}

#[test]
fn a_new_definition_reaches_running_cards_and_a_bad_one_changes_nothing() {
    alone(|bed| async move {
        let driver = bed.driver();
        let doc = |port: &str| {
            format!(
                "<filter name='f' chain='ipv4'><uuid>01a992d2-f8c8-7c27-f69b-ab0a9d377001</uuid>\
                 <rule action='drop' direction='out'><ip protocol='udp' dstportstart='{port}'/></rule></filter>"
            )
        };
        let to = |port| ipv4(OUT, [10, 0, 0, 1], [10, 0, 0, 2], 17, &udp(1000, port, b""));
        definitions::define(&driver, doc("53")).await.unwrap();
        definitions::define(&driver, "<filter name='top'><filterref filter='f'/></filter>".into())
            .await
            .unwrap();
        bindings::create(&driver, binding("top", &[])).await.unwrap();
        assert!(!bed.out(&to(53)) && bed.out(&to(54)));
        definitions::define(&driver, doc("54")).await.unwrap();
        assert!(bed.out(&to(53)) && !bed.out(&to(54)));
        let bad = definitions::define(&driver, doc("$NOBODY_TOLD")).await.map(drop).unwrap_err();
        assert!(bad.message().contains("unresolvable variables"), "{bad:?}");
        assert!(bed.out(&to(53)) && !bed.out(&to(54)), "as before");
        let filter = driver.filters.by_name("f").unwrap();
        assert!(filter.document.load().value.format().contains("54"));
        let busy = definitions::undefine(&driver, filter).await.unwrap_err();
        assert_eq!(busy.message(), "Requested operation is not valid: nwfilter is in use");
        // The daemon is killed, somebody takes the rules away, the daemon comes back.
        sh("nft delete table bridge virt_nwfilter");
        assert!(bed.out(&to(54)));
        drop(driver);
        let second = bed.driver();
        assert_eq!(bindings::adopt(&second).await.unwrap(), 1);
        assert!(bed.out(&to(53)) && !bed.out(&to(54)), "the rules are back");
        bindings::delete(&second, "tap0".into()).await.unwrap();
        assert!(!table().contains("virt_nwfilter"), "{}", table());
    });
}

#[test]
fn connections_are_followed() {
    alone(|bed| async move {
        let driver = bed.driver();
        // The marks behind our packets are in no checksum.
        sh("echo 0 > /proc/sys/net/netfilter/nf_conntrack_checksum");
        let doc = "<filter name='server'><rule action='accept' direction='in' priority='100'><tcp dstportstart='22'/></rule>\
                   <rule action='drop' direction='inout' priority='1000'><all/></rule></filter>";
        definitions::define(&driver, doc.into()).await.unwrap();
        bindings::create(&driver, binding("server", &[])).await.unwrap();
        let (guest, client) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let syn = |port| ipv4(IN, client, guest, 6, &tcp(4000, port, 2, 100, 0));
        let answer = |flags| ipv4(OUT, guest, client, 6, &tcp(22, 4000, flags, 500, 101));
        assert!(!bed.out(&answer(0x12)), "nobody has asked");
        assert!(!bed.inward(&syn(23)), "no such service");
        assert!(bed.inward(&syn(22)));
        assert!(bed.out(&answer(0x12)), "the answer");
        let fresh = ipv4(OUT, guest, client, 6, &tcp(22, 5000, 2, 1, 0));
        assert!(!bed.out(&fresh), "a connection of the guest's own from the service's port");
        assert!(!bed.out(&ipv4(OUT, guest, client, 17, &udp(1, 2, b""))));
        bindings::delete(&driver, "tap0".into()).await.unwrap();
        assert!(bed.out(&fresh) && !table().contains("virt_nwfilter"));
    });
}

#[test]
fn other_frames_are_told_apart() {
    alone(|bed| async move {
        let driver = bed.driver();
        let doc = "<filter name='l2'><rule action='drop' direction='out'><stp root-priority='0x1000' root-priority-hi='0x2000'/></rule>\
                   <rule action='drop' direction='out'><rarp opcode='3' arpsrcmacaddr='52:54:00:00:00:01'/></rule>\
                   <rule action='drop' direction='out'><vlan vlanid='5'/></rule>\
                   <rule action='drop' direction='out'><mac srcmacaddr='aa:bb:cc:00:00:00' srcmacmask='ff:ff:ff:00:00:00'/></rule>\
                   <rule action='drop' direction='out'><ip match='no' srcipaddr='10.0.0.0'/><ip srcipmask='24' dscp='9'/></rule>\
                   <rule action='drop' direction='out'><ipv6 protocol='icmpv6' type='133' typeend='135'/></rule>\
                   <rule action='drop' direction='in'><tcp flags='SYN,ACK/SYN' state='NONE'/></rule></filter>";
        definitions::define(&driver, doc.into()).await.unwrap();
        bindings::create(&driver, binding("l2", &[])).await.unwrap();
        let stp = |priority: u16| {
            let bpdu = [&[0x42, 0x42, 3, 0, 0, 0, 0, 0][..], &priority.to_be_bytes(), &[0; 30]].concat();
            frame([1, 0x80, 0xc2, 0, 0, 0], GUEST, 38, &bpdu)
        };
        // A bridge that does not speak the protocol itself passes it on.
        assert!(bed.out(&stp(0x2001)) && !bed.out(&stp(0x1800)));
        let rarp = |op: u8, mac: [u8; 6]| {
            frame([0xff; 6], GUEST, 0x8035, &[&[0, 1, 8, 0, 6, 4, 0, op][..], &mac, &[0; 14]].concat())
        };
        assert!(!bed.out(&rarp(3, GUEST)) && bed.out(&rarp(4, GUEST)) && bed.out(&rarp(3, OTHER)));
        let vlan = |id: u8| frame(OTHER, GUEST, 0x8100, &[0, id, 8, 0, 1, 2, 3, 4]);
        assert!(!bed.out(&vlan(5)) && bed.out(&vlan(6)));
        assert!(!bed.out(&frame(OTHER, [0xaa, 0xbb, 0xcc, 1, 2, 3], 0x88b5, b"")));
        assert!(bed.out(&frame(OTHER, [0xaa, 0xbb, 0xcd, 1, 2, 3], 0x88b5, b"")));
        let classed = |ip, class: u8| {
            let mut f = ipv4(OUT, ip, [10, 0, 0, 2], 17, &udp(1, 2, b""));
            f[15] = class << 2;
            (f[24], f[25]) = (0, 0);
            let sum = checksum(&f[14..34]);
            f[24..26].copy_from_slice(&sum.to_be_bytes());
            f
        };
        assert!(!bed.out(&classed([10, 1, 0, 1], 9)), "another network, this class");
        assert!(bed.out(&classed([10, 0, 0, 1], 9)) && bed.out(&classed([10, 1, 0, 1], 8)));
        let icmp6 = |kind: u8| {
            let head = [
                &[0x60, 0, 0, 0, 0, 16, 58, 255][..],
                &[0xfe; 16],
                &[0xfd; 16],
                &[kind, 0, 0, 0, 0, 0, 0, 0],
            ]
            .concat();
            frame(OTHER, GUEST, 0x86dd, &head)
        };
        assert!(!bed.out(&icmp6(134)) && bed.out(&icmp6(136)));
        let flags = |f| ipv4(IN, [10, 0, 0, 2], [10, 0, 0, 1], 6, &tcp(1, 2, f, 1, 0));
        assert!(!bed.inward(&flags(2)), "SYN without ACK");
        bindings::delete(&driver, "tap0".into()).await.unwrap();
    });
}

#[test]
fn an_address_is_learned_from_the_first_packet() {
    alone(|bed| async move {
        let driver = bed.driver();
        bindings::create(&driver, binding("clean-traffic", &[])).await.unwrap();
        let from = |ip| ipv4(OUT, ip, [10, 0, 0, 2], 17, &udp(1, 2, b""));
        let start = Instant::now();
        // The learner's socket may open a moment later.
        while driver.bindings.load().value["tap0"].leases.is_empty() {
            bed.out(&from([10, 0, 0, 5]));
            assert!(start.elapsed() < Duration::from_secs(20), "nothing was learned");
        }
        assert!(bed.out(&from([10, 0, 0, 5])) && !bed.out(&from([10, 0, 0, 6])));
        // It is not forgotten by a new daemon.
        drop(driver);
        let second = bed.driver();
        bindings::adopt(&second).await.unwrap();
        assert!(bed.out(&from([10, 0, 0, 5])) && !bed.out(&from([10, 0, 0, 6])));
        bindings::delete(&second, "tap0".into()).await.unwrap();
    });
}

#[test]
fn leases_of_dhcp_open_and_shut_the_card() {
    alone(|bed| async move {
        let driver = bed.driver();
        let parameters = [("CTRL_IP_LEARNING", "dhcp"), ("DHCPSERVER", "10.0.0.254")];
        bindings::create(&driver, binding("clean-traffic", &parameters)).await.unwrap();
        let own = ipv4(OUT, [10, 0, 0, 9], [10, 0, 0, 2], 17, &udp(1, 2, b""));
        assert!(!bed.out(&own), "no lease");
        let message = |op: u8, ip: [u8; 4], options: &[u8]| {
            let mut m = vec![op, 1, 6, 0];
            m.resize(12, 0);
            m.extend(ip);
            m.extend(ip);
            m.resize(28, 0);
            m.extend(GUEST);
            m.resize(236, 0);
            m.extend([0x63, 0x82, 0x53, 0x63]);
            m.extend(options);
            m
        };
        let ack = |last, seconds| message(2, [10, 0, 0, last], &[53, 1, 5, 51, 4, 0, 0, 0, seconds, 255]);
        let served = |last, seconds| {
            bed.inward(&ipv4(IN, [10, 0, 0, 254], [255; 4], 17, &udp(67, 68, &ack(last, seconds))));
        };
        let known = || -> Vec<u8> {
            let all = driver.bindings.load();
            all.value["tap0"].leases.iter().map(|l| l.address.octets()[3]).collect()
        };
        let start = Instant::now();
        let wait = |what: &str| assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        while known() != [9] {
            served(9, 60);
            wait("no lease was seen");
            // A server does not repeat itself at once, and a flood would not be looked at.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(bed.out(&own));
        // The guest cannot lease itself an address, and a stranger cannot either.
        bed.out(&ipv4(OUT, [10, 0, 0, 254], [255; 4], 17, &udp(67, 68, &ack(10, 60))));
        bed.inward(&ipv4(IN, [10, 0, 0, 66], [255; 4], 17, &udp(67, 68, &ack(10, 60))));
        served(9, 1);
        // Frames are looked at in order: once the last one counts, those before it did not.
        while !known().is_empty() {
            assert_eq!(known(), [9]);
            wait("the lease is not over");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(!bed.out(&own), "the lease is over");
        bindings::delete(&driver, "tap0".into()).await.unwrap();
        assert!(!table().contains("virt_nwfilter"));
    });
}
