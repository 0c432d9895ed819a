//! Memory of the machine and of one cell.

use virt_error::{Domain, Error, Result};

use super::Node;

/// `/proc/meminfo`, KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// All memory the kernel manages.
    pub total: u64,
    /// Unused memory.
    pub free: u64,
    /// Block device buffers.
    pub buffers: u64,
    /// Page cache.
    pub cached: u64,
}

impl Node {
    /// The whole machine's memory.
    pub fn memory(&self) -> Memory {
        let info = self.files().read("/proc/meminfo").unwrap_or_default();
        let get = |name| field(&info, name).unwrap_or(0);
        Memory {
            total: get("MemTotal:"),
            free: get("MemFree:"),
            buffers: get("Buffers:"),
            cached: get("Cached:"),
        }
    }

    /// The named values (KiB) of `virNodeGetMemoryStats`: of a cell, or of the machine for -1.
    ///
    /// # Errors
    /// Code 8 for a cell that does not exist.
    pub fn memory_stats(&self, cell: i32) -> Result<Vec<(&'static str, u64)>> {
        if cell < 0 {
            let m = self.memory();
            return Ok(vec![
                ("total", m.total),
                ("free", m.free),
                ("buffers", m.buffers),
                ("cached", m.cached),
            ]);
        }
        let cells = self.cells();
        let last = cells.iter().map(|c| c.id).max().unwrap_or(0);
        match cells.iter().find(|c| i64::from(c.id) == i64::from(cell)) {
            Some(c) => Ok(vec![("total", c.memory), ("free", c.free)]),
            None => {
                let function = "virHostMemGetStats";
                let text = format!("cellNum in {function} must be less than or equal to {last}");
                Err(Error::invalid_arg(Domain::None, function, "cellNum", text))
            }
        }
    }
}

/// One field of a meminfo text, KiB. Cell files put "Node N " before the name.
pub(super) fn field(info: &str, name: &str) -> Option<u64> {
    let line = info.lines().find_map(|l| {
        let l = l.strip_prefix("Node ").and_then(|l| l.split_once(' ')).map_or(l, |(_, rest)| rest);
        l.strip_prefix(name)
    })?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_meminfo() {
        assert_eq!(field("MemTotal:  10 kB\nSwapCached: 1 kB\nCached:   7 kB\n", "Cached:"), Some(7));
        assert_eq!(field("Node 12 MemTotal:  10 kB\nNode 12 MemFree: 3 kB\n", "MemFree:"), Some(3));
        assert_eq!(field("MemTotal: x", "MemTotal:"), None);
    }
}
