//! What a network keeps of its rate for a card (`floor`): a class of traffic control on its bridge for each.
//!
//! A port's class is in its file, so a daemon that comes back knows whose the kernel's classes are.

use virt_error::{Code, Domain, Error, Result};
use virt_host::link::{self, Limit, Share};
use virt_model::domain::net::{Bandwidth, Rate};
use virt_model::network::Network as Document;
use virt_model::network::port::NetworkPort;

/// What is kept for a port's card.
fn floor(port: &NetworkPort) -> Option<u64> {
    port.bandwidth.as_ref()?.inbound.as_ref()?.floor
}

fn class(port: &NetworkPort) -> Option<u32> {
    floor(port).and(port.bandwidth.as_ref()?.class_id)
}

fn inbound(net: &Document) -> Option<&Rate> {
    net.bandwidth.as_ref()?.inbound.as_ref().filter(|r| r.average.is_some())
}

/// Thousands of bytes a second that are kept for all of `ports`.
pub fn sum(ports: &[NetworkPort]) -> u64 {
    ports.iter().filter_map(floor).fold(0, u64::saturating_add)
}

/// The classes in use, as the status file lists them: three are the network's own.
pub fn classes(ports: &[NetworkPort]) -> String {
    let mut used: Vec<u32> =
        (0..u32::from(link::FIRST_SHARE)).chain(ports.iter().filter_map(class)).collect();
    used.sort_unstable();
    used.dedup();
    let runs = used.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        _ => run.first().map(u32::to_string).unwrap_or_default(),
    });
    runs.collect::<Vec<_>>().join(",")
}

/// Checks that what `port` asks for can be kept beside `others`, and gives it a class.
///
/// # Errors
/// Code 67, 84 or 55: the network has no bridge of its own, no rate to keep something of, or not that much left.
pub fn claim(port: &mut NetworkPort, net: &Document, others: &[NetworkPort]) -> Result<()> {
    let mac = port.mac.map(|m| m.to_string()).unwrap_or_default();
    let Some(wanted) = floor(port) else { return Ok(()) };
    let lead = format!("Invalid use of 'floor' on interface with MAC address {mac} - ");
    if !net.owns_bridge() {
        let text = format!(
            "{lead}'floor' is only supported for interface type 'network' with forward type 'nat', 'route', 'open' or none"
        );
        return Err(Error::new(Code::ConfigUnsupported, Domain::Network, text));
    }
    let name = net.name();
    let Some(rate) = inbound(net) else {
        let text = format!("{lead}network '{name}' has no inbound QoS set");
        return Err(Error::new(Code::OperationUnsupported, Domain::Network, text));
    };
    let (most, what) = match rate.peak {
        Some(peak) => (peak, "peak"),
        None => (rate.average.unwrap_or(0), "average"),
    };
    if sum(others).saturating_add(wanted) > most {
        let bridge = net.bridge.name.as_deref().unwrap_or_default();
        let text = format!(
            "Cannot plug '{mac}' interface into '{bridge}' because it would overcommit '{what}' on network '{name}'"
        );
        return Err(Error::new(Code::OperationInvalid, Domain::Network, text));
    }
    let free = (u32::from(link::FIRST_SHARE)..=u32::from(u16::MAX - 1))
        .find(|id| others.iter().all(|other| class(other) != Some(*id)));
    let limits = port.bandwidth.get_or_insert_with(Bandwidth::default);
    limits.class_id = Some(free.ok_or_else(|| Error::internal(Domain::Network, "no free traffic class"))?);
    Ok(())
}

/// The network's whole limit, and what of it is kept for nobody.
fn limit(net: &Document, ports: &[NetworkPort]) -> Option<(Limit, u64)> {
    let rate = inbound(net)?;
    let average = rate.average?;
    Some((Limit { average, peak: rate.peak, burst: rate.burst }, average.saturating_sub(sum(ports))))
}

fn share(port: &NetworkPort) -> Option<Share> {
    let class = u16::try_from(class(port)?).ok()?;
    Some(Share { class, floor: floor(port)?, mac: port.mac?.0 })
}

/// Keeps what `port`, one of `ports`, has claimed. Blocking.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn keep(net: &Document, ports: &[NetworkPort], port: &NetworkPort) -> Result<()> {
    let (Some(share), Some((limit, rest)), Some(bridge)) = (share(port), limit(net, ports), &net.bridge.name)
    else {
        return Ok(());
    };
    link::set_share(bridge, limit, rest, &share)
}

/// Gives back what was kept for `port`, of which `ports` has no more. Blocking.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn give_back(net: &Document, ports: &[NetworkPort], port: &NetworkPort) -> Result<()> {
    let (Some(share), Some((limit, rest)), Some(bridge)) = (share(port), limit(net, ports), &net.bridge.name)
    else {
        return Ok(());
    };
    link::remove_share(bridge, limit, rest, share.class)
}

/// Keeps for all of `ports` again what they have, after the bridge's limits were made anew. Blocking.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn keep_all(net: &Document, ports: &[NetworkPort]) -> Result<()> {
    ports.iter().try_for_each(|port| keep(net, ports, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(bandwidth: &str) -> Document {
        let xml = format!("<network><name>n</name><bridge name='b'/>{bandwidth}</network>");
        Document::parse(&xml, virt_model::Mode::CONFIG).unwrap()
    }

    fn port(floor: u64) -> NetworkPort {
        let xml = format!(
            "<networkport><uuid>5f0a3d4e-6b1c-4c6e-9d8d-2f7b3a1c0e42</uuid><owner><name>g</name>\
             <uuid>5f0a3d4e-6b1c-4c6e-9d8d-2f7b3a1c0e43</uuid></owner><mac address='52:54:00:00:00:01'/>\
             <bandwidth><inbound average='10' floor='{floor}'/></bandwidth></networkport>"
        );
        NetworkPort::parse(&xml).unwrap()
    }

    #[test]
    fn no_more_is_kept_than_there_is() {
        let whole = net("<bandwidth><inbound average='100'/></bandwidth>");
        let (mut first, mut second, mut third) = (port(60), port(40), port(1));
        claim(&mut first, &whole, &[]).unwrap();
        claim(&mut second, &whole, std::slice::from_ref(&first)).unwrap();
        let ports = [first, second];
        assert_eq!((sum(&ports), classes(&ports).as_str()), (100, "0-4"));
        assert_eq!(share(&ports[1]).unwrap().class, 4);
        let text = claim(&mut third, &whole, &ports).unwrap_err().message();
        assert!(text.contains("overcommit 'average' on network 'n'"), "{text}");
        // The first one's class is free again.
        claim(&mut third, &whole, &ports[1..]).unwrap();
        assert_eq!(third.bandwidth.unwrap().class_id, Some(3));
        assert_eq!(classes(&ports[1..]), "0-2,4");
        let text = claim(&mut port(1), &net(""), &[]).unwrap_err().message();
        assert!(text.ends_with("network 'n' has no inbound QoS set"), "{text}");
    }
}
