//! Frames on their way out: header and payload encoded into one buffer, bulk data beside it without a copy.

use super::{BODY_MAX, FDS_MAX, FRAME_MIN, Header, LENGTH_BYTES, MessageType, Status, error_to_wire};
use crate::program::{Event, Procedure};
use crate::xdr::{XdrEncode, XdrError};
use bytes::Bytes;
use std::os::fd::OwnedFd;
use virt_error::{Code, Domain, Error};

/// The serial of events; clients ignore it (the 11.3 daemon sends 1).
const EVENT_SERIAL: u32 = 1;

/// A frame that is ready to be written.
#[derive(Debug)]
pub struct OutFrame {
    /// Length word, header and encoded payload.
    pub(crate) head: Vec<u8>,
    /// Raw bytes after it (stream data).
    pub(crate) tail: Bytes,
    /// Descriptors that follow the frame.
    pub(crate) fds: Vec<OwnedFd>,
}

impl OutFrame {
    /// A frame with an encoded payload.
    pub fn new(header: Header, payload: &(impl XdrEncode + ?Sized)) -> Result<Self, XdrError> {
        Self::build(header, payload, Bytes::new(), Vec::new())
    }

    /// A frame whose payload is already encoded.
    pub fn raw(header: Header, payload: Bytes) -> Result<Self, XdrError> {
        Self::build(header, &(), payload, Vec::new())
    }

    /// A frame with descriptors: `header.kind` must be one of the `_WITH_FDS` types.
    pub fn with_fds(
        header: Header,
        payload: &(impl XdrEncode + ?Sized),
        fds: Vec<OwnedFd>,
    ) -> Result<Self, XdrError> {
        debug_assert!(header.kind.has_fds());
        Self::build(header, payload, Bytes::new(), fds)
    }

    fn build(
        header: Header,
        payload: &(impl XdrEncode + ?Sized),
        tail: Bytes,
        fds: Vec<OwnedFd>,
    ) -> Result<Self, XdrError> {
        let mut head = Vec::with_capacity(128);
        head.extend_from_slice(&[0; LENGTH_BYTES]);
        header.encode(&mut head)?;
        if header.kind.has_fds() {
            let count = fds.len();
            let word = u32::try_from(count).ok().filter(|_| count <= FDS_MAX);
            word.ok_or(XdrError::TooLong { len: count, max: FDS_MAX })?.encode(&mut head)?;
        }
        payload.encode(&mut head)?;
        let length = head.len() + tail.len();
        let body = length - LENGTH_BYTES;
        let word = u32::try_from(length).ok().filter(|_| body <= BODY_MAX);
        let word = word.ok_or(XdrError::TooLong { len: body, max: BODY_MAX })?;
        head[..LENGTH_BYTES].copy_from_slice(&word.to_be_bytes());
        Ok(Self { head, tail, fds })
    }

    /// A call.
    pub fn call<P: Procedure>(serial: u32, args: &P::Args) -> Result<Self, XdrError> {
        Self::new(Self::call_header::<P>(serial, MessageType::CALL), args)
    }

    /// The header of a call.
    pub fn call_header<P: Procedure>(serial: u32, kind: MessageType) -> Header {
        let program = P::PROGRAM;
        Header {
            prog: program.number,
            vers: program.version,
            proc: P::NUMBER,
            kind,
            serial,
            status: Status::OK,
        }
    }

    /// The answer to `call`: its value, or the error struct. A value the wire cannot carry becomes an error.
    pub fn reply<T: XdrEncode>(call: Header, answer: Result<T, Error>) -> Self {
        match answer.map(|value| Self::new(call.reply(Status::OK), &value)) {
            Ok(Ok(frame)) => frame,
            Ok(Err(cause)) => Self::unencodable(call, cause),
            Err(error) => Self::error(call, &error),
        }
    }

    /// The encoded payload, of a frame without bytes beside it.
    pub fn payload(&self) -> &[u8] {
        self.head.get(FRAME_MIN..).unwrap_or_default()
    }

    /// The same for an answer that may carry descriptors.
    pub fn give<T: XdrEncode>(call: Header, answer: Result<(T, Vec<OwnedFd>), Error>) -> Self {
        match answer.map(|(value, fds)| Self::reply_with_fds(call, &value, fds)) {
            Ok(Ok(frame)) => frame,
            Ok(Err(cause)) => Self::unencodable(call, cause),
            Err(error) => Self::error(call, &error),
        }
    }

