//! Key numbers: from the sets that clients use to QEMU's own.

use virt_consts::*;
use virt_error::{Domain, Error, Result};

/// A set of key numbers that we can translate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Set {
    /// linux/input.h.
    Linux,
    /// Scan codes of the first AT keyboard set; 0xe0-prefixed ones have bit 7 set.
    Xt,
    /// QEMU's own.
    Qnum,
    /// A set whose table we lack.
    Other(&'static str),
}

impl Set {
    /// From virKeycodeSet.
    ///
    /// Errors: code 8 for a number that is no set.
    pub fn from_number(number: u32) -> Result<Self> {
        const LINUX: u32 = VIR_KEYCODE_SET_LINUX as u32;
        const XT: u32 = VIR_KEYCODE_SET_XT as u32;
        const QNUM: u32 = VIR_KEYCODE_SET_QNUM as u32;
        let others = ["atset1", "atset2", "atset3", "os_x", "xt_kbd", "usb", "win32"];
        match number {
            LINUX => Ok(Self::Linux),
            XT => Ok(Self::Xt),
            QNUM => Ok(Self::Qnum),
            n @ 2..=8 => Ok(Self::Other(others.get(n as usize - 2).copied().unwrap_or("unknown"))),
            n => {
                let text = format!("Unsupported codeset '{n}'");
                Err(Error::invalid_arg(Domain::Domain, "virDomainSendKey", "codeset", text))
            }
        }
    }

    /// QEMU's number of a key of this set.
    ///
    /// Errors: code 1 for a key without one.
    pub fn qnum(self, key: u32) -> Result<u32> {
        let (name, found) = match self {
            Self::Linux => ("linux", linux(key)),
            Self::Xt => ("xt", (1..=0xff).contains(&key).then_some(key)),
            Self::Qnum => ("qnum", (1..=0xff).contains(&key).then_some(key)),
            Self::Other(name) => (name, None),
        };
        found.ok_or_else(|| {
            let text = format!("cannot translate keycode {key} of {name} codeset to qnum keycode");
            Error::internal(Domain::Qemu, text)
        })
    }
}

/// Keys 1 to 83 and 86 to 88 of linux/input.h are numbered as the first AT set; the others lie apart.
fn linux(key: u32) -> Option<u32> {
    Some(match key {
        1..=83 | 86..=88 => key,
        85 => 0x76,
        89 => 0x73,
        90 => 0x78,
        91 => 0x77,
        92 => 0x79,
        93 => 0x70,
        94 => 0x7b,
        95 => 0x5c,
        96 => 0x9c,
        97 => 0x9d,
        98 => 0xb5,
        99 => 0x54,
        100 => 0xb8,
        102 => 0xc7,
        103 => 0xc8,
        104 => 0xc9,
        105 => 0xcb,
        106 => 0xcd,
        107 => 0xcf,
        108 => 0xd0,
        109 => 0xd1,
        110 => 0xd2,
        111 => 0xd3,
        113 => 0xa0,
        114 => 0xae,
        115 => 0xb0,
        116 => 0xde,
        117 => 0x59,
        119 => 0xc6,
        121 => 0x7e,
        124 => 0x7d,
        125 => 0xdb,
        126 => 0xdc,
        127 => 0xdd,
        142 => 0xdf,
        143 => 0xe3,
        183 => 0x5d,
        184 => 0x5e,
        185 => 0x5f,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_translate_or_are_refused() {
        let linux = Set::from_number(0).expect("linux");
        // Control, alt, F1: the keys that switch consoles.
        assert_eq!([29, 56, 59].map(|k| linux.qnum(k).expect("a key")), [29, 56, 59]);
        assert_eq!(linux.qnum(111).expect("delete"), 0xd3);
        assert_eq!(
            linux.qnum(99999).expect_err("none").message(),
            "internal error: cannot translate keycode 99999 of linux codeset to qnum keycode"
        );
        assert_eq!(Set::from_number(77).expect_err("none").message(), "Unsupported codeset '77'");
        assert!(Set::from_number(7).expect("usb").qnum(4).is_err());
    }
}
