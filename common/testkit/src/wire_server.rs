//! A tiny server of the libvirt protocol, in the test's own process: for tests of clients, and to time the protocol
//! layer alone.

use std::path::Path;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use virt_error::{Code, Domain, Error};
use virt_wire::conn::{Outbox, over_unix};
use virt_wire::frame::{Frame, MessageType, OutFrame, bad_payload};
use virt_wire::program::Procedure;
use virt_wire::remote::{self, procs};
use virt_wire::xdr::XdrEncode;

/// The bytes that may wait for a client that does not read.
const LIMIT: usize = 1 << 20;

/// Serves one connection: every frame goes to `handle`, which sends what it wants; `false` closes the connection after
/// what was sent. Ends when the client leaves or breaks the protocol.
pub async fn serve(stream: UnixStream, mut handle: impl FnMut(Frame, &Outbox) -> bool) {
    let Ok((mut reader, outbox, drain)) = over_unix(stream, LIMIT) else { return };
    let read = async move {
        // Whatever ends the reading ends the connection: the outbox goes with this block.
        while let Ok(Some(frame)) = reader.next().await {
            if !handle(frame, &outbox) {
                break;
            }
        }
    };
    // One task for both halves: the answer to a call is written when there is nothing more to read.
    let _ = tokio::join!(read, drain.run());
}

/// Listens at `path` and serves every connection with [`basics`]. Dropping the handle does not stop it; abort it.
pub fn listen(path: &Path) -> std::io::Result<JoinHandle<()>> {
    let listener = UnixListener::bind(path)?;
    Ok(tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, basics));
        }
    }))
}

/// Authentication's list, open, close and the library version; what else is called is an unknown procedure.
pub fn basics(frame: Frame, outbox: &Outbox) -> bool {
    let header = frame.header;
    if !matches!(header.kind, MessageType::CALL | MessageType::CALL_WITH_FDS) {
        return true;
    }
    let reply = match header.proc {
        _ if header.prog != remote::PROGRAM.number => Err(unknown("program", header.prog.cast_signed())),
        procs::AuthList::NUMBER => answer::<procs::AuthList>(&frame, |()| remote::AuthListRet {
            types: vec![remote::AuthType::AUTH_NONE],
        }),
        procs::ConnectOpen::NUMBER => answer::<procs::ConnectOpen>(&frame, |_| ()),
        procs::ConnectClose::NUMBER => answer::<procs::ConnectClose>(&frame, |()| ()),
        procs::ConnectGetLibVersion::NUMBER => answer::<procs::ConnectGetLibVersion>(&frame, |()| {
            remote::ConnectGetLibVersionRet { lib_ver: 11_003_000 }
        }),
        other => Err(unknown("procedure", other)),
    };
    let sent = outbox.try_send(reply.unwrap_or_else(|e| OutFrame::error(header, &e)));
    sent.is_ok() && header.proc != procs::ConnectClose::NUMBER
}

/// Decodes the arguments and encodes the answer.
pub fn answer<P: Procedure>(frame: &Frame, value: impl FnOnce(P::Args) -> P::Ret) -> Result<OutFrame, Error>
where
    P::Ret: XdrEncode,
{
    let args = frame.args::<P>().map_err(bad_payload)?;
    Ok(OutFrame::reply(frame.header, Ok(value(args))))
}

fn unknown(what: &str, number: i32) -> Error {
    Error::new(Code::Rpc, Domain::Rpc, format!("unknown {what}: {number}"))
}
