//! Bulk data between a daemon and virtproxyd: records on a stream socket that went through the descriptor channel.
//!
//! A plain socket cannot say where a hole is, whether its end is the end of the data or of the other process, and what the
//! other side made of the data. Records can:
//!
//! ```text
//!   download   daemon: Data | Hole ...  End                           Failure at any time
//!   upload     proxy:  Data | Hole ...  End      daemon: Done          Failure at any time
//!   either side closes: given up
//! ```
//!
//! virtproxyd may be given the file itself beside the socket. It reads or writes the file then, and the socket only says
//! how it goes:
//!
//! ```text
//!   direct     proxy:  Moved ...  End            daemon: Done          Failure at any time, from both
//! ```
//!
//! A record is 16 bytes of head (kind, zero, length; little endian) and, for `Data` and `Failure`, that many bytes.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Blocking;

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use virt_api::session::v1alpha1::Failure;
use virt_error::Error;

const HEAD: usize = 16;
/// The most data in one record; a longer one is refused.
pub const MOST: usize = 1024 * 1024;
/// What the socket may hold; the kernel takes less if it wants.
const ROOM: usize = 1024 * 1024;

/// One record.
#[derive(Debug)]
pub enum Record {
    /// The next bytes.
    Data(Bytes),
    /// This many zeros.
    Hole(u64),
    /// All was sent.
    End,
    /// All was taken and is where it belongs.
    Done,
    /// What went wrong.
    Failure(Error),
    /// This many bytes are in their place by now.
    Moved(u64),
}

/// Numbers of the kinds.
mod kind {
    pub const DATA: u32 = 1;
    pub const HOLE: u32 = 2;
    pub const END: u32 = 3;
    pub const DONE: u32 = 4;
    pub const FAILURE: u32 = 5;
    pub const MOVED: u32 = 6;
}

fn head(kind: u32, length: u64) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..4].copy_from_slice(&kind.to_le_bytes());
    head[8..].copy_from_slice(&length.to_le_bytes());
    head
}

impl Record {
    /// Head and body.
    fn encode(self) -> ([u8; HEAD], Bytes) {
        match self {
            Self::Data(data) => (head(kind::DATA, data.len() as u64), data),
            Self::Hole(length) => (head(kind::HOLE, length), Bytes::new()),
            Self::End => (head(kind::END, 0), Bytes::new()),
            Self::Done => (head(kind::DONE, 0), Bytes::new()),
            Self::Moved(bytes) => (head(kind::MOVED, bytes), Bytes::new()),
            Self::Failure(error) => {
                let failure = Failure {
                    code: error.code() as i32,
                    domain: error.domain() as i32,
                    info: error.info().map(str::to_string),
                };
                let body = Bytes::from(failure.encode_to_vec());
                (head(kind::FAILURE, body.len() as u64), body)
            }
        }
    }

    /// The record of a head: how many bytes of body it needs, and what it becomes with them.
    fn plan(head: &[u8; HEAD]) -> io::Result<(u32, u64, usize)> {
        let [a, b, c, d, _, _, _, _, length @ ..] = *head;
        let (kind, length) = (u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(length));
        let body = if matches!(kind, kind::DATA | kind::FAILURE) { length } else { 0 };
        match usize::try_from(body) {
            Ok(body) if body <= MOST => Ok((kind, length, body)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a record is too long")),
        }
    }

    fn decode(kind: u32, length: u64, body: Bytes) -> io::Result<Self> {
        let bad = |why: &'static str| io::Error::new(io::ErrorKind::InvalidData, why);
        Ok(match kind {
            kind::DATA => Self::Data(body),
            kind::HOLE => Self::Hole(length),
            kind::END => Self::End,
            kind::DONE => Self::Done,
            kind::FAILURE => Self::Failure(failure(&body)?),
            kind::MOVED => Self::Moved(length),
            _ => return Err(bad("a record of unknown kind")),
        })
    }
}

fn failure(body: &[u8]) -> io::Result<Error> {
    let bad = |_| io::Error::new(io::ErrorKind::InvalidData, "a failure is no message");
    let f = Failure::decode(body).map_err(bad)?;
    Ok(Error::from_parts(f.code, f.domain, f.info))
}

/// A daemon's end, for a thread of its own.
pub struct Pipe(Blocking);

impl Pipe {
    /// Two ends: the daemon's, and the one to hand over.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = Blocking::pair()?;
        for end in [&ours, &theirs] {
            // Smaller ones only cost time.
            let _ = set_socket_send_buffer_size(end, ROOM);
            let _ = set_socket_recv_buffer_size(end, ROOM);
        }
        Ok((Self(ours), theirs.into()))
    }

