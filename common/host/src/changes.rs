//! A count of changes that other processes read without a call: while it stands still, what they were told still holds.
//!
//! ```text
//!   daemon: publish a change -> note -> answer          reader: read the count -> ask -> keep the answer
//!                                                               the count is the same? the answer holds : ask again
//! ```
//!
//! The count is in a memory file: eight bytes, little endian. Readers cannot write it.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;

use parking_lot::Mutex;
use rustix::fs::{MemfdFlags, Mode, fchmod, ftruncate, memfd_create};

/// The daemon's side.
#[derive(Debug)]
pub struct Changes {
    file: File,
    count: Mutex<u64>,
}

impl Changes {
    /// A count that begins.
    ///
    /// # Errors
    /// The kernel's, when it has no room.
    pub fn new() -> io::Result<Self> {
        let file = memfd_create("changes", MemfdFlags::CLOEXEC)?;
        // Nobody else opens it for writing by another way.
        fchmod(&file, Mode::RUSR | Mode::WUSR)?;
        ftruncate(&file, 8)?;
        Ok(Self { file: file.into(), count: Mutex::new(0) })
    }

    /// Counts a change. Call it when the change can be seen and before it is answered.
    pub fn note(&self) {
        let mut count = self.count.lock();
        *count = count.wrapping_add(1);
        if let Err(error) = self.file.write_all_at(&count.to_le_bytes(), 0) {
            tracing::error!(%error, "a change is not counted");
        }
    }

    /// A descriptor for a reader.
    ///
    /// # Errors
    /// The kernel's.
    pub fn reader(&self) -> io::Result<OwnedFd> {
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        Ok(File::open(path)?.into())
    }
}

/// A reader's side.
#[derive(Debug)]
pub struct Reader(File);

impl Reader {
    /// From a daemon's descriptor.
    pub fn new(descriptor: OwnedFd) -> Self {
        Self(descriptor.into())
    }

    /// How many changes there were. It takes no longer than a call of the kernel: the file is in memory.
    ///
    /// # Errors
    /// The kernel's; an end of the file for what is no count.
    pub fn count(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, 0)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_every_change_and_make_none() {
        let changes = Changes::new().unwrap();
        let reader = Reader::new(changes.reader().unwrap());
        let before = reader.count().unwrap();
        changes.note();
        assert_ne!(reader.count().unwrap(), before);
        assert!(reader.0.write_all_at(b"x", 0).is_err());
        let file = tempfile::tempfile().unwrap();
        assert!(Reader::new(file.into()).count().is_err());
    }
}
