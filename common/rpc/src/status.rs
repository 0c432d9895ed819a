//! The one place where an [`Error`] becomes a gRPC status and a status becomes an [`Error`] again.
//!
//! The status carries a message for people and an `ErrorInfo` detail for programs: reason `VIR_ERR_x`, domain
//! `VIR_FROM_x`, and in its metadata the numbers (`code`, `domain`, `errno`), libvirt's `info` text and the context.

use std::collections::HashMap;

use tonic::{Code as Grpc, Status};
use tonic_types::{ErrorDetails, StatusExt};
use virt_error::{Code, Domain, Error};

use crate::client::Unreachable;

/// Details travel in HTTP/2 trailers, and many clients take 8 KiB of them at most.
const MAX_INFO: usize = 3072;
const MAX_MESSAGE: usize = 512;
const MAX_CONTEXT: usize = 512;

/// Turns an error into the status a caller gets, and logs it with its causes: this is where it leaves the daemon. A
/// caller's mistake is no error of the daemon's, whatever its code.
pub fn to_status(error: &Error) -> Status {
    if error.is_fault() {
        tracing::error!(?error, "call failed");
    } else {
        tracing::info!(?error, "call refused");
    }
    let mut facts = HashMap::from([
        ("code".to_string(), (error.code() as i32).to_string()),
        ("domain".to_string(), (error.domain() as i32).to_string()),
        ("errno".to_string(), error.errno().to_string()),
    ]);
    if let Some(info) = error.info() {
        facts.insert("info".to_string(), clip(info, MAX_INFO).to_string());
    }
    if let Some(text) = error.text() {
        facts.insert("text".to_string(), clip(text, MAX_MESSAGE).to_string());
    }
    let mut room = MAX_CONTEXT;
    for (key, value) in error.context() {
        let value = clip(value, room);
        room -= value.len();
        facts.insert(format!("context.{key}"), value.to_string());
    }
    let mut details = ErrorDetails::new();
    details.set_error_info(error.code().name(), error.domain().name(), facts);
    let message = error.message();
    Status::with_error_details(grpc_code(error.code()), clip(&message, MAX_MESSAGE), details)
}

/// Rebuilds the error from a status: from its details, or from the plain gRPC code when another program or the
/// transport made it.
pub fn from_status(status: &Status) -> Error {
    if let Some(unreachable) = Unreachable::cause_of(status) {
        return unreachable.error();
    }
    let details = status.get_error_details();
    let number = |key: &str| details.error_info()?.metadata.get(key)?.parse::<i32>().ok();
    if let (Some(code), Some(domain)) = (number("code"), number("domain")) {
        let info = details.error_info().and_then(|i| i.metadata.get("info").cloned());
        let error = Error::from_parts(code, domain, info).with_errno(number("errno").unwrap_or(-1));
        let text = details.error_info().and_then(|i| i.metadata.get("text").cloned());
        return text.into_iter().fold(error, Error::with_text);
    }
    let code = match status.code() {
        Grpc::Unimplemented => Code::NoSupport,
        Grpc::DeadlineExceeded => Code::OperationTimeout,
        Grpc::Unauthenticated => Code::AuthFailed,
        Grpc::PermissionDenied => Code::AccessDenied,
        Grpc::NotFound => Code::OperationFailed,
        Grpc::InvalidArgument => Code::InvalidArg,
        Grpc::Cancelled | Grpc::Aborted => Code::OperationAborted,
        Grpc::ResourceExhausted => Code::ResourceBusy,
        Grpc::FailedPrecondition => Code::OperationInvalid,
        Grpc::Unavailable => Code::SystemError,
        Grpc::Ok
        | Grpc::Unknown
        | Grpc::AlreadyExists
        | Grpc::OutOfRange
        | Grpc::Internal
        | Grpc::DataLoss => Code::Rpc,
    };
    Error::new(code, Domain::Rpc, status.message())
}

/// `?` for handlers: `work.await.status()?`.
pub trait IntoStatus<T> {
    /// The same result with the error as a status.
    fn status(self) -> Result<T, Status>;
}

impl<T> IntoStatus<T> for Result<T, Error> {
    fn status(self) -> Result<T, Status> {
        self.map_err(|e| to_status(&e))
    }
}

/// Runs a handler's work and wraps its answer.
pub async fn answer<T>(work: impl Future<Output = Result<T, Error>>) -> Result<tonic::Response<T>, Status> {
    work.await.map(tonic::Response::new).status()
}

