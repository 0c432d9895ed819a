//! One file per object on disk, laid out as libvirt's: `DIR/NAME.xml` and symlinks in `DIR/autostart/`.
//!
//! A file is written whole or not at all: `NAME.xml.new`, fsync, rename, fsync of the folder. Callers block for it (about
//! half a millisecond on a fast disk): run it in an owner task or on a blocking thread, never in an RPC handler.
//! A file under a new name is renamed first and synced once where the file system allows; a power cut in between may
//! leave an empty file for an object that nobody was told of, which [`Store::load`] removes.
//!
//! A rename of an object changes two files and perhaps a link. A marker `OLD.xml.to` (a symlink to `NEW.xml`) makes that
//! safe at any point of a crash; [`Store::load`] finishes or forgets it:
//!
//! ```text
//!   1 marker OLD.xml.to -> NEW.xml     2 write NEW.xml     3 move the autostart link     4 remove OLD.xml, marker
//!   crash before 2: NEW.xml missing, the marker is dropped, the old object stands
//!   crash after 2:  NEW.xml there, steps 3 and 4 are done again, the new object stands
//! ```

mod file;
mod sync;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use virt_error::{Domain, Error, Result};

pub use file::{load_whole, write_whole};
use sync::GroupSync;

/// How the name of a link ends that counts for the host's next start alone.
const ONCE: &str = ".once";

/// The files of one kind of object.
pub struct Store {
    dir: PathBuf,
    autostart: PathBuf,
    /// What a person should use instead of an editor: "virsh edit". Without it files have no head comment.
    edit: Option<&'static str>,
    /// Of a folder that is made.
    mode: u32,
    dir_sync: GroupSync,
}

/// One file that was found.
#[derive(Debug)]
pub struct Loaded {
    /// The file's name without `.xml`.
    pub name: String,
    /// The document, or why it cannot be read. One bad file does not stop the others.
    pub text: Result<String>,
    /// Whether its autostart link exists.
    pub autostart: bool,
    /// Whether its link for the next start of the host alone exists.
    pub once: bool,
}

impl Store {
    /// Files in `dir`, links in `dir/autostart`. `edit` is the command named in the files' head comment. Folders are
    /// made when they are needed.
    pub fn new(dir: impl Into<PathBuf>, edit: &'static str) -> Self {
        let dir = dir.into();
        let dir_sync = GroupSync::new(dir.clone());
        Self { autostart: dir.join("autostart"), dir_sync, dir, edit: Some(edit), mode: 0o755 }
    }

    /// Files without a head comment, in a folder that only the owner may read.
    pub fn private(dir: impl Into<PathBuf>) -> Self {
        Self { edit: None, mode: 0o700, ..Self::new(dir, "") }
    }

