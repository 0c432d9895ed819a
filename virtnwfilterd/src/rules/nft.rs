//! Compiled rules in nft's JSON form: one table of the bridge family for all cards, changed in one step.
//!
//! ```text
//!   frame from a guest --prerouting--> link_out (before connections are known) --> net_out (after)
//!   frame to a guest ---postrouting--> link_in ----------------------------------> net_in
//!                                         |
//!              map: name of the card's device --> the card's own chain --> its other chains
//! ```
//!
//! Words of documents reach nft in three places only, all JSON strings: the device's name (checked), the chain's name
//! (letters, digits and `_.:-`), and comments. All else are numbers and addresses that were read as such.

use serde_json::{Value, json};
use virt_error::{Code, Domain, Error, Result};
use virt_model::nwfilter::protocol::Layer;
use virt_model::nwfilter::rule::Action;

use super::compile::Compiled;
use super::matches::{Field, Match, Test, Way};

/// The table; nobody else's rules are in it.
pub const TABLE: &str = "virt_nwfilter";
/// The longest comment nft takes, without its closing zero.
const COMMENT: usize = 127;
/// Bits of a packet's mark that carry the state of its connection where bridges know none.
const MARKS: u32 = 0x7800_0000;
const ANSWER: u32 = 0x0800_0000;
const STATE_AT: u32 = 28;

/// What the kernel can do for rules about connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracking {
    /// Bridges know connections.
    Bridge,
    /// IP knows them for bridges, and tells by marks.
    Marks,
}

/// What the kernel can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// How connections are known.
    pub tracking: Tracking,
    /// Whether senders on a bridge can be told that they were refused.
    pub reject: bool,
}

/// A chain with its rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// Its name in the table.
    pub name: String,
    /// Its rules' expressions, with their comments.
    pub rules: Vec<(Vec<Value>, Option<String>)>,
}

/// All of one card.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    /// The card's device.
    pub port: String,
    /// Its chains.
    pub chains: Vec<Chain>,
    /// From which maps which chain is entered.
    pub entries: Vec<(&'static str, String)>,
}

/// The map that leads packets of this way to a card's first chain.
pub fn map(way: Way, layer: Layer) -> &'static str {
    match (way, layer == Layer::Link) {
        (Way::Out, true) => "link_out",
        (Way::Out, false) => "net_out",
        (Way::In, true) => "link_in",
        (Way::In, false) => "net_in",
    }
}

/// The maps with their hook, and whether the card is where the frame comes from.
const MAPS: [(&str, &str, i32, bool); 4] = [
    ("link_out", "prerouting", -300, true),
    ("net_out", "prerouting", 10, true),
    ("link_in", "postrouting", -300, false),
    ("net_in", "postrouting", 10, false),
];

fn chain(name: &str) -> Value {
    json!({"family": "bridge", "table": TABLE, "name": name})
}

fn rule(chain: &str, expr: &[Value]) -> Value {
    json!({"add": {"rule": {"family": "bridge", "table": TABLE, "chain": chain, "expr": expr}}})
}

/// The commands that put these cards, and no others, into force.
pub fn rebuild(cards: &[&Card], abilities: Abilities) -> Value {
    let table = json!({"family": "bridge", "name": TABLE});
    // Adding first makes the removal succeed whether there was one or not.
    let mut commands = vec![json!({"add": {"table": table}}), json!({"delete": {"table": table}})];
    let marks = abilities.tracking == Tracking::Marks && !cards.is_empty();
    mark_tables(marks, &mut commands);
    if !cards.is_empty() {
        commands.push(json!({"add": {"table": table}}));
        for (name, hook, priority, source) in MAPS {
            let key = if source { "iifname" } else { "oifname" };
            commands.push(json!({"add": {"chain": {"family": "bridge", "table": TABLE, "name": name,
                "type": "filter", "hook": hook, "prio": priority, "policy": "accept"}}}));
            commands.push(json!({"add": {"map": {"family": "bridge", "table": TABLE, "name": name,
                "type": "ifname", "map": "verdict"}}}));
            let jump = json!({"vmap": {"key": {"meta": {"key": key}}, "data": format!("@{name}")}});
            commands.push(rule(name, &[jump]));
        }
        if marks {
            forget_marks(&mut commands);
        }
        for card in cards {
            add(card, &mut commands);
        }
    }
    json!({ "nftables": commands })
}

