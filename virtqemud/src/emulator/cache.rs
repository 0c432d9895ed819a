//! The cache file of one emulator's facts.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Emulator, Identity};

/// Bumped when the probe collects something new; older files are then ignored.
const FORMAT: u32 = 2;

#[derive(serde::Serialize, serde::Deserialize)]
struct Entry {
    format: u32,
    emulator: Emulator,
}

fn file_for(folder: &Path, binary: &Path) -> PathBuf {
    let name: String = binary
        .display()
        .to_string()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    folder.join(format!("{}.json", name.trim_start_matches('_')))
}

/// The stored facts, if they are about this very file.
pub(super) fn load(folder: &Path, binary: &Path, identity: &Identity) -> Option<Emulator> {
    let bytes = std::fs::read(file_for(folder, binary)).ok()?;
    let entry: Entry = serde_json::from_slice(&bytes).ok()?;
    (entry.format == FORMAT && entry.emulator.identity == *identity && entry.emulator.path == binary)
        .then_some(entry.emulator)
}

/// Keeps the facts; a cache that cannot be written only costs time, so the error is for the log.
pub(super) fn store(folder: &Path, emulator: &Emulator) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let target = file_for(folder, &emulator.path);
    let temporary = target.with_extension(format!("json.{}", std::process::id()));
    let bytes = serde_json::to_vec(&Entry { format: FORMAT, emulator: emulator.clone() })?;
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(&bytes)?;
    std::fs::rename(&temporary, &target)
}
