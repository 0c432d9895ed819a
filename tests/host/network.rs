//! Networks with real guests and real packets. Each test is in a network namespace of its own, with a host "outside" in
//! another.

use std::process::{Child, Command, Stdio};

use virt_testkit::host::{Host, Image, Options, built};
use virt_testkit::wait;

/// The address of the host outside; it knows no way back to guests.
const OUTSIDE: &str = "198.51.100.2";

/// Runs `test` with all it starts in a new network namespace.
pub fn alone(test: fn(&Host)) {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    // While there still is a way to the packages it is made of.
    let _ = built();
    let own = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let _outside = Outside::new();
        if let Some(host) = Host::ours(Options::default()) {
            test(&host);
        }
    });
    if let Err(panic) = own.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A host behind a cable.
struct Outside(Child);

impl Outside {
    fn new() -> Self {
        let child =
            Command::new("unshare").args(["-n", "sleep", "600"]).stdin(Stdio::null()).spawn().unwrap();
        let pid = child.id().to_string();
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        wait::until("the outside has a network of its own", || {
            std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|n| n != own)
        });
        run("ip", &["link", "set", "lo", "up"]);
        run("ip", &["link", "add", "out0", "type", "veth", "peer", "name", "in0", "netns", &pid]);
        run("ip", &["address", "add", "198.51.100.1/24", "dev", "out0"]);
        run("ip", &["link", "set", "out0", "up"]);
        let there = ["-t", &pid, "-n", "ip"];
        run("nsenter", &[&there[..], &["address", "add", "198.51.100.2/24", "dev", "in0"]].concat());
        run("nsenter", &[&there[..], &["link", "set", "in0", "up"]].concat());
        Self(child)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn run(program: &str, args: &[&str]) -> String {
    let done = Command::new(program).args(args).output().unwrap();
    assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// A network of addresses 10.SUBNET.0.0/24.
pub fn network(host: &Host, stem: &str, forward: &str, subnet: u8) -> String {
    let name = host.name(stem);
    let xml = format!(
        "<network><name>{name}</name>{forward}<bridge name='vtb{subnet}' stp='off'/>\
         <ip address='10.{subnet}.0.1' prefix='24'><dhcp><range start='10.{subnet}.0.10' end='10.{subnet}.0.99'/>\
         </dhcp></ip></network>"
    );
    host.virsh(&["net-define", &host.document(&name, &xml)]);
    host.virsh(&["net-start", &name]);
    name
}

/// The tiny Linux in a network; `last` makes its hardware address.
fn guest(host: &Host, image: &Image, network: &str, last: u8) -> String {
    guest_with(host, image, network, last, "")
}

/// The same with more in its card.
fn guest_with(host: &Host, image: &Image, network: &str, last: u8, more: &str) -> String {
    let name = host.name("guest");
    let xml = format!(
        "<domain type='qemu'><name>{name}</name><memory unit='MiB'>128</memory><vcpu>1</vcpu>\
         <os><type arch='x86_64' machine='pc'>hvm</type><kernel>{}</kernel><initrd>{}</initrd>\
         <cmdline>console=ttyS0 quiet</cmdline></os><features><acpi/></features><devices>\
         <interface type='network'><source network='{network}'/><mac address='{}'/><model type='virtio'/>{more}</interface>\
         <serial type='pty'/><console type='pty'/><memballoon model='none'/></devices></domain>",
        image.kernel.display(),
        image.initrd.display(),
        mac(last)
    );
    host.virsh(&["create", &host.document(&name, &xml)]);
    name
}

fn mac(last: u8) -> String {
    format!("52:54:00:7a:00:{last:02x}")
}

/// Waits for a guest's lease and answers its address.
fn address(host: &Host, network: &str, last: u8) -> String {
    let mut found = String::new();
    wait::until("the guest has a lease", || {
        let rows = host.virsh(&["net-dhcp-leases", network, "--mac", &mac(last)]);
        let word = rows.split_whitespace().find(|w| w.contains("/24")).unwrap_or_default();
        found = word.trim_end_matches("/24").to_string();
        !found.is_empty()
    });
    found
}

/// Whether a guest's packets to an address are answered.
fn reaches(host: &Host, guest: &str, to: &str) -> bool {
    // The sum is done by the guest, so that the echo of the typed line is not taken for the answer.
    let typed = format!("ping -c 2 -W 2 {to} >/dev/null 2>&1; echo r$?-$((6*7))-end\r");
    host.console(guest, "", Some((&typed, "-42-end"))).contains("r0-42-end")
}

#[test]
fn guests_get_addresses_reach_each_other_and_leave_only_where_they_may() {
    alone(|host| {
        let image = host.image();
        let nat = network(host, "nat", "<forward mode='nat'/>", 61);
        let isolated = network(host, "isolated", "", 62);
        let (one, two) = (guest(host, &image, &nat, 1), guest(host, &image, &nat, 2));
        let shut = guest(host, &image, &isolated, 3);
        address(host, &nat, 1);
        let second = address(host, &nat, 2);
        address(host, &isolated, 3);
        let card = format!("{} ipv4 {second}/24", mac(2));
        let leased = host.virsh(&["domifaddr", &two]);
        assert!(leased.split_whitespace().collect::<Vec<_>>().join(" ").ends_with(&card), "{leased}");
        assert!(host.virsh(&["domifaddr", &two, "--source", "arp"]).contains(&second));
        let through = host.virsh(&["domifstat", &two, &mac(2)]);
        assert!(through.contains("rx_packets") && !through.contains("rx_packets 0"), "{through}");
        assert!(reaches(host, &one, &second), "two guests of one network");
        assert!(reaches(host, &one, OUTSIDE), "a guest behind NAT reaches the outside");
        assert!(!reaches(host, &shut, OUTSIDE), "an isolated network leaks");
        assert!(!reaches(host, &shut, &second), "an isolated network leaks into another");
        for name in [&one, &two, &shut] {
            host.virsh(&["destroy", name]);
        }
        for name in [&nat, &isolated] {
            assert_eq!(host.virsh(&["net-port-list", name]).lines().count(), 0, "ports are given back");
            host.virsh(&["net-destroy", name]);
        }
        let left = run("ip", &["-o", "link"]);
        assert!(!left.contains("vnet") && !left.contains("vtb"), "{left}");
        assert!(!run("nft", &["list", "tables"]).contains("virt_network"));
    });
}

#[test]
fn guests_stay_connected_when_daemons_die_and_networks_restart() {
    alone(|host| {
        let image = host.image();
        let nat = network(host, "nat", "<forward mode='nat'/>", 63);
        let one = guest(host, &image, &nat, 1);
        address(host, &nat, 1);
        assert!(reaches(host, &one, OUTSIDE));
        host.kill("virtnetworkd");
        assert!(reaches(host, &one, OUTSIDE), "rules and bridge outlive the daemon");
        assert_eq!(host.virsh(&["net-port-list", &nat]).lines().count(), 1, "ports outlive the daemon");
        host.virsh(&["net-destroy", &nat]);
        host.virsh(&["net-start", &nat]);
        wait::until("the card is plugged in again", || {
            run("ip", &["-o", "link", "show", "master", "vtb63"]).contains("vnet")
        });
        assert!(reaches(host, &one, OUTSIDE), "the network is back");
        assert_eq!(host.virsh(&["net-port-list", &nat]).lines().count(), 1);
        host.kill("virtqemud");
        assert!(host.virsh(&["dumpxml", &one]).contains("portid="), "the card is known after a restart");
        host.virsh(&["destroy", &one]);
        assert_eq!(host.virsh(&["net-port-list", &nat]).lines().count(), 0);
        host.virsh(&["net-destroy", &nat]);
    });
}

/// The first guest's card with something else in it.
fn card_file(host: &Host, network: &str, inside: &str) -> String {
    let xml = format!(
        "<interface type='network'><source network='{network}'/><mac address='{}'/><model type='virtio'/>{inside}</interface>",
        mac(1)
    );
    host.document("card", &xml)
}

#[test]
fn a_guests_filter_learns_its_lease_and_drops_what_it_says() {
    alone(|host| {
        let image = host.image();
        let nat = network(host, "nat", "<forward mode='nat'/>", 63);
        let filter = host.name("filter");
        let define = |rule: &str| {
            let xml = format!(
                "<filter name='{filter}'><uuid>01a992d2-f8c8-7c27-f69b-ab0a9d377001</uuid>\
                 <filterref filter='clean-traffic'/>{rule}</filter>"
            );
            host.virsh(&["nwfilter-define", &host.document(&filter, &xml)]);
        };
        define("");
        let learn = "<parameter name='CTRL_IP_LEARNING' value='dhcp'/>";
        let reference = format!("<filterref filter='{filter}'>{learn}</filterref>");
        let one = guest_with(host, &image, &nat, 1, &reference);
        address(host, &nat, 1);
        wait::until("the lease was learned", || reaches(host, &one, "10.63.0.1"));
        define(
            "<rule action='drop' direction='out' priority='-900'><ip dstipaddr='10.63.0.1' protocol='icmp'/></rule>",
        );
        assert!(!reaches(host, &one, "10.63.0.1"), "the new rule reaches a running card");
        assert!(reaches(host, &one, OUTSIDE), "and drops nothing else");
        let card = |inside: &str| {
            host.virsh(&["update-device", &one, &card_file(host, &nat, inside), "--live"]);
        };
        card("");
        assert!(!host.virsh(&["nwfilter-binding-list"]).contains(&filter), "the filter is off");
        assert!(reaches(host, &one, "10.63.0.1"), "without it all gets through");
        card(&format!(
            "<link state='up'/><filterref filter='{filter}'><parameter name='IP' value='10.63.0.200'/></filterref>"
        ));
        assert!(!reaches(host, &one, OUTSIDE), "another address than the card may have");
        assert!(host.virsh(&["dumpxml", &one]).contains("value='10.63.0.200'"));
        let wrong = card_file(host, &nat, "<filterref filter='no-such-filter'/>");
        let refused = host.try_virsh(&["update-device", &one, &wrong, "--live"]);
        assert!(!refused.ok() && refused.err.contains("no-such-filter"), "{refused}");
        assert!(!reaches(host, &one, OUTSIDE), "the filter that was there is there again");
        host.virsh(&["destroy", &one]);
        wait::until("the filter is off", || !host.virsh(&["nwfilter-binding-list"]).contains(&filter));
        host.virsh(&["nwfilter-undefine", &filter]);
        host.virsh(&["net-destroy", &nat]);
        assert!(!run("nft", &["list", "tables"]).contains("virt_nwfilter"));
    });
}
