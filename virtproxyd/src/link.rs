//! One client's connection as its calls see it.
//!
//! ```text
//!   Anonymous --AUTH_LIST--> Authenticated --CONNECT_OPEN--> Open --CONNECT_CLOSE--> Closing
//!                                  ^                           |
//!                                  +------ a second OPEN ------+
//! ```

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use virt_consts::VIR_CONNECT_CLOSE_REASON_ERROR;
use virt_error::Result;
use virt_rpc::client::{Client, ClientSession};
use virt_wire::conn::Outbox;
use virt_wire::frame::OutFrame;
use virt_wire::program::ProcInfo;
use virt_wire::remote::{ConnectEventConnectionClosedMsg, events as wire_events};
use virt_wire::xdr::Uuid;

use crate::api::Sessions;
use crate::api::watch::Feed;
use crate::calls::Listed;
use crate::events::{self, Events, Interest};
use crate::house::House;
use crate::kept::{Asked, Before, Kept};
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
    /// Volumes that the client has just listed.
    pub listed: Listed,
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
    kept: Kept,
}

impl Link {
    pub fn new(house: Arc<House>, entry: Entry, socket: OwnedFd, outbox: Outbox) -> Self {
        let read_only = AtomicBool::new(entry.read_only);
        let (state, streams, listed, ended, end) = Default::default();
        Self { house, entry, socket, outbox, state, read_only, streams, listed, ended, end }
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
        let kept = Kept::new(self.house.room());
        let opened = Opened { route, sessions: Sessions::default(), events: Arc::default(), kept };
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
        let client = || Client {
            socket: Some(self.socket.as_fd()),
            asserted: None,
            read_only: self.read_only(),
            label: format!("virtproxyd {}", self.entry.name),
        };
        opened.sessions.get(daemon, self.house.daemon(daemon), client, info).await
    }

    // --- kept answers

    /// An answer that was given before and still holds.
    pub fn kept(&self, object: Object, asked: &Asked<'_>) -> Option<Bytes> {
        let opened = self.opened().ok()?;
        let session = opened.sessions.live(opened.route.daemon(object)?)?;
        opened.kept.find(&session, asked)
    }

    /// The count of an object's daemon before it is asked; nothing of a daemon that has none.
    pub async fn count(&self, info: &'static ProcInfo, object: Object) -> Option<Before> {
        Before::now(self.session(info, object).await.ok()?).await
    }

    /// Keeps an answer; `before` is from before it was asked for.
    pub fn keep(&self, before: Before, asked: &Asked<'_>, answer: &[u8]) {
        if let Ok(opened) = self.opened() {
            opened.kept.add(before, asked, answer);
        }
    }

    /// Forgets a session that its daemon does not know any more.
    pub fn forget(&self, session: &Arc<ClientSession>) {
        if let Ok(opened) = self.opened() {
            opened.sessions.forget(session);
        }
    }

    // --- events

    pub fn events(&self) -> Result<Arc<Events>> {
        Ok(self.opened()?.events.clone())
    }

    /// Registers for events: when this returns, every later event of the kind is told.
    pub async fn watch_events<T: Feed>(
        self: &Arc<Self>,
        info: &'static ProcInfo,
        interest: Interest,
        only: Option<Uuid>,
    ) -> Result<i32> {
        let events = self.events()?;
        events.check_new(&interest, only)?;
        events::start::<T>(self, &events, info).await?;
        events.add(interest, only)
    }
}
