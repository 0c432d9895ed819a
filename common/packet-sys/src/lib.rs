//! Packet sockets: the frames of one interface, with the way they go. The kernel throws away what nobody wants to see
//! before it costs anything.
//!
//! Numbers are those of the kernel's public headers `linux/if_packet.h` and `linux/filter.h`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

const ETH_P_ALL: u16 = 3;
const PACKET_OUTGOING: u8 = 4;

/// One step of a packet filter: code, jump if true, jump if false, number.
pub type Step = (u16, u8, u8, u32);

/// A socket that sees the frames of one interface.
#[derive(Debug)]
pub struct Packets(OwnedFd);

/// The begin of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// How many of its bytes were read.
    pub length: usize,
    /// Whether the host sends it: into the cable of a guest's card it goes to the guest.
    pub outgoing: bool,
}

impl Packets {
    /// Frames of the interface with this number that pass `filter`, in classic BPF.
    ///
    /// # Errors
    /// The kernel's: no right to see frames, no such interface.
    pub fn open(index: u32, filter: &[Step]) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // Protocol 0: no frame arrives before the filter stands.
        // SAFETY: socket takes three numbers and touches no memory.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor, nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut steps: Vec<libc::sock_filter> =
            filter.iter().map(|s| libc::sock_filter { code: s.0, jt: s.1, jf: s.2, k: s.3 }).collect();
        let length = u16::try_from(steps.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let program = libc::sock_fprog { len: length, filter: steps.as_mut_ptr() };
        set(&fd, libc::SO_ATTACH_FILTER, &program)?;
        // SAFETY: all fields of this struct are numbers, for which zero is a value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).map_err(|_| io::ErrorKind::InvalidInput)?;
        address.sll_protocol = ETH_P_ALL.to_be();
        address.sll_ifindex = i32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
        let size = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or(0);
        // SAFETY: the address lives for the call and `size` is its size.
        let done = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(fd)) }
    }

    /// Sends a whole frame.
    ///
    /// # Errors
    /// ENETDOWN when the interface is down, EMSGSIZE for a frame it cannot carry.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the frame lives for the call, the length is its own.
        let n = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if n < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits at most `wait` for a frame; `None` when none came.
    ///
    /// # Errors
    /// ENETDOWN when the interface went down or away.
    pub fn next(&self, frame: &mut [u8], wait: Duration) -> io::Result<Option<Seen>> {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let wait = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, wait) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(e) => return Err(e.into()),
        }
        // SAFETY: all fields of this struct are numbers, for which zero is a value.
        let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut size = libc::socklen_t::try_from(size_of_val(&from)).unwrap_or(0);
        let (buffer, room) = (frame.as_mut_ptr().cast(), frame.len());
        // SAFETY: `buffer` has `room` bytes, `from` has `size` bytes, both live for the call.
        let n = unsafe {
            libc::recvfrom(self.0.as_raw_fd(), buffer, room, 0, (&raw mut from).cast(), &raw mut size)
        };
        match usize::try_from(n) {
            Ok(length) => Ok(Some(Seen { length, outgoing: from.sll_pkttype == PACKET_OUTGOING })),
            Err(_) => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
                e => Err(e),
            },
        }
    }
}

fn set<T>(fd: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: `value` lives for the call and has `size` bytes.
    let done = unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, std::ptr::from_ref(value).cast(), size)
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_frames_of_the_loopback_interface() {
        // Everything, whole.
        let all = [(0x06, 0, 0, 0xffff)];
        let Ok(packets) = Packets::open(1, &all) else {
            println!("skipped: needs the right to see frames");
            return;
        };
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut frame = [0; 2048];
        for _ in 0..100 {
            socket.send_to(b"virt-packet-sys", socket.local_addr().unwrap()).unwrap();
            let seen = packets.next(&mut frame, Duration::from_secs(1)).unwrap();
            let Some(seen) = seen else { continue };
            if frame[..seen.length].ends_with(b"virt-packet-sys") {
                return;
            }
        }
        panic!("the packet was not seen");
    }
}
