//! One error type: libvirt code, domain and reason, with context and a source chain.
//!
//! The only place that knows the number tables. Two edges turn an [`Error`] into something else: `virt-rpc` into a
//! gRPC status with rich details, `virtproxyd` into the wire's error struct.
//!
//! House rule: `info` says what is wrong in libvirt's own words where libvirt has some, never repeats the source's
//! text; the chain is logged once, where the error leaves the daemon.

mod tables;

use std::fmt;

pub use tables::{Code, Domain};

/// Shorthand used all over the project.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// An error as libvirt's clients see it, plus what only our logs and gRPC callers see (context, source).
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    domain: Domain,
    info: Option<String>,
    text: Option<String>,
    errno: i32,
    context: Vec<(&'static str, String)>,
    source: Option<Source>,
    fault: bool,
}

/// Errno values that say the host is in trouble, whoever asked: EIO, ENOMEM, ENFILE, EMFILE, ENOSPC, EROFS, EDQUOT.
const TROUBLE: [i32; 7] = [5, 12, 23, 24, 28, 30, 122];

impl Error {
    /// An error with libvirt's text for `code`, filled in with `info`.
    pub fn new(code: Code, domain: Domain, info: impl Into<String>) -> Self {
        Self::build(code, domain, Some(info.into()))
    }

    /// An error whose text is libvirt's for `code` without any info.
    pub fn bare(code: Code, domain: Domain) -> Self {
        Self::build(code, domain, None)
    }

    fn build(code: Code, domain: Domain, info: Option<String>) -> Self {
        let (text, errno, context, source, fault) = (None, -1, Vec::new(), None, false);
        Self(Box::new(Inner { code, domain, info, text, errno, context, source, fault }))
    }

    /// "internal error: ..." from the given part.
    pub fn internal(domain: Domain, info: impl Into<String>) -> Self {
        Self::new(Code::InternalError, domain, info)
    }

    /// A rule of our own was broken: an internal error that no client, guest or file could cause. The log tells it as
    /// something that a person must act on.
    pub fn fault(domain: Domain, info: impl Into<String>) -> Self {
        let mut error = Self::internal(domain, info);
        error.0.fault = true;
        error
    }

    /// What a driver lacks: code 3 with the public function's name, as a missing driver answers.
    pub fn no_support(domain: Domain, function: impl Into<String>) -> Self {
        Self::new(Code::NoSupport, domain, function)
    }

    /// Code 8 with a text of its own in place of "invalid argument: ...", as libvirt's functions report a bad argument
    /// of theirs; `argument` is what becomes `str2` on the wire.
    pub fn invalid_arg(
        domain: Domain,
        function: &'static str,
        argument: &str,
        text: impl Into<String>,
    ) -> Self {
        let error = Self::new(Code::InvalidArg, domain, argument);
        error.with_errno(0).with("function", function).with_text(text)
    }

    /// Flag bits that a function does not know: "unsupported flags (0x2) in function qemuDomainSuspend".
    pub fn unsupported_flags(domain: Domain, function: &'static str, unknown: u32) -> Self {
        Self::invalid_arg(
            domain,
            function,
            "flags",
            format!("unsupported flags (0x{unknown:x}) in function {function}"),
        )
    }

    /// A failed system call or tool (code 38), keeping the cause: "cannot open '/x': No such file or directory".
    pub fn system(domain: Domain, what: impl fmt::Display, cause: std::io::Error) -> Self {
        let text = os_text(&cause);
        let errno = cause.raw_os_error().unwrap_or(-1);
        Self::new(Code::SystemError, domain, format!("{what}: {text}")).with_source(cause).with_errno(errno)
    }

    /// Adds a named fact (path, domain name, command) for logs and gRPC details; legacy clients do not see it.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// The system's errno (`int1` on the wire; -1 when there is none).
    #[must_use]
    pub fn with_errno(mut self, errno: i32) -> Self {
        self.0.errno = errno;
        self
    }

