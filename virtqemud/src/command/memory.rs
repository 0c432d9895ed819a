//! Memory: `-m`, memory objects, NUMA nodes, memory devices, I/O threads.

use serde_json::Value;
use virt_error::{Code, Domain, Error, Result};
use virt_model::Bitmap;

use super::Builder;
use super::address::virtio;
use super::props::{Opts, Props};
use crate::document::types::{
    InterconnectKind, MemoryAccess, MemoryAllocation, MemoryDevice, MemoryModel, MemorySource, NumaCell,
    NumaMode, Sibling, VirtioModel,
};

/// One memory object to be made.
struct Backend<'a> {
    id: &'a str,
    /// Bytes.
    bytes: u64,
    /// The guest node it belongs to.
    node: Option<u32>,
    access: Option<MemoryAccess>,
    discard: Option<bool>,
    /// It is the machine's main memory, given by name.
    main: bool,
    /// A memory device with settings of its own.
    device: Option<&'a MemoryDevice>,
}

impl Builder<'_> {
    /// The guest's NUMA nodes.
    pub(super) fn cells(&self) -> &[NumaCell] {
        self.def.cpu.as_ref().and_then(|c| c.numa.as_ref()).map_or(&[], |n| &n.cells)
    }

    /// Whether memory latencies or caches are described.
    pub(super) fn hmat(&self) -> bool {
        let numa = self.def.cpu.as_ref().and_then(|c| c.numa.as_ref());
        numa.is_some_and(|n| {
            !n.interconnects.latencies.is_empty()
                || !n.interconnects.bandwidths.is_empty()
                || n.cells.iter().any(|c| !c.caches.is_empty())
        })
    }

    /// `-m` and, without NUMA nodes, the main memory's object.
    pub(super) fn memory(&mut self) -> Result<()> {
        let kib = crate::document::memory::initial_kib(self.def);
        let mut opts = Opts::new("").with("size", format!("{kib}k"));
        if let Some(max) = &self.def.max_memory {
            if let Some(slots) = max.slots.filter(|s| *s > 0) {
                opts.put("slots", slots);
            }
            opts.put("maxmem", format!("{}k", max.size.kib));
        }
        self.line.opts("-m", opts);
        if !self.cells().is_empty() {
            return Ok(());
        }
        let Some(id) = self.emulator.machine(self.machine()).and_then(|m| m.default_ram_id.clone()) else {
            return Ok(());
        };
        let backend = Backend {
            id: &id,
            bytes: kib * 1024,
            node: None,
            access: None,
            discard: None,
            main: true,
            device: None,
        };
        let (props, _) = self.backend(&backend)?;
        self.line.object(props);
        Ok(())
    }

    /// The properties of a memory object, and whether anything but plain anonymous memory was asked for.
    fn backend(&self, b: &Backend<'_>) -> Result<(Props, bool)> {
        let backing = &self.def.memory_backing;
        let source = b.device.map(|d| &d.source);
        let path = source.and_then(|s| s.path.clone());
        let page_kib = source.and_then(|s| s.pagesize).map(|p| p.kib).or_else(|| self.page_size(b.node));
        let huge = path.is_none() && page_kib.is_some_and(|p| p != 4);
        let access = b
            .access
            .or(b.device.and_then(|d| d.access))
            .or(backing.access)
            .filter(|a| *a != MemoryAccess::Default);
        let memfd = backing.source == Some(MemorySource::Memfd);
        let file = path.is_some() || huge || backing.source == Some(MemorySource::File);
        // Private memory is a file of its own too: only then does the mapping's kind matter.
        let shared = access.is_some();
        let immediate = backing.allocation.mode == Some(MemoryAllocation::Immediate);
        let device_file = path.is_some();

        let mut props = if device_file {
            Props::object("memory-backend-file", b.id).opt("mem-path", path)
        } else if memfd {
            let props = Props::object("memory-backend-memfd", b.id);
            match page_kib.filter(|_| huge) {
                Some(kib) => props.with("hugetlb", true).with("hugetlbsize", kib * 1024),
                None => props,
            }
        } else if file || shared {
            let folder = match page_kib.filter(|_| huge) {
                Some(kib) => self.launch.hugepage_dir(kib).ok_or_else(|| {
                    Error::internal(
                        Domain::Qemu,
                        match self.launch.hugepages.is_empty() {
                            true => "hugetlbfs filesystem is not mounted or disabled by administrator config"
                                .into(),
                            false => format!("Unable to find any usable hugetlbfs mount for {kib} KiB"),
                        },
                    )
                })?,
                // A module's file has the device's name, not the backend's.
                None => {
                    let name = b.device.and_then(|d| d.info.alias.as_deref()).unwrap_or(b.id);
                    format!("{}/{name}", self.launch.memory_dir)
                }
            };
            Props::object("memory-backend-file", b.id).with("mem-path", folder)
        } else {
            Props::object("memory-backend-ram", b.id)
        };
        let plain = !device_file && !memfd && !file && !shared;
        if !plain {
            let discard = b.discard.or(b.device.and_then(|d| d.discard)).or(backing.discard.then_some(true));
            props = props.opt("discard-data", discard.filter(|_| !memfd && !device_file));
        }
        match access {
            Some(MemoryAccess::Shared) => props.put("share", true),
            Some(MemoryAccess::Private) => props.put("share", false),
            _ => {}
        }
        if b.main && !plain {
            props.put("x-use-canonical-path-for-ramblock-id", false);
        }
        let virtio_memory =
            b.device.is_some_and(|d| matches!(d.model, MemoryModel::VirtioMem | MemoryModel::VirtioPmem));
        let nvdimm = b.device.is_some_and(|d| d.model == MemoryModel::Nvdimm);
        let pmem = source.is_some_and(|s| s.pmem);
        let preallocate = (huge || immediate || nvdimm) && !pmem && !virtio_memory;
        if b.device.is_some_and(|d| d.model == MemoryModel::VirtioMem) {
            props = props.with("reserve", false);
        } else {
            props = props
                .when(preallocate, "prealloc", true)
                .opt("prealloc-threads", backing.allocation.threads.filter(|n| *n > 0));
        }
        props.put("size", b.bytes);
        let (nodes, policy) = self.host_nodes(b);
        if let Some(nodes) = &nodes {
            props.put("host-nodes", nodes.clone());
            props.put("policy", policy);
        }
        if let Some(source) = source {
            props = props.opt("align", source.alignsize.map(|a| a.kib * 1024)).when(pmem, "pmem", true);
        }
        Ok((props, !plain || nodes.is_some() || immediate))
    }

    /// The huge page size a guest node uses, in KiB.
    fn page_size(&self, node: Option<u32>) -> Option<u64> {
        let pages = &self.def.memory_backing.hugepages.as_ref()?.pages;
        let own =
            pages.iter().find(|p| p.nodeset.as_ref().is_some_and(|s| node.is_some_and(|n| s.contains(n))));
        let default = pages.iter().find(|p| p.nodeset.is_none());
        match own.or(default) {
            Some(page) => Some(page.size.kib),
            None if pages.is_empty() => Some(self.launch.default_hugepage_kib),
            None => None,
        }
    }

    fn host_nodes(&self, b: &Backend<'_>) -> (Option<Value>, &'static str) {
        let tune = &self.def.numatune;
        let own = tune.memnodes.iter().find(|m| Some(m.cellid) == b.node);
        let mode = own.and_then(|m| m.mode).or(tune.memory.as_ref().and_then(|m| m.mode)).unwrap_or_default();
        let mask = b
            .device
            .and_then(|d| d.source.nodemask.clone())
            .or(own.map(|m| m.nodeset.clone()))
            .or(tune.memory.as_ref().and_then(|m| m.nodeset.clone()));
        let policy = match mode {
            NumaMode::Strict => "bind",
            NumaMode::Preferred => "preferred",
            NumaMode::Interleave => "interleave",
            // The cgroup alone decides.
            NumaMode::Restrictive => return (None, ""),
        };
        (mask.map(|m| m.iter().collect::<Vec<u32>>().into()), policy)
    }

    /// Guest NUMA nodes with their memory, distances and latencies.
    pub(super) fn numa(&mut self) -> Result<()> {
        let def = self.def;
        let Some(numa) = def.cpu.as_ref().and_then(|c| c.numa.as_ref()).filter(|n| !n.cells.is_empty())
        else {
            return Ok(());
        };
        let hmat = self.hmat();
        let mut made = Vec::new();
        let mut needed = hmat;
        for (i, cell) in numa.cells.iter().enumerate() {
            let node = cell.id.unwrap_or(i as u32);
            let id = format!("ram-node{node}");
            let backend = Backend {
                id: &id,
                bytes: cell.memory.kib.unwrap_or(0) * 1024,
                node: Some(node),
                access: cell.mem_access,
                discard: cell.discard,
                main: false,
                device: None,
            };
            let (props, special) = self.backend(&backend)?;
            needed |= special;
            made.push((node, id, props));
        }
        // Only old machines still take sizes without objects.
        let old = self.emulator.machine(self.machine()).is_some_and(|m| m.numa_mem);
        let objects = needed || !old;
        let initiators: Vec<u32> = numa
            .cells
            .iter()
            .enumerate()
            .filter(|(_, c)| c.cpus.as_ref().is_some_and(|c| !c.is_empty()))
            .map(|(i, c)| c.id.unwrap_or(i as u32))
            .collect();
        for ((node, id, props), cell) in made.into_iter().zip(&numa.cells) {
            let has_memory = cell.memory.kib.unwrap_or(0) > 0;
            if objects && has_memory {
                self.line.object(props);
            }
            let mut opts = Opts::new("node").with("nodeid", node);
            for range in ranges(cell.cpus.as_ref()) {
                opts.put("cpus", range);
            }
            if hmat {
                let own = initiators.contains(&node).then_some(node);
                opts = opts.opt("initiator", own.or_else(|| initiators.first().copied()));
            }
            if has_memory {
                if objects {
                    opts.put("memdev", id);
                } else {
                    opts.put("mem", cell.memory.kib.unwrap_or(0) / 1024);
                }
            }
            self.line.opts("-numa", opts);
        }
        self.distances(&numa.cells);
        if hmat {
            self.interconnects(numa);
        }
        Ok(())
    }

    fn distances(&mut self, cells: &[NumaCell]) {
        if cells.iter().all(|c| c.distances.siblings.is_empty()) {
            return;
        }
        // What QEMU would assume anyway is not said, if all of it is known.
        let usual = |c: &NumaCell, s: &Sibling| s.value == if Some(s.id) == c.id { 10 } else { 20 };
        let known = |c: &NumaCell| {
            c.distances.siblings.len() == cells.len() && c.distances.siblings.iter().all(|s| usual(c, s))
        };
        if cells.iter().all(known) {
            return;
        }
        let number = |i: usize| cells.get(i).and_then(|c| c.id).unwrap_or(i as u32);
        let given = |from: usize, to: usize| {
            let to = number(to);
            cells.get(from)?.distances.siblings.iter().find(|s| s.id == to).map(|s| s.value)
        };
        for from in 0..cells.len() {
            for to in 0..cells.len() {
                let default = if from == to { 10 } else { 20 };
                let value = given(from, to).or_else(|| given(to, from)).unwrap_or(default);
                let opts =
                    Opts::new("dist").with("src", number(from)).with("dst", number(to)).with("val", value);
                self.line.opts("-numa", opts);
            }
        }
    }

    fn interconnects(&mut self, numa: &crate::document::types::Numa) {
        let links =
            [(&numa.interconnects.latencies, "latency"), (&numa.interconnects.bandwidths, "bandwidth")];
        for (list, what) in links {
            for link in list {
                let level = match link.cache.unwrap_or(0) {
                    0 => "memory",
                    1 => "first-level",
                    2 => "second-level",
                    _ => "third-level",
                };
                let kind = match link.kind {
                    InterconnectKind::Read => "read",
                    InterconnectKind::Write => "write",
                    _ => "access",
                };
                let value = if what == "bandwidth" {
                    format!("{}K", kib(link.value, link.unit.as_deref()))
                } else {
                    link.value.to_string()
                };
                let opts = Opts::new("hmat-lb")
                    .with("initiator", link.initiator)
                    .with("target", link.target)
                    .with("hierarchy", level)
                    .with("data-type", format!("{kind}-{what}"))
                    .with(what, value);
                self.line.opts("-numa", opts);
            }
        }
        for (i, cell) in numa.cells.iter().enumerate() {
            for cache in &cell.caches {
                let associativity = match cache.associativity.as_str() {
                    "full" => "complex",
                    other => other,
                };
                let policy = match cache.policy.as_str() {
                    "writeback" => "write-back",
                    "writethrough" => "write-through",
                    other => other,
                };
                let opts = Opts::new("hmat-cache")
                    .with("node-id", cell.id.unwrap_or(i as u32))
                    .with("size", format!("{}K", kib(cache.size.value, cache.size.unit.as_deref())))
                    .with("level", cache.level)
                    .with("associativity", associativity)
                    .with("policy", policy)
                    .with("line", cache.line.value);
                self.line.opts("-numa", opts);
            }
        }
    }

    /// Memory devices.
    pub(super) fn memory_devices(&mut self) -> Result<()> {
        let def = self.def;
        for device in &def.devices.memories {
            self.memory_device(device)?;
        }
        Ok(())
    }

    fn memory_device(&mut self, device: &MemoryDevice) -> Result<()> {
        let alias = device.info.alias.clone().unwrap_or_default();
        let id = format!("mem{alias}");
        let t = &device.target;
        let backend = Backend {
            id: &id,
            bytes: t.size.map_or(0, |s| s.kib * 1024),
            node: t.node,
            access: None,
            discard: None,
            main: false,
            device: Some(device),
        };
        if device.model == MemoryModel::SgxEpc {
            return Err(Error::new(
                Code::ConfigUnsupported,
                Domain::Qemu,
                "sgx-epc memory is not supported by this emulator",
            ));
        }
        let (props, _) = self.backend(&backend)?;
        self.line.object(props);
        // Only PowerPC's NVDIMMs have an identity.
        let pseries = crate::document::machine::is_pseries(self.machine());
        let props = match device.model {
            MemoryModel::Dimm | MemoryModel::Nvdimm => {
                let name = if device.model == MemoryModel::Dimm { "pc-dimm" } else { "nvdimm" };
                let label = t.label.as_ref().map(|l| l.size.kib * 1024);
                let props = Props::driver(name)
                    .opt("node", t.node)
                    .opt("label-size", label)
                    .opt("uuid", device.uuid.map(|u| u.to_string()).filter(|_| pseries))
                    .when(t.readonly, "unarmed", true)
                    .with("memdev", id)
                    .with("id", alias);
                match &device.info.address {
                    Some(crate::document::types::Address::Dimm(a)) => {
                        props.with("slot", a.slot).opt("addr", a.base)
                    }
                    _ => props,
                }
            }
            MemoryModel::VirtioMem => {
                let props =
                    virtio("virtio-mem", Some(VirtioModel::Default), &device.info, &Default::default())
                        .opt("node", t.node)
                        .opt("block-size", t.block.map(|b| b.kib * 1024))
                        .opt("requested-size", t.requested.map(|r| r.kib * 1024).filter(|n| *n > 0))
                        .with("memdev", id)
                        .when(self.preallocates(device), "prealloc", true)
                        .opt("dynamic-memslots", t.dynamic_memslots)
                        .opt("memaddr", t.base)
                        .with("id", alias);
                self.place(props, &device.info)
            }
            _ => {
                let props =
                    virtio("virtio-pmem", Some(VirtioModel::Default), &device.info, &Default::default())
                        .with("memdev", id)
                        .opt("memaddr", t.base)
                        .with("id", alias);
                self.place(props, &device.info)
            }
        };
        self.line.device(props);
        Ok(())
    }

    /// Whether a device that comes and goes in blocks takes each block's memory from the host at once.
    fn preallocates(&self, device: &MemoryDevice) -> bool {
        let page = device.source.pagesize.map(|p| p.kib).or_else(|| self.page_size(device.target.node));
        page.is_some_and(|p| p != 4)
            || self.def.memory_backing.allocation.mode == Some(MemoryAllocation::Immediate)
    }

    /// I/O threads and the main loop's settings.
    pub(super) fn iothreads(&mut self) {
        let def = self.def;
        for id in def.iothread_ids() {
            let none = crate::document::types::Iothread::default();
            let thread = def.iothreadids.iothreads.iter().find(|t| t.id == id).unwrap_or(&none);
            let props = Props::object("iothread", &format!("iothread{id}"))
                .opt("thread-pool-min", thread.thread_pool_min)
                .opt("thread-pool-max", thread.thread_pool_max)
                .opt("poll-max-ns", thread.poll.max)
                .opt("poll-grow", thread.poll.grow)
                .opt("poll-shrink", thread.poll.shrink);
            self.line.object(props);
        }
        if let Some(d) = def
            .defaultiothread
            .as_ref()
            .filter(|d| d.thread_pool_min.is_some() || d.thread_pool_max.is_some())
        {
            let props = Props::object("main-loop", "main-loop")
                .opt("thread-pool-min", d.thread_pool_min)
                .opt("thread-pool-max", d.thread_pool_max);
            self.line.object(props);
        }
    }
}

/// A size with a unit in KiB.
fn kib(value: u64, unit: Option<&str>) -> u64 {
    match unit.unwrap_or("KiB") {
        "B" | "b" | "bytes" => value / 1024,
        "MiB" | "M" => value << 10,
        "GiB" | "G" => value << 20,
        "TiB" | "T" => value << 30,
        _ => value,
    }
}

/// Each run of consecutive numbers: `0-7`, `9`.
fn ranges(set: Option<&Bitmap>) -> Vec<String> {
    let mut out: Vec<(u32, u32)> = Vec::new();
    for n in set.iter().flat_map(|s| s.iter()) {
        match out.last_mut() {
            Some((_, end)) if *end + 1 == n => *end = n,
            _ => out.push((n, n)),
        }
    }
    out.into_iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") }).collect()
}
