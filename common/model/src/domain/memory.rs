//! The guest's memory: how much, what it is made of, limits, and memory devices.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, Hex, OnOff, Shape, Writer, Xml, YesNo, names, not_zero, parse_int};

use super::cpu::MemoryAccess;
use super::info::DeviceInfo;
use crate::{Bitmap, Size, Uuid, UuidText};

/// `<memory>`: all memory at boot.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Memory {
    /// Whether it is part of a dump of QEMU itself.
    #[xml(attr = "dumpCore", with = OnOff)]
    pub dump_core: Option<bool>,
    #[xml(flatten)]
    pub size: Size,
}

/// `<maxMemory>`: room for memory devices.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct MaxMemory {
    #[xml(attr, say(XmlError, "Failed to parse memory slot count"), loose, read_if = not_zero)]
    pub slots: Option<u32>,
    #[xml(flatten)]
    pub size: Size,
}

/// A NUMA node's memory in KiB, as attributes `memory` and `unit`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CellMemory {
    /// KiB; missing means the node has none of its own.
    pub kib: Option<u64>,
}

/// The reference's words for a number that it looks up by its place.
fn bad_place(e: El<'_>, place: &str, text: &str) -> virt_xml::rt_error::Error {
    let text = match text {
        "" => format!("missing element or attribute '{place}'"),
        _ => format!("Invalid value '{text}' for element or attribute '{place}'"),
    };
    e.error(Code::XmlError, Domain::Xml, text)
}

impl Xml for CellMemory {
    fn read(e: El<'_>) -> Result<Self> {
        let Some(text) = e.attr("memory") else {
            return Err(e.error(Code::XmlError, Domain::Xml, "missing element or attribute './@memory'"));
        };
        let number = parse_int(text, 10).and_then(|n| u64::try_from(n).ok());
        let n = number.ok_or_else(|| bad_place(e, "./@memory", text))?;
        let bytes = crate::size::times_unit(e, n, 1024)?;
        Ok(Self { kib: Some(bytes.div_ceil(1024)) })
    }
    fn write_attrs(&self, w: &mut Writer) {
        if let Some(kib) = self.kib {
            w.attr("memory", &kib.to_string());
            w.attr("unit", "KiB");
        }
    }
    fn write_children(&self, _: &mut Writer) {}
    fn shape(shape: &mut Shape) {
        shape.attr("", "memory");
        shape.attr("", "unit");
    }
}

names! {
    /// What memory is made of.
    pub enum MemorySource { None = "none", File = "file", Anonymous = "anonymous", Memfd = "memfd" }
    /// When memory is taken from the host.
    pub enum MemoryAllocation { None = "none", Immediate = "immediate", Ondemand = "ondemand" }
}

/// `<memoryBacking>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct MemoryBacking {
    #[xml(child)]
    pub hugepages: Option<HugePages>,
    #[xml(flag)]
    pub nosharepages: bool,
    #[xml(flag)]
    pub locked: bool,
    #[xml(attr = "source@type", loose, say(ConfigUnsupported, "unknown memoryBacking/source/type '{}'"))]
    pub source: Option<MemorySource>,
    #[xml(attr = "access@mode", loose, say(ConfigUnsupported, "unknown memoryBacking/access/mode '{}'"))]
    pub access: Option<MemoryAccess>,
    #[xml(child)]
    pub allocation: Allocation,
    #[xml(flag)]
    pub discard: bool,
}

/// When memory is taken, and by how many threads.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Allocation {
    #[xml(attr, loose, say(ConfigUnsupported, "unknown memoryBacking/allocation/mode '{}'"))]
    pub mode: Option<MemoryAllocation>,
    #[xml(attr, loose, read_if = not_zero)]
    pub threads: Option<u32>,
}

/// Huge pages; none listed means the host's default size.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct HugePages {
    #[xml(child = "page")]
    pub pages: Vec<HugePage>,
}

/// A size of huge pages and the guest nodes it is for.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct HugePage {
    #[xml(flatten)]
    pub size: PageSize,
    #[xml(attr)]
    pub nodeset: Option<Bitmap>,
}

