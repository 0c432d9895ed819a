//! Ids of running objects, never used twice while the host is up.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use virt_error::{Domain, Error, Result};

/// A counter kept in a file of the run folder, which a reboot empties and a daemon's restart does not.
pub struct IdCounter {
    path: PathBuf,
    domain: Domain,
    last: Mutex<i32>,
}

impl IdCounter {
    /// Reads the counter, or starts at 0. A file that holds no number is an error: guessing could use an id twice.
    pub fn open(path: impl Into<PathBuf>, domain: Domain) -> Result<Self> {
        let path = path.into();
        let last = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|e: std::num::ParseIntError| {
                let text = format!("no id counter in '{}'", path.display());
                Error::internal(domain, text).with_source(e)
            })?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(Error::system(domain, format!("cannot read '{}'", path.display()), e)),
        };
        Ok(Self { path, domain, last: Mutex::new(last) })
    }

    /// A new id, on disk before it is returned. The first is 1.
    pub fn next(&self) -> Result<i32> {
        let mut last = self.last.lock();
        let id = last.checked_add(1).ok_or_else(|| Error::internal(self.domain, "no ids left"))?;
        self.save(id)?;
        *last = id;
        Ok(id)
    }

    /// Makes every later id greater than `id`: for a guest that was adopted with its own.
    pub fn raise_above(&self, id: i32) -> Result<()> {
        let mut last = self.last.lock();
        if id > *last {
            self.save(id)?;
            *last = id;
        }
        Ok(())
    }

    fn save(&self, id: i32) -> Result<()> {
        write_then_rename(&self.path, id)
            .map_err(|e| Error::system(self.domain, format!("cannot write '{}'", self.path.display()), e))
    }
}

/// No fsync: the run folder lives in memory, only a crash of the daemon matters.
fn write_then_rename(path: &Path, id: i32) -> io::Result<()> {
    let temp = path.with_extension("new");
    fs::write(&temp, format!("{id}\n"))?;
    fs::rename(&temp, path)
}
