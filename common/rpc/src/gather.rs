//! Sends what belongs together in one system call.
//!
//! An HTTP/2 client flushes a request's header before its body is queued, so a small call costs two writes here and two
//! wake-ups there. [`Gather`] answers the first flush with "not yet": tasks that are ready run first and add the body, and
//! the second flush writes all of it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are held before they are written without waiting for a flush.
const LIMIT: usize = 64 * 1024;

/// A connection whose writes are held until a flush has been asked for twice.
pub struct Gather<T> {
    inner: T,
    held: Vec<u8>,
    /// Bytes of `held` that are written.
    sent: usize,
    asked: bool,
}

impl<T: AsyncWrite + Unpin> Gather<T> {
    /// Over a connection.
    pub fn new(inner: T) -> Self {
        Self { inner, held: Vec::new(), sent: 0, asked: false }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.held.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.sent += n,
            }
        }
        self.held.clear();
        self.held.shrink_to(LIMIT);
        self.sent = 0;
        self.asked = false;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gather<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gather<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.held.len() >= LIMIT {
            ready!(self.poll_send(cx))?;
        }
        data.iter().for_each(|slice| self.held.extend_from_slice(slice));
        Poll::Ready(Ok(data.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            return Pin::new(&mut self.inner).poll_flush(cx);
        }
        if !self.asked && self.held.len() < LIMIT {
            self.asked = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_is_added_before_the_second_flush_leaves_together() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let mut gather = Gather::new(ours);
        gather.write_all(b"head").await.unwrap();
        let first = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut gather).poll_flush(cx))).await;
        assert!(first.is_pending());
        gather.write_all(b"body").await.unwrap();
        gather.flush().await.unwrap();
        let mut got = [0; 16];
        assert_eq!(theirs.read(&mut got).await.unwrap(), 8);
        assert_eq!(&got[..8], b"headbody");
    }

    #[tokio::test]
    async fn much_data_passes_a_narrow_pipe() {
        let (ours, mut theirs) = tokio::io::duplex(100);
        let mut gather = Gather::new(ours);
        let sent = vec![7; 1_000_000];
        let copy = sent.clone();
        let writing = tokio::spawn(async move {
            for chunk in copy.chunks(3000) {
                gather.write_all(chunk).await.unwrap();
            }
            gather.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).await.unwrap();
        writing.await.unwrap();
        assert!(got == sent);
    }
}
