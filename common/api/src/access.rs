//! Who may call which method: one table for proxy and daemons, from the access options in proto/.

/// The rule of one method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// gRPC path: `/virt.domain.v1alpha1.DomainService/Define`.
    pub path: &'static str,
    /// The public libvirt function that refusals name.
    pub api: &'static str,
    /// Read-only callers may call it.
    pub readonly_ok: bool,
    /// `object:permission` pairs, all needed.
    pub acl: &'static [&'static str],
}

mod table {
    include!("gen/access.rs");
}

/// Every method's rule, sorted by path.
pub use table::ACCESS;

/// The rule of the method at `path`; `None` means there is no such method.
pub fn rule(path: &str) -> Option<&'static Access> {
    ACCESS.binary_search_by(|row| row.path.cmp(path)).ok().map(|i| &ACCESS[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_found_by_path() {
        let define = rule("/virt.domain.v1alpha1.DomainService/Define").unwrap();
        assert!(!define.readonly_ok);
        assert_eq!(define.api, "virDomainDefineXMLFlags");
        assert!(rule("/virt.domain.v1alpha1.DomainService/List").unwrap().readonly_ok);
        assert!(rule("/nosuch/Method").is_none());
    }
}
