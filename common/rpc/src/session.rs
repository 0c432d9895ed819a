//! Sessions: what must end with a client.
//!
//! ```text
//!   Identify on the descriptor channel --> token --> SessionService.Open(token) --> session
//!                                                         |                            |
//!                                          stream ends (client closed, proxy died)     | `virt-session` metadata
//!                                                         v                            v on each call: the Caller
//!                                     close hooks run, newest first
//! ```
//!
//! A session is used only over connections of the user that opened it.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use virt_api::common::v1alpha1::Ticket;
use virt_api::session::v1alpha1::session_service_server::{SessionService, SessionServiceServer};
use virt_api::session::v1alpha1::{CountChangesRequest, OpenRequest, OpenResponse};
use virt_error::{Code, Domain, Error, Result};
use virt_object::busy::{self, Busy};
use virt_object::changes;

use crate::caller::{Caller, Identity};
use crate::descriptor::Descriptors;
use crate::status::{IntoStatus, to_status};
use crate::token::Token;

/// Metadata key that names the session of a call.
pub const METADATA: &str = "virt-session";
/// Sessions one user may have open with one daemon.
pub const PER_USER: usize = 20_000;

type Hook = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>;

/// One open session. Clones are the same session.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    id: String,
    identity: Arc<Identity>,
    /// The user whose connections may use it.
    opened_by: u32,
    /// `None` once closed.
    hooks: Mutex<Option<Vec<(String, Hook)>>>,
    closed: watch::Sender<bool>,
    _busy: busy::Token,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the id: it is as good as a password.
        f.debug_struct("Session").field("identity", &self.0.identity).finish_non_exhaustive()
    }
}

impl PartialEq for Session {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Session {
    /// Registers work for the session's end. A later hook with the same key replaces the earlier one.
    ///
    /// Error: the session has ended already; the caller must not start what the hook would have ended.
    pub fn on_close<F>(&self, key: impl Into<String>, hook: impl FnOnce() -> F + Send + 'static) -> Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let key = key.into();
        let mut hooks = self.0.hooks.lock();
        let Some(hooks) = hooks.as_mut() else {
            return Err(Error::new(Code::OperationAborted, Domain::Rpc, "the client's session has ended"));
        };
        hooks.retain(|(k, _)| *k != key);
        hooks.push((key, Box::new(move || Box::pin(hook()))));
        Ok(())
    }

    /// Takes a hook back: what it would have ended has ended by itself. False: no such hook, or it runs already.
    pub fn cancel_hook(&self, key: &str) -> bool {
        let mut hooks = self.0.hooks.lock();
        let Some(hooks) = hooks.as_mut() else { return false };
        let before = hooks.len();
        hooks.retain(|(k, _)| k != key);
        hooks.len() < before
    }

    /// Whether work is registered under this key.
    pub fn has_hook(&self, key: &str) -> bool {
        self.0.hooks.lock().as_ref().is_some_and(|hooks| hooks.iter().any(|(k, _)| k == key))
    }

    /// Returns when the session has ended.
    pub async fn closed(&self) {
        let mut closed = self.0.closed.subscribe();
        // An error means that the sender is gone, which it is not while we hold the session.
        let _ = closed.wait_for(|c| *c).await;
    }

    /// Who the client is.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    pub(crate) fn shared_identity(&self) -> Arc<Identity> {
        self.0.identity.clone()
    }

    fn close(&self) {
        let Some(mut hooks) = self.0.hooks.lock().take() else { return };
        self.0.closed.send_replace(true);
        if hooks.is_empty() {
            return;
        }
        let keep = self.clone();
        let work = async move {
            while let Some((key, hook)) = hooks.pop() {
                tracing::debug!(key, "session ended");
                hook().await;
            }
            drop(keep);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(work)),
            Err(_) => tracing::error!("a session ended outside the runtime; its hooks did not run"),
        }
    }
}

/// All sessions of a daemon. Clones share.
#[derive(Clone)]
pub struct Sessions(Arc<Shared>);

struct Shared {
    open: RwLock<HashMap<String, Session>>,
    busy: Busy,
    draining: watch::Sender<bool>,
}

