//! Features of the machine and the hypervisor.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, OnOff, Xml, YesNo, names};

use super::hyperv::Hyperv;
use crate::{Size, TsegSize};

names! {
    /// Who runs the I/O APIC.
    pub enum IoapicDriver { None = "none", Qemu = "qemu", Kvm = "kvm" }
    /// Whether a PowerPC hash page table may change its size.
    pub enum HptResizing { Default = "default", Enabled = "enabled", Disabled = "disabled", Required = "required" }
    /// What becomes of accesses to unknown model-specific registers.
    pub enum UnknownMsrs { Ignore = "ignore", Fault = "fault" }
    /// Which capabilities a container keeps.
    pub enum CapabilitiesPolicy { Default = "default", Allow = "allow", Deny = "deny" }
    /// Interrupt controller of Arm.
    pub enum GicVersion { V2 = "2", V3 = "3", Host = "host" }
    /// PowerPC workarounds.
    pub enum Mitigation { None = "none", Broken = "broken", Workaround = "workaround", Fixed = "fixed" }
    /// PowerPC indirect branches.
    pub enum IndirectBranch {
        None = "none", Broken = "broken", Workaround = "workaround", FixedIbs = "fixed-ibs", FixedCcd = "fixed-ccd", FixedNa = "fixed-na"
    }
    /// RISC-V interrupt controllers.
    pub enum Aia { None = "none", Aplic = "aplic", AplicImsic = "aplic-imsic" }
    /// Xen's memory passthrough.
    pub enum XenPassthroughMode { None = "default", SyncPt = "sync_pt", SharePt = "share_pt" }
}

/// `<features>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(last, check = Features::check)]
pub struct Features {
    #[xml(flag)]
    pub acpi: bool,
    #[xml(child)]
    pub apic: Option<Apic>,
    #[xml(flag)]
    pub pae: bool,
    #[xml(child)]
    pub hap: Option<Switch>,
    #[xml(flag)]
    pub viridian: bool,
    #[xml(flag)]
    pub privnet: bool,
    #[xml(child)]
    pub hyperv: Option<Hyperv>,
    #[xml(child)]
    pub kvm: Option<KvmFeatures>,
    #[xml(child)]
    pub pvspinlock: Option<Switch>,
    #[xml(child)]
    pub pmu: Option<Switch>,
    #[xml(child)]
    pub vmport: Option<Switch>,
    #[xml(child)]
    pub gic: Option<Gic>,
    #[xml(child)]
    pub smm: Option<Smm>,
    #[xml(attr = "ioapic@driver")]
    pub ioapic: Option<IoapicDriver>,
    #[xml(child, read_if = Hpt::says)]
    pub hpt: Option<Hpt>,
    #[xml(child)]
    pub vmcoreinfo: Option<Switch>,
    #[xml(child)]
    pub htm: Option<Switch>,
    #[xml(child = "nested-hv")]
    pub nested_hv: Option<Switch>,
    #[xml(attr = "msrs@unknown")]
    pub msrs: Option<UnknownMsrs>,
    #[xml(child = "ccf-assist")]
    pub ccf_assist: Option<Switch>,
    #[xml(child)]
    pub xen: Option<XenFeatures>,
    #[xml(attr = "cfpc@value")]
    pub cfpc: Option<Mitigation>,
    #[xml(attr = "sbbc@value")]
    pub sbbc: Option<Mitigation>,
    #[xml(attr = "ibs@value")]
    pub ibs: Option<IndirectBranch>,
    #[xml(child)]
    pub tcg: Option<TcgFeatures>,
    #[xml(attr = "async-teardown@enabled", with = YesNo)]
    pub async_teardown: Option<bool>,
    #[xml(child)]
    pub ras: Option<Switch>,
    #[xml(child)]
    pub ps2: Option<Switch>,
    #[xml(attr = "aia@value")]
    pub aia: Option<Aia>,
    #[xml(child)]
    pub capabilities: Option<Capabilities>,
}

/// All names a `<features>` may hold.
const KNOWN: &[&str] = &[
    "acpi",
    "apic",
    "pae",
    "hap",
    "viridian",
    "privnet",
    "hyperv",
    "kvm",
    "pvspinlock",
    "capabilities",
    "pmu",
    "vmport",
    "gic",
    "smm",
    "ioapic",
    "hpt",
    "vmcoreinfo",
    "htm",
    "nested-hv",
    "msrs",
    "ccf-assist",
    "xen",
    "cfpc",
    "sbbc",
    "ibs",
    "tcg",
    "async-teardown",
    "ras",
    "ps2",
    "aia",
];

impl Features {
    /// Unlike elsewhere, an unknown feature is refused.
    fn check(&mut self, e: El<'_>) -> Result<()> {
        if let Some(unknown) = e.children().find(|c| !KNOWN.contains(&c.name())) {
            let text = format!("unexpected feature '{}'", unknown.name());
            return Err(unknown.error(Code::ConfigUnsupported, Domain::Domain, text));
        }
        Ok(())
    }
}

/// A feature that is on or off; the bare element means on.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Switch::check)]
pub struct Switch {
    #[xml(attr, with = OnOff)]
    pub state: Option<bool>,
}

impl Switch {
    /// Features of the machine are on when the word is missing; those of a hypervisor must say.
    fn check(&mut self, e: El<'_>) -> Result<()> {
        let machine = e.parent().is_some_and(|p| p.name() == "features") && e.name() != "ps2";
        if self.state.is_none() && !machine {
            return Err(e.missing_attr("state"));
        }
        self.state.get_or_insert(true);
        Ok(())
    }

