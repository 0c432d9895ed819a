//! Network filters of a card: virtnwfilterd puts them on the tap before the guest runs.

use virt_error::{Domain as From, Error, Result};
use virt_model::domain::interface::Interface;

/// Has the filters of a card put on its tap.
///
/// # Errors
/// Code 3 for a card with filters: a guest must not run without the rules its document asks for.
pub fn bind(card: &Interface) -> Result<()> {
    match card.filterref.as_ref().and_then(|f| f.filter.as_ref()) {
        Some(_) => Err(Error::no_support(From::Qemu, "virNWFilterBindingCreateXML")),
        None => Ok(()),
    }
}
