//! Traffic of a guest's network cards that the host can see.

use virt_error::{Code, Domain as From, Error, Result};
use virt_host::link::{self, Statistics};
use virt_model::domain::interface::Interface;
use virt_object::blocking;

use super::Rows;
use crate::config::params::Param;

/// The guest's view: what the host sends to the tap is what the guest receives. A macvtap is the guest's own end.
fn guests_view(s: Statistics, own_end: bool) -> Statistics {
    if own_end {
        return s;
    }
    Statistics {
        rx_packets: s.tx_packets,
        tx_packets: s.rx_packets,
        rx_bytes: s.tx_bytes,
        tx_bytes: s.rx_bytes,
        rx_errors: s.tx_errors,
        tx_errors: s.rx_errors,
        rx_dropped: s.tx_dropped,
        tx_dropped: s.rx_dropped,
    }
}

fn figures(card: &Interface) -> Result<Option<Statistics>> {
    use virt_model::domain::interface::NetSource;
    let Some(device) = &card.target else { return Ok(None) };
    let own_end = matches!(card.connection(), NetSource::Direct(_));
    Ok(link::get(device)?.map(|l| guests_view(l.statistics, own_end)))
}

/// What went through one card.
///
/// # Errors
/// Code 1 for a card whose traffic the host does not see.
pub async fn of_card(card: Interface) -> Result<Statistics> {
    let name = card.target.clone().unwrap_or_default();
    let found = blocking::run(move || figures(&card)).await?;
    found.ok_or_else(|| {
        Error::new(Code::InternalError, From::None, "Interface not found").with("interface", name)
    })
}

/// The group of rows: cards with a device of the host have figures. Blocking.
pub(super) fn rows(cards: &[Interface]) -> Vec<Param> {
    let mut rows = Rows::default();
    rows.count("net.count", cards.len());
    for (at, card) in cards.iter().enumerate() {
        let Some(device) = &card.target else { continue };
        rows.put(format!("net.{at}.name"), crate::config::params::Value::String(device.clone()));
        let Some(s) = figures(card).unwrap_or_default() else { continue };
        for (name, value) in [
            ("rx.bytes", s.rx_bytes),
            ("rx.pkts", s.rx_packets),
            ("rx.errs", s.rx_errors),
            ("rx.drop", s.rx_dropped),
            ("tx.bytes", s.tx_bytes),
            ("tx.pkts", s.tx_packets),
            ("tx.errs", s.tx_errors),
            ("tx.drop", s.tx_dropped),
        ] {
            rows.number(format!("net.{at}.{name}"), value);
        }
    }
    rows.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_are_the_guests() {
        let host = Statistics { tx_bytes: 10, rx_bytes: 3, ..Statistics::default() };
        assert_eq!((guests_view(host, false).rx_bytes, guests_view(host, false).tx_bytes), (10, 3));
        assert_eq!(guests_view(host, true), host);
    }
}
