//! Traffic limits of an interface: a token bucket for what the host sends, policing for what it receives.
//!
//! ```text
//!   host sends  --> htb 1: --> class 1:1 (rate, ceil, burst) --> sfq 2: where the kernel has it
//!   host sends, shared --> htb 1: --> 1:1 (all) --> 1:2 (rate, ceil) --> sfq 2:   and shares beside it (`shares.rs`)
//!   host receives --> ingress ffff: --> u32 filter for all --> police (rate, burst), the rest is dropped
//! ```

use std::io;

use virt_error::{Domain, Error, Result};

use super::netlink::{Message, Socket};
use super::{check_name, index};

/// A limit of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limit {
    /// Thousands of bytes a second.
    pub average: u64,
    /// Thousands of bytes a second for a while.
    pub peak: Option<u64>,
    /// KiB that may go at once.
    pub burst: Option<u64>,
}

pub(super) const TCA_KIND: u16 = 1;
pub(super) const TCA_OPTIONS: u16 = 2;
const TCA_HTB_PARMS: u16 = 1;
const TCA_HTB_INIT: u16 = 2;
pub(super) const TCA_U32_CLASSID: u16 = 1;
pub(super) const TCA_U32_SEL: u16 = 5;
const TCA_U32_POLICE: u16 = 6;
const TCA_POLICE_TBF: u16 = 1;
const TCA_POLICE_RATE: u16 = 2;
const ROOT: u32 = 0xFFFF_FFFF;
const INGRESS: u32 = 0xFFFF_FFF1;
const INGRESS_HANDLE: u32 = 0xFFFF_0000;
pub(super) const HTB: u32 = 0x1_0000;
/// All of a limit.
pub(super) const CLASS: u32 = 0x1_0001;
/// What is not kept for anyone of a shared limit.
pub(super) const REST: u32 = 0x1_0002;
const SFQ: u32 = 0x2_0000;
const ETHERNET: u8 = 1;
/// In network order.
pub(super) const ALL_PROTOCOLS: u32 = 0x0300;
const FIRST_ALL: u32 = 1 << 16 | ALL_PROTOCOLS;
const DROP: u32 = 2;
/// The largest packet that is policed.
const LARGEST: u32 = 65_535;
const CELL_LOG: u8 = 8;

fn rate(kilobytes: u64) -> u32 {
    u32::try_from(kilobytes.saturating_mul(1000)).unwrap_or(u32::MAX).max(1)
}

/// The kernel's measure of time: how long `bytes` take at `rate` bytes a second, in units of 64 ns.
fn ticks(bytes: u64, rate: u32) -> u32 {
    let ns = bytes.saturating_mul(1_000_000_000) / u64::from(rate);
    u32::try_from(ns >> 6).unwrap_or(u32::MAX)
}

fn rate_spec(rate: u32) -> Vec<u8> {
    let mut spec = vec![CELL_LOG, ETHERNET, 0, 0, 0xff, 0xff, 0, 0];
    spec.extend(rate.to_ne_bytes());
    spec
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_ne_bytes()).collect()
}

/// Sets the limits of an interface: `sends` of what the host sends into it, `receives` of what comes out. `None` takes
/// a limit away.
///
/// # Errors
/// Code 38 with the kernel's reason: it may lack a part of traffic control. No limit of that direction is left then.
pub fn set_limits(name: &str, sends: Option<Limit>, receives: Option<Limit>) -> Result<()> {
    set(name, sends, receives, CLASS)
}

/// Like [`set_limits`], for an interface of which parts may be kept for single addresses (`set_share`).
///
/// # Errors
/// As there.
pub fn set_shared_limits(name: &str, sends: Option<Limit>, receives: Option<Limit>) -> Result<()> {
    set(name, sends, receives, REST)
}

/// `leaf`: the class that everything goes to.
fn set(name: &str, sends: Option<Limit>, receives: Option<Limit>, leaf: u32) -> Result<()> {
    check_name(name)?;
    let failed = |what: &str| {
        let text = format!("Cannot limit what interface {name} {what} (traffic control of the kernel)");
        move |e: io::Error| Error::system(Domain::None, text, e)
    };
    let own = index(name).map_err(failed("carries"))?;
    let mut socket = Socket::open().map_err(failed("carries"))?;
    for parent in [(ROOT, HTB), (INGRESS, INGRESS_HANDLE)] {
        // There may be none, or one that is not ours: then there is nothing to take away.
        let _ = socket.ask(Message::del_qdisc(own, parent.0, parent.1));
    }
    if let Some(limit) = sends {
        let set = shape(&mut socket, own, limit, leaf);
        if set.is_err() {
            let _ = socket.ask(Message::del_qdisc(own, ROOT, HTB));
        }
        set.map_err(failed("gets"))?;
    }
    if let Some(limit) = receives {
        let set = police(&mut socket, own, limit);
        if set.is_err() {
            let _ = socket.ask(Message::del_qdisc(own, INGRESS, INGRESS_HANDLE));
        }
        set.map_err(failed("sends"))?;
    }
    Ok(())
}

