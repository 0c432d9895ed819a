//! Small kernel text files (`/proc`, `/sys`) behind a narrow trait, so that every rule over them is tested with fixtures.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Mutex;

/// Reads and writes small text files by absolute path.
pub trait Files: Send + Sync {
    /// The whole file, lossily decoded.
    fn read(&self, path: &str) -> io::Result<String>;
    /// Names in a folder, sorted.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;
    /// Writes a value to an existing file.
    fn write(&self, path: &str, text: &str) -> io::Result<()>;

    /// The file without white space at its ends; `None` when it cannot be read or is empty.
    fn value(&self, path: &str) -> Option<String> {
        let text = self.read(path).ok()?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_string())
    }

    /// The file as a decimal number.
    fn number(&self, path: &str) -> Option<u64> {
        self.value(path)?.parse().ok()
    }

    /// Whether a file or folder of this name can be seen.
    fn exists(&self, path: &str) -> bool {
        self.list(path).is_ok() || self.read(path).is_ok()
    }
}

/// The running kernel.
#[derive(Debug, Default, Clone, Copy)]
pub struct KernelFiles;

impl Files for KernelFiles {
    fn read(&self, path: &str) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned())
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn write(&self, path: &str, text: &str) -> io::Result<()> {
        std::fs::OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut f| io::Write::write_all(&mut f, text.as_bytes()))
    }

    fn exists(&self, path: &str) -> bool {
        std::path::Path::new(path).exists()
    }
}

/// A fixture: files from memory; writes change it, so tests can look at what was written.
#[derive(Debug, Default)]
pub struct FixtureFiles(Mutex<BTreeMap<String, String>>);

impl FixtureFiles {
    /// A fixture with these (path, content) pairs.
    pub fn new<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(Mutex::new(files.into_iter().map(|(p, t)| (p.to_string(), t.to_string())).collect()))
    }

    /// Adds or replaces one file.
    pub fn set(&self, path: &str, text: &str) {
        self.lock().insert(path.to_string(), text.to_string());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Files for FixtureFiles {
    fn read(&self, path: &str) -> io::Result<String> {
        self.lock().get(path).cloned().ok_or_else(|| io::Error::from_raw_os_error(2))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let prefix = format!("{}/", path.trim_end_matches('/'));
        let names: BTreeSet<String> = self
            .lock()
            .keys()
            .filter_map(|p| p.strip_prefix(&prefix))
            .filter_map(|rest| rest.split('/').next())
            .map(str::to_string)
            .collect();
        if names.is_empty() { Err(io::Error::from_raw_os_error(2)) } else { Ok(names.into_iter().collect()) }
    }

    fn write(&self, path: &str, text: &str) -> io::Result<()> {
        match self.lock().get_mut(path) {
            Some(old) => {
                *old = text.to_string();
                Ok(())
            }
            None => Err(io::Error::from_raw_os_error(2)),
        }
    }
}
