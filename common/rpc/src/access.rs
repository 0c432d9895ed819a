//! The layer every call passes: who calls, may they, and what if the handler panics.
//!
//! The rules come from the method options in proto/ ([`virt_api::access`]); the proxy enforces the same table.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::{CatchUnwind, Either, Map, Ready, ready};
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};
use virt_api::access::{self, Access};
use virt_error::{Code, Domain, Error};

use crate::caller::Caller;
use crate::peer::Peer;
use crate::session::{METADATA, Sessions, unknown_session};
use crate::status::to_status;

/// Adds the [`Caller`] and the method's [`Access`] rule to each request, or answers a refusal.
#[derive(Clone)]
pub struct AccessLayer {
    sessions: Sessions,
}

impl AccessLayer {
    /// Sessions named by calls are looked up there.
    pub fn new(sessions: Sessions) -> Self {
        Self { sessions }
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = AccessService<S>;

    fn layer(&self, inner: S) -> AccessService<S> {
        AccessService { inner, sessions: self.sessions.clone() }
    }
}

/// See [`AccessLayer`].
#[derive(Clone)]
pub struct AccessService<S> {
    inner: S,
    sessions: Sessions,
}

impl<S> Service<Request<Body>> for AccessService<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<Ready<Result<Response<Body>, S::Error>>, Guarded<S::Future, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.admit(&mut request) {
            Ok(()) => {
                let call = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
                Either::Right(call.map(survive::<S::Error> as fn(_) -> _))
            }
            Err(status) => Either::Left(ready(Ok(status.into_http()))),
        }
    }
}

impl<S> AccessService<S> {
    fn admit(&self, request: &mut Request<Body>) -> Result<(), Status> {
        let peer = request.extensions().get::<Peer>().copied();
        let peer = peer.ok_or_else(|| Status::internal("the connection has no peer"))?;
        let caller = match request.headers().get(METADATA) {
            None => Caller::native(peer),
            Some(id) => {
                let session = id.to_str().ok().and_then(|id| self.sessions.find(id, peer.uid));
                Caller::in_session(session.ok_or_else(unknown_session)?, peer)
            }
        };
        let rule = access::rule(request.uri().path());
        if caller.read_only() && !readable(rule, request.uri().path()) {
            return Err(to_status(&read_only_refusal(rule.map_or("", |r| r.api))));
        }
        let extensions = request.extensions_mut();
        extensions.insert(caller);
        if let Some(rule) = rule {
            extensions.insert(rule);
        }
        Ok(())
    }
}

/// Methods outside the table are health and reflection; a read-only caller gets at nothing else there.
fn readable(rule: Option<&Access>, path: &str) -> bool {
    rule.map_or(path.starts_with("/grpc."), |r| r.readonly_ok)
}

/// libvirt's refusal of a function on a read-only connection, in the error domain that libvirt uses for it.
pub fn read_only_refusal(api: &str) -> Error {
    let info = format!("read only access prevents {api}");
    Error::new(Code::OperationDenied, domain_of(api), info)
}

/// Observed: the error domain follows the file family of the public function.
fn domain_of(api: &str) -> Domain {
    const FAMILIES: &[(&str, Domain)] = &[
        ("virNetwork", Domain::Network),
        ("virStorage", Domain::Storage),
        ("virSecret", Domain::Secret),
        ("virNWFilter", Domain::Nwfilter),
        ("virInterface", Domain::Interface),
        ("virNodeDevice", Domain::Nodedev),
        ("virDomainSnapshot", Domain::DomainSnapshot),
        ("virDomainCheckpoint", Domain::DomainCheckpoint),
    ];
    // Creating one is a function of the domain.
    if matches!(api, "virDomainSnapshotCreateXML" | "virDomainCheckpointCreateXML") {
        return Domain::Domain;
    }
    FAMILIES.iter().find(|(prefix, _)| api.starts_with(prefix)).map_or(Domain::Domain, |(_, domain)| *domain)
}

/// A handler's future whose panic becomes an internal error, so that the connection lives on.
pub type Guarded<F, E> = Map<CatchUnwind<AssertUnwindSafe<F>>, fn(Caught<E>) -> Result<Response<Body>, E>>;
type Caught<E> = std::thread::Result<Result<Response<Body>, E>>;

fn survive<E>(done: Caught<E>) -> Result<Response<Body>, E> {
    done.unwrap_or_else(|panic| Ok(panicked(&*panic)))
}

fn panicked(panic: &(dyn Any + Send)) -> Response<Body> {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_string());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    tracing::error!(panic = %text, "a handler panicked");
    to_status(&Error::internal(Domain::Rpc, "the call failed unexpectedly")).into_http()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_the_references() {
        for (api, domain) in [
            ("virDomainDefineXML", 20),
            ("virNetworkPortCreateXML", 19),
            ("virStorageVolDelete", 18),
            ("virSecretDefineXML", 30),
            ("virNWFilterDefineXML", 33),
            ("virInterfaceDefineXML", 26),
            ("virNodeDeviceCreateXML", 22),
            ("virNodeSuspendForDuration", 20),
            ("virConnectDomainXMLFromNative", 20),
        ] {
            let error = read_only_refusal(api);
            assert_eq!(
                (error.code() as i32, error.domain() as i32, error.message()),
                (29, domain, format!("operation forbidden: read only access prevents {api}"))
            );
        }
    }
}
