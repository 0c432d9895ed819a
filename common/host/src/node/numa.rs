//! NUMA cells and their memory pages.

use virt_error::{Code, Domain, Error, Result};

use super::{Node, list, memory};

const NODE_DIR: &str = "/sys/devices/system/node";

/// Pages of one size in a cell (or in the whole machine).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pages {
    /// KiB.
    pub size: u64,
    /// How many there are.
    pub total: u64,
    /// How many nobody uses.
    pub free: u64,
}

/// One NUMA cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The kernel's number.
    pub id: u32,
    /// KiB.
    pub memory: u64,
    /// KiB.
    pub free: u64,
    /// Its CPUs.
    pub cpus: Vec<u32>,
    /// Distances to all online cells, itself included.
    pub distances: Vec<(u32, u32)>,
}

impl Node {
    /// All online cells. A kernel without NUMA shows one cell made of the whole machine.
    pub fn cells(&self) -> Vec<Cell> {
        let Some(online) = self.files().value(&format!("{NODE_DIR}/online")).map(|t| list::parse(&t)) else {
            let memory = self.memory();
            let cpus = self.presence().online;
            return vec![Cell {
                id: 0,
                memory: memory.total,
                free: memory.free,
                cpus,
                distances: Vec::new(),
            }];
        };
        online.iter().map(|id| self.cell(*id, &online)).collect()
    }

    fn cell(&self, id: u32, online: &[u32]) -> Cell {
        let read = |name: &str| self.files().read(&format!("{NODE_DIR}/node{id}/{name}")).unwrap_or_default();
        let info = read("meminfo");
        let distances =
            read("distance").split_whitespace().filter_map(|d| d.parse().ok()).collect::<Vec<u32>>();
        Cell {
            id,
            memory: memory::field(&info, "MemTotal:").unwrap_or(0),
            free: memory::field(&info, "MemFree:").unwrap_or(0),
            cpus: list::parse(&read("cpulist")),
            distances: online.iter().copied().zip(distances).collect(),
        }
    }

    /// The sum of the cells' memory, KiB.
    pub fn total_memory(&self) -> u64 {
        self.cells().iter().map(|c| c.memory).sum()
    }

    /// The sum of the cells' free memory, bytes.
    pub fn free_memory(&self) -> u64 {
        self.cells().iter().map(|c| c.free).sum::<u64>().saturating_mul(1024)
    }

    /// Free memory of up to `max` cells from `start` on, bytes. Cells that are not online count as empty.
    ///
    /// # Errors
    /// Code 1 when `start` is past the last cell.
    pub fn cells_free(&self, start: u32, max: u32) -> Result<Vec<u64>> {
        let cells = self.cells();
        let last = last_cell(&cells);
        if start > last {
            return Err(out_of_range(i64::from(start), last));
        }
        let until = last.min(start.saturating_add(max.saturating_sub(1)));
        let free = |id| cells.iter().find(|c| c.id == id).map_or(0, |c| c.free * 1024);
        Ok((start..=until).map(free).collect())
    }

    /// Every page size with its counts: of one cell, or of the machine when `cell` is `None`. The base page first.
    /// Huge pages are taken out of the base pages' total.
    pub fn pages(&self, cell: Option<u32>) -> Vec<Pages> {
        let base = page_size() / 1024;
        let (memory, free) = match cell {
            Some(id) => self.cells().into_iter().find(|c| c.id == id).map_or((0, 0), |c| (c.memory, c.free)),
            None => self.cells().iter().fold((0, 0), |(m, f), c| (m + c.memory, f + c.free)),
        };
        let dir = match cell {
            Some(id) if self.files().exists(&format!("{NODE_DIR}/node{id}")) => {
                format!("{NODE_DIR}/node{id}/hugepages")
            }
            _ => "/sys/kernel/mm/hugepages".to_string(),
        };
        let mut huge: Vec<Pages> =
            self.files().list(&dir).unwrap_or_default().iter().filter_map(|n| self.huge(&dir, n)).collect();
        huge.sort_by_key(|p| p.size);
        let reserved: u64 = huge.iter().map(|p| p.size * p.total).sum();
        let mut pages =
            vec![Pages { size: base, total: memory.saturating_sub(reserved) / base, free: free / base }];
        pages.append(&mut huge);
        pages
    }

