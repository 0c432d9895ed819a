//! What a port says of its card's traffic, as named values.

use std::sync::Arc;

use virt_api::common::v1alpha1::{TypedParam, typed_param::Value};
use virt_consts::*;
use virt_error::{Code, Domain, Error, Result};
use virt_model::domain::net::{Bandwidth, Rate};
use virt_object::owner::{Class, Spec};

use super::ports;
use crate::network::{Network as Handle, invalid};
use crate::{shares, status};

type Field = fn(&mut Rate) -> &mut Option<u64>;

/// Names, whether they are of what comes in, and where they belong. The order is that of answers.
const NAMES: [(&str, bool, Field); 7] = [
    (VIR_NETWORK_PORT_BANDWIDTH_IN_AVERAGE, true, |r| &mut r.average),
    (VIR_NETWORK_PORT_BANDWIDTH_IN_PEAK, true, |r| &mut r.peak),
    (VIR_NETWORK_PORT_BANDWIDTH_IN_FLOOR, true, |r| &mut r.floor),
    (VIR_NETWORK_PORT_BANDWIDTH_IN_BURST, true, |r| &mut r.burst),
    (VIR_NETWORK_PORT_BANDWIDTH_OUT_AVERAGE, false, |r| &mut r.average),
    (VIR_NETWORK_PORT_BANDWIDTH_OUT_PEAK, false, |r| &mut r.peak),
    (VIR_NETWORK_PORT_BANDWIDTH_OUT_BURST, false, |r| &mut r.burst),
];

/// The values of a port: all of a direction that is limited, 0 for what is unset.
pub(super) fn get(network: &Handle, uuid: &[u8]) -> Result<Vec<TypedParam>> {
    let uuid = ports::uuid_of(uuid)?;
    let published = network.published();
    let port =
        published.value.ports.iter().find(|p| p.uuid == Some(uuid)).ok_or_else(|| ports::missing(&uuid))?;
    let limits = port.bandwidth.clone().unwrap_or_default();
    let value = |(name, inbound, field): &(&str, bool, Field)| {
        let mut rate = if *inbound { limits.inbound.clone() } else { limits.outbound.clone() }?;
        let number = field(&mut rate).unwrap_or(0);
        Some(TypedParam {
            field: (*name).to_string(),
            value: Some(Value::Ui(u32::try_from(number).unwrap_or(u32::MAX))),
        })
    };
    Ok(NAMES.iter().filter_map(value).collect())
}

fn bad(text: String) -> Error {
    Error::new(Code::InvalidArg, Domain::Network, text)
}

/// The limits that these values are: what is not named is not limited, nor is a direction without an average.
fn limits(params: &[TypedParam]) -> Result<Bandwidth> {
    let mut limits = Bandwidth::default();
    for param in params {
        let known = NAMES.iter().find(|(name, ..)| *name == param.field);
        let (name, inbound, field) =
            known.ok_or_else(|| bad(format!("parameter '{}' not supported", param.field)))?;
        let Some(Value::Ui(number)) = param.value else {
            return Err(bad(format!("invalid type for parameter '{name}', expected 'uint'")));
        };
        let side = if *inbound { &mut limits.inbound } else { &mut limits.outbound };
        *field(side.get_or_insert_default()) = Some(u64::from(number)).filter(|n| *n > 0);
    }
    for rate in [&mut limits.inbound, &mut limits.outbound] {
        rate.take_if(|r| r.average.is_none() && r.floor.is_none());
    }
    Ok(limits)
}

/// Changes values of a port of an active network.
pub(super) async fn set(network: &Handle, uuid: &[u8], params: Vec<TypedParam>) -> Result<()> {
    let uuid = ports::uuid_of(uuid)?;
    network
        .work(Spec::new("port", Class::Modify), move |work| {
            Box::pin(async move {
                let before = work.published();
                let Some(live) = &before.value.live else { return Err(invalid("network is not running")) };
                let mut all = (*before.value.ports).clone();
                let at =
                    all.iter().position(|p| p.uuid == Some(uuid)).ok_or_else(|| ports::missing(&uuid))?;
                let old = all.remove(at);
                let mut port = old.clone();
                let limits = limits(&params)?;
                port.bandwidth = Some(limits).filter(|l| l.inbound.is_some() || l.outbound.is_some());
                shares::claim(&mut port, live, &all)?;
                status::save_port(work, &port)?;
                // A share that changes is given back and taken anew: it may have another class.
                ports::give_back(work, live, &Arc::new(all.clone()), &old).await;
                all.insert(at, port.clone());
                let all = Arc::new(all);
                let kept = ports::keep(work, live, &all, &port).await;
                work.publish(|p| p.ports = all);
                kept
            })
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(field: &str, value: u32) -> TypedParam {
        TypedParam { field: field.into(), value: Some(Value::Ui(value)) }
    }

    #[test]
    fn what_is_not_named_is_not_limited() {
        let set =
            limits(&[named("inbound.average", 100), named("inbound.peak", 200), named("outbound.peak", 7)])
                .unwrap();
        let inbound = Rate { average: Some(100), peak: Some(200), ..Rate::default() };
        assert_eq!((set.inbound, set.outbound), (Some(inbound), None));
        assert_eq!(limits(&[named("inbound.average", 0)]).unwrap().inbound, None);
        assert!(limits(&[named("inbound.size", 1)]).is_err());
        let text = TypedParam { field: "inbound.average".into(), value: Some(Value::S("1".into())) };
        assert!(limits(&[text]).is_err());
    }
}
