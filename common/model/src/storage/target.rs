//! Where volumes appear, and who may use them.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{Bad, Codec, El, Say, Value, Xml};

/// `<target>` of a pool.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct PoolTarget {
    #[xml(leaf)]
    pub path: Option<String>,
    #[xml(child)]
    pub permissions: Permissions,
}

/// Owner and mode; what is missing is the driver's choice.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = Permissions::before, check = Permissions::check)]
pub struct Permissions {
    #[xml(leaf, with = Octal)]
    pub mode: Option<u32>,
    #[xml(leaf, with = Id<'o'>)]
    pub owner: Option<u32>,
    #[xml(leaf, with = Id<'g'>)]
    pub group: Option<u32>,
    #[xml(leaf)]
    pub label: Option<String>,
}

impl Permissions {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Who owns it cannot be left open by an empty element.
    fn before(e: El<'_>) -> Result<()> {
        let empty = |name: &str| e.child(name).is_some_and(|c| c.text().is_empty());
        for (name, say) in [("owner", &BAD_OWNER), ("group", &BAD_GROUP)] {
            if empty(name) {
                return Err(e.say(say, ""));
            }
        }
        Ok(())
    }

    fn check(&mut self, _: El<'_>) -> Result<()> {
        // All bits set stands for "not said".
        self.owner.take_if(|id| *id == u32::MAX);
        self.group.take_if(|id| *id == u32::MAX);
        Ok(())
    }
}

/// A mode in octal, written with a leading zero.
pub struct Octal;

static BAD_MODE: Say = Say { code: Code::XmlError, domain: Domain::Storage, text: "malformed octal mode" };
static BAD_OWNER: Say =
    Say { code: Code::XmlError, domain: Domain::Storage, text: "malformed owner element" };
static BAD_GROUP: Say =
    Say { code: Code::XmlError, domain: Domain::Storage, text: "malformed group element" };

impl Codec<u32> for Octal {
    fn parse(text: &str) -> Result<u32, Bad> {
        let mode = u32::from_str_radix(text.trim_ascii_start(), 8).ok().filter(|m| *m <= 0o777);
        mode.ok_or(Bad::Own(&BAD_MODE))
    }
    fn put(value: &u32, out: &mut String) {
        use std::fmt::Write;
        let _ = write!(out, "0{value:o}");
    }
}

/// A user or group id; -1 stands for none.
pub struct Id<const WHOSE: char>;

impl<const WHOSE: char> Codec<u32> for Id<WHOSE> {
    fn parse(text: &str) -> Result<u32, Bad> {
        let bad = Bad::Own(if WHOSE == 'o' { &BAD_OWNER } else { &BAD_GROUP });
        match virt_xml::parse_int(text, 10) {
            Some(-1) => Ok(u32::MAX),
            Some(n) => u32::try_from(n).map_err(|_| bad),
            None => Err(bad),
        }
    }
    fn put(value: &u32, out: &mut String) {
        value.put(out);
    }
}
