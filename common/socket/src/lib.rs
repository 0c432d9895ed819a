//! Unix stream sockets that wake their owner only for what it waits for.
//!
//! A tokio `UnixStream` asks the kernel for readable and writable at once. The kernel reports a unix socket writable
//! each time the peer has read from it, so every message sent wakes the sender once more for nothing. A daemon that
//! answers small calls pays for that with half of its wake-ups. Here a socket is registered for reading alone; a writer
//! that finds it full registers a duplicate for writing and drops it when the bytes are out.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as Socket;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

mod soon;

pub use soon::wait_awake;

/// Both halves of a connection.
#[derive(Debug)]
pub struct Stream {
    reader: Reader,
    writer: Writer,
}

/// The receiving half.
#[derive(Debug)]
pub struct Reader(Arc<AsyncFd<Socket>>);

/// The sending half. Dropping it says nothing to the peer; see [`Writer::finish`].
#[derive(Debug)]
pub struct Writer {
    socket: Arc<AsyncFd<Socket>>,
    /// Only while the socket is full.
    full: Option<AsyncFd<OwnedFd>>,
    /// What is sent is answered soon: see [`wait_awake`].
    asks: bool,
}

/// What one read did.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// Bytes; 0 is the end.
    pub bytes: usize,
    /// Nothing was left: the next read would block. Knowing it saves the read that would say so.
    pub emptied: bool,
}

/// The safe form is deprecated because a type could change its descriptor while it is watched. std's owners cannot.
#[expect(deprecated, reason = "the replacement is unsafe code, which only -sys crates may hold")]
fn watch<T: Into<OwnedFd> + AsRawFd>(owner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(owner, interest)
}

impl Stream {
    /// Takes over a connected socket. Needs a tokio runtime with I/O.
    pub fn new(stream: tokio::net::UnixStream) -> io::Result<Self> {
        let socket = Arc::new(watch(stream.into_std()?, Interest::READABLE)?);
        Ok(Self { reader: Reader(socket.clone()), writer: Writer { socket, full: None, asks: false } })
    }

    /// The same for a connection whose peer answers what is sent to it, mostly at once.
    pub fn asking(stream: tokio::net::UnixStream) -> io::Result<Self> {
        let mut stream = Self::new(stream)?;
        stream.writer.asks = true;
        Ok(stream)
    }

    /// Both halves, to be used by two tasks.
    pub fn into_split(self) -> (Reader, Writer) {
        (self.reader, self.writer)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.0.get_ref().as_fd()
    }
}

impl Reader {
    /// Runs `read` when there may be something to read, until it does not say "would block".
    pub async fn read_with(
        &mut self,
        mut read: impl FnMut(&Socket) -> io::Result<Received>,
    ) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_read_with(cx, &mut read)).await
    }

    fn poll_read_with(
        &self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(&Socket) -> io::Result<Received>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            match ready.try_io(|socket| read(socket.get_ref())) {
                Ok(Ok(received)) => {
                    if received.emptied {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(received.bytes));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl Writer {
    /// Runs `write` until it does not say "would block".
    pub async fn write_with<T>(&mut self, mut write: impl FnMut(&Socket) -> io::Result<T>) -> io::Result<T> {
        std::future::poll_fn(|cx| self.poll_write_with(cx, &mut write)).await
    }

    /// Says that nothing more comes.
    pub fn finish(&mut self) -> io::Result<()> {
        self.socket.get_ref().shutdown(Shutdown::Write)
    }

    fn poll_write_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&Socket) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            let room = match &self.full {
                Some(full) => Some(ready!(full.poll_write_ready(cx))?),
                None => None,
            };
            match write(self.socket.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match room {
                    Some(mut room) => room.clear_ready(),
                    None => {
                        let duplicate = self.socket.get_ref().as_fd().try_clone_to_owned()?;
                        self.full = Some(watch(duplicate, Interest::WRITABLE)?);
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => {
                    self.full = None;
                    if self.asks {
                        soon::asked(&self.socket);
                    }
                    return Poll::Ready(done);
                }
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.initialize_unfilled();
        let read = |mut socket: &Socket| {
            let bytes = socket.read(room)?;
            Ok(Received { bytes, emptied: bytes > 0 && bytes < room.len() })
        };
        let bytes = ready!(self.reader.poll_read_with(cx, read))?;
        if self.writer.asks {
            soon::answered();
        }
        buffer.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.writer.poll_write_with(cx, |mut socket| socket.write(data))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writer.poll_write_with(cx, |mut socket| socket.write_vectored(data))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.writer.finish() {
            // The peer was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            done => Poll::Ready(done),
        }
    }
}

#[cfg(test)]
mod tests;
