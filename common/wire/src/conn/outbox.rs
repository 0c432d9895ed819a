//! Frames to bytes: a queue that is bounded in bytes, and the loop that empties it.

use super::Sink;
use crate::frame::OutFrame;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The most slices given to one write.
const SLICES: usize = 64;

/// Why a frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    /// Too much waits for the peer to read.
    #[error("the peer does not read")]
    Full,
    /// The connection is closed or closing.
    #[error("the connection is closed")]
    Closed,
}

/// Takes frames for a connection. Clones share the queue; when the last is dropped the queue closes, and the
/// [`Drain`] ends after what is in it.
#[derive(Debug, Clone)]
pub struct Outbox {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    limit: usize,
    /// Told to the drain: frames wait, or no more come.
    work: Notify,
    /// Told to senders: there is room, or the end.
    room: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<OutFrame>,
    /// Bytes that were taken and not written.
    bytes: usize,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds the lock; were it so, the queue would still be whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.work.notify_one();
        self.room.notify_waiters();
    }
}

impl Outbox {
    /// A queue before `sink`; more than `limit` waiting bytes make senders wait.
    pub fn new<S: Sink>(sink: S, limit: usize) -> (Self, Drain<S>) {
        let queue = Mutex::new(Queue::default());
        let shared = Arc::new(Shared { queue, limit, work: Notify::new(), room: Notify::new() });
        let outbox = Self { handle: Arc::new(Handle { shared: shared.clone() }) };
        (outbox, Drain { shared, sink, writing: VecDeque::new(), offset: 0 })
    }

    /// Takes the frame if there is room. A single frame over the limit is taken when nothing else waits.
    pub fn try_send(&self, frame: OutFrame) -> Result<(), OutboxError> {
        self.put(frame).map_err(|(e, _)| e)
    }

    /// Waits for room. The peer decides how long that is: give it a deadline where that matters.
    pub async fn send(&self, frame: OutFrame) -> Result<(), OutboxError> {
        let mut frame = match self.put(frame) {
            Err((OutboxError::Full, frame)) => frame,
            other => return other.map_err(|(e, _)| e),
        };
        loop {
            let mut room = std::pin::pin!(self.handle.shared.room.notified());
            room.as_mut().enable();
            match self.put(frame) {
                Err((OutboxError::Full, back)) => frame = back,
                other => return other.map_err(|(e, _)| e),
            }
            room.await;
        }
    }

    fn put(&self, frame: OutFrame) -> Result<(), (OutboxError, OutFrame)> {
        let shared = &self.handle.shared;
        let mut queue = shared.lock();
        if queue.closed {
            return Err((OutboxError::Closed, frame));
        }
        let len = frame.wire_len();
        if queue.bytes > 0 && queue.bytes.saturating_add(len) > shared.limit {
            return Err((OutboxError::Full, frame));
        }
        queue.bytes += len;
        queue.frames.push_back(frame);
        drop(queue);
        shared.work.notify_one();
        Ok(())
    }

    /// Bytes that were taken and not written yet.
    pub fn backlog(&self) -> usize {
        self.handle.shared.lock().bytes
    }

    /// Takes no more frames; what was taken is still written.
    pub fn close(&self) {
        self.handle.shared.close();
    }

    /// Whether frames are refused.
    pub fn is_closed(&self) -> bool {
        self.handle.shared.lock().closed
    }
}

/// Writes what the [`Outbox`] takes.
#[derive(Debug)]
pub struct Drain<S> {
    shared: Arc<Shared>,
    sink: S,
    writing: VecDeque<OutFrame>,
    /// Bytes of the first frame that are already out.
    offset: usize,
}

impl<S: Sink> Drain<S> {
    /// Writes until the outbox is closed and empty, or the socket fails. The future may be dropped between frames only:
    /// poll one future of it to its end.
    pub async fn run(mut self) -> io::Result<()> {
        let result = self.write_all().await;
        // Whoever waits for room, or sends later, must learn that nobody writes any more.
        let mut queue = self.shared.lock();
        queue.closed = true;
        queue.frames.clear();
        queue.bytes = 0;
        drop(queue);
        self.shared.room.notify_waiters();
        result
    }

    async fn write_all(&mut self) -> io::Result<()> {
        loop {
            let closed = {
                let mut queue = self.shared.lock();
                std::mem::swap(&mut queue.frames, &mut self.writing);
                queue.closed
            };
            if self.writing.is_empty() {
                if closed {
                    return self.sink.finish().await;
                }
                self.shared.work.notified().await;
                continue;
            }
            while !self.writing.is_empty() {
                self.write_some().await?;
            }
        }
    }

    /// One write of as many frames as fit, up to the first that carries descriptors.
    async fn write_some(&mut self) -> io::Result<()> {
        let mut slices = Vec::with_capacity(SLICES.min(2 * self.writing.len()));
        let mut skip = self.offset;
        for frame in &self.writing {
            for part in [&frame.head[..], &frame.tail[..]] {
                let gone = skip.min(part.len());
                skip -= gone;
                if gone < part.len() {
                    slices.push(IoSlice::new(&part[gone..]));
                }
            }
            if slices.len() + 2 > SLICES || !frame.fds.is_empty() {
                break;
            }
        }
        let n = self.sink.send(&slices).await?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.offset += n;
        while let Some(frame) = self.writing.pop_front_if(|f| f.wire_len() <= self.offset) {
            self.offset -= frame.wire_len();
            for fd in &frame.fds {
                self.sink.send_fd(fd.as_fd()).await?;
            }
        }
        self.shared.lock().bytes -= n;
        self.shared.room.notify_waiters();
        Ok(())
    }
}
