//! Taps: network interfaces whose cable is a descriptor. A guest's card is the other end.
//!
//! Numbers are those of the kernel's public headers `linux/if.h`, `linux/if_tun.h` and `linux/vhost.h`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

const IFF_TAP: u16 = 0x0002;
const IFF_MULTI_QUEUE: u16 = 0x0100;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;
const IFF_TUN_EXCL: u16 = 0x8000;
/// Bytes of an interface's name with the closing zero.
const NAME_SIZE: usize = 16;

mod raw {
    //! JUSTIFICATION: the kernel makes taps by ioctl only.

    /// `struct ifreq` as far as taps use it.
    #[repr(C)]
    pub struct Request {
        pub name: [u8; super::NAME_SIZE],
        pub flags: u16,
        pub rest: [u8; 22],
    }

    const _: () = assert!(size_of::<Request>() == 40);

    nix::ioctl_write_ptr_bad!(set_interface, nix::request_code_write!(b'T', 202, size_of::<i32>()), Request);
    nix::ioctl_read_bad!(get_interface, nix::request_code_read!(b'T', 210, size_of::<u32>()), Request);
}

/// How a tap is opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Packets carry virtio's header.
    pub vnet_header: bool,
    /// How many descriptors; 0 and 1 are the same.
    pub queues: u32,
    /// The interface is there already and is taken over.
    pub existing: bool,
}

fn request(name: &str, flags: u16) -> io::Result<raw::Request> {
    let mut request = raw::Request { name: [0; NAME_SIZE], flags, rest: [0; 22] };
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() >= NAME_SIZE || bytes.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    request.name[..bytes.len()].copy_from_slice(bytes);
    Ok(request)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Makes tap `name` by the device file `path` (/dev/net/tun) and returns its queues. It lasts while one of them is open.
///
/// # Errors
/// Device busy (EBUSY) when the name is taken; what open and the ioctl say.
pub fn open_tap(path: &Path, name: &str, options: Options) -> io::Result<Vec<OwnedFd>> {
    let queues = options.queues.max(1);
    let mut flags = IFF_TAP | IFF_NO_PI;
    if queues > 1 {
        flags |= IFF_MULTI_QUEUE;
    }
    if options.vnet_header {
        flags |= IFF_VNET_HDR;
    }
    let mut all = Vec::new();
    for at in 0..queues {
        // Only the first queue makes the interface; the others join it.
        let first = if at == 0 && !options.existing { IFF_TUN_EXCL } else { 0 };
        let file = open(path)?;
        let request = request(name, flags | first)?;
        // SAFETY: the descriptor is open and `request` is a whole ifreq, alive for the call.
        unsafe { raw::set_interface(file.as_raw_fd(), &raw const request) }?;
        all.push(file.into());
    }
    Ok(all)
}

/// Opens the queues of a macvtap by its device file, `/dev/tapN`.
///
/// # Errors
/// What open and the ioctl say.
pub fn open_macvtap(path: &Path, options: Options) -> io::Result<Vec<OwnedFd>> {
    let queues = options.queues.max(1);
    let mut all = Vec::new();
    for _ in 0..queues {
        let file = open(path)?;
        let mut request = raw::Request { name: [0; NAME_SIZE], flags: 0, rest: [0; 22] };
        // SAFETY: the descriptor is open and `request` is a whole ifreq, alive and exclusive for the call.
        unsafe { raw::get_interface(file.as_raw_fd(), &raw mut request) }?;
        let mut flags = request.flags & !(IFF_VNET_HDR | IFF_MULTI_QUEUE);
        if options.vnet_header {
            flags |= IFF_VNET_HDR;
        }
        if queues > 1 {
            flags |= IFF_MULTI_QUEUE;
        }
        request.flags = flags;
        // SAFETY: as above.
        unsafe { raw::set_interface(file.as_raw_fd(), &raw const request) }?;
        all.push(file.into());
    }
    Ok(all)
}

/// Opens `count` descriptors of vhost-net, where the kernel moves packets itself.
///
/// # Errors
/// What open says: no such device, no permission.
pub fn open_vhost(path: &Path, count: u32) -> io::Result<Vec<OwnedFd>> {
    (0..count.max(1)).map(|_| open(path).map(OwnedFd::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_lasts_as_long_as_its_descriptor() {
        let tun = Path::new("/dev/net/tun");
        let name = format!("vtt{}", std::process::id() % 1_000_000);
        let first = match open_tap(tun, &name, Options { queues: 2, vnet_header: true, existing: false }) {
            Ok(first) => first,
            Err(e) => {
                eprintln!("skipped: no taps here: {e}");
                return;
            }
        };
        assert_eq!(first.len(), 2);
        let taken = open_tap(tun, &name, Options::default()).unwrap_err();
        assert_eq!(taken.raw_os_error(), Some(nix::libc::EBUSY));
        drop(first);
        assert_eq!(open_tap(tun, &name, Options::default()).map(|q| q.len()).unwrap_or(0), 1);
    }

    #[test]
    fn names_that_do_not_fit() {
        for bad in ["", "sixteen-letters-", "a\0b"] {
            let refused = open_tap(Path::new("/dev/net/tun"), bad, Options::default());
            assert!(refused.is_err(), "{bad:?}");
        }
    }
}
