//! Traffic of a guest's network cards that the host can see.

use virt_host::files::{Files, KernelFiles};
use virt_object::blocking;

use super::Rows;
use crate::config::params::{Param, Value};
use crate::guest::Published;

/// The guest's view first: what the host sends to the tap is what the guest receives.
const FIGURES: [(&str, &str); 8] = [
    ("rx.bytes", "tx_bytes"),
    ("rx.pkts", "tx_packets"),
    ("rx.errs", "tx_errors"),
    ("rx.drop", "tx_dropped"),
    ("tx.bytes", "rx_bytes"),
    ("tx.pkts", "rx_packets"),
    ("tx.errs", "rx_errors"),
    ("tx.drop", "rx_dropped"),
];

/// The group of rows: cards with a device of the host have figures.
pub(super) async fn rows(p: &Published) -> Vec<Param> {
    let Some(live) = p.live.clone() else { return Vec::new() };
    let read = move || {
        let mut rows = Rows::default();
        rows.count("net.count", live.devices.interfaces.len());
        for (at, card) in live.devices.interfaces.iter().enumerate() {
            let Some(device) = &card.target else { continue };
            rows.put(format!("net.{at}.name"), Value::String(device.clone()));
            for (name, value) in figures(&KernelFiles, device) {
                rows.number(format!("net.{at}.{name}"), value);
            }
        }
        Ok(rows.0)
    };
    blocking::run(read).await.unwrap_or_default()
}

fn figures(files: &dyn Files, device: &str) -> Vec<(&'static str, u64)> {
    let read = |file: &str| files.number(&format!("/sys/class/net/{device}/statistics/{file}"));
    FIGURES.iter().filter_map(|(name, file)| Some((*name, read(file)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt_host::files::FixtureFiles;

    #[test]
    fn directions_are_the_guests() {
        let files = FixtureFiles::new([
            ("/sys/class/net/vnet0/statistics/tx_bytes", "10\n"),
            ("/sys/class/net/vnet0/statistics/rx_bytes", "3\n"),
        ]);
        assert_eq!(figures(&files, "vnet0"), [("rx.bytes", 10), ("tx.bytes", 3)]);
    }
}
