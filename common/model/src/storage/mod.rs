//! Storage documents: pools, where they come from, and volumes.
//!
//! What depends on the host (whether a device is there, what is in a pool) is the driver's.
#![allow(missing_docs)] // The fields are the documents' own names; comments stand where there is more to say.

pub mod capabilities;
pub mod kind;
pub mod options;
pub mod pool;
pub mod source;
pub mod target;
pub mod volume;

pub use kind::PoolType;
pub use pool::Pool;
pub use source::PoolSource;
pub use volume::{Volume, VolumeType};

use virt_xml::rt_error::{Code, Domain, Error};
use virt_xml::{El, Shape, Writer, Xml};

/// A size that is told, never asked for: not read, written in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// Bytes.
    pub bytes: u64,
}

impl Xml for Told {
    fn read(_: El<'_>) -> virt_xml::rt_error::Result<Self> {
        Ok(Self::default())
    }
    fn write_attrs(&self, w: &mut Writer) {
        w.attr("unit", "bytes");
    }
    fn write_children(&self, w: &mut Writer) {
        w.text(&self.bytes.to_string());
    }
    fn shape(shape: &mut Shape) {
        shape.attr("", "unit");
    }
}

/// A path without doubled slashes and without one at its end, as the reference keeps paths. Exactly two at its begin
/// stay: POSIX lets them mean something else than one.
pub fn sanitize(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let two = path.strip_prefix("//").filter(|rest| !rest.starts_with('/'));
    if two.is_some() {
        out.push_str("//");
    }
    for c in two.unwrap_or(path).chars() {
        if !(c == '/' && out.ends_with('/')) {
            out.push(c);
        }
    }
    if out.len() > 1 && out != "//" && out.ends_with('/') {
        out.pop();
    }
    out
}

/// "XML error: ..." of the storage driver.
pub(crate) fn xml_error(e: El<'_>, text: impl Into<String>) -> Error {
    e.error(Code::XmlError, Domain::Storage, text)
}

/// "unsupported configuration: ..." of the storage driver.
pub(crate) fn unsupported(e: El<'_>, text: impl Into<String>) -> Error {
    e.error(Code::ConfigUnsupported, Domain::Storage, text)
}

#[cfg(test)]
mod tests {
    use super::sanitize;

    #[test]
    fn paths_lose_what_means_nothing() {
        assert_eq!(sanitize("///var/////lib//"), "/var/lib");
        assert_eq!(sanitize("/"), "/");
        assert_eq!(sanitize("//"), "//");
        assert_eq!(sanitize("//a//b/"), "//a/b");
        assert_eq!(sanitize("///"), "/");
        assert_eq!(sanitize(""), "");
        assert_eq!(sanitize("a//b/"), "a/b");
    }
}
