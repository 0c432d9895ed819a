//! Names of volumes and where they lead: nothing a client names leaves its pool.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, RenameFlags, linkat, renameat_with};
use uuid::Uuid;
use virt_error::{Code, Domain, Error, Result};
use virt_model::storage::PoolType;

use crate::pool::invalid;

/// Folders in which new volumes are made begin so. They are no volumes.
const WORKSHOP: &str = ".virtd-new.";
/// The longest name a file can have.
const LONGEST: usize = 255;

/// Refuses a volume's name that could be anything but one file in its pool.
///
/// # Errors
/// Code 55 in the reference's words for a slash; code 27 for what no file can be called.
pub fn check_name(kind: PoolType, name: &str) -> Result<()> {
    if name.contains('/') {
        return Err(invalid(format!("volume name '{name}' cannot contain '/'")));
    }
    let bad = |text: String| Err(Error::new(Code::XmlError, Domain::Storage, text));
    if name.is_empty() || name == "." || name == ".." || name.len() > LONGEST || name.starts_with(WORKSHOP) {
        return bad(format!("name '{name}' cannot be used for a volume"));
    }
    if name.chars().any(char::is_control) {
        return bad(format!("invalid char in volume name '{}'", name.escape_debug()));
    }
    // These names become arguments of tools.
    let argument = !kind.is_folder();
    if argument && (name.starts_with('-') || name.contains(['@', '\\', ' '])) {
        return bad(format!("invalid char in volume name '{name}'"));
    }
    Ok(())
}

/// Whether a file that was found in a folder is told as a volume, by its name.
pub fn shown(name: &OsStr) -> Option<&str> {
    let name = name.to_str()?;
    (check_name(PoolType::Dir, name).is_ok()).then_some(name)
}

/// The volume's file when writing to it changes nothing outside the pool: links are followed, but not out.
///
/// # Errors
/// Code 38 when it is not there, code 55 for a link that leads out.
pub fn inside(folder: &Path, name: &str) -> Result<PathBuf> {
    check_name(PoolType::Dir, name)?;
    let path = folder.join(name);
    let missing = |e| Error::system(Domain::Storage, format!("cannot open volume '{}'", path.display()), e);
    let real = fs::canonicalize(&path).map_err(missing)?;
    let root = fs::canonicalize(folder).map_err(missing)?;
    if !real.starts_with(&root) {
        return Err(invalid(format!(
            "volume '{name}' is a link to '{}' outside of its pool",
            real.display()
        )));
    }
    Ok(real)
}

/// A folder in the pool where one new volume is made, under its own name; it goes away with all in it when dropped.
pub struct Workshop {
    dir: PathBuf,
}

impl Workshop {
    /// Opens one.
    ///
    /// # Errors
    /// Code 38.
    pub fn open(pool: &Path) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let dir = pool.join(format!("{WORKSHOP}{}", Uuid::new_v4()));
        fs::DirBuilder::new().mode(0o700).create(&dir).map_err(|e| {
            Error::system(Domain::Storage, format!("cannot create path '{}'", pool.display()), e)
        })?;
        Ok(Self { dir })
    }

    /// Where the volume is while it is made.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// An error's text with the place where the volume was to be, instead of this one.
    pub fn hide(&self, error: Error) -> Error {
        let Some(pool) = self.dir.parent() else { return error };
        let (here, there) = (self.dir.display().to_string(), pool.display().to_string());
        match error.info() {
            Some(info) if info.contains(&here) => {
                let (code, domain) = (error.code(), error.domain());
                let (info, errno) = (info.replace(&here, &there), error.errno());
                Error::new(code, domain, info).with_errno(errno).with_source(error)
            }
            _ => error,
        }
    }

    /// Puts the finished volume in its place, where nothing was before.
    ///
    /// # Errors
    /// Code 55 when something is there, code 38.
    pub fn finish(self, name: &str) -> Result<()> {
        let from = self.path(name);
        let Some(pool) = self.dir.parent() else { return Ok(()) };
        let to = pool.join(name);
        let done = match renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE) {
            // A file system without such a call: a second name, then the first one goes with the workshop.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if from.is_file() => {
                linkat(CWD, &from, CWD, &to, AtFlags::empty())
            }
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !to.exists() => {
                rustix::fs::rename(&from, &to)
            }
            other => other,
        };
        done.map_err(|e| match e {
            rustix::io::Errno::EXIST => taken(&to),
            e => Error::system(Domain::Storage, format!("cannot create path '{}'", to.display()), e.into()),
        })
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!(%error, path = %self.dir.display(), "what was left of a volume stays");
        }
    }
}

