//! The gRPC side of a connection: sessions with daemons, one call, and what a failed one means to the client.

mod feeds;
pub(crate) mod watch;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tonic::{Code as Grpc, Response, Status};
use virt_error::{Domain, Error, Result};
use virt_rpc::broken::{self, is_bare, is_broken};
use virt_rpc::client::{self, Client, ClientSession, Unreachable};
use virt_rpc::status::from_status;
use virt_wire::program::{ProcInfo, ReadOnly};

use crate::link::Link;
use crate::refusal;
use crate::route::{Daemon, Object};

/// The sessions with daemons; each is opened by the first call that needs it and again when the daemon has ended it.
#[derive(Default)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<Daemon, Arc<ClientSession>>>,
    opening: tokio::sync::Mutex<()>,
}

impl Sessions {
    /// The live session with `daemon`, opened for `client` if there is none.
    pub async fn get<'a>(
        &self,
        daemon: Daemon,
        behind: Option<&client::Daemon>,
        client: impl FnOnce() -> Client<'a>,
        info: &'static ProcInfo,
    ) -> Result<Arc<ClientSession>> {
        if let Some(session) = self.live(daemon) {
            return Ok(session);
        }
        let _one_at_a_time = self.opening.lock().await;
        if let Some(session) = self.live(daemon) {
            return Ok(session);
        }
        let behind = behind.filter(|d| d.installed()).ok_or_else(|| refusal::no_support(info))?;
        let session = Arc::new(ClientSession::open(behind, client()).await?);
        self.open.lock().insert(daemon, session.clone());
        Ok(session)
    }

    /// The session with `daemon` that is open now.
    pub fn live(&self, daemon: Daemon) -> Option<Arc<ClientSession>> {
        self.open.lock().get(&daemon).filter(|s| !s.is_closed()).cloned()
    }

    /// Forgets a session that the daemon does not know any more.
    pub fn forget(&self, session: &Arc<ClientSession>) {
        self.open.lock().retain(|_, s| !Arc::ptr_eq(s, session));
    }
}

/// How often a call is made again whose daemon went away.
const AGAIN: u32 = 4;

/// Makes one gRPC call in the connection's session. A session that the daemon has lost is opened again. A call that
/// provably never ran, or that only reads, is made again when the daemon went away under it.
pub(crate) async fn call<T, W>(
    link: &Link,
    info: &'static ProcInfo,
    object: Object,
    work: impl Fn(Arc<ClientSession>) -> W,
) -> Result<T>
where
    W: Future<Output = Result<Response<T>, Status>>,
{
    let mut again = AGAIN;
    loop {
        let session = link.session(info, object).await?;
        let status = match work(session.clone()).await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) => status,
        };
        let never_ran = is_unknown_session(&status) || broken::never_ran(&status);
        let harmless = is_broken(&status) && info.readonly != ReadOnly::Refused;
        if again == 0 || !(never_ran || harmless) {
            return Err(error(info, &session, &status));
        }
        again -= 1;
        link.forget(&session);
    }
}

/// A failed gRPC call as the client's error.
fn error(info: &'static ProcInfo, session: &ClientSession, status: &Status) -> Error {
    if Unreachable::cause_of(status).is_some_and(|u| !u.installed()) {
        return refusal::no_support(info);
    }
    if is_bare(status) {
        if status.code() == Grpc::Unimplemented {
            return refusal::no_support(info);
        }
        if is_broken(status) {
            let error = broken::ended(&session.daemon().paths().grpc);
            return error.with("status", status.message());
        }
    }
    from_status(status)
}

/// The daemon has no such session: it was restarted since.
fn is_unknown_session(status: &Status) -> bool {
    status.code() == Grpc::Unauthenticated && from_status(status).domain() == Domain::Rpc
}
