//! Frames made from real ones and then spoilt.

use virt_wire::frame::{BODY_MAX, FRAME_MAX, FRAME_MIN, Header, MessageType, OutFrame, Status, frame_length};
use virt_wire::xdr::sample::{Sampler, TypeOps};
use virt_wire::{keepalive, lxc, qemu, remote};

/// What was done to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Trick {
    /// Nothing: a call with senseless but well-formed arguments.
    Sound,
    /// The payload was cut and the length put right.
    CutPayload,
    /// Fewer bytes than the length says, then the end.
    CutOnTheWire,
    /// A length word that no frame may have.
    BadLength,
    /// A length word up to the limit, with little behind it.
    Claim,
    /// Bits of the payload were flipped.
    FlipPayload,
    /// Bits of the header were flipped.
    FlipHeader,
    /// A word of the payload claims a huge size.
    Oversize,
    /// Bytes were added and the length put right.
    Leftover,
    /// Type, status, program or version that a client does not send.
    BadHeader,
    /// Stream data, holes and ends for streams that are not open.
    Stream,
    /// A descriptor count, with no descriptors.
    Descriptors,
    /// A proper length before random bytes.
    Noise,
    /// Random bytes from the first on.
    Garbage,
}

const TRICKS: &[Trick] = &[
    Trick::Sound,
    Trick::CutPayload,
    Trick::CutOnTheWire,
    Trick::BadLength,
    Trick::Claim,
    Trick::FlipPayload,
    Trick::FlipPayload,
    Trick::FlipHeader,
    Trick::Oversize,
    Trick::Oversize,
    Trick::Leftover,
    Trick::BadHeader,
    Trick::Stream,
    Trick::Descriptors,
    Trick::Noise,
    Trick::Garbage,
];

/// Calls that change the machine itself when a driver serves them; they are not made with invented arguments.
const HOST_CALLS: &[&str] = &[
    "NODE_SUSPEND",
    "NODE_SET_MEMORY",
    "NODE_ALLOC_PAGES",
    "NODE_DEVICE_",
    "INTERFACE_CHANGE",
    "INTERFACE_CREATE",
    "INTERFACE_DESTROY",
    "INTERFACE_DEFINE",
    "INTERFACE_UNDEFINE",
];

/// Bytes for the wire, and what to expect of them.
#[derive(Debug, Clone)]
pub struct HostileFrame {
    /// What was done.
    pub trick: Trick,
    /// What to send.
    pub bytes: Vec<u8>,
}

impl HostileFrame {
    /// The next frame of a seed's row.
    pub fn next(s: &mut Sampler) -> Self {
        loop {
            let trick = TRICKS[s.below(TRICKS.len() as u64) as usize];
            let bytes = spoil(trick, s);
            if !touches_host(&bytes) {
                return Self { trick, bytes };
            }
        }
    }

    /// Whether the bytes end inside a frame: a server waits for the rest, so a probe behind them would be swallowed.
    pub fn is_open_ended(&self) -> bool {
        let mut rest = &self.bytes[..];
        loop {
            let Some(word) = rest.first_chunk() else { return !rest.is_empty() };
            // A length that is refused ends the connection at once.
            let Ok(length) = frame_length(*word) else { return false };
            let Some(next) = rest.get(length..) else { return true };
            rest = next;
        }
    }
}

/// A call of the main socket's programs, well formed.
fn sound(s: &mut Sampler) -> Vec<u8> {
    let tables: [(&virt_wire::Program, &[(i32, TypeOps)]); 3] =
        [(&remote::PROGRAM, remote::CALLS), (&qemu::PROGRAM, qemu::CALLS), (&lxc::PROGRAM, lxc::CALLS)];
    let (program, calls) = tables[s.below(40).saturating_sub(37) as usize];
    let (proc, args) = &calls[s.below(calls.len() as u64) as usize];
    let header = Header {
        prog: program.number,
        vers: program.version,
        proc: *proc,
        kind: MessageType::CALL,
        serial: s.below(1000) as u32,
        status: Status::OK,
    };
    raw(header, (args.sample)(s))
}

fn raw(header: Header, payload: Vec<u8>) -> Vec<u8> {
    OutFrame::raw(header, payload.into()).map(OutFrame::into_bytes).unwrap_or_default()
}