/// The commands that replace one card's rules; `None` is no card.
pub fn replace(old: Option<&Card>, new: Option<&Card>) -> Value {
    let mut commands = Vec::new();
    if let Some(old) = old {
        commands.extend(old.entries.iter().map(|e| element("delete", old, e)));
        commands.extend(old.chains.iter().map(|c| json!({"flush": {"chain": chain(&c.name)}})));
        commands.extend(old.chains.iter().map(|c| json!({"delete": {"chain": chain(&c.name)}})));
    }
    if let Some(new) = new {
        add(new, &mut commands);
    }
    json!({ "nftables": commands })
}

fn element(verb: &str, card: &Card, (map, first): &(&str, String)) -> Value {
    let target = json!([card.port, {"jump": {"target": first}}]);
    json!({verb: {"element": {"family": "bridge", "table": TABLE, "name": map, "elem": [target]}}})
}

fn add(card: &Card, commands: &mut Vec<Value>) {
    // All chains before any rule: rules lead to chains.
    commands.extend(card.chains.iter().map(|c| json!({"add": {"chain": chain(&c.name)}})));
    for chain in &card.chains {
        for (expr, comment) in &chain.rules {
            let mut made = rule(&chain.name, expr);
            if let Some(comment) = comment {
                let short: String = comment.chars().filter(|c| !c.is_control()).collect();
                let end = (0..=COMMENT.min(short.len())).rev().find(|n| short.is_char_boundary(*n));
                made["add"]["rule"]["comment"] = json!(short[..end.unwrap_or(0)]);
            }
            commands.push(made);
        }
    }
    commands.extend(card.entries.iter().map(|e| element("add", card, e)));
}

/// Where bridges know no connections, IP does: it writes what it knows into the packet's mark.
fn mark_tables(wanted: bool, commands: &mut Vec<Value>) {
    for family in ["ip", "ip6"] {
        let table = json!({"family": family, "name": TABLE});
        commands.push(json!({"add": {"table": table}}));
        commands.push(json!({"delete": {"table": table}}));
        if !wanted {
            continue;
        }
        commands.push(json!({"add": {"table": table}}));
        // Only packets that a bridge carries: routing by marks is not to see ours.
        for (hook, priority, kind) in [("prerouting", -150, "iifkind"), ("postrouting", 0, "oifkind")] {
            commands.push(json!({"add": {"chain": {"family": family, "table": TABLE, "name": hook,
                "type": "filter", "hook": hook, "prio": priority, "policy": "accept"}}}));
            let bridged = is("==", json!({"meta": {"key": kind}}), json!("bridge"));
            let mut mark = |expr: Vec<Value>, bits: u32| {
                let expr = [vec![bridged.clone()], expr, vec![set_mark(bits)]].concat();
                commands.push(json!({"add": {"rule": {
                    "family": family, "table": TABLE, "chain": hook, "expr": expr
                }}}));
            };
            for (at, state) in ["new", "established", "related", "invalid"].iter().enumerate() {
                let state = is("in", json!({"ct": {"key": "state"}}), json!([state]));
                mark(vec![state], state_mark(at));
            }
            let answer = is("==", json!({"ct": {"key": "direction"}}), json!("reply"));
            let value = json!({"|": [{"meta": {"key": "mark"}}, ANSWER]});
            let set = json!({"mangle": {"key": {"meta": {"key": "mark"}}, "value": value}});
            commands.push(json!({"add": {"rule": {
                "family": family, "table": TABLE, "chain": hook, "expr": [bridged, answer, set]
            }}}));
        }
    }
}

fn state_mark(at: usize) -> u32 {
    (u32::try_from(at).unwrap_or(0) + 1) << STATE_AT
}

fn set_mark(bits: u32) -> Value {
    let rest = json!({"&": [{"meta": {"key": "mark"}}, !MARKS]});
    let value = if bits == 0 { rest } else { json!({"|": [rest, bits]}) };
    json!({"mangle": {"key": {"meta": {"key": "mark"}}, "value": value}})
}