    fn huge(&self, dir: &str, name: &str) -> Option<Pages> {
        let size = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let count = |what: &str| self.files().number(&format!("{dir}/{name}/{what}")).unwrap_or(0);
        Some(Pages { size, total: count("nr_hugepages"), free: count("free_hugepages") })
    }

    /// Free pages of each size (KiB) for up to `count` cells from `start` on; -1 stands for the whole machine.
    ///
    /// # Errors
    /// Code 1 when `start` is past the last cell, code 9 when a size does not exist there.
    pub fn free_pages(&self, sizes: &[u32], start: i32, count: u32) -> Result<Vec<u64>> {
        let last = last_cell(&self.cells());
        if i64::from(start) > i64::from(last) || start < -1 {
            return Err(out_of_range(i64::from(start), last));
        }
        let mut out = Vec::new();
        for cell in i64::from(start)..=i64::from(last).min(i64::from(start) + i64::from(count) - 1) {
            let pages = self.pages(u32::try_from(cell).ok());
            for size in sizes {
                let found = pages.iter().find(|p| p.size == u64::from(*size)).ok_or_else(|| {
                    let text = format!("page size {size} is not available on node {cell}");
                    Error::new(Code::OperationFailed, Domain::None, text)
                })?;
                out.push(found.free);
            }
        }
        Ok(out)
    }
}

fn last_cell(cells: &[Cell]) -> u32 {
    cells.iter().map(|c| c.id).max().unwrap_or(0)
}

fn out_of_range(start: i64, last: u32) -> Error {
    Error::internal(Domain::None, format!("start cell {start} out of range (0-{last})"))
}

/// The base page's size, bytes.
pub fn page_size() -> u64 {
    u64::try_from(rustix::param::page_size()).unwrap_or(4096).max(1024)
}

#[cfg(test)]
mod tests {
    use super::super::cpuid::Recorded;
    use super::*;
    use crate::files::FixtureFiles;
    use std::sync::Arc;

    fn node() -> Node {
        let files = FixtureFiles::new([
            ("/sys/devices/system/node/online", "0,2\n"),
            ("/sys/devices/system/node/node0/cpulist", "0-1\n"),
            ("/sys/devices/system/node/node0/distance", "10 21\n"),
            (
                "/sys/devices/system/node/node0/meminfo",
                "Node 0 MemTotal:  40960 kB\nNode 0 MemFree:   8192 kB\n",
            ),
            ("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "4\n"),
            ("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "3\n"),
            ("/sys/devices/system/node/node2/cpulist", "\n"),
            ("/sys/devices/system/node/node2/distance", "21 10\n"),
            (
                "/sys/devices/system/node/node2/meminfo",
                "Node 2 MemTotal:  1000 kB\nNode 2 MemFree:   500 kB\n",
            ),
        ]);
        Node::fixture(Arc::new(files), Arc::new(Recorded::default()))
    }

    #[test]
    fn cells_and_holes() {
        let node = node();
        let cells = node.cells();
        assert_eq!(cells.len(), 2);
        assert_eq!(cells[0].distances, [(0, 10), (2, 21)]);
        assert_eq!(node.total_memory(), 41960);
        assert_eq!(node.cells_free(0, 8).unwrap(), [8192 * 1024, 0, 500 * 1024]);
        let text = node.cells_free(5, 1).unwrap_err().message();
        assert_eq!(text, "internal error: start cell 5 out of range (0-2)");
    }

    #[test]
    fn pages_of_a_cell() {
        let node = node();
        let pages = node.pages(Some(0));
        let base = page_size() / 1024;
        assert_eq!(pages[0].total, (40960 - 8192) / base);
        assert_eq!(pages[1], Pages { size: 2048, total: 4, free: 3 });
        assert_eq!(node.free_pages(&[2048], 0, 1).unwrap(), [3]);
        let text = node.free_pages(&[8], 0, 1).unwrap_err().message();
        assert_eq!(text, "operation failed: page size 8 is not available on node 0");
    }
}
