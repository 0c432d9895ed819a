//! Questions to the kernel's packet filter that need no tool.

use std::io;

use crate::link::netlink::{Message, Socket};

/// An address family of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Frames through bridges.
    Bridge,
}

impl Family {
    fn number(self) -> u8 {
        match self {
            Self::Ip => 2,
            Self::Ip6 => 10,
            Self::Bridge => 7,
        }
    }
}

/// Whether there is a table of this name.
///
/// # Errors
/// What the kernel says instead.
pub fn has_table(family: Family, name: &str) -> io::Result<bool> {
    match Socket::open_netfilter()?.query(Message::get_table(family.number(), name)) {
        Ok(found) => Ok(!found.is_empty()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_nobody_made() {
        match has_table(Family::Ip, "virt_no_such_table") {
            Ok(found) => assert!(!found),
            Err(error) => eprintln!("skipped: {error}"),
        }
    }
}
