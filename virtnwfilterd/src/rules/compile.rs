//! One rule, for each way a packet can go.
//!
//! A rule is written for one way, and looks at packets of the other way with senders and receivers exchanged: what is
//! accepted one way has its answers accepted, what is dropped is dropped both ways. Rules about frames have one way only.

use virt_error::{Code, Domain, Error, Result};
use virt_model::Mac;
use virt_model::nwfilter::protocol::Layer;
use virt_model::nwfilter::rule::{Action, Body, Direction, Item, Rule};
use virt_model::nwfilter::value::Value;

use super::matches::{Field, Match, STP_GROUP, Test, WHOLE_MAC, Way};

const NEW: u8 = 1;
const ESTABLISHED: u8 = 2;

/// A rule for one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// Which packets see it.
    pub way: Way,
    /// What is looked at.
    pub layer: Layer,
    /// All must be true.
    pub matches: Vec<Match>,
    /// What happens then.
    pub action: Action,
    /// For people who look at the rules.
    pub comment: Option<String>,
}

/// The rule's forms: none, one or two.
///
/// # Errors
/// Code 67 for what the firewall cannot look at.
pub fn compile(rule: &Rule, body: Option<&Body>) -> Result<Vec<Compiled>> {
    let Some(body) = body else {
        let all = |way| Compiled {
            way,
            layer: Layer::Link,
            matches: Vec::new(),
            action: rule.action,
            comment: None,
        };
        return Ok(link_ways(rule.direction).into_iter().map(|(way, _)| all(way)).collect());
    };
    if body.protocol.layer == Layer::Link {
        let ways = link_ways(rule.direction);
        return ways.into_iter().map(|(way, turned)| one(rule, body, way, turned)).collect();
    }
    let mut out = Vec::new();
    for (way, turned) in packet_ways(rule.direction) {
        if turned && !has_other_way(rule, body) {
            continue;
        }
        let mut compiled = one(rule, body, way, turned)?;
        compiled.matches.extend(connection(rule, body, turned));
        out.push(compiled);
    }
    Ok(out)
}

fn link_ways(direction: Direction) -> Vec<(Way, bool)> {
    match direction {
        Direction::Out => vec![(Way::Out, false)],
        Direction::In => vec![(Way::In, false)],
        Direction::Inout => vec![(Way::In, false), (Way::Out, true)],
    }
}

fn packet_ways(direction: Direction) -> [(Way, bool); 2] {
    match direction {
        Direction::Out => [(Way::Out, false), (Way::In, true)],
        Direction::In | Direction::Inout => [(Way::In, false), (Way::Out, true)],
    }
}

/// Whether a rule has a meaning for packets of the other way.
fn has_other_way(rule: &Rule, body: &Body) -> bool {
    let has = |name| body.item(name).is_some();
    let one_way = has("state") || has("connlimit-above") || has("type");
    if one_way && rule.direction != Direction::Inout {
        return false;
    }
    // A sender's hardware address is not the receiver's.
    let rest = body.items.iter().any(|i| !matches!(i.attr.name, "srcmacaddr" | "comment"));
    rest || !has("srcmacaddr")
}

/// What the state of the connection must be.
fn connection(rule: &Rule, body: &Body, turned: bool) -> Vec<Match> {
    let state = |bits| Match { field: Field::State, test: Test::States(bits), negated: false };
    if let Some(item) = body.item("state") {
        return match &item.value {
            Value::States(Some(bits)) if *bits != 0 => {
                vec![Match { negated: item.negated, ..state(*bits) }]
            }
            _ => Vec::new(),
        };
    }
    let matched = rule.action == Action::Accept
        && rule.state_match
        && rule.direction != Direction::Inout
        && body.item("connlimit-above").is_none();
    if !matched {
        return Vec::new();
    }
    let answer = Match { field: Field::Answer, test: Test::Is(turned), negated: false };
    if body.item("type").is_some() {
        return vec![state(NEW | ESTABLISHED)];
    }
    vec![state(if turned { ESTABLISHED } else { NEW | ESTABLISHED }), answer]
}

