//! A volume's content on its way to or from a client, over a socket of its own.
//!
//! ```text
//!   hold the volume -> open it -> hand the socket out -> copy on a thread -> look again, let go
//!                        |                                  |  the client gives up, the disk is full: as far as it came
//!                        `-- fails: nothing happened        `- either way the volume is let go
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, OFlags, SeekFrom, fallocate, seek};
use tokio::sync::oneshot;
use virt_error::{Domain, Error, Result};
use virt_object::owner::{Class, Spec};
use virt_rpc::bulk::{Pipe, Record, Taken};

use super::Volume;
use super::jobs::{Hold, Job};
use crate::driver::Driver;
use crate::pool::{Pool, WorkExt};

/// Data in one record: what one frame of libvirt's wire takes.
const PIECE: usize = 262_120;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the volume.
    Upload,
    /// From the volume.
    Download,
}

/// Which part of the content.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Where it begins.
    pub offset: u64,
    /// How much at most; 0 for all.
    pub length: u64,
    /// Holes are told as holes.
    pub sparse: bool,
}

/// Begins a transfer and gives the client's end of its socket.
///
/// # Errors
/// Code 50 when the volume is not there, code 55 when it is busy, code 38 when it cannot be opened.
pub async fn begin(
    driver: &Arc<Driver>,
    pool: &Arc<Pool>,
    name: String,
    direction: Direction,
    part: Part,
) -> Result<OwnedFd> {
    let job = Job::new(driver, pool)?;
    let (opened, answer) = oneshot::channel();
    let runtime = driver.kind.runtime.clone();
    // Beside the caller: whether it stays or not, the volume is let go in the end.
    runtime.spawn(run(job, name, direction, part, opened));
    answer.await.unwrap_or_else(|_| Err(Error::internal(Domain::Storage, "a transfer ended unexpectedly")))
}

async fn run(
    job: Job,
    name: String,
    direction: Direction,
    part: Part,
    opened: oneshot::Sender<Result<OwnedFd>>,
) {
    let _stay = job.driver.kind.busy.token();
    let hold = if direction == Direction::Upload { Hold::Alone } else { Hold::Shared };
    let volume = match job.hold(name.clone(), hold).await {
        Ok(volume) => volume,
        // A caller that left needs no answer.
        Err(error) => return drop(opened.send(Err(error))),
    };
    let wanted = volume.clone();
    let ready = job.call(move |backend, pool, _| {
        let file = open(&backend.content(pool, &wanted), wanted.path(), direction, part)?;
        let pair =
            Pipe::pair().map_err(|e| Error::system(Domain::Streams, "Unable to create a socket", e))?;
        Ok((file, pair))
    });
    let (file, pipe) = match ready.await {
        Ok((file, (pipe, theirs))) => {
            drop(opened.send(Ok(theirs)));
            (file, pipe)
        }
        Err(error) => {
            drop(opened.send(Err(error)));
            return settle(job.release(name, hold, None, None).await);
        }
    };
    let wanted = volume.clone();
    let copied = job.call(move |_, _, _| {
        Ok(match direction {
            Direction::Upload => upload(file, wanted.path(), pipe, part),
            Direction::Download => download(file, wanted.path(), pipe, part),
        })
    });
    let last = copied.await;
    let changed = direction == Direction::Upload;
    let now = match changed {
        true => {
            let look = move |backend: &dyn crate::backend::Backend, pool: &_, cx: &crate::backend::Cx<'_>| {
                Ok((backend.look(cx, pool, &volume)?, backend.sizes(cx, pool).ok()))
            };
            job.call(look).await.ok()
        }
        false => None,
    };
    let (now, sizes): (Option<Volume>, _) = now.map_or((None, None), |(now, sizes)| (Some(now), sizes));
    settle(job.release(name, hold, now, sizes).await);
    if changed {
        let told = job.pool.work(Spec::new("tell", Class::Query), |work| {
            work.emit_refresh();
            Box::pin(std::future::ready(Ok(())))
        });
        settle(told.await);
    }
    // Whoever hears that it is over finds the volume free.
    match last {
        Ok(Some((mut pipe, record))) => {
            let told = job.call(move |_, _, _| {
                if let Err(error) = pipe.send(record) {
                    tracing::debug!(%error, "the client of a transfer left");
                }
                Ok(())
            });
            settle(told.await);
        }
        Ok(None) => {}
        Err(error) => settle(Err(error)),
    }
}

/// Nobody waits for these any more.
fn settle(done: Result<()>) {
    if let Err(error) = done {
        tracing::warn!(?error, "the end of a transfer");
    }
}

fn failed(what: &str, path: &str) -> impl Fn(io::Error) -> Error + use<> {
    let text = format!("{what} '{path}'");
    move |e| Error::system(Domain::Streams, &text, e)
}

