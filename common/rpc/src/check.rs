//! Checks of arguments that handlers of all daemons share.

use virt_error::{Code, Domain, Error, Result};

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

/// Refuses the bit that asks for a document to be held against its schema: schema files are not read yet, and to accept
/// without looking would be a lie.
///
/// # Errors
/// Code 74.
pub fn no_validation(domain: Domain, given: u32, validate: u32) -> Result<()> {
    if given & validate == 0 {
        return Ok(());
    }
    let text = "validation of documents against the schema is not available";
    Err(Error::new(Code::ArgumentUnsupported, domain, text))
}

/// Whether an object passes a list's filter: groups of (bit for yes, bit for no, what it is); in each group no bit means
/// all.
pub fn passes(filter: u32, groups: &[(u32, u32, bool)]) -> bool {
    groups.iter().all(|(yes, no, is)| filter & (yes | no) == 0 || filter & if *is { *yes } else { *no } != 0)
}