    fn unencodable(call: Header, cause: XdrError) -> Self {
        let text = format!("cannot encode the reply of procedure {}", call.proc);
        Self::error(call, &Error::new(Code::Rpc, Domain::Rpc, text).with_source(cause))
    }

    /// An answer with descriptors; without any it is a plain reply, as the reference sends it.
    pub fn reply_with_fds<T: XdrEncode>(
        call: Header,
        value: &T,
        fds: Vec<OwnedFd>,
    ) -> Result<Self, XdrError> {
        let mut header = call.reply(Status::OK);
        if fds.is_empty() {
            return Self::new(header, value);
        }
        header.kind = MessageType::REPLY_WITH_FDS;
        Self::with_fds(header, value, fds)
    }

    /// The answer to `call` that it failed.
    pub fn error(call: Header, error: &Error) -> Self {
        Self::failed(call.reply(Status::ERROR), error)
    }

    /// An event.
    pub fn event<E: Event>(msg: &E::Msg) -> Result<Self, XdrError> {
        let (prog, vers) = (E::PROGRAM.number, E::PROGRAM.version);
        let kind = MessageType::MESSAGE;
        Self::new(Header { prog, vers, proc: E::NUMBER, kind, serial: EVENT_SERIAL, status: Status::OK }, msg)
    }

    /// Stream data; the bytes are not copied. Peers put at most [`super::STREAM_CHUNK`] into one frame.
    pub fn stream_data(call: Header, data: Bytes) -> Result<Self, XdrError> {
        Self::raw(call.stream(Status::CONTINUE), data)
    }

    /// The sender is done, or the answer to that.
    pub fn stream_finish(call: Header) -> Self {
        Self::empty(call.stream(Status::OK))
    }

    /// The server's stream failed.
    pub fn stream_error(call: Header, error: &Error) -> Self {
        Self::failed(call.stream(Status::ERROR), error)
    }

    /// The client gives the stream up.
    pub fn stream_abort(call: Header) -> Self {
        Self::empty(call.stream(Status::ERROR))
    }

    /// A gap of `length` bytes in a sparse stream.
    pub fn stream_hole(call: Header, length: i64) -> Self {
        let mut frame =
            Self::empty(Header { kind: MessageType::STREAM_HOLE, ..call.stream(Status::CONTINUE) });
        frame.head.extend_from_slice(&length.to_be_bytes());
        frame.head.extend_from_slice(&0u32.to_be_bytes());
        frame.set_length();
        frame
    }

    /// `keepalive::PROC_PING` or `PROC_PONG`.
    pub fn keepalive(proc: i32) -> Self {
        let (prog, vers) = (crate::keepalive::PROGRAM.number, crate::keepalive::PROGRAM.version);
        Self::empty(Header { prog, vers, proc, kind: MessageType::MESSAGE, serial: 0, status: Status::OK })
    }

    fn empty(header: Header) -> Self {
        let words = [
            FRAME_MIN as u32,
            header.prog,
            header.vers,
            header.proc as u32,
            header.kind.0,
            header.serial,
            header.status.0,
        ];
        let head = words.iter().flat_map(|w| w.to_be_bytes()).collect();
        Self { head, tail: Bytes::new(), fds: Vec::new() }
    }

    fn failed(header: Header, error: &Error) -> Self {
        let mut frame = Self::empty(header);
        // The texts are cut to what the wire carries, so this cannot fail; an error without text still is one.
        if error_to_wire(error).encode(&mut frame.head).is_err() {
            frame.head.truncate(FRAME_MIN);
        }
        frame.set_length();
        frame
    }

    /// For frames whose head alone is the frame and small.
    fn set_length(&mut self) {
        let length = self.head.len() as u32;
        self.head[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    }

    /// Bytes on the wire, without those that carry descriptors.
    pub fn wire_len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// The frame as one piece of bytes (without descriptors).
    pub fn into_bytes(self) -> Vec<u8> {
        let mut bytes = self.head;
        bytes.extend_from_slice(&self.tail);
        bytes
    }
}