/// A page size in KiB, as attributes `size` and `unit`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PageSize {
    /// KiB.
    pub kib: u64,
}

impl Xml for PageSize {
    fn read(e: El<'_>) -> Result<Self> {
        let Some(text) = e.attr("size") else {
            return Err(e.error(Code::XmlError, Domain::Xml, "missing element or attribute './@size'"));
        };
        let number = parse_int(text, 10).and_then(|n| u64::try_from(n).ok());
        let n = number.ok_or_else(|| bad_place(e, "./@size", text))?;
        let bytes = crate::size::times_unit(e, n, 1024)?;
        Ok(Self { kib: bytes.div_ceil(1024) })
    }
    fn write_attrs(&self, w: &mut Writer) {
        w.attr("size", &self.kib.to_string());
        w.attr("unit", "KiB");
    }
    fn write_children(&self, _: &mut Writer) {}
    fn shape(shape: &mut Shape) {
        shape.attr("", "size");
        shape.attr("", "unit");
    }
}

/// `<memtune>`: the guest's limits on the host.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct MemTune {
    #[xml(child)]
    pub hard_limit: Option<Size>,
    #[xml(child)]
    pub soft_limit: Option<Size>,
    #[xml(child)]
    pub min_guarantee: Option<Size>,
    #[xml(child)]
    pub swap_hard_limit: Option<Size>,
}

names! {
    /// Kinds of memory devices.
    pub enum MemoryModel {
        Dimm = "dimm", Nvdimm = "nvdimm", VirtioPmem = "virtio-pmem", VirtioMem = "virtio-mem", SgxEpc = "sgx-epc"
    }
}

/// `<memory>` among the devices.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = MemoryDevice::check)]
pub struct MemoryDevice {
    #[xml(attr, required)]
    pub model: MemoryModel,
    #[xml(attr)]
    pub access: Option<MemoryAccess>,
    #[xml(attr, with = YesNo)]
    pub discard: Option<bool>,
    #[xml(leaf, with = UuidText)]
    pub uuid: Option<Uuid>,
    #[xml(child)]
    pub source: MemoryDeviceSource,
    #[xml(child, need(XmlError, "missing <target> element for <memory> device"))]
    pub target: MemoryDeviceTarget,
    #[xml(flatten)]
    pub info: DeviceInfo,
}

impl MemoryDevice {
    /// Modules have their place in their address, not in the target.
    fn check(&mut self, _: El<'_>) -> Result<()> {
        if !matches!(self.model, MemoryModel::VirtioMem | MemoryModel::VirtioPmem) {
            self.target.base = None;
        }
        Ok(())
    }
}

/// Where a memory device's memory comes from.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct MemoryDeviceSource {
    #[xml(leaf)]
    pub nodemask: Option<Bitmap>,
    #[xml(child, read_if = not_zero)]
    pub pagesize: Option<Size>,
    #[xml(leaf)]
    pub path: Option<String>,
    #[xml(child, read_if = not_zero)]
    pub alignsize: Option<Size>,
    #[xml(flag)]
    pub pmem: bool,
}

/// What the guest sees of a memory device.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct MemoryDeviceTarget {
    #[xml(attr = "dynamicMemslots", with = YesNo)]
    pub dynamic_memslots: Option<bool>,
    #[xml(child, need(XmlError, "missing element or attribute './size'", Xml))]
    pub size: Option<Size>,
    #[xml(leaf)]
    pub node: Option<u32>,
    #[xml(child, read_if = NvdimmLabel::says)]
    pub label: Option<NvdimmLabel>,
    #[xml(flag)]
    pub readonly: bool,
    #[xml(child)]
    pub block: Option<Size>,
    #[xml(child)]
    pub requested: Option<Size>,
    #[xml(child, live)]
    pub current: Option<Size>,
    #[xml(attr = "address@base", with = Hex<1>)]
    pub base: Option<u64>,
}

/// The label area of an NVDIMM.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct NvdimmLabel {
    #[xml(child)]
    pub size: Size,
}

impl NvdimmLabel {
    /// A label without a size is none.
    fn says(&self, _: virt_xml::Mode) -> bool {
        self.size != Size::default()
    }
}