fn one(rule: &Rule, body: &Body, way: Way, turned: bool) -> Result<Compiled> {
    let mut matches = Vec::new();
    let protocol = body.protocol;
    match (protocol.layer, protocol.name) {
        (Layer::Link, "stp") => {
            let test = Test::Mac(STP_GROUP, WHOLE_MAC);
            matches.push(Match { field: Field::EtherTarget, test, negated: false });
        }
        (Layer::Link, _) if protocol.number != 0 => {
            matches.push(Match::number(Field::EtherType, protocol.number.into()));
        }
        (Layer::V4 | Layer::V6, _) => {
            let version = if protocol.layer == Layer::V4 { 0x800 } else { 0x86dd };
            matches.push(Match::number(Field::EtherType, version));
            if protocol.number != 0 {
                matches.push(Match::number(Field::IpProtocol, protocol.number.into()));
            }
        }
        _ => {}
    }
    for item in &body.items {
        matches.extend(look(body, item, turned)?);
    }
    let comment =
        body.item("comment").and_then(|i| if let Value::Text(t) = &i.value { Some(t.clone()) } else { None });
    Ok(Compiled { way, layer: protocol.layer, matches, action: rule.action, comment })
}

fn number(item: Option<&Item>) -> Option<u32> {
    match item?.value {
        Value::Number { value, .. } => Some(value),
        _ => None,
    }
}

/// The match of one attribute; `None` for one that is part of another's.
fn look(body: &Body, item: &Item, turned: bool) -> Result<Option<Match>> {
    let side = |source: bool| source != turned;
    let linked = body.protocol.layer == Layer::Link;
    let name = item.attr.name;
    let (field, test) = match name {
        // Only the frame's sender is known to be a guest's.
        "srcmacaddr" if !linked && turned => return Ok(None),
        "srcmacaddr" | "dstmacaddr" => {
            let mask = body.item(if name == "srcmacaddr" { "srcmacmask" } else { "dstmacmask" });
            let source = side(name == "srcmacaddr");
            // Spanning tree messages have one receiver, whichever way they go.
            let source = source || body.protocol.name == "stp";
            (if source { Field::EtherSource } else { Field::EtherTarget }, mac(item, mask)?)
        }
        "srcipaddr" | "dstipaddr" => {
            let mask = body.item(if name == "srcipaddr" { "srcipmask" } else { "dstipmask" });
            (address_field(side(name == "srcipaddr")), net(item, mask)?)
        }
        "srcipfrom" | "dstipfrom" => {
            let to = body.item(if name == "srcipfrom" { "srcipto" } else { "dstipto" });
            let (from, to) = (address(item)?, to.map_or_else(|| address(item), address)?);
            (address_field(side(name == "srcipfrom")), Test::Addresses(from, to))
        }
        "srcportstart" | "dstportstart" => {
            let end = body.item(if name == "srcportstart" { "srcportend" } else { "dstportend" });
            let field = if side(name == "srcportstart") { Field::SourcePort } else { Field::TargetPort };
            (field, range(item, end))
        }
        "protocolid" => (Field::EtherType, range(item, None)),
        "vlanid" => (Field::VlanId, range(item, None)),
        "encap-protocol" => (Field::VlanType, range(item, None)),
        "protocol" => (Field::IpProtocol, range(item, None)),
        "dscp" => (Field::Dscp, range(item, None)),
        "type" if body.protocol.name != "stp" => (Field::IcmpType, range(item, body.item("typeend"))),
        "code" => (Field::IcmpCode, range(item, body.item("codeend"))),
        "flags" if body.protocol.name != "stp" => match item.value {
            Value::TcpFlags { mask, flags } => (Field::TcpFlags, Test::Bits(mask, flags)),
            _ => return Err(unusable(item)),
        },
        "connlimit-above" => match number(Some(item)) {
            Some(most) => (Field::Connections, Test::Above(most)),
            None => return Err(unusable(item)),
        },
        "ipset" => {
            let sides = match body.item("ipsetflags").map(|i| &i.value) {
                Some(Value::Sides(sides)) => sides.iter().map(|s| side(*s)).collect(),
                _ => return Err(unusable(item)),
            };
            let Value::Text(set) = &item.value else { return Err(unusable(item)) };
            (Field::Set, Test::InSet(set.clone(), sides))
        }
        "gratuitous" => match item.value {
            Value::Bool(true) => (Field::Gratuitous, Test::Is(true)),
            _ => return Ok(None),
        },
        _ if body.protocol.name == "stp" => match stp(body, item)? {
            Some(found) => found,
            None => return Ok(None),
        },
        _ => match arp(body, item, turned)? {
            Some(found) => found,
            None => return Ok(None),
        },
    };
    Ok(Some(Match { field, test, negated: item.negated }))
}

