//! What a card holds on the host beside its descriptors; always found again from the live document.

use uuid::Uuid;
use virt_host::link;
use virt_model::domain::interface::{Interface, NetSource};
use virt_object::blocking;

use super::{Networks, filter, tap};

/// Given back when the card or its guest goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The card.
    pub alias: String,
    /// Network and port.
    port: Option<(String, Uuid)>,
    /// A macvtap, which does not go by itself.
    link: Option<String>,
    /// Program and tap: told that the tap goes.
    downscript: Option<(String, String)>,
    /// A tap with a network filter on it.
    filtered: Option<String>,
}

impl Holding {
    /// What a card of a running guest holds; `None`: nothing.
    pub fn of(card: &Interface) -> Option<Self> {
        let port = match &card.source {
            NetSource::Network(n) => n.network.clone().zip(n.port_id),
            _ => None,
        };
        let direct = matches!(card.connection(), NetSource::Direct(_));
        let link = card.target.clone().filter(|_| direct);
        let downscript = match card.source {
            NetSource::Ethernet(_) => card.downscript.clone().zip(card.target.clone()),
            _ => None,
        };
        let alias = card.info.alias.clone().unwrap_or_default();
        let held = Self { alias, port, link, downscript, filtered: filter::filtered(card) };
        held.holds().then_some(held)
    }

    /// Only the port, or only the rest.
    pub(super) fn part(self, port: bool) -> Option<Self> {
        let part = match port {
            true => Self { link: None, downscript: None, filtered: None, ..self },
            false => Self { port: None, ..self },
        };
        part.holds().then_some(part)
    }

    fn holds(&self) -> bool {
        self.port.is_some() || self.link.is_some() || self.downscript.is_some() || self.filtered.is_some()
    }

    /// The port alone, if there is one.
    pub fn only_port(self) -> Option<Self> {
        self.part(true)
    }

    /// The network and the port.
    pub fn port(&self) -> Option<&(String, Uuid)> {
        self.port.as_ref()
    }

    /// All that a document's cards hold.
    pub fn all(cards: &[Interface]) -> Vec<Self> {
        cards.iter().filter_map(Self::of).collect()
    }

    /// Gives everything back; what cannot be given back is logged.
    pub async fn release(self, networks: &Networks) {
        let Self { alias, port, link, downscript, filtered } = self;
        if let Some(name) = filtered
            && let Err(error) = filter::take_off(networks, &name).await
        {
            tracing::warn!(%error, alias, "a network filter stays on a card that is gone");
        }
        if let Some(name) = link
            && let Err(error) = blocking::run(move || link::remove(&name)).await
        {
            tracing::warn!(%error, alias, "a macvtap stays");
        }
        if let Some((program, name)) = downscript
            && let Err(error) = blocking::run(move || tap::run_script(&program, &name)).await
        {
            tracing::warn!(%error, alias, "a script for the end of a card");
        }
        if let Some((network, port)) = port
            && let Err(error) = networks.give_back(&network, port).await
        {
            tracing::warn!(%error, alias, network, "a port is not given back");
        }
    }
}
