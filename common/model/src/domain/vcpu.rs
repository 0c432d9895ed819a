//! vCPUs, I/O threads, and how they are placed and scheduled.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, Mode, Natural, NonZero, Xml, YesNo, names, not_zero};

use crate::Bitmap;

names! {
    /// Who chooses host CPUs or nodes.
    pub enum Placement { Static = "static", Auto = "auto" }
    /// How memory is taken from host nodes.
    pub enum NumaMode { Strict = "strict", Preferred = "preferred", Interleave = "interleave", Restrictive = "restrictive" }
    /// Scheduling classes of the host.
    pub enum Scheduler { Other = "other", Batch = "batch", Idle = "idle", Fifo = "fifo", Rr = "rr" }
    /// What a cache allocation is for.
    pub enum CacheType { Code = "code", Data = "data", Both = "both" }
}

/// `<vcpu>`: the most vcpus there can be.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Vcpu {
    #[xml(attr)]
    pub placement: Option<Placement>,
    #[xml(attr)]
    pub cpuset: Option<Bitmap>,
    /// vcpus at boot; missing means all.
    #[xml(attr, say(XmlError, "current vcpus count must be an integer"))]
    pub current: Option<u32>,
    #[xml(text, say(XmlError, "maximum vcpus count must be an integer"))]
    pub max: Option<u32>,
}

/// `<vcpus>`: each vcpu's state.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Vcpus {
    #[xml(child = "vcpu")]
    pub vcpus: Vec<VcpuState>,
}

/// One vcpu.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct VcpuState {
    #[xml(attr, required)]
    pub id: u32,
    #[xml(attr, with = YesNo, required)]
    pub enabled: bool,
    #[xml(attr, with = YesNo)]
    pub hotpluggable: Option<bool>,
    #[xml(attr)]
    pub order: Option<u32>,
}

/// `<iothreadids>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct IothreadIds {
    #[xml(child = "iothread")]
    pub iothreads: Vec<Iothread>,
}

/// One I/O thread.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Iothread {
    #[xml(attr, with = NonZero, required)]
    pub id: u32,
    #[xml(attr, with = Natural)]
    pub thread_pool_min: Option<i32>,
    #[xml(attr, with = Natural)]
    pub thread_pool_max: Option<i32>,
    #[xml(child)]
    pub poll: IothreadPoll,
}

/// How long an I/O thread polls, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct IothreadPoll {
    #[xml(attr)]
    pub max: Option<u64>,
    #[xml(attr)]
    pub grow: Option<u64>,
    #[xml(attr)]
    pub shrink: Option<u64>,
}

/// Threads of the main loop's pool.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct DefaultIothread {
    #[xml(attr, with = Natural)]
    pub thread_pool_min: Option<i32>,
    #[xml(attr, with = Natural)]
    pub thread_pool_max: Option<i32>,
}

impl DefaultIothread {
    /// One that says nothing is none.
    pub(super) fn says(&self, _: Mode) -> bool {
        *self != Self::default()
    }
}

/// `<cputune>`. Periods and quotas in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = CpuTune::check)]
pub struct CpuTune {
    #[xml(leaf, say(XmlError, "can't parse cputune shares value"))]
    pub shares: Option<u64>,
    #[xml(leaf, say(XmlError, "can't parse cputune period value"), read_if = not_zero)]
    pub period: Option<u64>,
    #[xml(leaf, say(XmlError, "can't parse cputune quota value"), read_if = not_zero)]
    pub quota: Option<i64>,
    #[xml(leaf, say(XmlError, "can't parse cputune global period value"), read_if = not_zero)]
    pub global_period: Option<u64>,
    #[xml(leaf, say(XmlError, "can't parse cputune global quota value"), read_if = not_zero)]
    pub global_quota: Option<i64>,
    #[xml(leaf, say(XmlError, "can't parse cputune emulator period value"), read_if = not_zero)]
    pub emulator_period: Option<u64>,
    #[xml(leaf, say(XmlError, "can't parse cputune emulator quota value"), read_if = not_zero)]
    pub emulator_quota: Option<i64>,
    #[xml(leaf, say(XmlError, "can't parse cputune iothread period value"), read_if = not_zero)]
    pub iothread_period: Option<u64>,
    #[xml(leaf, say(XmlError, "can't parse cputune iothread quota value"), read_if = not_zero)]
    pub iothread_quota: Option<i64>,
    #[xml(child = "vcpupin")]
    pub vcpupins: Vec<VcpuPin>,
    #[xml(attr = "emulatorpin@cpuset", need(InternalError, "missing cpuset for emulatorpin"))]
    pub emulatorpin: Option<Bitmap>,
    #[xml(child = "iothreadpin")]
    pub iothreadpins: Vec<IothreadPin>,
    #[xml(child, once(XmlError, "only one emulatorsched is supported"))]
    pub emulatorsched: Option<EmulatorSched>,
    #[xml(child = "vcpusched")]
    pub vcpuscheds: Vec<VcpuSched>,
    #[xml(child = "iothreadsched")]
    pub iothreadscheds: Vec<IothreadSched>,
    #[xml(child = "cachetune")]
    pub cachetunes: Vec<CacheTune>,
    #[xml(child = "memorytune")]
    pub memorytunes: Vec<MemoryTune>,
}

