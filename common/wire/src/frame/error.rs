//! The wire's error struct and our error type.

use crate::remote;
use crate::xdr::XdrError;
use virt_error::{Code, Domain, Error};

/// `VIR_ERR_ERROR`: the level of everything that is sent.
const LEVEL_ERROR: i32 = 2;

/// The struct legacy clients print: message filled in, str1 the unfilled text, str2 the info.
///
/// A bad argument of a public function is sent as the reference does it: str1 the function, str2 the argument, both
/// numbers 0 (observed).
pub fn error_to_wire(error: &Error) -> remote::Error {
    let function =
        error.context().iter().find(|(key, _)| *key == "function" && error.code() == Code::InvalidArg);
    let (str1, int2) = match function {
        Some((_, function)) => (clean(function.clone()), 0),
        None => (error.template().to_owned(), -1),
    };
    remote::Error {
        code: error.code() as i32,
        domain: error.domain() as i32,
        message: Some(clean(error.message())),
        level: LEVEL_ERROR,
        dom: None,
        str1: Some(str1),
        str2: error.info().map(|info| clean(info.to_owned())),
        str3: None,
        int1: error.errno(),
        int2,
        net: None,
    }
}

/// A string the wire can carry, whatever an error's text was made of: an error must always reach the client.
fn clean(mut text: String) -> String {
    /// Enough for any text a person reads; some come from tools' output.
    const LIMIT: usize = 65_536;
    if text.contains('\0') {
        text = text.replace('\0', "\u{fffd}");
    }
    if text.len() > LIMIT {
        let mut end = LIMIT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

/// An error another libvirt daemon answered.
pub fn error_from_wire(wire: remote::Error) -> Error {
    let mut error = Error::from_parts(wire.code, wire.domain, wire.str2).with_errno(wire.int1);
    if let Some(function) = wire.str1.filter(|_| error.code() == Code::InvalidArg)
        && function != error.template()
    {
        error = error.with("function", function);
    }
    match wire.message {
        // Some errors of the reference have a text of their own instead of their code's.
        Some(message) if message != error.message() => error.with_text(message),
        _ => error,
    }
}

/// A payload that is not what its procedure takes (observed: 39/7, the link stays open).
pub fn bad_payload(cause: XdrError) -> Error {
    Error::new(Code::Rpc, Domain::Rpc, "Unable to decode message payload").with_source(cause)
}
