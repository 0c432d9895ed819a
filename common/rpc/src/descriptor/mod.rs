//! The descriptor channel: `<daemon>-fd`, a seqpacket socket beside `<daemon>.sock`, for what HTTP/2 cannot carry.
//!
//! Each request and each response is one message (`virt.session.v1alpha1.DescriptorRequest` / `Response`), descriptors
//! ride along as SCM_RIGHTS. Three requests: *Identify* (here is the client's own socket; answers a token to open its
//! session), *Claim* (fetch what a gRPC answer promised), *Offer* (hand descriptors over, answers a token for a gRPC
//! call). Tokens are good once, for the same user, for a short time.

mod identify;
mod server;
mod socket;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use virt_error::Result;

use crate::caller::{Caller, Identity};
use crate::token::{LIFETIME, Token, Tokens};

pub use identify::{KnownSocket, Trust};
pub use server::serve;
pub(crate) use socket::Packets;

/// Descriptors in one message at most: libvirt's limit of one call.
pub const MAX_DESCRIPTORS: usize = 32;

/// The daemon's side of the channel: what waits to be fetched, and what was offered. Clones share.
#[derive(Clone)]
pub struct Descriptors(Arc<Shared>);

struct Shared {
    identities: Tokens<Identity>,
    parked: Tokens<Vec<OwnedFd>>,
    offered: Tokens<Vec<OwnedFd>>,
    trust: Trust,
}

impl Descriptors {
    /// Nothing waits yet.
    pub fn new(trust: Trust) -> Self {
        Self(Arc::new(Shared {
            identities: Tokens::new(),
            parked: Tokens::new(),
            offered: Tokens::new(),
            trust,
        }))
    }

    /// Keeps descriptors for the caller to claim; the token's bytes go into the gRPC answer. Unclaimed ones are closed
    /// when the token is too old.
    pub fn park(&self, descriptors: Vec<OwnedFd>, caller: &Caller) -> Result<Bytes> {
        let token = self.0.parked.put(descriptors, caller.connection().uid)?;
        self.tidy_later();
        Ok(token.to_bytes())
    }

    /// Closes what nobody fetched in time: the peer of a forgotten console end must see that it is gone.
    fn tidy_later(&self) {
        let shared = Arc::downgrade(&self.0);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            tokio::time::sleep(LIFETIME).await;
            if let Some(shared) = shared.upgrade() {
                shared.parked.tidy();
                shared.offered.tidy();
            }
        });
    }

    fn offer(&self, descriptors: Vec<OwnedFd>, uid: u32) -> Result<Token> {
        let token = self.0.offered.put(descriptors, uid)?;
        self.tidy_later();
        Ok(token)
    }

    /// Takes what the caller offered under the token of its gRPC request.
    pub fn take_offer(&self, token: &[u8], caller: &Caller) -> Result<Vec<OwnedFd>> {
        self.0.offered.take(Token::try_from(token)?, caller.connection().uid)
    }

    /// Whether this user is virtproxyd's: nobody without a session.
    pub fn is_proxy(&self, uid: u32) -> bool {
        self.0.trust.proxies.contains(&uid)
    }

    pub(crate) fn take_identity(&self, token: Token, uid: u32) -> Result<Identity> {
        self.0.identities.take(token, uid)
    }
}

/// Where a daemon's two sockets are: `<dir>/<daemon>.sock` and `<dir>/<daemon>-fd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketPaths {
    /// gRPC.
    pub grpc: PathBuf,
    /// The descriptor channel.
    pub descriptors: PathBuf,
}

impl SocketPaths {
    /// The sockets of `daemon` in the gRPC folder.
    pub fn new(dir: impl Into<PathBuf>, daemon: &str) -> Self {
        let dir = dir.into();
        Self { grpc: dir.join(format!("{daemon}.sock")), descriptors: dir.join(format!("{daemon}-fd")) }
    }
}
