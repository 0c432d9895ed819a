//! Host resources of the guest: block I/O weights, partition, key wrapping, launch security, power management, events.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, Hex, Lenient, Mode, OnOff, Wrapping, Xml, YesNo, names, not_zero};

/// `<blkiotune>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct BlkioTune {
    #[xml(leaf, with = Lenient, read_if = not_zero)]
    pub weight: Option<u32>,
    #[xml(child = "device", keep_if = BlkioDevice::says)]
    pub devices: Vec<BlkioDevice>,
}

impl BlkioDevice {
    /// A device without any setting is not written.
    fn says(&self, _: Mode) -> bool {
        Self { path: self.path.clone(), ..Self::default() } != *self
    }
}

/// Weight and limits of one host block device: bytes or requests a second; 0 is no limit.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct BlkioDevice {
    #[xml(leaf)]
    pub path: Option<String>,
    #[xml(leaf, skip_default, with = Wrapping, say(ConfigUnsupported, "could not parse weight {}"))]
    pub weight: u32,
    #[xml(leaf, skip_default, with = Wrapping, say(ConfigUnsupported, "could not parse read iops sec {}"))]
    pub read_iops_sec: u32,
    #[xml(leaf, skip_default, with = Wrapping, say(ConfigUnsupported, "could not parse write iops sec {}"))]
    pub write_iops_sec: u32,
    #[xml(leaf, skip_default, with = Wrapping, say(ConfigUnsupported, "could not parse read bytes sec {}"))]
    pub read_bytes_sec: u64,
    #[xml(leaf, skip_default, with = Wrapping, say(ConfigUnsupported, "could not parse write bytes sec {}"))]
    pub write_bytes_sec: u64,
}

/// `<resource>`: the guest's cgroup and fibre channel identity.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Resource {
    #[xml(leaf)]
    pub partition: Option<String>,
    #[xml(attr = "fibrechannel@appid")]
    pub appid: Option<String>,
}

names! {
    /// Ciphers of s390x key wrapping.
    pub enum KeyWrapCipher { Aes = "aes", Dea = "dea" }
    /// What happens to the guest when it stops or crashes.
    pub enum LifecycleAction {
        Destroy = "destroy", Restart = "restart", RenameRestart = "rename-restart", Preserve = "preserve",
        CoredumpDestroy = "coredump-destroy", CoredumpRestart = "coredump-restart"
    }
    /// What happens to the guest when a lock is lost.
    pub enum LockFailure { Default = "default", Poweroff = "poweroff", Restart = "restart", Pause = "pause", Ignore = "ignore" }
    /// Performance events.
    pub enum PerfEventName {
        Cmt = "cmt", Mbmt = "mbmt", Mbml = "mbml", CpuCycles = "cpu_cycles", Instructions = "instructions",
        CacheReferences = "cache_references", CacheMisses = "cache_misses", BranchInstructions = "branch_instructions",
        BranchMisses = "branch_misses", BusCycles = "bus_cycles", StalledFrontend = "stalled_cycles_frontend",
        StalledBackend = "stalled_cycles_backend", RefCycles = "ref_cpu_cycles", CpuClock = "cpu_clock",
        TaskClock = "task_clock", PageFaults = "page_faults", ContextSwitches = "context_switches",
        CpuMigrations = "cpu_migrations", PageFaultsMin = "page_faults_min", PageFaultsMaj = "page_faults_maj",
        AlignmentFaults = "alignment_faults", EmulationFaults = "emulation_faults"
    }
}

/// `<keywrap>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = KeyWrap::check)]
pub struct KeyWrap {
    #[xml(child = "cipher")]
    pub ciphers: Vec<KeyWrapState>,
}

impl KeyWrap {
    /// Each cipher once; they are written in one order.
    fn check(&mut self, e: El<'_>) -> Result<()> {
        self.ciphers.sort_by_key(|c| c.name.as_str());
        if let Some(two) = self.ciphers.windows(2).find(|w| w[0].name == w[1].name) {
            let text = format!(
                "A domain definition can have no more than one cipher node with name {}",
                two[0].name
            );
            return Err(e.error(Code::InternalError, Domain::Domain, text));
        }
        Ok(())
    }
}

