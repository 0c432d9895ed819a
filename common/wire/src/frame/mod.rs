//! Frames: a length word that counts itself, a header of six words, a payload.
//!
//! [`Frame`] is what was received, [`OutFrame`] what will be sent. The types and statuses are kept as the numbers they
//! are: a peer that sends an unknown one gets an error reply, not a parse failure.

mod error;
mod out;

pub use error::{bad_payload, error_from_wire, error_to_wire};
pub use out::OutFrame;

use crate::program::{Event, Procedure};
use crate::xdr::{self, Reader, XdrDecode, XdrEncode};
use bytes::Bytes;
use std::os::fd::OwnedFd;

/// Bytes of the length word.
pub const LENGTH_BYTES: usize = 4;
/// Bytes of the header after the length word.
pub const HEADER_BYTES: usize = 24;
/// The shortest frame.
pub const FRAME_MIN: usize = LENGTH_BYTES + HEADER_BYTES;
/// The longest header and payload (`VIR_NET_MESSAGE_MAX`), without the length word.
pub const BODY_MAX: usize = 33_554_432;
/// The longest frame, with the length word.
pub const FRAME_MAX: usize = LENGTH_BYTES + BODY_MAX;
/// The most stream data that peers put into one frame (`VIR_NET_MESSAGE_LEGACY_PAYLOAD_MAX`).
pub const STREAM_CHUNK: usize = 262_120;
/// The most descriptors beside one frame.
pub const FDS_MAX: usize = 32;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageType(pub u32);

impl MessageType {
    /// A request; the client's.
    pub const CALL: Self = Self(0);
    /// The answer to a request.
    pub const REPLY: Self = Self(1);
    /// An event or keepalive, without an answer.
    pub const MESSAGE: Self = Self(2);
    /// A part of a stream.
    pub const STREAM: Self = Self(3);
    /// A request with descriptors.
    pub const CALL_WITH_FDS: Self = Self(4);
    /// An answer with descriptors.
    pub const REPLY_WITH_FDS: Self = Self(5);
    /// A gap in a stream.
    pub const STREAM_HOLE: Self = Self(6);

    /// Whether a descriptor count comes before the payload.
    pub fn has_fds(self) -> bool {
        self == Self::CALL_WITH_FDS || self == Self::REPLY_WITH_FDS
    }
}

/// How a frame's matter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(pub u32);

impl Status {
    /// Done, or a call.
    pub const OK: Self = Self(0);
    /// Failed: the payload is an error.
    pub const ERROR: Self = Self(1);
    /// More of a stream.
    pub const CONTINUE: Self = Self(2);
}

/// The six words after the length word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The program's number.
    pub prog: u32,
    /// The program's version.
    pub vers: u32,
    /// The procedure's number.
    pub proc: i32,
    /// What the frame is.
    pub kind: MessageType,
    /// Given by the caller and copied into the answer.
    pub serial: u32,
    /// How the matter stands.
    pub status: Status,
}

impl Header {
    /// The header of the answer to `self`.
    pub fn reply(self, status: Status) -> Self {
        Self { kind: MessageType::REPLY, status, ..self }
    }

    /// The header of a stream frame that belongs to `self`.
    pub fn stream(self, status: Status) -> Self {
        Self { kind: MessageType::STREAM, status, ..self }
    }

    /// Whether the other header belongs to the same call or stream.
    pub fn same_matter(&self, other: &Self) -> bool {
        (self.prog, self.vers, self.proc, self.serial) == (other.prog, other.vers, other.proc, other.serial)
    }
}

impl XdrEncode for Header {
    fn encode(&self, out: &mut Vec<u8>) -> xdr::Result<()> {
        self.prog.encode(out)?;
        self.vers.encode(out)?;
        self.proc.encode(out)?;
        self.kind.0.encode(out)?;
        self.serial.encode(out)?;
        self.status.0.encode(out)
    }
}

impl XdrDecode for Header {
    const MIN: usize = HEADER_BYTES;
    fn decode(r: &mut Reader<'_>) -> xdr::Result<Self> {
        Ok(Self {
            prog: r.u32()?,
            vers: r.u32()?,
            proc: i32::decode(r)?,
            kind: MessageType(r.u32()?),
            serial: r.u32()?,
            status: Status(r.u32()?),
        })
    }
}

/// A received frame.
#[derive(Debug)]
pub struct Frame {
    /// Its header.
    pub header: Header,
    /// What follows the header (and the descriptor count).
    pub payload: Bytes,
    /// Descriptors that came with it.
    pub fds: Vec<OwnedFd>,
}

/// Why bytes are not a frame. All of these end the connection: what follows cannot be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length word is too small or too large.
    #[error("a frame of {0} bytes is not possible")]
    Length(u32),
    /// The descriptor count is missing or over the limit.
    #[error("a frame with {0} descriptors is not possible")]
    Fds(u32),
    /// The peer left in the middle of a frame.
    #[error("the connection ended inside a frame")]
    Cut,
}

/// Checks a length word and gives the bytes of the whole frame.
pub fn frame_length(word: [u8; LENGTH_BYTES]) -> Result<usize, FrameError> {
    let word = u32::from_be_bytes(word);
    match word as usize {
        n @ FRAME_MIN..=FRAME_MAX => Ok(n),
        _ => Err(FrameError::Length(word)),
    }
}

impl Frame {
    /// Takes a whole frame, length word included, apart; gives how many descriptors must follow it.
    pub fn parse(mut bytes: Bytes) -> Result<(Self, usize), FrameError> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut r = Reader::new(bytes.get(LENGTH_BYTES..).unwrap_or_default());
        let header = Header::decode(&mut r).map_err(|_| FrameError::Length(length))?;
        let mut payload = bytes.split_off(FRAME_MIN);
        let mut fds = 0;
        if header.kind.has_fds() {
            let count = Reader::new(&payload).u32().map_err(|_| FrameError::Fds(0))?;
            fds = usize::try_from(count).ok().filter(|n| *n <= FDS_MAX).ok_or(FrameError::Fds(count))?;
            payload = payload.split_off(4);
        }
        Ok((Self { header, payload, fds: Vec::new() }, fds))
    }

    /// The payload as a type; every byte of it must belong to the value.
    pub fn decode<T: XdrDecode>(&self) -> xdr::Result<T> {
        xdr::from_bytes(&self.payload)
    }

    /// The arguments of a call.
    pub fn args<P: Procedure>(&self) -> xdr::Result<P::Args> {
        self.decode()
    }

    /// The event, when the frame is one of this type.
    pub fn event<E: Event>(&self) -> Option<xdr::Result<E::Msg>> {
        let h = &self.header;
        let matches = h.kind == MessageType::MESSAGE && h.prog == E::PROGRAM.number && h.proc == E::NUMBER;
        matches.then(|| self.decode())
    }

    /// The error of a frame with status ERROR.
    pub fn error(&self) -> virt_error::Error {
        match self.decode::<crate::remote::Error>() {
            Ok(wire) => error_from_wire(wire),
            Err(cause) => bad_payload(cause),
        }
    }
}

#[cfg(test)]
mod tests;
