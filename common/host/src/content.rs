//! The bytes of a volume's file or device, piece by piece: reading with its holes, writing within bounds. Everything here
//! blocks.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::buffer::spare_capacity;
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;
use virt_error::{Domain, Error, Result};

/// Zeros that are written at once.
const ZEROS: usize = 256 * 1024;

/// Which part of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Where it begins.
    pub offset: u64,
    /// How much at most; 0 for all.
    pub length: u64,
    /// Holes are told as holes.
    pub sparse: bool,
}

impl Part {
    /// Where it ends at the latest.
    pub fn end(&self) -> u64 {
        match self.length {
            0 => u64::MAX,
            length => self.offset.saturating_add(length),
        }
    }
}

fn failed(what: &str, path: &str) -> impl Fn(io::Error) -> Error + use<> {
    let text = format!("{what} '{path}'");
    move |e| Error::system(Domain::Streams, &text, e)
}

/// What comes next of a content.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Data(Vec<u8>),
    /// This many zeros that take no room.
    Hole(u64),
}

/// Reads a part.
pub struct Source {
    file: File,
    path: String,
    part: Part,
    at: u64,
    /// Known to be data up to here.
    data: u64,
    end: u64,
}

impl Source {
    /// Of a file that is known by this path. Where a hole is matters only when the part is sparse.
    ///
    /// # Errors
    /// Code 38 when its size cannot be found out.
    pub fn new(file: File, path: String, part: Part) -> Result<Self> {
        let mut end = part.end();
        if part.sparse {
            let size =
                seek(&file, SeekFrom::End(0)).map_err(|e| failed("Unable to seek in", &path)(e.into()))?;
            end = end.min(size);
        }
        let data = if part.sparse { part.offset } else { u64::MAX };
        Ok(Self { file, path, part, at: part.offset, data, end })
    }

    /// The next piece, of at most `most` bytes when it is data; `None` at the end.
    ///
    /// # Errors
    /// Code 38.
    pub fn next(&mut self, most: usize) -> Result<Option<Piece>> {
        if self.at >= self.end {
            return Ok(None);
        }
        if self.at >= self.data
            && let Some(hole) = self.look()
        {
            self.at += hole;
            return Ok(Some(Piece::Hole(hole)));
        }
        let room = self.end.min(self.data) - self.at;
        let room = usize::try_from(room).unwrap_or(most).min(most);
        let mut bytes = Vec::with_capacity(room);
        loop {
            match rustix::io::pread(&self.file, spare_capacity(&mut bytes), self.at) {
                Ok(0) => return Ok(None),
                Ok(n) => {
                    self.at += n as u64;
                    return Ok(Some(Piece::Data(bytes)));
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(failed("Unable to read from", &self.path)(e.into())),
            }
        }
    }

    /// The length of the hole here, or else notes how far the data goes.
    fn look(&mut self) -> Option<u64> {
        // What knows no holes is all data.
        let data = match seek(&self.file, SeekFrom::Data(self.at)) {
            Ok(data) => data.min(self.end),
            Err(Errno::NXIO) => self.end,
            Err(_) => self.at,
        };
        if data > self.at {
            return Some(data - self.at);
        }
        self.data =
            seek(&self.file, SeekFrom::Hole(self.at)).unwrap_or(self.end).clamp(self.at + 1, self.end);
        None
    }

    /// How much was read, holes with it.
    pub fn done(&self) -> u64 {
        self.at - self.part.offset
    }
}

/// Writes a part.
pub struct Target {
    file: File,
    path: String,
    part: Part,
    at: u64,
}

impl Target {
    /// Of a file that is known by this path.
    pub fn new(file: File, path: String, part: Part) -> Self {
        Self { file, path, part, at: part.offset }
    }

    fn next(&self, length: u64) -> Result<u64> {
        self.at.checked_add(length).filter(|next| *next <= self.part.end()).ok_or_else(|| {
            let full = io::Error::from_raw_os_error(Errno::NOSPC.raw_os_error());
            Error::system(Domain::Streams, "cannot write to stream", full)
        })
    }