    /// Ends a wait in [`Pipe::receive`] from another thread: as if the other side left.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn waker(&self) -> io::Result<impl FnOnce() + Send + use<>> {
        let socket = self.0.try_clone()?;
        Ok(move || drop(socket.shutdown(std::net::Shutdown::Read)))
    }

    /// Sends data without copying it; at most [`MOST`] bytes.
    ///
    /// # Errors
    /// Broken pipe when the other side gave up.
    pub fn send_data(&mut self, data: &[u8]) -> io::Result<()> {
        let head = head(kind::DATA, data.len() as u64);
        let written = self.0.write_vectored(&[IoSlice::new(&head), IoSlice::new(data)])?;
        if written < HEAD {
            self.0.write_all(&head[written..])?;
        }
        self.0.write_all(&data[written.saturating_sub(HEAD)..])
    }

    /// Sends any record.
    ///
    /// # Errors
    /// As [`Pipe::send_data`].
    pub fn send(&mut self, record: Record) -> io::Result<()> {
        let (head, body) = record.encode();
        self.0.write_all(&head)?;
        self.0.write_all(&body)
    }

    /// Receives the next record; data goes into `buffer`, whose length becomes the data's. `None`: the other side left.
    ///
    /// # Errors
    /// What the kernel says, and for what is no record.
    pub fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<Taken>> {
        let mut head = [0; HEAD];
        match self.0.read_exact(&mut head) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            done => done?,
        }
        let (kind, length, body) = Record::plan(&head)?;
        buffer.resize(body, 0);
        self.0.read_exact(buffer)?;
        Ok(Some(match kind {
            kind::DATA => Taken::Data,
            kind::HOLE => Taken::Hole(length),
            kind::END => Taken::End,
            kind::MOVED => Taken::Moved(length),
            kind::FAILURE => Taken::Failure(failure(buffer)?),
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a record that nobody sends a daemon",
                ));
            }
        }))
    }
}

/// What a daemon received.
#[derive(Debug)]
pub enum Taken {
    /// The buffer has it.
    Data,
    /// This many zeros.
    Hole(u64),
    /// That was all.
    End,
    /// This many bytes are in their place by now.
    Moved(u64),
    /// The other side could not go on.
    Failure(Error),
}

/// virtproxyd's receiving half.
pub struct Incoming {
    read: OwnedReadHalf,
    buffer: BytesMut,
}

impl Incoming {
    /// On a socket from [`Pipe::pair`].
    pub fn new(read: OwnedReadHalf) -> Self {
        Self { read, buffer: BytesMut::new() }
    }

