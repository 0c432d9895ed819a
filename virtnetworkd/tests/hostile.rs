//! Hostile names and values never break out of the line, field or JSON string they belong to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;

use proptest::prelude::*;
use virt_model::network::Network;
use virt_model::network::bridge::Bridge;
use virt_model::network::dns::{DnsHost, DomainName, Forwarder, Srv, Txt};
use virt_model::network::ip::Ip;
use virtnetworkd::dnsmasq::{Files, conf};

/// Lines that a server of this network may have, whatever the values are.
const KEYS: [&str; 20] = [
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

fn network(value: &str) -> Network {
    let ip: Ip = Ip {
        family: None,
        address: "10.0.0.1".parse().unwrap(),
        netmask: None,
        prefix: Some(24),
        local_ptr: None,
        tftp_root: Some(value.to_string()),
        ranges: Vec::new(),
        hosts: Vec::new(),
        bootp: None,
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
            prop_assert!(!texts.conf.contains(['\0', '\r']));
        }
    }

    #[test]
    fn what_is_accepted_as_a_bridge_is_one_word(name in "\\PC{0,20}|[a-z/.$;\"\n ]{0,17}") {
        if virt_host::link::check_name(&name).is_ok() {
            prop_assert!(name.len() <= 15 && !name.contains(['/', ' ', '\n', '"', ';', '$']));
        }
    }
}
