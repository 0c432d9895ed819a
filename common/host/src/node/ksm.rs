//! Kernel same-page merging: the memory parameters of the node.

use virt_error::{Code, Domain, Error, Result};

use super::Node;

const DIR: &str = "/sys/kernel/mm/ksm";

/// One parameter with its file and rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// libvirt's name.
    pub name: &'static str,
    file: &'static str,
    /// 64 bits on the wire (else 32).
    pub wide: bool,
    /// May be set.
    pub writable: bool,
}

/// All parameters in libvirt's order.
pub const PARAMETERS: [Parameter; 8] = [
    Parameter { name: "shm_pages_to_scan", file: "pages_to_scan", wide: false, writable: true },
    Parameter { name: "shm_sleep_millisecs", file: "sleep_millisecs", wide: false, writable: true },
    Parameter { name: "shm_pages_shared", file: "pages_shared", wide: true, writable: false },
    Parameter { name: "shm_pages_sharing", file: "pages_sharing", wide: true, writable: false },
    Parameter { name: "shm_pages_unshared", file: "pages_unshared", wide: true, writable: false },
    Parameter { name: "shm_pages_volatile", file: "pages_volatile", wide: true, writable: false },
    Parameter { name: "shm_full_scans", file: "full_scans", wide: true, writable: false },
    Parameter { name: "shm_merge_across_nodes", file: "merge_across_nodes", wide: false, writable: true },
];

impl Node {
    /// The parameters this kernel has.
    pub fn ksm(&self) -> Vec<(Parameter, u64)> {
        let read = |p: &Parameter| self.files().number(&format!("{DIR}/{}", p.file)).map(|v| (*p, v));
        PARAMETERS.iter().filter_map(read).collect()
    }

    /// Sets parameters; all names are checked before the first is written.
    ///
    /// # Errors
    /// Code 74 for a parameter that cannot be set, code 38 when the kernel refuses.
    pub fn set_ksm(&self, values: &[(String, u64)]) -> Result<()> {
        let mut jobs = Vec::new();
        for (name, value) in values {
            let found = PARAMETERS.iter().find(|p| p.name == *name && p.writable).ok_or_else(|| {
                let text = format!("parameter '{name}' not supported");
                Error::new(Code::ArgumentUnsupported, Domain::None, text)
            })?;
            jobs.push((found, value));
        }
        for (parameter, value) in jobs {
            let path = format!("{DIR}/{}", parameter.file);
            let failed = |e| Error::system(Domain::None, format!("failed to set {}", parameter.name), e);
            self.files().write(&path, &value.to_string()).map_err(failed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::cpuid::Recorded;
    use super::*;
    use crate::files::{Files, FixtureFiles};
    use std::sync::Arc;

    #[test]
    fn only_known_writable_names_are_written() {
        let files = Arc::new(FixtureFiles::new([
            ("/sys/kernel/mm/ksm/pages_to_scan", "100\n"),
            ("/sys/kernel/mm/ksm/full_scans", "3\n"),
        ]));
        let node = Node::fixture(files.clone(), Arc::new(Recorded::default()));
        assert_eq!(
            node.ksm().iter().map(|(p, v)| (p.name, *v)).collect::<Vec<_>>(),
            [("shm_pages_to_scan", 100), ("shm_full_scans", 3)]
        );
        let both = [("shm_pages_to_scan".to_string(), 7), ("shm_full_scans".to_string(), 1)];
        let text = node.set_ksm(&both).unwrap_err().message();
        assert_eq!(text, "argument unsupported: parameter 'shm_full_scans' not supported");
        assert_eq!(files.number("/sys/kernel/mm/ksm/pages_to_scan"), Some(100));
        node.set_ksm(&both[..1]).unwrap();
        assert_eq!(files.number("/sys/kernel/mm/ksm/pages_to_scan"), Some(7));
    }
}
