//! The host's sysinfo document, from what the kernel shows of the firmware's tables.

use virt_error::{Code, Domain, Error, Result};
use virt_host::node::Node;
use virt_xml::{Mode, Writer};

use super::xml::{open, text};

const DIR: &str = "/sys/class/dmi/id";

/// Element, then (entry name, kernel file) pairs.
const BLOCKS: &[(&str, &[(&str, &str)])] = &[
    (
        "bios",
        &[
            ("vendor", "bios_vendor"),
            ("version", "bios_version"),
            ("date", "bios_date"),
            ("release", "bios_release"),
        ],
    ),
    (
        "system",
        &[
            ("manufacturer", "sys_vendor"),
            ("product", "product_name"),
            ("version", "product_version"),
            ("serial", "product_serial"),
            ("uuid", "product_uuid"),
            ("sku", "product_sku"),
            ("family", "product_family"),
        ],
    ),
    (
        "baseBoard",
        &[
            ("manufacturer", "board_vendor"),
            ("product", "board_name"),
            ("version", "board_version"),
            ("serial", "board_serial"),
            ("asset", "board_asset_tag"),
        ],
    ),
    (
        "chassis",
        &[
            ("manufacturer", "chassis_vendor"),
            ("version", "chassis_version"),
            ("serial", "chassis_serial"),
            ("asset", "chassis_asset_tag"),
        ],
    ),
];

/// The document.
///
/// # Errors
/// Code 67 on a host whose kernel shows no SMBIOS data.
pub fn document(node: &Node) -> Result<String> {
    if node.files().list(DIR).map_or(true, |names| names.is_empty()) {
        return Err(Error::new(
            Code::ConfigUnsupported,
            Domain::Qemu,
            "Host SMBIOS information is not available",
        ));
    }
    let mut w = Writer::new(Mode::default());
    open(&mut w, "sysinfo", &[("type", "smbios")]);
    for (block, entries) in BLOCKS {
        let mark = w.start(block);
        for (name, file) in *entries {
            if let Some(value) = node.files().value(&format!("{DIR}/{file}")) {
                text(&mut w, "entry", &[("name", name)], &value);
            }
        }
        w.end_unless_empty(mark);
    }
    w.end();
    Ok(w.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use virt_host::files::FixtureFiles;
    use virt_host::node::cpuid::Recorded;

    #[test]
    fn only_what_is_there() {
        let files = Arc::new(FixtureFiles::default());
        let node = Node::fixture(files.clone(), Arc::new(Recorded::default()));
        assert_eq!(document(&node).unwrap_err().code(), Code::ConfigUnsupported);
        files.set("/sys/class/dmi/id/sys_vendor", "A & B\n");
        let expected = "<sysinfo type='smbios'>\n  <system>\n    <entry name='manufacturer'>A &amp; B</entry>\n  </system>\n</sysinfo>\n";
        assert_eq!(document(&node).unwrap(), expected);
    }
}