    /// The next record; `None` when the daemon left.
    ///
    /// # Errors
    /// What the kernel says, and for what is no record.
    pub async fn next(&mut self) -> io::Result<Option<Record>> {
        let mut needed = HEAD;
        loop {
            if let Some(head) = self.buffer.first_chunk::<HEAD>() {
                let (kind, length, body) = Record::plan(head)?;
                needed = HEAD + body;
                if self.buffer.len() >= needed {
                    self.buffer.advance(HEAD);
                    return Record::decode(kind, length, self.buffer.split_to(body).freeze()).map(Some);
                }
            }
            self.buffer.reserve((needed - self.buffer.len()).max(ROOM));
            if self.read.read_buf(&mut self.buffer).await? == 0 {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }
}

/// virtproxyd's sending half.
pub struct Outgoing(OwnedWriteHalf);

impl Outgoing {
    /// On a socket from [`Pipe::pair`].
    pub fn new(write: OwnedWriteHalf) -> Self {
        Self(write)
    }

    /// Sends a record; data of any length.
    ///
    /// # Errors
    /// Broken pipe when the daemon left.
    pub async fn send(&mut self, record: Record) -> io::Result<()> {
        if let Record::Data(mut data) = record {
            while !data.is_empty() {
                let part = data.split_to(data.len().min(MOST));
                let (head, body) = Record::Data(part).encode();
                self.0.write_all_buf(&mut Buf::chain(&head[..], body)).await?;
            }
            return Ok(());
        }
        let (head, body) = record.encode();
        self.0.write_all_buf(&mut Buf::chain(&head[..], body)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt_error::{Code, Domain};

    fn other(end: OwnedFd) -> (Incoming, Outgoing) {
        rustix::io::ioctl_fionbio(&end, true).unwrap();
        let (read, write) = tokio::net::UnixStream::from_std(end.into()).unwrap().into_split();
        (Incoming::new(read), Outgoing::new(write))
    }

    #[tokio::test]
    async fn records_go_both_ways() {
        let (mut pipe, end) = Pipe::pair().unwrap();
        let (mut incoming, mut outgoing) = other(end);
        let daemon = std::thread::spawn(move || {
            pipe.send_data(b"abc").unwrap();
            pipe.send_data(&vec![7; MOST]).unwrap();
            pipe.send(Record::Hole(1 << 40)).unwrap();
            let full = Error::new(Code::SystemError, Domain::Streams, "full");
            pipe.send(Record::Failure(full)).unwrap();
            let mut buffer = Vec::new();
            let mut got = Vec::new();
            while let Some(taken) = pipe.receive(&mut buffer).unwrap() {
                got.push((taken, buffer.len()));
            }
            got
        });
        assert!(matches!(incoming.next().await.unwrap(), Some(Record::Data(d)) if d == "abc"));
        assert!(matches!(incoming.next().await.unwrap(), Some(Record::Data(d)) if d.len() == MOST));
        assert!(matches!(incoming.next().await.unwrap(), Some(Record::Hole(n)) if n == 1 << 40));
        assert!(matches!(incoming.next().await.unwrap(), Some(Record::Failure(e)) if e.message() == "full"));
        outgoing.send(Record::Data(vec![1; MOST + 5].into())).await.unwrap();
        outgoing.send(Record::Hole(9)).await.unwrap();
        outgoing.send(Record::Moved(7)).await.unwrap();
        let full = Error::new(Code::SystemError, Domain::Streams, "full");
        outgoing.send(Record::Failure(full)).await.unwrap();
        outgoing.send(Record::End).await.unwrap();
        drop((incoming, outgoing));
        let got = tokio::task::spawn_blocking(|| daemon.join().unwrap()).await.unwrap();
        let lengths: Vec<_> = got.iter().map(|(_, length)| *length).collect();
        assert!(matches!(got[2].0, Taken::Hole(9)) && matches!(got[3].0, Taken::Moved(7)));
        assert!(
            matches!(&got[4].0, Taken::Failure(e) if e.message() == "full") && matches!(got[5].0, Taken::End)
        );
        assert_eq!((&lengths[..4], lengths[5]), (&[MOST, 5, 0, 0][..], 0));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let (mut pipe, end) = Pipe::pair().unwrap();
        let mut end = Blocking::from(end);
        end.write_all(&head(kind::DATA, MOST as u64 + 1)).unwrap();
        assert!(pipe.receive(&mut Vec::new()).is_err());
        let (mut pipe, end) = Pipe::pair().unwrap();
        let mut end = Blocking::from(end);
        end.write_all(&head(99, 0)).unwrap();
        assert!(pipe.receive(&mut Vec::new()).is_err());
        let (mut pipe, end) = Pipe::pair().unwrap();
        drop(end);
        assert!(pipe.receive(&mut Vec::new()).unwrap().is_none());
        let (mut pipe, _end) = Pipe::pair().unwrap();
        pipe.waker().unwrap()();
        assert!(pipe.receive(&mut Vec::new()).unwrap().is_none());
    }
}
