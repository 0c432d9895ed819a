//! Names of the machine: host name and UUID.

use super::Node;

impl Node {
    /// The host name as `virConnectGetHostname` tells it: the kernel's name, made canonical only when it is not already
    /// a full name and the system's hosts file knows one.
    pub fn hostname(&self) -> String {
        let name = self.files().value("/proc/sys/kernel/hostname").unwrap_or_else(|| "localhost".to_string());
        if name.contains('.') || name.starts_with("localhost") {
            return name;
        }
        let hosts = self.files().read("/etc/hosts").unwrap_or_default();
        canonical(&hosts, &name).unwrap_or(name)
    }

    /// The host's UUID, text form: the firmware's, or one derived from the machine id when the firmware has none (or a
    /// dummy of one repeated digit). `None` when there is no machine id either.
    pub fn uuid(&self) -> Option<String> {
        let firmware = ["/sys/class/dmi/id/product_uuid", "/sys/devices/virtual/dmi/id/product_uuid"];
        let firmware = firmware
            .iter()
            .find_map(|p| self.files().value(p))
            .and_then(|t| hyphened(&t))
            .filter(|t| !dummy(t));
        firmware.or_else(|| {
            self.files().value("/etc/machine-id").and_then(|t| hyphened(&t)).filter(|t| !dummy(t))
        })
    }
}

/// The canonical name of `name` in a hosts file: the first name of the line that lists it.
fn canonical(hosts: &str, name: &str) -> Option<String> {
    for line in hosts.lines().map(|l| l.split('#').next().unwrap_or_default()) {
        let mut words = line.split_whitespace().skip(1);
        let first = words.next();
        if first == Some(name) || words.any(|w| w == name) {
            return first.filter(|f| !f.starts_with("localhost")).map(str::to_string);
        }
    }
    None
}

fn hyphened(text: &str) -> Option<String> {
    let hex: String = text.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
    if hex.len() != 32 || !hex.chars().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    Some([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}

fn dummy(uuid: &str) -> bool {
    let mut digits = uuid.chars().filter(|c| *c != '-');
    let first = digits.next();
    digits.all(|c| Some(c) == first)
}

#[cfg(test)]
mod tests {
    use super::super::cpuid::Recorded;
    use super::*;
    use crate::files::FixtureFiles;
    use std::sync::Arc;

    #[test]
    fn uuid_prefers_real_firmware() {
        let files = Arc::new(FixtureFiles::new([
            ("/sys/class/dmi/id/product_uuid", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF\n"),
            ("/etc/machine-id", "3d1219c7c4c5404aaa1f6d2a48adfda4\n"),
        ]));
        let node = Node::fixture(files.clone(), Arc::new(Recorded::default()));
        assert_eq!(node.uuid().as_deref(), Some("3d1219c7-c4c5-404a-aa1f-6d2a48adfda4"));
        files.set("/sys/class/dmi/id/product_uuid", "4C4C4544-0034-4410-8051-B4C04F583132");
        assert_eq!(node.uuid().as_deref(), Some("4c4c4544-0034-4410-8051-b4c04f583132"));
    }

    #[test]
    fn hostname_becomes_canonical_only_when_known() {
        let hosts = "127.0.0.1 localhost vm\n10.0.0.2 box.example.org box # main\n";
        assert_eq!(canonical(hosts, "box").as_deref(), Some("box.example.org"));
        assert_eq!(canonical(hosts, "vm"), None);
        assert_eq!(canonical(hosts, "nix"), None);
    }
}
