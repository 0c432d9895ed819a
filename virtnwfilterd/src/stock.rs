//! The filters that come with the daemon. Packages install them under /etc/libvirt/nwfilter; a state root that never had
//! that folder gets them at the first start. Whoever removes one is rid of it.

use std::path::Path;

use virt_error::{Domain, Error, Result};
use virt_object::store::write_whole;

/// Name and document of each.
pub const FILTERS: &[(&str, &str)] = &[
    ("allow-arp", include_str!("../filters/allow-arp.xml")),
    ("allow-dhcp-server", include_str!("../filters/allow-dhcp-server.xml")),
    ("allow-dhcp", include_str!("../filters/allow-dhcp.xml")),
    ("allow-dhcpv6-server", include_str!("../filters/allow-dhcpv6-server.xml")),
    ("allow-dhcpv6", include_str!("../filters/allow-dhcpv6.xml")),
    ("allow-incoming-ipv4", include_str!("../filters/allow-incoming-ipv4.xml")),
    ("allow-incoming-ipv6", include_str!("../filters/allow-incoming-ipv6.xml")),
    ("allow-ipv4", include_str!("../filters/allow-ipv4.xml")),
    ("allow-ipv6", include_str!("../filters/allow-ipv6.xml")),
    ("clean-traffic-gateway", include_str!("../filters/clean-traffic-gateway.xml")),
    ("clean-traffic", include_str!("../filters/clean-traffic.xml")),
    ("no-arp-ip-spoofing", include_str!("../filters/no-arp-ip-spoofing.xml")),
    ("no-arp-mac-spoofing", include_str!("../filters/no-arp-mac-spoofing.xml")),
    ("no-arp-spoofing", include_str!("../filters/no-arp-spoofing.xml")),
    ("no-ip-multicast", include_str!("../filters/no-ip-multicast.xml")),
    ("no-ip-spoofing", include_str!("../filters/no-ip-spoofing.xml")),
    ("no-ipv6-multicast", include_str!("../filters/no-ipv6-multicast.xml")),
    ("no-ipv6-spoofing", include_str!("../filters/no-ipv6-spoofing.xml")),
    ("no-mac-broadcast", include_str!("../filters/no-mac-broadcast.xml")),
    ("no-mac-spoofing", include_str!("../filters/no-mac-spoofing.xml")),
    ("no-other-l2-traffic", include_str!("../filters/no-other-l2-traffic.xml")),
    ("no-other-rarp-traffic", include_str!("../filters/no-other-rarp-traffic.xml")),
    ("qemu-announce-self-rarp", include_str!("../filters/qemu-announce-self-rarp.xml")),
    ("qemu-announce-self", include_str!("../filters/qemu-announce-self.xml")),
];

/// Fills the folder of definitions unless it exists. Blocking.
///
/// # Errors
/// Code 38 when it cannot be written.
pub fn install(folder: &Path) -> Result<()> {
    if folder.exists() {
        return Ok(());
    }
    let failed =
        |e| Error::system(Domain::Nwfilter, format!("cannot fill directory {}", folder.display()), e);
    // Filled under another name: a crash leaves no half of them.
    let mut temp = folder.as_os_str().to_owned();
    temp.push(".new");
    let temp = Path::new(&temp);
    std::fs::create_dir_all(temp).map_err(failed)?;
    for (name, document) in FILTERS {
        write_whole(&temp.join(format!("{name}.xml")), &[document.as_bytes()], false).map_err(failed)?;
    }
    std::fs::rename(temp, folder).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt_model::nwfilter::Filter;

    #[test]
    fn every_document_is_a_filter_of_its_name_and_refers_to_others_of_them() {
        for (name, document) in FILTERS {
            let filter = Filter::parse(document).unwrap();
            assert_eq!(filter.name, *name);
            for reference in filter.references() {
                assert!(FILTERS.iter().any(|f| f.0 == reference.filter), "{name} -> {}", reference.filter);
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("nwfilter");
        install(&target).unwrap();
        assert_eq!(std::fs::read_dir(&target).unwrap().count(), FILTERS.len());
        std::fs::remove_file(target.join("clean-traffic.xml")).unwrap();
        install(&target).unwrap();
        assert!(!target.join("clean-traffic.xml").exists(), "a removed filter stays away");
    }
}
