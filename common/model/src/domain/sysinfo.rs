//! What the guest reads of its make: SMBIOS strings and firmware configuration files.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, Xml};

/// `<sysinfo>`.
#[derive(Debug, Clone, PartialEq, Xml)]
#[xml(tag = "type")]
pub enum Sysinfo {
    Smbios(Smbios),
    Fwcfg(FwCfg),
}

/// SMBIOS tables.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Smbios {
    #[xml(child)]
    pub bios: SmbiosTable,
    #[xml(child)]
    pub system: SmbiosTable,
    #[xml(child = "baseBoard")]
    pub base_boards: Vec<SmbiosTable>,
    #[xml(child)]
    pub chassis: SmbiosTable,
    #[xml(child = "processor")]
    pub processors: Vec<SmbiosTable>,
    #[xml(child = "memory_device")]
    pub memory_devices: Vec<SmbiosTable>,
    #[xml(child = "oemStrings")]
    pub oem_strings: SmbiosTable,
}

/// The strings of each table, in the order they are written; others are none.
const ORDER: &[(&str, &[&str])] = &[
    ("bios", &["vendor", "version", "date", "release"]),
    ("system", &["manufacturer", "product", "version", "serial", "uuid", "sku", "family"]),
    ("baseBoard", &["manufacturer", "product", "version", "serial", "asset", "location"]),
    ("chassis", &["manufacturer", "version", "serial", "asset", "sku"]),
];

/// One SMBIOS table.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = SmbiosTable::check)]
pub struct SmbiosTable {
    #[xml(child = "entry")]
    pub entries: Vec<SmbiosEntry>,
}

impl SmbiosTable {
    /// Of named strings the first counts, and an empty one is none; they stand in the table's order. Strings without
    /// names are a list.
    fn check(&mut self, e: El<'_>) -> Result<()> {
        let mut seen = std::collections::BTreeSet::new();
        self.entries.retain(|e| match &e.name {
            Some(name) => e.value.is_some() && seen.insert(name.clone()),
            None => true,
        });
        if let Some((_, names)) = ORDER.iter().find(|(table, _)| *table == e.name()) {
            let at = |e: &SmbiosEntry| names.iter().position(|n| Some(*n) == e.name.as_deref());
            self.entries.retain(|e| at(e).is_some());
            self.entries.sort_by_key(at);
        }
        Ok(())
    }

    /// The text of a named entry.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.iter().find(|e| e.name.as_deref() == Some(name)).and_then(|e| e.value.as_deref())
    }
}

/// One SMBIOS string.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct SmbiosEntry {
    #[xml(attr)]
    pub name: Option<String>,
    #[xml(text)]
    pub value: Option<String>,
}

/// Files the firmware offers.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct FwCfg {
    #[xml(child = "entry")]
    pub entries: Vec<FwCfgEntry>,
}

/// One file: its text, or where it is.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = FwCfgEntry::check)]
pub struct FwCfgEntry {
    #[xml(attr)]
    pub name: Option<String>,
    #[xml(attr)]
    pub file: Option<String>,
    #[xml(text)]
    pub value: Option<String>,
}

impl FwCfgEntry {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        let text = match (&self.name, &self.file, &self.value) {
            (None, ..) => "Firmware entry is missing 'name' attribute",
            (_, None, None) => "Firmware entry must have either value or 'file' attribute",
            _ => return Ok(()),
        };
        Err(e.error(Code::XmlError, Domain::Domain, text))
    }
}
