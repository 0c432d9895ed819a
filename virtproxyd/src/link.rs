//! One client's connection as its calls see it.
//!
//! ```text
//!   Anonymous --AUTH_LIST--> Authenticated --CONNECT_OPEN--> Open --CONNECT_CLOSE--> Closing
//!                                  ^                           |
//!                                  +------ a second OPEN ------+
//! ```

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tonic::{Code as Grpc, Response, Status};
use virt_consts::VIR_CONNECT_CLOSE_REASON_ERROR;
use virt_error::{Code, Domain, Error, Result};
use virt_rpc::client::{Client, ClientSession, Unreachable};
use virt_rpc::status::from_status;
use virt_wire::conn::Outbox;
use virt_wire::frame::OutFrame;
use virt_wire::program::{ProcInfo, ReadOnly};
use virt_wire::remote::{ConnectEventConnectionClosedMsg, events as wire_events};
use virt_wire::xdr::Uuid;

use crate::events::{self, Events, Interest};
use crate::house::House;
use crate::refusal;
use crate::route::{Daemon, Object, Route};
use crate::streams::Streams;

/// The listening socket a client came through.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its file's name.
    pub name: String,
    /// Clients may only look.
    pub read_only: bool,
    /// Only this hypervisor is served; `None` for all.
    pub only: Option<Daemon>,
}

/// A client's connection.
pub(crate) struct Link {
    house: Arc<House>,
    entry: Entry,
    /// The client's socket, to be handed to daemons.
    socket: OwnedFd,
    outbox: Outbox,
    state: Mutex<State>,
    read_only: AtomicBool,
    pub streams: Streams,
    ended: AtomicBool,
    end: Notify,
}

#[derive(Default)]
struct State {
    authenticated: bool,
    opened: Option<Arc<Opened>>,
    keepalive: bool,
    close_event: bool,
    closing: bool,
}

/// What CONNECT_OPEN has made.
struct Opened {
    route: Route,
    sessions: Sessions,
    events: Arc<Events>,
}

/// The sessions with daemons; each is opened by the first call that needs it and again when the daemon has ended it.
#[derive(Default)]
struct Sessions {
    open: Mutex<HashMap<Daemon, Arc<ClientSession>>>,
    opening: tokio::sync::Mutex<()>,
}

impl Sessions {
    fn live(&self, daemon: Daemon) -> Option<Arc<ClientSession>> {
        self.open.lock().get(&daemon).filter(|s| !s.is_closed()).cloned()
    }

    /// Forgets a session that the daemon does not know any more.
    fn forget(&self, session: &Arc<ClientSession>) {
        self.open.lock().retain(|_, s| !Arc::ptr_eq(s, session));
    }
}

impl Link {
    pub fn new(house: Arc<House>, entry: Entry, socket: OwnedFd, outbox: Outbox) -> Self {
        let read_only = AtomicBool::new(entry.read_only);
        let (state, streams, ended, end) = Default::default();
        Self { house, entry, socket, outbox, state, read_only, streams, ended, end }
    }

    pub fn house(&self) -> &House {
        &self.house
    }

    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    // --- authentication and open

    pub fn authenticated(&self) {
        self.state.lock().authenticated = true;
    }

    pub fn is_anonymous(&self) -> bool {
        !self.state.lock().authenticated
    }

    /// Whether clients of this socket reach the daemon.
    pub fn serves(&self, daemon: Daemon) -> bool {
        self.entry.only.is_none_or(|only| only == daemon || !daemon.is_hypervisor())
            && self.house.installed(daemon)
    }

    pub fn set_opened(&self, route: Route, read_only: bool) {
        let opened = Opened { route, sessions: Sessions::default(), events: Arc::default() };
        // The flag can only take rights away.
        self.read_only.store(self.entry.read_only || read_only, Ordering::Relaxed);
        self.state.lock().opened = Some(Arc::new(opened));
    }

    /// Ends sessions and registrations of an earlier open; false when there was none.
    pub fn drop_opened(&self) -> bool {
        self.state.lock().opened.take().is_some()
    }

    pub fn is_open(&self) -> bool {
        self.state.lock().opened.is_some()
    }

    pub fn read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    fn opened(&self) -> Result<Arc<Opened>> {
        self.state.lock().opened.clone().ok_or_else(refusal::not_open)
    }

    pub fn route(&self) -> Result<Route> {
        Ok(self.opened()?.route.clone())
    }

    // --- the end

    pub fn start_keepalive(&self) {
        self.state.lock().keepalive = true;
    }

    pub fn wants_keepalive(&self) -> bool {
        self.state.lock().keepalive
    }

    pub fn want_close_event(&self, wanted: bool) -> Result<()> {
        self.opened()?;
        self.state.lock().close_event = wanted;
        Ok(())
    }

