//! The client's side: typed calls that are pipelined and matched by serial, events, streams, keepalive answers.
//!
//! A [`Client`] is a handle; clones share the connection. Two tasks of the current runtime serve it: one reads and hands
//! out, one writes. When the last handle is gone the connection is closed.

mod stream;

pub use stream::{ClientStream, StreamPart};

use crate::conn::{Drain, FrameReader, Outbox, ReadError, Sink, Source, over_stream, over_unix};
use crate::frame::{Frame, Header, MessageType, OutFrame, Status, bad_payload};
use crate::keepalive;
use crate::program::Procedure;
use crate::remote::{self, procs};
use crate::xdr::{XdrError, from_bytes};
use bytes::Bytes;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::{TcpStream, ToSocketAddrs, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use virt_error::{Code, Domain, Error, Result};

/// Bytes that may wait to be written before callers wait.
const OUTBOX_LIMIT: usize = 4 << 20;
/// Events that may wait for their reader; one more ends the connection, so that none is lost in silence.
const EVENT_QUEUE: usize = 8192;
/// Frames of one stream that may wait for their reader; more hold up the connection.
const STREAM_QUEUE: usize = 64;

/// A connection to a libvirt daemon.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    outbox: Outbox,
    shared: Arc<Shared>,
    reader: JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next_serial: u32,
    calls: HashMap<u32, oneshot::Sender<Frame>>,
    streams: HashMap<u32, mpsc::Sender<Frame>>,
    events: Option<mpsc::Sender<Frame>>,
    /// Why the connection is over.
    end: Option<End>,
}

#[derive(Debug, Clone)]
enum End {
    /// The peer closed it.
    Eof,
    /// It broke.
    Failed(String),
    /// Nobody read the events.
    Events,
}

