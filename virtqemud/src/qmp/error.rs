//! What can go wrong between us and a monitor.

use std::time::Duration;

use virt_error::{Code, Domain};

/// Shorthand of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// QEMU answered with an error.
    #[error("unable to execute QEMU command '{command}': {text}")]
    Refused {
        /// The command's name.
        command: String,
        /// QEMU's error class: "GenericError", "CommandNotFound", "DeviceNotFound" ...
        class: String,
        /// QEMU's text, cut to a sane length.
        text: String,
    },
    /// No answer in time. The command may still happen later.
    #[error("QEMU did not answer '{command}' within {after:?}")]
    Timeout {
        /// The command's name.
        command: String,
        /// How long we waited.
        after: Duration,
    },
    /// QEMU's process is stopped by a signal or a debugger. The command may still happen when it goes on.
    #[error("the emulator's process is stopped and cannot answer '{command}'")]
    Stopped {
        /// The command's name.
        command: String,
    },
    /// The connection is gone: QEMU closed it or ended.
    #[error("End of file from qemu monitor")]
    Closed,
    /// QEMU broke the protocol; the connection was given up.
    #[error("QEMU broke the monitor protocol: {0}")]
    Protocol(String),
    /// An answer that is not what the command promises.
    #[error("unexpected answer of QEMU command '{command}': {what}")]
    Answer {
        /// The command's name.
        command: String,
        /// What is wrong with it.
        what: String,
    },
    /// Too many commands wait for this monitor.
    #[error("too many commands in flight on the monitor")]
    Busy,
    /// The socket failed.
    #[error("cannot {what}: {text}")]
    Socket {
        /// What we tried.
        what: &'static str,
        /// The system's text.
        text: String,
    },
    /// A passed command that brings an id of its own.
    #[error("Unable to append command 'id' string")]
    OwnId,
    /// A command that is not a JSON object with an "execute" member.
    #[error("cannot parse the monitor command: {0}")]
    BadCommand(String),
}

impl Error {
    /// True when QEMU does not know the command at all.
    pub fn is_unknown_command(&self) -> bool {
        matches!(self, Self::Refused { class, .. } if class == "CommandNotFound")
    }

    /// True when no later command can succeed on this connection.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Closed | Self::Protocol(_) | Self::Socket { .. } => true,
            Self::Refused { .. }
            | Self::Timeout { .. }
            | Self::Stopped { .. }
            | Self::Answer { .. }
            | Self::Busy
            | Self::OwnId
            | Self::BadCommand(_) => false,
        }
    }
}

/// Whether an error comes from the end of the monitor's connection.
pub fn is_closed(error: &virt_error::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|s| s.downcast_ref::<Error>());
    matches!(cause, Some(Error::Closed))
}

impl From<Error> for virt_error::Error {
    fn from(e: Error) -> Self {
        let text = e.to_string();
        let code = match &e {
            Error::Refused { .. } | Error::Closed | Error::Protocol(_) | Error::Answer { .. } => {
                Code::InternalError
            }
            Error::Timeout { .. } | Error::Stopped { .. } | Error::Busy => Code::OperationTimeout,
            Error::Socket { .. } => Code::SystemError,
            Error::BadCommand(_) | Error::OwnId => Code::InternalError,
        };
        Self::new(code, Domain::Qemu, text).with_source(e)
    }
}
