//! What a call must pass before its arguments are looked at: program, number, authentication, open, read-only.

use virt_error::Result;
use virt_wire::frame::{Header, Status};
use virt_wire::program::{ProcInfo, Program, ReadOnly};
use virt_wire::{lxc, qemu, remote};

use crate::link::Link;
use crate::refusal;

// Numbers of the remote program that are served before CONNECT_OPEN.
const CONNECT_OPEN: i32 = 1;
const CONNECT_CLOSE: i32 = 2;
const SUPPORTS_FEATURE: i32 = 60;
/// Served before authentication: 66 to 70.
const AUTH: std::ops::RangeInclusive<i32> = 66..=70;

/// The call's row, if it may be served now. All refusals keep the link open.
pub(crate) fn admit(link: &Link, header: &Header) -> Result<&'static ProcInfo> {
    let program = program(header).ok_or_else(|| refusal::unknown_program(header.prog, header.vers))?;
    if header.status != Status::OK {
        return Err(refusal::rpc(format!("Unexpected message status {}", header.status.0)));
    }
    let info = refusal::proc_of(program, header.proc);
    let info = info.ok_or_else(|| refusal::unknown_procedure(header.proc))?;
    let main = program.number == remote::PROGRAM.number;
    if main && AUTH.contains(&header.proc) {
        return Ok(info);
    }
    if link.is_anonymous() {
        return Err(refusal::not_authenticated());
    }
    // The feature call decides itself: keepalive may be asked for early.
    if main && matches!(header.proc, CONNECT_OPEN | CONNECT_CLOSE | SUPPORTS_FEATURE) {
        return Ok(info);
    }
    if !link.is_open() {
        return Err(refusal::not_open());
    }
    if link.read_only() && info.readonly == ReadOnly::Refused {
        return Err(refusal::read_only(info));
    }
    Ok(info)
}

/// The programs of the main socket, in the versions we speak. Keepalive takes no calls.
fn program(header: &Header) -> Option<&'static Program> {
    let known = [&remote::PROGRAM, &qemu::PROGRAM, &lxc::PROGRAM];
    known.into_iter().find(|p| (p.number, p.version) == (header.prog, header.vers))
}
