//! Which host CPUs vCPUs, I/O threads and the emulator may run on.

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::Bitmap;
use virt_model::domain::Domain;
use virt_model::domain::vcpu::{IothreadPin, VcpuPin};

/// The CPUs something without a pin of its own runs on: the domain's set, or all of the host's.
fn unpinned(domain: &Domain, host: &Bitmap) -> Bitmap {
    let set = domain.vcpu.as_ref().and_then(|v| v.cpuset.clone());
    set.unwrap_or_else(|| host.clone())
}

/// The CPUs of every vCPU, in their order, also of those that are not plugged in now.
pub fn vcpus(domain: &Domain, host: &Bitmap) -> Vec<Bitmap> {
    let of = |id: u32| domain.cputune.vcpupins.iter().find(|p| p.vcpu == id).map(|p| p.cpuset.clone());
    (0..super::vcpus::maximum(domain)).map(|id| of(id).unwrap_or_else(|| unpinned(domain, host))).collect()
}

/// The CPUs of the emulator.
pub fn emulator(domain: &Domain, host: &Bitmap) -> Bitmap {
    domain.cputune.emulatorpin.clone().unwrap_or_else(|| unpinned(domain, host))
}

/// The CPUs of an I/O thread.
pub fn iothread(domain: &Domain, id: u32, host: &Bitmap) -> Bitmap {
    let own = domain.cputune.iothreadpins.iter().find(|p| p.iothread == id).map(|p| p.cpuset.clone());
    own.unwrap_or_else(|| unpinned(domain, host))
}

/// Pins a vCPU.
///
/// # Errors
/// Code 8 for an empty set or a vCPU that is not there.
pub fn pin_vcpu(domain: &mut Domain, vcpu: u32, cpus: Bitmap) -> Result<()> {
    not_empty(&cpus)?;
    if vcpu >= super::vcpus::maximum(domain) {
        let count = super::vcpus::current(domain);
        let text = format!("vcpu {vcpu} is out of range of persistent cpu count {count}");
        return Err(Error::new(Code::InvalidArg, From::Qemu, text));
    }
    let pins = &mut domain.cputune.vcpupins;
    match pins.iter_mut().find(|p| p.vcpu == vcpu) {
        Some(pin) => pin.cpuset = cpus,
        None => {
            let at = pins.partition_point(|p| p.vcpu < vcpu);
            pins.insert(at, VcpuPin { vcpu, cpuset: cpus });
        }
    }
    Ok(())
}

/// Pins the emulator.
///
/// # Errors
/// Code 8 for an empty set.
pub fn pin_emulator(domain: &mut Domain, cpus: Bitmap) -> Result<()> {
    not_empty(&cpus)?;
    domain.cputune.emulatorpin = Some(cpus);
    Ok(())
}

/// Pins an I/O thread.
///
/// # Errors
/// Code 8 for an empty set or a thread that is not there.
pub fn pin_iothread(domain: &mut Domain, id: u32, cpus: Bitmap) -> Result<()> {
    not_empty(&cpus)?;
    if !super::iothreads::ids(domain).contains(&id) {
        return Err(Error::new(Code::InvalidArg, From::Qemu, format!("iothreadid {id} not found")));
    }
    let pins = &mut domain.cputune.iothreadpins;
    match pins.iter_mut().find(|p| p.iothread == id) {
        Some(pin) => pin.cpuset = cpus,
        None => pins.push(IothreadPin { iothread: id, cpuset: cpus }),
    }
    Ok(())
}

fn not_empty(cpus: &Bitmap) -> Result<()> {
    if cpus.is_empty() {
        return Err(Error::new(Code::InvalidArg, From::Qemu, "Empty cpu list for pinning"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_replace_the_default() {
        let mut d = Domain::default();
        d.vcpu.get_or_insert_default().max = Some(2);
        let host: Bitmap = (0..4).collect();
        pin_vcpu(&mut d, 1, [2].into_iter().collect()).unwrap();
        assert_eq!(vcpus(&d, &host), [host.clone(), [2].into_iter().collect()]);
        assert_eq!(emulator(&d, &host), host);
        let text = pin_vcpu(&mut d, 9, host.clone()).unwrap_err().message();
        assert_eq!(text, "invalid argument: vcpu 9 is out of range of persistent cpu count 2");
        assert!(pin_emulator(&mut d, Bitmap::default()).is_err());
    }
}
