//! Bytes to frames.

use super::Source;
use crate::frame::{FDS_MAX, Frame, FrameError, LENGTH_BYTES, frame_length};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

/// The shared buffer: several small frames come with one read.
const BUFFER: usize = 16 * 1024;
/// How much memory a frame's claimed length may take before its bytes have come. One chunk of stream data fits.
const TRUST: usize = 256 * 1024 + 64;

/// Why no more frames come.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The socket failed.
    #[error("reading from the connection")]
    Io(#[from] io::Error),
    /// The peer does not keep the protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Reads frames. [`FrameReader::next`] may be dropped at any await and called again.
#[derive(Debug)]
pub struct FrameReader<S> {
    source: S,
    /// Received bytes are `buffer[start..end]`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    large: Option<Large>,
    /// A frame that waits for its descriptors: one byte each in the stream.
    waiting: Option<(Frame, usize)>,
    fds: VecDeque<OwnedFd>,
}

/// A frame that does not fit the shared buffer: it gets its own memory, and that grows with what has come.
#[derive(Debug)]
struct Large {
    bytes: Vec<u8>,
    filled: usize,
    total: usize,
}

impl<S: Source> FrameReader<S> {
    /// Starts at the first byte of a frame.
    pub fn new(source: S) -> Self {
        Self {
            source,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            large: None,
            waiting: None,
            fds: VecDeque::new(),
        }
    }

    /// The socket's half.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// The next frame; `None` when the peer left between two frames.
    pub async fn next(&mut self) -> Result<Option<Frame>, ReadError> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(Some(frame));
            }
            if !self.fill().await? {
                let clean = self.start == self.end && self.large.is_none() && self.waiting.is_none();
                return if clean { Ok(None) } else { Err(FrameError::Cut.into()) };
            }
        }
    }

    /// A frame that needs no waiting.
    pub fn buffered(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.waiting.is_none() {
            let Some(bytes) = self.take_frame()? else { return Ok(None) };
            let (frame, fds) = Frame::parse(bytes)?;
            if fds == 0 {
                if self.start == self.end {
                    // Descriptors that belong to no frame are closed, so that they cannot pile up.
                    self.fds.clear();
                }
                return Ok(Some(frame));
            }
            self.waiting = Some((frame, fds));
        }
        let Some((frame, want)) = &mut self.waiting else { return Ok(None) };
        let bytes = (self.end - self.start).min(*want - frame.fds.len());
        for _ in 0..bytes {
            let Some(fd) = self.fds.pop_front() else {
                // A byte came where a descriptor should have been.
                return Err(FrameError::Fds(u32::try_from(*want).unwrap_or(u32::MAX)));
            };
            self.start += 1;
            frame.fds.push(fd);
        }
        if frame.fds.len() < *want {
            return Ok(None);
        }
        Ok(self.waiting.take().map(|w| w.0))
    }

    /// The bytes of the next frame, if they are all there.
    fn take_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        if let Some(large) = self.large.take_if(|l| l.filled == l.total) {
            return Ok(Some(large.bytes.into()));
        }
        let got = &self.buffer[self.start..self.end];
        let Some(word) = got.first_chunk::<LENGTH_BYTES>().filter(|_| self.large.is_none()) else {
            return Ok(None);
        };
        let total = frame_length(*word)?;
        if total <= got.len() {
            let frame = Bytes::copy_from_slice(&got[..total]);
            self.start += total;
            return Ok(Some(frame));
        }
        if total > self.buffer.len() {
            let mut bytes = vec![0; total.min(TRUST)];
            bytes[..got.len()].copy_from_slice(got);
            self.large = Some(Large { bytes, filled: got.len(), total });
            (self.start, self.end) = (0, 0);
        }
        Ok(None)
    }

    /// Reads once; false at the end.
    async fn fill(&mut self) -> Result<bool, ReadError> {
        let room = match &mut self.large {
            Some(large) => {
                if large.filled == large.bytes.len() {
                    large.bytes.resize((large.filled * 2).min(large.total), 0);
                }
                &mut large.bytes[large.filled..]
            }
            None => {
                if self.start == self.end {
                    (self.start, self.end) = (0, 0);
                } else if self.start > 0 {
                    self.buffer.copy_within(self.start..self.end, 0);
                    (self.start, self.end) = (0, self.end - self.start);
                }
                &mut self.buffer[self.end..]
            }
        };
        let n = self.source.recv(room, &mut self.fds).await?;
        if self.fds.len() > 2 * FDS_MAX {
            return Err(FrameError::Fds(u32::try_from(self.fds.len()).unwrap_or(u32::MAX)).into());
        }
        match &mut self.large {
            Some(large) => large.filled += n,
            None => self.end += n,
        }
        Ok(n > 0)
    }
}