/// Whether keys of one cipher are wrapped.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct KeyWrapState {
    #[xml(attr, required)]
    pub name: KeyWrapCipher,
    #[xml(attr, with = OnOff, required)]
    pub state: bool,
}

/// `<pm>`: which sleep states the guest has.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Pm {
    #[xml(attr = "suspend-to-mem@enabled", with = YesNo)]
    pub suspend_to_mem: Option<bool>,
    #[xml(attr = "suspend-to-disk@enabled", with = YesNo)]
    pub suspend_to_disk: Option<bool>,
}

/// `<perf>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Perf {
    #[xml(child = "event")]
    pub events: Vec<PerfEvent>,
}

/// One performance event.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct PerfEvent {
    #[xml(attr, required)]
    pub name: PerfEventName,
    #[xml(attr, with = YesNo, required)]
    pub enabled: bool,
}

/// `<launchSecurity>`.
#[derive(Debug, Clone, PartialEq, Xml)]
#[xml(tag = "type")]
pub enum LaunchSecurity {
    Sev(Sev),
    #[xml("sev-snp")]
    SevSnp(SevSnp),
    #[xml("s390-pv")]
    S390Pv,
    Tdx(Tdx),
}

/// AMD SEV.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Sev {
    #[xml(attr = "kernelHashes", with = YesNo)]
    pub kernel_hashes: Option<bool>,
    #[xml(leaf, say(XmlError, "Invalid format for launch security cbitpos"))]
    pub cbitpos: Option<u32>,
    #[xml(leaf = "reducedPhysBits", say(XmlError, "Invalid format for launch security reducedPhysBits"))]
    pub reduced_phys_bits: Option<u32>,
    #[xml(leaf, with = Hex<4>, need(XmlError, "failed to get launch security policy"))]
    pub policy: Option<u32>,
    #[xml(leaf = "dhCert")]
    pub dh_cert: Option<String>,
    #[xml(leaf)]
    pub session: Option<String>,
}

/// AMD SEV-SNP.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct SevSnp {
    #[xml(attr = "kernelHashes", with = YesNo)]
    pub kernel_hashes: Option<bool>,
    #[xml(attr = "authorKey", with = YesNo)]
    pub author_key: Option<bool>,
    #[xml(attr, with = YesNo)]
    pub vcek: Option<bool>,
    #[xml(leaf, say(XmlError, "Invalid format for launch security cbitpos"))]
    pub cbitpos: Option<u32>,
    #[xml(leaf = "reducedPhysBits", say(XmlError, "Invalid format for launch security reducedPhysBits"))]
    pub reduced_phys_bits: Option<u32>,
    #[xml(leaf, with = Hex<8>, need(XmlError, "failed to get launch security policy"))]
    pub policy: Option<u64>,
    #[xml(leaf = "guestVisibleWorkarounds")]
    pub guest_visible_workarounds: Option<String>,
    #[xml(leaf = "idBlock")]
    pub id_block: Option<String>,
    #[xml(leaf = "idAuth")]
    pub id_auth: Option<String>,
    #[xml(leaf = "hostData")]
    pub host_data: Option<String>,
}

/// Intel TDX.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Tdx {
    #[xml(leaf, with = Hex<1>)]
    pub policy: Option<u64>,
    #[xml(leaf = "mrConfigId")]
    pub mr_config_id: Option<String>,
    #[xml(leaf = "mrOwner")]
    pub mr_owner: Option<String>,
    #[xml(leaf = "mrOwnerConfig")]
    pub mr_owner_config: Option<String>,
    #[xml(child = "quoteGenerationService")]
    pub quote_service: Option<QuoteService>,
}

/// The socket of TDX's quote service.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct QuoteService {
    #[xml(attr)]
    pub path: Option<String>,
}
