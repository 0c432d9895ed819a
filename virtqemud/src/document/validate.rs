//! What this emulator cannot do, and documents that contradict themselves.

use virt_error::Result;

use super::types::Domain;
use crate::emulator::Emulator;

/// Checks what must hold before addresses are given out.
pub fn before_addresses(def: &Domain, emulator: &Emulator) -> Result<()> {
    let _ = (def, emulator);
    Ok(())
}

/// Checks a completed document.
pub fn check(def: &Domain, emulator: &Emulator) -> Result<()> {
    let _ = (def, emulator);
    Ok(())
}
