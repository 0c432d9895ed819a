//! Ports of the host that lead to guests of a network: an extension in a namespace of our own.
//!
//! A network has it below its `<metadata>`, where the reference keeps it, so a switch back and forth loses nothing:
//!
//! ```xml
//! <metadata>
//!   <virtd:portForwards xmlns:virtd='https://virtd.example/network/1'>
//!     <virtd:portForward proto='tcp' address='192.0.2.1' dev='eth0' guest='192.168.122.10'>
//!       <virtd:range start='8080' end='8089' to='80'/>
//!     </virtd:portForward>
//!   </virtd:portForwards>
//! </metadata>
//! ```
//!
//! A port has the element at its end; its forwards lead to the port's own card when they name no guest.

use core::net::IpAddr;

use virt_xml::rt_error::{Code, Domain, Error, Result};
use virt_xml::{Document, El, Mode, Value, Writer, Xml, names};

use super::Network;
use crate::Mac;

/// The namespace of the extension.
pub const NAMESPACE: &str = "https://virtd.example/network/1";
const BARE: [&str; 3] = ["portForwards", "portForward", "range"];
const PREFIXED: [&str; 3] = ["virtd:portForwards", "virtd:portForward", "virtd:range"];
/// Ports of one range, and forwards of one document, at most.
const MOST: usize = 1024;

names! {
    /// A transport protocol.
    pub enum Transport { Tcp = "tcp", Udp = "udp" }
}

/// Where a forward leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    /// This address.
    Address(IpAddr),
    /// The address that this card has: kept for it in the document, or leased.
    Card(Mac),
}

/// A range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first port of the host.
    pub start: u16,
    /// The last one.
    pub end: u16,
    /// The guest's port that `start` leads to.
    pub to: u16,
}

/// Ports of the host that lead to one guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortForward {
    /// Which ports are meant.
    pub proto: Transport,
    /// Only this address of the host.
    pub address: Option<IpAddr>,
    /// Only what comes in here.
    pub dev: Option<String>,
    /// Where it leads; unset in a port's document for the port's own card.
    pub guest: Option<Guest>,
    /// Which ports; at least one.
    pub ranges: Vec<Range>,
}

/// The forwards of a network or a port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortForwards {
    /// In the document's order.
    pub forwards: Vec<PortForward>,
}

fn bad(e: El<'_>, text: impl Into<String>) -> Error {
    e.error(Code::XmlError, Domain::Network, text)
}

fn ours<'d>(e: El<'d>, local: &'d str) -> impl Iterator<Item = El<'d>> {
    e.children().filter(move |c| c.local_name() == local && c.namespace() == Some(NAMESPACE))
}

fn address(e: El<'_>, name: &str) -> Result<Option<IpAddr>> {
    let Some(text) = e.attr(name) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| bad(e, format!("Invalid {name} '{text}' in port forward")))
}

fn port(e: El<'_>, name: &str) -> Result<Option<u16>> {
    let Some(text) = e.attr(name) else { return Ok(None) };
    let number = text.parse().ok().filter(|n| *n > 0);
    number.map(Some).ok_or_else(|| bad(e, format!("Invalid {name} port '{text}' in port forward")))
}

impl Range {
    /// A range, if it is one: not empty, not too long, and its ports exist on both sides.
    pub fn new(start: u16, end: u16, to: u16) -> Option<Self> {
        let last = to.checked_add(end.checked_sub(start)?)?;
        (start > 0 && to > 0 && usize::from(last - to) < MOST).then_some(Self { start, end, to })
    }

    /// How many ports come after the first.
    pub fn more(&self) -> u16 {
        self.end.saturating_sub(self.start)
    }

    fn read(e: El<'_>) -> Result<Self> {
        let start = port(e, "start")?.ok_or_else(|| bad(e, "Missing start port in port forward"))?;
        let (end, to) = (port(e, "end")?.unwrap_or(start), port(e, "to")?.unwrap_or(start));
        let text = || format!("Invalid port range {start}-{end} to {to} in port forward");
        Self::new(start, end, to).ok_or_else(|| bad(e, text()))
    }
}

