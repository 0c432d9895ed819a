//! The layer every call passes: who calls, may they, and what if the handler panics.
//!
//! The rules come from the method options in proto/ ([`virt_api::access`]); the proxy enforces the same table.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};
use virt_api::access::{self, Access};
use virt_error::{Code, Domain, Error};
use virt_object::busy::Busy;

use crate::caller::Caller;
use crate::descriptor::Descriptors;
use crate::peer::Peer;
use crate::session::{METADATA, Sessions, needs_session, unknown_session};
use crate::status::to_status;

/// Adds the [`Caller`] and the method's [`Access`] rule to each request, or answers a refusal.
#[derive(Clone)]
pub struct AccessLayer {
    sessions: Sessions,
    descriptors: Descriptors,
    busy: Busy,
}

impl AccessLayer {
    /// Sessions named by calls are looked up in `sessions`, `descriptors` knows virtproxyd's users; a handler that runs
    /// holds a token of `busy`.
    pub fn new(sessions: Sessions, descriptors: Descriptors, busy: Busy) -> Self {
        Self { sessions, descriptors, busy }
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = AccessService<S>;

    fn layer(&self, inner: S) -> AccessService<S> {
        AccessService { inner, gate: self.clone() }
    }
}

/// See [`AccessLayer`].
#[derive(Clone)]
pub struct AccessService<S> {
    inner: S,
    gate: AccessLayer,
}

impl<S> Service<Request<Body>> for AccessService<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Err(status) = self.gate.admit(&mut request) {
            return Box::pin(ready(Ok(status.into_http())));
        }
        let token = self.gate.busy.token();
        let handler = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        Box::pin(async move {
            let done = handler.await;
            drop(token);
            // A panic ends one call; the connection and the other calls on it live on.
            done.unwrap_or_else(|panic| Ok(panicked(&*panic)))
        })
    }
}

impl AccessLayer {
    fn admit(&self, request: &mut Request<Body>) -> Result<(), Status> {
        let peer = request.extensions().get::<Peer>().copied();
        let peer = peer.ok_or_else(|| Status::internal("the connection has no peer"))?;
        let caller = match request.headers().get(METADATA) {
            None if self.descriptors.is_proxy(peer.uid) && !open_to_proxies(request.uri().path()) => {
                return Err(needs_session());
            }
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

/// What virtproxyd may call for itself: opening a session (which asks for a token), health and reflection.
fn open_to_proxies(path: &str) -> bool {
    path == "/virt.session.v1alpha1.SessionService/Open" || path.starts_with("/grpc.")
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
