//! Where received bytes and descriptors come from.

use super::Plain;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use tokio::io::{AsyncRead, AsyncReadExt, Interest};
use tokio::net::unix;

/// Room for one control message; senders put one descriptor into each, and one read gives at most one message.
const CONTROL_FDS: usize = 4;

/// The receiving half of a connection.
pub trait Source: Send {
    /// Waits for bytes and puts them into `buffer`; 0 is the end. Descriptors that came with them are appended to
    /// `fds`. Dropping the future loses nothing.
    fn recv(
        &mut self,
        buffer: &mut [u8],
        fds: &mut VecDeque<OwnedFd>,
    ) -> impl Future<Output = io::Result<usize>> + Send;
}

impl<T: AsyncRead + Unpin + Send> Source for Plain<T> {
    async fn recv(&mut self, buffer: &mut [u8], _: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
        self.0.read(buffer).await
    }
}

impl Source for unix::OwnedReadHalf {
    async fn recv(&mut self, buffer: &mut [u8], fds: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
        let stream: &tokio::net::UnixStream = self.as_ref();
        loop {
            stream.readable().await?;
            let mut got = None;
            let tried = stream.try_io(Interest::READABLE, || {
                let (n, with_fds) = recv_once(stream, buffer, fds)?;
                got = Some(n);
                // A short read has emptied the socket: giving up readiness here saves the read that would say so. A
                // read that ended at a descriptor may have left bytes behind.
                if n > 0 && n < buffer.len() && !with_fds {
                    Err(io::ErrorKind::WouldBlock.into())
                } else {
                    Ok(())
                }
            });
            match (got, tried) {
                (Some(n), _) => return Ok(n),
                (None, Err(e)) if e.kind() == io::ErrorKind::WouldBlock => {}
                (None, Err(e)) => return Err(e),
                (None, Ok(())) => {}
            }
        }
    }
}

/// One system call: bytes, and whether descriptors came with them.
fn recv_once(
    stream: &tokio::net::UnixStream,
    buffer: &mut [u8],
    fds: &mut VecDeque<OwnedFd>,
) -> io::Result<(usize, bool)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(CONTROL_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(stream, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut with_fds = false;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            with_fds = true;
            fds.extend(rights);
        }
    }
    Ok((received.bytes, with_fds))
}
