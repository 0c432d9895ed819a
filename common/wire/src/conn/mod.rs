//! Frames over a connection, for servers and clients.
//!
//! A connection is split in two: [`FrameReader`] gives whole frames, [`Outbox`] takes frames and its [`Drain`] writes
//! them, as many as are waiting in one system call. Sockets of the unix family carry descriptors; anything else that is
//! `AsyncRead + AsyncWrite` goes through [`Plain`].
//!
//! ```text
//!   socket --> Source --> FrameReader --> Frame        OutFrame --> Outbox (bounded) --> Drain --> Sink --> socket
//! ```
//!
//! A small call costs a server one read and one write: the reader takes all there is and does not try again before the
//! socket is reported ready, and the drain runs when the reader has nothing left to hand out.

mod outbox;
mod reader;
mod sink;
mod source;

pub use outbox::{Drain, Outbox, OutboxError};
pub use reader::{FrameReader, ReadError};
pub use sink::Sink;
pub use source::Source;

use std::io;

use tokio::net::UnixStream;
use virt_socket::{Reader, Stream, Writer};

/// A connection half that carries no descriptors.
#[derive(Debug)]
pub struct Plain<T>(pub T);

/// Splits a unix socket. `limit` bounds the bytes that wait to be written.
pub fn over_unix(
    stream: UnixStream,
    limit: usize,
) -> io::Result<(FrameReader<Reader>, Outbox, Drain<Writer>)> {
    let (read, write) = Stream::new(stream)?.into_split();
    let (outbox, drain) = Outbox::new(write, limit);
    Ok((FrameReader::new(read), outbox, drain))
}

/// Splits anything else. `limit` bounds the bytes that wait to be written.
pub fn over_stream<R, W>(read: R, write: W, limit: usize) -> (FrameReader<Plain<R>>, Outbox, Drain<Plain<W>>)
where
    R: tokio::io::AsyncRead + Unpin + Send,
    W: tokio::io::AsyncWrite + Unpin + Send,
{
    let (outbox, drain) = Outbox::new(Plain(write), limit);
    (FrameReader::new(Plain(read)), outbox, drain)
}

#[cfg(test)]
mod tests;