impl End {
    fn error(&self) -> Error {
        match self {
            Self::Eof => {
                let cause = std::io::Error::from(rustix::io::Errno::IO);
                Error::system(Domain::Rpc, "End of file while reading data", cause)
            }
            Self::Failed(text) => Error::new(Code::Rpc, Domain::Rpc, text.clone()),
            Self::Events => Error::new(Code::Rpc, Domain::Rpc, "too many events wait to be read"),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Connects to a unix socket; nothing is sent.
    pub async fn connect_unix(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |cause| {
            Error::system(Domain::Rpc, format!("Failed to connect socket to '{}'", path.display()), cause)
        };
        Self::over_unix(UnixStream::connect(path).await.map_err(failed)?).map_err(failed)
    }

    /// Connects by TCP without TLS; nothing is sent.
    pub async fn connect_tcp(address: impl ToSocketAddrs + std::fmt::Debug) -> Result<Self> {
        let name = format!("{address:?}");
        let failed =
            |cause| Error::system(Domain::Rpc, format!("unable to connect to server at {name}"), cause);
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (read, write) = stream.into_split();
        let (reader, outbox, drain) = over_stream(read, write, OUTBOX_LIMIT);
        Ok(Self::start(reader, outbox, drain))
    }

    /// Speaks over a connected socket.
    pub fn over_unix(stream: UnixStream) -> io::Result<Self> {
        let (reader, outbox, drain) = over_unix(stream, OUTBOX_LIMIT)?;
        Ok(Self::start(reader, outbox, drain))
    }

    /// Speaks over any pair of streams (TLS, a tunnel).
    pub fn over<R, W>(read: R, write: W) -> Self
    where
        R: tokio::io::AsyncRead + Unpin + Send + 'static,
        W: tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (reader, outbox, drain) = over_stream(read, write, OUTBOX_LIMIT);
        Self::start(reader, outbox, drain)
    }

    fn start<S: Source + 'static, W: Sink + 'static>(
        reader: FrameReader<S>,
        outbox: Outbox,
        drain: Drain<W>,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        // A write that fails shows at the reader too, which tells the callers.
        tokio::spawn(drain.run());
        let reader = tokio::spawn(read_loop(reader, outbox.clone(), shared.clone()));
        Self { inner: Arc::new(Inner { outbox, shared, reader }) }
    }

    /// Connects to a unix socket, authenticates (none) and opens `uri` (empty: the server chooses).
    pub async fn open_unix(path: impl AsRef<Path>, uri: &str, readonly: bool) -> Result<Self> {
        let client = Self::connect_unix(path).await?;
        client.authenticate().await?;
        client.open(uri, readonly).await?;
        Ok(client)
    }

    /// Asks how to authenticate; only "none" is known here.
    pub async fn authenticate(&self) -> Result<()> {
        let types = self.call::<procs::AuthList>(&()).await?.types;
        // A list without entries means the same as one that says none.
        if types.is_empty() || types.contains(&remote::AuthType::AUTH_NONE) {
            return Ok(());
        }
        Err(Error::new(
            Code::AuthFailed,
            Domain::Rpc,
            format!("unsupported authentication type {}", types[0].0),
        ))
    }

    /// Opens a driver.
    pub async fn open(&self, uri: &str, readonly: bool) -> Result<()> {
        let args = remote::ConnectOpenArgs { name: Some(uri.to_owned()), flags: u32::from(readonly) };
        self.call::<procs::ConnectOpen>(&args).await
    }

    /// Closes in order: the server answers, then hangs up.
    pub async fn close(&self) -> Result<()> {
        self.call::<procs::ConnectClose>(&()).await
    }

    /// Calls and waits for the answer. Many calls may be under way; a dropped one is forgotten, not undone.
    pub async fn call<P: Procedure>(&self, args: &P::Args) -> Result<P::Ret> {
        let frame = self.exchange(|serial| OutFrame::call::<P>(serial, args)).await?;
        from_bytes(&frame.payload).map_err(bad_payload)
    }

    /// As [`Client::call`] with descriptors both ways.
    pub async fn call_with_fds<P: Procedure>(
        &self,
        args: &P::Args,
        fds: Vec<OwnedFd>,
    ) -> Result<(P::Ret, Vec<OwnedFd>)> {
        let build = |serial| {
            let header = OutFrame::call_header::<P>(serial, MessageType::CALL_WITH_FDS);
            OutFrame::with_fds(header, args, fds)
        };
        let frame = self.exchange(build).await?;
        Ok((from_bytes(&frame.payload).map_err(bad_payload)?, frame.fds))
    }

    /// Calls by numbers, with a payload that is already encoded: for what the tables do not have.
    pub async fn call_raw(&self, prog: u32, vers: u32, proc: i32, payload: Bytes) -> Result<Frame> {
        let build = |serial| {
            let header = Header { prog, vers, proc, kind: MessageType::CALL, serial, status: Status::OK };
            OutFrame::raw(header, payload)
        };
        self.exchange(build).await
    }

    /// Calls and opens the call's stream.
    pub async fn open_stream<P: Procedure>(&self, args: &P::Args) -> Result<(P::Ret, ClientStream)> {
        let (sender, receiver) = mpsc::channel(STREAM_QUEUE);
        let mut call = self.register(Some(sender))?;
        let header = OutFrame::call_header::<P>(call.serial, MessageType::CALL);
        // From here on the stream's entry goes with the stream.
        let mut stream = ClientStream::new(self.clone(), header, receiver);
        let opened = async {
            self.send(OutFrame::call::<P>(call.serial, args).map_err(cannot_encode)?).await?;
            self.answer(&mut call).await
        };
        match opened.await {
            Ok(reply) => Ok((from_bytes(&reply.payload).map_err(bad_payload)?, stream)),
            Err(error) => {
                stream.never_opened();
                Err(error)
            }
        }
    }

    /// Events from now on, as frames ([`Frame::event`] tells them apart). A second call replaces the first receiver.
    pub fn events(&self) -> mpsc::Receiver<Frame> {
        let (sender, receiver) = mpsc::channel(EVENT_QUEUE);
        self.inner.shared.lock().events = Some(sender);
        receiver
    }

    /// Whether the connection is over.
    pub fn is_closed(&self) -> bool {
        self.inner.shared.lock().end.is_some()
    }

    async fn exchange(&self, build: impl FnOnce(u32) -> Result<OutFrame, XdrError>) -> Result<Frame> {
        let mut call = self.register(None)?;
        self.send(build(call.serial).map_err(cannot_encode)?).await?;
        self.answer(&mut call).await
    }

    fn register(&self, stream: Option<mpsc::Sender<Frame>>) -> Result<PendingCall<'_>> {
        let mut state = self.inner.shared.lock();
        if let Some(end) = &state.end {
            return Err(end.error());
        }
        let serial = state.next_serial;
        state.next_serial = serial.wrapping_add(1);
        let (sender, reply) = oneshot::channel();
        state.calls.insert(serial, sender);
        if let Some(stream) = stream {
            state.streams.insert(serial, stream);
        }
        Ok(PendingCall { client: self, serial, reply })
    }

