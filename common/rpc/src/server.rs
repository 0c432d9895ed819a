//! Serves gRPC services on a unix socket, with what every daemon has: sessions, access, health, reflection, drain.
//!
//! Run it on a one-thread runtime: a small call then takes a third of the time of a multi-thread one. Work that takes
//! long belongs on the work runtime ([`virt_object::owner`]).

use std::convert::Infallible;
use std::time::Duration;

use futures_util::stream;
use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::RoutesBuilder;
use tower::Service;
use virt_error::{Domain, Error, Result};
use virt_object::busy::Busy;

use crate::access::AccessLayer;
use crate::descriptor::{self, Descriptors};
use crate::listen::Listener;
use crate::peer::Connection;
use crate::session::Sessions;

/// The largest message either way, as the wire's. Set it on each service with [`crate::service!`].
pub const MAX_MESSAGE: usize = 32 * 1024 * 1024;
/// Calls in flight on one connection: virtproxyd carries all its clients' calls, streams and sessions on one.
const MAX_STREAMS: u32 = 100_000;
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Of one HTTP/2 frame: a long list or document comes in few.
pub(crate) const MAX_FRAME: u32 = 256 * 1024;
/// A peer that is stopped or hangs is noticed after these two together.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Makes a generated server of a handler, with the house's message limit:
/// `service!(DomainServiceServer, handler)`.
#[macro_export]
macro_rules! service {
    ($server:ident, $handler:expr) => {
        $server::new($handler)
            .max_decoding_message_size($crate::server::MAX_MESSAGE)
            .max_encoding_message_size($crate::server::MAX_MESSAGE)
    };
}

/// The services of one daemon.
#[derive(Default)]
pub struct Services {
    routes: RoutesBuilder,
    names: Vec<&'static str>,
}

impl Services {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a generated server, made with [`crate::service!`].
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "a builder's add")]
    pub fn add<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
        S: NamedService + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        self.names.push(S::NAME);
        self.routes.add_service(service);
        self
    }
}

/// What all services of a daemon share.
#[derive(Clone)]
pub struct Server {
    /// The open sessions.
    pub sessions: Sessions,
    /// The daemon's side of the descriptor channel.
    pub descriptors: Descriptors,
    /// The event journal's epoch, told to clients when they open a session.
    pub epoch: u64,
    /// A call in flight keeps the daemon from its idle exit.
    pub busy: Busy,
}

impl Server {
    /// Serves until `stop` is done, then ends all sessions and waits up to `drain` for calls in flight.
    ///
    /// `grpc` listens for streams, `descriptors` for seqpackets. `ready` is called when clients can be served.
    pub async fn serve(
        self,
        services: Services,
        grpc: Listener,
        descriptors: Listener,
        ready: impl FnOnce(),
        stop: impl Future<Output = ()>,
        drain: Duration,
    ) -> Result<()> {
        let (health, health_service) = tonic_health::server::health_reporter();
        let session_service = self.sessions.service(self.descriptors.clone(), self.epoch);
        let services = services.add(health_service).add(session_service);
        let mut reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(virt_api::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        // The description holds the whole project's API; list only what this daemon serves.
        for name in &services.names {
            health.set_service_status(*name, tonic_health::ServingStatus::Serving).await;
            reflection = reflection.with_service_name(*name);
        }
        let reflection = reflection
            .build_v1()
            .map_err(|e| Error::internal(Domain::Rpc, "the API description is broken").with_source(e))?;
        let routes = services.add(reflection).routes.routes();

        let (grpc, _grpc_file) = grpc.into_tokio()?;
        let (descriptor_socket, _descriptor_file) = descriptors.into_tokio()?;
        let channel = tokio::spawn(descriptor::serve(descriptor_socket, self.descriptors.clone()));

        let sessions = self.sessions.clone();
        let (stopped, mut stopping) = tokio::sync::watch::channel(false);
        let serving = tonic::transport::Server::builder()
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .layer(AccessLayer::new(self.sessions, self.descriptors.clone(), self.busy))
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming(grpc), async move {
                drop(stopping.wait_for(|s| *s).await);
            });
        tokio::pin!(serving);
        ready();
        let failed =
            |e: tonic::transport::Error| Error::internal(Domain::Rpc, "serving failed").with_source(e);
        let result = tokio::select! {
            ended = &mut serving => ended.map_err(failed),
            () = stop => {
                sessions.drain();
                stopped.send_replace(true);
                match tokio::time::timeout(drain, &mut serving).await {
                    Ok(ended) => ended.map_err(failed),
                    Err(_) => {
                        tracing::warn!(?drain, "some calls did not end in time");
                        Ok(())
                    }
                }
            }
        };
        channel.abort();
        result
    }
}

/// Accepted connections. An accept that fails is logged and tried again: it must not end the daemon.
fn incoming(
    listener: tokio::net::UnixListener,
) -> impl futures_util::Stream<Item = std::io::Result<Connection>> {
    stream::unfold(listener, |listener| async move {
        loop {
            match listener.accept().await.and_then(|(stream, _)| Connection::new(stream)) {
                Ok(connection) => return Some((Ok(connection), listener)),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    })
}
