//! Network filters: rules in chains, references to other filters, and the binding of a filter to a guest's card.
//!
//! [`Filter::parse`] reads and checks all that one document can tell; whether references lead in circles, and what
//! variables stand for, is the driver's.

pub mod binding;
pub mod protocol;
pub mod rule;
pub mod value;
pub mod variable;

use virt_xml::rt_error::{Code, Domain, Error, Result};
use virt_xml::{Codec, El, Mode, Shape, Writer, Xml};

use crate::{Uuid, UuidText};
pub use rule::Rule;
pub use variable::FilterRef;

/// The longest name of a chain.
const CHAIN: usize = 12;

/// A kind of chain: the first letters of its name, the frames that enter it, and when it is entered if nothing else is
/// said.
#[derive(Debug, PartialEq, Eq)]
pub struct ChainKind {
    /// How the name begins.
    pub prefix: &'static str,
    /// When it is entered.
    pub priority: i32,
    /// Whether documents show that priority when they name none; the reference does not for spanning tree.
    shown: bool,
}

/// All kinds but the root.
pub const CHAIN_KINDS: &[ChainKind] = &[
    ChainKind { prefix: "mac", priority: -800, shown: true },
    ChainKind { prefix: "vlan", priority: -750, shown: true },
    ChainKind { prefix: "stp", priority: -810, shown: false },
    ChainKind { prefix: "arp", priority: -500, shown: true },
    ChainKind { prefix: "rarp", priority: -400, shown: true },
    ChainKind { prefix: "ipv4", priority: -700, shown: true },
    ChainKind { prefix: "ipv6", priority: -600, shown: true },
];

/// A filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Its name.
    pub name: String,
    /// The chain its rules are in.
    pub chain: Chain,
    /// When the root chain's rules are gone through, as the document says; kept for it alone.
    pub root_priority: Option<i32>,
    /// Given by the daemon when the document has none.
    pub uuid: Option<Uuid>,
    /// Rules and references in the document's order.
    pub entries: Vec<Entry>,
}

/// A chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Chain {
    /// Where every packet of the card begins.
    #[default]
    Root,
    /// One that only certain frames enter.
    Named {
        /// Its name.
        name: String,
        /// Its kind.
        kind: &'static ChainKind,
        /// When it is entered; `None` is the kind's own.
        priority: Option<i32>,
    },
}

/// A part of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A rule.
    Rule(Rule),
    /// Another filter.
    Ref(FilterRef),
}

impl Filter {
    /// Reads a document.
    ///
    /// # Errors
    /// libvirt's code and text for what is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        virt_xml::parse(text, "filter", Mode::CONFIG, Domain::Nwfilter)
    }

    /// Writes the document, ending in a newline.
    pub fn format(&self) -> String {
        virt_xml::format(self, "filter", Mode::CONFIG)
    }

    /// The filters it refers to.
    pub fn references(&self) -> impl Iterator<Item = &FilterRef> {
        self.entries.iter().filter_map(|e| match e {
            Entry::Ref(reference) => Some(reference),
            Entry::Rule(_) => None,
        })
    }
}

fn invalid(text: impl Into<String>) -> Error {
    Error::new(Code::InvalidArg, Domain::Nwfilter, text)
}

impl Chain {
    /// The chain's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Root => "root",
            Self::Named { name, .. } => name,
        }
    }

    fn read(e: El<'_>, given: Option<i32>) -> Result<Self> {
        let name = match e.attr("chain") {
            None | Some("" | "root") => return Ok(Self::Root),
            Some(name) => name,
        };
        let good = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
        if name.len() > CHAIN {
            return Err(invalid(format!("Name of chain is longer than {CHAIN} characters")));
        }
        if !name.chars().all(good) {
            return Err(invalid("Chain name contains invalid characters"));
        }
        let kind = CHAIN_KINDS.iter().find(|k| name.starts_with(k.prefix)).ok_or_else(|| {
            let known: Vec<&str> = CHAIN_KINDS.iter().map(|k| k.prefix).collect();
            invalid(format!(
                "Invalid chain name '{name}'. Please use a chain name called 'root' or any of the following \
                 prefixes: {}",
                known.join(", ")
            ))
        })?;
        let priority = given.or(kind.shown.then_some(kind.priority));
        Ok(Self::Named { name: name.into(), kind, priority })
    }
}

/// The priority a filter's document gives.
fn priority(e: El<'_>) -> Result<Option<i32>> {
    let Some(text) = e.attr("priority") else { return Ok(None) };
    let number = virt_xml::parse_int(text, 10).and_then(|n| i32::try_from(n).ok());
    match number {
        None => Err(invalid(format!("Could not parse chain priority '{text}'"))),
        Some(n) if !(-1000..=1000).contains(&n) => {
            Err(invalid(format!("Priority '{text}' is outside valid range of [-1000,1000]")))
        }
        given => Ok(given),
    }
}

impl Xml for Filter {
    fn read(e: El<'_>) -> Result<Self> {
        let name = e.attr("name").unwrap_or_default();
        if name.is_empty() {
            return Err(Error::internal(Domain::Nwfilter, "filter has no name"));
        }
        let given = priority(e)?;
        let chain = Chain::read(e, given)?;
        let named = e.attr("chain").is_some_and(|c| !c.is_empty());
        let root_priority = given.filter(|_| named && chain == Chain::Root);
        let uuid = match e.child("uuid") {
            None => None,
            Some(uuid) => {
                let malformed = |_| e.error(Code::XmlError, Domain::Nwfilter, "malformed uuid element");
                Some(<UuidText as Codec<Uuid>>::parse(&uuid.text()).map_err(malformed)?)
            }
        };
        let mut entries = Vec::new();
        for child in e.children() {
            match child.name() {
                "rule" => entries.push(Entry::Rule(Rule::read(child)?)),
                "filterref" => entries.push(Entry::Ref(FilterRef::read(child)?)),
                _ => {}
            }
        }
        Ok(Self { name: name.into(), chain, root_priority, uuid, entries })
    }
    fn write_attrs(&self, w: &mut Writer) {
        w.attr("name", &self.name);
        w.attr("chain", self.chain.name());
        let priority = match self.chain {
            Chain::Root => self.root_priority,
            Chain::Named { priority, .. } => priority,
        };
        // 0 is not written, as in the reference.
        if let Some(priority) = priority.filter(|p| *p != 0) {
            w.attr("priority", &priority.to_string());
        }
    }
    fn write_children(&self, w: &mut Writer) {
        if let Some(uuid) = &self.uuid {
            w.leaf::<UuidText, Uuid>("uuid", uuid);
        }
        for entry in &self.entries {
            match entry {
                Entry::Rule(rule) => w.element("rule", rule),
                Entry::Ref(reference) => w.element("filterref", reference),
            }
        }
    }
    fn shape(s: &mut Shape) {
        for name in ["name", "chain", "priority"] {
            s.attr("", name);
        }
        s.leaf("", "uuid");
        s.child::<Rule>("", "rule");
        s.child::<FilterRef>("", "filterref");
    }
}
