//! Reaching a daemon: a channel that connects when needed, and a legacy client's session with it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use prost::Message;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};
use virt_api::session::v1alpha1::session_service_client::SessionServiceClient;
use virt_api::session::v1alpha1::{
    Claim, CountChangesRequest, DescriptorRequest, DescriptorResponse, Identify, Offer, OpenRequest,
    descriptor_request, descriptor_response,
};
use virt_error::{Code, Domain, Error, Result, os_text};
use virt_object::changes;
use virt_socket::Stream;

use crate::broken;
use crate::caller::Asserted;
use crate::descriptor::{Packets, SocketPaths};
use crate::gather::Gather;
use crate::server::{MAX_FRAME, MAX_MESSAGE};
use crate::session::METADATA;
use crate::status::from_status;

/// How long a call waits for a daemon that is being started or restarted.
pub const REACH: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How often a session is opened again when the daemon ends meanwhile.
const OPENINGS: u32 = 5;
/// How long the daemon may take for one exchange on the descriptor channel.
const EXCHANGE: Duration = Duration::from_secs(10);
const MAX_HEADERS: u32 = 64 * 1024;
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// Makes a generated client on a daemon's channel with the house's message limit:
/// `client!(DomainServiceClient, daemon)`.
#[macro_export]
macro_rules! client {
    ($client:ident, $daemon:expr) => {
        $client::new($daemon.channel())
            .max_decoding_message_size($crate::server::MAX_MESSAGE)
            .max_encoding_message_size($crate::server::MAX_MESSAGE)
    };
}

/// Why a daemon cannot be reached.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot reach the daemon at '{path}'")]
pub struct Unreachable {
    /// The gRPC socket.
    path: PathBuf,
    /// False: there is no socket, the daemon is not installed.
    installed: bool,
    errno: i32,
}

impl Unreachable {
    /// The reason behind a failed call, if it was this.
    pub fn cause_of(status: &Status) -> Option<Self> {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(status);
        while let Some(error) = cause {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found.clone());
            }
            cause = error.source();
        }
        None
    }

    /// Whether the daemon is installed (its socket exists). If not, the call is "not supported", as a missing driver's.
    pub fn installed(&self) -> bool {
        self.installed
    }

    /// libvirt's error for it: code 38 with the socket's path.
    pub fn error(&self) -> Error {
        let cause = io::Error::from_raw_os_error(self.errno);
        let text = format!("Failed to connect socket to '{}': {}", self.path.display(), os_text(&cause));
        let error = Error::new(Code::SystemError, Domain::Rpc, text).with_errno(self.errno);
        if self.installed { error } else { error.with("daemon", "not installed") }
    }
}

/// A daemon as its clients see it. Clones share one connection, made at the first call and again after a restart.
#[derive(Clone)]
pub struct Daemon {
    paths: SocketPaths,
    channel: Channel,
    /// The count of its changes, once somebody has asked for it.
    changes: Arc<Mutex<Option<Arc<changes::Reader>>>>,
}

impl Daemon {
    /// The daemon whose sockets are in `dir`. Nothing is connected yet.
    pub fn new(dir: impl Into<PathBuf>, daemon: &str) -> Self {
        Self::with_patience(dir, daemon, REACH)
    }

    /// As [`Daemon::new`] with another limit for a daemon that does not answer.
    pub fn with_patience(dir: impl Into<PathBuf>, daemon: &str, patience: Duration) -> Self {
        let paths = SocketPaths::new(dir, daemon);
        let path = paths.grpc.clone();
        // The authority is not used on a unix socket, but HTTP/2 wants one.
        let channel = Endpoint::from_static("http://localhost")
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .http2_max_header_list_size(MAX_HEADERS)
            .connect_with_connector_lazy(tower::service_fn(move |_: Uri| reach(path.clone(), patience)));
        Self { paths, channel, changes: Arc::default() }
    }

    /// For generated clients; see [`crate::client!`].
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Where its sockets are.
    pub fn paths(&self) -> &SocketPaths {
        &self.paths
    }

    /// Whether its socket exists: it runs or systemd would start it.
    pub fn installed(&self) -> bool {
        self.paths.grpc.exists()
    }

    /// Fetches the descriptors behind a ticket of a gRPC answer.
    pub async fn claim(&self, token: &[u8]) -> Result<Vec<OwnedFd>> {
        let request = descriptor_request::Request::Claim(Claim { token: Bytes::copy_from_slice(token) });
        Ok(self.exchange(request, &[]).await?.1)
    }

