//! Bindings: a filter put on a card, taken off, and found again after a restart.
//!
//! ```text
//!   create: rules worked out -> status file -> rules in force -> published -> learner started
//!                 |
//!                 `-- the address is not known: only questions for one pass, until the learner has found it
//!   delete: rules out of force -> published -> status file
//!   adopt:  status files and learned addresses -> all rules in force in one step
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use virt_error::{Code, Domain, Error, Result};
use virt_host::link;
use virt_model::nwfilter::Filter as Document;
use virt_model::nwfilter::binding::{Binding, BindingStatus};
use virt_model::nwfilter::variable::Parameters;
use virt_object::blocking;
use virt_object::store::write_whole;

use crate::driver::{Bound, Driver, Work};
use crate::learn::{self, Learner, Lease, Method};
use crate::rules::card::{build, check_port, while_learning};
use crate::rules::nft::{Abilities, Card};
use crate::rules::plan::{Placed, collect, unresolved};
use crate::rules::variables::missing;

/// The card's own address as a variable.
const MAC: &str = "MAC";
/// The guest's addresses as a variable.
const IP: &str = "IP";
/// Who may give out addresses.
const SERVERS: &str = "DHCPSERVER";
/// How addresses are learned.
const METHOD: &str = "CTRL_IP_LEARNING";

/// A card's rules as its filter, its variables and what was learned say.
///
/// # Errors
/// What the rules cannot do; nothing is changed.
pub fn card(
    bound: &Bound,
    find: &dyn Fn(&str) -> Option<Arc<Document>>,
    abilities: Abilities,
) -> Result<Card> {
    let binding = &bound.binding;
    check_port(&binding.port)?;
    let plan = planned(bound, find)?;
    let open = unresolved(&plan);
    match method(binding)? {
        Some(method) if open.len() == 1 && open.contains(IP) => {
            while_learning(&binding.port, binding.mac, method == Method::Any, abilities)
        }
        _ if open.is_empty() => build(&binding.port, &plan, abilities),
        _ => Err(missing(&open.into_iter().collect::<Vec<_>>().join(", "))),
    }
}

fn planned(bound: &Bound, find: &dyn Fn(&str) -> Option<Arc<Document>>) -> Result<Vec<Placed>> {
    let mut parameters: Parameters = bound.binding.filter.parameters.clone();
    parameters.set(MAC, vec![bound.binding.mac.to_string()]);
    if !bound.leases.is_empty() && parameters.get(IP).is_none() {
        parameters.set(IP, bound.leases.iter().map(|l| l.address.to_string()).collect());
    }
    collect(&bound.binding.filter.filter, &parameters, find)
}

/// How the card's address is learned; `None` for not at all.
fn method(binding: &Binding) -> Result<Option<Method>> {
    match binding.filter.parameters.get(METHOD).and_then(|v| v.first()).map(String::as_str) {
        None => Ok(Some(Method::Any)),
        Some(v) if v.eq_ignore_ascii_case("any") => Ok(Some(Method::Any)),
        Some(v) if v.eq_ignore_ascii_case("dhcp") => Ok(Some(Method::Dhcp)),
        Some(v) if v.eq_ignore_ascii_case("none") => Ok(None),
        Some(v) => {
            let text = format!("filter '{}' learning value '{v}' invalid.", binding.filter.filter);
            Err(Error::new(Code::ParseFailed, Domain::Nwfilter, text))
        }
    }
}

/// Starts to look for the card's address if its rules need one that nobody told.
fn learner(driver: &Arc<Driver>, bound: &Bound) -> Option<Arc<Learner>> {
    let binding = &bound.binding;
    let method = method(binding).ok()??;
    let told = binding.filter.parameters.get(IP).is_some();
    let without = Bound { leases: Vec::new(), ..bound.clone() };
    let plan = planned(&without, &|n| driver.document(n)).ok()?;
    let needed = unresolved(&plan).contains(IP);
    // One address is enough for the simple method.
    let known = method == Method::Any && !bound.leases.is_empty();
    if told || !needed || known {
        return None;
    }
    let servers = binding.filter.parameters.get(SERVERS).unwrap_or_default();
    let task = learn::Task {
        port: binding.port.clone(),
        mac: binding.mac,
        method,
        servers: servers.iter().filter_map(|s| s.parse().ok()).collect(),
        known: bound.leases.clone(),
    };
    Some(Arc::new(Learner::start(driver, task)))
}

fn status_file(driver: &Driver, port: &str) -> PathBuf {
    driver.folders.bindings.join(format!("{port}.xml"))
}

fn write_status(driver: &Driver, binding: &Binding) -> Result<()> {
    let path = status_file(driver, &binding.port);
    let text = BindingStatus(binding.clone()).format();
    write_whole(&path, &[text.as_bytes()], false).map_err(|e| {
        Error::system(Domain::Nwfilter, format!("Failed to create file '{}'", path.display()), e)
    })
}

fn remove_status(driver: &Driver, port: &str) {
    let path = status_file(driver, port);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            tracing::error!(error = %e, path = %path.display(), "cannot remove");
        }
        _ => {}
    }
}

