//! A call's stream, on the client's side.

use super::Client;
use crate::frame::{Frame, Header, MessageType, OutFrame, STREAM_CHUNK, Status, bad_payload};
use crate::xdr::{Reader, XdrDecode};
use bytes::Bytes;
use tokio::sync::mpsc;
use virt_error::{Error, Result};

/// What comes through a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamPart {
    /// Bytes.
    Data(Bytes),
    /// A gap of this many bytes.
    Hole(i64),
}

/// An open stream. Dropped without [`ClientStream::finish`] it is aborted.
pub struct ClientStream {
    client: Client,
    call: Header,
    frames: mpsc::Receiver<Frame>,
    settled: bool,
}

impl ClientStream {
    pub(super) fn new(client: Client, call: Header, frames: mpsc::Receiver<Frame>) -> Self {
        Self { client, call, frames, settled: false }
    }

    /// The call was refused: there is nothing to abort.
    pub(super) fn never_opened(&mut self) {
        self.settled = true;
    }

    /// Sends bytes, in pieces the peers understand.
    pub async fn send(&mut self, mut data: Bytes) -> Result<()> {
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(STREAM_CHUNK));
            let frame = OutFrame::stream_data(self.call, piece).map_err(super::cannot_encode)?;
            self.client.send(frame).await?;
        }
        Ok(())
    }

    /// Sends a gap; only on streams that were opened sparse.
    pub async fn send_hole(&mut self, length: i64) -> Result<()> {
        self.client.send(OutFrame::stream_hole(self.call, length)).await
    }

    /// The next part; `None` at the sender's end.
    pub async fn recv(&mut self) -> Result<Option<StreamPart>> {
        let Some(frame) = self.frames.recv().await else {
            self.settled = true;
            return Err(self.client.end());
        };
        match (frame.header.kind, frame.header.status) {
            (MessageType::STREAM_HOLE, Status::CONTINUE) => {
                let mut r = Reader::new(&frame.payload);
                i64::decode(&mut r).map(|n| Some(StreamPart::Hole(n))).map_err(bad_payload)
            }
            (MessageType::STREAM, Status::CONTINUE) if frame.payload.is_empty() => Ok(None),
            (MessageType::STREAM, Status::CONTINUE) => Ok(Some(StreamPart::Data(frame.payload))),
            (_, Status::ERROR) => Err(self.failed(&frame)),
            _ => {
                // The sender closed its end with OK.
                self.settled = true;
                Ok(None)
            }
        }
    }

    /// Says that all is sent or read, and waits for the server's word on it. Data that still comes is dropped.
    pub async fn finish(mut self) -> Result<()> {
        if self.settled {
            return Ok(());
        }
        self.client.send(OutFrame::stream_finish(self.call)).await?;
        self.settlement().await
    }

    /// Gives the stream up and waits for the server to confirm that.
    pub async fn abort(mut self) -> Result<()> {
        if self.settled {
            return Ok(());
        }
        self.client.send(OutFrame::stream_abort(self.call)).await?;
        self.settlement().await
    }

    async fn settlement(&mut self) -> Result<()> {
        while let Some(frame) = self.frames.recv().await {
            match frame.header.status {
                Status::CONTINUE => {}
                Status::OK => {
                    self.settled = true;
                    return Ok(());
                }
                _ => return Err(self.failed(&frame)),
            }
        }
        self.settled = true;
        Err(self.client.end())
    }

    fn failed(&mut self, frame: &Frame) -> Error {
        self.settled = true;
        frame.error()
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        self.client.inner.shared.lock().streams.remove(&self.call.serial);
        if !self.settled {
            // With a full outbox the server learns of it when the connection ends.
            let _ = self.client.inner.outbox.try_send(OutFrame::stream_abort(self.call));
        }
    }
}