    /// Puts bytes after those before.
    ///
    /// # Errors
    /// Code 38, also for a full disk and for more than the part has.
    pub fn data(&mut self, bytes: &[u8]) -> Result<()> {
        let next = self.next(bytes.len() as u64)?;
        self.file.write_all_at(bytes, self.at).map_err(failed("Unable to write to", &self.path))?;
        self.at = next;
        Ok(())
    }

    /// Puts a hole after what was before.
    ///
    /// # Errors
    /// As [`Target::data`].
    pub fn hole(&mut self, length: u64) -> Result<()> {
        let next = self.next(length)?;
        hole(&self.file, self.at, length).map_err(failed("Unable to write to", &self.path))?;
        self.at = next;
        Ok(())
    }

    /// How much was written, holes with it.
    pub fn done(&self) -> u64 {
        self.at - self.part.offset
    }
}

/// Makes a part read as zeros. A file ends with the part then: what a sparse stream does not say is not there.
fn hole(file: &File, at: u64, length: u64) -> io::Result<()> {
    if file.metadata()?.is_file() {
        file.set_len(at)?;
        return file.set_len(at + length);
    }
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match fallocate(file, flags, at, length) {
        Ok(()) => Ok(()),
        Err(_) => zeros(file, at, length),
    }
}

/// Writes zeros.
///
/// # Errors
/// What the kernel says.
pub fn zeros(file: &File, at: u64, length: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS.min(usize::try_from(length).unwrap_or(ZEROS))];
    let end = at + length;
    let mut at = at;
    while at < end {
        let n = usize::try_from(end - at).unwrap_or(ZEROS).min(zeros.len());
        file.write_all_at(&zeros[..n], at)?;
        at += n as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt_error::Code;

    const ALL: Part = Part { offset: 0, length: 0, sparse: true };

    fn pieces(file: &File, part: Part) -> Vec<Piece> {
        let mut source = Source::new(file.try_clone().expect("a file"), "v".into(), part).expect("a source");
        let pieces = std::iter::from_fn(|| source.next(100_000).expect("read")).collect();
        assert!(part.length == 0 || source.done() <= part.length);
        pieces
    }

    #[test]
    fn what_is_read_can_be_written_with_its_holes() {
        let from = tempfile::tempfile().expect("a file");
        from.write_all_at(&[7; 70_000], 1 << 20).expect("written");
        from.set_len(4 << 20).expect("sized");
        let to = tempfile::tempfile().expect("a file");
        to.write_all_at(&[9; 5_000_000], 0).expect("written");
        let mut target = Target::new(to.try_clone().expect("a file"), "w".into(), ALL);
        for piece in pieces(&from, ALL) {
            match piece {
                Piece::Data(bytes) => target.data(&bytes).expect("written"),
                Piece::Hole(length) => target.hole(length).expect("written"),
            }
        }
        assert_eq!(target.done(), 4 << 20);
        let same = |at: u64, byte: u8| {
            let mut one = [1];
            to.read_exact_at(&mut one, at).expect("read");
            one[0] == byte
        };
        assert!(same(0, 0) && same(1 << 20, 7) && same((1 << 20) + 69_999, 7) && same(3 << 20, 0));
        assert_eq!(to.metadata().expect("a file").len(), 4 << 20);
        let part = Part { offset: (1 << 20) - 10, length: 20, sparse: false };
        assert_eq!(pieces(&from, part), [Piece::Data([[0; 10], [7; 10]].concat())]);
    }

    #[test]
    fn a_part_has_its_bounds() {
        let part = Part { offset: 5, length: 10, sparse: false };
        let mut target = Target::new(tempfile::tempfile().expect("a file"), "w".into(), part);
        target.data(b"12345678").expect("written");
        let error = target.data(b"123").expect_err("too much");
        assert_eq!(
            (error.code(), error.message().as_str()),
            (Code::SystemError, "cannot write to stream: No space left on device")
        );
        assert!(target.hole(3).is_err() && target.hole(2).is_ok());
        let end = Part { offset: u64::MAX, ..ALL };
        assert!(Target::new(tempfile::tempfile().expect("a file"), "w".into(), end).data(b"1").is_err());
    }
}
