//! fsync of a folder, shared by callers that come at the same time.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Each caller draws a number; whoever gets the lock syncs for all numbers drawn so far.
pub(super) struct GroupSync {
    dir: PathBuf,
    asked: AtomicU64,
    done: Mutex<u64>,
}

impl GroupSync {
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, asked: AtomicU64::new(0), done: Mutex::new(0) }
    }

    /// Returns when everything that this caller did in the folder before is on disk.
    pub fn sync(&self) -> io::Result<()> {
        let mine = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut done = self.done.lock();
        if *done >= mine {
            return Ok(());
        }
        let all = self.asked.load(Ordering::SeqCst);
        match File::open(&self.dir) {
            Ok(dir) => dir.sync_all()?,
            // Nothing was ever written there.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        *done = all;
        Ok(())
    }
}