    pub fn close_after_reply(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        state.opened = None;
    }

    pub fn is_closing(&self) -> bool {
        self.state.lock().closing
    }

    /// Ends the link; what is queued is still written.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.end.notify_one();
    }

    /// Returns when the link shall end.
    pub async fn ending(&self) {
        while !self.ended.load(Ordering::Relaxed) {
            self.end.notified().await;
        }
    }

    /// Tells a client that asked for it, then ends the link: it must list again.
    pub fn end_for_lost_events(&self) {
        let told = self.state.lock().close_event;
        let msg = ConnectEventConnectionClosedMsg { reason: VIR_CONNECT_CLOSE_REASON_ERROR };
        if told && let Ok(frame) = OutFrame::event::<wire_events::ConnectEventConnectionClosed>(&msg) {
            // A full outbox means a client that does not read; it sees the end of the link.
            let _ = self.outbox.try_send(frame);
        }
        self.end();
    }

    // --- daemons

    /// The session with the daemon that serves `object` on this connection.
    pub async fn session(&self, info: &'static ProcInfo, object: Object) -> Result<Arc<ClientSession>> {
        let opened = self.opened()?;
        let daemon = opened.route.daemon(object).ok_or_else(|| refusal::no_support(info))?;
        if let Some(session) = opened.sessions.live(daemon) {
            return Ok(session);
        }
        let _one_at_a_time = opened.sessions.opening.lock().await;
        if let Some(session) = opened.sessions.live(daemon) {
            return Ok(session);
        }
        let behind =
            self.house.daemon(daemon).filter(|d| d.installed()).ok_or_else(|| refusal::no_support(info))?;
        let client = Client {
            socket: Some(self.socket.as_fd()),
            asserted: None,
            read_only: self.read_only(),
            label: format!("virtproxyd {}", self.entry.name),
        };
        let session = Arc::new(ClientSession::open(behind, client).await?);
        opened.sessions.open.lock().insert(daemon, session.clone());
        Ok(session)
    }

    /// Makes one gRPC call in the session. A session that the daemon has lost is opened again, and a call that only
    /// reads is made again when the daemon went away under it.
    pub async fn call<T, W>(
        &self,
        info: &'static ProcInfo,
        object: Object,
        work: impl Fn(Arc<ClientSession>) -> W,
    ) -> Result<T>
    where
        W: Future<Output = Result<Response<T>, Status>>,
    {
        let mut again = true;
        loop {
            let session = self.session(info, object).await?;
            let status = match work(session.clone()).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status,
            };
            let never_ran = is_unknown_session(&status);
            let harmless = is_broken(&status) && info.readonly != ReadOnly::Refused;
            if !again || !(never_ran || harmless) {
                return Err(self.error(info, &session, &status));
            }
            again = false;
            if let Ok(opened) = self.opened() {
                opened.sessions.forget(&session);
            }
        }
    }

    /// A failed gRPC call as the client's error.
    pub fn error(&self, info: &'static ProcInfo, session: &ClientSession, status: &Status) -> Error {
        if Unreachable::cause_of(status).is_some_and(|u| !u.installed()) {
            return refusal::no_support(info);
        }
        if is_bare(status) {
            if status.code() == Grpc::Unimplemented {
                return refusal::no_support(info);
            }
            if is_broken(status) {
                let path = session.daemon().paths().grpc.display();
                let text = format!("Cannot recv data from '{path}': Connection reset by peer");
                return Error::new(Code::SystemError, Domain::Rpc, text).with("status", status.message());
            }
        }
        from_status(status)
    }

    // --- events

    pub fn events(&self) -> Result<Arc<Events>> {
        Ok(self.opened()?.events.clone())
    }

    /// Registers for events: when this returns, every later event of the kind is told.
    pub async fn watch_events(
        self: &Arc<Self>,
        info: &'static ProcInfo,
        interest: Interest,
        dom: Option<Uuid>,
    ) -> Result<i32> {
        let events = self.events()?;
        events.check_new(&interest, dom)?;
        events::start(self, &events, info).await?;
        events.add(interest, dom)
    }
}

/// Whether the status was made without our error details: by the transport, or by a server without the method.
fn is_bare(status: &Status) -> bool {
    use tonic_types::StatusExt;
    status.get_details_error_info().is_none() && Unreachable::cause_of(status).is_none()
}

/// The connection to the daemon broke during the call.
fn is_broken(status: &Status) -> bool {
    let transport =
        matches!(status.code(), Grpc::Unavailable | Grpc::Unknown | Grpc::Internal | Grpc::Cancelled);
    transport && is_bare(status)
}

/// The daemon has no such session: it was restarted since.
fn is_unknown_session(status: &Status) -> bool {
    status.code() == Grpc::Unauthenticated && from_status(status).domain() == Domain::Rpc
}