    /// Hands descriptors over; the answer names them in a gRPC request.
    pub async fn offer(&self, descriptors: &[BorrowedFd<'_>]) -> Result<Bytes> {
        let (token, _) = self.exchange(descriptor_request::Request::Offer(Offer {}), descriptors).await?;
        Ok(token)
    }

    async fn exchange(
        &self,
        request: descriptor_request::Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(Bytes, Vec<OwnedFd>)> {
        let path = &self.paths.descriptors;
        let failed = |e: io::Error| {
            Error::system(Domain::Rpc, format!("Failed to use socket '{}'", path.display()), e)
        };
        let talk = async {
            let packets =
                retry(path, REACH, || async { Packets::connect(path) }).await.map_err(|u| u.error())?;
            let bytes = DescriptorRequest { request: Some(request) }.encode_to_vec();
            packets.send(&bytes, descriptors).await.map_err(failed)?;
            let answer = packets.receive().await.map_err(failed)?;
            answer.ok_or_else(|| failed(io::ErrorKind::UnexpectedEof.into()))
        };
        let late = |_| failed(io::Error::from_raw_os_error(rustix::io::Errno::TIMEDOUT.raw_os_error()));
        let (bytes, received) = tokio::time::timeout(EXCHANGE, talk).await.map_err(late)??;
        let bad = || Error::new(Code::Rpc, Domain::Rpc, "bad answer on the descriptor channel");
        let answer = DescriptorResponse::decode(bytes.as_slice()).map_err(|e| bad().with_source(e))?;
        match answer.response.ok_or_else(bad)? {
            descriptor_response::Response::Token(token) => Ok((token, received)),
            descriptor_response::Response::Granted(_) => Ok((Bytes::new(), received)),
            descriptor_response::Response::Failure(f) => Err(Error::from_parts(f.code, f.domain, f.info)),
        }
    }
}

/// Connects, and again while the daemon is being started, restarted or overrun.
async fn reach(
    path: PathBuf,
    patience: Duration,
) -> std::result::Result<TokioIo<Gather<Stream>>, Unreachable> {
    let connect = || async { Stream::asking(UnixStream::connect(&path).await?) };
    retry(&path, patience, connect).await.map(|stream| TokioIo::new(Gather::new(stream)))
}

async fn retry<T, F>(
    path: &Path,
    patience: Duration,
    connect: impl Fn() -> F,
) -> std::result::Result<T, Unreachable>
where
    F: Future<Output = io::Result<T>>,
{
    let deadline = Instant::now() + patience;
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match connect().await {
            Ok(connected) => return Ok(connected),
            Err(error) => error,
        };
        let installed = error.kind() != io::ErrorKind::NotFound;
        // Refused: the file is there, nobody listens yet. Would block: its backlog is full.
        let passing = matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock);
        if !passing || Instant::now() + pause > deadline {
            let errno = error.raw_os_error().unwrap_or(0);
            return Err(Unreachable { path: path.to_path_buf(), installed, errno });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether the daemon ended while it was talked to: the next try finds another.
fn is_passing(error: &Error) -> bool {
    use rustix::io::Errno;
    let gone = [Errno::CONNRESET, Errno::PIPE, Errno::NOTCONN].map(|e| e.raw_os_error());
    error.domain() == Domain::Rpc && (gone.contains(&error.errno()) || is_eof(error))
}

fn is_eof(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|s| s.downcast_ref::<io::Error>());
    cause.is_some_and(|e| e.kind() == io::ErrorKind::UnexpectedEof)
}

/// Who a session is opened for.
#[derive(Debug, Default)]
pub struct Client<'a> {
    /// The client's own accepted unix socket, of which the daemon gets a duplicate to read the peer from.
    pub socket: Option<BorrowedFd<'a>>,
    /// The name a TLS or SASL client proved.
    pub asserted: Option<Asserted>,
    /// The client may only look.
    pub read_only: bool,
    /// Free text for the daemon's log.
    pub label: String,
}

/// One legacy client's session with one daemon. It ends when this is dropped.
pub struct ClientSession {
    daemon: Daemon,
    id: MetadataValue<Ascii>,
    epoch: u64,
    instance: u64,
    read_only: bool,
    closed: watch::Receiver<bool>,
    _keep: tokio::task::JoinHandle<()>,
}

impl ClientSession {
    /// Opens a session for a client, again when the daemon ends before it answers: that changes nothing.
    pub async fn open(daemon: &Daemon, client: Client<'_>) -> Result<Self> {
        let mut left = OPENINGS;
        loop {
            left -= 1;
            match Self::open_once(daemon, &client).await {
                Ok(session) => return Ok(session),
                Err(error) if left == 0 || !is_passing(&error) => return Err(error),
                Err(error) => tracing::debug!(?error, "opening a session again"),
            }
        }
    }

