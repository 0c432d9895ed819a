//! Overwriting a volume's content: zeros by us, other patterns by `scrub`.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{SeekFrom, seek};
use virt_consts::*;
use virt_error::{Code, Domain, Error, Result};
use virt_host::content;
use virt_host::tool::Run;

use super::jobs::{Hold, Job};
use super::tasks::Kind;
use crate::backend::Cx;
use crate::driver::Driver;
use crate::pool::Pool;

/// Gutmann's 35 passes over a large disk take days.
const LONG: Duration = Duration::from_secs(7 * 24 * 3600);
/// Zeros between two looks at the cancel switch.
const STEP: u64 = 64 * 1024 * 1024;

/// How.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// One pass of zeros.
    Zero,
    /// A pattern of `scrub`, by its name there.
    Scrub(&'static str),
}

impl Algorithm {
    /// From virStorageVolWipeAlgorithm.
    ///
    /// # Errors
    /// Code 8 for a number that is none; code 74 for trimming, which no pool here can do.
    pub fn from_number(number: u32) -> Result<Self> {
        Ok(match i32::try_from(number).unwrap_or(i32::MAX) {
            VIR_STORAGE_VOL_WIPE_ALG_ZERO => Self::Zero,
            VIR_STORAGE_VOL_WIPE_ALG_NNSA => Self::Scrub("nnsa"),
            VIR_STORAGE_VOL_WIPE_ALG_DOD => Self::Scrub("dod"),
            VIR_STORAGE_VOL_WIPE_ALG_BSI => Self::Scrub("bsi"),
            VIR_STORAGE_VOL_WIPE_ALG_GUTMANN => Self::Scrub("gutmann"),
            VIR_STORAGE_VOL_WIPE_ALG_SCHNEIER => Self::Scrub("schneier"),
            VIR_STORAGE_VOL_WIPE_ALG_PFITZNER7 => Self::Scrub("pfitzner7"),
            VIR_STORAGE_VOL_WIPE_ALG_PFITZNER33 => Self::Scrub("pfitzner33"),
            VIR_STORAGE_VOL_WIPE_ALG_RANDOM => Self::Scrub("random"),
            VIR_STORAGE_VOL_WIPE_ALG_TRIM => {
                let text = "'trim' algorithm not supported";
                return Err(Error::new(Code::ArgumentUnsupported, Domain::Storage, text));
            }
            _ => {
                let text = format!("wiping algorithm {number} not supported");
                return Err(Error::new(Code::InvalidArg, Domain::Storage, text));
            }
        })
    }
}

/// Wipes a volume. An interrupted wipe leaves a volume that is partly wiped, and nothing else.
///
/// # Errors
/// Code 50 when it is not there, code 55 when it is busy, code 38 when it cannot be written or `scrub` is missing.
pub async fn wipe(driver: &Arc<Driver>, pool: &Arc<Pool>, name: String, algorithm: Algorithm) -> Result<()> {
    let job = Job::new(driver, pool, Kind::Wipe, &name)?;
    job.detached(async move |job| {
        let volume = job.hold(name.clone(), Hold::Alone).await?;
        let done = job
            .call(move |backend, pool, cx| {
                let content = backend.content(pool, &volume);
                let content = content.map_err(|e| unopened(volume.path(), e))?;
                let wiped = overwrite(cx, &content, volume.path(), algorithm);
                // Also after half of it the volume is not what it was.
                Ok((backend.look(cx, pool, &volume).ok(), backend.sizes(cx, pool).ok(), wiped))
            })
            .await;
        let (now, sizes, result) = match done {
            Ok((now, sizes, wiped)) => (now, sizes, wiped),
            Err(error) => (None, None, Err(error)),
        };
        job.release(name, Hold::Alone, now, sizes).await?;
        result
    })
    .await
}

