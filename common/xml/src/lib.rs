//! An ordered element tree with source positions, and the derive that reads and writes it.
//!
//! [`Document`] is the tree a text was read into, borrowed from the text; [`El`] is a cursor on one element. A type
//! that derives [`Xml`] is read from an [`El`] and written to a [`Writer`]: every field is declared once, so parsing
//! and formatting cannot drift apart, and the order of the fields is the order of the output. See `docs/xml-derive.md`
//! for the field attributes.

mod document;
mod element;
mod enums;
mod field;
mod mode;
mod place;
mod scan;
mod shape;
mod value;
mod write;

pub mod rt;

pub use document::{Document, El};
pub use element::{Element, Node};
pub use field::{Say, Xml};
pub use mode::Mode;
pub use place::{At, Place, locate, unlocated};
pub use shape::Shape;
pub use value::{
    Bad, Base0, Codec, Hex, HexPlain, HexUpper, Lenient, NO_ADDRESS, Natural, NonZero, OnOff, Plain, Value,
    Wrapping, YesElse, YesNo, ip_text, not_zero, parse_int, parse_ip,
};
pub use virt_xml_derive::Xml;
pub use write::Writer;

/// The error types derived code names.
pub use virt_error as rt_error;
use virt_error::{Code, Domain, Result};

/// Reads a whole document whose root element must be `root`.
///
/// Errors: code 35 with the position for text that is not XML, code 27 for another root, and whatever `T` refuses.
pub fn parse<T: Xml>(text: &str, root: &str, mode: Mode, domain: Domain) -> Result<T> {
    parse_judged(text, root, mode, domain, |_| Ok(()))
}

/// Reads a document; of one with several mistakes `judge` says which is told. It is asked only when there is one.
///
/// # Errors
/// As [`parse`].
pub fn parse_judged<T: Xml>(
    text: &str,
    root: &str,
    mode: Mode,
    domain: Domain,
    judge: impl Fn(El<'_>) -> Result<()>,
) -> Result<T> {
    let mut doc = Document::parse(text, mode, domain)?;
    doc.join(T::joined());
    let e = doc.root();
    if e.name() != root {
        let text = format!("expecting root element of '{root}', not '{}'", e.name());
        return Err(e
            .error(Code::XmlError, Domain::Xml, text)
            .with("expected", root)
            .with("value", e.name()));
    }
    T::read(e).map_err(|error| locate(judge(e).err().unwrap_or(error), text))
}

/// Writes `value` as a document with the root element `root`, ending in a newline.
pub fn format<T: Xml>(value: &T, root: &'static str, mode: Mode) -> String {
    let mut w = Writer::new(mode);
    w.element(root, value);
    w.finish()
}
