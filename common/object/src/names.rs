//! Object names, checked before they touch a path, an argument list or a log line.
//!
//! The rules and texts are the reference's, observed for domains, networks and pools. Two cases are stricter on
//! purpose: `.` and `..` (the reference accepts them for networks and pools, and fails half-way for domains) and
//! control characters other than tab (no XML document can hold them, only a raw call can).

use virt_error::{Code, Domain, Error, Result};

/// How one kind of object words its refusals.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Error domain of a missing name.
    domain: Domain,
    slash: Slash,
}

#[derive(Debug, Clone, Copy)]
enum Slash {
    /// "XML error: name x/y cannot contain '/'", in this error domain.
    Named(Domain),
    /// "invalid char in name: /", as for any other bad character.
    Char,
}

/// Domains (guests) of every hypervisor.
pub const DOMAIN: Rules = Rules { domain: Domain::Domain, slash: Slash::Named(Domain::Domain) };
/// Virtual networks.
pub const NETWORK: Rules = Rules { domain: Domain::Network, slash: Slash::Char };
/// Storage pools.
pub const POOL: Rules = Rules { domain: Domain::Storage, slash: Slash::Named(Domain::Storage) };
/// Network filters.
pub const NWFILTER: Rules = Rules { domain: Domain::Nwfilter, slash: Slash::Char };

impl Rules {
    /// The same rules with the slash reported in another error domain: a QEMU rename says `Domain::Qemu` where a
    /// definition says `Domain::Domain`.
    #[must_use]
    pub const fn slash_in(self, domain: Domain) -> Self {
        Self { slash: Slash::Named(domain), ..self }
    }

    /// Refuses a name that must not become part of a path.
    ///
    /// Length is not checked here: the limit belongs to the folder, and [`crate::store`] answers as the reference
    /// does ("Failed to create file ...: File name too long").
    pub fn check(self, name: &str) -> Result<()> {
        if name.is_empty() {
            return Err(Error::bare(Code::NoName, self.domain));
        }
        if let (true, Slash::Named(domain)) = (name.contains('/'), self.slash) {
            return Err(Error::new(Code::XmlError, domain, format!("name {name} cannot contain '/'")));
        }
        let bad = name.chars().find(|c| *c == '/' || (c.is_ascii_control() && *c != '\t' && *c != '\x7f'));
        if let Some(c) = bad {
            return Err(Error::new(Code::XmlDetail, Domain::Xml, format!("invalid char in name: {c}")));
        }
        if name == "." || name == ".." {
            return Err(Error::new(
                Code::XmlError,
                self.domain,
                format!("name {name} cannot be used for a file"),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal(rules: Rules, name: &str) -> (i32, i32, String) {
        let e = rules.check(name).unwrap_err();
        (e.code() as i32, e.domain() as i32, e.message())
    }

    #[test]
    fn refusals_are_the_references() {
        assert_eq!(refusal(DOMAIN, ""), (21, 20, "missing name information".into()));
        assert_eq!(refusal(DOMAIN, "x/y"), (27, 20, "XML error: name x/y cannot contain '/'".into()));
        assert_eq!(refusal(DOMAIN.slash_in(Domain::Qemu), "x/y").1, 10);
        assert_eq!(refusal(DOMAIN, "a\nb"), (35, 5, "invalid char in name: \n".into()));
        assert_eq!(refusal(NETWORK, "x/y"), (35, 5, "invalid char in name: /".into()));
        assert_eq!(refusal(POOL, "x/y"), (27, 18, "XML error: name x/y cannot contain '/'".into()));
        assert_eq!(refusal(POOL, "..").0, 27);
    }

    #[test]
    fn odd_names_the_reference_takes() {
        for name in ["  ", "a b", "-x", ".hid", "a\tb", "a\x7fb", "ä", "a.xml", "..."] {
            DOMAIN.check(name).unwrap();
        }
    }

    proptest! {
        #[test]
        fn an_accepted_name_is_one_path_component(name in "\\PC{0,20}|[./\n\r\0]{0,5}") {
            for rules in [DOMAIN, NETWORK, POOL, NWFILTER] {
                if rules.check(&name).is_ok() {
                    let path = std::path::Path::new("/base").join(&name);
                    prop_assert_eq!(path.parent(), Some(std::path::Path::new("/base")));
                    prop_assert_eq!(path.file_name().and_then(|n| n.to_str()), Some(name.as_str()));
                    prop_assert!(!name.contains(['\0', '\n', '\r']));
                }
            }
        }
    }
}