    async fn send(&self, frame: OutFrame) -> Result<()> {
        self.inner.outbox.send(frame).await.map_err(|_| self.end())
    }

    async fn answer(&self, call: &mut PendingCall<'_>) -> Result<Frame> {
        let frame = (&mut call.reply).await.map_err(|_| self.end())?;
        if frame.header.status == Status::OK { Ok(frame) } else { Err(frame.error()) }
    }

    fn end(&self) -> Error {
        self.inner.shared.lock().end.as_ref().unwrap_or(&End::Eof).error()
    }
}

fn cannot_encode(cause: XdrError) -> Error {
    Error::new(Code::Rpc, Domain::Rpc, "Unable to encode message payload").with_source(cause)
}

/// Forgets the call when its caller does.
struct PendingCall<'a> {
    client: &'a Client,
    serial: u32,
    reply: oneshot::Receiver<Frame>,
}

impl Drop for PendingCall<'_> {
    fn drop(&mut self) {
        self.client.inner.shared.lock().calls.remove(&self.serial);
    }
}

async fn read_loop<S: Source>(mut reader: FrameReader<S>, outbox: Outbox, shared: Arc<Shared>) {
    let end = loop {
        match reader.next().await {
            Ok(Some(frame)) => {
                if let Err(end) = hand_out(frame, &outbox, &shared).await {
                    break end;
                }
            }
            Ok(None) => break End::Eof,
            Err(ReadError::Io(e)) => {
                break End::Failed(format!("Cannot read data: {}", virt_error::os_text(&e)));
            }
            Err(ReadError::Frame(e)) => break End::Failed(e.to_string()),
        }
    };
    outbox.close();
    let mut state = shared.lock();
    state.end = Some(end);
    // Whoever waits learns of the end by the dropped senders.
    state.calls.clear();
    state.streams.clear();
    state.events = None;
}

async fn hand_out(frame: Frame, outbox: &Outbox, shared: &Shared) -> Result<(), End> {
    let header = frame.header;
    if header.prog == keepalive::PROGRAM.number {
        if header.proc == keepalive::PROC_PING {
            // With a full outbox the peer does not read, and will not miss the answer.
            let _ = outbox.try_send(OutFrame::keepalive(keepalive::PROC_PONG));
        }
        return Ok(());
    }
    match header.kind {
        MessageType::REPLY | MessageType::REPLY_WITH_FDS => {
            let waiter = shared.lock().calls.remove(&header.serial);
            match waiter {
                // The caller may have gone in the meantime.
                Some(waiter) => drop(waiter.send(frame)),
                // An abort that failed is answered with a second reply.
                None => to_stream(frame, shared).await,
            }
        }
        MessageType::STREAM | MessageType::STREAM_HOLE => to_stream(frame, shared).await,
        MessageType::MESSAGE => {
            let events = shared.lock().events.clone();
            if let Some(events) = events
                && let Err(mpsc::error::TrySendError::Full(_)) = events.try_send(frame)
            {
                return Err(End::Events);
            }
        }
        // A server sends nothing else; what is not understood is ignored, as late frames are.
        _ => {}
    }
    Ok(())
}

async fn to_stream(frame: Frame, shared: &Shared) {
    let stream = shared.lock().streams.get(&frame.header.serial).cloned();
    if let Some(stream) = stream {
        // A reader that has gone wants no more.
        let _ = stream.send(frame).await;
    }
}
