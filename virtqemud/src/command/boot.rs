//! Firmware, boot order, kernels, ACPI tables, SMBIOS strings and firmware configuration files.

use std::collections::HashMap;

use virt_error::Result;

use super::Builder;
use super::blockdev::Access;
use super::props::{Opts, Props, escape, on_off};
use crate::document::types::{
    AcpiTableKind, BlockImage, BootDevice, Disk, DiskDevice, DiskSource, Domain, FileImage, Interface,
    Loader, LoaderKind, Nvram, Smbios, SmbiosMode, SmbiosTable, Sysinfo,
};

/// Each device's place in the boot order, from its own `<boot>` or from the guest's list of kinds.
#[derive(Default)]
pub(super) struct BootOrder {
    kinds: HashMap<&'static str, (String, u32)>,
}

impl BootOrder {
    pub(super) fn new(def: &Domain) -> Self {
        let mut kinds = HashMap::new();
        for (i, boot) in def.os.boots.iter().enumerate() {
            let disk = |want: &[DiskDevice]| {
                def.devices.disks.iter().find(|d| want.contains(&d.device)).and_then(|d| d.info.alias.clone())
            };
            let (kind, alias) = match boot.dev {
                BootDevice::Hd => ("disk", disk(&[DiskDevice::Disk, DiskDevice::Lun])),
                BootDevice::Cdrom => ("cdrom", disk(&[DiskDevice::Cdrom])),
                BootDevice::Fd => ("floppy", disk(&[DiskDevice::Floppy])),
                BootDevice::Network => {
                    ("net", def.devices.interfaces.first().and_then(|n| n.info.alias.clone()))
                }
            };
            if let Some(alias) = alias {
                // A kind listed twice has its last place.
                kinds.insert(kind, (alias, i as u32 + 1));
            }
        }
        Self { kinds }
    }

    pub(super) fn of_disk(&self, disk: &Disk) -> Option<u32> {
        let kind = match disk.device {
            DiskDevice::Disk | DiskDevice::Lun => "disk",
            DiskDevice::Cdrom => "cdrom",
            DiskDevice::Floppy => "floppy",
        };
        disk.info.boot.as_ref().map(|b| b.order).or_else(|| self.by_kind(kind, disk.info.alias.as_deref()))
    }

    pub(super) fn of_interface(&self, net: &Interface) -> Option<u32> {
        net.info.boot.as_ref().map(|b| b.order).or_else(|| self.by_kind("net", net.info.alias.as_deref()))
    }

    fn by_kind(&self, kind: &str, alias: Option<&str>) -> Option<u32> {
        let (first, order) = self.kinds.get(kind)?;
        (Some(first.as_str()) == alias).then_some(*order)
    }
}

