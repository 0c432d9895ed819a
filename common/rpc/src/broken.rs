//! Calls that the transport ended instead of the daemon: whether they ran, and what their callers are told.
//!
//! ```text
//!   request waits for a connection --gone--> never sent: may be made again, whatever it does
//!   request was sent                --gone--> unknown: made again only if it changes nothing
//! ```

use std::path::Path;

use tonic::{Code as Grpc, Status};
use tonic_types::StatusExt;
use virt_error::{Domain, Error};

use crate::client::Unreachable;

/// Whether the status was made without our error details: by the transport, or by a server without the method.
pub fn is_bare(status: &Status) -> bool {
    status.get_details_error_info().is_none() && Unreachable::cause_of(status).is_none()
}

/// Whether the connection to the daemon broke during the call.
pub fn is_broken(status: &Status) -> bool {
    let transport =
        matches!(status.code(), Grpc::Unavailable | Grpc::Unknown | Grpc::Internal | Grpc::Cancelled);
    transport && is_bare(status)
}

/// Whether the call provably did not run: the request never left, or the daemon refused its stream before looking at it.
pub fn never_ran(status: &Status) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(status);
    while let Some(error) = cause {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled) {
            return true;
        }
        if error.downcast_ref::<h2::Error>().and_then(h2::Error::reason) == Some(h2::Reason::REFUSED_STREAM) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The error of a call whose daemon ended: code 38 of the RPC layer, as the reference's for a lost server.
pub fn ended(socket: &Path) -> Error {
    let text = format!("Cannot recv data: the daemon at '{}' ended during the call", socket.display());
    Error::system(Domain::Rpc, text, rustix::io::Errno::CONNRESET.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt_error::Code;

    #[test]
    fn only_the_transports_statuses_are_broken_calls() {
        assert!(is_broken(&Status::unavailable("transport error")));
        assert!(is_broken(&Status::unknown("h2 protocol error")));
        assert!(!is_broken(&Status::unimplemented("")));
        let ours = crate::to_status(&Error::internal(Domain::Qemu, "x"));
        assert!(!is_broken(&ours) && !is_bare(&ours));
        assert!(!never_ran(&Status::unavailable("transport error")), "nobody knows");
    }

    #[test]
    fn the_text_says_what_happened() {
        let error = ended(Path::new("/run/x"));
        let text = "Cannot recv data: the daemon at '/run/x' ended during the call: Connection reset by peer";
        assert_eq!((error.code(), error.message().as_str()), (Code::SystemError, text));
    }
}
