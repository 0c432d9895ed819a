//! Parts of an interface's limit that are kept for single addresses.
//!
//! ```text
//!   host sends --> htb 1: --> 1:1 (all of it: rate, ceil, burst) --+--> 1:2 (what is not kept) --> sfq 2:
//!                   |                                              +--> 1:N (a share, may borrow) --> sfq N:
//!                   +-- u32 filter N: frames to the share's address go to 1:N, all others to 1:2
//! ```

use std::io;

use virt_error::{Domain, Error, Result};

use super::limits::{self, HTB, Limit, TCA_KIND, TCA_OPTIONS, TCA_U32_CLASSID, TCA_U32_SEL};
use super::netlink::{Message, Socket};
use super::{HardwareAddress, check_name, index};

/// A part of what an interface sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Its class, from 3 on.
    pub class: u16,
    /// Thousands of bytes a second that it gets in any case.
    pub floor: u64,
    /// Who gets it.
    pub mac: HardwareAddress,
}

/// The first class a share may have.
pub const FIRST_SHARE: u16 = 3;

fn failed(name: &str) -> impl FnOnce(io::Error) -> Error {
    let text = format!("Cannot share what interface {name} gets (traffic control of the kernel)");
    move |e| Error::system(Domain::None, text, e)
}

/// Filters are known by their priority: the class's number.
fn filter(class: u16) -> u32 {
    u32::from(class) << 16 | limits::ALL_PROTOCOLS
}

/// Keeps a share of `total`, or changes what it keeps; `rest` (thousands of bytes a second) is what is kept for nobody.
///
/// # Errors
/// Code 38 with the kernel's reason. The share is not there then.
pub fn set_share(name: &str, total: Limit, rest: u64, share: &Share) -> Result<()> {
    check_name(name)?;
    let set = || -> io::Result<()> {
        let own = index(name)?;
        let mut socket = Socket::open()?;
        let id = HTB | u32::from(share.class);
        // First what the others lose, then what this one gets.
        limits::class(&mut socket, own, limits::CLASS, limits::REST, rest, total)?;
        let done = give(&mut socket, own, id, total, share);
        if done.is_err() {
            let _ = take(&mut socket, own, share.class);
        }
        done
    };
    set().map_err(failed(name))
}

fn give(socket: &mut Socket, own: u32, id: u32, total: Limit, share: &Share) -> io::Result<()> {
    limits::class(socket, own, limits::CLASS, id, share.floor, total)?;
    limits::fair(socket, own, id, u32::from(share.class) << 16);
    let _ = socket.ask(Message::del_filter(own, HTB, filter(share.class)));
    let mut m = Message::new_filter(own, HTB, filter(share.class));
    m.text(TCA_KIND, "u32");
    m.nest(TCA_OPTIONS, |m| {
        m.u32(TCA_U32_CLASSID, id);
        m.bytes(TCA_U32_SEL, &selector(share.mac));
    });
    socket.ask(m)
}

/// The frame's destination lies 14 bytes before its content, and keys are words.
fn selector(mac: HardwareAddress) -> Vec<u8> {
    let mut selector = vec![1, 0, 2, 0];
    selector.extend([0; 12]);
    let keys: [([u8; 4], [u8; 4], i32); 2] = [
        ([0, 0, 0xff, 0xff], [0, 0, mac[0], mac[1]], -16),
        ([0xff; 4], [mac[2], mac[3], mac[4], mac[5]], -12),
    ];
    for (mask, value, at) in keys {
        selector.extend(mask);
        selector.extend(value);
        selector.extend(at.to_ne_bytes());
        selector.extend([0; 4]);
    }
    selector
}

fn take(socket: &mut Socket, own: u32, class: u16) -> io::Result<()> {
    // Whatever part of it there is.
    let filter = socket.ask(Message::del_filter(own, HTB, filter(class)));
    socket.ask(Message::del_class(own, HTB, HTB | u32::from(class))).and(filter)
}

/// Gives a share back to all.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn remove_share(name: &str, total: Limit, rest: u64, class: u16) -> Result<()> {
    check_name(name)?;
    let remove = || -> io::Result<()> {
        let own = index(name)?;
        let mut socket = Socket::open()?;
        take(&mut socket, own, class)?;
        limits::class(&mut socket, own, limits::CLASS, limits::REST, rest, total)
    };
    remove().map_err(failed(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_found_by_its_address() {
        let selector = selector([0x52, 0x54, 0, 1, 2, 3]);
        assert_eq!(selector.len(), 16 + 2 * 16);
        assert_eq!(selector[2], 2, "two keys");
        assert_eq!(selector[16..24], [0, 0, 0xff, 0xff, 0, 0, 0x52, 0x54]);
        assert_eq!(selector[36..40], [0, 1, 2, 3]);
        assert_eq!(filter(3), 0x3_0300);
    }
}