/// The marks are taken off before a packet leaves the bridge or enters the host.
fn forget_marks(commands: &mut Vec<Value>) {
    for (name, hook) in [("forget_in", "input"), ("forget_out", "postrouting")] {
        commands.push(json!({"add": {"chain": {"family": "bridge", "table": TABLE, "name": name,
            "type": "filter", "hook": hook, "prio": 20, "policy": "accept"}}}));
        commands.push(rule(name, &[set_mark(0)]));
    }
}

fn is(op: &str, left: Value, right: Value) -> Value {
    json!({"match": {"op": op, "left": left, "right": right}})
}

/// A rule's expressions.
///
/// # Errors
/// Code 67 for what nftables cannot look at.
pub fn expressions(compiled: &Compiled, abilities: Abilities) -> Result<Vec<Value>> {
    let mut out = Vec::new();
    for m in &compiled.matches {
        out.push(expression(m, abilities, compiled.layer)?);
    }
    out.push(json!({"counter": {"packets": 0, "bytes": 0}}));
    out.extend(match compiled.action {
        Action::Accept => Some(json!({"accept": null})),
        // Frames that are already on their way out of the bridge can only be dropped.
        Action::Reject if abilities.reject && compiled.way == Way::Out => Some(json!({"reject": null})),
        Action::Drop | Action::Reject => Some(json!({"drop": null})),
        Action::Return => Some(json!({"return": null})),
        Action::Continue => None,
    });
    Ok(out)
}

/// A jump from a card's first chain to another one, for the frames the chain is for.
pub fn jump(enter: Option<&Match>, target: &str, abilities: Abilities) -> Result<Vec<Value>> {
    let mut out = Vec::new();
    if let Some(m) = enter {
        out.push(expression(m, abilities, Layer::Link)?);
    }
    out.push(json!({"jump": {"target": target}}));
    Ok(out)
}

fn raw(base: &str, offset: u16, length: u16) -> Value {
    json!({"payload": {"base": base, "offset": u32::from(offset) * 8, "len": u32::from(length) * 8}})
}

fn field(protocol: &str, field: &str) -> Value {
    json!({"payload": {"protocol": protocol, "field": field}})
}

fn mac_number(mac: [u8; 6]) -> u64 {
    mac.iter().fold(0, |n, b| (n << 8) | u64::from(*b))
}

fn unable(what: &str) -> Error {
    Error::new(
        Code::ConfigUnsupported,
        Domain::Nwfilter,
        format!("the firewall of this host cannot match {what}"),
    )
}

fn expression(m: &Match, abilities: Abilities, layer: Layer) -> Result<Value> {
    let op = if m.negated { "!=" } else { "==" };
    let ip = |v6: bool| if v6 { "ip6" } else { "ip" };
    let left = match m.field {
        Field::EtherTarget => raw("ll", 0, 6),
        Field::EtherSource => raw("ll", 6, 6),
        Field::EtherType => raw("ll", 12, 2),
        Field::VlanId => field("vlan", "id"),
        Field::VlanType => field("vlan", "type"),
        Field::Stp(offset, length) | Field::Arp(offset, length) => raw("nh", offset, length),
        Field::IpSource | Field::IpTarget => {
            let v6 = matches!(&m.test, Test::Net(a, _) | Test::Addresses(a, _) if a.is_ipv6());
            field(ip(v6), if m.field == Field::IpSource { "saddr" } else { "daddr" })
        }
        Field::IpProtocol => json!({"meta": {"key": "l4proto"}}),
        Field::Dscp => field(ip(layer == Layer::V6), "dscp"),
        Field::SourcePort => field("th", "sport"),
        Field::TargetPort => field("th", "dport"),
        // Both versions have type and code in the first two bytes.
        Field::IcmpType => raw("th", 0, 1),
        Field::IcmpCode => raw("th", 1, 1),
        Field::TcpFlags => return Ok(tcp_flags(m, op)),
        Field::State | Field::Answer => return state(m, abilities),
        Field::Connections => return connections(m, abilities),
        Field::Gratuitous => return Err(unable("gratuitous ARP")),
        Field::Set => return Err(unable("ipsets")),
    };
    Ok(match &m.test {
        Test::Number(n) => is(op, left, json!(n)),
        Test::Range(from, to) => is(op, left, json!({"range": [from, to]})),
        Test::Mac(mac, mask) if mac_number(mask.0) == 0xffff_ffff_ffff => {
            is(op, left, json!(mac_number(mac.0)))
        }
        Test::Mac(mac, mask) => {
            let mask = mac_number(mask.0);
            is(op, json!({"&": [left, mask]}), json!(mac_number(mac.0) & mask))
        }
        Test::Net(address, prefix) => net(m.field, op, left, *address, *prefix),
        Test::Addresses(from, to) => is(op, left, json!({"range": [from.to_string(), to.to_string()]})),
        Test::Bits(..) | Test::States(_) | Test::Is(_) | Test::Above(_) | Test::InSet(..) => {
            return Err(unable("this value"));
        }
    })
}

