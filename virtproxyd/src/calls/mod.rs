//! The calls of libvirt's programs, each mapped to gRPC, in files by concern.
//!
//! A handler decodes nothing and encodes nothing: it gets the wire's argument struct and gives the wire's answer struct.
//!
//! ```text
//!   payload --decode--> Args --handler--> gRPC request --> daemon --> gRPC answer --handler--> Ret --encode--> reply
//! ```
//!
//! To map one more call: write the handler in the file of its concern and add a row to the file's `CALLS`. A call
//! without a row answers "not supported" with its public function's name.

mod connect;
mod domain;
mod events;
mod host;
mod host_cpu;
mod host_memory;
mod interface;
mod network;
mod nwfilter;
mod object_events;
mod secret;
mod storage;

pub(crate) use domain::to_wire as domain_to_wire;
pub(crate) use network::to_wire as network_to_wire;
pub(crate) use secret::to_wire as secret_to_wire;
pub(crate) use storage::{Listed, to_wire as pool_to_wire};

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use virt_error::{Error, Result};
use virt_wire::frame::{Header, OutFrame, Status};
use virt_wire::program::{ProcInfo, Program};
use virt_wire::xdr::{Reader, XdrDecode, XdrEncode};
use virt_wire::{Procedure, lxc, qemu, remote};

use crate::kept::Asked;
use crate::link::Link;
use crate::refusal;
use crate::route::Object;
use crate::streams::Source;

/// What a handler knows of the call it serves.
#[derive(Clone)]
pub(crate) struct Ctx {
    /// The client's connection.
    pub link: Arc<Link>,
    /// The call's row in the program's table.
    pub info: &'static ProcInfo,
    /// Descriptors that came with it. They are closed with the call.
    pub fds: Arc<[OwnedFd]>,
}

/// What a call comes to.
pub(crate) enum Answer {
    /// The reply, made at once.
    Now(OutFrame),
    /// The reply, once a daemon has answered.
    Later(BoxFuture<'static, Outcome>),
}

/// A finished call.
pub(crate) struct Outcome {
    /// What to send.
    pub reply: OutFrame,
    /// The stream that the call has opened.
    pub stream: Option<Source>,
}

type Run = fn(Ctx, Header, &[u8]) -> Result<Answer>;

/// One row of a concern's table.
pub(crate) struct Call {
    program: &'static Program,
    number: i32,
    run: Run,
}

impl Ctx {
    /// Fetches the descriptor that a ticket of an object's daemon stands for.
    async fn claim(&self, object: Object, ticket: &[u8]) -> Result<OwnedFd> {
        self.link.session(self.info, object).await?.claim(ticket).await
    }

    /// As [`Ctx::claim`], for a ticket of several.
    async fn claim_all(&self, object: Object, ticket: &[u8]) -> Result<Vec<OwnedFd>> {
        self.link.session(self.info, object).await?.claim_all(ticket).await
    }

