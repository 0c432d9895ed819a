//! Maximum and current memory, and how often the guest reports its own.

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::Size;
use virt_model::domain::Domain;
use virt_model::domain::misc::BalloonModel;

/// All memory at boot, KiB.
pub fn maximum(domain: &Domain) -> u64 {
    domain.memory.as_ref().map_or(0, |m| m.size.kib)
}

/// What the guest is given now, KiB.
pub fn current(domain: &Domain) -> u64 {
    domain.current_memory.map_or_else(|| maximum(domain), |s| s.kib)
}

/// Sets the maximum; a higher current amount comes down with it.
///
/// # Errors
/// Code 55 for a guest whose memory is the sum of its NUMA cells.
pub fn set_maximum(domain: &mut Domain, kib: u64) -> Result<()> {
    if domain.cpu.as_ref().and_then(|c| c.numa.as_ref()).is_some_and(|n| !n.cells.is_empty()) {
        let text = "initial memory size of a domain with NUMA nodes cannot be modified with this API";
        return Err(Error::new(Code::OperationInvalid, From::Qemu, text));
    }
    if domain.max_memory.as_ref().is_some_and(|m| m.size.kib < kib) {
        let text = "cannot set initial memory size greater than the maximum memory size";
        return Err(Error::new(Code::OperationInvalid, From::Qemu, text));
    }
    let now = current(domain);
    domain.memory.get_or_insert_default().size = Size::from_kib(kib);
    domain.current_memory = Some(Size::from_kib(now.min(kib)));
    Ok(())
}

/// Sets the current amount.
///
/// # Errors
/// Code 8 above the maximum.
pub fn set_current(domain: &mut Domain, kib: u64) -> Result<()> {
    if kib > maximum(domain) {
        return Err(Error::new(Code::InvalidArg, From::Qemu, "cannot set memory higher than max memory"));
    }
    domain.current_memory = Some(Size::from_kib(kib));
    Ok(())
}

/// Sets the reporting period in seconds; 0 turns it off.
///
/// # Errors
/// Code 55 for a guest without a balloon.
pub fn set_stats_period(domain: &mut Domain, seconds: i32) -> Result<()> {
    match domain.devices.memballoon.as_mut().filter(|b| b.model != BalloonModel::None) {
        Some(balloon) => {
            balloon.stats_period = (seconds > 0).then_some(seconds);
            Ok(())
        }
        None => {
            let text = "Memory balloon model must be virtio to set the collection period";
            Err(Error::new(Code::OperationInvalid, From::Qemu, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn current_never_exceeds_the_maximum() {
        let mut domain = Domain::default();
        set_maximum(&mut domain, 1000).unwrap();
        assert_eq!((maximum(&domain), current(&domain)), (1000, 0));
        set_current(&mut domain, 900).unwrap();
        let text = set_current(&mut domain, 1001).unwrap_err().message();
        assert_eq!(text, "invalid argument: cannot set memory higher than max memory");
        set_maximum(&mut domain, 500).unwrap();
        assert_eq!((maximum(&domain), current(&domain)), (500, 500));
        set_maximum(&mut domain, 2000).unwrap();
        assert_eq!(current(&domain), 500);
    }
}
