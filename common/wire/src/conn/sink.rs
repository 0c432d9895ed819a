//! Where bytes and descriptors go.

use super::Plain;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::future::Future;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// The sending half of a connection.
pub trait Sink: Send {
    /// Writes some of the bytes and says how many.
    fn send(&mut self, bytes: &[IoSlice<'_>]) -> impl Future<Output = io::Result<usize>> + Send;

    /// Sends a descriptor with a single byte 0.
    fn send_fd(&mut self, fd: BorrowedFd<'_>) -> impl Future<Output = io::Result<()>> + Send;

    /// Says that nothing more comes.
    fn finish(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

impl<T: AsyncWrite + Unpin + Send> Sink for Plain<T> {
    async fn send(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.0.is_write_vectored() {
            self.0.write_vectored(bytes).await
        } else {
            // Such a stream would write the first slice alone: TLS wants them in one record.
            let whole: Vec<u8> = bytes.iter().flat_map(|b| b.iter().copied()).collect();
            self.0.write_all(&whole).await?;
            self.0.flush().await?;
            Ok(whole.len())
        }
    }

    async fn send_fd(&mut self, _: BorrowedFd<'_>) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this connection carries no descriptors"))
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

impl Sink for virt_socket::Writer {
    async fn send(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_with(|mut socket| socket.write_vectored(bytes)).await
    }

    async fn send_fd(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.write_with(|socket| send_fd_once(socket.as_fd(), fd)).await
    }

    async fn finish(&mut self) -> io::Result<()> {
        virt_socket::Writer::finish(self)
    }
}

fn send_fd_once(socket: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> io::Result<()> {
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    loop {
        match sendmsg(socket, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            other => return other.map(drop).map_err(Into::into),
        }
    }
}
