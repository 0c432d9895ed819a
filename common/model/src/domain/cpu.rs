//! The guest's CPU and its NUMA nodes.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, Natural, NonZero, OnOff, Xml, YesNo, names, not_zero};

use crate::Bitmap;

names! {
    /// How the CPU is made up.
    pub enum CpuMode { Custom = "custom", HostModel = "host-model", HostPassthrough = "host-passthrough", Maximum = "maximum" }
    /// How the host must fit.
    pub enum CpuMatch { Minimum = "minimum", Exact = "exact", Strict = "strict" }
    /// Who checks that it does.
    pub enum CpuCheck { Default = "default", None = "none", Partial = "partial", Full = "full" }
    /// Whether a model the host lacks may be replaced.
    pub enum CpuFallback { Allow = "allow", Forbid = "forbid" }
    /// What is asked of a feature.
    pub enum FeaturePolicy { Force = "force", Require = "require", Optional = "optional", Disable = "disable", Forbid = "forbid" }
    /// How a cache is shown.
    pub enum CacheMode { Emulate = "emulate", Passthrough = "passthrough", Disable = "disable" }
    /// Whose address width the guest sees.
    pub enum MaxPhysAddrMode { Emulate = "emulate", Passthrough = "passthrough" }
    /// Whether a node's memory is shared with other processes.
    pub enum MemoryAccess { Default = "default", Shared = "shared", Private = "private" }
    /// How a memory side cache is organised.
    pub enum CacheAssociativity { None = "none", Direct = "direct", Full = "full" }
    /// How a memory side cache writes.
    pub enum CachePolicy { None = "none", Writeback = "writeback", Writethrough = "writethrough" }
    /// What a latency or bandwidth is measured for.
    pub enum InterconnectKind { None = "none", Access = "access", Read = "read", Write = "write" }
}

/// `<cpu>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Cpu::check)]
pub struct Cpu {
    #[xml(attr, say(ConfigUnsupported, "Invalid mode attribute '{}'", Cpu))]
    pub mode: Option<CpuMode>,
    #[xml(attr = "match")]
    pub matching: Option<CpuMatch>,
    #[xml(attr)]
    pub check: Option<CpuCheck>,
    #[xml(attr, with = OnOff)]
    pub migratable: Option<bool>,
    #[xml(attr, with = OnOff)]
    pub deprecated_features: Option<bool>,
    #[xml(child)]
    pub model: Option<CpuModel>,
    #[xml(leaf)]
    pub vendor: Option<String>,
    #[xml(child)]
    pub topology: Option<Topology>,
    #[xml(child, once(XmlError, "at most one CPU cache element may be specified", Cpu))]
    pub cache: Option<CpuCache>,
    #[xml(child)]
    pub maxphysaddr: Option<MaxPhysAddr>,
    #[xml(child = "feature")]
    pub features: Vec<CpuFeature>,
    #[xml(child)]
    pub numa: Option<Numa>,
}

impl Cpu {
    /// The host's own CPU has no other name; of a named one CPUID has room for so many letters of its vendor.
    fn check(&mut self, e: El<'_>) -> Result<()> {
        const VENDOR_ID: usize = 12;
        let host = matches!(self.mode, Some(CpuMode::HostPassthrough | CpuMode::Maximum));
        if self.migratable.is_some() && !host {
            let text = "Attribute migratable is only allowed for 'host-passthrough' / 'maximum' CPU mode";
            return Err(e.error(Code::ConfigUnsupported, Domain::Cpu, text));
        }
        if host {
            (self.model, self.vendor) = (None, None);
        }
        if self.model.as_ref().and_then(|m| m.vendor_id.as_ref()).is_some_and(|v| v.len() != VENDOR_ID) {
            let text = format!("vendor_id must be exactly {VENDOR_ID} characters long");
            return Err(e.error(Code::XmlError, Domain::Cpu, text));
        }
        Ok(())
    }
}

/// The named CPU.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct CpuModel {
    #[xml(attr, loose, say(ConfigUnsupported, "Invalid fallback attribute", Cpu))]
    pub fallback: Option<CpuFallback>,
    #[xml(attr)]
    pub vendor_id: Option<String>,
    #[xml(text)]
    pub name: Option<String>,
}

/// How vcpus are spread over sockets.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Topology {
    #[xml(attr, with = NonZero, required)]
    pub sockets: Option<u32>,
    #[xml(attr, with = NonZero)]
    pub dies: Option<u32>,
    #[xml(attr, with = NonZero)]
    pub clusters: Option<u32>,
    #[xml(attr, with = NonZero, required)]
    pub cores: Option<u32>,
    #[xml(attr, with = NonZero, required)]
    pub threads: Option<u32>,
}

/// The CPU's cache.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = CpuCache::check)]
pub struct CpuCache {
    #[xml(attr, with = Natural)]
    pub level: Option<i32>,
    #[xml(attr, required)]
    pub mode: CacheMode,
}

