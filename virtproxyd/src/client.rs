//! The loop of one client's connection.
//!
//! ```text
//!   frame --+--> keepalive: pong
//!           +--> stream data: to its stream
//!           +--> call --gate--> answered at once ------------------------> outbox --> socket
//!                          \--> gRPC call, one of max_client_requests ----/
//! ```
//!
//! One task reads, calls and writes, so a call that needs no daemon costs one read, one write and no task switch. Replies
//! go out as they are done. A client that does not read its replies fills its own outbox, then its own calls, and is not
//! read from any more; nobody else notices.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::net::UnixStream;
use tokio::time::{Duration, Instant, sleep_until, timeout};
use virt_wire::conn::{self, Outbox, OutboxError};
use virt_wire::frame::{Frame, Header, MessageType, OutFrame};
use virt_wire::keepalive;

use crate::calls::{self, Answer, Ctx, Outcome};
use crate::gate;
use crate::house::House;
use crate::keepalive::{Due, Pulse};
use crate::link::{Entry, Link};
use crate::streams::Stalled;

/// Bytes of replies, events and stream data that may wait for a client to read.
const OUTBOX: usize = 2 * 1024 * 1024;
/// How long what is left in the outbox may take at the end.
const FLUSH: Duration = Duration::from_secs(5);

const PING: i32 = 1;
const PONG: i32 = 2;

/// Serves one client until it or we close.
pub async fn serve(stream: UnixStream, entry: Entry, house: Arc<House>) {
    // The duplicate goes to daemons, which read the client's credentials from it.
    let socket = match stream.as_fd().try_clone_to_owned() {
        Ok(socket) => socket,
        Err(error) => return tracing::warn!(%error, "cannot serve a client"),
    };
    let hang_up = socket.try_clone();
    let (reader, outbox, drain) = match conn::over_unix(stream, OUTBOX) {
        Ok(halves) => halves,
        Err(error) => return tracing::warn!(%error, "cannot serve a client"),
    };
    let link = Arc::new(Link::new(house.clone(), entry, socket, outbox.clone()));
    house.admit_anonymous(Arc::downgrade(&link));
    let drain = drain.run();
    tokio::pin!(drain);
    let client =
        Client { link: link.clone(), outbox, calls: FuturesUnordered::new(), pulse: None, stalled: None };
    tokio::select! {
        biased;
        reason = client.run(reader) => tracing::debug!(reason, "a client's connection ends"),
        result = &mut drain => return finish(&link, hang_up, result.err()),
    }
    link.outbox().close();
    let flushed = timeout(FLUSH, drain).await;
    finish(&link, hang_up, flushed.ok().and_then(Result::err));
}

/// Lets go of everything the client had. Calls that still run keep the link alive, so the socket is shut explicitly.
fn finish(link: &Link, socket: std::io::Result<OwnedFd>, error: Option<std::io::Error>) {
    if let Some(error) = error {
        tracing::debug!(%error, "writing to a client failed");
    }
    link.drop_opened();
    link.streams.clear();
    if let Ok(socket) = socket {
        // It fails when the client has closed already.
        let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
    }
}

type Reader = conn::FrameReader<virt_socket::Reader>;

struct Client {
    link: Arc<Link>,
    outbox: Outbox,
    /// Calls that wait for a daemon, or replies for room in the outbox.
    calls: FuturesUnordered<BoxFuture<'static, ()>>,
    pulse: Option<Pulse>,
    /// Stream data without room; frames are not read until it is delivered.
    stalled: Option<Stalled>,
}

