//! The cable of a network card.

use serde_json::json;
use virt_error::{Domain as From, Error, Result};
use virt_model::domain::interface::{Interface, LinkState};

use super::ask;
use crate::config::devices::{self, Device};
use crate::guest::Work;

/// Changes a card of a running guest. Only the state of its cable can be changed so far.
///
/// # Errors
/// Code 99 when there is no such card, code 3 for other changes.
pub async fn update(work: &mut Work, wanted: Interface) -> Result<()> {
    let mut live = work.run()?.live.clone();
    let at = devices::find_interface(&live.devices, &wanted)?;
    let old = live.devices.interfaces[at].clone();
    let link = wanted.link;
    devices::update(&mut live, Device::Interface(Box::new(wanted)))?;
    // What a document leaves out, or cannot know of a running guest, stays.
    let mut same = live.devices.interfaces[at].clone();
    same.link = old.link;
    same.info.clone_from(&old.info);
    same.source.clone_from(&old.source);
    same.target.clone_from(&old.target);
    same.model = same.model.or_else(|| old.model.clone());
    if same != old {
        return Err(Error::no_support(From::Qemu, "virDomainUpdateDeviceFlags"));
    }
    let down = |state: Option<LinkState>| state == Some(LinkState::Down);
    if down(link) != down(old.link) {
        let alias = old.info.alias.clone().unwrap_or_default();
        ask(work, "set_link", json!({"name": alias, "up": !down(link)})).await?;
    }
    let run = work.run()?;
    run.live.devices.interfaces[at].link = link;
    work.publish_live()
}
