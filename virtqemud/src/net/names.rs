//! Names of taps: numbers only grow while the daemon lives, so that a name means one card in logs.

use std::sync::atomic::{AtomicU32, Ordering};

use virt_error::{Domain as From, Error, Result};
use virt_host::link;

/// What the host's end of a card is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `vnetN`.
    Tap,
    /// `macvtapN`.
    Macvtap,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Tap => "vnet",
            Self::Macvtap => "macvtap",
        }
    }
}

/// The numbers that were given out.
#[derive(Debug, Default)]
pub struct Names {
    taps: AtomicU32,
    macvtaps: AtomicU32,
}

/// How many names are tried: others may make interfaces of such names too.
const TRIES: u32 = 1000;

impl Names {
    fn counter(&self, kind: Kind) -> &AtomicU32 {
        match kind {
            Kind::Tap => &self.taps,
            Kind::Macvtap => &self.macvtaps,
        }
    }

    /// A name that no interface has; a pattern of the document's own has its `%d` filled.
    ///
    /// # Errors
    /// Code 27 for a pattern that makes no name, code 1 when all tried names are taken.
    pub fn next(&self, kind: Kind, pattern: Option<&str>) -> Result<String> {
        for _ in 0..TRIES {
            let number = self.counter(kind).fetch_add(1, Ordering::Relaxed).to_string();
            let name = match pattern {
                Some(pattern) => pattern.replacen("%d", &number, 1),
                None => format!("{}{number}", kind.prefix()),
            };
            link::check_name(&name)?;
            if !link::exists(&name) {
                return Ok(name);
            }
        }
        Err(Error::internal(From::Qemu, "no unused name for a network interface was found"))
    }

    /// A name is in use: later ones have higher numbers.
    pub fn note(&self, name: &str) {
        for kind in [Kind::Tap, Kind::Macvtap] {
            if let Some(number) = name.strip_prefix(kind.prefix()).and_then(|n| n.parse::<u32>().ok()) {
                self.counter(kind).fetch_max(number.saturating_add(1), Ordering::Relaxed);
            }
        }
    }

    /// Whether a document's name is one that a daemon made up: it means nothing at the next start.
    pub fn is_made(name: &str) -> bool {
        let number =
            |prefix| name.strip_prefix(prefix).is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
        number("vnet") || number("macvtap") || number("macvlan")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow() {
        let names = Names::default();
        names.note("vnet900000");
        names.note("eth7");
        assert_eq!(names.next(Kind::Tap, None).unwrap(), "vnet900001");
        assert_eq!(names.next(Kind::Tap, Some("lan%d")).unwrap(), "lan900002");
        assert!(names.next(Kind::Tap, Some("bad name%d")).is_err());
        assert!(Names::is_made("vnet3") && !Names::is_made("vnetwork") && !Names::is_made("lan0"));
    }
}
