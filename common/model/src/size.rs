//! Sizes with units.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, Shape, Writer, Xml, parse_int};

/// The bytes in one `unit`; powers of two for `k`, `KiB` ..., of ten for `KB` ... `None` for an unknown name.
fn unit_bytes(unit: &str) -> Option<u64> {
    if unit.is_empty()
        || unit.eq_ignore_ascii_case("b")
        || unit.eq_ignore_ascii_case("byte")
        || unit.eq_ignore_ascii_case("bytes")
    {
        return Some(1);
    }
    let power = "kmgtpe".find(unit.chars().next()?.to_ascii_lowercase())? as u32 + 1;
    match &unit[1..] {
        "" => Some(1 << (10 * power)),
        rest if rest.eq_ignore_ascii_case("iB") => Some(1 << (10 * power)),
        rest if rest.eq_ignore_ascii_case("B") => Some(1000_u64.pow(power)),
        _ => None,
    }
}

/// The element's text times its `unit` attribute, in bytes; `unit` stands for a missing attribute.
///
/// Errors: 27 for a text that is no number, 8 for an unknown unit, 82 when it does not fit 64 bits.
pub fn scaled(e: El<'_>, unit: u64) -> Result<u64> {
    let text = e.text();
    let Some(n) = parse_int(&text, 10).and_then(|n| u64::try_from(n).ok()) else {
        return Err(e.bad_text(&text, virt_xml::Bad::Expected("Expected non-negative integer value")));
    };
    times_unit(e, n, unit)
}

/// `n` times the element's `unit` attribute, in bytes.
pub(crate) fn times_unit(e: El<'_>, n: u64, unit: u64) -> Result<u64> {
    let named = e.attr("unit").filter(|u| !u.is_empty());
    let unit = match named {
        None => unit,
        Some(name) => unit_bytes(name).ok_or_else(|| {
            e.error(Code::InvalidArg, Domain::None, format!("unknown suffix '{name}'"))
                .with("attribute", "unit")
        })?,
    };
    n.checked_mul(unit).ok_or_else(|| {
        let text = format!("value too large: {n}{}", named.unwrap_or_default());
        e.error(Code::Overflow, Domain::None, text)
    })
}

/// A size in KiB, rounded up; written as `<x unit='KiB'>n</x>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Size {
    /// Whole KiB.
    pub kib: u64,
}

impl Size {
    /// This many KiB.
    pub const fn from_kib(kib: u64) -> Self {
        Self { kib }
    }

    /// In bytes, if that fits.
    pub fn bytes(self) -> Option<u64> {
        self.kib.checked_mul(1024)
    }
}

impl Xml for Size {
    fn read(e: El<'_>) -> Result<Self> {
        if e.text().is_empty() {
            return Ok(Self::default());
        }
        Ok(Self { kib: scaled(e, 1024)?.div_ceil(1024) })
    }
    fn write_attrs(&self, w: &mut Writer) {
        w.attr("unit", "KiB");
    }
    fn write_children(&self, w: &mut Writer) {
        w.text(&self.kib.to_string());
    }
    fn shape(shape: &mut Shape) {
        shape.attr("", "unit");
    }
}

/// A size in bytes written in whole MiB as `unit='M'`; without a unit, a number is MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShmemSize {
    /// Bytes.
    pub bytes: u64,
}

impl Xml for ShmemSize {
    fn read(e: El<'_>) -> Result<Self> {
        Ok(Self { bytes: scaled(e, 1 << 20)? })
    }
    fn write_attrs(&self, w: &mut Writer) {
        w.attr("unit", "M");
    }
    fn write_children(&self, w: &mut Writer) {
        w.text(&(self.bytes >> 20).to_string());
    }
    fn shape(shape: &mut Shape) {
        shape.attr("", "unit");
    }
}

/// A size in bytes written in the largest binary unit that divides it; without a unit, a number is MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TsegSize {
    /// Bytes.
    pub bytes: u64,
}

impl TsegSize {
    fn pretty(self) -> (u64, &'static str) {
        let (mut n, mut unit) = (self.bytes, "B");
        for next in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
            if n == 0 || n % 1024 != 0 {
                break;
            }
            (n, unit) = (n / 1024, next);
        }
        (n, unit)
    }
}

impl Xml for TsegSize {
    fn read(e: El<'_>) -> Result<Self> {
        Ok(Self { bytes: scaled(e, 1 << 20)? })
    }
    fn write_attrs(&self, w: &mut Writer) {
        w.attr("unit", self.pretty().1);
    }
    fn write_children(&self, w: &mut Writer) {
        w.text(&self.pretty().0.to_string());
    }
    fn shape(shape: &mut Shape) {
        shape.attr("", "unit");
    }
}
