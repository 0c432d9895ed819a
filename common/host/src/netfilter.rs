//! Questions to the kernel's packet filter that need no tool.

use std::collections::BTreeMap;
use std::io;

use crate::link::netlink::{Message, Socket, attributes};

const NFTA_GEN_ID: u16 = 1;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;

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

/// The number of the kernel's present rules: another one after every change, whoever made it.
///
/// # Errors
/// What the kernel says instead.
pub fn generation() -> io::Result<u32> {
    let found = Socket::open_netfilter()?.query(Message::get_generation())?;
    let number = found.first().and_then(|m| {
        let (_, value) = attributes(m.get(4..)?).find(|(kind, _)| *kind == NFTA_GEN_ID)?;
        value.try_into().ok().map(u32::from_be_bytes)
    });
    number.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// How many rules each chain of a table holds; chains without rules are left out.
///
/// # Errors
/// What the kernel says instead.
pub fn count_rules(family: Family, table: &str) -> io::Result<BTreeMap<String, usize>> {
    let mut message = Message::get_rules(family.number());
    message.text(NFTA_RULE_TABLE, table);
    let mut counts = BTreeMap::new();
    for rule in Socket::open_netfilter()?.query(message)? {
        let find = |wanted| {
            let (_, value) = attributes(rule.get(4..)?).find(|(kind, _)| *kind == wanted)?;
            Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_string())
        };
        // Older kernels do not choose by table.
        if find(NFTA_RULE_TABLE).is_some_and(|t| t == table)
            && let Some(chain) = find(NFTA_RULE_CHAIN)
        {
            *counts.entry(chain).or_default() += 1;
        }
    }
    Ok(counts)
}

/// How many elements a set or map holds.
///
/// # Errors
/// What the kernel says instead: there may be no such set.
pub fn count_elements(family: Family, table: &str, set: &str) -> io::Result<usize> {
    let mut message = Message::get_elements(family.number());
    message.text(NFTA_SET_ELEM_LIST_TABLE, table);
    message.text(NFTA_SET_ELEM_LIST_SET, set);
    let parts = Socket::open_netfilter()?.query(message)?;
    let lists = parts.iter().filter_map(|p| p.get(4..)).flat_map(attributes);
    let lists = lists.filter(|(kind, _)| *kind == NFTA_SET_ELEM_LIST_ELEMENTS);
    Ok(lists.map(|(_, list)| attributes(list).count()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_nobody_made() {
        match has_table(Family::Ip, "virt_no_such_table") {
            Ok(found) => assert!(!found),
            Err(error) => {
                eprintln!("skipped: {error}");
                return;
            }
        }
        assert!(count_rules(Family::Ip, "virt_no_such_table").map_or(true, |c| c.is_empty()));
        assert!(count_elements(Family::Ip, "virt_no_such_table", "none").map_or(true, |n| n == 0));
        assert!(generation().unwrap() > 0);
    }
}