/// The host CPUs of a vcpu.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct VcpuPin {
    #[xml(attr, required)]
    pub vcpu: u32,
    #[xml(attr, required, need(InternalError, "missing cpuset for vcpupin"))]
    pub cpuset: Bitmap,
}

/// The host CPUs of an I/O thread.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct IothreadPin {
    #[xml(attr, required)]
    pub iothread: u32,
    #[xml(attr, required)]
    pub cpuset: Bitmap,
}

/// Scheduling of vcpus.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = VcpuSched::check)]
pub struct VcpuSched {
    #[xml(attr, required)]
    pub vcpus: Bitmap,
    #[xml(attr, required)]
    pub scheduler: Scheduler,
    #[xml(attr)]
    pub priority: Option<i32>,
}

/// Scheduling of I/O threads.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = IothreadSched::check)]
pub struct IothreadSched {
    #[xml(attr, required)]
    pub iothreads: Bitmap,
    #[xml(attr, required)]
    pub scheduler: Scheduler,
    #[xml(attr)]
    pub priority: Option<i32>,
}

/// Scheduling of the emulator.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = EmulatorSched::check)]
pub struct EmulatorSched {
    #[xml(attr, required)]
    pub scheduler: Scheduler,
    #[xml(attr)]
    pub priority: Option<i32>,
}

/// The real-time classes need a priority; the others have none.
fn priority(class: Scheduler, priority: &mut Option<i32>, e: El<'_>) -> Result<()> {
    if !matches!(class, Scheduler::Fifo | Scheduler::Rr) {
        *priority = None;
        return Ok(());
    }
    if priority.is_none() { Err(e.missing_attr("priority")) } else { Ok(()) }
}

impl CpuTune {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        if e.children_named("emulatorpin").nth(1).is_some() {
            let text = "only one emulatorpin is supported";
            return Err(e.error(Code::XmlError, Domain::Domain, text));
        }
        super::validate::resource_shares(self)
    }
}

impl VcpuSched {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        priority(self.scheduler, &mut self.priority, e)
    }
}

impl IothreadSched {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        priority(self.scheduler, &mut self.priority, e)
    }
}

impl EmulatorSched {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        priority(self.scheduler, &mut self.priority, e)
    }
}

/// Shares of the host's CPU caches for some vcpus.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct CacheTune {
    #[xml(
        attr,
        need(XmlError, "Missing cachetune attribute 'vcpus'"),
        say(XmlError, "Invalid cachetune attribute 'vcpus' value '{}'")
    )]
    pub vcpus: Bitmap,
    #[xml(attr)]
    pub id: Option<String>,
    #[xml(child = "cache")]
    pub caches: Vec<CacheShare>,
    #[xml(child = "monitor")]
    pub monitors: Vec<ResourceMonitor>,
}

/// A share of one cache, in KiB.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct CacheShare {
    #[xml(attr, required)]
    pub id: u32,
    #[xml(attr, required)]
    pub level: u32,
    #[xml(attr = "type", required)]
    pub kind: CacheType,
    #[xml(flatten)]
    pub size: super::memory::PageSize,
}

/// What is measured of some vcpus.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct ResourceMonitor {
    #[xml(attr)]
    pub level: Option<u32>,
    #[xml(attr, required, say(XmlError, "Invalid monitor attribute 'vcpus' value '{}'"))]
    pub vcpus: Bitmap,
}

/// Shares of the host's memory bandwidth for some vcpus.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct MemoryTune {
    #[xml(
        attr,
        need(XmlError, "Missing memorytune attribute 'vcpus'"),
        say(XmlError, "Invalid memorytune attribute 'vcpus' value '{}'")
    )]
    pub vcpus: Bitmap,
    #[xml(attr)]
    pub id: Option<String>,
    #[xml(child = "node")]
    pub nodes: Vec<BandwidthShare>,
    #[xml(child = "monitor")]
    pub monitors: Vec<ResourceMonitor>,
}

/// A share of a node's bandwidth, in percent.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct BandwidthShare {
    #[xml(attr, required)]
    pub id: u32,
    #[xml(attr, required)]
    pub bandwidth: u32,
}

/// `<numatune>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct NumaTune {
    #[xml(child)]
    pub memory: Option<NumaMemory>,
    #[xml(child = "memnode")]
    pub memnodes: Vec<MemNode>,
}

/// The host nodes of the guest's memory.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct NumaMemory {
    #[xml(attr, say(ConfigUnsupported, "Unsupported NUMA memory tuning mode '{}'"))]
    pub mode: Option<NumaMode>,
    #[xml(attr, say(ConfigUnsupported, "Unsupported NUMA memory placement mode '{}'"))]
    pub placement: Option<Placement>,
    #[xml(attr)]
    pub nodeset: Option<Bitmap>,
}

/// The host nodes of one guest node's memory.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct MemNode {
    #[xml(attr, required)]
    pub cellid: u32,
    #[xml(attr)]
    pub mode: Option<NumaMode>,
    #[xml(attr, need(XmlError, "Missing required nodeset attribute in memnode element"))]
    pub nodeset: Bitmap,
}
