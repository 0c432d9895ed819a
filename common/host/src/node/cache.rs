//! CPU caches that are worth showing: shared ones of level 2 and up.

use super::{Node, list};

/// One cache bank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bank {
    /// The kernel's number, unique for its level.
    pub id: u32,
    /// 2, 3 ...
    pub level: u32,
    /// "both", "code" or "data".
    pub kind: &'static str,
    /// Bytes.
    pub size: u64,
    /// CPUs that share it.
    pub cpus: Vec<u32>,
}

impl Node {
    /// Every bank from level 2 on, lowest level first, then by number.
    pub fn caches(&self) -> Vec<Bank> {
        let mut banks: Vec<Bank> = Vec::new();
        for cpu in self.presence().online {
            let dir = format!("/sys/devices/system/cpu/cpu{cpu}/cache");
            for index in self.files().list(&dir).unwrap_or_default() {
                let found =
                    index.starts_with("index").then(|| self.bank(&format!("{dir}/{index}"))).flatten();
                if let Some(bank) = found
                    .filter(|b| !banks.iter().any(|o| (o.level, o.id, o.kind) == (b.level, b.id, b.kind)))
                {
                    banks.push(bank);
                }
            }
        }
        banks.sort_by_key(|b| (b.level, b.kind, b.id));
        banks
    }

    fn bank(&self, dir: &str) -> Option<Bank> {
        let get = |name: &str| self.files().value(&format!("{dir}/{name}"));
        let level = get("level")?.parse().ok().filter(|l| *l >= 2)?;
        let kind = match get("type")?.as_str() {
            "Unified" => "both",
            "Instruction" => "code",
            "Data" => "data",
            _ => return None,
        };
        let size = get("size")?;
        let kib: u64 = size.trim_end_matches('K').parse().ok()?;
        Some(Bank {
            id: get("id")?.parse().ok()?,
            level,
            kind,
            size: kib.checked_mul(1024)?,
            cpus: list::parse(&get("shared_cpu_list")?),
        })
    }
}
