//! A volume's content on its way to or from a client, over a socket of its own. virtproxyd gets the file itself as well and
//! only tells on the socket how it goes: each byte is copied half as often.
//!
//! ```text
//!   hold the volume -> open it -> hand the socket out -> copy on a thread -> look again, let go
//!                        |                                  |  the client gives up, the disk is full: as far as it came
//!                        `-- fails: nothing happened        `- either way the volume is let go
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{OFlags, SeekFrom, seek};
use tokio::sync::oneshot;
use virt_error::{Domain, Error, Result};
use virt_host::content::{Part, Piece, Source, Target};
use virt_object::owner::{Class, Spec};
use virt_rpc::bulk::{Pipe, Record, Taken};

use super::Volume;
use super::jobs::{Hold, Job};
use super::tasks::Kind;
use crate::backend::Cx;
use crate::driver::Driver;
use crate::pool::{Pool, WorkExt};

/// Data in one record.
const PIECE: usize = 256 * 1024;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the volume.
    Upload,
    /// From the volume.
    Download,
}

/// Begins a transfer and gives the client's end of its socket; with `direct` also the file, after the socket.
///
/// # Errors
/// Code 50 when the volume is not there, code 55 when it is busy, code 38 when it cannot be opened.
pub async fn begin(
    driver: &Arc<Driver>,
    pool: &Arc<Pool>,
    name: String,
    (direction, direct): (Direction, bool),
    part: Part,
) -> Result<Vec<OwnedFd>> {
    let kind = if direction == Direction::Upload { Kind::Upload } else { Kind::Download };
    let job = Job::new(driver, pool, kind, &name)?;
    let (opened, answer) = oneshot::channel();
    let runtime = driver.kind.runtime.clone();
    // Beside the caller: whether it stays or not, the volume is let go in the end.
    runtime.spawn(run(job, name, (direction, direct), part, opened));
    answer.await.unwrap_or_else(|_| Err(Error::internal(Domain::Storage, "a transfer ended unexpectedly")))
}

async fn run(
    job: Job,
    name: String,
    (direction, direct): (Direction, bool),
    part: Part,
    opened: oneshot::Sender<Result<Vec<OwnedFd>>>,
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
        let failed = |e| Error::system(Domain::Streams, "Unable to create a socket", e);
        let (pipe, theirs) = Pipe::pair().map_err(failed)?;
        let mut given = vec![theirs];
        if direct {
            given.push(file.try_clone().map_err(failed)?.into());
        }
        Ok((file, pipe.waker().map_err(failed)?, pipe, given))
    });
    let (file, pipe) = match ready.await {
        Ok((file, waker, pipe, given)) => {
            job.task.on_cancel(waker);
            drop(opened.send(Ok(given)));
            (file, pipe)
        }
        Err(error) => {
            drop(opened.send(Err(error)));
            return settle(job.release(name, hold, None, None).await);
        }
    };
    let wanted = volume.clone();
    let copied = job.call(move |_, _, cx| {
        cx.progress.expect(expected(&wanted, direction, part));
        let path = wanted.path().to_string();
        Ok(match (direct, direction) {
            (true, _) => attend(cx, pipe),
            (false, Direction::Upload) => upload(cx, Target::new(file, path, part), pipe),
            (false, Direction::Download) => download(cx, file, path, pipe, part),
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
    // Whoever hears that it is over, or finds the socket closed, finds the volume free.
    match last {
        Ok((mut pipe, Some(record))) => {
            let told = job.call(move |_, _, _| {
                if let Err(error) = pipe.send(record) {
                    tracing::debug!(%error, "the client of a transfer left");
                }
                Ok(())
            });
            settle(told.await);
        }
        Ok((pipe, None)) => drop(pipe),
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
type Last = (Pipe, Option<Record>);

/// How much is expected to move; of an upload nobody knows unless it was said.
fn expected(volume: &Volume, direction: Direction, part: Part) -> u64 {
    match (direction, part.length) {
        (Direction::Upload, length) => length,
        (Direction::Download, length) => {
            let physical = volume.document.physical.map_or(volume.capacity(), |p| p.bytes);
            part.end().min(physical).saturating_sub(part.offset).max(length.min(physical))
        }
    }
}

/// Code 78 for the client of a transfer that somebody cancelled.
fn unless_cancelled(cx: &Cx<'_>, pipe: Pipe, last: Option<Record>) -> Last {
    match cx.cancel.check(Domain::Storage) {
        Err(cancelled) => (pipe, Some(Record::Failure(cancelled))),
        Ok(()) => (pipe, last),
    }
}

/// Waits while virtproxyd moves the bytes itself.
fn attend(cx: &Cx<'_>, mut pipe: Pipe) -> Last {
    let mut buffer = Vec::new();
    let last = loop {
        break match pipe.receive(&mut buffer) {
            Ok(Some(Taken::Moved(bytes))) => {
                cx.progress.reach(bytes);
                continue;
            }
            Ok(Some(Taken::End)) => Some(Record::Done),
            // The client hears its own reason when the volume is free.
            Ok(Some(Taken::Failure(error))) => Some(Record::Failure(error)),
            Ok(Some(Taken::Data | Taken::Hole(_))) | Err(_) => None,
            Ok(None) => {
                tracing::debug!("a transfer was given up");
                None
            }
        };
    };
    unless_cancelled(cx, pipe, last)
}

/// Sends a file's part. A client that gives up is no failure.
fn download(cx: &Cx<'_>, file: File, path: String, mut pipe: Pipe, part: Part) -> Last {
    let last = match send(cx, file, path, &mut pipe, part) {
        Ok(Ok(())) => Some(Record::End),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a download was given up");
            None
        }
        Err(error) => Some(Record::Failure(error)),
    };
    unless_cancelled(cx, pipe, last)
}

/// The outer result is about the file, the inner one about the client.
fn send(cx: &Cx<'_>, file: File, path: String, pipe: &mut Pipe, part: Part) -> Result<io::Result<()>> {
    let mut source = Source::new(file, path, part)?;
    while let Some(piece) = source.next(PIECE)? {
        cx.cancel.check(Domain::Storage)?;
        let sent = match piece {
            Piece::Data(bytes) => pipe.send_data(&bytes),
            Piece::Hole(length) => pipe.send(Record::Hole(length)),
        };
        if let Err(gone) = sent {
            return Ok(Err(gone));
        }
        cx.progress.reach(source.done());
    }
    Ok(Ok(()))
}

/// Takes a file's part. Without the client's `End` it gave up: what came stays.
fn upload(cx: &Cx<'_>, mut target: Target, mut pipe: Pipe) -> Last {
    let last = match take(cx, &mut target, &mut pipe) {
        Ok(true) => Some(Record::Done),
        Ok(false) => {
            tracing::debug!("an upload was given up");
            None
        }
        Err(error) => Some(Record::Failure(error)),
    };
    unless_cancelled(cx, pipe, last)
}

fn take(cx: &Cx<'_>, target: &mut Target, pipe: &mut Pipe) -> Result<bool> {
    let mut buffer = Vec::with_capacity(PIECE);
    loop {
        let taken = pipe.receive(&mut buffer);
        let unread = |e| Error::system(Domain::Streams, "Unable to read a volume's data", e);
        match taken.map_err(unread)? {
            Some(Taken::Data) => target.data(&buffer)?,
            Some(Taken::Hole(length)) => target.hole(length)?,
            Some(Taken::End) => return Ok(true),
            Some(Taken::Moved(_) | Taken::Failure(_)) | None => return Ok(false),
        }
        cx.progress.reach(target.done());
    }
}