    /// Replaces the whole message that clients see; code and info stay.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<String>) -> Self {
        self.0.text = Some(text.into());
        self
    }

    /// Keeps the underlying cause for the log.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The libvirt error number.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The part of the system the error comes from.
    pub fn domain(&self) -> Domain {
        self.0.domain
    }

    /// The specific text (`str2` on the wire), if any.
    pub fn info(&self) -> Option<&str> {
        self.0.info.as_deref()
    }

    /// The message that replaces libvirt's text for the code, if any.
    pub fn text(&self) -> Option<&str> {
        self.0.text.as_deref()
    }

    /// The system's errno, or -1.
    pub fn errno(&self) -> i32 {
        self.0.errno
    }

    /// Whether a person must act: a rule of our own was broken, or the host is out of something. Any other error is
    /// an answer to somebody who asked for what cannot be.
    pub fn is_fault(&self) -> bool {
        let trouble = self.0.code == Code::SystemError && TROUBLE.contains(&self.0.errno);
        self.0.fault || trouble || self.0.code == Code::NoMemory
    }

    /// Named facts in the order they were added.
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.0.context
    }

    /// The fact with this name.
    pub fn fact(&self, key: &str) -> Option<&str> {
        self.0.context.iter().find(|(k, _)| *k == key).map(|(_, v)| v.as_str())
    }

    /// Takes a fact away.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.0.context.retain(|(k, _)| *k != key);
        self
    }

    /// The unfilled text (`str1` on the wire): "operation failed: %1$s".
    pub fn template(&self) -> &'static str {
        let (_, _, plain, with_info) = row(self.0.code);
        if self.0.info.is_some() { with_info } else { plain }
    }

    /// The whole message as legacy clients print it.
    pub fn message(&self) -> String {
        if let Some(text) = &self.0.text {
            return text.clone();
        }
        match &self.0.info {
            Some(info) if self.template() == "%s" => info.clone(),
            Some(info) => self.template().replace("%1$s", info),
            None => self.template().to_string(),
        }
    }

    /// Rebuilds an error that crossed a process boundary.
    pub fn from_parts(code: i32, domain: i32, info: Option<String>) -> Self {
        let code = Code::from_number(code).unwrap_or(Code::InternalError);
        Self::build(code, Domain::from_number(domain).unwrap_or(Domain::None), info)
    }
}

impl Code {
    /// The code with this number, if libvirt 11.3 has one.
    pub fn from_number(number: i32) -> Option<Self> {
        tables::CODES.iter().map(|r| r.0).find(|c| *c as i32 == number)
    }

    /// libvirt's name: `VIR_ERR_NO_DOMAIN`.
    pub fn name(self) -> &'static str {
        row(self).1
    }
}

impl Domain {
    /// The error domain with this number, if libvirt 11.3 has one.
    pub fn from_number(number: i32) -> Option<Self> {
        tables::DOMAINS.iter().map(|r| r.0).find(|d| *d as i32 == number)
    }

    /// libvirt's name: `VIR_FROM_QEMU`.
    pub fn name(self) -> &'static str {
        tables::DOMAINS.iter().find(|r| r.0 == self).map_or("VIR_FROM_NONE", |r| r.1)
    }
}

fn row(code: Code) -> (Code, &'static str, &'static str, &'static str) {
    tables::CODES.iter().copied().find(|r| r.0 == code).unwrap_or(tables::CODES[1])
}

/// strerror's text without Rust's " (os error N)" tail, as libvirt prints it.
pub fn os_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(at) => text[..at].to_string(),
        None => text,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.message(), self.0.code.name(), self.0.domain.name())?;
        for (k, v) in &self.0.context {
            write!(f, " {k}={v:?}")?;
        }
        let mut cause = std::error::Error::source(self);
        while let Some(c) = cause {
            write!(f, ": {c}")?;
            cause = c.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|s| s as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_libvirts() {
        let e = Error::new(Code::NoDomain, Domain::Qemu, "no domain with matching name 'nosuch'");
        assert_eq!(e.message(), "Domain not found: no domain with matching name 'nosuch'");
        assert_eq!(e.template(), "Domain not found: %1$s");
        assert_eq!((e.code() as i32, e.domain() as i32), (42, 10));
    }

    #[test]
    fn bad_arguments_have_their_own_text() {
        let e = Error::unsupported_flags(Domain::Qemu, "qemuConnectGetSysinfo", 1);
        assert_eq!(e.message(), "unsupported flags (0x1) in function qemuConnectGetSysinfo");
        assert_eq!((e.code() as i32, e.info(), e.errno()), (8, Some("flags"), 0));
    }

    #[test]
    fn parts_survive_a_boundary() {
        let e = Error::from_parts(3, 10, Some("virDomainSave".into()));
        assert_eq!(e.message(), "this function is not supported by the connection driver: virDomainSave");
        assert_eq!(Error::from_parts(-5, 9999, None).code(), Code::InternalError);
    }

    #[test]
    fn mistakes_of_clients_are_no_faults() {
        let system = |errno| Error::system(Domain::None, "x", std::io::Error::from_raw_os_error(errno));
        assert!(!Error::internal(Domain::Qemu, "no such file").is_fault());
        assert!(!system(2).is_fault() && !system(13).is_fault());
        assert!(system(28).is_fault() && Error::fault(Domain::Qemu, "no way").is_fault());
        assert_eq!(Error::fault(Domain::Qemu, "x").message(), "internal error: x");
    }

    #[test]
    fn system_errors_read_as_libvirts() {
        let e = Error::system(Domain::None, "cannot open '/x'", std::io::Error::from_raw_os_error(2));
        assert_eq!(e.message(), "cannot open '/x': No such file or directory");
    }
}