    /// Whether it is on.
    pub fn on(&self) -> bool {
        self.state == Some(true)
    }
}

/// `<apic>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Apic {
    #[xml(attr, with = OnOff)]
    pub eoi: Option<bool>,
}

/// `<kvm>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(last, before = KvmFeatures::known)]
pub struct KvmFeatures {
    #[xml(child)]
    pub hidden: Option<Switch>,
    #[xml(child = "hint-dedicated")]
    pub hint_dedicated: Option<Switch>,
    #[xml(child = "poll-control")]
    pub poll_control: Option<Switch>,
    #[xml(child = "pv-ipi")]
    pub pv_ipi: Option<Switch>,
    #[xml(child = "dirty-ring")]
    pub dirty_ring: Option<DirtyRing>,
}

impl KvmFeatures {
    fn known(e: El<'_>) -> Result<()> {
        only(e, "KVM", &["hidden", "hint-dedicated", "poll-control", "pv-ipi", "dirty-ring"])
    }
}

impl XenFeatures {
    fn known(e: El<'_>) -> Result<()> {
        only(e, "Xen", &["e820_host", "passthrough"])
    }
}

/// A hypervisor's features are all known.
fn only(e: El<'_>, hypervisor: &str, known: &[&str]) -> Result<()> {
    match e.children().find(|c| !known.contains(&c.name())) {
        Some(other) => {
            let text = format!("unsupported {hypervisor} feature: {}", other.name());
            Err(other.error(Code::ConfigUnsupported, Domain::Domain, text))
        }
        None => Ok(()),
    }
}

/// Size of KVM's dirty ring, in entries.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = DirtyRing::check)]
pub struct DirtyRing {
    #[xml(attr, with = OnOff, required)]
    pub state: bool,
    #[xml(attr)]
    pub size: Option<u32>,
}

impl DirtyRing {
    /// The size belongs to what is on.
    fn check(&mut self, e: El<'_>) -> Result<()> {
        match (self.state, self.size) {
            (true, None) => return Err(e.missing_attr("size")),
            (true, Some(size)) if !size.is_power_of_two() || !(1024..=65536).contains(&size) => {
                let text = "dirty ring must be power of 2 and ranges [1024, 65536]";
                return Err(e.error(Code::XmlError, Domain::Domain, text));
            }
            (true, _) => {}
            (false, _) => self.size = None,
        }
        Ok(())
    }
}

/// `<xen>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(last, before = XenFeatures::known)]
pub struct XenFeatures {
    #[xml(child)]
    pub e820_host: Option<Switch>,
    #[xml(child)]
    pub passthrough: Option<XenPassthrough>,
}

/// Xen's memory passthrough.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct XenPassthrough {
    #[xml(attr, with = OnOff, required)]
    pub state: bool,
    #[xml(attr)]
    pub mode: Option<XenPassthroughMode>,
}

/// `<tcg>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct TcgFeatures {
    #[xml(child = "tb-cache", read_if = virt_xml::not_zero)]
    pub tb_cache: Option<Size>,
}

/// `<gic>`: a missing version leaves the choice to the host.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Gic {
    #[xml(attr)]
    pub version: Option<GicVersion>,
}

/// `<smm>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Smm::check)]
pub struct Smm {
    #[xml(attr, with = OnOff)]
    pub state: Option<bool>,
    #[xml(child)]
    pub tseg: Option<TsegSize>,
}

impl Smm {
    fn check(&mut self, _: El<'_>) -> Result<()> {
        if !*self.state.get_or_insert(true) {
            self.tseg = None;
        }
        Ok(())
    }
}

/// `<hpt>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Hpt {
    #[xml(attr)]
    pub resizing: Option<HptResizing>,
    #[xml(child)]
    pub maxpagesize: Option<Size>,
}

impl Hpt {
    /// Without the word for resizing it says nothing.
    fn says(&self, _: virt_xml::Mode) -> bool {
        self.resizing.is_some()
    }
}

/// Capabilities of a container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Capabilities {
    /// What holds for those not listed.
    pub policy: CapabilitiesPolicy,
    /// Each named capability and whether it is kept.
    pub names: Vec<(String, bool)>,
}

impl Xml for Capabilities {
    fn read(e: El<'_>) -> Result<Self> {
        let policy = virt_xml::rt::attr::<virt_xml::Plain, CapabilitiesPolicy>(Some(e), "policy", None)?;
        let mut names = Vec::new();
        for c in e.children() {
            let state = virt_xml::rt::attr::<OnOff, bool>(Some(c), "state", None)?;
            names.push((c.name().to_string(), state.unwrap_or(true)));
        }
        Ok(Self { policy: policy.unwrap_or_default(), names })
    }
    fn write_attrs(&self, w: &mut virt_xml::Writer) {
        w.attr("policy", self.policy.as_str());
    }
    fn write_children(&self, w: &mut virt_xml::Writer) {
        for (name, state) in &self.names {
            if let Some(known) = LINUX_CAPABILITIES.iter().find(|n| *n == name) {
                w.start(known);
                w.attr("state", if *state { "on" } else { "off" });
                w.end();
            }
        }
    }
    fn shape(shape: &mut virt_xml::Shape) {
        shape.attr("", "policy");
        LINUX_CAPABILITIES.iter().for_each(|name| shape.attr(name, "state"));
    }
}

/// capabilities(7), in the order of their numbers.
pub const LINUX_CAPABILITIES: &[&str] = &[
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
];