fn spoil(trick: Trick, s: &mut Sampler) -> Vec<u8> {
    let mut bytes = sound(s);
    let len = bytes.len() as u64;
    match trick {
        Trick::Sound => {}
        Trick::CutPayload => {
            bytes.truncate(FRAME_MIN + s.below(len - FRAME_MIN as u64 + 1) as usize);
            set_length(&mut bytes);
        }
        Trick::CutOnTheWire => bytes.truncate(1 + s.below(len - 1) as usize),
        Trick::BadLength => {
            let word = if s.below(2) == 0 {
                s.below(FRAME_MIN as u64)
            } else {
                FRAME_MAX as u64 + 1 + s.below(u64::from(u32::MAX) - FRAME_MAX as u64)
            };
            bytes[..4].copy_from_slice(&(word as u32).to_be_bytes());
        }
        Trick::Claim => {
            let word = len + 1 + s.below(BODY_MAX as u64 - len);
            bytes[..4].copy_from_slice(&(word as u32).to_be_bytes());
        }
        Trick::FlipPayload => flip(&mut bytes, FRAME_MIN, s),
        Trick::FlipHeader => flip(&mut bytes[..FRAME_MIN], 4, s),
        Trick::Oversize => {
            if len > FRAME_MIN as u64 {
                let words = (len as usize - FRAME_MIN) / 4;
                let at = FRAME_MIN + 4 * s.below(words as u64) as usize;
                let claim =
                    [u32::MAX, 0x7fff_ffff, 0x0100_0000, 4_194_305, 65_537, 1025][s.below(6) as usize];
                bytes[at..at + 4].copy_from_slice(&claim.to_be_bytes());
            }
        }
        Trick::Leftover => {
            bytes.extend((0..=s.below(64)).map(|_| s.next_u64() as u8));
            set_length(&mut bytes);
        }
        Trick::BadHeader => {
            let word = s.below(6) as usize;
            let known = [
                remote::PROGRAM.number,
                keepalive::PROGRAM.number,
                0,
                1,
                2,
                3,
                4,
                5,
                6,
                0x7fff_ffff,
                u32::MAX,
            ];
            let value = known[s.below(known.len() as u64) as usize];
            bytes[4 + 4 * word..8 + 4 * word].copy_from_slice(&value.to_be_bytes());
        }
        Trick::Stream => {
            let kind = if s.below(4) == 0 { MessageType::STREAM_HOLE } else { MessageType::STREAM };
            let proc = [201, 208, 209, 211, 215, 296, 1, 0, -1][s.below(9) as usize];
            let status = Status(s.below(4) as u32);
            let (prog, vers) = (remote::PROGRAM.number, 1);
            let payload = (0..s.below(3000)).map(|_| s.next_u64() as u8).collect();
            bytes = raw(Header { prog, vers, proc, kind, serial: s.below(100) as u32, status }, payload);
        }
        Trick::Descriptors => {
            bytes[16..20].copy_from_slice(&MessageType::CALL_WITH_FDS.0.to_be_bytes());
            let count = [0, 1, 2, 32, 33, u32::MAX][s.below(6) as usize];
            bytes.splice(FRAME_MIN..FRAME_MIN, count.to_be_bytes());
            set_length(&mut bytes);
        }
        Trick::Noise => {
            bytes = vec![0; FRAME_MIN + s.below(2000) as usize];
            bytes[4..].fill_with(|| s.next_u64() as u8);
            set_length(&mut bytes);
        }
        Trick::Garbage => bytes.fill_with(|| s.next_u64() as u8),
    }
    bytes
}

fn set_length(bytes: &mut [u8]) {
    let length = bytes.len() as u32;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
}

/// One to eight bits from `from` on.
fn flip(bytes: &mut [u8], from: usize, s: &mut Sampler) {
    for _ in 0..=s.below(8) {
        let bits = (bytes.len() - from) as u64 * 8;
        if bits == 0 {
            return;
        }
        let bit = s.below(bits) as usize;
        bytes[from + bit / 8] ^= 1 << (bit % 8);
    }
}

fn touches_host(bytes: &[u8]) -> bool {
    let word =
        |at: usize| bytes.get(at..at + 4).and_then(|w| w.first_chunk().copied()).map(u32::from_be_bytes);
    let (Some(prog), Some(proc)) = (word(4), word(12)) else { return false };
    let row = virt_wire::program(prog).and_then(|p| p.proc(proc.cast_signed()));
    row.is_some_and(|row| HOST_CALLS.iter().any(|name| row.name.contains(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_same_seed_gives_the_same_frames() {
        let row = |seed| {
            let mut s = Sampler::new(seed);
            (0..200).map(move |_| HostileFrame::next(&mut s).bytes).collect::<Vec<_>>()
        };
        assert_eq!(row(7), row(7));
        assert_ne!(row(7), row(8));
    }

    #[test]
    fn every_trick_comes_and_the_machine_is_spared() {
        let mut s = Sampler::new(1);
        let frames: Vec<HostileFrame> = (0..5000).map(|_| HostileFrame::next(&mut s)).collect();
        let tricks: BTreeSet<Trick> = frames.iter().map(|f| f.trick).collect();
        assert_eq!(tricks, TRICKS.iter().copied().collect());
        assert!(frames.iter().all(|f| !touches_host(&f.bytes)));
        assert!(frames.iter().filter(|f| f.trick == Trick::Claim).all(HostileFrame::is_open_ended));
        assert!(!frames.iter().any(|f| f.trick == Trick::Sound && f.is_open_ended()));
    }
}
