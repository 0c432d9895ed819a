//! The rules of all networks as one nftables table, replaced as a whole: a packet meets either all old or all new rules.
//!
//! Names only ever stand in JSON strings, and only interfaces' names that were checked get here.

use serde_json::{Value, json};
use virt_error::Result;

use super::{Chain, Family, Net, Rule, Verdict};

/// The table; nobody else's rules are in it.
pub const TABLE: &str = "virt_network";

impl Chain {
    fn name(self) -> &'static str {
        match self {
            Self::Cross => "guest_cross",
            Self::Input => "guest_input",
            Self::Output => "guest_output",
            Self::Nat => "guest_nat",
        }
    }
}

impl Family {
    fn table(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }
}

/// The commands that replace both tables by these rules; without rules the tables are removed.
pub fn document(rules: &[Rule]) -> Value {
    let mut commands = Vec::new();
    for family in [Family::V4, Family::V6] {
        let table = json!({"family": family.table(), "name": TABLE});
        // Adding first makes the removal succeed whether there was one or not.
        commands.push(json!({"add": {"table": table}}));
        commands.push(json!({"delete": {"table": table}}));
        let of_family: Vec<&Rule> = rules.iter().filter(|r| r.family == family).collect();
        if of_family.is_empty() {
            continue;
        }
        commands.push(json!({"add": {"table": table}}));
        let chain = |name: &str| json!({"family": family.table(), "table": TABLE, "name": name});
        let base = |name: &str, kind: &str, hook: &str, prio: i32| json!({"family": family.table(), "table": TABLE, "name": name, "type": kind, "hook": hook, "prio": prio, "policy": "accept"});
        for inner in [Chain::Cross, Chain::Input, Chain::Output, Chain::Nat] {
            commands.push(json!({"add": {"chain": chain(inner.name())}}));
        }
        commands.push(json!({"add": {"chain": base("forward", "filter", "forward", 0)}}));
        commands.push(json!({"add": {"chain": base("postrouting", "nat", "postrouting", 100)}}));
        for (from, to) in [
            ("forward", Chain::Cross),
            ("forward", Chain::Input),
            ("forward", Chain::Output),
            ("postrouting", Chain::Nat),
        ] {
            let jump = json!([{"jump": {"target": to.name()}}]);
            commands.push(json!({"add": {"rule": {"family": family.table(), "table": TABLE, "chain": from, "expr": jump}}}));
        }
        for rule in of_family {
            commands.push(json!({"add": {"rule": {
                "family": family.table(), "table": TABLE, "chain": rule.chain.name(), "expr": expressions(rule)
            }}}));
        }
    }
    json!({"nftables": commands})
}

fn is(op: &str, left: Value, right: Value) -> Value {
    json!({"match": {"op": op, "left": left, "right": right}})
}

fn net(family: Family, field: &str, op: &str, (address, prefix): Net) -> Value {
    let left = json!({"payload": {"protocol": family.table(), "field": field}});
    let full = if address.is_ipv4() { 32 } else { 128 };
    let right = if prefix == full {
        json!(address.to_string())
    } else {
        json!({"prefix": {"addr": address.to_string(), "len": prefix}})
    };
    is(op, left, right)
}

fn expressions(rule: &Rule) -> Vec<Value> {
    let mut out = Vec::new();
    if let Some(protocol) = rule.protocol {
        out.push(is("==", json!({"meta": {"key": "l4proto"}}), json!(protocol)));
    }
    if let Some(from) = rule.from {
        out.push(net(rule.family, "saddr", "==", from));
    }
    for (key, name) in [("iifname", &rule.iif), ("oifname", &rule.oif)] {
        if let Some(name) = name {
            out.push(is("==", json!({"meta": {"key": key}}), json!(name)));
        }
    }
    if let Some(to) = rule.to {
        out.push(net(rule.family, "daddr", "==", to));
    }
    if let Some(to) = rule.not_to {
        out.push(net(rule.family, "daddr", "!=", to));
    }
    if rule.established {
        out.push(is("in", json!({"ct": {"key": "state"}}), json!(["related", "established"])));
    }
    out.push(json!({"counter": {"packets": 0, "bytes": 0}}));
    let port = |p: (u16, u16)| json!({"range": [p.0, p.1]});
    out.push(match &rule.verdict {
        Verdict::Accept => json!({"accept": null}),
        Verdict::Reject => json!({"reject": null}),
        Verdict::Return => json!({"return": null}),
        Verdict::Masquerade(None) => json!({"masquerade": null}),
        Verdict::Masquerade(Some(ports)) => json!({"masquerade": {"port": port(*ports)}}),
        Verdict::Snat(range, ports) => {
            let addr = if range.0 == range.1 {
                json!(range.0.to_string())
            } else {
                json!({"range": [range.0.to_string(), range.1.to_string()]})
            };
            match ports {
                Some(ports) => json!({"snat": {"addr": addr, "port": port(*ports)}}),
                None => json!({"snat": {"addr": addr}}),
            }
        }
    });
    out
}

/// Replaces all rules in one step.
///
/// # Errors
/// Code 1 with nft's words, code 38 when it cannot be run.
pub async fn apply(rules: &[Rule]) -> Result<()> {
    virt_host::nft::apply(&document(rules)).await
}