impl Sessions {
    /// No sessions yet; each one will hold a busy token.
    pub fn new(busy: Busy) -> Self {
        Self(Arc::new(Shared { open: RwLock::default(), busy, draining: watch::Sender::new(false) }))
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.0.open.read().len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Opens a session; it ends when the guard is dropped.
    pub fn open(&self, identity: Arc<Identity>, opened_by: u32) -> Result<OpenSession> {
        let id = Token::random()?.to_hex();
        let session = Session(Arc::new(Inner {
            id: id.clone(),
            identity,
            opened_by,
            hooks: Mutex::new(Some(Vec::new())),
            closed: watch::Sender::new(false),
            _busy: self.0.busy.token(),
        }));
        let mut open = self.0.open.write();
        if open.values().filter(|s| s.0.opened_by == opened_by).take(PER_USER).count() == PER_USER {
            return Err(Error::new(Code::ResourceBusy, Domain::Rpc, "too many sessions"));
        }
        open.insert(id, session.clone());
        Ok(OpenSession { sessions: self.clone(), session })
    }

    /// The session of this id, for a connection of user `uid`.
    pub fn find(&self, id: &str, uid: u32) -> Option<Session> {
        self.0.open.read().get(id).filter(|s| s.0.opened_by == uid).cloned()
    }

    /// Ends all sessions, for the daemon's own end: their streams finish and their hooks run.
    pub fn drain(&self) {
        self.0.draining.send_replace(true);
    }

    /// The gRPC service for [`crate::server::Services`].
    pub(crate) fn service(
        &self,
        descriptors: Descriptors,
        epoch: u64,
    ) -> SessionServiceServer<impl SessionService + use<>> {
        SessionServiceServer::new(Service { sessions: self.clone(), descriptors, epoch })
    }
}

/// Keeps a session open.
pub struct OpenSession {
    sessions: Sessions,
    session: Session,
}

impl OpenSession {
    /// The value of the `virt-session` metadata.
    pub fn id(&self) -> &str {
        &self.session.0.id
    }

    /// The session itself.
    pub fn session(&self) -> &Session {
        &self.session
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.sessions.0.open.write().remove(&self.session.0.id);
        self.session.close();
    }
}

struct Service {
    sessions: Sessions,
    descriptors: Descriptors,
    epoch: u64,
}

#[tonic::async_trait]
impl SessionService for Service {
    type OpenStream = Opened;

    async fn open(&self, request: Request<OpenRequest>) -> Result<Response<Opened>, Status> {
        let caller = Caller::of(&request)?;
        let asked = request.into_inner();
        let opened_by = caller.connection().uid;
        let mut identity = if asked.token.is_empty() {
            if self.descriptors.is_proxy(opened_by) {
                return Err(needs_session());
            }
            caller.identity().clone()
        } else {
            let token = Token::try_from(&asked.token[..]).status()?;
            self.descriptors.take_identity(token, opened_by).status()?
        };
        identity.read_only |= asked.read_only;
        let read_only = identity.read_only;
        let open = self.sessions.open(Arc::new(identity), opened_by).status()?;
        tracing::info!(client = %asked.client.escape_debug(), ?open.session, "session opened");
        let first = OpenResponse {
            session: open.id().to_string(),
            epoch: self.epoch,
            read_only,
            instance: changes::instance(),
        };
        let mut draining = self.sessions.0.draining.subscribe();
        let drained = Box::pin(async move { drop(draining.wait_for(|d| *d).await) });
        Ok(Response::new(Opened { first: Some(first), drained, _open: open }))
    }

    async fn count_changes(&self, request: Request<CountChangesRequest>) -> Result<Response<Ticket>, Status> {
        let caller = Caller::of(&request)?;
        let failed = |e| Error::system(Domain::Rpc, "cannot make a memory file", e);
        let reader = changes::reader().map_err(failed).status()?;
        let token = self.descriptors.park(vec![reader], &caller).status()?;
        Ok(Response::new(Ticket { token }))
    }
}

/// The open stream: the session lives as long as the server keeps it.
pub struct Opened {
    first: Option<OpenResponse>,
    drained: BoxFuture<'static, ()>,
    _open: OpenSession,
}

impl Stream for Opened {
    type Item = Result<OpenResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        self.drained.as_mut().poll(cx).map(|()| None)
    }
}

/// The answer to a call that names a session nobody has, or another user's.
pub(crate) fn unknown_session() -> Status {
    let error = Error::new(Code::AuthFailed, Domain::Rpc, "the session is not known or not yours");
    to_status(&error)
}

/// The answer to virtproxyd's own user where a client's identity is needed.
pub(crate) fn needs_session() -> Status {
    let error = Error::new(Code::AuthFailed, Domain::Rpc, "this user acts only for its clients");
    to_status(&error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn someone() -> Arc<Identity> {
        Arc::new(Identity { unix: None, asserted: None, read_only: false })
    }

    #[tokio::test]
    async fn hooks_run_once_newest_first() {
        let busy = Busy::new();
        let sessions = Sessions::new(busy.clone());
        let open = sessions.open(someone(), 5).unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let push = |n: u32| {
            let log = log.clone();
            move || async move { log.lock().push(n) }
        };
        let session = open.session().clone();
        session.on_close("a", push(1)).unwrap();
        session.on_close("b", push(2)).unwrap();
        session.on_close("c", push(3)).unwrap();
        session.on_close("a", push(4)).unwrap();
        assert!(session.cancel_hook("b") && !session.cancel_hook("b") && session.has_hook("a"));
        let id = open.id().to_string();
        assert!(sessions.find(&id, 5).is_some() && sessions.find(&id, 6).is_none());
        drop(open);
        session.closed().await;
        while log.lock().len() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(*log.lock(), [4, 3]);
        assert!(sessions.find(&id, 5).is_none());
        assert_eq!(session.on_close("late", push(9)).unwrap_err().code(), Code::OperationAborted);
        drop(session);
        tokio::task::yield_now().await;
        assert_eq!(busy.count(), 0);
    }
}