fn open(content: &Result<std::path::PathBuf>, path: &str, direction: Direction, part: Part) -> Result<File> {
    let content: &Path = match content {
        Ok(content) => content,
        Err(error) if error.errno() > 0 => {
            let cause = io::Error::from_raw_os_error(error.errno());
            return Err(failed("Unable to open stream for", path)(cause));
        }
        Err(error) => return Err(Error::new(error.code(), error.domain(), error.info().unwrap_or_default())),
    };
    let mut options = OpenOptions::new();
    // A pipe that somebody put there must not hold us up.
    options.custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed());
    let upload = direction == Direction::Upload;
    let file = options.read(!upload).write(upload).open(content);
    let file = file.map_err(failed("Unable to open stream for", path))?;
    let kind = file.metadata().map_err(failed("Unable to access stream for", path))?.file_type();
    use std::os::unix::fs::FileTypeExt as _;
    if !kind.is_file() && !kind.is_block_device() {
        let is_dir = rustix::io::Errno::ISDIR.raw_os_error();
        let text = format!("Unable to read {path}");
        return Err(Error::system(Domain::Streams, text, io::Error::from_raw_os_error(is_dir)));
    }
    if i64::try_from(part.offset.saturating_add(part.length)).is_err()
        || seek(&file, SeekFrom::Start(part.offset)).is_err()
    {
        let invalid = io::Error::from_raw_os_error(rustix::io::Errno::INVAL.raw_os_error());
        let text = format!("Unable to seek {path} to {}", part.offset);
        return Err(Error::system(Domain::Streams, text, invalid));
    }
    Ok(file)
}

/// What is still to be told of a transfer; nothing when the client gave up.
type Last = Option<(Pipe, Record)>;

/// Sends a file's part. A client that gives up is no failure.
fn download(file: File, path: &str, mut pipe: Pipe, part: Part) -> Last {
    let end = match part.length {
        0 => u64::MAX,
        length => part.offset.saturating_add(length),
    };
    let sent = match part.sparse {
        true => send_sparse(&file, path, &mut pipe, part.offset, end),
        false => send(&file, path, &mut pipe, part.offset, end),
    };
    match sent {
        Ok(Ok(())) => Some((pipe, Record::End)),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a download was given up");
            None
        }
        Err(error) => Some((pipe, Record::Failure(error))),
    }
}

/// The outer result is about the file, the inner one about the client.
type Sent = Result<io::Result<()>>;

fn send(file: &File, path: &str, pipe: &mut Pipe, from: u64, end: u64) -> Sent {
    let mut buffer = vec![0; PIECE];
    let mut at = from;
    while at < end {
        let most = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
        let n = match file.read_at(&mut buffer[..most], at) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(failed("Unable to read from", path)(e)),
        };
        if let Err(gone) = pipe.send_data(&buffer[..n]) {
            return Ok(Err(gone));
        }
        at += n as u64;
    }
    Ok(Ok(()))
}

fn send_sparse(file: &File, path: &str, pipe: &mut Pipe, from: u64, end: u64) -> Sent {
    let unreadable = failed("Unable to seek in", path);
    let size = seek(file, SeekFrom::End(0)).map_err(|e| unreadable(e.into()))?;
    let end = end.min(size);
    let mut at = from;
    while at < end {
        // What knows no holes is all data.
        let data = match seek(file, SeekFrom::Data(at)) {
            Ok(data) => data.min(end),
            Err(rustix::io::Errno::NXIO) => end,
            Err(_) => at,
        };
        if data > at {
            if let Err(gone) = pipe.send(Record::Hole(data - at)) {
                return Ok(Err(gone));
            }
            at = data;
            continue;
        }
        let hole = seek(file, SeekFrom::Hole(at)).unwrap_or(end).clamp(at + 1, end);
        match send(file, path, pipe, at, hole)? {
            Ok(()) => at = hole,
            gone => return Ok(gone),
        }
    }
    Ok(Ok(()))
}

/// Takes a file's part. Without the client's `End` it gave up: what came stays.
fn upload(file: File, path: &str, mut pipe: Pipe, part: Part) -> Last {
    match take(&file, path, &mut pipe, part) {
        Ok(true) => Some((pipe, Record::Done)),
        Ok(false) => {
            tracing::debug!(path, "an upload was given up");
            None
        }
        Err(error) => Some((pipe, Record::Failure(error))),
    }
}

fn take(file: &File, path: &str, pipe: &mut Pipe, part: Part) -> Result<bool> {
    let unwritable = failed("Unable to write to", path);
    let end = match part.length {
        0 => u64::MAX,
        length => part.offset.saturating_add(length),
    };
    let (mut at, mut buffer) = (part.offset, Vec::with_capacity(PIECE));
    loop {
        let taken = match pipe.receive(&mut buffer) {
            Ok(Some(taken)) => taken,
            Ok(None) => return Ok(false),
            Err(e) => return Err(failed("Unable to read the data for", path)(e)),
        };
        let length = match taken {
            Taken::Data => buffer.len() as u64,
            Taken::Hole(length) => length,
            Taken::End => return Ok(true),
        };
        let next = at.checked_add(length).filter(|next| *next <= end);
        let Some(next) = next else {
            let full = io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
            return Err(Error::system(Domain::Streams, "cannot write to stream", full));
        };
        match taken {
            Taken::Data => file.write_all_at(&buffer, at).map_err(&unwritable)?,
            Taken::Hole(length) => hole(file, at, length).map_err(&unwritable)?,
            Taken::End => {}
        }
        at = next;
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
pub(super) fn zeros(file: &File, at: u64, length: u64) -> io::Result<()> {
    let zeros = vec![0; PIECE.min(usize::try_from(length).unwrap_or(PIECE))];
    let end = at + length;
    let mut at = at;
    while at < end {
        let n = usize::try_from(end - at).unwrap_or(PIECE).min(zeros.len());
        file.write_all_at(&zeros[..n], at)?;
        at += n as u64;
    }
    Ok(())
}
