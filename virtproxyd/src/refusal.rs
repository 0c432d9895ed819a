//! Errors that the proxy itself answers, in the reference's words.

use virt_error::{Code, Domain, Error, Result};
use virt_wire::program::{ProcInfo, Program};

/// Errors of the protocol itself: code 39 of the RPC layer.
pub fn rpc(text: impl Into<String>) -> Error {
    Error::new(Code::Rpc, Domain::Rpc, text)
}

/// Errors of the RPC layer about a call's sizes: code 1.
pub fn internal(text: impl Into<String>) -> Error {
    Error::internal(Domain::Rpc, text)
}

/// A size that a client names, checked against the wire's limit; `error` words the refusal.
pub fn size(name: &str, value: i32, max: u32, limit: &str, error: fn(String) -> Error) -> Result<u32> {
    let value = u32::try_from(value).map_err(|_| error(format!("{name} must be non-negative")))?;
    if value <= max { Ok(value) } else { Err(error(format!("{name} > {limit}"))) }
}

/// No such program or version.
pub fn unknown_program(number: u32, version: u32) -> Error {
    rpc(format!("Cannot find program {number} version {version}"))
}

/// No such call in the program.
pub fn unknown_procedure(number: i32) -> Error {
    rpc(format!("unknown procedure: {number}"))
}

/// Calls before authentication.
pub fn not_authenticated() -> Error {
    rpc("authentication required")
}

/// The payload is not what the table says.
pub fn undecodable() -> Error {
    rpc("Unable to decode message payload")
}

/// Calls before CONNECT_OPEN or after it failed.
pub fn not_open() -> Error {
    Error::internal(Domain::Rpc, "hypervisor connection not open")
}

/// A call that a read-only connection may not make.
pub fn read_only(info: &ProcInfo) -> Error {
    let api = info.api.unwrap_or(info.name);
    Error::new(Code::OperationDenied, api_domain(info), format!("read only access prevents {api}"))
}

/// A call whose arguments a read-only connection may not use.
pub fn read_only_args(info: &ProcInfo) -> Error {
    match info.api {
        Some(api) if api.ends_with("XMLDesc") => {
            Error::new(Code::OperationDenied, api_domain(info), format!("{api} with secure flag"))
        }
        _ => read_only(info),
    }
}

/// Flags of a call whose gRPC method has none.
pub fn no_flags(flags: u32, function: &'static str) -> Result<()> {
    if flags == 0 { Ok(()) } else { Err(Error::unsupported_flags(Domain::Qemu, function, flags)) }
}

/// A call that no driver of this connection serves.
pub fn no_support(info: &ProcInfo) -> Error {
    Error::no_support(api_domain(info), info.api.unwrap_or(info.name))
}

/// The error domain of the public function behind a call, as the reference files its functions.
pub fn api_domain(info: &ProcInfo) -> Domain {
    let api = info.api.unwrap_or_default();
    if api.contains("Qemu") || api.contains("Lxc") {
        return Domain::None;
    }
    const BY_PART: [(&str, Domain); 9] = [
        ("Checkpoint", Domain::DomainCheckpoint),
        ("Snapshot", Domain::DomainSnapshot),
        ("NWFilter", Domain::Nwfilter),
        ("NodeDevice", Domain::Nodedev),
        ("Network", Domain::Network),
        ("Storage", Domain::Storage),
        ("Secret", Domain::Secret),
        ("Interfaces", Domain::Interface),
        ("virInterface", Domain::Interface),
    ];
    match api {
        "virNodeNumOfDevices" | "virNodeListDevices" => Domain::Nodedev,
        _ => BY_PART.iter().find(|(part, _)| api.contains(part)).map_or(Domain::Domain, |(_, d)| *d),
    }
}

/// What a table must know to answer "not supported" or "unknown" for a number.
pub fn proc_of(program: &'static Program, number: i32) -> Option<&'static ProcInfo> {
    program.proc(number).filter(|p| p.kind == virt_wire::program::Kind::Call)
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt_wire::remote;

    fn domain_of(number: i32) -> Domain {
        api_domain(remote::PROGRAM.proc(number).unwrap())
    }

    #[test]
    fn functions_belong_to_the_references_domains() {
        for (number, domain) in [
            (11, Domain::Domain),
            (6, Domain::Domain),
            (283, Domain::Network),
            (281, Domain::Storage),
            (287, Domain::Secret),
            (285, Domain::Nodedev),
            (111, Domain::Nodedev),
            (284, Domain::Interface),
            (257, Domain::Domain),
            (353, Domain::Domain),
            (286, Domain::Nwfilter),
            (192, Domain::DomainSnapshot),
            (413, Domain::DomainCheckpoint),
        ] {
            assert_eq!(domain_of(number), domain, "{number}");
        }
    }
}
