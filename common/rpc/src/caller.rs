//! Who makes a call: what handlers and access rules decide by.

use std::sync::Arc;

use tonic::{Request, Status};

use crate::peer::Peer;
use crate::session::Session;

/// Who a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The client's own process, read by this daemon from the client's own socket; `None` for a client that came over
    /// the network.
    pub unix: Option<Peer>,
    /// A name that virtproxyd says the client proved. It never stands for uid 0.
    pub asserted: Option<Asserted>,
    /// The client may only look.
    pub read_only: bool,
}

/// A name proved by SASL or TLS, as virtproxyd reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asserted {
    /// "sasl" or "tls".
    pub mechanism: String,
    /// The SASL user or the certificate's distinguished name.
    pub name: String,
}

/// The maker of one call. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Caller {
    pub(crate) identity: Arc<Identity>,
    pub(crate) session: Option<Session>,
    pub(crate) connection: Peer,
}

impl Caller {
    /// The caller of a request that came through a [`crate::server::Server`].
    pub fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        // The access layer puts it there for every method; this cannot be reached by a client.
        let missing = || Status::internal("the call did not pass the access layer");
        request.extensions().get::<Self>().cloned().ok_or_else(missing)
    }

    /// A native gRPC client: the connection's own peer, with full rights (the socket file's mode guards it).
    pub(crate) fn native(connection: Peer) -> Self {
        let identity = Identity { unix: Some(connection), asserted: None, read_only: false };
        Self { identity: Arc::new(identity), session: None, connection }
    }

    /// A call that names its session: the session's identity, whoever carries the call.
    pub(crate) fn in_session(session: Session, connection: Peer) -> Self {
        Self { identity: session.shared_identity(), session: Some(session), connection }
    }

    /// Who the client is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether the client may only look.
    pub fn read_only(&self) -> bool {
        self.identity.read_only
    }

    /// The session the call belongs to, if it named one.
    pub fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// The process that made the gRPC connection: virtproxyd for legacy clients. Descriptors go to this user.
    pub fn connection(&self) -> Peer {
        self.connection
    }
}