fn address_field(source: bool) -> Field {
    if source { Field::IpSource } else { Field::IpTarget }
}

/// Parts of a spanning tree message: name, offset in the frame's payload behind its three bytes of link control, length.
const STP_PARTS: [(&str, u16, u16); 12] = [
    ("type", 6, 1),
    ("flags", 7, 1),
    ("root-priority", 8, 2),
    ("root-address", 10, 6),
    ("root-cost", 16, 4),
    ("sender-priority", 20, 2),
    ("sender-address", 22, 6),
    ("port", 28, 2),
    ("age", 30, 2),
    ("max-age", 32, 2),
    ("hello-time", 34, 2),
    ("forward-delay", 36, 2),
];

fn stp(body: &Body, item: &Item) -> Result<Option<(Field, Test)>> {
    let name = item.attr.name;
    let Some((_, offset, length)) = STP_PARTS.iter().find(|p| p.0 == name) else { return Ok(None) };
    let other = |ending: &str| body.items.iter().find(|i| i.attr.name.strip_suffix(ending) == Some(name));
    let test = if *length == 6 { mac(item, other("-mask"))? } else { range(item, other("-hi")) };
    Ok(Some((Field::Stp(*offset, *length), test)))
}

fn arp(body: &Body, item: &Item, turned: bool) -> Result<Option<(Field, Test)>> {
    let turn = |a: (u16, u16), b: (u16, u16)| if turned { b } else { a };
    let (sender_mac, target_mac) = ((8, 6), (18, 6));
    let (sender_ip, target_ip) = ((14, 4), (24, 4));
    let (place, test) = match item.attr.name {
        "hwtype" => ((0, 2), range(item, None)),
        "protocoltype" => ((2, 2), range(item, None)),
        "opcode" => ((6, 2), range(item, None)),
        "arpsrcmacaddr" => (turn(sender_mac, target_mac), mac(item, None)?),
        "arpdstmacaddr" => (turn(target_mac, sender_mac), mac(item, None)?),
        "arpsrcipaddr" => (turn(sender_ip, target_ip), net(item, body.item("arpsrcipmask"))?),
        "arpdstipaddr" => (turn(target_ip, sender_ip), net(item, body.item("arpdstipmask"))?),
        _ => return Ok(None),
    };
    Ok(Some((Field::Arp(place.0, place.1), test)))
}

fn mac(item: &Item, mask: Option<&Item>) -> Result<Test> {
    let plain = |item: &Item| match item.value {
        Value::Mac(mac) => Ok(mac),
        _ => Err(unusable(item)),
    };
    let mask: Mac = mask.map_or(Ok(WHOLE_MAC), plain)?;
    Ok(Test::Mac(plain(item)?, mask))
}

fn address(item: &Item) -> Result<std::net::IpAddr> {
    match item.value {
        Value::Address(address) => Ok(address),
        _ => Err(unusable(item)),
    }
}

fn net(item: &Item, mask: Option<&Item>) -> Result<Test> {
    let address = address(item)?;
    let full = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match mask.map(|m| &m.value) {
        Some(Value::Prefix(prefix)) => *prefix,
        _ => full,
    };
    Ok(Test::Net(address, prefix))
}

fn range(item: &Item, end: Option<&Item>) -> Test {
    let from = number(Some(item)).unwrap_or(0);
    match number(end) {
        Some(to) if to != from => Test::Range(from, to),
        _ => Test::Number(from),
    }
}

fn unusable(item: &Item) -> Error {
    let text = format!("attribute '{}' cannot be used in this rule", item.attr.name);
    Error::new(Code::ConfigUnsupported, Domain::Nwfilter, text)
}