/// The longest start of `text` that fits in `max` bytes.
fn clip(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// What a gRPC client should think of a libvirt code. Every code is named, so a new one breaks the build here.
pub fn grpc_code(code: Code) -> Grpc {
    use Code::*;
    match code {
        Ok => Grpc::Ok,
        NoDomain | NoNetwork | NoStoragePool | NoStorageVol | NoNodeDevice | NoInterface | NoNwfilter
        | NoSecret | NoDomainSnapshot | NoDomainMetadata | NoNwfilterBinding | NoDomainCheckpoint
        | NoDomainBackup | NoNetworkPort | NoNetworkMetadata | NoServer | NoClient | NoNode | NoDevice
        | UnknownHost => Grpc::NotFound,
        InvalidArg
        | InvalidConn
        | InvalidDomain
        | InvalidNetwork
        | InvalidMac
        | InvalidStoragePool
        | InvalidStorageVol
        | InvalidNodeDevice
        | InvalidInterface
        | InvalidNwfilter
        | InvalidSecret
        | InvalidDomainSnapshot
        | InvalidStream
        | InvalidNwfilterBinding
        | InvalidDomainCheckpoint
        | InvalidNetworkPort
        | XmlError
        | XmlDetail
        | XmlInvalidSchema
        | ConfSyntax
        | ParseFailed
        | SexprSerial
        | OsType
        | NoKernel
        | NoRoot
        | NoSource
        | NoTarget
        | NoName
        | NoOs
        | MultipleInterfaces
        | MultipleDomains
        | Overflow
        | NoHostname => Grpc::InvalidArgument,
        DomExist | NetworkExist | StorageVolExist | NetworkPortExist | StoragePoolBuilt => {
            Grpc::AlreadyExists
        }
        OperationDenied | AccessDenied => Grpc::PermissionDenied,
        AuthFailed | AuthCancelled | AuthUnavailable => Grpc::Unauthenticated,
        OperationInvalid
        | ConfigUnsupported
        | SnapshotRevertRisky
        | MigrateUnsafe
        | BlockCopyActive
        | CpuIncompatible
        | DeviceMissing
        | CheckpointInconsistent
        | MigratePersistFailed
        | MigrateFinishOk => Grpc::FailedPrecondition,
        NoSupport | ArgumentUnsupported | OperationUnsupported | NoSecurityModel => Grpc::Unimplemented,
        OperationTimeout | AgentCommandTimeout => Grpc::DeadlineExceeded,
        ResourceBusy | NoMemory | DriverFull => Grpc::ResourceExhausted,
        OperationAborted => Grpc::Aborted,
        NoConnect | AgentUnresponsive | AgentUnsynced | NoXen | NoXenstore | NoStorage | WarnNoNetwork
        | WarnNoInterface | WarnNoNwfilter | WarnNoSecret => Grpc::Unavailable,
        InternalError | SystemError | OperationFailed | GetFailed | PostFailed | HttpError | XenCall
        | CallFailed | OpenFailed | ReadFailed | WriteFailed | Rpc | GnutlsError | BuildFirewall
        | HookScriptFailed | StorageProbeFailed | Ssh | Libssh | DbusService | AgentCommandFailed => {
            Grpc::Internal
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_survive_the_wire() {
        let error = Error::new(Code::NoDomain, Domain::Qemu, "no domain with matching name 'ä\n'")
            .with_errno(2)
            .with("path", "/x");
        let status = to_status(&error);
        assert_eq!(status.code(), Grpc::NotFound);
        let info = status.get_error_details();
        let info = info.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("VIR_ERR_NO_DOMAIN", "VIR_FROM_QEMU"));
        assert_eq!(info.metadata["context.path"], "/x");
        // Through real headers, as a client sees it.
        let status = Status::from_header_map(status.into_http::<()>().headers()).unwrap();
        let back = from_status(&status);
        assert_eq!((back.code(), back.domain(), back.errno()), (Code::NoDomain, Domain::Qemu, 2));
        assert_eq!(back.info(), error.info());
    }

    #[test]
    fn a_text_of_its_own_survives() {
        let error = Error::unsupported_flags(Domain::Qemu, "qemuDomainSuspend", 2);
        let back = from_status(&to_status(&error));
        assert_eq!((back.message(), back.info()), (error.message(), Some("flags")));
    }

    #[test]
    fn an_error_without_info_stays_without() {
        let back = from_status(&to_status(&Error::bare(Code::NoName, Domain::Domain)));
        assert_eq!((back.info(), back.message().as_str()), (None, "missing name information"));
    }

    #[test]
    fn huge_texts_are_clipped_to_fit_trailers() {
        let error = Error::internal(Domain::Qemu, "ä".repeat(100_000)).with("stderr", "x".repeat(100_000));
        let response = to_status(&error).into_http::<()>();
        let size: usize = response.headers().iter().map(|(k, v)| k.as_str().len() + v.len()).sum();
        assert!(size < 8192, "{size}");
        assert_eq!(from_status(&to_status(&error)).info().unwrap().len(), MAX_INFO);
    }

    #[test]
    fn foreign_statuses_become_sensible_errors() {
        assert_eq!(from_status(&Status::unimplemented("")).code(), Code::NoSupport);
        assert_eq!(from_status(&Status::deadline_exceeded("late")).code(), Code::OperationTimeout);
        let e = from_status(&Status::internal("h2 broke"));
        assert_eq!((e.code(), e.domain()), (Code::Rpc, Domain::Rpc));
    }
}