    /// Hands descriptors to an object's daemon; the answer names them in a gRPC request.
    async fn offer(&self, object: Object, descriptors: &[BorrowedFd<'_>]) -> Result<Bytes> {
        self.link.session(self.info, object).await?.daemon().offer(descriptors).await
    }
}

impl Call {
    const fn new<P: Procedure>(run: Run) -> Self {
        Self { program: P::PROGRAM, number: P::NUMBER, run }
    }
}

/// Rows of a table: `now` for what the proxy answers itself, `ask` for what a daemon answers, `keep` for what it answers
/// from its published objects alone, so that the answer holds until it counts a change ([`crate::kept`]), `stream` for
/// calls that open a stream, `give` for calls whose answer may carry descriptors.
macro_rules! calls {
    ($($kind:ident $(($object:ident))? $proc:path => $handler:path;)*) => {
        &[$(crate::calls::Call::new::<$proc>(|ctx, header, payload| {
            crate::calls::$kind::<$proc, _, _>(
                ctx,
                header,
                payload,
                $handler,
                $(crate::route::Object::$object)?
            )
        })),*]
    };
}
/// One gRPC call for a handler, on the connection's session with the daemon of an object: the hypervisor's when none is
/// named.
macro_rules! rpc {
    ($ctx:expr, $client:ident . $method:ident ($request:expr)) => {
        crate::calls::rpc!($ctx, Domain: $client.$method($request))
    };
    ($ctx:expr, $object:ident : $client:ident . $method:ident ($request:expr)) => {{
        let request = $request;
        let work = move |session: std::sync::Arc<virt_rpc::client::ClientSession>| {
            let request = session.request(request.clone());
            let mut client = virt_rpc::client!($client, session.daemon());
            async move { client.$method(request).await }
        };
        crate::api::call(&$ctx.link, $ctx.info, crate::route::Object::$object, work)
    }};
}
use {calls, rpc};

fn now<P, F, R>(ctx: Ctx, header: Header, payload: &[u8], handler: F) -> Result<Answer>
where
    P: Procedure<Ret = R>,
    F: Fn(&Ctx, P::Args) -> Result<R>,
    R: XdrEncode,
{
    let args = args::<P>(&ctx, payload)?;
    let ret = handler(&ctx, args)?;
    Ok(Answer::Now(OutFrame::reply(header, Ok(ret))))
}

fn ask<P, F, W>(ctx: Ctx, header: Header, payload: &[u8], handler: F) -> Result<Answer>
where
    P: Procedure,
    F: Fn(Ctx, P::Args) -> W,
    W: Future<Output = Result<P::Ret>> + Send + 'static,
{
    let args = args::<P>(&ctx, payload)?;
    let work = handler(ctx, args);
    Ok(Answer::Later(Box::pin(async move {
        Outcome { reply: OutFrame::reply(header, work.await), stream: None }
    })))
}

fn keep<P, F, W>(ctx: Ctx, header: Header, payload: &[u8], handler: F, object: Object) -> Result<Answer>
where
    P: Procedure,
    F: Fn(Ctx, P::Args) -> W,
    W: Future<Output = Result<P::Ret>> + Send + 'static,
{
    let asked = Asked::new(header, payload);
    if let Some(answer) = ctx.link.kept(object, &asked)
        && let Ok(reply) = OutFrame::raw(header.reply(Status::OK), answer)
    {
        return Ok(Answer::Now(reply));
    }
    let args = args::<P>(&ctx, payload)?;
    let asked = asked.to_owned();
    let (link, info) = (ctx.link.clone(), ctx.info);
    let work = handler(ctx, args);
    Ok(Answer::Later(Box::pin(async move {
        let before = link.count(info, object).await;
        let answer = work.await;
        let good = answer.is_ok();
        let reply = OutFrame::reply(header, answer);
        if let Some(before) = before.filter(|_| good) {
            link.keep(before, &asked, reply.payload());
        }
        Outcome { reply, stream: None }
    })))
}

fn stream<P, F, W>(ctx: Ctx, header: Header, payload: &[u8], handler: F) -> Result<Answer>
where
    P: Procedure,
    F: Fn(Ctx, P::Args) -> W,
    W: Future<Output = Result<(P::Ret, Source)>> + Send + 'static,
{
    let args = args::<P>(&ctx, payload)?;
    let work = handler(ctx, args);
    Ok(Answer::Later(Box::pin(async move {
        match work.await {
            Ok((ret, source)) => Outcome { reply: OutFrame::reply(header, Ok(ret)), stream: Some(source) },
            Err(error) => Outcome { reply: OutFrame::error(header, &error), stream: None },
        }
    })))
}

fn give<P, F, W>(ctx: Ctx, header: Header, payload: &[u8], handler: F) -> Result<Answer>
where
    P: Procedure,
    F: Fn(Ctx, P::Args) -> W,
    W: Future<Output = Result<(P::Ret, Vec<OwnedFd>)>> + Send + 'static,
{
    let args = args::<P>(&ctx, payload)?;
    let work = handler(ctx, args);
    Ok(Answer::Later(Box::pin(
        async move { Outcome { reply: OutFrame::give(header, work.await), stream: None } },
    )))
}

/// Decodes and applies the read-only rules that look at arguments. Bytes after the arguments are ignored, as the
/// reference does: newer clients may send more.
fn args<P: Procedure>(ctx: &Ctx, payload: &[u8]) -> Result<P::Args> {
    let args =
        P::Args::decode(&mut Reader::new(payload)).map_err(|e| refusal::undecodable().with_source(e))?;
    if ctx.link.read_only() && P::refused_readonly(&args) {
        return Err(refusal::read_only_args(ctx.info));
    }
    Ok(args)
}

/// Serves a call that passed the gate: the handler's answer, or "not supported".
pub(crate) fn dispatch(ctx: Ctx, header: Header, payload: &[u8]) -> Result<Answer> {
    match TABLE.find(header.prog, header.proc) {
        Some(run) => run(ctx, header, payload),
        None => Err(refusal::no_support(ctx.info)),
    }
}

static TABLE: LazyLock<Table> = LazyLock::new(Table::build);

/// All rows, found by number.
struct Table {
    programs: Vec<(u32, Vec<Option<Run>>)>,
}

impl Table {
    fn build() -> Self {
        let empty = |p: &'static Program| (p.number, vec![None; p.procs.len() + 1]);
        let mut table =
            Self { programs: [&remote::PROGRAM, &qemu::PROGRAM, &lxc::PROGRAM].map(empty).into() };
        for call in all() {
            let rows = table.programs.iter_mut().find(|p| p.0 == call.program.number);
            let slot = rows.and_then(|p| p.1.get_mut(usize::try_from(call.number).ok()?));
            if let Some(slot) = slot {
                *slot = Some(call.run);
            }
        }
        table
    }

    fn find(&self, program: u32, number: i32) -> Option<Run> {
        let rows = &self.programs.iter().find(|p| p.0 == program)?.1;
        *rows.get(usize::try_from(number).ok()?)?
    }
}

fn all() -> impl Iterator<Item = &'static Call> {
    let other = [interface::CALLS, nwfilter::CALLS, secret::CALLS, object_events::CALLS];
    [connect::CALLS, host::CALLS, host_cpu::CALLS, host_memory::CALLS, events::CALLS]
        .into_iter()
        .chain(other)
        .chain(domain::all())
        .chain(network::all())
        .chain(storage::all())
        .flatten()
}

/// The error for an answer that breaks the API's own promises.
fn malformed(what: &str) -> Error {
    refusal::rpc(format!("the daemon's answer has no {what}"))
}

/// A count for the wire's signed fields.
fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_row_is_a_call_and_there_once() {
        let mut seen = HashSet::new();
        for call in all() {
            assert!(refusal::proc_of(call.program, call.number).is_some(), "{}", call.number);
            assert!(seen.insert((call.program.number, call.number)), "twice: {}", call.number);
        }
        assert!(seen.len() > 100);
    }
}