impl PortForward {
    /// Whether both take one of the host's ports.
    pub fn clashes(&self, other: &Self) -> bool {
        fn both<T: PartialEq>(one: &Option<T>, two: &Option<T>) -> bool {
            one.is_none() || two.is_none() || one == two
        }
        self.proto == other.proto
            && both(&self.address, &other.address)
            && both(&self.dev, &other.dev)
            && self.ranges.iter().any(|a| other.ranges.iter().any(|b| a.start <= b.end && b.start <= a.end))
    }

    fn read(e: El<'_>) -> Result<Self> {
        let proto = e.attr("proto").unwrap_or_default();
        let proto = Transport::from_name(proto)
            .ok_or_else(|| bad(e, format!("Invalid protocol '{proto}' in port forward")))?;
        let guest = match (address(e, "guest")?, e.attr("mac")) {
            (Some(_), Some(_)) => {
                return Err(bad(e, "A port forward leads to a guest or to a mac, not to both"));
            }
            (Some(address), None) => Some(Guest::Address(address)),
            (None, Some(mac)) => {
                let mac =
                    Mac::parse(mac).map_err(|_| bad(e, format!("Invalid mac '{mac}' in port forward")))?;
                Some(Guest::Card(mac))
            }
            (None, None) => None,
        };
        let ranges = ours(e, "range").map(Range::read).collect::<Result<Vec<_>>>()?;
        let (address, dev) = (address(e, "address")?, e.attr("dev").map(str::to_string));
        if ranges.is_empty() {
            return Err(bad(e, "A port forward needs a range of ports"));
        }
        if let (Some(from), Some(Guest::Address(to))) = (address, guest)
            && from.is_ipv4() != to.is_ipv4()
        {
            return Err(bad(e, format!("A port forward cannot lead from {from} to {to}")));
        }
        Ok(Self { proto, address, dev, guest, ranges })
    }

    fn write(&self, w: &mut Writer, [_, forward, range_name]: [&'static str; 3]) {
        w.start(forward);
        w.attr("proto", self.proto.as_str());
        if let Some(address) = self.address {
            w.attr("address", &address.to_string());
        }
        if let Some(dev) = &self.dev {
            w.attr("dev", dev);
        }
        match self.guest {
            Some(Guest::Address(address)) => w.attr("guest", &address.to_string()),
            Some(Guest::Card(mac)) => w.attr("mac", &mac.to_string()),
            None => {}
        }
        for range in &self.ranges {
            w.start(range_name);
            w.attr("start", &range.start.to_string());
            if range.more() > 0 {
                w.attr("end", &range.end.to_string());
            }
            if range.to != range.start {
                w.attr("to", &range.to.to_string());
            }
            w.end();
        }
        w.end();
    }
}

impl PortForwards {
    /// Those of a network.
    ///
    /// # Errors
    /// Code 27 for a wrong value, and for one that leads nowhere.
    pub fn of(net: &Network) -> Result<Self> {
        let Some(element) = net.metadata.get(NAMESPACE) else { return Ok(Self::default()) };
        let mut text = String::new();
        element.dump(&mut text, 0, true);
        let document = Document::parse(&text, Mode::CONFIG, Domain::Network)?;
        let found = Self::list(document.root())?;
        match found.forwards.iter().find(|f| f.guest.is_none()) {
            Some(_) => Err(bad(document.root(), "A port forward of a network needs a guest or a mac")),
            None => Ok(found),
        }
    }

    fn metadata(&self) -> Option<String> {
        if self.forwards.is_empty() {
            return None;
        }
        // Without the prefix, which comes with the metadata's own.
        let mut w = Writer::new(Mode::CONFIG);
        self.write(&mut w, BARE, false);
        Some(w.finish())
    }

