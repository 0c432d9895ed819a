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
pub mod tasks;
pub mod transfer;
pub mod wipe;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use virt_error::{Code, Domain, Error, Result};
use virt_model::storage::volume::Bytes;
use virt_model::storage::{Told, Volume as Document, VolumeType};

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
}

impl Volume {
    /// A volume from what a look found.
    pub fn new(document: Document) -> Self {
        Self { document, busy: Busy::Free }
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

/// All volumes of a pool. Clones share the volumes.
#[derive(Debug, Clone, Default)]
pub struct Volumes {
    by_name: BTreeMap<Arc<str>, Arc<Volume>>,
    by_key: HashMap<Arc<str>, Arc<str>>,
    by_path: HashMap<Arc<str>, Arc<str>>,
}

impl Volumes {
    /// A table of these; of several with one name the last stays.
    pub fn new(volumes: impl IntoIterator<Item = Volume>) -> Self {
        let mut all = Self::default();
        volumes.into_iter().for_each(|v| all.put(v));
        all
    }

    /// Adds or replaces one.
    pub fn put(&mut self, volume: Volume) {
        self.remove(volume.name());
        let name: Arc<str> = volume.name().into();
        self.by_key.insert(volume.key().into(), name.clone());
        self.by_path.insert(volume.path().into(), name.clone());
        self.by_name.insert(name, Arc::new(volume));
    }

    /// Takes one out.
    pub fn remove(&mut self, name: &str) {
        if let Some(old) = self.by_name.remove(name) {
            self.by_key.remove(old.key());
            self.by_path.remove(old.path());
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Volume>> {
        self.by_name.values()
    }

    /// The one of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Volume>> {
        self.by_name.get(name)
    }

    /// The one with this key.
    pub fn with_key(&self, key: &str) -> Option<&Arc<Volume>> {
        self.get(self.by_key.get(key)?)
    }

    /// The one at this path.
    pub fn at_path(&self, path: &str) -> Option<&Arc<Volume>> {
        self.get(self.by_path.get(path)?)
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
        let mut all = Volumes::new([volume("b", "/p/b"), volume("a", "/p/a")]);
        assert_eq!(all.iter().map(|v| v.name()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(all.with_key("/p/a").is_some() && all.at_path("/p/b").is_some());
        all.put(volume("a", "/q/a"));
        assert!(all.at_path("/p/a").is_none() && all.at_path("/q/a").is_some());
        all.remove("a");
        assert!(all.at_path("/q/a").is_none() && all.len() == 1);
        let text = all.find("a").unwrap_err().message();
        assert_eq!(text, "Storage volume not found: no storage vol with matching name 'a'");
    }
}
