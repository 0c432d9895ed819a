//! Saved guests in the driver's own folder: one file a guest, found again by its next start.
//!
//! The published state says whether there is a file; it is read from the disk when the daemon starts. The file goes when
//! the guest runs from it, and only then: a start that fails can be tried again.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use virt_error::{Code, Domain as From, Error, Result};
use virt_object::blocking;

use super::save;
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

/// Whether a guest has a file. One that a daemon which died had not finished is none, and goes. Blocking.
pub fn found(folders: &Folders, name: &str) -> bool {
    let path = path(folders, name);
    if !path.exists() {
        return false;
    }
    if save::is_unfinished(&path) {
        tracing::warn!(path = %path.display(), "an unfinished saved guest is removed");
        let removed = fs::remove_file(&path);
        return removed.is_err_and(|e| e.kind() != ErrorKind::NotFound);
    }
    true
}

impl Work {
    /// Saves the guest into its own file and ends it.
    ///
    /// # Errors
    /// Code 55 for a guest that would be forgotten; as [`Work::save`].
    pub async fn managed_save(&mut self, resume: Option<bool>) -> Result<()> {
        self.run()?;
        let now = self.published();
        if !now.value.is_persistent() {
            let text = "cannot do managed save for transient domain";
            return Err(Error::new(Code::OperationInvalid, From::Qemu, text));
        }
        let to = path(&self.driver.folders, &now.value.name);
        self.save(to, None, resume).await?;
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
