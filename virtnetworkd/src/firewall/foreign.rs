//! Somebody else's firewall rules that drop what our rules let through: found, named, and the cure told.
//!
//! A packet must pass the chains of all tables, so a Docker, firewalld or ufw that drops by default cuts guests off whatever
//! we write. The kernel's rules are read and three packets followed through each foreign chain: one from a guest to the
//! outside, its answer, and a guest's question for an address. Pure but for [`check`] and [`warn`].

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde_json::Value;
use virt_error::Result;
use virt_host::{link, nft};
use virt_model::network::Network;
use virt_model::network::forward::ForwardMode;
use virt_model::network::ip::network_address;
use virt_object::blocking;

use super::TABLE;
use super::follow::{Fate, Packet, Rules};
use crate::driver::Driver;

/// Tables that guests' networks bring themselves: ours, of every daemon, and the reference's.
const OWN: [&str; 3] = [TABLE, "virt_nwfilter", "libvirt_network"];

/// A foreign chain that drops packets of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// nft's name of the address family.
    pub family: String,
    /// The table.
    pub table: String,
    /// The chain that decides.
    pub chain: String,
    /// Who made the table, as far as it shows.
    pub owner: &'static str,
    /// What does not get through.
    pub what: &'static str,
    /// Whether it is certain; if not, there is a rule that may let it through.
    pub certain: bool,
    /// What to do about it.
    pub cure: String,
}

/// What of a network must get through.
fn packets(net: &Network, bridge: &str, way_out: &str) -> Vec<(&'static str, &'static str, Packet)> {
    let address = net.ips.iter().find_map(|ip| match (ip.address, ip.prefix_length()) {
        (IpAddr::V4(_), Some(prefix)) => Some((network_address(ip.address, prefix), prefix)),
        _ => None,
    });
    let out = Packet { iif: bridge.into(), oif: way_out.into(), from: address, ..Packet::default() };
    let mut wanted = Vec::new();
    if matches!(net.mode(), ForwardMode::Nat | ForwardMode::Route | ForwardMode::Open) {
        let back = Packet {
            iif: way_out.into(),
            oif: bridge.into(),
            to: address,
            answer: true,
            ..Packet::default()
        };
        wanted.push(("forward", "packets from guests to the outside", out));
        wanted.push(("forward", "answers from the outside to guests", back));
    }
    if net.ips.iter().any(|ip| !ip.is_ipv6() && ip.has_dhcp()) {
        let ask = Packet {
            iif: bridge.into(),
            from: Some((Ipv4Addr::UNSPECIFIED.into(), 32)),
            udp_port: Some(67),
            ..Packet::default()
        };
        wanted.push(("input", "DHCP requests of guests to the host", ask));
    }
    wanted
}

/// What in a listing of all rules drops packets of a network.
pub fn find(listing: &Value, net: &Network, way_out: &str) -> Vec<Finding> {
    find_in(&Rules::read(listing, &OWN), net, way_out)
}

fn find_in(rules: &Rules, net: &Network, way_out: &str) -> Vec<Finding> {
    let Some(bridge) = net.bridge.name.as_deref().filter(|_| net.owns_bridge()) else { return Vec::new() };
    let mut found = Vec::new();
    for (hook, what, packet) in packets(net, bridge, way_out) {
        for base in rules.hooked(hook) {
            let Fate { dropped, certain } = rules.follow(base, &packet);
            if dropped {
                let owner = owner(rules, &base.family, &base.table);
                let (family, table, chain) = (base.family.clone(), base.table.clone(), base.name.clone());
                let cure = cure(owner, hook, bridge, &[&family, &table, &chain]);
                found.push(Finding { family, table, chain, owner, what, certain, cure });
            }
        }
    }
    found
}

fn owner(rules: &Rules, family: &str, table: &str) -> &'static str {
    let has = |start: &str| rules.chains_of(family, table).any(|name| name.starts_with(start));
    match table {
        "firewalld" => "firewalld",
        _ if has("ufw-") => "ufw",
        _ if has("DOCKER") => "Docker",
        _ => "another firewall",
    }
}

fn cure(owner: &str, hook: &str, bridge: &str, place: &[&str; 3]) -> String {
    match (owner, hook) {
        ("Docker", "forward") => format!(
            "iptables -I DOCKER-USER -i {bridge} -j ACCEPT; iptables -I DOCKER-USER -o {bridge} -j ACCEPT"
        ),
        ("ufw", "forward") => format!("ufw route allow in on {bridge}; ufw route allow out on {bridge}"),
        ("ufw", _) => format!("ufw allow in on {bridge} to any port 67,53 proto udp"),
        ("firewalld", _) => {
            format!("firewall-cmd --permanent --zone=trusted --add-interface={bridge}; firewall-cmd --reload")
        }
        (_, "forward") => {
            let at = place.join(" ");
            format!(
                "nft insert rule {at} iifname {bridge} accept; nft insert rule {at} oifname {bridge} accept"
            )
        }
        _ => format!("nft insert rule {} iifname {bridge} accept", place.join(" ")),
    }
}

/// Looks for foreign rules that drop packets of a running network.
///
/// # Errors
/// What nft says instead of its rules.
pub async fn check(net: &Network) -> Result<Vec<Finding>> {
    Ok(find(&nft::list().await?, net, &way_out(net)))
}

/// The interface packets leave the host by, as far as can be told.
fn way_out(net: &Network) -> String {
    let named = net.forward.as_ref().and_then(|f| f.dev.clone());
    named.or_else(link::default_route).unwrap_or_else(|| "outside".into())
}

