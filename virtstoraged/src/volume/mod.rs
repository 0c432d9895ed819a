//! Volumes: the published table of a pool, and the jobs that change them.
//!
//! ```text
//!   absent --create--> building --done--> free <--> used (n readers)
//!                         |                 |
//!                         `--failed--> absent <--delete-- (only from free)
//! ```
//!
//! A job that lasts marks its volumes in a short step of the pool's owner, works beside the owner, and settles the marks in
//! another short step. While any runs, the pool cannot be stopped, deleted or read anew.

pub mod create;
pub mod delete;
pub mod jobs;
pub mod resize;
pub mod roll;
pub mod tasks;
pub mod transfer;
pub mod wipe;

use std::sync::{Arc, OnceLock};

use virt_error::{Code, Domain, Error, Result};
use virt_model::storage::volume::Bytes;
use virt_model::storage::{Told, Volume as Document, VolumeType};

use self::roll::Roll;
use crate::pool::invalid;

/// What a volume is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Busy {
    /// Nothing.
    #[default]
    Free,
    /// It is being made, or changed as a whole.
    Building,
    /// This many jobs read or write its content.
    Used(u32),
}

/// One volume as it was at the last look.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Volume {
    /// Its document, as clients see it.
    pub document: Document,
    /// What it is busy with.
    pub busy: Busy,
    /// What its file was when its header was read; while that stays so, it is not read again.
    pub seen: Option<Seen>,
}

/// A file at the time of a look: one that is changed afterwards is told apart by this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Device and inode.
    pub id: (u64, u64),
    /// Length and taken blocks of 512 bytes.
    pub size: (u64, u64),
    /// Mode, owner and group.
    pub access: (u32, u32, u32),
    /// Times of reading, writing and change, each in seconds and nanoseconds.
    pub times: [(i64, i64); 3],
}

impl Volume {
    /// A volume from what a look found.
    pub fn new(document: Document) -> Self {
        Self { document, busy: Busy::Free, seen: None }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.document.name()
    }

    /// What it is known by to all pools.
    pub fn key(&self) -> &str {
        self.document.key.as_deref().unwrap_or_default()
    }

    /// Where it is.
    pub fn path(&self) -> &str {
        self.document.target.path.as_deref().unwrap_or_default()
    }

    /// What it is.
    pub fn kind(&self) -> VolumeType {
        self.document.kind.unwrap_or_default()
    }

    /// Its format; raw where the pool has no formats.
    pub fn format(&self) -> &str {
        self.document.target.format.as_deref().unwrap_or("raw")
    }

    /// The size a guest sees.
    pub fn capacity(&self) -> u64 {
        self.document.capacity.map_or(0, |b| b.0)
    }

    /// What it takes of the pool.
    pub fn allocation(&self) -> u64 {
        self.document.allocation.map_or(0, |b| b.0)
    }

    /// Sets what a look found.
    pub fn set_sizes(&mut self, capacity: u64, allocation: u64, physical: Option<u64>) {
        self.document.capacity = Some(Bytes(capacity));
        self.document.allocation = Some(Bytes(allocation));
        self.document.physical = physical.map(|bytes| Told { bytes });
    }

    /// Refuses a change while something else works on it.
    ///
    /// # Errors
    /// Code 55 in the reference's words.
    pub fn check_free(&self) -> Result<()> {
        match self.busy {
            Busy::Free => Ok(()),
            Busy::Building => Err(invalid(format!("volume '{}' is still being allocated.", self.name()))),
            Busy::Used(_) => Err(invalid(format!("volume '{}' is still in use.", self.name()))),
        }
    }

    /// Refuses reading it while it is not whole.
    ///
    /// # Errors
    /// Code 55.
    pub fn check_whole(&self) -> Result<()> {
        match self.busy {
            Busy::Building => self.check_free(),
            Busy::Free | Busy::Used(_) => Ok(()),
        }
    }
}

/// All volumes of a pool, sorted by name. Clones share the volumes.
#[derive(Debug, Clone, Default)]
pub struct Volumes {
    all: Vec<Arc<Volume>>,
    /// Made when it is first asked for, gone with every change.
    roll: OnceLock<Roll>,
}

