//! Changing one part of a network's document. Pure; codes, texts and the order of the checks are the reference's: the
//! part is read as XML, then the section must be one that can be changed, then comes the part's own place, its fields,
//! and last the command.

mod dhcp;
mod dns;
mod pool;

use virt_consts::*;
use virt_error::{Code, Domain, Error, Result};
use virt_model::network::Network;
use virt_model::{Element, Mode};
use virt_xml::{Document, Node, Xml};

/// What is done with the part (virNetworkUpdateCommand).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// It replaces the one it matches.
    Modify,
    /// The one it matches goes.
    Delete,
    /// It comes after all others.
    AddLast,
    /// It comes before all others.
    AddFirst,
    /// None that there is: refused once the part was found good.
    Unknown(u32),
}

impl Command {
    /// From the API's number.
    pub fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Modify,
            2 => Self::Delete,
            3 => Self::AddLast,
            4 => Self::AddFirst,
            _ => Self::Unknown(number),
        }
    }

    /// Whether the part only has to name the one it matches.
    fn names_only(self) -> bool {
        self == Self::Delete
    }
}

/// The names of the sections, by number, as texts have them.
const SECTIONS: [&str; 13] = [
    "none",
    "bridge",
    "domain",
    "ip",
    "ip-dhcp-host",
    "ip-dhcp-range",
    "forward",
    "forward interface",
    "forward pf",
    "portgroup",
    "dns-host",
    "dns-txt",
    "dns-srv",
];

fn unsupported(text: impl Into<String>) -> Error {
    Error::new(Code::OperationUnsupported, Domain::Network, text)
}

fn unrecognized(number: u32) -> Error {
    unsupported(format!("unrecognized network update command code {number}"))
}

/// A change that was asked for.
#[derive(Debug, Clone)]
pub struct Update {
    /// What is done.
    pub command: Command,
    /// virNetworkUpdateSection.
    pub section: u32,
    /// Which of several `<ip>`; negative for the one that fits.
    pub parent: i32,
    /// The part's document.
    pub xml: String,
}

impl Update {
    /// Applies the change.
    ///
    /// # Errors
    /// Code 84 for a section or command that there is none of, 55 for a part that is or is not there, 27 for another
    /// element than the section's, and what the part's own rules refuse.
    pub fn apply(&self, net: &mut Network) -> Result<()> {
        let document = Document::parse(&self.xml, Mode::CONFIG, Domain::Network)?;
        let part = document.root().to_element();
        match i32::try_from(self.section).unwrap_or(-1) {
            VIR_NETWORK_SECTION_IP_DHCP_HOST => self.dhcp_host(net, part),
            VIR_NETWORK_SECTION_IP_DHCP_RANGE => self.dhcp_range(net, part),
            VIR_NETWORK_SECTION_FORWARD_INTERFACE => self.interface(net, part),
            VIR_NETWORK_SECTION_PORTGROUP => self.portgroup(net, part),
            VIR_NETWORK_SECTION_DNS_HOST => self.dns_host(net, part),
            VIR_NETWORK_SECTION_DNS_TXT => self.dns_txt(net, part),
            VIR_NETWORK_SECTION_DNS_SRV => self.dns_srv(net, part),
            _ => {
                let known = SECTIONS.get(self.section as usize).filter(|_| self.section > 0);
                Err(match known {
                    Some(name) => {
                        unsupported(format!("can't update '{name}' section of network '{}'", net.name()))
                    }
                    None => unsupported("can't update unrecognized section of network".to_string()),
                })
            }
        }
    }

    /// The part's element must be the section's.
    fn expect(net: &Network, part: &Element, name: &str) -> Result<()> {
        if part.name == name {
            return Ok(());
        }
        let text = format!(
            "unexpected element <{}>, expecting <{name}>, while updating network '{}'",
            part.name,
            net.name()
        );
        Err(Error::new(Code::XmlError, Domain::Network, text))
    }

    /// Reads the part as it would be within `places` of the network's document. With `partial` what it must have may be
    /// missing.
    fn read<T: Xml>(net: &Network, part: Element, places: Vec<Element>, partial: bool) -> Result<T> {
        let depth = places.len();
        let within = places.into_iter().rev().fold(part, |inner, mut place| {
            place.children.push(Node::Element(inner));
            place
        });
        let title = element("name", &[], vec![Node::Text(net.name().into())]);
        let root = element("network", &[], vec![Node::Element(title), Node::Element(within)]);
        let mut text = String::new();
        root.dump(&mut text, 0, true);
        let mode = if partial { Mode::CONFIG.partial() } else { Mode::CONFIG };
        let document = Document::parse(&text, mode, Domain::Network)?;
        let mut at = document.root().children().nth(1);
        for _ in 0..depth {
            at = at.and_then(|e| e.children().next());
        }
        T::read(at.ok_or_else(|| Error::internal(Domain::Network, "a part lost its place"))?)
    }

    fn insert<T>(&self, list: &mut Vec<T>, value: T) {
        match self.command {
            Command::AddFirst => list.insert(0, value),
            _ => list.push(value),
        }
    }
}

fn element(name: &str, attrs: &[(&str, String)], children: Vec<Node>) -> Element {
    let attrs = attrs.iter().map(|(k, v)| ((*k).to_string(), v.clone())).collect();
    Element { name: name.into(), attrs, children }
}
