//! Networks for real: bridges, dnsmasq and rules, in a network namespace of the test's own. Needs root; without it the
//! tests say that they were skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::process::Command;

use common::{alone, driver, nothing_left, rules};
use virt_host::link;
use virtnetworkd::{definitions, dnsmasq, keeper, lifecycle};

fn nat(name: &str, third: u8) -> String {
    format!(
        "<network><name>{name}</name><forward mode='nat'/><bridge name='vt{third}'/>\
         <ip address='10.211.{third}.1' prefix='24'><dhcp><range start='10.211.{third}.2' end='10.211.{third}.9'/></dhcp></ip>\
         </network>"
    )
}

/// Rules of one network come and go without a touch to another's; what is removed behind our back comes back.
#[test]
fn rules_change_network_by_network() {
    alone(|root| async move {
        let driver = driver(root.path());
        let mut networks = Vec::new();
        for n in 1..=4 {
            networks.push(lifecycle::create(&driver, nat(&format!("n{n}"), n)).await.unwrap());
        }
        let table = driver.firewall.table().to_string();
        let counted = || {
            let out =
                Command::new("nft").args(["-a", "list", "chain", "ip", &table, "in-vt2"]).output().unwrap();
            String::from_utf8(out.stdout).unwrap()
        };
        let before = counted();
        assert!(before.contains("vt2") && before.contains("handle"), "{before}");
        lifecycle::destroy(&networks[0]).await.unwrap();
        lifecycle::start(&networks[2]).await.unwrap_err();
        assert_eq!(counted(), before, "another network's rules are the same, handles too");
        assert!(!rules().contains("vt1") && rules().contains("jump nat-vt3"));
        // Somebody takes one chain's rules, an element, a network's jump, the whole.
        keeper::look(&driver).await.unwrap();
        // Chains are in the order they were made, and count packets.
        let shape = || {
            let words = |l: &str| l.split(" counter ").next().unwrap_or_default().to_string();
            let mut lines: Vec<String> = rules().lines().map(words).collect();
            lines.sort();
            lines
        };
        let whole = shape();
        for damage in [
            vec!["flush", "chain", "ip", &table, "in-vt2"],
            vec!["delete", "element", "ip", &table, "guests_out", "{ vt3 }"],
            vec!["flush", "chain", "ip", &table, "nat"],
            vec!["flush", "chain", "ip", &table, "forward"],
            vec!["delete", "table", "ip", &table],
        ] {
            assert!(Command::new("nft").args(&damage).status().unwrap().success(), "{damage:?}");
            assert_ne!(shape(), whole, "{damage:?}");
            keeper::look(&driver).await.unwrap();
            assert_eq!(shape(), whole, "{damage:?}");
        }
        // A change that finds its ground gone makes all of it again.
        assert!(Command::new("nft").args(["delete", "table", "ip", &table]).status().unwrap().success());
        lifecycle::destroy(&networks[3]).await.unwrap();
        assert!(rules().contains("vt2") && !rules().contains("vt4"));
        for network in &networks[1..3] {
            lifecycle::destroy(network).await.unwrap();
        }
        nothing_left(&driver);
    });
}

#[test]
fn a_network_comes_and_goes_without_a_trace() {
    alone(|root| async move {
        let driver = driver(root.path());
        let network = definitions::define(&driver, nat("one", 1)).await.unwrap();
        lifecycle::start(&network).await.unwrap();
        assert!(link::exists("vt1") && rules().contains("10.211.1.0/24"));
        let files = driver.files("one");
        let pid = dnsmasq::process::running(&files).expect("a server");
        let again = lifecycle::start(&network).await.unwrap_err();
        assert_eq!(again.message(), "Requested operation is not valid: network is already active");
        // The daemon is killed and comes back: everything is as it was.
        let second = common::driver(root.path());
        definitions::load(&second).unwrap();
        assert_eq!(lifecycle::adopt(&second).await.unwrap(), 1);
        assert_eq!(dnsmasq::process::running(&files), Some(pid));
        let network = second.networks.by_name("one").unwrap();
        assert!(network.published().value.is_active());
        // The server is killed while the daemon is away: it is started again.
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        while dnsmasq::process::running(&files).is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let third = common::driver(root.path());
        definitions::load(&third).unwrap();
        assert_eq!(lifecycle::adopt(&third).await.unwrap(), 1);
        assert!(dnsmasq::process::running(&files).is_some_and(|new| new != pid));
        lifecycle::destroy(&third.networks.by_name("one").unwrap()).await.unwrap();
        nothing_left(&third);
    });
}