impl Volumes {
    /// A table of these; of several with one name the last stays.
    pub fn new(volumes: impl IntoIterator<Item = Arc<Volume>>) -> Self {
        let mut all: Vec<_> = volumes.into_iter().collect();
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all.dedup_by(|later, first| {
            let same = later.name() == first.name();
            if same {
                std::mem::swap(later, first);
            }
            same
        });
        Self { all, roll: OnceLock::new() }
    }

    /// All names and keys as lists are sent.
    pub fn roll(&self) -> &Roll {
        self.roll.get_or_init(|| {
            let keys_are_paths = self.all.iter().all(|v| v.key() == v.path());
            Roll::of(self.all.iter().map(|v| (v.name(), v.key())), keys_are_paths)
        })
    }

    fn at(&self, name: &str) -> std::result::Result<usize, usize> {
        self.all.binary_search_by(|v| v.name().cmp(name))
    }

    /// Adds or replaces one.
    pub fn put(&mut self, volume: Volume) {
        self.roll.take();
        let volume = Arc::new(volume);
        match self.at(volume.name()) {
            Ok(at) => self.all[at] = volume,
            Err(at) => self.all.insert(at, volume),
        }
    }

    /// Takes one out.
    pub fn remove(&mut self, name: &str) {
        self.roll.take();
        if let Ok(at) = self.at(name) {
            self.all.remove(at);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Volume>> {
        self.all.iter()
    }

    /// The one of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Volume>> {
        self.at(name).ok().map(|at| &self.all[at])
    }

    /// The one with this key.
    pub fn with_key(&self, key: &str) -> Option<&Arc<Volume>> {
        self.called(key, |v| v.key() == key)
    }

    /// The one at this path.
    pub fn at_path(&self, path: &str) -> Option<&Arc<Volume>> {
        self.called(path, |v| v.path() == path)
    }

    /// Keys and paths end in the name nearly everywhere: that one is looked at first, a second index is not kept.
    fn called(&self, text: &str, is: impl Fn(&Volume) -> bool) -> Option<&Arc<Volume>> {
        let last = text.rsplit('/').next().and_then(|name| self.get(name)).filter(|v| is(v));
        last.or_else(|| self.all.iter().find(|v| is(v)))
    }

    /// The one of this name.
    ///
    /// # Errors
    /// Code 50.
    pub fn find(&self, name: &str) -> Result<&Arc<Volume>> {
        self.get(name).ok_or_else(|| missing(format!("no storage vol with matching name '{name}'")))
    }
}

/// "Storage volume not found: ..."
pub fn missing(text: String) -> Error {
    Error::new(Code::NoStorageVol, Domain::Storage, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str, path: &str) -> Volume {
        let mut document =
            Document { name: Some(name.into()), key: Some(path.into()), ..Document::default() };
        document.target.path = Some(path.into());
        Volume::new(document)
    }

    #[test]
    fn a_volume_is_found_by_name_key_and_path() {
        let mut all =
            Volumes::new([volume("b", "/p/b"), volume("a", "/x"), volume("a", "/p/a")].map(Arc::new));
        assert_eq!(all.iter().map(|v| v.name()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(all.with_key("/p/a").is_some() && all.at_path("/p/b").is_some());
        assert!(all.at_path("/x").is_none() && all.len() == 2);
        all.put(volume("a", "/q/a"));
        assert!(all.at_path("/p/a").is_none() && all.at_path("/q/a").is_some());
        all.put(volume("c", "/dev/mapper/g-c"));
        assert_eq!(all.at_path("/dev/mapper/g-c").map(|v| v.name()), Some("c"));
        assert!(all.at_path("/dev/mapper/c").is_none());
        assert_eq!(&all.roll().names[..], b"a\0b\0c\0");
        all.remove("a");
        assert_eq!(&all.roll().names[..], b"b\0c\0");
        assert!(all.at_path("/q/a").is_none() && all.len() == 2);
        let text = all.find("a").unwrap_err().message();
        assert_eq!(text, "Storage volume not found: no storage vol with matching name 'a'");
    }
}
