//! A volume's stream: the file on a thread of its own, frames on one side, how it goes on the other.
//!
//! ```text
//!   download   thread: file --read--> outbox (waits for room)        socket: Moved ... End, then the daemon's Done
//!   upload     thread: queue --write--> file                         socket: Moved ... End, then the daemon's Done
//!   the client aborts: the thread stops after its piece, the socket closes, the daemon lets go; then the answer
//!   the client leaves: the same, and nobody waits for it
//! ```

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, channel};
use tokio::task::{JoinError, JoinHandle};
use virt_error::{Code, Domain, Error, Result};
use virt_host::content::{self, Piece};
use virt_rpc::bulk::{Incoming, Outgoing, Record};
use virt_wire::conn::Outbox;
use virt_wire::frame::{Header, OutFrame, STREAM_CHUNK};

use super::{End, Part, Volume, Way};

/// Frames that are read before the client has taken those before.
const AHEAD: usize = 8;
/// How long an abort waits for a write that hangs, and for the daemon.
const STOPPING: Duration = Duration::from_secs(30);
/// How often the daemon is told how far it is.
const TOLD: Duration = Duration::from_millis(250);

/// A transfer that has not begun.
pub(super) struct Transfer {
    way: Way,
    control: UnixStream,
    file: File,
    part: content::Part,
}

/// What the thread and its task share.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    moved: AtomicU64,
}

/// The thread, and our half of the socket: letting that go tells the daemon that nothing moves any more.
struct Moving {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Moved>>>,
    outgoing: Option<Outgoing>,
}

impl Moving {
    /// Waits for the thread's end.
    async fn over(&mut self) -> std::result::Result<Result<Moved>, JoinError> {
        let Some(thread) = &mut self.thread else { return std::future::pending().await };
        let done = thread.await;
        self.thread = None;
        done
    }

    /// Tells the daemon something; whether it could be told.
    async fn tell(&mut self, record: Record) -> bool {
        match &mut self.outgoing {
            Some(outgoing) => outgoing.send(record).await.is_ok(),
            None => false,
        }
    }

    fn moved(&self) -> u64 {
        self.shared.moved.load(Ordering::Relaxed)
    }
}

impl Drop for Moving {
    /// The client left: the thread is stopped, and the daemon hears of it when that is over.
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let (Some(thread), Ok(runtime)) = (self.thread.take(), tokio::runtime::Handle::try_current()) {
            let outgoing = self.outgoing.take();
            runtime.spawn(async move {
                let _ = thread.await;
                drop(outgoing);
            });
        }
    }
}

/// How the thread ended.
enum Moved {
    /// Everything is where it belongs.
    All,
    /// The client is gone or gave up.
    Stopped,
}

impl Transfer {
    /// # Errors
    /// Code 38 when the socket cannot be used.
    pub fn new(volume: Volume) -> Result<Self> {
        let control = super::to_socket(volume.control)?;
        Ok(Self { way: volume.way, control, file: volume.file.into(), part: volume.part })
    }

