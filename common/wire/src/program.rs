//! What a program's table says of its procedures and events.

use crate::xdr::{XdrDecode, XdrEncode};

/// What may arrive under a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A call with a reply.
    Call,
    /// A message of the server about an event.
    Event,
    /// A message either side may send (keepalive).
    Message,
}

/// How the reference orders calls: high may run on a reserved worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// May wait for a guest.
    Low,
    /// Answers at once.
    High,
}

/// Whether a read-only connection may call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOnly {
    /// Always.
    Allowed,
    /// Never.
    Refused,
    /// Not with one of these bits in `flags`.
    RefusedWithFlags(u32),
    /// Not when the named argument has this value.
    RefusedWithArg(&'static str, u32),
}

/// The way of a call's stream, seen from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The call opens no stream.
    None,
    /// Server to client.
    Read,
    /// Client to server.
    Write,
    /// Both ways (console, channel).
    Both,
}

/// When an access rule applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AclWhen {
    /// To every call.
    Always,
    /// With one of these bits in `flags`.
    Flags(u32),
    /// With none of `unset` or with one of `set` in `flags`.
    FlagsUnset {
        /// Bits that must all be clear for the rule to apply ...
        unset: u32,
        /// ... unless one of these is set.
        set: u32,
    },
    /// When the named argument has this value.
    Arg(&'static str, u32),
}

/// One permission a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acl {
    /// The kind of object: `domain`.
    pub object: &'static str,
    /// The permission: `read_secure`.
    pub permission: &'static str,
    /// When it is needed.
    pub when: AclWhen,
}

/// One row of a program's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcInfo {
    /// The number on the wire.
    pub number: i32,
    /// libvirt's name: `REMOTE_PROC_CONNECT_OPEN`.
    pub name: &'static str,
    /// Call, event or message.
    pub kind: Kind,
    /// The public function that the call stands for; the argument of "not supported" and "read only" errors.
    pub api: Option<&'static str>,
    /// The read-only rule.
    pub readonly: ReadOnly,
    /// The reference's order.
    pub priority: Priority,
    /// The stream the call opens.
    pub stream: Stream,
    /// The bit of `flags` that allows holes in the stream (0 = none).
    pub sparse_flag: u32,
    /// Permissions that are needed.
    pub acl: &'static [Acl],
    /// Permissions by which a list's items are filtered.
    pub acl_filter: &'static [Acl],
}

/// A program: its number and its table.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Short name: `remote`.
    pub name: &'static str,
    /// The number on the wire.
    pub number: u32,
    /// The version on the wire.
    pub version: u32,
    /// Rows by number, the first is number 1.
    pub procs: &'static [ProcInfo],
}

impl Program {
    /// The row of a number.
    pub fn proc(&self, number: i32) -> Option<&'static ProcInfo> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        self.procs.get(at)
    }
}

/// An event of an object and the messages that carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRow {
    /// The public event number (`VIR_DOMAIN_EVENT_ID_...`).
    pub id: i32,
    /// libvirt's name of the number.
    pub name: &'static str,
    /// The message for clients without callback ids.
    pub legacy: Option<i32>,
    /// The message with a callback id.
    pub callback: i32,
}

/// A call, as a type: what goes in and what comes out.
pub trait Procedure {
    /// The arguments (`()` when there are none).
    type Args: XdrEncode + XdrDecode + Send + 'static;
    /// The answer (`()` when it is empty).
    type Ret: XdrEncode + XdrDecode + Send + 'static;
    /// The program it belongs to.
    const PROGRAM: &'static Program;
    /// Its number.
    const NUMBER: i32;

    /// Its row in the table.
    fn info() -> &'static ProcInfo {
        &Self::PROGRAM.procs[Self::NUMBER as usize - 1]
    }

    /// Whether a read-only connection must be refused these arguments.
    fn refused_readonly(_: &Self::Args) -> bool {
        matches!(Self::info().readonly, ReadOnly::Refused)
    }
}

/// A server's message, as a type.
pub trait Event {
    /// What it carries.
    type Msg: XdrEncode + XdrDecode + Send + 'static;
    /// The program it belongs to.
    const PROGRAM: &'static Program;
    /// Its number.
    const NUMBER: i32;
}

/// Declares the marker types of calls.
macro_rules! procedures {
    ($($name:ident = $number:literal ($args:ty) -> $ret:ty $(, unless $arg:ident $op:tt $value:literal)?;)*) => {$(
        #[derive(Debug, Clone, Copy)]
        pub struct $name;
        impl crate::program::Procedure for $name {
            type Args = $args;
            type Ret = $ret;
            const PROGRAM: &'static crate::program::Program = &super::PROGRAM;
            const NUMBER: i32 = $number;
            $(fn refused_readonly(args: &Self::Args) -> bool {
                crate::program::procedures!(@test args.$arg $op $value)
            })?
        }
    )*};
    (@test $args:ident.$arg:ident & $value:literal) => { $args.$arg & $value != 0 };
    (@test $args:ident.$arg:ident == $value:literal) => { $args.$arg == $value };
}

/// Declares the marker types of events.
macro_rules! events {
    ($($name:ident = $number:literal ($msg:ty);)*) => {$(
        #[derive(Debug, Clone, Copy)]
        pub struct $name;
        impl crate::program::Event for $name {
            type Msg = $msg;
            const PROGRAM: &'static crate::program::Program = &super::PROGRAM;
            const NUMBER: i32 = $number;
        }
    )*};
}

pub(crate) use {events, procedures};