/// Puts a filter on a card.
///
/// # Errors
/// What the document refuses, code 9 when the card has one, what the rules cannot do; nothing is left behind then.
pub async fn create(driver: &Arc<Driver>, xml: String) -> Result<Bound> {
    let mut binding = blocking::run(move || Binding::parse(&xml)).await?;
    check_port(&binding.port)?;
    if link::exists(&binding.port) {
        binding.filter.parameters.set(MAC, vec![binding.mac.to_string()]);
    }
    let this = driver.clone();
    driver.change("create", move |work| Box::pin(put_on(work, this, binding))).await
}

async fn put_on(work: &mut Work, driver: Arc<Driver>, binding: Binding) -> Result<Bound> {
    let port = binding.port.clone();
    if driver.bindings.load().value.contains_key(&port) {
        let text = format!("binding '{port}' already exists");
        return Err(Error::new(Code::OperationFailed, Domain::Nwfilter, text));
    }
    let mut bound = Bound { binding, leases: Vec::new(), learner: None };
    let abilities = work.force.abilities().await?;
    let made = match card(&bound, &|n| driver.document(n), abilities) {
        Ok(made) => Some(made),
        // Of a device that is not there nothing is put in force; what is wrong is told when it is.
        Err(error) if !link::exists(&port) => {
            tracing::info!(%error, port, "a binding of a device that is not there has no rules");
            None
        }
        Err(error) => return Err(error),
    };
    write_status(&driver, &bound.binding)?;
    if let Some(made) = made {
        if let Err(error) = work.force.change(vec![(port.clone(), Some(made))]).await {
            remove_status(&driver, &port);
            return Err(error);
        }
        bound.learner = learner(&driver, &bound);
    }
    driver.publish(|all| drop(all.insert(port, bound.clone())));
    tracing::info!(port = bound.binding.port, filter = bound.binding.filter.filter, "filter on a card");
    Ok(bound)
}

/// Takes the filter off a card.
///
/// # Errors
/// Code 101 when there is none, code 1 with nft's words.
pub async fn delete(driver: &Arc<Driver>, port: String) -> Result<()> {
    let this = driver.clone();
    driver
        .change("delete", move |work| {
            Box::pin(async move {
                this.binding(&port)?;
                work.force.change(vec![(port.clone(), None)]).await?;
                this.publish(|all| drop(all.remove(&port)));
                remove_status(&this, &port);
                learn::save(&this);
                Ok(())
            })
        })
        .await
}

/// A learner has found or lost addresses: the card's rules follow.
///
/// # Errors
/// What the rules cannot do; the old ones stay in force then.
pub async fn learned(driver: &Arc<Driver>, port: String, leases: Vec<Lease>) -> Result<()> {
    let this = driver.clone();
    driver
        .change("learn", move |work| {
            Box::pin(async move {
                let Ok(mut bound) = this.binding(&port) else { return Ok(()) };
                bound.leases = leases;
                let abilities = work.force.abilities().await?;
                let made = card(&bound, &|n| this.document(n), abilities)?;
                work.force.change(vec![(port.clone(), Some(made))]).await?;
                this.publish(|all| drop(all.insert(port, bound)));
                learn::save(&this);
                Ok(())
            })
        })
        .await
}

/// Puts the bindings of an earlier daemon into force again. A card that is gone takes its binding along; one whose
/// rules cannot be worked out any more is shut.
///
/// # Errors
/// Code 38 when the folder cannot be read, code 1 with nft's words.
pub async fn adopt(driver: &Arc<Driver>) -> Result<usize> {
    let this = driver.clone();
    let found = blocking::run(move || read_status(&this)).await?;
    if found.is_empty() {
        return Ok(0);
    }
    let this = driver.clone();
    driver
        .change("adopt", move |work| {
            Box::pin(async move {
                let abilities = work.force.abilities().await?;
                let mut changes = Vec::new();
                for bound in &found {
                    let made = card(bound, &|n| this.document(n), abilities).or_else(|error| {
                        tracing::error!(?error, port = bound.binding.port, "a card is shut");
                        while_learning(&bound.binding.port, bound.binding.mac, false, abilities)
                    })?;
                    changes.push((bound.binding.port.clone(), Some(made)));
                }
                work.force.change(changes).await?;
                let count = found.len();
                for mut bound in found {
                    bound.learner = learner(&this, &bound);
                    this.publish(|all| drop(all.insert(bound.binding.port.clone(), bound)));
                }
                Ok(count)
            })
        })
        .await
}

fn read_status(driver: &Driver) -> Result<Vec<Bound>> {
    let folder = &driver.folders.bindings;
    let failed =
        |e| Error::system(Domain::Nwfilter, format!("cannot open directory '{}'", folder.display()), e);
    let leases = learn::load(driver);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)?.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|e| e != "xml") {
            continue;
        }
        let read = std::fs::read_to_string(&path).map_err(failed).and_then(|t| BindingStatus::parse(&t));
        let binding = match read.and_then(|s| check_port(&s.0.port).map(|()| s.0)) {
            Ok(binding) => binding,
            Err(error) => {
                tracing::error!(?error, path = %path.display(), "a status file cannot be used");
                continue;
            }
        };
        if !link::exists(&binding.port) {
            tracing::info!(port = binding.port, "the card of a binding is gone");
            remove_status(driver, &binding.port);
            continue;
        }
        let leases = leases.get(&binding.port).cloned().unwrap_or_default();
        found.push(Bound { binding, leases, learner: None });
    }
    Ok(found)
}
