//! The rules of networks as one nftables table an IP version.
//!
//! ```text
//!   forward (hook)     --> by the interface a packet goes to: map guests_in  --> in-BRIDGE
//!                      --> by the interface it comes from:    map guests_out --> out-BRIDGE
//!   postrouting (hook) --> nat      --> by its sender's address              --> nat-BRIDGE
//!   prerouting, output (hooks), for the host --> forwards                    --> fwd-BRIDGE
//! ```
//!
//! A change is one transaction: a packet meets either all old or all new rules. It touches the chains of its network only;
//! `nat` and `forwards` hold one jump a network and are written anew, for a rule cannot be named without its handle.
//!
//! Names only ever stand in JSON strings, and only interfaces' names that were checked get here.

use serde_json::{Value, json};

use super::{Chain, Family, Net, Rule, Verdict};

/// The table of the host's own daemon; nobody else's rules are in it.
pub const TABLE: &str = "virt_network";
const INTO: &str = "guests_in";
const OUT_OF: &str = "guests_out";

/// The rules of one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its bridge.
    pub bridge: String,
    /// Its rules.
    pub rules: Vec<Rule>,
}

impl Placed {
    fn in_chain(&self, family: Family, chain: Chain) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |r| r.family == family && r.chain == chain)
    }

    fn has(&self, family: Family, chain: Chain) -> bool {
        self.in_chain(family, chain).next().is_some()
    }

    /// Whether there is anything for this IP version.
    pub fn speaks(&self, family: Family) -> bool {
        self.rules.iter().any(|r| r.family == family)
    }

    /// The nets that rules of a chain are about.
    fn senders(&self, family: Family, chain: Chain) -> Vec<Net> {
        let mut from: Vec<Net> = self.in_chain(family, chain).filter_map(|r| r.from).collect();
        from.sort();
        from.dedup();
        from
    }

    /// How many rules of `nat` and of `forwards` are about this network.
    pub fn jumps(&self, family: Family) -> [usize; 2] {
        [self.senders(family, Chain::Nat).len(), usize::from(self.has(family, Chain::Forwards))]
    }

    /// Chains and how many rules each holds.
    pub fn counts(&self, family: Family) -> Vec<(String, usize)> {
        let all = Own::ALL.into_iter().filter(|own| own.wanted(self, family));
        all.map(|own| (own.chain(&self.bridge), own.rules(self, family).count())).collect()
    }
}

/// The chains a network has for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    In,
    Out,
    Nat,
    Forwards,
}

impl Own {
    const ALL: [Self; 4] = [Self::In, Self::Out, Self::Nat, Self::Forwards];

    fn chain(self, bridge: &str) -> String {
        let start = match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Nat => "nat",
            Self::Forwards => "fwd",
        };
        // What nft's own language has no letter for in a name is written as its number.
        let letter = |b: u8| match b {
            b if b.is_ascii_alphanumeric() || b == b'-' || b == b'.' => char::from(b).to_string(),
            other => format!("_{other:02x}"),
        };
        format!("{start}-{}", bridge.bytes().map(letter).collect::<String>())
    }

    fn kinds(self) -> &'static [Chain] {
        match self {
            // Guests of one network may always talk: that comes first.
            Self::In => &[Chain::Cross, Chain::Input],
            Self::Out => &[Chain::Output],
            Self::Nat => &[Chain::Nat],
            Self::Forwards => &[Chain::Forwards],
        }
    }

    fn rules(self, of: &Placed, family: Family) -> impl Iterator<Item = &Rule> {
        self.kinds().iter().flat_map(move |kind| of.in_chain(family, *kind))
    }

    /// The chains that maps lead to are there for every network, the others where they hold something.
    fn wanted(self, of: &Placed, family: Family) -> bool {
        match self {
            Self::In | Self::Out => of.speaks(family),
            Self::Nat => of.has(family, Chain::Nat),
            Self::Forwards => of.has(family, Chain::Forwards),
        }
    }
}

impl Family {
    /// nft's name for it.
    pub fn table(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }
}

/// Commands under construction, for one IP version.
struct Commands<'t> {
    table: &'t str,
    family: Family,
    out: Vec<Value>,
}