fn shape(socket: &mut Socket, own: u32, limit: Limit, leaf: u32) -> io::Result<()> {
    let mut m = Message::new_qdisc(own, ROOT, HTB);
    m.text(TCA_KIND, "htb");
    // Version 3, and where everything goes that no filter sends elsewhere.
    m.nest(TCA_OPTIONS, |m| m.bytes(TCA_HTB_INIT, &words(&[3, 10, leaf & 0xffff, 0, 0])));
    socket.ask(m)?;
    class(socket, own, HTB, CLASS, limit.average, limit)?;
    if leaf != CLASS {
        class(socket, own, CLASS, leaf, limit.average, limit)?;
    }
    fair(socket, own, leaf, SFQ);
    Ok(())
}

/// Makes or changes a class: `kept` thousands of bytes a second, and what others leave up to the ceiling of `limit`.
pub(super) fn class(
    socket: &mut Socket,
    own: u32,
    parent: u32,
    id: u32,
    kept: u64,
    limit: Limit,
) -> io::Result<()> {
    let (average, ceil) = (rate(kept), rate(limit.peak.unwrap_or(limit.average)));
    // Without a burst of its own a class must at least send what one timer tick allows, and a large packet.
    let least = |rate: u32| u64::from(rate) / 100 + u64::from(LARGEST);
    let burst = limit.burst.map_or_else(|| least(average), |b| b.saturating_mul(1024));
    let mut options = rate_spec(average);
    options.extend(rate_spec(ceil));
    options.extend(words(&[ticks(burst, average), ticks(least(ceil), ceil), 0, 0, 0]));
    let mut m = Message::new_class(own, parent, id);
    m.text(TCA_KIND, "htb");
    m.nest(TCA_OPTIONS, |m| m.bytes(TCA_HTB_PARMS, &options));
    socket.ask(m)
}

/// Fairness between connections is welcome; the limit holds without it.
pub(super) fn fair(socket: &mut Socket, own: u32, parent: u32, handle: u32) {
    let mut m = Message::new_qdisc(own, parent, handle);
    m.text(TCA_KIND, "sfq");
    let _ = socket.ask(m);
}

fn police(socket: &mut Socket, own: u32, limit: Limit) -> io::Result<()> {
    let mut m = Message::new_qdisc(own, INGRESS, INGRESS_HANDLE);
    m.text(TCA_KIND, "ingress");
    socket.ask(m)?;
    let rate = rate(limit.average);
    let burst = limit.burst.unwrap_or(limit.average).max(1).saturating_mul(1024);
    let mut options = words(&[0, DROP, 0, ticks(burst, rate), LARGEST]);
    options.extend(rate_spec(rate));
    options.extend([0; 12]);
    options.extend(words(&[0, 0, 0]));
    let table: Vec<u8> = (1..=256_u64).flat_map(|cell| ticks(cell << CELL_LOG, rate).to_ne_bytes()).collect();
    // One key that fits everything.
    let mut selector = vec![1, 0, 1, 0];
    selector.extend([0; 12]);
    selector.extend([0; 16]);
    let mut m = Message::new_filter(own, INGRESS_HANDLE, FIRST_ALL);
    m.text(TCA_KIND, "u32");
    m.nest(TCA_OPTIONS, |m| {
        m.u32(TCA_U32_CLASSID, 1);
        m.bytes(TCA_U32_SEL, &selector);
        m.nest(TCA_U32_POLICE, |m| {
            m.bytes(TCA_POLICE_TBF, &options);
            m.bytes(TCA_POLICE_RATE, &table);
        });
    });
    socket.ask(m)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_in_units_of_64_ns() {
        assert_eq!(ticks(1000, 1000), 15_625_000);
        assert_eq!(ticks(u64::MAX, 1), u32::MAX);
        assert_eq!(rate(0), 1);
        assert_eq!(rate_spec(7).len(), 12);
    }
}
