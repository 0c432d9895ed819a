//! Documents that contradict themselves, whatever the emulator. [`Domain::validate`] is meant for a completed document;
//! the driver's own checks come after.
//!
//! Codes and texts are the reference's, found by asking it.

mod chardev;
mod devices;
mod disk;
mod guest;
mod hostdev;
mod net;
mod tuning;

use virt_error::{Code, Domain as From, Error, Result};

use super::Domain;

impl Domain {
    /// Checks everything that needs no emulator.
    ///
    /// Errors: 27 and 35 for parts that do not fit together, 67 for what no driver supports, 19 for a missing medium,
    /// 1 and 8 where the reference gives those.
    pub fn validate(&self) -> Result<()> {
        guest::check(self)?;
        tuning::check(self)?;
        disk::check(self)?;
        chardev::check(self)?;
        net::check(self)?;
        hostdev::check(self)?;
        devices::check(self)
    }
}

fn fail<T>(code: Code, text: impl Into<String>) -> Result<T> {
    Err(Error::new(code, From::Domain, text))
}

/// 27.
fn xml<T>(text: impl Into<String>) -> Result<T> {
    fail(Code::XmlError, text)
}

/// 35.
fn detail<T>(text: impl Into<String>) -> Result<T> {
    fail(Code::XmlDetail, text)
}

/// 67.
fn unsupported<T>(text: impl Into<String>) -> Result<T> {
    fail(Code::ConfigUnsupported, text)
}

/// 1.
fn internal<T>(text: impl Into<String>) -> Result<T> {
    fail(Code::InternalError, text)
}

/// The first value met twice.
fn twice<T: Ord>(values: impl IntoIterator<Item = T>) -> Option<T> {
    let mut seen = std::collections::BTreeSet::new();
    for v in values {
        if seen.contains(&v) {
            return Some(v);
        }
        seen.insert(v);
    }
    None
}
