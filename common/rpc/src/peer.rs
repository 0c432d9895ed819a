//! Who is at the other end of a unix socket, as the kernel says.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;
use virt_socket::Stream;

/// The credentials of a connected process at the time it connected (SO_PEERCRED).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// 0 when the process lives in another PID namespace. It may have ended: good for logs, not for decisions.
    pub pid: i32,
    /// Effective user.
    pub uid: u32,
    /// Effective primary group.
    pub gid: u32,
}

impl Peer {
    /// Asks the kernel about a connected unix socket.
    pub fn of(socket: impl AsFd) -> io::Result<Self> {
        let cred = getsockopt(&socket.as_fd(), PeerCredentials)?;
        Ok(Self { pid: cred.pid(), uid: cred.uid(), gid: cred.gid() })
    }
}

/// An accepted gRPC connection that knows its peer.
pub struct Connection {
    stream: Stream,
    peer: Peer,
}

impl Connection {
    /// Fails if the peer's credentials cannot be read.
    pub fn new(stream: tokio::net::UnixStream) -> io::Result<Self> {
        let peer = Peer::of(&stream)?;
        Ok(Self { stream: Stream::new(stream)?, peer })
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