/// Looks at all running networks and logs what is certainly dropped, each finding once as long as it stays.
pub async fn warn(driver: &Arc<Driver>) {
    let networks = driver.networks.list();
    let live: Vec<Arc<Network>> = networks.iter().filter_map(|n| n.published().value.live.clone()).collect();
    if live.is_empty() {
        return;
    }
    let listing = match nft::list().await {
        Ok(listing) => listing,
        Err(error) => return tracing::debug!(%error, "cannot look for foreign rules"),
    };
    let look = move || {
        let rules = Rules::read(&listing, &OWN);
        let mut now = Vec::new();
        for net in live {
            let found = find_in(&rules, &net, &way_out(&net));
            now.extend(found.into_iter().filter(|f| f.certain).map(|f| (net.name().to_string(), f)));
        }
        Ok(now)
    };
    let Ok(now) = blocking::run(look).await else { return };
    let mut known = driver.foreign.lock();
    for (network, f) in now.iter().filter(|f| !known.contains(f)) {
        tracing::warn!(
            network, table = %format!("{} {}", f.family, f.table), chain = %f.chain, cure = %f.cure,
            "{} drops {}", f.owner, f.what
        );
    }
    *known = now;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use virt_model::Mode;

    fn network() -> Network {
        let text = "<network><name>n</name><forward mode='nat'/><bridge name='vb0'/><ip address='10.0.0.1' prefix='24'>\
                    <dhcp><range start='10.0.0.2' end='10.0.0.9'/></dhcp></ip></network>";
        Network::parse(text, Mode::CONFIG).unwrap()
    }

    fn base(table: &str, name: &str, hook: &str, policy: &str) -> Value {
        json!({"chain": {"family": "ip", "table": table, "name": name, "type": "filter", "hook": hook, "prio": 0, "policy": policy}})
    }

    fn chain(table: &str, name: &str) -> Value {
        json!({"chain": {"family": "ip", "table": table, "name": name}})
    }

    fn rule(table: &str, chain: &str, expr: Value) -> Value {
        json!({"rule": {"family": "ip", "table": table, "chain": chain, "expr": expr}})
    }

    fn by(key: &str, name: &str) -> Value {
        json!({"match": {"op": "==", "left": {"meta": {"key": key}}, "right": name}})
    }

    fn listing(parts: &[Value]) -> Value {
        json!({"nftables": parts})
    }

    #[test]
    fn docker_is_named_and_its_cure_works() {
        let mut parts = vec![
            base("filter", "FORWARD", "forward", "drop"),
            chain("filter", "DOCKER-USER"),
            rule("filter", "FORWARD", json!([{"counter": null}, {"jump": {"target": "DOCKER-USER"}}])),
            rule(
                "filter",
                "FORWARD",
                json!([by("oifname", "docker0"), {"xt": {"type": "match", "name": "conntrack"}}, {"accept": null}]),
            ),
        ];
        let found = find(&listing(&parts), &network(), "eth0");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|f| f.certain && f.owner == "Docker" && f.chain == "FORWARD"), "{found:?}");
        assert!(found[0].cure.starts_with("iptables -I DOCKER-USER -i vb0 -j ACCEPT"));
        parts.push(rule("filter", "DOCKER-USER", json!([by("iifname", "vb0"), {"accept": null}])));
        let left = find(&listing(&parts), &network(), "eth0");
        assert_eq!(left.iter().map(|f| f.what).collect::<Vec<_>>(), ["answers from the outside to guests"]);
        parts.push(rule("filter", "DOCKER-USER", json!([by("oifname", "vb*"), {"accept": null}])));
        assert_eq!(find(&listing(&parts), &network(), "eth0"), []);
    }

    #[test]
    fn what_may_let_through_is_no_certain_finding() {
        let accept = json!([{"xt": {"type": "match", "name": "set"}}, {"accept": null}]);
        let parts = [base("fw", "f", "forward", "drop"), rule("fw", "f", accept)];
        let found = find(&listing(&parts), &network(), "eth0");
        assert!(!found.is_empty() && found.iter().all(|f| !f.certain), "{found:?}");
    }

    #[test]
    fn dhcp_is_followed_through_input() {
        let port = json!({"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 67}});
        let closed = base("fw", "in", "input", "drop");
        let found = find(&listing(std::slice::from_ref(&closed)), &network(), "eth0");
        assert_eq!(found.iter().map(|f| f.what).collect::<Vec<_>>(), ["DHCP requests of guests to the host"]);
        let open = rule("fw", "in", json!([port, {"accept": null}]));
        assert_eq!(find(&listing(&[closed, open]), &network(), "eth0"), []);
    }

    #[test]
    fn own_tables_and_nonsense_are_left_alone() {
        let ours = base("virt_network_0123abcd", "forward", "forward", "drop");
        assert_eq!(find(&listing(&[ours]), &network(), "eth0"), []);
        let endless = [
            base("t", "f", "forward", "accept"),
            chain("t", "a"),
            rule("t", "f", json!([{"jump": {"target": "a"}}])),
            rule("t", "a", json!([{"jump": {"target": "a"}}, 7, {"match": 3}])),
            json!(5),
            json!({"rule": {}}),
        ];
        assert_eq!(find(&listing(&endless), &network(), "eth0"), []);
        assert_eq!(find(&json!(null), &network(), "eth0"), []);
    }
}
