//! Single values: how a string becomes a number, a name of a closed set, a switch, and back.

use std::fmt::Write;

use crate::Say;

/// Why a value was refused; the caller adds attribute and element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    /// Not one of a closed set.
    Unknown,
    /// A sentence that follows the value: "Expected integer value".
    Expected(&'static str),
    /// A sentence in place of the value: "Zero is not permitted".
    Whole(&'static str),
    /// No error: the value stands for a missing one.
    Missing,
    /// An error of its own, without attribute and element; `{}` stands for the value.
    Own(&'static Say),
}

impl Bad {
    /// What would have been right, where the refusal says so.
    pub(crate) fn expected(self) -> Option<&'static str> {
        match self {
            Self::Expected(what) | Self::Whole(what) => Some(what),
            Self::Unknown | Self::Missing | Self::Own(_) => None,
        }
    }
}

/// A type with one obvious spelling.
pub trait Value: Sized {
    /// From the document.
    fn parse(text: &str) -> Result<Self, Bad>;
    /// To the document, escaped where it can hold special characters.
    fn put(&self, out: &mut String);
    /// What may stand there, of a closed set.
    fn expected() -> Option<String> {
        None
    }
}

/// A spelling of `T`; chosen per field with `with = ...`.
pub trait Codec<T> {
    /// From the document.
    fn parse(text: &str) -> Result<T, Bad>;
    /// To the document.
    fn put(value: &T, out: &mut String);
    /// What may stand there, of a closed set.
    fn expected() -> Option<String> {
        None
    }
}

/// The type's own spelling.
pub struct Plain;

impl<T: Value> Codec<T> for Plain {
    fn parse(text: &str) -> Result<T, Bad> {
        T::parse(text)
    }
    fn put(value: &T, out: &mut String) {
        value.put(out);
    }
    fn expected() -> Option<String> {
        T::expected()
    }
}

impl Value for String {
    fn parse(text: &str) -> Result<Self, Bad> {
        Ok(text.to_string())
    }
    fn put(&self, out: &mut String) {
        crate::write::escape(self, out);
    }
}

/// An integer as libvirt's C parser takes it: leading blanks and one sign, then digits of `base`; base 0 also takes
/// `0x` and a leading `0` for octal. Nothing may follow.
pub fn parse_int(text: &str, base: u32) -> Option<i128> {
    let text = text.trim_ascii_start();
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let (digits, base) = match (base, hex) {
        (0 | 16, Some(rest)) => (rest, 16),
        (0, None) if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        (0, None) => (digits, 10),
        (b, _) => (digits, b),
    };
    if digits.is_empty() || digits.len() > 30 || digits.starts_with(['+', '-']) {
        return None;
    }
    let n = i128::from_str_radix(digits, base).ok()?;
    Some(if negative { -n } else { n })
}

/// An address as the C library's numeric parser takes it: IPv4 also with fewer than four parts, the last of which
/// fills the rest, and with parts in octal or hexadecimal.
pub fn parse_ip(text: &str) -> Option<std::net::IpAddr> {
    text.parse().ok().or_else(|| loose_ipv4(text).map(Into::into))
}

/// inet_aton(3).
fn loose_ipv4(text: &str) -> Option<std::net::Ipv4Addr> {
    let parts: Vec<u32> = text
        .split('.')
        .map(|part| {
            // Neither a sign nor a blank, which `parse_int` takes.
            let first = part.bytes().next().filter(u8::is_ascii_digit)?;
            let number =
                if first == b'0' && part.len() > 1 { parse_int(part, 0) } else { parse_int(part, 10) };
            u32::try_from(number?).ok()
        })
        .collect::<Option<_>>()?;
    let (last, before) = parts.split_last()?;
    let room = 32 - 8 * u32::try_from(before.len()).ok().filter(|n| *n < 4)?;
    if before.iter().any(|part| *part > 255) || u64::from(*last) >> room != 0 {
        return None;
    }
    let bits = before.iter().zip([24, 16, 8]).fold(*last, |bits, (part, shift)| bits | part << shift);
    Some(bits.into())
}

/// What the reference's address parser says of a text that is none.
pub static NO_ADDRESS: Say = Say {
    code: virt_error::Code::SystemError,
    domain: virt_error::Domain::None,
    text: "Cannot parse socket address '{}': Name or service not known",
};

impl Value for std::net::IpAddr {
    fn parse(text: &str) -> Result<Self, Bad> {
        parse_ip(text).ok_or(Bad::Own(&NO_ADDRESS))
    }
    fn put(&self, out: &mut String) {
        out.push_str(&ip_text(*self));
    }
}

/// An address as the C library writes it: of an IPv6 address that is nothing but an IPv4 one, that in dots.
pub fn ip_text(address: std::net::IpAddr) -> String {
    if let std::net::IpAddr::V6(v6) = address {
        let bits = u128::from(v6);
        if bits >> 32 == 0 && bits >> 16 != 0 {
            return format!("::{}", std::net::Ipv4Addr::from(bits as u32));
        }
    }
    address.to_string()
}

impl Value for std::net::Ipv4Addr {
    fn parse(text: &str) -> Result<Self, Bad> {
        match parse_ip(text) {
            Some(std::net::IpAddr::V4(address)) => Ok(address),
            _ => Err(Bad::Own(&NO_ADDRESS)),
        }
    }
    fn put(&self, out: &mut String) {
        let _ = write!(out, "{self}");
    }
}

const UNSIGNED: Bad = Bad::Expected("Expected non-negative integer value");
const SIGNED: Bad = Bad::Expected("Expected integer value");

macro_rules! integers {
    ($($t:ty: $bad:expr),*) => {$(
        impl Value for $t {
            fn parse(text: &str) -> Result<Self, Bad> {
                parse_int(text, 10).and_then(|n| n.try_into().ok()).ok_or($bad)
            }
            fn put(&self, out: &mut String) {
                let _ = write!(out, "{self}");
            }
        }
        impl Codec<$t> for Base0 {
            fn parse(text: &str) -> Result<$t, Bad> {
                parse_int(text, 0).and_then(|n| n.try_into().ok()).ok_or($bad)
            }
            fn put(value: &$t, out: &mut String) {
                let _ = write!(out, "{value}");
            }
        }
        impl<const WIDTH: usize> Codec<$t> for Hex<WIDTH> {
            fn parse(text: &str) -> Result<$t, Bad> {
                parse_int(text, 0).and_then(|n| n.try_into().ok()).ok_or($bad)
            }
            fn put(value: &$t, out: &mut String) {
                let _ = write!(out, "0x{value:0WIDTH$x}");
            }
        }
        impl<const WIDTH: usize> Codec<$t> for HexUpper<WIDTH> {
            fn parse(text: &str) -> Result<$t, Bad> {
                parse_int(text, 0).and_then(|n| n.try_into().ok()).ok_or($bad)
            }
            fn put(value: &$t, out: &mut String) {
                let _ = write!(out, "0x{value:0WIDTH$X}");
            }
        }
        impl<const WIDTH: usize> Codec<$t> for HexPlain<WIDTH> {
            fn parse(text: &str) -> Result<$t, Bad> {
                parse_int(text, 16).and_then(|n| n.try_into().ok()).ok_or($bad)
            }
            fn put(value: &$t, out: &mut String) {
                let _ = write!(out, "{value:0WIDTH$x}");
            }
        }
        impl Codec<$t> for Lenient {
            fn parse(text: &str) -> Result<$t, Bad> {
                <$t as Value>::parse(text).map_err(|_| Bad::Missing)
            }
            fn put(value: &$t, out: &mut String) {
                let _ = write!(out, "{value}");
            }
        }
        impl Codec<$t> for Wrapping {
            fn parse(text: &str) -> Result<$t, Bad> {
                let n = parse_int(text, 10).and_then(|n| i64::try_from(n).ok()).ok_or($bad)?;
                <$t>::try_from(n).or_else(|_| if n < 0 { Ok(n as $t) } else { Err($bad) })
            }
            fn put(value: &$t, out: &mut String) {
                let _ = write!(out, "{value}");
            }
        }
        impl Codec<$t> for NonZero {
            fn parse(text: &str) -> Result<$t, Bad> {
                match <$t as Value>::parse(text)? {
                    0 => Err(Bad::Whole("Zero is not permitted")),
                    n => Ok(n),
                }
            }
            fn put(value: &$t, out: &mut String) {
                let _ = write!(out, "{value}");
            }
        }
    )*};
}

/// Read in any base C knows (decimal, `0x`, leading `0`), written in decimal.
pub struct Base0;
/// Read in any base, written as `0x` and at least `WIDTH` digits.
pub struct Hex<const WIDTH: usize>;
/// Read in any base, written as `0x` and at least `WIDTH` capital digits.
pub struct HexUpper<const WIDTH: usize>;
/// Hexadecimal without `0x`, at least `WIDTH` digits.
pub struct HexPlain<const WIDTH: usize>;
/// A decimal that may not be 0.
pub struct NonZero;
/// A decimal where a negative one wraps around, as C's parser lets it.
pub struct Wrapping;
/// A decimal that counts as missing when it is no number: the caller looks again where it matters.
pub struct Lenient;

/// An integer that may not be negative; the reference tells two kinds of mistakes here.
pub struct Natural;

const NATURAL: Bad = Bad::Expected("Expected non-negative value");

fn natural<T: TryFrom<i128>>(text: &str) -> Result<T, Bad> {
    let n = parse_int(text, 10).filter(|n| i32::try_from(*n).is_ok()).ok_or(SIGNED)?;
    T::try_from(n).ok().filter(|_| n >= 0).ok_or(NATURAL)
}

impl Codec<u32> for Natural {
    fn parse(text: &str) -> Result<u32, Bad> {
        natural(text)
    }
    fn put(value: &u32, out: &mut String) {
        let _ = write!(out, "{value}");
    }
}

impl Codec<i32> for Natural {
    fn parse(text: &str) -> Result<i32, Bad> {
        natural(text)
    }
    fn put(value: &i32, out: &mut String) {
        let _ = write!(out, "{value}");
    }
}

/// For `read_if`: a number that stands for none when it is 0.
#[must_use]
pub fn not_zero<T: Default + PartialEq>(value: &T, _: crate::Mode) -> bool {
    *value != T::default()
}

integers!(u8: UNSIGNED, u16: UNSIGNED, u32: UNSIGNED, u64: UNSIGNED, i32: SIGNED, i64: SIGNED);

/// `on` and `off` for a `bool`.
pub struct OnOff;
/// `yes` and `no` for a `bool`.
pub struct YesNo;

impl Codec<bool> for OnOff {
    fn parse(text: &str) -> Result<bool, Bad> {
        match text {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err(Bad::Unknown),
        }
    }
    fn put(value: &bool, out: &mut String) {
        out.push_str(if *value { "on" } else { "off" });
    }
    fn expected() -> Option<String> {
        Some("on, off".into())
    }
}

/// `yes` is true and anything else false: fields the reference reads without a look at the word.
pub struct YesElse;

impl Codec<bool> for YesElse {
    fn parse(text: &str) -> Result<bool, Bad> {
        Ok(text == "yes")
    }
    fn put(value: &bool, out: &mut String) {
        YesNo::put(value, out);
    }
}

impl Codec<bool> for YesNo {
    fn parse(text: &str) -> Result<bool, Bad> {
        match text {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err(Bad::Unknown),
        }
    }
    fn put(value: &bool, out: &mut String) {
        out.push_str(if *value { "yes" } else { "no" });
    }
    fn expected() -> Option<String> {
        Some("yes, no".into())
    }
}
