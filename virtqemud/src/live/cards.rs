//! Network cards of a running guest: their descriptors travel over the monitor.

use std::os::fd::{AsFd, OwnedFd};

use serde_json::json;
use virt_error::{Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::interface::Interface;
use virt_object::blocking;
use virt_object::undo::Undo;

use super::{ask, line};
use crate::command::NetFds;
use crate::guest::Work;
use crate::guest::work::with_card;
use crate::net::{self, Connected, Context, fd_names};

/// A card that was connected for a running guest.
pub(super) struct Fresh {
    /// Its alias.
    pub(super) alias: String,
    connected: Connected,
}

impl Fresh {
    /// What QEMU will call its descriptors.
    pub(super) fn names(&self) -> NetFds {
        fd_names(&self.alias, self.connected.tap.len(), self.connected.vhost.len())
    }
}

/// Connects the card at `at` of a document that is about to be the running one.
///
/// # Errors
/// As [`net::connect`].
pub(super) async fn connect(
    work: &Work,
    new: &mut Domain,
    at: usize,
    undo: &mut Undo,
) -> Result<Option<Fresh>> {
    let driver = work.driver.clone();
    let mut steps = std::mem::replace(undo, Undo::new("network card"));
    let status = work.status()?;
    let path = work.run.as_ref().map(|r| r.held.paths.status.clone()).unwrap_or_default();
    let mut guest = new.clone();
    let joined = blocking::run(move || {
        let runtime = tokio::runtime::Handle::current();
        let context = Context::new(&driver.networks, &driver.names, &runtime, &guest);
        let mut card = guest.devices.interfaces[at].clone();
        let mut note = |card: &Interface| with_card(&status, &path, &guest, at, card);
        let connected = net::connect(&mut card, &context, &mut steps, &mut note);
        guest.devices.interfaces[at] = card;
        Ok((guest, steps, connected))
    })
    .await?;
    let (guest, steps, connected) = joined;
    *undo = steps;
    *new = guest;
    Ok(connected?.map(|connected| Fresh { alias: connected.alias.clone(), connected }))
}

/// Hands the descriptors over and adds the card's parts.
///
/// # Errors
/// Code 1 with QEMU's text; nothing stays in QEMU then.
pub(super) async fn add(work: &Work, fresh: Fresh, parts: &[line::Part]) -> Result<()> {
    let names = fresh.names();
    let Connected { tap, vhost, .. } = fresh.connected;
    let all: Vec<(String, OwnedFd)> =
        names.tap.into_iter().zip(tap).chain(names.vhost.into_iter().zip(vhost)).collect();
    let mut given = Vec::new();
    let handed = async {
        for (name, fd) in &all {
            hand(work, name, fd).await?;
            given.push(name.clone());
        }
        line::add(work, parts, Default::default()).await
    };
    let done = handed.await;
    if done.is_err() {
        for name in given {
            // A card that got as far as its netdev has taken the descriptor away already.
            if let Err(error) = ask(work, "closefd", json!({ "fdname": name })).await {
                tracing::debug!(%error, name, "a descriptor that QEMU no longer knows");
            }
        }
    }
    done
}

async fn hand(work: &Work, name: &str, fd: &OwnedFd) -> Result<()> {
    let copy = fd.as_fd().try_clone_to_owned();
    let copy = copy.map_err(|e| Error::system(From::Qemu, "cannot duplicate a descriptor", e))?;
    work.monitor()?.run_untyped_with_fds("getfd", &json!({ "fdname": name }), vec![copy]).await?;
    Ok(())
}
