//! What we know of a file's format because we made it: kept in an extended attribute that no guest can write.
//!
//! A guest writes its raw disk from the first byte on and so could make it look like an image with a base of its choice. A
//! file that was made as raw stays raw, whatever stands in it, until somebody on the host uploads something else.

use std::path::Path;

/// Only processes with CAP_SYS_ADMIN write or read such names; QEMU has no such right.
const NAME: &str = "trusted.virtd.format";

/// Notes the format a file was made with. A file system without such attributes keeps nothing.
pub fn set(path: &Path, format: &str) {
    let flags = rustix::fs::XattrFlags::empty();
    if let Err(error) = rustix::fs::setxattr(path, NAME, format.as_bytes(), flags) {
        tracing::debug!(%error, path = %path.display(), "a volume's format is not noted");
    }
}

/// Whether the file was made as raw.
pub fn is_raw(path: &Path) -> bool {
    let mut value = [0; 8];
    match rustix::fs::getxattr(path, NAME, &mut value) {
        Ok(n) => value.get(..n) == Some(b"raw"),
        Err(_) => false,
    }
}

/// Forgets it: the file got new content from a user of the host.
pub fn clear(path: &Path) {
    let _ = rustix::fs::removexattr(path, NAME);
}
