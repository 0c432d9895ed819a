//! Traffic limits of one network card: KiB a second, bursts in KiB; 0 takes a limit away.

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::interface::{Interface, NetSource};
use virt_model::domain::net::Rate;

use super::{Param, Type, Value, check, row};

/// Names in libvirt's order.
pub const NAMES: [(&str, Type); 7] = [
    ("inbound.average", Type::Uint),
    ("inbound.peak", Type::Uint),
    ("inbound.burst", Type::Uint),
    ("inbound.floor", Type::Uint),
    ("outbound.average", Type::Uint),
    ("outbound.peak", Type::Uint),
    ("outbound.burst", Type::Uint),
];

/// Finds a card by its hardware address or its host name.
///
/// # Errors
/// Code 8 when there is none.
pub fn find(domain: &Domain, device: &str) -> Result<usize> {
    let wanted = device.to_ascii_lowercase();
    let is = |i: &Interface| {
        let mac = i.mac.as_ref().and_then(|m| m.address).map(|a| a.to_string());
        mac.as_deref() == Some(&wanted) || i.target.as_deref() == Some(device)
    };
    domain.devices.interfaces.iter().position(is).ok_or_else(|| {
        let text = format!("'{device}' is not a known interface");
        Error::new(Code::InvalidArg, From::Domain, text)
    })
}

/// Limits of one card.
pub fn get(interface: &Interface) -> Vec<Param> {
    let limits = interface.bandwidth.clone().unwrap_or_default();
    let (inbound, outbound) = (limits.inbound.unwrap_or_default(), limits.outbound.unwrap_or_default());
    let values = [
        inbound.average,
        inbound.peak,
        inbound.burst,
        inbound.floor,
        outbound.average,
        outbound.peak,
        outbound.burst,
    ];
    let number = |v: Option<u64>| Value::Uint(u32::try_from(v.unwrap_or(0)).unwrap_or(u32::MAX));
    NAMES.iter().zip(values).map(|((name, _), value)| row(name, number(value))).collect()
}

/// Sets limits of one card.
///
/// # Errors
/// As [`check`]; code 67 for a card whose traffic the host does not see, code 8 for a peak or burst without average.
pub fn set(interface: &mut Interface, params: &[Param]) -> Result<()> {
    check(params, &NAMES)?;
    let kind = interface.source.tag();
    let shaped = matches!(
        interface.source,
        NetSource::Ethernet(_) | NetSource::Network(_) | NetSource::Bridge(_) | NetSource::Direct(_)
    );
    if !shaped {
        let text = format!("setting bandwidth on interfaces of type '{kind}' is not implemented yet");
        return Err(Error::new(Code::ConfigUnsupported, From::Qemu, text));
    }
    let mut limits = interface.bandwidth.clone().unwrap_or_default();
    for (prefix, rate) in [("inbound.", &mut limits.inbound), ("outbound.", &mut limits.outbound)] {
        let mut new: Rate = rate.clone().unwrap_or_default();
        let mut named = false;
        for Param { name, value } in params {
            let Some(field) = name.strip_prefix(prefix) else { continue };
            named = true;
            let value = Some(u64::from(value.short())).filter(|v| *v > 0);
            match field {
                "average" => new.average = value,
                "peak" => new.peak = value,
                "burst" => new.burst = value,
                _ => new.floor = value,
            }
        }
        if !named {
            continue;
        }
        if new.average.is_none() && new.floor.is_none() {
            let asks = params.iter().any(|p| {
                let part = p.name.strip_prefix(prefix);
                matches!(part, Some("peak" | "burst")) && p.value.short() > 0
            });
            if asks {
                let text = format!("{}bound average is mandatory", &prefix[..prefix.len() - 6]);
                return Err(Error::new(Code::InvalidArg, From::Qemu, text));
            }
            *rate = None;
        } else {
            *rate = Some(new);
        }
    }
    let empty = limits.inbound.is_none() && limits.outbound.is_none();
    interface.bandwidth = (!empty).then_some(limits);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt_model::domain::interface::BridgeNet;

    #[test]
    fn limits_come_and_go() {
        let mut card = Interface::default();
        let limit = |name: &str, value| row(name, Value::Uint(value));
        let text = set(&mut card, &[limit("inbound.average", 1)]).unwrap_err().message();
        assert!(
            text.ends_with("setting bandwidth on interfaces of type 'user' is not implemented yet"),
            "{text}"
        );
        card.source = NetSource::Bridge(BridgeNet { bridge: Some("br0".into()), ..BridgeNet::default() });
        set(&mut card, &[limit("inbound.average", 100), limit("inbound.peak", 200)]).unwrap();
        assert_eq!(get(&card)[1].value, Value::Uint(200));
        assert!(set(&mut card, &[limit("outbound.peak", 7)]).is_err());
        set(&mut card, &[limit("inbound.average", 0)]).unwrap();
        assert_eq!(card.bandwidth, None);
    }
}