/// "Failed to open storage volume with path ..."
fn unopened(path: &str, error: Error) -> Error {
    if error.errno() <= 0 {
        return error;
    }
    let cause = std::io::Error::from_raw_os_error(error.errno());
    Error::system(Domain::Storage, format!("Failed to open storage volume with path '{path}'"), cause)
}

fn overwrite(cx: &Cx<'_>, content: &Path, path: &str, algorithm: Algorithm) -> Result<()> {
    let unopened =
        |e| Error::system(Domain::Storage, format!("Failed to open storage volume with path '{path}'"), e);
    let unwritable = |e| {
        Error::system(Domain::Storage, format!("Failed to write to storage volume with path '{path}'"), e)
    };
    let file = OpenOptions::new().read(true).write(true).open(content).map_err(unopened)?;
    let about = file.metadata().map_err(unopened)?;
    if !about.is_file() && !about.file_type().is_block_device() {
        return Err(unopened(std::io::Error::from_raw_os_error(rustix::io::Errno::INVAL.raw_os_error())));
    }
    if let Algorithm::Scrub(pattern) = algorithm {
        let run = Run::new("scrub", Domain::None).tied().deadline(LONG).cancel(&cx.cancel);
        return cx.tools.run(&run.args(["-f", "-p", pattern]).arg(content)).map(drop);
    }
    if about.is_file() && about.blocks() * 512 < about.len() {
        // Nothing is where a hole is; giving up the blocks and taking none is as good as zeros and much faster.
        file.set_len(0).map_err(unwritable)?;
        return file.set_len(about.len()).and_then(|()| file.sync_all()).map_err(unwritable);
    }
    let size = seek(&file, SeekFrom::End(0)).map_err(|e| unwritable(e.into()))?;
    cx.progress.expect(size);
    let mut at = 0;
    while at < size {
        cx.cancel.check(Domain::Storage)?;
        let step = STEP.min(size - at);
        content::zeros(&file, at, step).map_err(unwritable)?;
        at += step;
        cx.progress.add(step);
    }
    file.sync_all().map_err(unwritable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::NoKeys;
    use std::fs::{self, File};
    use virt_host::tool::{Cancel, Output, RecordedTools};

    fn wiped(path: &Path, algorithm: Algorithm, tools: &RecordedTools) -> Result<()> {
        let cx = Cx::new(tools, &NoKeys, Cancel::default());
        overwrite(&cx, path, &path.to_string_lossy(), algorithm)
    }

    #[test]
    fn zeros_are_written_over_full_files_and_holes_stay_holes() {
        let dir = tempfile::tempdir().unwrap();
        let none = RecordedTools::new([]);
        let full = dir.path().join("full");
        fs::write(&full, vec![7; 300_000]).unwrap();
        wiped(&full, Algorithm::Zero, &none).unwrap();
        assert_eq!(fs::read(&full).unwrap(), vec![0; 300_000]);
        let sparse = dir.path().join("sparse");
        fs::write(&sparse, b"begin").unwrap();
        File::options().write(true).open(&sparse).unwrap().set_len(50_000_000).unwrap();
        wiped(&sparse, Algorithm::Zero, &none).unwrap();
        let about = fs::metadata(&sparse).unwrap();
        assert!(about.len() == 50_000_000 && about.blocks() == 0);
        assert!(wiped(dir.path(), Algorithm::Zero, &none).is_err());
    }

    #[test]
    fn other_patterns_are_scrubs() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        fs::write(&file, b"x").unwrap();
        let line = format!("scrub -f -p gutmann {}", file.display());
        let tools = RecordedTools::new([(line, Output::default())]);
        wiped(&file, Algorithm::from_number(4).unwrap(), &tools).unwrap();
        assert!(tools.left().is_empty());
        assert_eq!(Algorithm::from_number(9).unwrap_err().code(), Code::ArgumentUnsupported);
        let text = Algorithm::from_number(10).unwrap_err().message();
        assert_eq!(text, "invalid argument: wiping algorithm 10 not supported");
    }
}