fn net(which: Field, op: &str, left: Value, address: std::net::IpAddr, prefix: u8) -> Value {
    let full = if address.is_ipv4() { 32 } else { 128 };
    if let (Field::Arp(..), std::net::IpAddr::V4(v4)) = (which, address) {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
        let number = u32::from(v4) & mask;
        return match prefix {
            32 => is(op, left, json!(number)),
            _ => is(op, json!({"&": [left, mask]}), json!(number)),
        };
    }
    if prefix >= full {
        return is(op, left, json!(address.to_string()));
    }
    let base = virt_model::network::ip::network_address(address, prefix.into());
    is(op, left, json!({"prefix": {"addr": base.to_string(), "len": prefix}}))
}

fn tcp_flags(m: &Match, op: &str) -> Value {
    let (mask, flags) = match m.test {
        Test::Bits(mask, flags) => (mask, flags),
        _ => (0, 0),
    };
    is(op, json!({"&": [raw("th", 13, 1), mask]}), json!(flags))
}

fn state(m: &Match, abilities: Abilities) -> Result<Value> {
    let mark = |mask: u32| json!({"&": [{"meta": {"key": "mark"}}, mask]});
    let op = if m.negated { "!=" } else { "==" };
    Ok(match (&m.test, abilities.tracking) {
        (Test::Is(answer), Tracking::Bridge) => {
            let direction = if *answer { "reply" } else { "original" };
            is(op, json!({"ct": {"key": "direction"}}), json!(direction))
        }
        (Test::Is(answer), Tracking::Marks) => is(op, mark(ANSWER), json!(if *answer { ANSWER } else { 0 })),
        (Test::States(bits), Tracking::Bridge) => {
            let names = ["new", "established", "related", "invalid"];
            let set: Vec<_> =
                names.iter().enumerate().filter(|(n, _)| bits & (1 << n) != 0).map(|s| s.1).collect();
            is(if m.negated { "!=" } else { "in" }, json!({"ct": {"key": "state"}}), json!(set))
        }
        (Test::States(bits), Tracking::Marks) => {
            let set: Vec<u32> = (0..4).filter(|n| bits & (1 << n) != 0).map(state_mark).collect();
            is(op, mark(MARKS & !ANSWER), json!({"set": set}))
        }
        _ => return Err(unable("this state")),
    })
}

fn connections(m: &Match, abilities: Abilities) -> Result<Value> {
    match (&m.test, abilities.tracking) {
        (Test::Above(most), Tracking::Bridge) => Ok(json!({"ct count": {"val": most, "inv": !m.negated}})),
        _ => Err(unable("the number of connections (the kernel lacks nf_conntrack_bridge)")),
    }
}

/// A document that only a kernel takes whose bridges know connections.
pub fn probe_tracking() -> Value {
    probe(is("in", json!({"ct": {"key": "state"}}), json!(["new"])), json!({"accept": null}))
}

/// A document that only a kernel takes whose bridges can refuse.
pub fn probe_reject() -> Value {
    probe(is("==", raw("ll", 12, 2), json!(0x800)), json!({"reject": null}))
}

fn probe(first: Value, verdict: Value) -> Value {
    let name = "virt_nwfilter_probe";
    json!({"nftables": [
        {"add": {"table": {"family": "bridge", "name": name}}},
        {"add": {"chain": {"family": "bridge", "table": name, "name": "c", "type": "filter", "hook": "prerouting",
            "prio": 0, "policy": "accept"}}},
        {"add": {"rule": {"family": "bridge", "table": name, "chain": "c", "expr": [first, verdict]}}},
    ]})
}
