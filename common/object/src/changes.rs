//! A count of changes that other processes read without a call: while it stands still, what they were told still holds.
//!
//! ```text
//!   daemon: publish a change -> note -> answer          reader: read the count -> ask -> keep the answer
//!                                                               the count is the same? the answer holds : ask again
//! ```
//!
//! A daemon has one count for all its objects: [`crate::registry`] notes what it shows and takes away, and each published
//! state. The count is in a memory file: the daemon's instance and the count, eight bytes each, little endian. Readers
//! cannot write it. A daemon whose count nobody reads has no file and counts nothing.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::sync::{LazyLock, OnceLock};

use parking_lot::Mutex;
use rustix::fs::{MemfdFlags, Mode, fchmod, memfd_create};

const INSTANCE_AT: u64 = 0;
const COUNT_AT: u64 = 8;

static INSTANCE: LazyLock<u64> = LazyLock::new(|| {
    let mut bytes = [0; 8];
    // Without random bytes nobody is told a number, and nobody asks for the count.
    getrandom::fill(&mut bytes).map_or(0, |()| u64::from_le_bytes(bytes))
});
static COUNT: OnceLock<Count> = OnceLock::new();
static MAKING: Mutex<()> = Mutex::new(());

struct Count {
    file: File,
    now: Mutex<u64>,
}

/// A number of this run of the daemon; 0 when it has none.
pub fn instance() -> u64 {
    *INSTANCE
}

/// Counts a change. Call it when the change can be seen and before it is answered.
pub fn note() {
    // Who gets a reader later asks later, and is told of this change.
    let Some(count) = COUNT.get() else { return };
    let mut now = count.now.lock();
    *now = now.wrapping_add(1);
    if let Err(error) = count.file.write_all_at(&now.to_le_bytes(), COUNT_AT) {
        tracing::error!(%error, "a change is not counted");
    }
}

/// A descriptor for a reader.
///
/// # Errors
/// The kernel's, when it has no room.
pub fn reader() -> io::Result<OwnedFd> {
    let making = MAKING.lock();
    let count = match COUNT.get() {
        Some(count) => count,
        None => {
            let made = Count::new()?;
            COUNT.get_or_init(|| made)
        }
    };
    drop(making);
    let path = format!("/proc/self/fd/{}", count.file.as_raw_fd());
    Ok(File::open(path)?.into())
}

impl Count {
    fn new() -> io::Result<Self> {
        let file: File = memfd_create("changes", MemfdFlags::CLOEXEC)?.into();
        // Nobody else opens it for writing by another way.
        fchmod(&file, Mode::RUSR | Mode::WUSR)?;
        file.write_all_at(&INSTANCE.to_le_bytes(), INSTANCE_AT)?;
        file.write_all_at(&[0; 8], COUNT_AT)?;
        Ok(Self { file, now: Mutex::new(0) })
    }
}

/// A reader's side.
#[derive(Debug)]
pub struct Reader {
    file: File,
    instance: u64,
}

impl Reader {
    /// From a daemon's descriptor.
    ///
    /// # Errors
    /// The kernel's; an end of the file for what is no count.
    pub fn new(descriptor: OwnedFd) -> io::Result<Self> {
        let file = File::from(descriptor);
        let instance = number(&file, INSTANCE_AT)?;
        Ok(Self { file, instance })
    }

    /// Which run of which daemon it counts.
    pub fn instance(&self) -> u64 {
        self.instance
    }

    /// How many changes there were. It takes no longer than a call of the kernel: the file is in memory.
    ///
    /// # Errors
    /// The kernel's; an end of the file for what is no count.
    pub fn count(&self) -> io::Result<u64> {
        number(&self.file, COUNT_AT)
    }
}

fn number(file: &File, at: u64) -> io::Result<u64> {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at)?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_every_change_and_make_none() {
        let reader = Reader::new(reader().unwrap()).unwrap();
        assert_eq!(reader.instance(), instance());
        let before = reader.count().unwrap();
        note();
        assert_ne!(reader.count().unwrap(), before);
        assert!(reader.file.write_all_at(b"x", 0).is_err());
        let file = tempfile::tempfile().unwrap();
        assert!(Reader::new(file.into()).is_err());
    }

    #[test]
    fn what_a_registry_shows_is_counted() {
        use crate::registry::{DOMAIN, Entry, Registry};
        let reader = Reader::new(reader().unwrap()).unwrap();
        let registry = std::sync::Arc::new(Registry::new(DOMAIN));
        let uuid = uuid::Uuid::from_u128(7);
        let mut last = reader.count().unwrap();
        let mut counted = |what: &str| {
            let now = reader.count().unwrap();
            assert_ne!(std::mem::replace(&mut last, now), now, "{what}");
        };
        registry.insert("one", uuid, Entry::new(1)).unwrap();
        counted("it came");
        registry.by_name("one").unwrap().publish(2);
        counted("its state changed");
        registry.set_id(&uuid, Some(3));
        counted("it runs");
        registry.rename(&uuid, "two").unwrap().commit();
        counted("its name changed");
        registry.remove(&uuid);
        counted("it went");
    }
}
