//! Streams: STREAM frames of a call on one side, a descriptor from a daemon on the other.
//!
//! ```text
//!   client --STREAM CONTINUE--> Streams --queue (bounded bytes)--> upload ---write--> descriptor
//!   client <--STREAM CONTINUE-- outbox (bounded bytes) <--------- download <--read--- descriptor
//!
//!   Running --client OK--> write what is queued, close, answer OK   --> gone
//!   Running --client ERROR (abort)--> close at once, answer OK      --> gone      (a volume: once nothing writes any more)
//!   Running --descriptor ends--> empty CONTINUE --client OK--> answer OK --> gone
//!   Running --descriptor fails--> STREAM ERROR                      --> gone
//! ```
//!
//! Both ways wait when the other side does not take data. Frames for a stream that is gone are ignored.
//!
//! A volume's file is read and written here, on a thread of its own; records on a socket ([`virt_rpc::bulk`]) tell the daemon
//! how it goes. The client's finish of an upload is answered when the daemon has let go of the volume.

mod volume;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::fs::FileType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use virt_error::{Domain, Error, Result};
use virt_host::content;
use virt_wire::conn::Outbox;
use virt_wire::frame::{Frame, Header, MessageType, OutFrame, STREAM_CHUNK, Status};

use crate::link::Link;

/// Bytes of one stream that may wait for the guest; beyond this the client's next frames wait in its socket.
const QUEUE: usize = 4 * 1024 * 1024;
/// Streams of one client at a time.
const PER_CLIENT: usize = 256;

/// The open streams of a connection.
#[derive(Default)]
pub(crate) struct Streams(Mutex<HashMap<Key, Handle>>);

type Key = (u32, i32, u32);

fn key(header: &Header) -> Key {
    (header.prog, header.proc, header.serial)
}

struct Handle {
    way: Way,
    queue: UnboundedSender<Part>,
    room: Arc<Semaphore>,
    abort: Arc<Notify>,
    task: AbortHandle,
}

impl Handle {
    /// Ends it without its end.
    fn abandon(&self) {
        self.abort.notify_one();
        // Nobody listens to a stream that is over.
        let _ = self.queue.send(Part::Abandon);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

enum Part {
    Data(Bytes, OwnedSemaphorePermit),
    /// Zeros, only for a volume.
    Hole(u64),
    Finish,
    /// The client gave up: whoever waits for more data wakes.
    Abandon,
}

/// Where a stream's data comes from or goes to.
pub(crate) enum Source {
    /// Bytes as they are, both ways.
    Raw(OwnedFd),
    /// A volume's content.
    Volume(Volume),
}

/// A volume's file, and the socket on which its daemon is told how it goes.
pub(crate) struct Volume {
    /// To the volume or from it.
    pub way: Way,
    /// Records ([`virt_rpc::bulk`]).
    pub control: OwnedFd,
    /// The file or device.
    pub file: OwnedFd,
    /// Which part of it.
    pub part: content::Part,
}

/// The kind of a [`Source`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Raw,
    Upload,
    Download,
}

/// A frame that found no room; the connection reads no more frames until it is delivered.
pub(crate) struct Stalled {
    queue: UnboundedSender<Part>,
    room: Arc<Semaphore>,
    data: Bytes,
}

impl Stalled {
    /// Waits for room. The stream may end meanwhile; its data is then of no use.
    pub async fn deliver(&mut self) {
        if let Ok(permit) = self.room.clone().acquire_many_owned(permits(&self.data)).await {
            let _ = self.queue.send(Part::Data(self.data.clone(), permit));
        }
    }
}

fn permits(data: &Bytes) -> u32 {
    u32::try_from(data.len().min(QUEUE)).unwrap_or(u32::MAX)
}

impl Streams {
    /// Starts to carry a stream whose call was just answered.
    pub fn open(&self, link: &Arc<Link>, call: Header, source: Source) -> Result<()> {
        let way = match &source {
            Source::Raw(_) => Way::Raw,
            Source::Volume(volume) => volume.way,
        };
        let flow = match source {
            Source::Raw(descriptor) => Flow::Raw(to_socket(descriptor)?),
            Source::Volume(volume) => Flow::Volume(volume::Transfer::new(volume)?),
        };
        let mut streams = self.0.lock();
        if streams.len() >= PER_CLIENT || streams.contains_key(&key(&call)) {
            return Err(Error::internal(Domain::Streams, "too many streams"));
        }
        let (queue, parts) = unbounded_channel();
        let (room, abort) = (Arc::new(Semaphore::new(QUEUE)), Arc::new(Notify::new()));
        let carrier = Carrier { link: Arc::downgrade(link), outbox: link.outbox().clone(), call };
        let task = tokio::spawn(carrier.run(flow, parts, abort.clone())).abort_handle();
        streams.insert(key(&call), Handle { way, queue, room, abort, task });
        Ok(())
    }

