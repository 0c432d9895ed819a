//! Follows a packet through rules as nft lists them, as far as a packet can be followed on paper: a rule applies, does not,
//! or may apply.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use super::Net;

/// Jumps into jumps at most: the kernel allows 16.
const DEEPEST: usize = 16;
/// Rules looked at for one packet at most.
const MOST: usize = 100_000;

/// A packet; what is empty or unset is not known.
#[derive(Debug, Clone, Default)]
pub(super) struct Packet {
    /// Where it comes in.
    pub iif: String,
    /// Where it leaves.
    pub oif: String,
    /// Its sender is somewhere in this net.
    pub from: Option<Net>,
    /// It goes somewhere in this net.
    pub to: Option<Net>,
    /// It answers another one, and is no first one.
    pub answer: bool,
    /// It is UDP to this port.
    pub udp_port: Option<u16>,
}

/// A chain.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub family: String,
    pub table: String,
    pub name: String,
    hook: Option<String>,
    drops: bool,
    rules: Vec<Vec<Value>>,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fate {
    /// It is dropped unless a rule that may apply lets it through.
    pub dropped: bool,
    /// There is no such rule.
    pub certain: bool,
}

/// All chains of a listing.
pub(super) struct Rules(BTreeMap<(String, String, String), Chain>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fits {
    Yes,
    No,
    Maybe,
}

/// How a chain ends for a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Accept,
    Drop,
    Through,
}

struct Walk {
    steps: usize,
    /// Some rule may have let the packet through.
    may_pass: bool,
}

fn text<'v>(v: &'v Value, key: &str) -> Option<&'v str> {
    v.get(key)?.as_str()
}

impl Rules {
    /// Reads what `nft -j list ruleset` prints; what is not understood is left out, and tables whose names begin with one of
    /// `without`.
    pub fn read(listing: &Value, without: &[&str]) -> Self {
        let mut all: BTreeMap<_, Chain> = BTreeMap::new();
        for part in listing.get("nftables").and_then(Value::as_array).into_iter().flatten() {
            let key = |v: &Value, name: &str| {
                text(v, "table").filter(|table| !without.iter().any(|own| table.starts_with(own)))?;
                Some((
                    text(v, "family")?.to_string(),
                    text(v, "table")?.to_string(),
                    text(v, name)?.to_string(),
                ))
            };
            if let Some(chain) = part.get("chain")
                && let Some(at) = key(chain, "name")
            {
                let filters = text(chain, "type") == Some("filter");
                let known = all.entry(at.clone()).or_default();
                (known.family, known.table, known.name) = at;
                known.hook = text(chain, "hook").filter(|_| filters).map(str::to_string);
                known.drops = text(chain, "policy") == Some("drop");
            }
            if let Some(rule) = part.get("rule")
                && let Some(at) = key(rule, "chain")
            {
                let expressions = rule.get("expr").and_then(Value::as_array).cloned().unwrap_or_default();
                all.entry(at).or_default().rules.push(expressions);
            }
        }
        Self(all)
    }

    /// Chains of IPv4 that the kernel calls at a hook.
    pub fn hooked<'r>(&'r self, hook: &'r str) -> impl Iterator<Item = &'r Chain> {
        let here =
            move |c: &&Chain| c.hook.as_deref() == Some(hook) && matches!(c.family.as_str(), "ip" | "inet");
        self.0.values().filter(here)
    }

    /// The names of a table's chains.
    pub fn chains_of<'r>(&'r self, family: &'r str, table: &'r str) -> impl Iterator<Item = &'r str> {
        self.0.values().filter(move |c| c.family == family && c.table == table).map(|c| c.name.as_str())
    }

    /// What becomes of a packet in a chain of the kernel's.
    pub fn follow(&self, base: &Chain, packet: &Packet) -> Fate {
        let mut walk = Walk { steps: 0, may_pass: false };
        let end = self.walk(base, packet, &mut walk, 0);
        let dropped = end == End::Drop || end == End::Through && base.drops;
        Fate { dropped, certain: !walk.may_pass }
    }

    fn walk(&self, chain: &Chain, packet: &Packet, walk: &mut Walk, depth: usize) -> End {
        if depth > DEEPEST {
            return End::Through;
        }
        for rule in &chain.rules {
            walk.steps += 1;
            if walk.steps > MOST {
                walk.may_pass = true;
                return End::Accept;
            }
            let mut fits = Fits::Yes;
            for expression in rule {
                match condition(expression, packet) {
                    Some(Fits::No) => {
                        fits = Fits::No;
                        break;
                    }
                    Some(Fits::Maybe) => fits = Fits::Maybe,
                    _ => {}
                }
            }
            if fits == Fits::No {
                continue;
            }
            for expression in rule {
                let Some((end, leaves)) = self.verdict(expression, chain, packet, walk, depth) else {
                    continue;
                };
                if fits == Fits::Yes && (end != End::Through || leaves) {
                    return end;
                }
                walk.may_pass |= end == End::Accept;
            }
        }
        End::Through
    }

    /// What an expression decides, and whether the chain ends with it in any case.
    fn verdict(
        &self,
        e: &Value,
        chain: &Chain,
        packet: &Packet,
        walk: &mut Walk,
        depth: usize,
    ) -> Option<(End, bool)> {
        let (key, value) = e.as_object()?.iter().next()?;
        match key.as_str() {
            "accept" => Some((End::Accept, true)),
            "drop" | "reject" => Some((End::Drop, true)),
            "return" => Some((End::Through, true)),
            "jump" | "goto" => {
                let target = text(value, "target")?.to_string();
                let target = self.0.get(&(chain.family.clone(), chain.table.clone(), target))?;
                Some((self.walk(target, packet, walk, depth + 1), key == "goto"))
            }
            // A map of verdicts, or a target that nft has no words for: anything may come of it.
            "vmap" | "queue" => {
                walk.may_pass = true;
                None
            }
            "xt" if text(value, "type") == Some("target") => {
                walk.may_pass = true;
                None
            }
            _ => None,
        }
    }
}