    async fn open_once(daemon: &Daemon, client: &Client<'_>) -> Result<Self> {
        let Client { socket, asserted, read_only, label } = client;
        let (asserted, read_only, label) = (asserted.clone(), *read_only, label.clone());
        let (mechanism, asserted_name) = asserted.map_or_else(Default::default, |a| (a.mechanism, a.name));
        let token = if socket.is_some() || !asserted_name.is_empty() {
            let identify = Identify { read_only, asserted_name, mechanism };
            let sockets: Vec<_> = socket.iter().map(AsFd::as_fd).collect();
            daemon.exchange(descriptor_request::Request::Identify(identify), &sockets).await?.0
        } else {
            Bytes::new()
        };
        let mut service = SessionServiceClient::new(daemon.channel()).max_decoding_message_size(MAX_MESSAGE);
        let request = OpenRequest { token, read_only, client: label };
        let failed = |s: Status| match broken::is_broken(&s) {
            true => broken::ended(&daemon.paths().grpc),
            false => from_status(&s),
        };
        let mut stream = service.open(request).await.map_err(failed)?.into_inner();
        let first = stream.message().await.map_err(failed)?;
        let bad = || Error::new(Code::Rpc, Domain::Rpc, "the daemon closed the session at once");
        let first = first.ok_or_else(|| broken::ended(&daemon.paths().grpc))?;
        let id = first.session.parse().map_err(|_| bad())?;
        let (closing, closed) = watch::channel(false);
        let keep = tokio::spawn(async move {
            while let Ok(Some(_)) = stream.message().await {}
            closing.send_replace(true);
        });
        Ok(Self {
            daemon: daemon.clone(),
            id,
            epoch: first.epoch,
            instance: first.instance,
            read_only: first.read_only,
            closed,
            _keep: keep,
        })
    }

    /// Wraps a message as a call of this session.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert(METADATA, self.id.clone());
        request
    }

    /// The daemon the session is with.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// The daemon's event epoch when the session was opened.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The daemon's count of changes, if somebody has fetched it already.
    pub fn known_changes(&self) -> Option<Arc<changes::Reader>> {
        let known = self.daemon.changes.lock();
        known.clone().filter(|reader| reader.instance() == self.instance)
    }

    /// The daemon's count of changes, fetched once for all sessions with it.
    ///
    /// # Errors
    /// Code 3 of a daemon without one; those of the call and of [`Daemon::claim`].
    pub async fn changes(&self) -> Result<Arc<changes::Reader>> {
        if let Some(known) = self.known_changes() {
            return Ok(known);
        }
        let none = || Error::no_support(Domain::Rpc, "SessionService.CountChanges");
        if self.instance == 0 {
            return Err(none());
        }
        let mut service = SessionServiceClient::new(self.daemon.channel());
        let asked = service.count_changes(self.request(CountChangesRequest {})).await;
        let ticket = asked.map_err(|s| from_status(&s))?.into_inner();
        let failed = |e| Error::system(Domain::Rpc, "cannot read a count of changes", e);
        let reader = Arc::new(changes::Reader::new(self.claim(&ticket.token).await?).map_err(failed)?);
        if reader.instance() != self.instance {
            // Another daemon has taken its place meanwhile; this session is about to end.
            return Err(none());
        }
        *self.daemon.changes.lock() = Some(reader.clone());
        Ok(reader)
    }

    /// Whether the daemon lets the client only look.
    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// Whether the daemon has ended the session (it stopped or restarted).
    pub fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Returns when the daemon has ended the session.
    pub async fn closed(&self) {
        let mut closed = self.closed.clone();
        drop(closed.wait_for(|c| *c).await);
    }

    /// Fetches the descriptor behind a ticket; an answer with none or several is an error.
    pub async fn claim(&self, token: &[u8]) -> Result<OwnedFd> {
        let mut descriptors = self.claim_all(token).await?;
        match (descriptors.pop(), descriptors.is_empty()) {
            (Some(one), true) => Ok(one),
            _ => Err(Error::new(Code::Rpc, Domain::Rpc, "expected one descriptor")),
        }
    }

    /// All descriptors that a ticket stands for.
    ///
    /// # Errors
    /// As [`Daemon::claim`].
    pub async fn claim_all(&self, token: &[u8]) -> Result<Vec<OwnedFd>> {
        self.daemon.claim(token).await
    }
}

impl Drop for ClientSession {
    fn drop(&mut self) {
        // Dropping the stream resets it, which ends the session.
        self._keep.abort();
    }
}
