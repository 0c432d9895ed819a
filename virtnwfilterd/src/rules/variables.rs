//! One rule with variables becomes one rule for each set of values.
//!
//! Variables with the same iterator advance together, different iterators are combined in all ways. A value is read as
//! the attribute's own kind, so it can be nothing else.

use std::collections::BTreeMap;

use virt_error::{Domain, Error, Result};
use virt_model::nwfilter::rule::{Body, Item, illegal};
use virt_model::nwfilter::value::Value;
use virt_model::nwfilter::variable::{Access, Parameters, VarRef};

use super::plan::too_many;

/// How many rules one rule may become.
const MOST: usize = 10_000;

/// All forms of a rule's body.
///
/// # Errors
/// Code 1 when a variable has no value, one that its attribute cannot have, or lists to be walked together differ in
/// length.
pub fn expand(body: &Body, parameters: &Parameters) -> Result<Vec<Body>> {
    let mut iterators: BTreeMap<u32, usize> = BTreeMap::new();
    for var in body.items.iter().filter_map(variable) {
        let Access::Iterator(id) = var.access else { continue };
        let length = values(var, parameters)?.len();
        if *iterators.entry(id).or_insert(length) != length {
            let text = "Cardinality of list items must be the same for processing them in parallel";
            return Err(Error::internal(Domain::Nwfilter, text));
        }
    }
    let total = iterators.values().try_fold(1_usize, |all, n| all.checked_mul(*n));
    let total = total.filter(|n| *n <= MOST).ok_or_else(too_many)?;
    (0..total).map(|turn| form(body, parameters, &iterators, turn)).collect()
}

fn variable(item: &Item) -> Option<&VarRef> {
    match &item.value {
        Value::Var(var) => Some(var),
        _ => None,
    }
}

fn values<'p>(var: &VarRef, parameters: &'p Parameters) -> Result<&'p [String]> {
    parameters.get(&var.name).filter(|v| !v.is_empty()).ok_or_else(|| missing(&var.name))
}

/// "Cannot instantiate filter ...", naming what is missing.
pub fn missing(names: &str) -> Error {
    Error::internal(
        Domain::Nwfilter,
        format!(
            "Cannot instantiate filter due to unresolvable variables or unavailable list elements: {names}"
        ),
    )
}

fn form(body: &Body, parameters: &Parameters, iterators: &BTreeMap<u32, usize>, turn: usize) -> Result<Body> {
    // The first iterator turns slowest.
    let mut rest = turn;
    let mut places = BTreeMap::new();
    for (id, length) in iterators.iter().rev() {
        places.insert(*id, rest % length);
        rest /= length;
    }
    let item = |item: &Item| {
        let Some(var) = variable(item) else { return Ok(item.clone()) };
        let place = match var.access {
            Access::Iterator(id) => places.get(&id).copied().unwrap_or(0),
            Access::Element(n) => n as usize,
        };
        let text = values(var, parameters)?.get(place).ok_or_else(|| missing(&var.name))?;
        let value = item.attr.kind.parse_plain(text).ok_or_else(|| illegal(item.attr, text))?;
        Ok(Item { value, ..item.clone() })
    };
    let items = body.items.iter().map(item).collect::<Result<_>>()?;
    Ok(Body { protocol: body.protocol, items })
}