    /// Carries it. A download does not return after its end: the client has to finish the stream.
    pub async fn run(
        self,
        call: Header,
        outbox: &Outbox,
        parts: UnboundedReceiver<Part>,
        abort: &Notify,
    ) -> End {
        let shared = Arc::new(Shared::default());
        let (read, write) = self.control.into_split();
        let (mut incoming, outgoing) = (Incoming::new(read), Outgoing::new(write));
        let (file, part, way, sharing) = (self.file, self.part, self.way, shared.clone());
        // Frames take this way so that none can follow the stream's last one.
        let (to_task, mut frames) = channel(AHEAD);
        // What the client sends while it downloads is of no use, but its finish is.
        let (mut finish, queue) = match way {
            Way::Upload => (None, Some(parts)),
            Way::Raw | Way::Download => (Some(parts), None),
        };
        let thread = tokio::task::spawn_blocking(move || match queue {
            Some(parts) => write_file(file, part, parts, &sharing),
            None => read_file(file, part, &sharing, |frame| to_task.blocking_send(frame).is_ok(), call),
        });
        let mut moving = Moving { shared, thread: Some(thread), outgoing: Some(outgoing) };
        let mut tick = tokio::time::interval(TOLD);
        let mut told = 0;
        let aborted = abort.notified();
        tokio::pin!(aborted);
        let moved = loop {
            tokio::select! {
                // All frames of a thread that is over come first.
                biased;
                () = &mut aborted => break None,
                Some(frame) = frames.recv() => tokio::select! {
                    biased;
                    () = &mut aborted => break None,
                    sent = outbox.send(frame) => if sent.is_err() { return End::Silent },
                    finished = finished(&mut finish) => return finished,
                    record = incoming.next() => return refused(record),
                },
                done = moving.over() => break Some(done),
                finished = finished(&mut finish) => return finished,
                record = incoming.next() => return refused(record),
                _ = tick.tick() => {
                    let moved = moving.moved();
                    if moved != told && !moving.tell(Record::Moved(moved)).await {
                        return refused(incoming.next().await);
                    }
                    told = moved;
                }
            }
        };
        let last = match moved {
            None => {
                moving.shared.stop.store(true, Ordering::Release);
                drop(frames);
                let settled = async {
                    // Its own failure does not matter any more.
                    let _ = moving.over().await;
                    moving.outgoing = None;
                    // The daemon closes its end once the volume is free.
                    while let Ok(Some(_)) = incoming.next().await {}
                };
                return match tokio::time::timeout(STOPPING, settled).await {
                    Ok(()) => End::Confirm,
                    Err(_) => {
                        let text = "the volume's storage does not answer: it may still be written";
                        End::Failed(Error::new(Code::OperationTimeout, Domain::Streams, text))
                    }
                };
            }
            Some(Ok(Ok(Moved::All))) => Record::End,
            Some(Ok(Ok(Moved::Stopped))) => return End::Silent,
            Some(Ok(Err(error))) => Record::Failure(error),
            Some(Err(e)) => {
                let text = "a transfer ended unexpectedly";
                Record::Failure(Error::internal(Domain::Streams, text).with_source(e))
            }
        };
        moving.tell(Record::Moved(moving.moved())).await;
        // A daemon that is gone is told by what is received next.
        moving.tell(last).await;
        let answer = tokio::select! {
            biased;
            answer = incoming.next() => answer,
            // The bytes are where they belong; the daemon ends its part by itself.
            () = &mut aborted => return End::Confirm,
        };
        match (answer, way) {
            (Ok(Some(Record::Done)), Way::Upload) => End::Confirm,
            (Ok(Some(Record::Done)), Way::Raw | Way::Download) => {
                let Ok(end) = OutFrame::stream_data(call, Bytes::new()) else { return End::Silent };
                match outbox.send(end).await {
                    Ok(()) => tokio::select! {
                        biased;
                        () = &mut aborted => End::Confirm,
                        finished = finished(&mut finish) => finished,
                    },
                    Err(_) => End::Silent,
                }
            }
            (other, _) => refused(other),
        }
    }
}

/// The client's finish of a download.
async fn finished(parts: &mut Option<UnboundedReceiver<Part>>) -> End {
    let Some(parts) = parts else { return std::future::pending().await };
    loop {
        match parts.recv().await {
            Some(Part::Finish | Part::Abandon) => return End::Confirm,
            // Nobody wants data of a client that downloads.
            Some(Part::Data(..) | Part::Hole(_)) => {}
            None => return End::Silent,
        }
    }
}

fn lost(e: std::io::Error) -> End {
    End::Failed(Error::system(Domain::Streams, "Unable to transfer a volume's data", e))
}

/// What the daemon says before the end is why it cannot go on.
fn refused(record: std::io::Result<Option<Record>>) -> End {
    match record {
        Ok(Some(Record::Failure(error))) => End::Failed(error),
        Ok(_) => lost(std::io::ErrorKind::UnexpectedEof.into()),
        Err(e) => lost(e),
    }
}

fn read_file(
    file: File,
    part: content::Part,
    shared: &Shared,
    mut send: impl FnMut(OutFrame) -> bool,
    call: Header,
) -> Result<Moved> {
    let mut source = content::Source::new(file, "volume".to_string(), part)?;
    while let Some(piece) = source.next(STREAM_CHUNK)? {
        let frame = match piece {
            Piece::Data(bytes) => OutFrame::stream_data(call, bytes.into()),
            Piece::Hole(length) => Ok(OutFrame::stream_hole(call, i64::try_from(length).unwrap_or(i64::MAX))),
        };
        let Ok(frame) = frame else { return Ok(Moved::Stopped) };
        if shared.stop.load(Ordering::Acquire) || !send(frame) {
            return Ok(Moved::Stopped);
        }
        shared.moved.store(source.done(), Ordering::Relaxed);
    }
    Ok(Moved::All)
}

fn write_file(
    file: File,
    part: content::Part,
    mut parts: UnboundedReceiver<Part>,
    shared: &Shared,
) -> Result<Moved> {
    let mut target = content::Target::new(file, "volume".to_string(), part);
    while let Some(part) = parts.blocking_recv() {
        if shared.stop.load(Ordering::Acquire) {
            break;
        }
        match part {
            // Room is given back when the data is away: that holds a fast client back.
            Part::Data(data, _room) => target.data(&data)?,
            Part::Hole(length) => target.hole(length)?,
            Part::Finish => return Ok(Moved::All),
            Part::Abandon => break,
        }
        shared.moved.store(target.done(), Ordering::Relaxed);
    }
    Ok(Moved::Stopped)
}