impl Commands<'_> {
    fn whole(&mut self, verb: &str) {
        self.out.push(json!({verb: {"table": {"family": self.family.table(), "name": self.table}}}));
    }

    fn chain(&mut self, verb: &str, name: &str) {
        self.out.push(
            json!({verb: {"chain": {"family": self.family.table(), "table": self.table, "name": name}}}),
        );
    }

    fn hook(&mut self, name: &str, kind: &str, prio: i32) {
        self.out.push(json!({"add": {"chain": {"family": self.family.table(), "table": self.table, "name": name, "type": kind, "hook": name, "prio": prio, "policy": "accept"}}}));
        self.chain("flush", name);
    }

    fn map(&mut self, name: &str) {
        self.out.push(json!({"add": {"map": {"family": self.family.table(), "table": self.table, "name": name, "type": "ifname", "map": "verdict"}}}));
    }

    fn element(&mut self, verb: &str, map: &str, bridge: &str, chain: &str) {
        self.out.push(json!({verb: {"element": {"family": self.family.table(), "table": self.table, "name": map, "elem": [[bridge, {"jump": {"target": chain}}]]}}}));
    }

    fn rule(&mut self, chain: &str, expressions: Vec<Value>) {
        self.out.push(json!({"add": {"rule": {"family": self.family.table(), "table": self.table, "chain": chain, "expr": expressions}}}));
    }

    /// What all networks share.
    fn skeleton(&mut self) {
        self.whole("add");
        self.map(INTO);
        self.map(OUT_OF);
        self.hook("forward", "filter", 0);
        for (key, map) in [("oifname", INTO), ("iifname", OUT_OF)] {
            let look = json!({"vmap": {"key": {"meta": {"key": key}}, "data": format!("@{map}")}});
            self.rule("forward", vec![look]);
        }
        self.chain("add", "nat");
        self.hook("postrouting", "nat", 100);
        self.rule("postrouting", vec![jump("nat")]);
    }

    /// What all networks with forwards share.
    fn forwards(&mut self) {
        self.chain("add", "forwards");
        let local = is("==", json!({"fib": {"result": "type", "flags": ["daddr"]}}), json!("local"));
        self.hook("prerouting", "nat", -100);
        self.rule("prerouting", vec![local.clone(), jump("forwards")]);
        // What the host sends to itself by its loopback address never gets to a guest.
        self.hook("output", "nat", -100);
        let loopback = match self.family {
            Family::V4 => ([127, 0, 0, 0].into(), 8),
            Family::V6 => (std::net::Ipv6Addr::LOCALHOST.into(), 128),
        };
        self.rule("output", vec![net(self.family, "daddr", "!=", loopback), local, jump("forwards")]);
    }

    /// One jump to each network's chain, for packets its rules could be about.
    fn jumps(&mut self, chain: &str, own: Own, of: Chain, all: &[&Placed]) {
        self.chain("flush", chain);
        for placed in all {
            let target = own.chain(&placed.bridge);
            if own == Own::Forwards && placed.has(self.family, of) {
                self.rule(chain, vec![jump(&target)]);
            }
            for one in placed.senders(self.family, of) {
                self.rule(chain, vec![net(self.family, "saddr", "==", one), jump(&target)]);
            }
        }
    }

    /// A network's own chains, empty or with these rules.
    fn own(&mut self, placed: &Placed) {
        let family = self.family;
        for own in Own::ALL.into_iter().filter(|own| own.wanted(placed, family)) {
            let chain = own.chain(&placed.bridge);
            self.chain("add", &chain);
            self.chain("flush", &chain);
            for rule in own.rules(placed, self.family) {
                self.rule(&chain, expressions(rule));
            }
        }
        for (map, own) in [(INTO, Own::In), (OUT_OF, Own::Out)] {
            self.element("add", map, &placed.bridge, &own.chain(&placed.bridge));
        }
    }
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

fn document(commands: Vec<Value>) -> Value {
    json!({"nftables": commands})
}

/// The commands that replace both tables by these networks' rules; without rules the tables are removed.
pub fn whole(table: &str, all: &[&Placed]) -> Value {
    let mut out = Vec::new();
    for family in FAMILIES {
        let mut c = Commands { table, family, out: Vec::new() };
        // Adding first makes the removal succeed whether there was one or not.
        c.whole("add");
        c.whole("delete");
        let all: Vec<&Placed> = all.iter().copied().filter(|p| p.speaks(family)).collect();
        if !all.is_empty() {
            c.skeleton();
            for placed in &all {
                c.own(placed);
            }
            c.jumps("nat", Own::Nat, Chain::Nat, &all);
            if all.iter().any(|p| p.has(family, Chain::Forwards)) {
                c.forwards();
                c.jumps("forwards", Own::Forwards, Chain::Forwards, &all);
            }
        }
        out.extend(c.out);
    }
    document(out)
}

