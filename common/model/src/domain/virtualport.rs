//! The port of a switch that knows its guests: of a card, a network, a portgroup, a card's place in a network.

use virt_xml::rt_error::{Code, Domain, Error, Result};
use virt_xml::{Base0, El, Mode, Xml, parse_int};

use crate::{Uuid, UuidText};

/// `<virtualport>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = VirtualPort::before, check = VirtualPort::check)]
pub struct VirtualPort {
    #[xml(attr = "type")]
    pub kind: Option<String>,
    #[xml(child)]
    pub parameters: VirtualPortParameters,
}

/// What the switch must know.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = parameters)]
pub struct VirtualPortParameters {
    #[xml(attr, with = Base0)]
    pub managerid: Option<u32>,
    #[xml(attr, with = Base0)]
    pub typeid: Option<u32>,
    #[xml(attr, with = Base0)]
    pub typeidversion: Option<u32>,
    #[xml(attr, with = UuidText)]
    pub instanceid: Option<Uuid>,
    #[xml(attr, with = UuidText)]
    pub interfaceid: Option<Uuid>,
    #[xml(attr, loose, keep_if = is_named)]
    pub profileid: Option<String>,
}

fn is_named(profile: &str, _: Mode) -> bool {
    !profile.is_empty()
}

/// The longest name of a profile.
const PROFILE: usize = 39;
/// Kinds of switches, and what each is told.
const KINDS: [(&str, &[&str]); 4] = [
    ("802.1Qbg", &["managerid", "typeid", "typeidversion", "instanceid"]),
    ("802.1Qbh", &["profileid"]),
    ("openvswitch", &["interfaceid", "profileid"]),
    // A profile is passed over.
    ("midonet", &["interfaceid", "profileid"]),
];

fn xml(e: El<'_>, text: impl Into<String>) -> Error {
    e.error(Code::XmlError, Domain::None, text)
}

fn parameters(e: El<'_>) -> Result<()> {
    let numbers = [("managerid", 0xff, "of"), ("typeid", 0xff_ffff, "for"), ("typeidversion", 0xff, "of")];
    for (name, most, of) in numbers {
        let Some(text) = e.attr(name) else { continue };
        let fits = |n: &i128| u32::try_from(n.abs()).is_ok();
        let Some(number) = parse_int(text, 0).filter(fits) else {
            return Err(xml(e, format!("cannot parse value of {name} parameter")));
        };
        if !(0..=most).contains(&number) {
            return Err(xml(e, format!("value {of} {name} out of range")));
        }
    }
    for name in ["instanceid", "interfaceid"] {
        let read = e.attr(name).map(<UuidText as virt_xml::Codec<Uuid>>::parse);
        if matches!(read, Some(Err(_))) {
            return Err(xml(e, format!("cannot parse {name} parameter as a uuid")));
        }
    }
    match e.attr("profileid").is_some_and(|p| p.len() > PROFILE) {
        true => Err(xml(e, "profileid parameter too long")),
        false => Ok(()),
    }
}

/// Whether the port is somebody's for certain: it must be whole then. What a network leads to may add to a card's.
fn is_whole(e: El<'_>) -> bool {
    e.parent().is_some_and(|p| p.name() == "interface" && matches!(p.attr("type"), Some("bridge" | "direct")))
}

impl VirtualPort {
    fn before(e: El<'_>) -> Result<()> {
        match e.attr("type") {
            Some(kind) if !KINDS.iter().any(|(k, _)| *k == kind) => {
                let text = format!("unknown virtualport type {kind}");
                Err(e.error(Code::ConfigUnsupported, Domain::None, text))
            }
            None if is_whole(e) || e.parent().is_some_and(|p| p.name() == "network") => {
                Err(xml(e, "missing required virtualport type"))
            }
            _ => Ok(()),
        }
    }

    fn check(&mut self, e: El<'_>) -> Result<()> {
        let Some(kind) = self.kind.as_deref() else { return Ok(()) };
        let known = KINDS.iter().find(|(k, _)| *k == kind).map_or(&[][..], |(_, known)| known);
        let there = self.parameters.there();
        let bad = |text: String| Err(e.error(Code::XmlError, Domain::Net, text));
        if is_whole(e) {
            let optional = |name: &str| {
                name == "instanceid" || kind == "openvswitch" || (kind == "midonet" && name == "profileid")
            };
            let missing =
                |name: &&&str| !optional(name) && !there.iter().any(|(n, there)| n == *name && *there);
            if let Some(name) = known.iter().find(missing) {
                return bad(format!("missing {name} in <virtualport type='{kind}'>"));
            }
        }
        if let Some((name, _)) = there.iter().find(|(name, there)| *there && !known.contains(name)) {
            return bad(format!("extra {name} unsupported in <virtualport type='{kind}'>"));
        }
        if kind == "midonet" {
            self.parameters.profileid = None;
        }
        Ok(())
    }

    /// Gives the port of a guest's card the names that tell it from others, where the document has none.
    pub fn name(&mut self, fresh: &mut dyn FnMut() -> Uuid) {
        let kind = self.kind.as_deref();
        if kind.is_none_or(|k| k == "802.1Qbg") {
            self.parameters.instanceid.get_or_insert_with(&mut *fresh);
        }
        if kind.is_none_or(|k| k == "openvswitch") {
            self.parameters.interfaceid.get_or_insert_with(fresh);
        }
    }
}

impl VirtualPortParameters {
    /// Whether each is there, in the order in which what is too much is told.
    fn there(&self) -> [(&'static str, bool); 6] {
        [
            ("managerid", self.managerid.is_some()),
            ("typeid", self.typeid.is_some()),
            ("typeidversion", self.typeidversion.is_some()),
            ("instanceid", self.instanceid.is_some()),
            ("profileid", self.profileid.is_some()),
            ("interfaceid", self.interfaceid.is_some()),
        ]
    }
}