    /// The path of an object's file.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.xml"))
    }

    /// The path of an object's autostart link, as `virsh` and others show it.
    pub fn autostart_path(&self, name: &str) -> PathBuf {
        self.autostart.join(format!("{name}.xml"))
    }

    /// Writes an object's file; when this returns it survives a power cut.
    pub fn save(&self, name: &str, document: &str) -> Result<()> {
        self.make_dir(&self.dir)?;
        let path = self.path(name);
        let temp = file::beside(&path);
        let failed =
            |e| Error::system(Domain::None, format!("Failed to create file '{}'", temp.display()), e);
        let head = self.edit.map(|edit| head(edit, name)).unwrap_or_default();
        let new = file::create(&temp, &[head.as_bytes(), document.as_bytes()]);
        let new = new.map_err(failed)?;
        let nothing_to_lose = !path.exists();
        if nothing_to_lose && file::sync_carries_name(&new) {
            self.move_into_place(&temp, &path)?;
            return file::sync_new(&new, &path).map_err(failed);
        }
        file::sync_new(&new, &temp).map_err(failed)?;
        self.move_into_place(&temp, &path)?;
        self.sync()
    }

    fn move_into_place(&self, temp: &Path, path: &Path) -> Result<()> {
        fs::rename(temp, path).map_err(|e| {
            let _ = fs::remove_file(temp);
            Error::system(
                Domain::None,
                format!("Unable to rename '{}' to '{}'", temp.display(), path.display()),
                e,
            )
        })
    }

    /// Makes all finished changes survive a power cut. Callers that come at the same time share one fsync.
    fn sync(&self) -> Result<()> {
        self.dir_sync.sync().map_err(|e| self.failed("cannot sync folder", &self.dir, e))
    }

    /// Removes an object's file and autostart link. What is gone already is no error.
    ///
    /// Not synced, as the reference does not: a power cut within the file system's own commit interval brings the
    /// whole old object back, never half of it, and a removal need not wait for the disk.
    /// The link goes last: a crash in between leaves a link to nothing, which [`Store::load`] removes, and not an object
    /// that forgot that it is started with the host.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.remove_file(&self.path(name))?;
        self.remove_file(&self.autostart_path(name))?;
        self.remove_file(&self.once_path(name))
    }

    /// Moves an object to another name with a new document; see the module's picture.
    pub fn rename(&self, old: &str, new: &str, document: &str) -> Result<()> {
        let marker = self.marker(old);
        self.remove_file(&marker)?;
        symlink(format!("{new}.xml"), &marker)
            .map_err(|e| self.failed("Failed to create symlink", &marker, e))?;
        self.sync()?;
        if let Err(error) = self.save(new, document) {
            let cleaned = self.remove_file(&self.path(new)).and_then(|()| self.remove_file(&marker));
            if let Err(left) = cleaned {
                // The next load finishes by the marker; the caller learns why the rename failed.
                tracing::warn!(error = ?left, "cannot undo a rename");
            }
            return Err(error);
        }
        self.finish_rename(old, new)
    }

    fn finish_rename(&self, old: &str, new: &str) -> Result<()> {
        if self.autostart(old) {
            self.set_autostart(new, true)?;
        }
        if fs::symlink_metadata(self.once_path(old)).is_ok() {
            self.set_once(new, true)?;
        }
        self.remove(old)?;
        self.remove_file(&self.marker(old))?;
        self.sync()
    }

    /// Whether the object's autostart link exists.
    pub fn autostart(&self, name: &str) -> bool {
        fs::symlink_metadata(self.autostart_path(name)).is_ok()
    }

    /// Makes or removes the object's autostart link.
    pub fn set_autostart(&self, name: &str, on: bool) -> Result<()> {
        self.set_link(name, &self.autostart_path(name), on)
    }

    /// The same for the host's next start alone; the link is removed when that has come.
    pub fn set_once(&self, name: &str, on: bool) -> Result<()> {
        self.set_link(name, &self.once_path(name), on)
    }

    /// libvirt's name of the link for the host's next start.
    fn once_path(&self, name: &str) -> PathBuf {
        self.autostart.join(format!("{name}.xml{ONCE}"))
    }

    fn set_link(&self, name: &str, link: &Path, on: bool) -> Result<()> {
        if !on {
            return self.remove_file(link);
        }
        self.make_dir(&self.autostart)?;
        match symlink(self.path(name), link) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                let text = format!(
                    "Failed to create symlink '{}' to '{}'",
                    link.display(),
                    self.path(name).display()
                );
                Err(Error::system(Domain::None, text, e))
            }
            _ => Ok(()),
        }
    }

    /// Reads all objects' files, finishes what a crash left half done. A folder that does not exist is empty.
    pub fn load(&self) -> Result<Vec<Loaded>> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(self.failed("cannot open directory", &self.dir, e)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| self.failed("cannot read directory", &self.dir, e))?;
            // A name that is not UTF-8 was not written by us or libvirt.
            names.extend(entry.file_name().into_string().ok());
        }
        for old in names.iter().filter_map(|n| n.strip_suffix(".xml.to")) {
            self.recover_rename(old)?;
        }
        for temp in names.iter().filter(|n| n.ends_with(file::UNFINISHED)) {
            self.remove_file(&self.dir.join(temp))?;
        }
        for stump in names.iter().filter(|n| n.ends_with(".xml")) {
            self.forget_stump(&self.dir.join(stump))?;
        }
        self.forget_links()?;
        names.sort_unstable();
        let objects = names.iter().filter_map(|n| n.strip_suffix(".xml")).filter(|n| self.path(n).exists());
        Ok(objects.map(|name| self.load_one(name)).collect())
    }

    /// Makes an object of every file with `make`; returns how many. A file that cannot be used is logged and left alone,
    /// as it is.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn load_each(&self, mut make: impl FnMut(Loaded) -> Result<()>) -> Result<usize> {
        let mut count = 0;
        for loaded in self.load()? {
            let name = loaded.name.clone();
            match make(loaded) {
                Ok(()) => count += 1,
                Err(error) => tracing::error!(?error, name, "a definition cannot be used"),
            }
        }
        Ok(count)
    }

    fn load_one(&self, name: &str) -> Loaded {
        let path = self.path(name);
        let text = file::read(&path).map_err(|e| self.failed("Failed to read file", &path, e));
        let once = fs::symlink_metadata(self.once_path(name)).is_ok();
        Loaded { name: name.to_string(), text, autostart: self.autostart(name), once }
    }

    /// Removes an empty file: a power cut came before its content, and before anybody was told of the object.
    fn forget_stump(&self, path: &Path) -> Result<()> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_file() && found.len() == 0 => {
                tracing::warn!(path = %path.display(), "removing an empty definition");
                self.remove_file(path)
            }
            _ => Ok(()),
        }
    }

    /// Removes autostart links of objects that are gone.
    fn forget_links(&self) -> Result<()> {
        let Ok(entries) = fs::read_dir(&self.autostart) else { return Ok(()) };
        for link in entries.flatten().map(|e| e.path()) {
            // A link to elsewhere is somebody else's.
            let ours = fs::read_link(&link).is_ok_and(|to| {
                let name = link.file_name().and_then(|n| n.to_str()).unwrap_or_default();
                let object = name.strip_suffix(ONCE).unwrap_or(name);
                to.parent() == Some(&*self.dir) && to.file_name() == Some(object.as_ref()) && !to.exists()
            });
            if ours {
                tracing::info!(link = %link.display(), "removing the autostart link of nothing");
                self.remove_file(&link)?;
            }
        }
        Ok(())
    }

    fn recover_rename(&self, old: &str) -> Result<()> {
        let marker = self.marker(old);
        let target = fs::read_link(&marker).map_err(|e| self.failed("cannot read link", &marker, e))?;
        let new = target.to_str().and_then(|t| t.strip_suffix(".xml")).filter(|n| !n.contains('/'));
        match new.filter(|n| self.path(n).exists()) {
            Some(new) => {
                tracing::info!(old, new, "finishing an interrupted rename");
                self.finish_rename(old, new)
            }
            None => self.remove_file(&marker),
        }
    }

    fn marker(&self, old: &str) -> PathBuf {
        self.dir.join(format!("{old}.xml.to"))
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        match file::remove(path) {
            // A name too long for a file is no file.
            Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidFilename) => {
                Err(self.failed("cannot remove", path, e))
            }
            _ => Ok(()),
        }
    }

    fn make_dir(&self, dir: &Path) -> Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let made = fs::DirBuilder::new().recursive(true).mode(self.mode).create(dir);
        made.map_err(|e| self.failed("cannot create directory", dir, e))
    }

    fn failed(&self, what: &str, path: &Path, error: io::Error) -> Error {
        Error::system(Domain::None, format!("{what} '{}'", path.display()), error)
    }
}

/// The comment at the head of each file. Clients never see it: it is not part of the document.
fn head(edit: &str, name: &str) -> String {
    // A comment cannot hold "--"; such a name is left out.
    let name = if name.contains("--") || name.ends_with('-') { "" } else { name };
    format!(
        "<!--\nThis file is managed: edits made here are replaced without notice.\nTo change it for good, use\n  \
         {edit} {name}\nor another client of the libvirt API.\n-->\n\n"
    )
}

#[cfg(test)]
mod tests;
