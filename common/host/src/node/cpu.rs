//! CPUs: which exist, which are online, how they sit in sockets, dies, clusters and cores.

use std::collections::BTreeSet;

use super::{Node, list};

const CPU_DIR: &str = "/sys/devices/system/cpu";

/// One logical CPU with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpu {
    /// The kernel's number.
    pub id: u32,
    /// Package number.
    pub socket: u32,
    /// Die number inside the package.
    pub die: u32,
    /// Cluster number as the kernel shows it; 0 when the kernel knows none.
    pub cluster: u32,
    /// Core number inside the package.
    pub core: u32,
    /// CPUs that share the core, this one included.
    pub siblings: Vec<u32>,
}

/// Counts as `virNodeGetInfo` tells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Online CPUs.
    pub cpus: u32,
    /// NUMA cells; 1 when the cells are not alike.
    pub nodes: u32,
    /// Sockets for each cell.
    pub sockets: u32,
    /// Cores for each socket.
    pub cores: u32,
    /// Threads for each core.
    pub threads: u32,
}

/// Presence and online state of all CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// One more than the highest CPU present.
    pub count: u32,
    /// Numbers of online CPUs.
    pub online: Vec<u32>,
}

impl Node {
    /// Which CPUs exist and are online.
    pub fn presence(&self) -> Presence {
        let files = self.files();
        let present = files.value(&format!("{CPU_DIR}/present")).map(|t| list::parse(&t)).unwrap_or_default();
        let online = match files.value(&format!("{CPU_DIR}/online")) {
            Some(text) => list::parse(&text),
            None => present.clone(),
        };
        let top = present.iter().chain(&online).max().map_or(1, |m| m + 1);
        Presence { count: top, online: if online.is_empty() { vec![0] } else { online } }
    }

    /// Every online CPU with its place.
    pub fn cpus(&self) -> Vec<Cpu> {
        self.presence().online.into_iter().map(|id| self.cpu(id)).collect()
    }

    fn cpu(&self, id: u32) -> Cpu {
        let place = |name: &str| self.files().value(&format!("{CPU_DIR}/cpu{id}/topology/{name}"));
        // The kernel writes -1 (or 65535 on some) where it knows nothing.
        let number =
            |name: &str| place(name).and_then(|t| t.parse().ok()).filter(|n| *n < 65535).unwrap_or(0);
        Cpu {
            id,
            socket: number("physical_package_id"),
            die: number("die_id"),
            cluster: number("cluster_id"),
            core: number("core_id"),
            siblings: place("thread_siblings_list").map_or_else(|| vec![id], |t| list::parse(&t)),
        }
    }

    /// The counts of `virNodeGetInfo`. When the product of cells, sockets, cores and threads does not describe the
    /// machine, everything is told as one socket of as many cores as there are CPUs, as libvirt does.
    pub fn shape(&self) -> Shape {
        let cpus = self.cpus();
        let total = count(cpus.len());
        let cells: Vec<Vec<u32>> =
            self.cells().into_iter().map(|c| c.cpus).filter(|c| !c.is_empty()).collect();
        let nodes = count(cells.len()).max(1);
        let (mut sockets, mut cores, mut threads) = (1, 1, 1);
        for cell in &cells {
            let here: Vec<&Cpu> = cpus.iter().filter(|c| cell.contains(&c.id)).collect();
            let packages: BTreeSet<u32> = here.iter().map(|c| c.socket).collect();
            sockets = sockets.max(count(packages.len()));
            for package in packages {
                let of = here.iter().filter(|c| c.socket == package);
                let ids: BTreeSet<(u32, u32)> = of.clone().map(|c| (c.die, c.core)).collect();
                cores = cores.max(count(ids.len()));
                threads = threads.max(of.map(|c| count(c.siblings.len())).max().unwrap_or(1));
            }
        }
        if cells.is_empty() || nodes * sockets * cores * threads != total {
            return Shape { cpus: total, nodes: 1, sockets: 1, cores: total, threads: 1 };
        }
        Shape { cpus: total, nodes, sockets, cores, threads }
    }

    /// The first CPU's speed in MHz, 0 when the kernel does not tell.
    pub fn mhz(&self) -> u32 {
        let info = self.files().read("/proc/cpuinfo").unwrap_or_default();
        let line = info.lines().find(|l| l.starts_with("cpu MHz") || l.starts_with("clock"));
        let value = line.and_then(|l| l.split_once(':')).map(|(_, v)| v.trim().trim_end_matches("MHz"));
        value.and_then(|v| v.split('.').next()).and_then(|v| v.parse().ok()).unwrap_or(0)
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The machine's architecture by libvirt's name.
pub fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86" => "i686",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        "arm" => "armv7l",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::cpuid::Recorded;
    use super::*;
    use crate::files::FixtureFiles;
    use std::sync::Arc;

    fn node(files: FixtureFiles) -> Node {
        Node::fixture(Arc::new(files), Arc::new(Recorded::default()))
    }

    fn place(files: &FixtureFiles, id: u32, socket: u32, core: u32, siblings: &str) {
        for (name, value) in [("physical_package_id", socket.to_string()), ("core_id", core.to_string())] {
            files.set(&format!("{CPU_DIR}/cpu{id}/topology/{name}"), &value);
        }
        files.set(&format!("{CPU_DIR}/cpu{id}/topology/thread_siblings_list"), siblings);
        files.set(&format!("{CPU_DIR}/cpu{id}/topology/cluster_id"), "-1\n");
    }

    #[test]
    fn two_cells_with_threads() {
        let files = FixtureFiles::new([
            ("/sys/devices/system/cpu/present", "0-7\n"),
            ("/sys/devices/system/cpu/online", "0-7\n"),
            ("/sys/devices/system/node/online", "0-1\n"),
            ("/sys/devices/system/node/node0/cpulist", "0-3\n"),
            ("/sys/devices/system/node/node1/cpulist", "4-7\n"),
        ]);
        for id in 0..8 {
            let first = id / 2 * 2;
            place(&files, id, id / 4, id / 2 % 2, &format!("{first}-{}", first + 1));
        }
        let node = node(files);
        assert_eq!(node.shape(), Shape { cpus: 8, nodes: 2, sockets: 1, cores: 2, threads: 2 });
        assert_eq!(node.cpus()[5].siblings, [4, 5]);
        assert_eq!(node.cpus()[5].cluster, 0);
    }

    #[test]
    fn odd_machines_are_flat() {
        let files = FixtureFiles::new([
            ("/sys/devices/system/cpu/present", "0-3"),
            ("/sys/devices/system/cpu/online", "0-1,3"),
            ("/sys/devices/system/node/online", "0"),
            ("/sys/devices/system/node/node0/cpulist", "0-1,3"),
        ]);
        for id in [0, 1, 3] {
            place(&files, id, 0, id / 2, if id == 3 { "3" } else { "0-1" });
        }
        let node = node(files);
        assert_eq!(node.shape(), Shape { cpus: 3, nodes: 1, sockets: 1, cores: 3, threads: 1 });
        assert_eq!(node.presence(), Presence { count: 4, online: vec![0, 1, 3] });
    }

    #[test]
    fn speed_is_the_first_cpus() {
        let text =
            "processor\t: 0\nmodel name\t: x\ncpu MHz\t\t: 2599.998\n\nprocessor\t: 1\ncpu MHz\t\t: 800.0\n";
        assert_eq!(node(FixtureFiles::new([("/proc/cpuinfo", text)])).mhz(), 2599);
        assert_eq!(node(FixtureFiles::default()).mhz(), 0);
    }
}