    /// Takes a STREAM or STREAM_HOLE frame.
    pub fn take(&self, frame: Frame) -> Option<Stalled> {
        let streams = self.0.lock();
        let handle = streams.get(&key(&frame.header))?;
        match frame.header.status {
            Status::CONTINUE if frame.header.kind == MessageType::STREAM => {
                let (queue, room) = (handle.queue.clone(), handle.room.clone());
                match room.clone().try_acquire_many_owned(permits(&frame.payload)) {
                    Ok(permit) => drop(queue.send(Part::Data(frame.payload, permit))),
                    Err(_) => return Some(Stalled { queue, room, data: frame.payload }),
                }
            }
            Status::CONTINUE if handle.way == Way::Upload => match hole(&frame.payload) {
                Some(length) => drop(handle.queue.send(Part::Hole(length))),
                None => handle.abandon(),
            },
            Status::OK => drop(handle.queue.send(Part::Finish)),
            // An abort must not wait behind data; holes do not exist in other streams.
            _ => handle.abandon(),
        }
        None
    }

    fn remove(&self, call: &Header) {
        // The task that ends here must not abort itself before its last frame is out: it is the last thing it does.
        self.0.lock().remove(&key(call));
    }

    /// Ends all, for the connection's end.
    pub fn clear(&self) {
        self.0.lock().clear();
    }
}

/// The length of a STREAM_HOLE.
fn hole(payload: &[u8]) -> Option<u64> {
    u64::try_from(i64::from_be_bytes(*payload.first_chunk()?)).ok()
}

fn to_socket(descriptor: OwnedFd) -> Result<UnixStream> {
    let failed =
        |e: std::io::Error| Error::system(Domain::Streams, "Unable to use the stream's descriptor", e);
    let kind = rustix::fs::fstat(&descriptor).map_err(|e| failed(e.into()))?.st_mode;
    if FileType::from_raw_mode(kind) == FileType::RegularFile {
        return file_to_socket(descriptor.into()).map_err(failed);
    }
    rustix::io::ioctl_fionbio(&descriptor, true).map_err(|e| failed(e.into()))?;
    UnixStream::from_std(descriptor.into()).map_err(failed)
}

/// A file (a screen's picture) is always ready and still may block: it is read on a thread of its own.
fn file_to_socket(mut file: std::fs::File) -> std::io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut theirs = theirs.into_std()?;
    theirs.set_nonblocking(false)?;
    tokio::task::spawn_blocking(move || {
        // Ends early when the stream is given up: our end is closed then.
        if let Err(error) = std::io::copy(&mut file, &mut theirs) {
            tracing::debug!(%error, "a file stream ended early");
        }
    });
    Ok(ours)
}

/// What carries the bytes.
enum Flow {
    Raw(UnixStream),
    Volume(volume::Transfer),
}

struct Carrier {
    link: Weak<Link>,
    outbox: Outbox,
    call: Header,
}

/// How a stream came to its end.
enum End {
    /// The client finished or aborted: confirm.
    Confirm,
    /// The descriptor failed.
    Failed(Error),
    /// The connection is gone.
    Silent,
}

impl Carrier {
    async fn run(self, flow: Flow, parts: UnboundedReceiver<Part>, abort: Arc<Notify>) {
        let end = match flow {
            Flow::Raw(socket) => {
                let (read, write) = socket.into_split();
                tokio::select! {
                    biased;
                    () = abort.notified() => End::Confirm,
                    end = upload(write, parts) => end,
                    end = self.download(read) => end,
                }
            }
            Flow::Volume(transfer) => transfer.run(self.call, &self.outbox, parts, &abort).await,
        };
        let last = match &end {
            End::Confirm => Some(OutFrame::stream_finish(self.call)),
            End::Failed(error) => Some(OutFrame::stream_error(self.call, error)),
            End::Silent => None,
        };
        if let Some(last) = last {
            // A closed outbox means that the client is gone as well.
            let _ = self.outbox.send(last).await;
        }
        if let Some(link) = self.link.upgrade() {
            link.streams.remove(&self.call);
        }
    }

    /// Never returns after the descriptor's end: the client has to finish the stream.
    async fn download(&self, mut read: OwnedReadHalf) -> End {
        let mut buffer = vec![0; STREAM_CHUNK];
        loop {
            let n = match read.read(&mut buffer).await {
                Ok(n) => n,
                Err(e) => {
                    return End::Failed(Error::system(Domain::Streams, "Unable to read from stream", e));
                }
            };
            let data = Bytes::copy_from_slice(buffer.get(..n).unwrap_or_default());
            let Ok(frame) = OutFrame::stream_data(self.call, data) else { return End::Silent };
            if self.outbox.send(frame).await.is_err() {
                return End::Silent;
            }
            if n == 0 {
                return std::future::pending().await;
            }
        }
    }
}

async fn upload(mut write: OwnedWriteHalf, mut parts: UnboundedReceiver<Part>) -> End {
    while let Some(part) = parts.recv().await {
        match part {
            Part::Data(data, room) => {
                if let Err(e) = write.write_all(&data).await {
                    return End::Failed(Error::system(Domain::Streams, "Unable to write to stream", e));
                }
                drop(room);
            }
            Part::Hole(_) => {}
            Part::Finish | Part::Abandon => return End::Confirm,
        }
    }
    End::Silent
}