impl Builder<'_> {
    /// `-boot`, the kernel and ACPI tables.
    pub(super) fn boot(&mut self) -> Result<()> {
        let os = &self.def.os;
        let mut opts = Opts::default();
        if let Some(menu) = &os.bootmenu
            && let Some(on) = menu.enable
        {
            opts.put("menu", on_off(on));
        }
        if let Some(timeout) = os.bios.reboot_timeout {
            opts.put("reboot-timeout", timeout);
        }
        if let Some(time) = os.bootmenu.as_ref().filter(|m| m.enable == Some(true)).and_then(|m| m.timeout) {
            opts.put("splash-time", time);
        }
        opts.put("strict", "on");
        self.line.opts("-boot", opts);
        for (flag, value) in [
            ("-kernel", &os.kernel),
            ("-initrd", &os.initrd),
            ("-append", &os.cmdline),
            ("-dtb", &os.dtb),
            ("-shim", &os.shim),
        ] {
            if let Some(value) = value {
                self.line.arg(flag, value);
            }
        }
        for table in &os.acpi.tables {
            let path = table.path.clone();
            let path = path.trim();
            let opts = match table.kind {
                AcpiTableKind::Raw | AcpiTableKind::Rawset => Opts::new("").with("file", path),
                AcpiTableKind::Slic => Opts::new("").with("sig", "SLIC").with("file", path),
                AcpiTableKind::Msdm => Opts::new("").with("sig", "MSDM").with("file", path),
            };
            self.line.opts("-acpitable", opts);
        }
        Ok(())
    }

    fn pflash(&self) -> Option<&Loader> {
        self.def.os.loader.as_ref().filter(|l| l.kind == Some(LoaderKind::Pflash) && l.path.is_some())
    }

    /// Block nodes of flash chips, before the machine that has them.
    pub(super) fn pflash_nodes(&mut self) {
        let Some(loader) = self.pflash().cloned() else { return };
        let code = file_image(loader.path.as_deref().unwrap_or_default());
        let readonly = loader.readonly == Some(true);
        self.flash("pflash0", &code, Some("raw"), readonly, loader.format.map(|f| f.as_str()));
        if let Some(nvram) = &self.def.os.nvram.clone()
            && let Some(source) = nvram_source(nvram)
        {
            self.flash("pflash1", &source, None, false, nvram.format.map(|f| f.as_str()));
        }
    }

    fn flash(
        &mut self,
        chip: &str,
        source: &DiskSource,
        layer: Option<&str>,
        readonly: bool,
        format: Option<&str>,
    ) {
        let prefix = format!("libvirt-{chip}");
        let format = format.unwrap_or("raw");
        let access = Access { readonly, ..Access::default() };
        if format == "raw" && layer.is_some() {
            // Code keeps a format node of its own, so that its image opens read-only beneath.
            let storage = Props::driver("file")
                .opt("filename", source.path())
                .with("node-name", format!("{prefix}-storage"))
                .with("auto-read-only", true)
                .with("discard", "unmap");
            let layer = Props::new()
                .with("node-name", format!("{prefix}-format"))
                .with("read-only", readonly)
                .with("driver", "raw")
                .with("file", format!("{prefix}-storage"));
            self.line.arg("-blockdev", storage.to_string());
            self.line.arg("-blockdev", layer.to_string());
            return;
        }
        let nodes = self.image_nodes(source, Some(format), None, &prefix, access);
        for props in nodes.props {
            self.line.arg("-blockdev", props.to_string());
        }
    }

    /// The machine's flash chips.
    pub(super) fn firmware_options(&self, opts: &mut Opts) {
        if self.pflash().is_none() {
            return;
        }
        opts.put("pflash0", "libvirt-pflash0-format");
        if let Some(nvram) = &self.def.os.nvram
            && nvram_source(nvram).is_some()
        {
            let layer =
                if nvram.format.map(|f| f.as_str()).unwrap_or("raw") == "raw" { "storage" } else { "format" };
            opts.put("pflash1", format!("libvirt-pflash1-{layer}"));
        }
    }

    /// A BIOS, and the protection of flash against the guest's own code.
    pub(super) fn loader(&mut self) {
        let Some(loader) = &self.def.os.loader else { return };
        let path = loader.path.clone().unwrap_or_default();
        match loader.kind {
            Some(LoaderKind::Pflash) => {
                if loader.secure == Some(true) {
                    self.line.arg("-global", "driver=cfi.pflash01,property=secure,value=on");
                }
            }
            _ if path.is_empty() => {}
            _ => self.line.arg("-bios", path),
        }
    }

    /// SMBIOS strings.
    pub(super) fn smbios(&mut self) -> Result<()> {
        let def = self.def;
        let table = match def.os.smbios {
            Some(SmbiosMode::Sysinfo) => def.sysinfo.iter().find_map(|s| match s {
                Sysinfo::Smbios(s) => Some(s.clone()),
                Sysinfo::Fwcfg(_) => None,
            }),
            Some(SmbiosMode::Host) => match &self.launch.host_smbios {
                None => {
                    return Err(crate::document::unsupported("Host SMBIOS information is not available"));
                }
                known => known.clone(),
            },
            _ => None,
        };
        if let Some(table) = table {
            self.smbios_tables(&table);
        }
        for s in &def.sysinfo {
            let Sysinfo::Fwcfg(fw) = s else { continue };
            for entry in &fw.entries {
                let opts = Opts::new("").opt("name", entry.name.as_deref());
                let opts = match &entry.file {
                    Some(file) => opts.with("file", file),
                    None => opts.with("string", entry.value.clone().unwrap_or_default()),
                };
                self.line.opts("-fw_cfg", opts);
            }
        }
        Ok(())
    }

    fn smbios_tables(&mut self, s: &Smbios) {
        let bios = [("vendor", "vendor"), ("version", "version"), ("date", "date"), ("release", "release")];
        let system = [
            ("manufacturer", "manufacturer"),
            ("product", "product"),
            ("version", "version"),
            ("serial", "serial"),
            ("uuid", "uuid"),
            ("sku", "sku"),
            ("family", "family"),
        ];
        let board = [
            ("manufacturer", "manufacturer"),
            ("product", "product"),
            ("version", "version"),
            ("serial", "serial"),
            ("asset", "asset"),
            ("location", "location"),
        ];
        let chassis = [
            ("manufacturer", "manufacturer"),
            ("version", "version"),
            ("serial", "serial"),
            ("asset", "asset"),
            ("sku", "sku"),
        ];
        self.smbios_table(0, &s.bios, &bios);
        self.smbios_table(1, &s.system, &system);
        for b in &s.base_boards {
            self.smbios_table(2, b, &board);
        }
        self.smbios_table(3, &s.chassis, &chassis);
        if !s.oem_strings.entries.is_empty() {
            let mut text = "type=11".to_string();
            for entry in &s.oem_strings.entries {
                text.push_str(",value=");
                text.push_str(&escape(entry.value.as_deref().unwrap_or_default()));
            }
            self.line.arg("-smbios", text);
        }
    }

    fn smbios_table(&mut self, kind: u32, table: &SmbiosTable, names: &[(&str, &str)]) {
        if table.entries.is_empty() {
            return;
        }
        let mut opts = Opts::new("").with("type", kind);
        for (name, option) in names {
            opts = opts.opt(option, table.get(name));
        }
        self.line.opts("-smbios", opts);
    }

    /// The VM generation ID, and the guest's place for crash notes.
    pub(super) fn genid(&mut self) {
        if let Some(uuid) = self.def.genid.as_ref().and_then(|g| g.uuid) {
            self.line.device(Props::driver("vmgenid").with("guid", uuid.to_string()).with("id", "vmgenid0"));
        }
    }
}

fn file_image(path: &str) -> DiskSource {
    DiskSource::File(FileImage { file: Some(path.trim().to_string()), ..FileImage::default() })
}

/// Where the firmware's variables are.
fn nvram_source(nvram: &Nvram) -> Option<DiskSource> {
    if let Some(source) = &nvram.source {
        return Some(match source {
            DiskSource::Block(b) => {
                DiskSource::Block(BlockImage { dev: b.dev.clone(), ..BlockImage::default() })
            }
            other => other.clone(),
        });
    }
    nvram.path.as_deref().map(file_image)
}