#[test]
fn what_a_running_network_lost_is_made_again() {
    alone(|root| async move {
        let driver = driver(root.path());
        std::fs::write(&driver.folders.hook, "#!/bin/sh\necho \"$@\" >>$0.log\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&driver.folders.hook, mode).unwrap();
        let network = lifecycle::create(&driver, nat("one", 1)).await.unwrap();
        let files = driver.files("one");
        let pid = dnsmasq::process::running(&files).expect("a server");
        keeper::look(&driver).await.unwrap();
        assert_eq!(dnsmasq::process::running(&files), Some(pid), "nothing is done where nothing is lost");
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        while dnsmasq::process::running(&files).is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        assert!(Command::new("nft").args(["flush", "ruleset"]).status().unwrap().success());
        keeper::look(&driver).await.unwrap();
        assert!(dnsmasq::process::running(&files).is_some_and(|new| new != pid));
        assert!(rules().contains("10.211.1.0/24"));
        lifecycle::destroy(&network).await.unwrap();
        keeper::look(&driver).await.unwrap();
        nothing_left(&driver);
        let told = std::fs::read_to_string(driver.folders.hook.with_extension("log")).unwrap();
        assert_eq!(told, "one start begin -\none started begin -\none stopped end -\n");
    });
}

#[test]
fn a_network_is_limited() {
    alone(|root| async move {
        let driver = driver(root.path());
        let limited = "<bandwidth><inbound average='100' peak='200' burst='300'/></bandwidth></network>";
        let xml = nat("one", 1).replace("</network>", limited);
        let network = match lifecycle::create(&driver, xml).await {
            Ok(network) => network,
            Err(error) => {
                println!("skipped: this kernel has no traffic control: {error}");
                return;
            }
        };
        let shown = Command::new("tc").args(["class", "show", "dev", "vt1"]).output().unwrap().stdout;
        let shown = String::from_utf8_lossy(&shown).into_owned();
        assert!(shown.contains("htb 1:1") && shown.contains("rate 800Kbit ceil 1600Kbit"), "{shown}");
        lifecycle::destroy(&network).await.unwrap();
        nothing_left(&driver);
    });
}

#[test]
fn a_failed_start_leaves_nothing() {
    alone(|root| async move {
        let driver = driver(root.path());
        // dnsmasq refuses the option when all else is done.
        let options = "<options xmlns='http://libvirt.org/schemas/network/dnsmasq/1.0'><option value='no-such-option'/></options>";
        let xml = nat("bad", 1).replace("</network>", &format!("{options}</network>"));
        let xml =
            xml.replace("<options", "<d:options xmlns:d='http://libvirt.org/schemas/network/dnsmasq/1.0'");
        let xml = xml.replace("</options", "</d:options").replace("<option ", "<d:option ");
        let network = definitions::define(&driver, xml).await.unwrap();
        let error = lifecycle::start(&network).await.unwrap_err();
        assert!(error.message().contains("bad option"), "{error:?}");
        nothing_left(&driver);
    });
}

#[test]
fn networks_that_clash_are_refused() {
    alone(|root| async move {
        let driver = driver(root.path());
        let first = lifecycle::create(&driver, nat("one", 1)).await.unwrap();
        let taken = definitions::define(&driver, nat("two", 1)).await.map(drop).unwrap_err();
        assert_eq!(taken.message(), "internal error: bridge name 'vt1' already in use.");
        // Without a UUID it is another network, not the same one changed.
        let again = definitions::define(&driver, nat("one", 1)).await.map(drop).unwrap_err().message();
        let uuid = first.uuid();
        assert_eq!(again, format!("operation failed: network 'one' already exists with uuid {uuid}"));
        let other = nat("two", 1).replace("name='vt1'", "name='vt2'");
        let clash = lifecycle::create(&driver, other).await.map(drop).unwrap_err();
        assert_eq!(clash.message(), "internal error: Network is already in use by interface vt1");
        assert!(driver.networks.by_name("two").is_none() && !link::exists("vt2"));
        lifecycle::destroy(&first).await.unwrap();
        nothing_left(&driver);
    });
}

/// Two of the same addresses that start at the same time: one comes up.
#[test]
fn only_one_of_two_at_once_gets_the_addresses() {
    alone(|root| async move {
        let driver = driver(root.path());
        for round in 0..5 {
            let other = nat("two", 1).replace("name='vt1'", "name='vt2'");
            let (one, two) =
                tokio::join!(lifecycle::create(&driver, nat("one", 1)), lifecycle::create(&driver, other));
            assert_ne!(one.is_ok(), two.is_ok(), "round {round}");
            lifecycle::destroy(&one.or(two).unwrap()).await.unwrap();
        }
        nothing_left(&driver);
    });
}

/// What a name says to a shell, to XML or to the server's files: the server is found again, and ended.
#[test]
fn an_odd_name_leaves_no_server() {
    alone(|root| async move {
        let driver = driver(root.path());
        for name in ["q&apos;&quot;q", "a b;c", "&lt;&amp;&gt;", "$(x)", "%d,é"] {
            let network = lifecycle::create(&driver, nat(name, 1)).await.unwrap();
            let files = driver.files(&network.published().value.name);
            assert!(dnsmasq::process::running(&files).is_some(), "{name}");
            lifecycle::destroy(&network).await.unwrap();
            nothing_left(&driver);
        }
    });
}

/// The network that packages install: it gets its UUID once, starts with the host, and gives way to what the host routes already.
#[test]
fn the_default_network_starts_with_the_host() {
    alone(|root| async move {
        let first = driver(root.path());
        let file = first.folders.config.join("default.xml");
        std::fs::write(&file, include_str!("../networks/default.xml")).unwrap();
        std::fs::create_dir_all(first.folders.config.join("autostart")).unwrap();
        std::os::unix::fs::symlink("../default.xml", first.folders.config.join("autostart/default.xml"))
            .unwrap();
        assert_eq!(definitions::load(&first).unwrap(), 1);
        let uuid = *first.networks.by_name("default").unwrap().uuid();
        common::run("ip", &["link", "add", "lan0", "type", "veth", "peer", "name", "lan1"]);
        common::run("ip", &["address", "add", "192.168.122.7/24", "dev", "lan0"]);
        common::run("ip", &["link", "set", "lan0", "up"]);
        common::run("ip", &["link", "set", "lan1", "up"]);
        lifecycle::autostart(&first).await;
        let network = first.networks.by_name("default").unwrap();
        assert!(!network.published().value.is_active(), "the host has this net on another interface");
        common::run("ip", &["link", "del", "lan0"]);
        lifecycle::autostart(&first).await;
        assert!(network.published().value.is_active() && link::exists("virbr0"));
        let second = driver(root.path());
        definitions::load(&second).unwrap();
        assert_eq!(second.networks.by_name("default").unwrap().uuid(), &uuid);
        lifecycle::destroy(&network).await.unwrap();
        nothing_left(&first);
    });
}
