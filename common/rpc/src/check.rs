//! Checks of arguments that handlers of all daemons share.

use virt_error::{Domain, Error, Result};

/// Refuses flag bits outside `known`; `function` is the name libvirt's text carries.
///
/// # Errors
/// Code 8 with "unsupported flags (0x..) in function ..".
pub fn flags(domain: Domain, given: u32, known: u32, function: &'static str) -> Result<()> {
    match given & !known {
        0 => Ok(()),
        unknown => Err(Error::unsupported_flags(domain, function, unknown)),
    }
}

/// Whether an object passes a list's filter: groups of (bit for yes, bit for no, what it is); in each group no bit means
/// all.
pub fn passes(filter: u32, groups: &[(u32, u32, bool)]) -> bool {
    groups.iter().all(|(yes, no, is)| filter & (yes | no) == 0 || filter & if *is { *yes } else { *no } != 0)
}
