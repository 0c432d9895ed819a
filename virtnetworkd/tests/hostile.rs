//! Hostile names and values never break out of the line, field or JSON string they belong to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;

use proptest::prelude::*;
use virt_model::Mac;
use virt_model::network::Network;
use virt_model::network::bridge::Bridge;
use virt_model::network::dhcp::{Bootp, DhcpHost};
use virt_model::network::dns::{DnsHost, DomainName, Forwarder, Srv, Txt};
use virt_model::network::ip::Ip;
use virtnetworkd::dnsmasq::leases::{self, Lease};
use virtnetworkd::dnsmasq::{Files, conf};
use virtnetworkd::firewall;

/// Lines that a server of this network may have, whatever the values are.
const KEYS: [&str; 22] = [
    "dhcp-boot",
    "dhcp-option",
    "strict-order",
    "pid-file",
    "except-interface",
    "bind-dynamic",
    "interface",
    "txt-record",
    "srv-host",
    "dhcp-range",
    "dhcp-no-override",
    "dhcp-authoritative",
    "dhcp-lease-max",
    "dhcp-hostsfile",
    "addn-hosts",
    "local",
    "domain",
    "expand-hosts",
    "server",
    "no-resolv",
    "enable-tftp",
    "tftp-root",
];

/// An address kept for a card that calls itself anything.
fn kept(value: &str) -> DhcpHost {
    DhcpHost {
        mac: Some(Mac([0x52, 0x54, 0, 0, 0, 1]).into()),
        name: Some(value.into()),
        ip: Some("10.0.0.7".parse().unwrap()),
        ..DhcpHost::default()
    }
}

fn network(value: &str) -> Network {
    let ip: Ip = Ip {
        family: None,
        address: "10.0.0.1".parse().unwrap(),
        netmask: None,
        prefix: Some(24),
        local_ptr: None,
        tftp_root: Some(value.to_string()),
        ranges: Vec::new(),
        hosts: vec![kept(value)],
        bootp: Some(Bootp { file: value.into(), server: Some("10.0.0.8".parse().unwrap()) }),
    };
    let mut net = Network {
        name: Some("n".into()),
        bridge: Bridge { name: Some("vt0".into()), ..Bridge::default() },
        domain: Some(DomainName { name: Some(value.into()), local_only: Some(true), register: None }),
        ips: vec![ip],
        ..Network::default()
    };
    let text = || Some(value.to_string());
    net.forward = Some(Default::default());
    net.dns.forwarders.push(Forwarder { domain: text(), addr: None });
    net.dns.txts.push(Txt { name: value.into(), value: text() });
    net.dns.srvs.push(Srv {
        service: text(),
        protocol: text(),
        domain: text(),
        target: text(),
        ..Srv::default()
    });
    net.dns.hosts.push(DnsHost { ip: Some("10.0.0.9".parse().unwrap()), hostnames: vec![value.into()] });
    net
}

proptest! {
    #[test]
    fn values_stay_in_their_line(value in "[a-z\\PC\n\r\t\0;|&$`\"'#,/=\\\\]{1,24}") {
        let files = Files::new(Path::new("/d"), Path::new("/r"), "n");
        if let Ok(texts) = conf::texts(&network(&value), &files, true) {
            for line in texts.conf.lines().filter(|l| !l.starts_with("##")) {
                let key = line.split('=').next().unwrap();
                prop_assert!(KEYS.contains(&key), "{line:?}");
            }
            prop_assert_eq!(texts.addn_hosts.lines().count(), 1);
            prop_assert_eq!(texts.hosts.lines().count(), 1);
            prop_assert_eq!(texts.hosts.split(',').count(), 3, "{:?}", texts.hosts);
            prop_assert!(!texts.hosts.contains('#'), "{:?}", texts.hosts);
            prop_assert!(!texts.conf.contains(['\0', '\r']));
        }
    }

    #[test]
    fn each_field_alone_stays_in_its_line(value in "[a-z\n\r\t\0;|&$`\"'#,/=\\\\ *@]{1,16}", which in 0..11_usize) {
        let files = Files::new(Path::new("/d"), Path::new("/r"), "n");
        let usual = conf::texts(&network("x"), &files, true).unwrap();
        let mut net = network("x");
        match which {
            0 => net.dnsmasq.options = vec![value.clone()],
            1 => net.ips[0].bootp.as_mut().unwrap().file = value.clone(),
            2 => net.ips[0].hosts[0].name = Some(value.clone()),
            3 => net.ips[0].tftp_root = Some(value.clone()),
            4 => net.domain.as_mut().unwrap().name = Some(value.clone()),
            5 => net.dns.forwarders[0].domain = Some(value.clone()),
            6 => net.dns.txts[0].name = value.clone(),
            7 => net.dns.txts[0].value = Some(value.clone()),
            8 => net.dns.srvs[0].service = Some(value.clone()),
            9 => net.dns.srvs[0].target = Some(value.clone()),
            _ => net.dns.hosts[0].hostnames = vec![value.clone()],
        }
        if let Ok(texts) = conf::texts(&net, &files, true) {
            let more = usize::from(which == 0);
            // Of a service "." says that there is none: that is said without a target, on the same line.
            prop_assert_eq!(texts.conf.lines().count(), usual.conf.lines().count() + more, "{:?}", value);
            prop_assert_eq!(texts.hosts.lines().count(), 1);
            prop_assert_eq!(texts.addn_hosts.lines().count(), 1);
            prop_assert!(!texts.conf.contains(['\0', '\r']) && !texts.hosts.contains('\0'));
        }
    }

    #[test]
    fn what_guests_say_of_themselves_stays_in_its_lease(
        name in "[a-z \n\r\t\0*]{0,12}", id in "[0-9a-f: \n]{0,12}", ip in "10.0.0.[1-9]|[0-9: \n.]{0,9}",
    ) {
        let lease = Lease {
            client_id: Some(id),
            hostname: Some(name),
            ip_address: ip,
            mac_address: Some("52:54:00:00:00:01".into()),
            expiry_time: 7,
            ..Lease::default()
        };
        for line in leases::database(&[lease.clone(), lease]).lines() {
            prop_assert_eq!(line.split(' ').count(), 5, "{:?}", line);
        }
    }

    /// Names that reach rules: nft would take some of them for patterns, sets or more than one word.
    #[test]
    fn what_is_accepted_in_rules_is_the_name_itself(name in "[a-z*@?#{} ;\"$.-]{1,8}") {
        let text = "<network><name>n</name><forward mode='nat'/><bridge name='b0'/><ip address='10.0.0.1' prefix='24'/></network>";
        let mut net = Network::parse(text, virt_model::Mode::CONFIG).unwrap();
        net.bridge.name = Some(name.clone());
        if virt_host::link::check_name(&name).is_ok() {
            let placed = firewall::Placed { bridge: name.clone(), rules: firewall::rules(&net, &[]) };
            let document = firewall::whole("t", &[&placed]).to_string();
            let quoted = format!("\"{name}\"");
            let odd = name.starts_with('@') || name.contains(['*', '?', '#', ' ', '"', ';', '{']);
            prop_assert!(document.contains(&quoted), "{}", name);
            prop_assert!(!odd, "{}", name);
        }
    }

    #[test]
    fn what_is_accepted_as_a_bridge_is_one_word(name in "\\PC{0,20}|[a-z/.$;\"\n ]{0,17}") {
        if virt_host::link::check_name(&name).is_ok() {
            prop_assert!(name.len() <= 15 && !name.contains(['/', ' ', '\n', '"', ';', '$']));
        }
    }
}
