//! Questions to `/dev/kvm` that need no virtual machine: limits and feature registers.
//!
//! Numbers are those of the kernel's public header `linux/kvm.h`.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `KVM_CAP_NR_VCPUS`, `KVM_CAP_MAX_VCPUS`.
const CAP_NR_VCPUS: i32 = 9;
const CAP_MAX_VCPUS: i32 = 66;

mod raw {
    //! JUSTIFICATION: the kernel offers these facts by ioctl only.

    /// `struct kvm_msrs` with room for one entry.
    #[repr(C)]
    pub struct OneMsr {
        pub count: u32,
        pub pad: u32,
        pub index: u32,
        pub reserved: u32,
        pub data: u64,
    }

    nix::ioctl_write_int_bad!(check_extension, nix::request_code_none!(0xAE, 0x03));
    // The size in the request is that of the header, the entries follow it.
    nix::ioctl_readwrite_bad!(get_msrs, nix::request_code_readwrite!(0xAE, 0x88, 8), OneMsr);
}

/// The opened device.
pub struct Kvm(File);

impl Kvm {
    /// Opens the device.
    ///
    /// # Errors
    /// What open says: no such device, no permission.
    pub fn open() -> io::Result<Self> {
        std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").map(Self)
    }

    /// The most vCPUs one guest may have; `None` when the kernel does not tell.
    pub fn max_vcpus(&self) -> Option<u32> {
        self.extension(CAP_MAX_VCPUS).or_else(|| self.extension(CAP_NR_VCPUS))
    }

    fn extension(&self, number: i32) -> Option<u32> {
        // SAFETY: the descriptor is open for the whole call and the request takes a plain number.
        let answer = unsafe { raw::check_extension(self.0.as_raw_fd(), number) }.ok()?;
        u32::try_from(answer).ok().filter(|n| *n > 0)
    }

    /// A feature register as the kernel would show it to guests; `None` when it has none.
    pub fn feature_msr(&self, index: u32) -> Option<u64> {
        let mut one = raw::OneMsr { count: 1, pad: 0, index, reserved: 0, data: 0 };
        // SAFETY: `one` is a valid kvm_msrs with exactly the one entry its count says, alive and exclusive for the call.
        let read = unsafe { raw::get_msrs(self.0.as_raw_fd(), &mut one) }.ok()?;
        (read == 1).then_some(one.data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_with_the_device_has_limits() {
        let Ok(kvm) = Kvm::open() else {
            eprintln!("skipped: no /dev/kvm");
            return;
        };
        assert!(kvm.max_vcpus().is_some_and(|n| n >= 1));
        // A register that cannot exist.
        assert_eq!(kvm.feature_msr(0xdead_beef), None);
    }
}
