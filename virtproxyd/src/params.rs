//! Typed parameters: the wire's form and the gRPC form of a list of named values.

use virt_api::common::v1alpha1::{TypedParam as Rpc, typed_param::Value as RpcValue};
use virt_error::Result;
use virt_wire::remote::{TypedParam, TypedParamValue};

use crate::refusal;

/// From a daemon's answer. A parameter without a value cannot be said on the wire and is left out.
pub fn to_wire(params: Vec<Rpc>) -> Vec<TypedParam> {
    params
        .into_iter()
        .filter_map(|p| Some(TypedParam { value: value_to_wire(p.value?), field: p.field }))
        .collect()
}

fn value_to_wire(value: RpcValue) -> TypedParamValue {
    match value {
        RpcValue::I(v) => TypedParamValue::Int(v),
        RpcValue::Ui(v) => TypedParamValue::Uint(v),
        RpcValue::L(v) => TypedParamValue::Llong(v),
        RpcValue::Ul(v) => TypedParamValue::Ullong(v),
        RpcValue::D(v) => TypedParamValue::Double(v),
        RpcValue::B(v) => TypedParamValue::Boolean(v.into()),
        RpcValue::S(v) => TypedParamValue::String(v),
    }
}

/// From a client's call.
pub fn to_rpc(params: Vec<TypedParam>) -> Vec<Rpc> {
    let convert = |p: TypedParam| Rpc { field: p.field, value: Some(value_to_rpc(p.value)) };
    params.into_iter().map(convert).collect()
}

fn value_to_rpc(value: TypedParamValue) -> RpcValue {
    match value {
        TypedParamValue::Int(v) => RpcValue::I(v),
        TypedParamValue::Uint(v) => RpcValue::Ui(v),
        TypedParamValue::Llong(v) => RpcValue::L(v),
        TypedParamValue::Ullong(v) => RpcValue::Ul(v),
        TypedParamValue::Double(v) => RpcValue::D(v),
        TypedParamValue::Boolean(v) => RpcValue::B(v != 0),
        TypedParamValue::String(v) => RpcValue::S(v),
    }
}

/// The getters' two steps: a client that asks with `room` 0 wants the number only, then asks again with that room.
/// Returns the list to send and the number to report.
pub fn sized<T>(mut items: Vec<T>, room: i32, max: u32) -> Result<(Vec<T>, i32)> {
    let room = room_of(room, max)?;
    if room == 0 {
        let count = i32::try_from(items.len()).unwrap_or(i32::MAX);
        return Ok((Vec::new(), count));
    }
    items.truncate(room);
    let count = i32::try_from(items.len()).unwrap_or(i32::MAX);
    Ok((items, count))
}

/// Checks the room a client says it has against the wire's limit.
pub fn room_of(room: i32, max: u32) -> Result<usize> {
    let room = usize::try_from(room).map_err(|_| refusal::internal("nparams must be non-negative"))?;
    if room <= max as usize { Ok(room) } else { Err(refusal::internal("nparams too large")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_survives_both_ways() {
        let wire: Vec<TypedParam> = [
            TypedParamValue::Int(-1),
            TypedParamValue::Uint(u32::MAX),
            TypedParamValue::Llong(i64::MIN),
            TypedParamValue::Ullong(u64::MAX),
            TypedParamValue::Double(0.5),
            TypedParamValue::Boolean(1),
            TypedParamValue::String("x".into()),
        ]
        .map(|value| TypedParam { field: "f".into(), value })
        .into();
        assert_eq!(to_wire(to_rpc(wire.clone())), wire);
    }

    #[test]
    fn the_first_step_counts_only() {
        assert_eq!(sized(vec![1, 2, 3], 0, 16).unwrap(), (vec![], 3));
        assert_eq!(sized(vec![1, 2, 3], 2, 16).unwrap(), (vec![1, 2], 2));
        assert!(sized(vec![1], 17, 16).is_err());
        assert!(sized(vec![1], -1, 16).is_err());
    }
}
