//! Which of a domain's two configurations a call reads or changes (`virDomainModificationImpact`).

use virt_consts::{VIR_DOMAIN_AFFECT_CONFIG, VIR_DOMAIN_AFFECT_LIVE};
use virt_error::{Code, Domain, Error, Result};

/// What a change touches; at least one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Affect {
    /// The running guest.
    pub live: bool,
    /// The persistent configuration.
    pub config: bool,
}

/// Resolves flags for a domain; bits other than LIVE and CONFIG are not looked at.
///
/// # Errors
/// Code 55 when the domain lacks what was asked for.
pub fn resolve(flags: u32, active: bool, persistent: bool) -> Result<Affect> {
    let asked = |bit| flags & bit != 0;
    let (live, config) = (asked(VIR_DOMAIN_AFFECT_LIVE), asked(VIR_DOMAIN_AFFECT_CONFIG));
    let affect =
        if live || config { Affect { live, config } } else { Affect { live: active, config: !active } };
    if affect.live && !active {
        return Err(not_running());
    }
    if affect.config && !persistent {
        let text = "transient domains do not have any persistent config";
        return Err(Error::new(Code::OperationInvalid, Domain::Domain, text));
    }
    Ok(affect)
}

/// Whether a getter reads the running guest's configuration (else the persistent one).
///
/// # Errors
/// Code 8 when both are asked for, otherwise as [`resolve`].
pub fn reads_live(flags: u32, active: bool, persistent: bool, function: &'static str) -> Result<bool> {
    exclusive(flags, function)?;
    Ok(resolve(flags, active, persistent)?.live)
}

/// Refuses LIVE and CONFIG together.
///
/// # Errors
/// Code 8.
pub fn exclusive(flags: u32, function: &'static str) -> Result<()> {
    let both = VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG;
    if flags & both == both {
        let text = "Flags 'VIR_DOMAIN_AFFECT_LIVE' and 'VIR_DOMAIN_AFFECT_CONFIG' are mutually exclusive";
        return Err(Error::invalid_arg(Domain::Domain, function, "ctl", text));
    }
    Ok(())
}

/// "domain is not running".
pub fn not_running() -> Error {
    Error::new(Code::OperationInvalid, Domain::Domain, "domain is not running")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn current_follows_the_state() {
        assert_eq!(resolve(0, true, true).unwrap(), Affect { live: true, config: false });
        assert_eq!(resolve(0, false, true).unwrap(), Affect { live: false, config: true });
        assert_eq!(resolve(3, true, true).unwrap(), Affect { live: true, config: true });
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let text = |flags, active, persistent| resolve(flags, active, persistent).unwrap_err().message();
        assert_eq!(text(1, false, true), "Requested operation is not valid: domain is not running");
        assert_eq!(text(3, false, true), "Requested operation is not valid: domain is not running");
        assert!(text(2, true, false).ends_with("transient domains do not have any persistent config"));
        assert!(reads_live(3, true, true, "virDomainGetVcpusFlags").is_err());
    }
}