impl Client {
    /// Returns why the connection ends.
    async fn run(mut self, mut reader: Reader) -> &'static str {
        let limits = *self.link.house().limits();
        let mut due = Instant::now() + limits.unauthenticated;
        let link = self.link.clone();
        let ending = link.ending();
        tokio::pin!(ending);
        let timer = sleep_until(due);
        tokio::pin!(timer);
        loop {
            let reading =
                self.stalled.is_none() && self.calls.len() < limits.client_requests && !link.is_closing();
            if link.is_closing() && self.calls.is_empty() {
                return "closed by the client's call";
            }
            tokio::select! {
                biased;
                Some(()) = self.calls.next(), if !self.calls.is_empty() => {}
                frame = reader.next(), if reading => match frame {
                    Ok(Some(frame)) => self.take(frame),
                    Ok(None) => return "closed by the client",
                    Err(error) => {
                        tracing::info!(%error, "a client broke the protocol");
                        return "broken";
                    }
                },
                () = deliver(&mut self.stalled), if self.stalled.is_some() => self.stalled = None,
                () = &mut ending => return "ended by us",
                () = &mut timer => {
                    if let Some(reason) = self.on_timer() {
                        return reason;
                    }
                    due = self.pulse.as_ref().map_or(due + limits.unauthenticated, Pulse::next);
                    timer.as_mut().reset(due);
                }
            }
            if self.pulse.is_none() && link.wants_keepalive() {
                self.pulse = Pulse::start(&limits);
                if let Some(pulse) = &self.pulse {
                    timer.as_mut().reset(pulse.next());
                }
            }
        }
    }

    fn on_timer(&mut self) -> Option<&'static str> {
        if self.link.is_anonymous() {
            return Some("not authenticated in time");
        }
        match self.pulse.as_mut().map(Pulse::due) {
            Some(Due::Dead) => return Some("no answer to keepalive"),
            // When the outbox is full the client has other things to read first.
            Some(Due::Ping) => drop(self.outbox.try_send(OutFrame::keepalive(PING))),
            Some(Due::Nothing) | None => {}
        }
        None
    }

    fn take(&mut self, frame: Frame) {
        if let Some(pulse) = &mut self.pulse {
            pulse.heard();
        }
        match frame.header.kind {
            MessageType::CALL | MessageType::CALL_WITH_FDS => self.call(frame),
            MessageType::STREAM | MessageType::STREAM_HOLE => self.stalled = self.link.streams.take(frame),
            MessageType::MESSAGE if is_ping(&frame.header) => self.send(OutFrame::keepalive(PONG)),
            // Anything else has no meaning from a client; the reference ignores it.
            _ => {}
        }
    }

    fn call(&mut self, frame: Frame) {
        let Frame { header, payload, fds } = frame;
        let answer = gate::admit(&self.link, &header).and_then(|admitted| {
            let ctx = Ctx { link: self.link.clone(), info: admitted, fds: fds.into() };
            calls::dispatch(ctx, header, &payload)
        });
        match answer {
            Ok(Answer::Now(reply)) => self.send(reply),
            Ok(Answer::Later(work)) => self.calls.push(Box::pin(settle(self.link.clone(), header, work))),
            Err(error) => self.send(OutFrame::error(header, &error)),
        }
    }

    fn send(&mut self, frame: OutFrame) {
        if self.outbox.backlog() + frame.wire_len() <= OUTBOX {
            // It can only fail when the connection is closed.
            let _ = self.outbox.try_send(frame);
        } else {
            let outbox = self.outbox.clone();
            self.calls.push(Box::pin(async move { ignore(outbox.send(frame).await) }));
        }
    }
}

async fn deliver(stalled: &mut Option<Stalled>) {
    if let Some(stalled) = stalled {
        stalled.deliver().await;
    }
}

/// Waits for a call's outcome and sends it; a stream begins after its reply.
async fn settle(link: Arc<Link>, header: Header, work: BoxFuture<'static, Outcome>) {
    let Outcome { reply, stream } = work.await;
    ignore(link.outbox().send(reply).await);
    if let Some(source) = stream
        && let Err(error) = link.streams.open(&link, header, source)
    {
        ignore(link.outbox().send(OutFrame::stream_error(header, &error)).await);
    }
}

/// A reply that finds the connection closed has nobody to go to.
fn ignore(sent: Result<(), OutboxError>) {
    if let Err(error) = sent {
        tracing::debug!(%error, "a reply was not sent");
    }
}

fn is_ping(header: &Header) -> bool {
    (header.prog, header.proc) == (keepalive::PROGRAM.number, PING)
}