/// Whether a condition holds; `None` for what is none.
fn condition(expression: &Value, packet: &Packet) -> Option<Fits> {
    let (key, value) = expression.as_object()?.iter().next()?;
    match key.as_str() {
        "match" => Some(compare(value, packet).unwrap_or(Fits::Maybe)),
        "xt" if text(value, "type") == Some("match") => Some(Fits::Maybe),
        "limit" | "ct count" => Some(Fits::Maybe),
        _ => None,
    }
}

fn compare(m: &Value, packet: &Packet) -> Option<Fits> {
    let (op, left, right) = (text(m, "op")?, m.get("left")?, m.get("right")?);
    let equal = one_of(right, |r| {
        if let Some(meta) = left.get("meta") {
            return match text(meta, "key")? {
                "iifname" | "iif" => interface(&packet.iif, r),
                "oifname" | "oif" => interface(&packet.oif, r),
                "l4proto" => packet.udp_port.map(|_| Some(known(r.as_str()? == "udp")))?,
                _ => None,
            };
        }
        if text(left.get("ct").unwrap_or(&Value::Null), "key") == Some("state") {
            let mine: &[&str] = if packet.answer { &["established", "related"] } else { &["new"] };
            return Some(known(mine.contains(&r.as_str()?)));
        }
        let payload = left.get("payload")?;
        match (text(payload, "protocol")?, text(payload, "field")?) {
            ("ip", "saddr") => within(packet.from, r),
            ("ip", "daddr") => within(packet.to, r),
            ("ip", "protocol") => packet.udp_port.map(|_| Some(known(r.as_str()? == "udp")))?,
            ("udp", "dport") => Some(port(packet.udp_port?, r)?),
            ("tcp", _) if packet.udp_port.is_some() => Some(Fits::No),
            _ => None,
        }
    });
    match op {
        "==" | "in" => equal,
        "!=" => equal.map(|f| match f {
            Fits::Yes => Fits::No,
            Fits::No => Fits::Yes,
            Fits::Maybe => Fits::Maybe,
        }),
        _ => None,
    }
}

fn known(yes: bool) -> Fits {
    if yes { Fits::Yes } else { Fits::No }
}

/// One value, or any of several.
fn one_of(right: &Value, is: impl Fn(&Value) -> Option<Fits>) -> Option<Fits> {
    let many = right.get("set").unwrap_or(right);
    let Some(many) = many.as_array() else { return is(many) };
    let all: Vec<Fits> = many.iter().map(|r| is(r).unwrap_or(Fits::Maybe)).collect();
    [Fits::Yes, Fits::Maybe].into_iter().find(|f| all.contains(f)).or(Some(Fits::No))
}

fn interface(own: &str, rule: &Value) -> Option<Fits> {
    let name = rule.as_str().filter(|n| !n.starts_with('@'))?;
    if own.is_empty() {
        return None;
    }
    Some(known(name.strip_suffix('*').map_or(own == name, |start| own.starts_with(start))))
}

fn port(own: u16, rule: &Value) -> Option<Fits> {
    if let Some(range) = rule.get("range").and_then(Value::as_array) {
        let ends: Vec<u64> = range.iter().filter_map(Value::as_u64).collect();
        let [first, last] = ends.try_into().ok()?;
        return Some(known((first..=last).contains(&u64::from(own))));
    }
    rule.as_u64().map(|p| known(p == u64::from(own)))
}

/// Whether an address somewhere in `own` is in the net that a rule names.
fn within(own: Option<Net>, rule: &Value) -> Option<Fits> {
    let (address, prefix) = own?;
    let (to, length): (IpAddr, u32) = match rule.get("prefix") {
        Some(p) => (text(p, "addr")?.parse().ok()?, u32::try_from(p.get("len")?.as_u64()?).ok()?),
        None => (rule.as_str()?.parse().ok()?, if address.is_ipv4() { 32 } else { 128 }),
    };
    if to.is_ipv4() != address.is_ipv4() {
        return Some(Fits::No);
    }
    let cut = |a, l| virt_model::network::ip::network_address(a, l);
    let shorter = prefix.min(length);
    if cut(address, shorter) != cut(to, shorter) {
        return Some(Fits::No);
    }
    Some(if length <= prefix { Fits::Yes } else { Fits::Maybe })
}