    fn write(&self, w: &mut Writer, names: [&'static str; 3], declare: bool) {
        w.start(names[0]);
        if declare {
            w.attr("xmlns:virtd", NAMESPACE);
        }
        for forward in &self.forwards {
            forward.write(w, names);
        }
        w.end();
    }

    /// Keeps these in a network, instead of those it had.
    ///
    /// # Errors
    /// None: what is written can be read.
    pub fn keep_in(&self, net: &mut Network) -> Result<()> {
        net.metadata.set(NAMESPACE, "virtd", self.metadata().as_deref())
    }

    fn list(e: El<'_>) -> Result<Self> {
        if e.local_name() != "portForwards" {
            return Err(bad(e, format!("unexpected element <{}>, expecting <portForwards>", e.name())));
        }
        let forwards = ours(e, "portForward").map(PortForward::read).collect::<Result<Vec<_>>>()?;
        if forwards.len() > MOST {
            return Err(bad(e, "Too many port forwards"));
        }
        let clash =
            forwards.iter().enumerate().find_map(|(at, f)| forwards[..at].iter().find(|o| o.clashes(f)));
        match clash {
            Some(_) => Err(bad(e, "Two port forwards take the same port of the host")),
            None => Ok(Self { forwards }),
        }
    }
}

impl Xml for PortForwards {
    fn read(e: El<'_>) -> Result<Self> {
        ours(e, "portForwards").next().map_or_else(|| Ok(Self::default()), Self::list)
    }
    fn write_attrs(&self, _: &mut Writer) {}
    fn write_children(&self, w: &mut Writer) {
        if !self.forwards.is_empty() {
            self.write(w, PREFIXED, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(inside: &str) -> Result<PortForwards> {
        let text = format!(
            "<network><name>n</name><metadata><x:portForwards xmlns:x='{NAMESPACE}'>{inside}</x:portForwards></metadata>\
             <ip address='10.0.0.1' prefix='24'/></network>"
        );
        PortForwards::of(&Network::parse(&text, Mode::CONFIG).unwrap())
    }

    #[test]
    fn what_is_read_is_written() {
        let inside = "<x:portForward proto='tcp' address='192.0.2.1' dev='eth0' guest='10.0.0.9'>\
                      <x:range start='8080' end='8089' to='80'/><x:range start='22'/></x:portForward>\
                      <x:portForward proto='udp' mac='52:54:00:00:00:01'><x:range start='53'/></x:portForward>";
        let read = parse(inside).unwrap();
        assert_eq!(read.forwards.len(), 2);
        assert_eq!(read.forwards[0].ranges[0], Range { start: 8080, end: 8089, to: 80 });
        let mut net = Network::parse("<network><name>n</name></network>", Mode::CONFIG).unwrap();
        read.keep_in(&mut net).unwrap();
        assert_eq!(PortForwards::of(&net).unwrap(), read, "{}", net.format(Mode::CONFIG));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let one = |attrs: &str, range: &str| {
            format!("<x:portForward proto='tcp' {attrs}><x:range {range}/></x:portForward>")
        };
        let guest = "guest='10.0.0.9'";
        for bad in [
            one("", "start='1'"),
            one(guest, "start='0'"),
            one(guest, "start='9' end='8'"),
            one(guest, "start='1' end='65535'"),
            one(guest, "start='10' end='20' to='65530'"),
            one(guest, "start='80 accept'"),
            one("guest='10.0.0.9; drop'", "start='1'"),
            one("guest='10.0.0.9' mac='52:54:00:00:00:01'", "start='1'"),
            one("guest='10.0.0.9' address='::1'", "start='1'"),
            format!("<x:portForward proto='tcp' {guest}/>"),
            one(guest, "start='1'").replace("tcp", "sctp"),
            one(guest, "start='1' end='5'") + &one(guest, "start='5'"),
        ] {
            assert!(parse(&bad).is_err(), "{bad}");
        }
        assert!(
            parse(&(one(guest, "start='5'") + &one("guest='10.0.0.9' address='192.0.2.1'", "start='6'")))
                .is_ok()
        );
    }
}
