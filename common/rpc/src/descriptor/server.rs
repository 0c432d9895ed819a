//! Serves the descriptor channel on a listening seqpacket socket.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use virt_api::session::v1alpha1::{DescriptorRequest, DescriptorResponse, Failure, Granted};
use virt_api::session::v1alpha1::{descriptor_request::Request, descriptor_response::Response};
use virt_error::{Code, Domain, Error, Result};

use super::socket::Packets;
use super::{Descriptors, identify};
use crate::peer::Peer;
use crate::token::Token;

/// Connections served at a time; further ones wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 256;
/// A connection that asks nothing for this long is closed.
const IDLE: Duration = Duration::from_secs(10);

/// Accepts connections until dropped. `listener` must be a listening seqpacket socket.
pub async fn serve(listener: UnixListener, descriptors: Descriptors) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Out of descriptors or memory: go on when some are back.
                tracing::warn!(%error, "cannot accept on the descriptor channel");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let descriptors = descriptors.clone();
        tokio::spawn(async move {
            if let Err(error) = converse(socket, &descriptors).await {
                tracing::debug!(%error, "descriptor channel closed");
            }
            drop(permit);
        });
    }
}

async fn converse(socket: UnixStream, descriptors: &Descriptors) -> io::Result<()> {
    let sender = Peer::of(&socket)?;
    let packets = Packets::new(socket);
    while let Ok(message) = tokio::time::timeout(IDLE, packets.receive()).await {
        let Some((bytes, received)) = message? else { break };
        let (response, granted) = match handle(&bytes, received, sender, descriptors) {
            Ok((response, granted)) => (response, granted),
            Err(error) => {
                tracing::info!(uid = sender.uid, pid = sender.pid, ?error, "descriptor request refused");
                (Response::Failure(failure(&error)), Vec::new())
            }
        };
        let bytes = DescriptorResponse { response: Some(response) }.encode_to_vec();
        let granted: Vec<_> = granted.iter().map(AsFd::as_fd).collect();
        packets.send(&bytes, &granted).await?;
    }
    Ok(())
}

/// One request. Descriptors that are not taken are closed by being dropped.
fn handle(
    bytes: &[u8],
    mut received: Vec<OwnedFd>,
    sender: Peer,
    descriptors: &Descriptors,
) -> Result<(Response, Vec<OwnedFd>)> {
    let bad = |why: &str| Error::new(Code::Rpc, Domain::Rpc, format!("bad descriptor request: {why}"));
    let message = DescriptorRequest::decode(bytes).map_err(|e| bad("not a message").with_source(e))?;
    match message.request {
        Some(Request::Identify(request)) => {
            if received.len() > 1 {
                return Err(bad("more than one socket"));
            }
            let socket = received.pop();
            let socket = socket.as_ref().map(AsFd::as_fd);
            let identity = identify::identify(request, socket, sender, &descriptors.0.trust)?;
            let token = descriptors.0.identities.put(identity, sender.uid)?;
            Ok((Response::Token(token.to_bytes()), Vec::new()))
        }
        Some(Request::Claim(claim)) => {
            let token = Token::try_from(&claim.token[..])?;
            let granted = descriptors.0.parked.take(token, sender.uid)?;
            Ok((Response::Granted(Granted {}), granted))
        }
        Some(Request::Offer(_)) => {
            if received.is_empty() {
                return Err(bad("nothing offered"));
            }
            let token = descriptors.offer(received, sender.uid)?;
            Ok((Response::Token(token.to_bytes()), Vec::new()))
        }
        None => Err(bad("nothing asked")),
    }
}

fn failure(error: &Error) -> Failure {
    Failure {
        code: error.code() as i32,
        domain: error.domain() as i32,
        info: error.info().map(|i| i[..i.floor_char_boundary(4096)].to_string()),
    }
}
