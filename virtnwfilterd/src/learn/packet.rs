//! Reading frames: who speaks, and what DHCP says. Pure; every byte is a stranger's.

use std::net::Ipv4Addr;

use virt_packet_sys::Step;

const LDH_ABS: u16 = 0x28;
const LDB_ABS: u16 = 0x30;
const LDX_IP_HEAD: u16 = 0xb1;
const LDH_IND: u16 = 0x48;
const JEQ: u16 = 0x15;
const JSET: u16 = 0x45;
const RET: u16 = 0x06;

/// ARP and IPv4.
pub const SPEAKERS: &[Step] =
    &[(LDH_ABS, 0, 0, 12), (JEQ, 1, 0, 0x806), (JEQ, 0, 1, 0x800), (RET, 0, 0, 0xffff), (RET, 0, 0, 0)];
/// UDP to the ports of DHCP, first fragments only.
pub const DHCP: &[Step] = &[
    (LDH_ABS, 0, 0, 12),
    (JEQ, 0, 9, 0x800),
    (LDB_ABS, 0, 0, 23),
    (JEQ, 0, 7, 17),
    (LDH_ABS, 0, 0, 20),
    (JSET, 5, 0, 0x1fff),
    (LDX_IP_HEAD, 0, 0, 14),
    (LDH_IND, 0, 0, 16),
    (JEQ, 1, 0, 67),
    (JEQ, 0, 1, 68),
    (RET, 0, 0, 0xffff),
    (RET, 0, 0, 0),
];

/// What a DHCP message means for the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// A server has leased an address.
    Granted {
        /// The address.
        address: Ipv4Addr,
        /// For how long; `None` for ever.
        seconds: Option<u32>,
        /// Who says so.
        server: Ipv4Addr,
    },
    /// The card no longer uses an address.
    GivenBack {
        /// The address.
        address: Ipv4Addr,
    },
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(four.into())
}

fn usable(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_broadcast() || address.is_multicast() || address.is_loopback())
}

/// The address that a frame of the card speaks from.
pub fn speaker(frame: &[u8], mac: [u8; 6]) -> Option<Ipv4Addr> {
    if frame.get(6..12)? != mac {
        return None;
    }
    let found = match half(frame, 12)? {
        // The sender in ARP must be the card as well.
        0x806 if frame.get(22..28)? == mac && half(frame, 16)? == 0x800 => address(frame, 28),
        0x800 => address(frame, 26),
        _ => None,
    };
    found.filter(|a| usable(*a))
}

/// What a frame's DHCP message means for the card.
pub fn dhcp(frame: &[u8], mac: [u8; 6]) -> Option<Message> {
    if half(frame, 12)? != 0x800 {
        return None;
    }
    let ip = frame.get(14..)?;
    let head = usize::from(ip.first()? & 0x0f) * 4;
    if *ip.get(9)? != 17 || head < 20 {
        return None;
    }
    let message = ip.get(head + 8..)?;
    if message.get(28..34)? != mac || message.get(236..240)? != [0x63, 0x82, 0x53, 0x63] {
        return None;
    }
    let (mut kind, mut seconds, mut asked) = (0, None, None);
    let mut options = message.get(240..)?;
    while let Some((&code, rest)) = options.split_first() {
        match code {
            0 => options = rest,
            255 => break,
            _ => {
                let (&length, rest) = rest.split_first()?;
                let value = rest.get(..usize::from(length))?;
                match (code, value) {
                    (53, [one]) => kind = *one,
                    (51, [a, b, c, d]) => seconds = Some(u32::from_be_bytes([*a, *b, *c, *d])),
                    (50, _) => asked = address(value, 0),
                    _ => {}
                }
                options = rest.get(usize::from(length)..)?;
            }
        }
    }
    match (message.first()?, kind) {
        (2, 5) => {
            let leased = address(message, 16).filter(|a| usable(*a))?;
            // All ones is for ever.
            let seconds = seconds.filter(|s| *s != u32::MAX);
            Some(Message::Granted { address: leased, seconds, server: address(ip, 12)? })
        }
        (1, 7) => Some(Message::GivenBack { address: address(message, 12)? }),
        (1, 4) => Some(Message::GivenBack { address: asked? }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];

    fn udp(op: u8, options: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 14 + 20 + 8 + 240];
        frame[6..12].copy_from_slice(&MAC);
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14] = 0x45;
        frame[23] = 17;
        frame[26..30].copy_from_slice(&[10, 0, 0, 1]);
        let at = 42;
        frame[at] = op;
        frame[at + 12..at + 16].copy_from_slice(&[10, 0, 0, 7]);
        frame[at + 16..at + 20].copy_from_slice(&[10, 0, 0, 9]);
        frame[at + 28..at + 34].copy_from_slice(&MAC);
        frame[at + 236..at + 240].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
        frame.extend(options);
        frame
    }

    #[test]
    fn a_lease_is_read() {
        let frame = udp(2, &[0, 53, 1, 5, 51, 4, 0, 0, 14, 16, 255]);
        let granted = Message::Granted {
            address: Ipv4Addr::new(10, 0, 0, 9),
            seconds: Some(3600),
            server: Ipv4Addr::new(10, 0, 0, 1),
        };
        assert_eq!(dhcp(&frame, MAC), Some(granted));
        assert_eq!(dhcp(&frame, [0; 6]), None, "another card's");
        let back = Message::GivenBack { address: Ipv4Addr::new(10, 0, 0, 7) };
        assert_eq!(dhcp(&udp(1, &[53, 1, 7, 255]), MAC), Some(back));
        assert_eq!(dhcp(&udp(1, &[53, 1, 5, 255]), MAC), None, "only a server grants");
    }

    #[test]
    fn a_speaker_is_found() {
        let mut ip = vec![0; 40];
        ip[6..12].copy_from_slice(&MAC);
        ip[12..14].copy_from_slice(&[8, 0]);
        assert_eq!(speaker(&ip, MAC), None, "no address yet");
        ip[26..30].copy_from_slice(&[10, 0, 0, 5]);
        assert_eq!(speaker(&ip, MAC), Some(Ipv4Addr::new(10, 0, 0, 5)));
        assert_eq!(speaker(&ip, [0; 6]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600), cut in 0_usize..300) {
            let _ = (speaker(&bytes, MAC), dhcp(&bytes, MAC));
            let mut frame = udp(2, &bytes);
            frame.truncate(cut);
            let _ = dhcp(&frame, MAC);
            let _ = dhcp(&udp(2, &bytes), MAC);
        }
    }
}
