//! Checks that many calls share.

use virt_error::{Domain, Error, Result};

/// Refuses flag bits outside `known`; `function` is the name libvirt's text carries.
///
/// # Errors
/// Code 8 with "unsupported flags (0x..) in function ..".
pub fn flags(given: u32, known: u32, function: &'static str) -> Result<()> {
    flags_of(Domain::Qemu, given, known, function)
}

/// The same where the text comes from another part of libvirt.
///
/// # Errors
/// As [`flags`].
pub fn flags_of(domain: Domain, given: u32, known: u32, function: &'static str) -> Result<()> {
    match given & !known {
        0 => Ok(()),
        unknown => Err(Error::unsupported_flags(domain, function, unknown)),
    }
}
