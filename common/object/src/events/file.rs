//! The journal's file: a header with the epoch, then records that show by themselves whether they are whole.
//!
//! ```text
//!   header: "virtevt1" | epoch u64        record: length u32 | check u32 | number u64 | payload
//! ```
//!
//! Little endian. `check` covers number and payload. A last record that is cut short was never shown to anybody: it is
//! removed and its number used again. Any other damage makes the file worthless: a new epoch tells clients so. No fsync,
//! for the file lives in memory: the kernel keeps what was written when the daemon is killed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"virtevt1";
const HEADER: usize = 16;
const RECORD: usize = 16;
/// Never compact below this, in bytes.
const SMALL: usize = 256 * 1024;

type Records = Vec<(u64, Vec<u8>)>;

pub(super) struct Log {
    path: PathBuf,
    /// `None` after a failed write: the file is gone, the next start begins a new epoch.
    file: Option<File>,
    length: usize,
}

impl Log {
    /// Opens or makes the file; returns the epoch and the whole records.
    pub fn open(path: &Path) -> io::Result<(Self, u64, Records)> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let mut file = open(path, false)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (epoch, records, length) = match parse(&bytes) {
            Some((epoch, records, length)) => {
                file.set_len(length as u64)?;
                (epoch, records, length)
            }
            None => {
                let epoch = fresh_epoch();
                file.set_len(0)?;
                file.seek(SeekFrom::Start(0))?;
                file.write_all(&header(epoch))?;
                (epoch, Vec::new(), HEADER)
            }
        };
        file.seek(SeekFrom::Start(length as u64))?;
        Ok((Self { path: path.to_path_buf(), file: Some(file), length }, epoch, records))
    }

    /// Appends one record by one write.
    pub fn append(&mut self, number: u64, payload: &[u8]) {
        let Some(file) = &mut self.file else { return };
        let record = record(number, payload);
        match file.write_all(&record) {
            Ok(()) => self.length += record.len(),
            Err(error) => self.give_up(&error),
        }
    }

    /// Writes the file anew when less than half of it is still kept.
    pub fn compact_if_large<'e>(
        &mut self,
        kept_bytes: usize,
        epoch: u64,
        kept: impl ExactSizeIterator<Item = (u64, &'e [u8])>,
    ) {
        let wanted = HEADER + kept_bytes + kept.len() * RECORD;
        if self.file.is_none() || self.length < SMALL || self.length < 2 * wanted {
            return;
        }
        let mut bytes = Vec::with_capacity(wanted);
        bytes.extend(header(epoch));
        kept.for_each(|(number, payload)| bytes.extend(record(number, payload)));
        let temp = self.path.with_extension("new");
        let replaced = open(&temp, true).and_then(|mut file| {
            file.write_all(&bytes)?;
            fs::rename(&temp, &self.path)?;
            Ok(file)
        });
        match replaced {
            Ok(file) => (self.file, self.length) = (Some(file), bytes.len()),
            // The long file is still whole.
            Err(error) => tracing::warn!(%error, "cannot compact the event journal"),
        }
    }

    fn give_up(&mut self, error: &io::Error) {
        tracing::error!(%error, "the event journal is lost; clients will have to read the state anew after a restart");
        self.file = None;
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::error!(%error, "cannot remove the event journal");
        }
    }
}

fn open(path: &Path, truncate: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(truncate).mode(0o600).open(path)
}

fn header(epoch: u64) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..].copy_from_slice(&epoch.to_le_bytes());
    bytes
}

fn record(number: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RECORD + payload.len());
    bytes.extend((payload.len() as u32).to_le_bytes());
    bytes.extend(check(number, payload).to_le_bytes());
    bytes.extend(number.to_le_bytes());
    bytes.extend(payload);
    bytes
}

/// FNV-1a, folded: tells a torn record, not an attacker (the file is the daemon's own).
fn check(number: u64, payload: &[u8]) -> u32 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in number.to_le_bytes().iter().chain(payload) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    }
    (hash ^ (hash >> 32)) as u32
}

/// Epoch, records and how many bytes of them are whole. `None`: not a journal, or damaged.
fn parse(bytes: &[u8]) -> Option<(u64, Records, usize)> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (epoch, mut rest) = rest.split_first_chunk()?;
    let epoch = u64::from_le_bytes(*epoch);
    let mut records: Records = Vec::new();
    while let Some(record) = parse_record(rest) {
        let good = record.good && records.last().is_none_or(|(last, _)| record.number == last + 1);
        if !good {
            return None;
        }
        records.push((record.number, record.payload.to_vec()));
        rest = record.after;
    }
    (epoch != 0).then_some((epoch, records, bytes.len() - rest.len()))
}

struct Record<'b> {
    number: u64,
    payload: &'b [u8],
    good: bool,
    after: &'b [u8],
}

/// The next record; `None` when it is cut short.
fn parse_record(bytes: &[u8]) -> Option<Record<'_>> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (sum, rest) = rest.split_first_chunk()?;
    let (number, rest) = rest.split_first_chunk()?;
    let (payload, after) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let number = u64::from_le_bytes(*number);
    let good = check(number, payload) == u32::from_le_bytes(*sum);
    Some(Record { number, payload, good, after })
}

fn fresh_epoch() -> u64 {
    let mut bytes = [0; 8];
    // Without random bytes the time still tells two epochs apart.
    if getrandom::fill(&mut bytes).is_err() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        bytes = (now.as_nanos() as u64).to_le_bytes();
    }
    u64::from_le_bytes(bytes).max(1)
}

#[cfg(test)]
impl Log {
    /// Every later write fails, as on a full file system.
    pub fn fail_writes(&mut self) {
        self.file = OpenOptions::new().write(true).open("/dev/full").ok();
    }
}
