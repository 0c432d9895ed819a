//! `<rule>`: what happens to which packets.

use virt_xml::rt_error::{Domain, Error, Result};
use virt_xml::{El, Plain, Shape, Writer, Xml, names, rt};

use super::protocol::{Attr, PROTOCOLS, Protocol};
use super::value::Value;

names! {
    /// What happens to a packet.
    pub enum Action { Drop = "drop", Accept = "accept", Reject = "reject", Return = "return", Continue = "continue" }
    /// Seen from the guest.
    pub enum Direction { In = "in", Out = "out", Inout = "inout" }
}

/// The priority of a rule that names none, or one that no rule can have.
const PRIORITY: i32 = 500;

/// `<rule>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What happens.
    pub action: Action,
    /// Which way.
    pub direction: Direction,
    /// From -1000 to 1000; lower is tried earlier.
    pub priority: i32,
    /// Whether answers to what was let through are let through too, and nothing else.
    pub state_match: bool,
    /// Which packets; all without one.
    pub body: Option<Body>,
}

/// The protocol of a rule and what is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// The protocol.
    pub protocol: &'static Protocol,
    /// In the order of the protocol's table.
    pub items: Vec<Item>,
}

/// One attribute with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Which.
    pub attr: &'static Attr,
    /// What it must be.
    pub value: Value,
    /// What it must not be, that is.
    pub negated: bool,
}

impl Body {
    /// The item of this name.
    pub fn item(&self, name: &str) -> Option<&Item> {
        self.items.iter().find(|i| i.attr.name == name)
    }

    /// Several elements of one protocol are one list of things to look at; other protocols after the first are passed
    /// over.
    fn read(rule: El<'_>) -> Result<Option<Self>> {
        let Some(protocol) = rule.children().find_map(|c| Protocol::from_name(c.name())) else {
            return Ok(None);
        };
        let mut found: Vec<Option<Item>> = protocol.attrs().map(|_| None).collect();
        for e in rule.children().filter(|c| c.name() == protocol.name) {
            let negated = e.attr("match") == Some("no");
            let mut wrong = None;
            for (slot, attr) in found.iter_mut().zip(protocol.attrs()) {
                let Some(text) = e.attr(attr.name) else { continue };
                match attr.kind.parse(text) {
                    Some(value) => *slot = Some(Item { attr, value, negated }),
                    // Of several mistakes the reference tells the last.
                    None => wrong = Some(illegal(attr, text).with("line", e.line())),
                }
            }
            if let Some(wrong) = wrong {
                return Err(wrong);
            }
        }
        let mut items: Vec<Item> = found.into_iter().flatten().collect();
        let negated: Vec<&str> = items.iter().filter(|i| i.negated).map(|i| i.attr.name).collect();
        for item in &mut items {
            if let Some(base) = item.attr.follows {
                item.negated = negated.contains(&base);
            }
        }
        let body = Self { protocol, items };
        body.check_ports()?;
        Ok(Some(body))
    }

    /// In frames a port can only be found when the protocol is known.
    fn check_ports(&self) -> Result<()> {
        let version = match self.protocol.name {
            "ip" => "IP",
            "ipv6" => "IPv6",
            _ => return Ok(()),
        };
        let ports = ["srcportstart", "srcportend", "dstportstart", "dstportend"];
        let has_ports = ports.iter().any(|p| self.item(p).is_some());
        let known = self.item("protocol").map(|i| &i.value);
        if has_ports && !matches!(known, Some(Value::Number { value: 6 | 17 | 33 | 132, .. })) {
            let text = format!(
                "{version} rule with port specification requires protocol specification with protocol to be \
                 either one of tcp(6), udp(17), dccp(33), or sctp(132)"
            );
            return Err(Error::internal(Domain::Nwfilter, text));
        }
        Ok(())
    }

    fn write(&self, w: &mut Writer) {
        let (not, yes): (Vec<&Item>, Vec<&Item>) = self.items.iter().partition(|i| i.negated);
        if !yes.is_empty() || not.is_empty() {
            w.start(self.protocol.name);
            put(&yes, w);
            w.end();
        }
        if !not.is_empty() {
            w.start(self.protocol.name);
            w.attr("match", "no");
            put(&not, w);
            w.end();
        }
    }
}

fn put(items: &[&Item], w: &mut Writer) {
    for item in items {
        w.attr(item.attr.name, &item.attr.kind.format(&item.value));
    }
}

/// "x has illegal value y", as the reference says it of documents and of variables' values.
pub fn illegal(attr: &Attr, text: &str) -> Error {
    Error::internal(Domain::Nwfilter, format!("{} has illegal value {text}", attr.name))
}

impl Xml for Rule {
    fn read(e: El<'_>) -> Result<Self> {
        let action = rt::attr_required::<Plain, Action>(Some(e), e, "action", None)?;
        let direction = rt::attr_required::<Plain, Direction>(Some(e), e, "direction", None)?;
        let priority = rt::attr::<Plain, i32>(Some(e), "priority", None)?;
        let priority = priority.filter(|p| (-1000..=1000).contains(p)).unwrap_or(PRIORITY);
        let off = |v: &str| v == "0" || v.eq_ignore_ascii_case("false");
        let state_match = !e.attr("statematch").is_some_and(off);
        Ok(Self { action, direction, priority, state_match, body: Body::read(e)? })
    }
    fn write_attrs(&self, w: &mut Writer) {
        w.attr("action", self.action.as_str());
        w.attr("direction", self.direction.as_str());
        w.attr("priority", &self.priority.to_string());
        if !self.state_match {
            w.attr("statematch", "false");
        }
    }
    fn write_children(&self, w: &mut Writer) {
        if let Some(body) = &self.body {
            body.write(w);
        }
    }
    fn shape(s: &mut Shape) {
        for name in ["action", "direction", "priority", "statematch"] {
            s.attr("", name);
        }
        for protocol in PROTOCOLS {
            s.attr(protocol.name, "match");
            for attr in protocol.attrs() {
                s.attr(protocol.name, attr.name);
            }
        }
    }
}
