//! Where received bytes and descriptors come from.

use super::Plain;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use tokio::io::{AsyncRead, AsyncReadExt};
use virt_socket::Received;

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

impl Source for virt_socket::Reader {
    async fn recv(&mut self, buffer: &mut [u8], fds: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
        self.read_with(|socket| {
            let (bytes, with_fds) = recv_once(socket, buffer, fds)?;
            // A read that ended at a descriptor may have left bytes behind.
            Ok(Received { bytes, emptied: bytes > 0 && bytes < buffer.len() && !with_fds })
        })
        .await
    }
}

/// One system call: bytes, and whether descriptors came with them.
fn recv_once(
    stream: &UnixStream,
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
