//! Lines in and out of the socket: bounded reading, writing with descriptors.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;

/// Descriptors that may travel with one command.
pub const MAX_FDS: usize = 8;

/// Splits what a socket sends into lines.
pub struct Lines {
    half: OwnedReadHalf,
    buffer: Vec<u8>,
    /// How much of `buffer` is known to hold no line end.
    scanned: usize,
    limit: usize,
}

/// Why there is no next line.
#[derive(Debug)]
pub enum Ended {
    /// The peer closed the connection.
    Eof,
    /// The peer sent more than the limit without a line end.
    TooLong,
    /// Reading failed.
    Io(io::Error),
}

impl Lines {
    /// Lines of at most `limit` bytes.
    pub fn new(half: OwnedReadHalf, limit: usize) -> Self {
        Self { half, buffer: Vec::new(), scanned: 0, limit }
    }

    /// The next line without its end ("\n" or "\r\n"). Safe to cancel.
    pub async fn next(&mut self) -> Result<Vec<u8>, Ended> {
        loop {
            if let Some(at) = self.buffer[self.scanned..].iter().position(|b| *b == b'\n') {
                return Ok(self.take(self.scanned + at));
            }
            self.scanned = self.buffer.len();
            if self.buffer.len() >= self.limit {
                return Err(Ended::TooLong);
            }
            let room = (self.limit - self.buffer.len()).min(64 * 1024);
            self.buffer.reserve(room.min(4096));
            match (&mut self.half).take(room as u64).read_buf(&mut self.buffer).await {
                Ok(0) => return Err(Ended::Eof),
                Ok(_) => {}
                Err(e) => return Err(Ended::Io(e)),
            }
        }
    }

    fn take(&mut self, end: usize) -> Vec<u8> {
        let rest = self.buffer.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.buffer, rest);
        self.scanned = 0;
        line.truncate(end);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        line
    }
}

/// Writes all of `bytes`; the descriptors travel with its first byte.
pub async fn write(stream: &UnixStream, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
    let mut done = 0;
    let mut fds = fds;
    while done < bytes.len() {
        stream.writable().await?;
        let tried = stream.try_io(Interest::WRITABLE, || send(stream, &bytes[done..], fds));
        match tried {
            Ok(n) => {
                done += n;
                fds = &[];
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn send(stream: &UnixStream, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<usize> {
    let borrowed: Vec<_> = fds.iter().take(MAX_FDS).map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
}
