//! How the guest boots.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{Bad, El, Lenient, Xml, YesElse, YesNo, names};

use super::source::{DiskSource, ImageFormat};

names! {
    /// Firmware the host chooses.
    pub enum Firmware { None = "none", Bios = "bios", Efi = "efi" }
    /// What to boot from.
    pub enum BootDevice { Fd = "fd", Hd = "hd", Cdrom = "cdrom", Network = "network" }
    /// How the firmware is mapped.
    pub enum LoaderKind { None = "none", Rom = "rom", Pflash = "pflash" }
    /// Where SMBIOS data comes from.
    pub enum SmbiosMode { None = "none", Emulate = "emulate", Host = "host", Sysinfo = "sysinfo" }
    /// Properties of firmware to choose by.
    pub enum FirmwareFeatureName { EnrolledKeys = "enrolled-keys", SecureBoot = "secure-boot" }
    /// Kind of an ACPI table file.
    pub enum AcpiTableKind { Raw = "raw", Rawset = "rawset", Slic = "slic", Msdm = "msdm" }
}

/// `<os>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Os::check)]
pub struct Os {
    #[xml(attr, loose, say(XmlError, "unknown firmware value {}"))]
    pub firmware: Option<Firmware>,
    #[xml(child = "type")]
    pub kind: OsType,
    #[xml(leaf)]
    pub init: Option<String>,
    #[xml(leaf = "initarg")]
    pub initargs: Vec<String>,
    #[xml(child = "initenv")]
    pub initenvs: Vec<InitEnv>,
    #[xml(leaf)]
    pub initdir: Option<String>,
    #[xml(leaf)]
    pub inituser: Option<String>,
    #[xml(leaf)]
    pub initgroup: Option<String>,
    #[xml(child = "firmware")]
    pub firmware_features: FirmwareFeatures,
    #[xml(child)]
    pub loader: Option<Loader>,
    #[xml(child)]
    pub nvram: Option<Nvram>,
    #[xml(leaf)]
    pub kernel: Option<String>,
    #[xml(leaf)]
    pub initrd: Option<String>,
    #[xml(leaf)]
    pub cmdline: Option<String>,
    #[xml(leaf)]
    pub dtb: Option<String>,
    #[xml(leaf)]
    pub shim: Option<String>,
    #[xml(leaf)]
    pub root: Option<String>,
    #[xml(child)]
    pub acpi: AcpiTables,
    #[xml(child = "boot")]
    pub boots: Vec<Boot>,
    #[xml(child)]
    pub bootmenu: Option<BootMenu>,
    #[xml(child)]
    pub bios: Bios,
    #[xml(attr = "smbios@mode", loose, say(ConfigUnsupported, "unknown smbios mode '{}'"))]
    pub smbios: Option<SmbiosMode>,
}

/// Kinds of devices there are to boot from; more entries are passed over.
const MOST_BOOTS: usize = 4;

impl Os {
    /// What says nothing is not kept.
    fn check(&mut self, _: El<'_>) -> Result<()> {
        if self.bootmenu.as_ref().is_some_and(|m| m.enable.is_none()) {
            self.bootmenu = None;
        }
        self.boots.truncate(MOST_BOOTS);
        if self.kind.name.as_deref() != Some("exe") {
            self.initenvs.retain(|e| e.value.is_some());
        }
        Ok(())
    }
}

/// `hvm` and the machine.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct OsType {
    #[xml(attr, loose)]
    pub arch: Option<String>,
    #[xml(attr, loose)]
    pub machine: Option<String>,
    /// `hvm`, `exe`, `xen`, `linux`, `xenpvh`.
    #[xml(text)]
    pub name: Option<String>,
}

/// An environment variable of a container's init.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct InitEnv {
    #[xml(attr)]
    pub name: String,
    #[xml(text)]
    pub value: Option<String>,
}

/// What chosen firmware must and must not have.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct FirmwareFeatures {
    #[xml(child = "feature")]
    pub features: Vec<FirmwareFeature>,
}

