//! Memory of a guest: the balloon's size, and what its driver in the guest reports.

use serde_json::{Value as Json, json};
use virt_consts::*;
use virt_host::process::Stat;

use super::{Rows, ask, memory_of};
use crate::config::params::Param;
use crate::guest::Published;
use crate::qmp::Client;

/// libvirt's name, API tag, QEMU's name, and whether it is a size in bytes that we tell in KiB.
const REPORTED: &[(&str, i32, &str, bool)] = &[
    ("swap_in", VIR_DOMAIN_MEMORY_STAT_SWAP_IN, "stat-swap-in", true),
    ("swap_out", VIR_DOMAIN_MEMORY_STAT_SWAP_OUT, "stat-swap-out", true),
    ("major_fault", VIR_DOMAIN_MEMORY_STAT_MAJOR_FAULT, "stat-major-faults", false),
    ("minor_fault", VIR_DOMAIN_MEMORY_STAT_MINOR_FAULT, "stat-minor-faults", false),
    ("unused", VIR_DOMAIN_MEMORY_STAT_UNUSED, "stat-free-memory", true),
    ("available", VIR_DOMAIN_MEMORY_STAT_AVAILABLE, "stat-total-memory", true),
    ("usable", VIR_DOMAIN_MEMORY_STAT_USABLE, "stat-available-memory", true),
    ("last-update", VIR_DOMAIN_MEMORY_STAT_LAST_UPDATE, "last-update", false),
    ("disk_caches", VIR_DOMAIN_MEMORY_STAT_DISK_CACHES, "stat-disk-caches", true),
    ("hugetlb_pgalloc", VIR_DOMAIN_MEMORY_STAT_HUGETLB_PGALLOC, "stat-htlb-pgalloc", false),
    ("hugetlb_pgfail", VIR_DOMAIN_MEMORY_STAT_HUGETLB_PGFAIL, "stat-htlb-pgfail", false),
];

/// One figure: name in statistics, API tag, value.
pub type Figure = (&'static str, i32, u64);

/// The group of rows; `rss` is the process's resident memory, KiB.
pub(super) async fn rows(p: &Published, monitor: Option<&Client>, rss: Option<u64>) -> Vec<Param> {
    let mut rows = Rows::default();
    let (current, maximum) = memory_of(p);
    let figures = live(p, monitor, rss).await;
    let actual = figures.iter().find(|f| f.1 == VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON).map(|f| f.2);
    rows.number("balloon.current", actual.unwrap_or(current));
    rows.number("balloon.maximum", maximum);
    for (name, _, value) in figures.iter().filter(|f| f.1 != VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON) {
        rows.number(format!("balloon.{name}"), *value);
    }
    rows.0
}

/// Figures of a running guest, the balloon's actual size (KiB) first; what nobody reports is missing.
pub async fn live(p: &Published, monitor: Option<&Client>, rss: Option<u64>) -> Vec<Figure> {
    let mut figures: Vec<Figure> = Vec::new();
    let document = p.live.as_deref();
    let alias = document.and_then(|d| d.devices.memballoon.as_ref()).and_then(|b| b.info.alias.as_deref());
    if let (Some(monitor), Some(alias)) = (monitor, alias) {
        let arguments = json!({"path": format!("/machine/peripheral/{alias}"), "property": "guest-stats"});
        let (size, told) =
            tokio::join!(ask(monitor, "query-balloon", Json::Null), ask(monitor, "qom-get", arguments));
        if let Some(bytes) = size["actual"].as_u64() {
            figures.push(("current", VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON, bytes / 1024));
        }
        figures.extend(reported(&told));
    }
    figures.extend(rss.map(|rss| ("rss", VIR_DOMAIN_MEMORY_STAT_RSS, rss)));
    figures
}

/// What the guest's driver reported; nothing when it never did.
fn reported(answer: &Json) -> Vec<Figure> {
    if answer["last-update"].as_u64().unwrap_or(0) == 0 {
        return Vec::new();
    }
    let figure = |(name, tag, member, size): &(&'static str, i32, &str, bool)| {
        let holder = if *member == "last-update" { answer } else { &answer["stats"] };
        // The driver leaves out a figure by all ones.
        let value = holder[*member].as_u64().filter(|v| *v != u64::MAX)?;
        Some((*name, *tag, if *size { value / 1024 } else { value }))
    };
    REPORTED.iter().filter_map(figure).collect()
}

/// Resident memory of a process, KiB.
pub fn resident(stat: &Stat) -> u64 {
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    stat.resident_pages.saturating_mul(page) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_reported() {
        let answer = json!({"last-update": 7, "stats": {"stat-swap-in": 2048, "stat-free-memory": u64::MAX, "stat-major-faults": 5}});
        let found = reported(&answer);
        assert_eq!(found, [("swap_in", 0, 2), ("major_fault", 2, 5), ("last-update", 9, 7)]);
        assert!(reported(&json!({"last-update": 0, "stats": {"stat-swap-in": 1}})).is_empty());
        assert!(reported(&Json::Null).is_empty());
    }
}