/// "volume target path '...' already exists".
pub fn taken(path: &Path) -> Error {
    invalid(format!("volume target path '{}' already exists", path.display()))
}

/// Removes what a killed daemon left of volumes it was making. Only when no job runs in the pool.
pub fn sweep(pool: &Path) {
    for entry in fs::read_dir(pool).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let rest = name.to_str().and_then(|n| n.strip_prefix(WORKSHOP));
        if rest.is_some_and(|id| Uuid::parse_str(id).is_ok()) {
            tracing::info!(path = %entry.path().display(), "removing what an interrupted job left");
            if let Err(error) = fs::remove_dir_all(entry.path()) {
                tracing::warn!(%error, path = %entry.path().display(), "what was left of a volume stays");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn refusals_are_the_references() {
        let error = check_name(PoolType::Dir, "../a").unwrap_err();
        assert_eq!(
            error.message(),
            "Requested operation is not valid: volume name '../a' cannot contain '/'"
        );
        for name in [".", "..", "", ".virtd-new.x", "a\nb", "a\0b"] {
            assert!(check_name(PoolType::Dir, name).is_err(), "{name:?}");
        }
        for name in ["-x", "--help", "a b:c", "x,size=1", "ä", ".hid", "..."] {
            check_name(PoolType::Dir, name).unwrap();
        }
        assert!(check_name(PoolType::Logical, "-x").is_err());
    }

    #[test]
    fn links_do_not_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        let pool = dir.path().join("pool");
        fs::create_dir(&pool).unwrap();
        fs::write(dir.path().join("secret"), b"x").unwrap();
        fs::write(pool.join("a"), b"x").unwrap();
        symlink("../secret", pool.join("out")).unwrap();
        symlink("a", pool.join("in")).unwrap();
        symlink("loop", pool.join("loop")).unwrap();
        assert!(inside(&pool, "a").is_ok() && inside(&pool, "in").is_ok());
        assert!(inside(&pool, "out").is_err() && inside(&pool, "loop").is_err());
    }

    #[test]
    fn a_workshop_never_replaces_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let workshop = Workshop::open(dir.path()).unwrap();
        fs::write(workshop.path("v"), b"new").unwrap();
        fs::write(dir.path().join("v"), b"old").unwrap();
        let error = workshop.finish("v").unwrap_err();
        assert!(error.message().ends_with("already exists"), "{}", error.message());
        assert_eq!(fs::read(dir.path().join("v")).unwrap(), b"old");
        let workshop = Workshop::open(dir.path()).unwrap();
        fs::write(workshop.path("w"), b"new").unwrap();
        workshop.finish("w").unwrap();
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        // As after kill -9.
        std::mem::forget(Workshop::open(dir.path()).unwrap());
        sweep(dir.path());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn an_accepted_name_is_one_file_of_the_pool(name in "\\PC{0,30}|[./\\-\n\r\0 @]{0,8}|(\\.\\./){1,3}[a-z]{0,3}") {
            for kind in [PoolType::Dir, PoolType::Logical, PoolType::Rbd] {
                if check_name(kind, &name).is_ok() {
                    let path = Path::new("/pool").join(&name);
                    prop_assert_eq!(path.parent(), Some(Path::new("/pool")));
                    prop_assert_eq!(path.file_name().and_then(|n| n.to_str()), Some(name.as_str()));
                    prop_assert!(!name.contains(['\0', '\n', '\r', '/']));
                    prop_assert!(kind.is_folder() || !name.starts_with('-'));
                }
            }
        }
    }
}