/// One property of firmware.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct FirmwareFeature {
    #[xml(attr, with = YesNo, required)]
    pub enabled: bool,
    #[xml(attr, required)]
    pub name: FirmwareFeatureName,
}

/// The firmware's code.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Loader {
    #[xml(attr, with = YesNo)]
    pub readonly: Option<bool>,
    #[xml(attr, with = YesNo)]
    pub secure: Option<bool>,
    #[xml(attr = "type")]
    pub kind: Option<LoaderKind>,
    #[xml(attr, with = YesNo)]
    pub stateless: Option<bool>,
    #[xml(attr)]
    pub format: Option<ImageFormat>,
    #[xml(text)]
    pub path: Option<String>,
}

/// The firmware's variables.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Nvram::check)]
pub struct Nvram {
    #[xml(attr, even_empty)]
    pub template: Option<String>,
    #[xml(attr = "templateFormat")]
    pub template_format: Option<ImageFormat>,
    /// The new form, with a type and a source as disks have.
    #[xml(flatten, when = "type")]
    pub source: Option<DiskSource>,
    #[xml(attr)]
    pub format: Option<ImageFormat>,
    /// The old form: just a path.
    #[xml(text)]
    pub path: Option<String>,
}

impl Nvram {
    fn check(&mut self, _: El<'_>) -> Result<()> {
        if self.source.is_some() || self.path.as_ref().is_some_and(|p| p.trim_ascii().is_empty()) {
            self.path = None;
        }
        Ok(())
    }
}

/// Further ACPI tables.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct AcpiTables {
    #[xml(child = "table")]
    pub tables: Vec<AcpiTable>,
}

/// A file with an ACPI table.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct AcpiTable {
    #[xml(attr = "type", required)]
    pub kind: AcpiTableKind,
    #[xml(text)]
    pub path: String,
}

/// One device to boot from.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Boot {
    #[xml(attr, required)]
    pub dev: BootDevice,
}

/// The firmware's menu; its time in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = BootMenu::check)]
pub struct BootMenu {
    #[xml(attr, with = YesNo)]
    pub enable: Option<bool>,
    #[xml(attr, with = Lenient)]
    pub timeout: Option<u32>,
}

impl BootMenu {
    /// Only a menu that is shown has a time.
    fn check(&mut self, e: El<'_>) -> Result<()> {
        if self.enable != Some(true) {
            self.timeout = None;
            return Ok(());
        }
        let text = e.attr("timeout").filter(|t| !t.is_empty());
        match (text, self.timeout) {
            (Some(text), None) => {
                Err(e.bad_attr("timeout", text, Bad::Expected("Expected non-negative integer value")))
            }
            (_, Some(n)) if n > 65535 => {
                let text = "invalid value for boot menu timeout, must be in range [0,65535]";
                Err(e.error(Code::ConfigUnsupported, Domain::Domain, text).with("value", n))
            }
            _ => Ok(()),
        }
    }
}

/// Settings of a BIOS.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Bios {
    #[xml(attr, with = YesElse)]
    pub useserial: Option<bool>,
    /// Milliseconds, or -1 for never.
    #[xml(attr = "rebootTimeout")]
    pub reboot_timeout: Option<i32>,
}

/// The architectures that libvirt has a name for.
const ARCHITECTURES: &[&str] = &[
    "alpha",
    "armv6l",
    "armv7l",
    "armv7b",
    "aarch64",
    "cris",
    "i686",
    "ia64",
    "lm32",
    "loongarch64",
    "m68k",
    "microblaze",
    "microblazeel",
    "mips",
    "mipsel",
    "mips64",
    "mips64el",
    "openrisc",
    "parisc",
    "parisc64",
    "ppc",
    "ppc64",
    "ppc64le",
    "ppcemb",
    "riscv32",
    "riscv64",
    "s390",
    "s390x",
    "sh4",
    "sh4eb",
    "sparc",
    "sparc64",
    "unicore32",
    "x86_64",
    "xtensa",
    "xtensaeb",
];

/// Whether documents and calls can name this architecture.
pub fn is_architecture(name: &str) -> bool {
    ARCHITECTURES.contains(&name)
}
