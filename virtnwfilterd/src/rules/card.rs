//! All rules of one card, put into its chains.

use std::collections::BTreeMap;

use virt_error::{Code, Domain, Error, Result};
use virt_model::Mac;
use virt_model::nwfilter::Chain as Place;
use virt_model::nwfilter::protocol::Layer;
use virt_model::nwfilter::rule::Action;
use virt_object::names;

use super::compile::{Compiled, compile};
use super::matches::{Field, Match, STP_GROUP, Test, WHOLE_MAC, Way};
use super::nft::{Abilities, Card, Chain, expressions, jump, map};
use super::plan::{Placed, too_many};
use super::variables::expand;

/// The most rules of one card.
const RULES: usize = 50_000;
/// The kernel's limit for an interface's name, without the closing zero.
const NAME: usize = 15;

type Rules = Vec<(Vec<serde_json::Value>, Option<String>)>;

/// The rules of one way: those of the first chain with their priorities, and the other chains.
#[derive(Default)]
struct Side {
    root: Vec<(i32, u8, Rules)>,
    named: BTreeMap<String, (Place, Rules)>,
    packets: Rules,
}

/// Checks the name of a device before it is in a rule: no sign that nft could take for more than a name.
///
/// # Errors
/// Code 8 for anything else.
pub fn check_port(name: &str) -> Result<()> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if !name.is_empty() && name.len() <= NAME && name.bytes().all(good) && names::NWFILTER.check(name).is_ok()
    {
        return Ok(());
    }
    let text = format!("'{}' cannot be the name of a device", name.escape_default());
    Err(Error::new(Code::InvalidArg, Domain::Nwfilter, text))
}

/// Compiles what [`super::plan::collect`] has found.
///
/// # Errors
/// What variables and the firewall refuse.
pub fn build(port: &str, plan: &[Placed], abilities: Abilities) -> Result<Card> {
    check_port(port)?;
    let mut sides = [Side::default(), Side::default()];
    let mut count = 0;
    for placed in plan {
        let bodies = match &placed.rule.body {
            None => vec![None],
            Some(body) => expand(body, &placed.parameters)?.into_iter().map(Some).collect(),
        };
        for body in bodies {
            for compiled in compile(&placed.rule, body.as_ref())? {
                count += 1;
                if count > RULES {
                    return Err(too_many());
                }
                let made = (expressions(&compiled, abilities)?, compiled.comment.clone());
                let side = &mut sides[compiled.way as usize];
                if compiled.layer != Layer::Link {
                    side.packets.push(made);
                    continue;
                }
                match &placed.chain {
                    Place::Root => side.root.push((placed.rule.priority, 1, vec![made])),
                    Place::Named { name, .. } => {
                        let chain = side
                            .named
                            .entry(name.clone())
                            .or_insert_with(|| (placed.chain.clone(), Vec::new()));
                        chain.1.push(made);
                    }
                }
            }
        }
    }
    let mut card = Card { port: port.into(), chains: Vec::new(), entries: Vec::new() };
    for (way, side) in [Way::Out, Way::In].into_iter().zip(sides) {
        place(&mut card, way, side, abilities)?;
    }
    Ok(card)
}

fn place(card: &mut Card, way: Way, mut side: Side, abilities: Abilities) -> Result<()> {
    let mark = if way == Way::Out { 'o' } else { 'i' };
    let name = |chain: &str| format!("{}-{mark}-{chain}", card.port);
    for (chain, (place, rules)) in side.named {
        let Place::Named { kind, priority, .. } = place else { continue };
        let target = name(&chain);
        let enter = jump(enter(kind.prefix).as_ref(), &target, abilities)?;
        // A chain is entered before rules of its own priority.
        side.root.push((priority.unwrap_or(kind.priority), 0, vec![(enter, None)]));
        card.chains.push(Chain { name: target, rules });
    }
    if !side.root.is_empty() {
        side.root.sort_by_key(|(priority, kind, _)| (*priority, *kind));
        let rules = side.root.into_iter().flat_map(|r| r.2).collect();
        // No chain of a document is called so: their names begin with a protocol's.
        let first = format!("{}-{mark}", card.port);
        card.entries.push((map(way, Layer::Link), first.clone()));
        card.chains.push(Chain { name: first, rules });
    }
    if !side.packets.is_empty() {
        let first = format!("{}-{mark}-packets", card.port);
        card.entries.push((map(way, Layer::V4), first.clone()));
        card.chains.push(Chain { name: first, rules: side.packets });
    }
    Ok(())
}

/// What a frame must be to enter a chain.
fn enter(prefix: &str) -> Option<Match> {
    let number = match prefix {
        "vlan" => 0x8100,
        "arp" => 0x806,
        "rarp" => 0x8035,
        "ipv4" => 0x800,
        "ipv6" => 0x86dd,
        "stp" => {
            let test = Test::Mac(STP_GROUP, WHOLE_MAC);
            return Some(Match { field: Field::EtherTarget, test, negated: false });
        }
        _ => return None,
    };
    Some(Match::number(Field::EtherType, number))
}

/// What a card may do while its address is not known: ask for one. ARP only where it tells the address.
///
/// # Errors
/// Code 8 for a device's name that cannot be.
pub fn while_learning(port: &str, mac: Mac, arp: bool, abilities: Abilities) -> Result<Card> {
    check_port(port)?;
    let mut card = Card { port: port.into(), chains: Vec::new(), entries: Vec::new() };
    let everyone = Mac([0xff; 6]);
    for (way, own, ports) in
        [(Way::Out, Field::EtherSource, (68, 67)), (Way::In, Field::EtherTarget, (67, 68))]
    {
        let mut side = Side::default();
        let mut add = |matches: Vec<Match>, action: Action| {
            let compiled = Compiled { way, layer: Layer::Link, matches, action, comment: None };
            side.root.push((0, 1, vec![(expressions(&compiled, abilities)?, None)]));
            Ok::<_, Error>(())
        };
        let is_mac = |mac| Match { field: own, test: Test::Mac(mac, WHOLE_MAC), negated: false };
        let receivers = if way == Way::Out { vec![mac] } else { vec![mac, everyone] };
        for address in receivers {
            let mut dhcp = vec![is_mac(address)];
            dhcp.push(Match::number(Field::EtherType, 0x800));
            dhcp.push(Match::number(Field::IpProtocol, 17));
            dhcp.push(Match::number(Field::SourcePort, ports.0));
            dhcp.push(Match::number(Field::TargetPort, ports.1));
            add(dhcp, Action::Accept)?;
            if arp {
                add(vec![is_mac(address), Match::number(Field::EtherType, 0x806)], Action::Accept)?;
            }
        }
        add(Vec::new(), Action::Drop)?;
        place(&mut card, way, side, abilities)?;
    }
    Ok(card)
}
