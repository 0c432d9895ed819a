//! Which rules a card gets: the filter's own and those of all filters it refers to, in their chains and in order.

use std::collections::BTreeSet;
use std::sync::Arc;

use virt_error::{Code, Domain, Error, Result};
use virt_model::nwfilter::protocol::Layer;
use virt_model::nwfilter::rule::Rule;
use virt_model::nwfilter::value::Value;
use virt_model::nwfilter::variable::{Access, Parameters};
use virt_model::nwfilter::{Chain, Entry, Filter};

/// How deep filters may refer to filters.
const DEPTH: usize = 64;
/// How many rules one card may have before variables are filled in.
const RULES: usize = 20_000;

/// A rule where it stands.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The chain; rules about connections stand in one of their own, whatever their filter says.
    pub chain: Chain,
    /// The rule.
    pub rule: Rule,
    /// The values its variables have.
    pub parameters: Arc<Parameters>,
}

/// All rules below `top`, those of a chain in the order in which they are tried.
///
/// # Errors
/// Code 1 when a filter is missing, code 9 for a circle.
pub fn collect(
    top: &str,
    given: &Parameters,
    find: &dyn Fn(&str) -> Option<Arc<Filter>>,
) -> Result<Vec<Placed>> {
    let mut out = Vec::new();
    walk(top, Arc::new(given.clone()), find, 0, &mut out)?;
    // The sort is stable: rules of one priority stay in the order of the documents.
    out.sort_by_key(|p| p.rule.priority);
    Ok(out)
}

fn walk(
    name: &str,
    parameters: Arc<Parameters>,
    find: &dyn Fn(&str) -> Option<Arc<Filter>>,
    depth: usize,
    out: &mut Vec<Placed>,
) -> Result<()> {
    let missing = || Error::internal(Domain::Nwfilter, format!("referenced filter '{name}' is missing"));
    let filter = find(name).ok_or_else(missing)?;
    if depth > DEPTH {
        return Err(looped());
    }
    for entry in &filter.entries {
        match entry {
            Entry::Rule(rule) => {
                if out.len() >= RULES {
                    return Err(too_many());
                }
                let linked = rule.body.as_ref().is_none_or(|b| b.protocol.layer == Layer::Link);
                let chain = if linked { filter.chain.clone() } else { Chain::Root };
                out.push(Placed { chain, rule: rule.clone(), parameters: parameters.clone() });
            }
            Entry::Ref(reference) => {
                // What the card says counts more than what a filter says.
                let all = parameters.over(&reference.parameters);
                walk(&reference.filter, Arc::new(all), find, depth + 1, out)?;
            }
        }
    }
    Ok(())
}

/// The answer to filters that refer to each other in a circle.
pub fn looped() -> Error {
    Error::new(Code::OperationFailed, Domain::Nwfilter, "filter would introduce a loop")
}

/// The answer to more rules than a card can sensibly have.
pub fn too_many() -> Error {
    Error::new(Code::OperationFailed, Domain::Nwfilter, "filter has too many rules")
}

/// Whether `top` leads back to itself. Filters that are not there yet lead nowhere.
pub fn leads_back(top: &Filter, find: &dyn Fn(&str) -> Option<Arc<Filter>>) -> bool {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut open: Vec<String> = top.references().map(|r| r.filter.clone()).collect();
    while let Some(name) = open.pop() {
        if name == top.name {
            return true;
        }
        if seen.insert(name.clone())
            && let Some(filter) = find(&name)
        {
            open.extend(filter.references().map(|r| r.filter.clone()));
        }
    }
    false
}

/// All filters that `top` reaches, itself among them.
pub fn reached(top: &str, find: &dyn Fn(&str) -> Option<Arc<Filter>>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut open = vec![top.to_string()];
    while let Some(name) = open.pop() {
        if let Some(filter) = find(&name) {
            open.extend(filter.references().map(|r| r.filter.clone()).filter(|n| !seen.contains(n)));
        }
        seen.insert(name);
    }
    seen
}

/// The variables that have no value, in the order of their names.
pub fn unresolved(rules: &[Placed]) -> BTreeSet<String> {
    let mut missing = BTreeSet::new();
    for placed in rules {
        let items = placed.rule.body.iter().flat_map(|b| &b.items);
        for var in items.filter_map(|i| if let Value::Var(var) = &i.value { Some(var) } else { None }) {
            let values = placed.parameters.get(&var.name).unwrap_or_default();
            let there = match var.access {
                Access::Iterator(_) => !values.is_empty(),
                Access::Element(n) => (n as usize) < values.len(),
            };
            if !there {
                missing.insert(var.name.clone());
            }
        }
    }
    missing
}
