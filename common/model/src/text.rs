//! Small values with a spelling of their own: UUIDs and MAC addresses.

use std::fmt::{self, Write};

use uuid::Uuid;
use virt_xml::{Bad, Codec, Value};

/// A UUID: read with or without dashes and leading blanks, written with dashes in lower case.
pub struct UuidText;

impl Codec<Uuid> for UuidText {
    fn parse(text: &str) -> Result<Uuid, Bad> {
        let bare: String = text.chars().filter(|c| *c != '-' && !c.is_whitespace()).collect();
        if bare.len() != 32 || !bare.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Bad::Unknown);
        }
        Uuid::parse_str(&bare).map_err(|_| Bad::Unknown)
    }
    fn put(value: &Uuid, out: &mut String) {
        let _ = write!(out, "{}", value.hyphenated());
    }
}

/// A network card's hardware address, written in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Mac(pub [u8; 6]);

impl Value for Mac {
    fn parse(text: &str) -> Result<Self, Bad> {
        let mut out = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut out {
            let part = parts.next().filter(|p| matches!(p.len(), 1 | 2)).ok_or(Bad::Unknown)?;
            if !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(Bad::Unknown);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| Bad::Unknown)?;
        }
        if parts.next().is_some() { Err(Bad::Unknown) } else { Ok(Self(out)) }
    }
    fn put(&self, out: &mut String) {
        let _ = write!(out, "{self}");
    }
}

/// A hardware address that is written as it was read, as the reference keeps some.
#[derive(Debug, Clone, Eq)]
pub struct WrittenMac {
    /// What it says.
    pub mac: Mac,
    text: String,
}

impl WrittenMac {
    /// As it was read.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for WrittenMac {
    /// Whether both say the same, however it is written.
    fn eq(&self, other: &Self) -> bool {
        self.mac == other.mac
    }
}

impl From<Mac> for WrittenMac {
    fn from(mac: Mac) -> Self {
        Self { mac, text: mac.to_string() }
    }
}

impl Value for WrittenMac {
    fn parse(text: &str) -> Result<Self, Bad> {
        Ok(Self { mac: Mac::parse(text)?, text: text.to_string() })
    }
    fn put(&self, out: &mut String) {
        out.push_str(&self.text);
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