impl CpuCache {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        match self.level.is_some_and(|l| !(1..=3).contains(&l)) {
            true => {
                let text = "invalid CPU cache level, must be in range [1,3]";
                Err(e.error(Code::XmlError, Domain::Cpu, text))
            }
            false => Ok(()),
        }
    }
}

/// Bits of a physical address.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct MaxPhysAddr {
    #[xml(attr, required)]
    pub mode: MaxPhysAddrMode,
    #[xml(attr)]
    pub bits: Option<u32>,
    #[xml(attr, with = NonZero)]
    pub limit: Option<u32>,
}

/// A CPU feature.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = CpuFeature::check)]
pub struct CpuFeature {
    #[xml(attr, say(ConfigUnsupported, "Invalid CPU feature policy", Cpu))]
    pub policy: Option<FeaturePolicy>,
    #[xml(attr, need(XmlError, "Invalid CPU feature name", Cpu))]
    pub name: Option<String>,
}

impl CpuFeature {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        match self.name.as_deref() {
            Some("") => Err(e.error(Code::XmlError, Domain::Cpu, "Invalid CPU feature name")),
            _ => Ok(()),
        }
    }
}

/// The guest's NUMA nodes.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Numa {
    #[xml(child = "cell")]
    pub cells: Vec<NumaCell>,
    #[xml(child)]
    pub interconnects: Interconnects,
}

/// One NUMA node.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct NumaCell {
    #[xml(attr)]
    pub id: Option<u32>,
    #[xml(attr)]
    pub cpus: Option<Bitmap>,
    #[xml(flatten)]
    pub memory: CellMemory,
    #[xml(attr = "memAccess")]
    pub mem_access: Option<MemoryAccess>,
    #[xml(attr, with = YesNo)]
    pub discard: Option<bool>,
    #[xml(child)]
    pub distances: Distances,
    #[xml(child = "cache")]
    pub caches: Vec<NumaCache>,
}

/// Distances from one node to others.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Distances {
    #[xml(child = "sibling")]
    pub siblings: Vec<Sibling>,
}

/// The distance to one node.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Sibling {
    #[xml(attr, required)]
    pub id: u32,
    #[xml(attr, required)]
    pub value: u32,
}

/// A memory side cache.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = NumaCache::check)]
pub struct NumaCache {
    #[xml(attr, required, with = NonZero)]
    pub level: u32,
    #[xml(attr, required)]
    pub associativity: CacheAssociativity,
    #[xml(attr, required)]
    pub policy: CachePolicy,
    #[xml(child, need(XmlError, "missing element or attribute './size/@value'", Xml))]
    pub size: ScaledValue,
    #[xml(child, need(XmlError, "missing element or attribute './line/@value'", Xml))]
    pub line: ScaledValue,
}

impl NumaCache {
    /// The reference passes over units here: sizes are KiB, lines bytes.
    fn check(&mut self, _: El<'_>) -> Result<()> {
        self.size.unit = Some("KiB".into());
        self.line.unit = Some("B".into());
        Ok(())
    }
}

/// A number and its unit, kept as given.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct ScaledValue {
    #[xml(attr, need(XmlError, "missing element or attribute './@value'", Xml))]
    pub value: u64,
    #[xml(attr)]
    pub unit: Option<String>,
}

/// Latencies and bandwidths between nodes.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Interconnects {
    #[xml(child = "latency")]
    pub latencies: Vec<Interconnect>,
    #[xml(child = "bandwidth")]
    pub bandwidths: Vec<Interconnect>,
}

/// One latency (nanoseconds) or bandwidth (with a unit).
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Interconnect::check)]
pub struct Interconnect {
    #[xml(attr, required)]
    pub initiator: u32,
    #[xml(attr, required)]
    pub target: u32,
    #[xml(attr, read_if = not_zero)]
    pub cache: Option<u32>,
    #[xml(attr = "type", required)]
    pub kind: InterconnectKind,
    #[xml(attr)]
    pub value: u64,
    #[xml(attr)]
    pub unit: Option<String>,
}

impl Interconnect {
    /// A latency is a plain number, a bandwidth is kept in KiB a second.
    fn check(&mut self, e: El<'_>) -> Result<()> {
        let latency = e.name() == "latency";
        if e.attr("value").is_none() && latency {
            return Err(e.missing_attr("value"));
        }
        if e.attr("value").is_none() {
            let text = "missing element or attribute './@value'";
            return Err(e.error(Code::XmlError, Domain::Xml, text));
        }
        if !latency {
            self.value = crate::size::times_unit(e, self.value, 1024)?.div_ceil(1024);
            self.unit = Some("KiB".into());
        }
        Ok(())
    }
}

pub use super::memory::CellMemory;
