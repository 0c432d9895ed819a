//! Saved guests in the driver's own folder: one file a guest, found again by its next start.
//!
//! The published state says whether there is a file; it is read from the disk when the daemon starts. The file goes when
//! the guest runs from it, and only then: a start that fails can be tried again. A guest that has gone on must never go
//! back to that moment, its disks are further: a file that cannot be removed then is made void in place, and one that
//! could not be made void is not started from in the first place.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::save::Header;
use virt_object::blocking;

use super::save;
use super::transfer::Cache;
use super::work::Work;
use crate::process::paths::Folders;

/// A guest's file.
pub fn path(folders: &Folders, name: &str) -> PathBuf {
    folders.saves().join(format!("{name}.save"))
}

/// Code 55 where a file is needed.
pub fn none() -> Error {
    Error::new(Code::OperationInvalid, From::Qemu, "domain does not have managed save image")
}

/// Removes a file. Blocking.
///
/// # Errors
/// Code 38 with the path.
pub fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).map_err(|e| {
        Error::system(From::Qemu, format!("Failed to remove managed save file '{}'", path.display()), e)
    })
}

/// Takes the file of a guest that has gone on out of the next start's way: removes it or, where its folder does not let
/// it go, makes it one that counts as none. `file` is the same file, open for writing. Blocking.
///
/// # Errors
/// Code 38 when neither can be done.
pub fn spend(path: &Path, file: &File) -> Result<()> {
    let Err(error) = fs::remove_file(path) else { return Ok(()) };
    if error.kind() == ErrorKind::NotFound {
        return Ok(());
    }
    tracing::warn!(%error, path = %path.display(), "the file of a saved guest that runs stays; it is void now");
    file.write_all_at(Header::void(), 0).and_then(|()| file.sync_all()).map_err(|e| {
        Error::system(From::Qemu, format!("cannot make managed save file '{}' void", path.display()), e)
    })
}

/// As [`spend`], for a guest that was found running.
///
/// # Errors
/// Code 38.
pub fn spend_found(path: &Path) -> Result<()> {
    match File::options().write(true).open(path) {
        Ok(file) => spend(path, &file),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(_) => remove(path),
    }
}

/// Whether a guest has a file. One that a daemon which died had not finished is none, and goes. Blocking.
pub fn found(folders: &Folders, name: &str) -> bool {
    let path = path(folders, name);
    if !path.exists() {
        return false;
    }
    if save::is_unfinished(&path) {
        tracing::warn!(path = %path.display(), "an unfinished saved guest is removed");
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(%error, path = %path.display(), "it stays, and counts as none");
        }
        return false;
    }
    true
}

impl Work {
    /// Saves the guest into its own file and ends it.
    ///
    /// # Errors
    /// Code 55 for a guest that would be forgotten; as [`Work::save`].
    pub async fn managed_save(&mut self, resume: Option<bool>, cache: Cache) -> Result<()> {
        self.run()?;
        let now = self.published();
        if !now.value.is_persistent() {
            let text = "cannot do managed save for transient domain";
            return Err(Error::new(Code::OperationInvalid, From::Qemu, text));
        }
        let to = path(&self.driver.folders, &now.value.name);
        self.save(to, None, resume, cache).await?;
        self.publish(|p| p.managed_save = true);
        Ok(())
    }

    /// Removes the guest's file.
    ///
    /// # Errors
    /// Code 38 when there is none.
    pub async fn remove_managed_save(&mut self) -> Result<()> {
        let path = path(&self.driver.folders, &self.published().value.name);
        blocking::run(move || remove(&path)).await?;
        self.publish(|p| p.managed_save = false);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_stays_is_void() {
        let dir = tempfile::tempdir().unwrap();
        // A folder is not removed as a file is: what a file in a folder of somebody else's does.
        let path = dir.path().join("vm.save");
        fs::create_dir(&path).unwrap();
        let content = dir.path().join("content");
        fs::write(&content, b"LibvirtQemudSave and more").unwrap();
        let file = File::options().read(true).write(true).open(&content).unwrap();
        spend(&path, &file).unwrap();
        assert!(path.exists() && save::is_unfinished(&content));
        assert!(spend(&path, &File::open(&content).unwrap()).is_err());
        // The usual way.
        spend_found(&content).unwrap();
        assert!(!content.exists());
        spend_found(&content).unwrap();
    }
}