/// The commands that replace the rules of one network, `old`, by others, `new`, in tables that hold those of `others`
/// besides. A table that nothing is left in is removed.
pub fn change(table: &str, old: Option<&Placed>, new: Option<&Placed>, others: &[&Placed]) -> Value {
    let mut out = Vec::new();
    for family in FAMILIES {
        let mut c = Commands { table, family, out: Vec::new() };
        let (old, new) = (old.filter(|p| p.speaks(family)), new.filter(|p| p.speaks(family)));
        let others: Vec<&Placed> = others.iter().copied().filter(|p| p.speaks(family)).collect();
        let all: Vec<&Placed> = others.iter().copied().chain(new).collect();
        match (old, new) {
            (None, None) => continue,
            (Some(_), None) if others.is_empty() => {
                c.whole("add");
                c.whole("delete");
            }
            _ => {
                if others.is_empty() && old.is_none() {
                    c.skeleton();
                }
                if let Some(new) = new {
                    c.own(new);
                }
                let moved = |own: Own| {
                    let is = |p: Option<&Placed>| p.is_some_and(|p| own.wanted(p, family));
                    is(old) || is(new)
                };
                if moved(Own::Nat) {
                    c.jumps("nat", Own::Nat, Chain::Nat, &all);
                }
                if moved(Own::Forwards) {
                    c.forwards();
                    c.jumps("forwards", Own::Forwards, Chain::Forwards, &all);
                }
                if let Some(old) = old {
                    c.remove(old, new);
                }
            }
        }
        out.extend(c.out);
    }
    document(out)
}

impl Commands<'_> {
    /// Takes away what a network had and has no longer.
    fn remove(&mut self, old: &Placed, new: Option<&Placed>) {
        let same = new.filter(|n| n.bridge == old.bridge);
        if same.is_none() {
            for (map, own) in [(INTO, Own::In), (OUT_OF, Own::Out)] {
                self.element("delete", map, &old.bridge, &own.chain(&old.bridge));
            }
        }
        let family = self.family;
        for own in Own::ALL.into_iter().filter(|own| own.wanted(old, family)) {
            if same.is_none_or(|n| !own.wanted(n, self.family)) {
                let chain = own.chain(&old.bridge);
                self.chain("flush", &chain);
                self.chain("delete", &chain);
            }
        }
    }
}

/// What takes a network's rules out of force, in the words of nft's command line: each list is one command.
pub fn removal(table: &str, family: Family, bridge: &str) -> Vec<Vec<String>> {
    let flush =
        |own: Own| ["flush", "chain", family.table(), table, &own.chain(bridge)].map(String::from).to_vec();
    Own::ALL.into_iter().map(flush).collect()
}

fn jump(target: &str) -> Value {
    json!({"jump": {"target": target}})
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
    let port = |p: (u16, u16)| if p.0 == p.1 { json!(p.0) } else { json!({"range": [p.0, p.1]}) };
    let dport = json!({"payload": {"protocol": rule.protocol.unwrap_or("tcp"), "field": "dport"}});
    if let Some(ports) = rule.ports {
        out.push(is("==", dport.clone(), port(ports)));
    }
    if rule.established {
        out.push(is("in", json!({"ct": {"key": "state"}}), json!(["related", "established"])));
    }
    if rule.forwarded {
        out.push(is("in", json!({"ct": {"key": "status"}}), json!("dnat")));
    }
    out.push(json!({"counter": {"packets": 0, "bytes": 0}}));
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
        Verdict::Dnat(guest, to) => {
            let (first, last) = rule.ports.unwrap_or((*to, *to));
            let port = if first == *to {
                None
            } else if first == last {
                Some(json!(to))
            } else {
                // Each port to its own: a range would be a pool to choose from.
                let pairs: Vec<Value> =
                    (first..=last).zip(*to..).map(|(from, to)| json!([from, to])).collect();
                Some(json!({"map": {"key": dport, "data": {"set": pairs}}}))
            };
            match port {
                Some(port) => json!({"dnat": {"addr": guest.to_string(), "port": port}}),
                None => json!({"dnat": {"addr": guest.to_string()}}),
            }
        }
    });
    out
}
