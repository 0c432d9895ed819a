//! The rules in force: what the kernel has, and how it gets the next.

use std::collections::BTreeMap;

use virt_error::Result;
use virt_host::nft;

use crate::rules::nft::{Abilities, Card, Tracking, probe_reject, probe_tracking, rebuild, replace};

/// The cards in force. Until the first change it is not known what an earlier daemon has left.
#[derive(Default)]
pub struct Force {
    cards: Option<BTreeMap<String, Card>>,
    abilities: Option<Abilities>,
}

impl Force {
    /// What the kernel can do; asked once.
    ///
    /// # Errors
    /// Code 38 when nft cannot be run.
    pub async fn abilities(&mut self) -> Result<Abilities> {
        if let Some(known) = self.abilities {
            return Ok(known);
        }
        let tracking = match nft::would_apply(&probe_tracking()).await? {
            true => Tracking::Bridge,
            false => Tracking::Marks,
        };
        let reject = nft::would_apply(&probe_reject()).await?;
        if tracking == Tracking::Marks && !hands_over() {
            tracing::warn!(
                "rules about connections match nothing: the kernel lacks nf_conntrack_bridge, and \
                 net.bridge.bridge-nf-call-iptables is off"
            );
        }
        tracing::debug!(?tracking, reject, "firewall");
        Ok(*self.abilities.insert(Abilities { tracking, reject }))
    }

    /// Replaces the rules of some cards, `None` for those that go; all in one step or not at all.
    ///
    /// # Errors
    /// Code 1 with nft's words; the old rules stay in force then.
    pub async fn change(&mut self, changes: Vec<(String, Option<Card>)>) -> Result<()> {
        let abilities = self.abilities().await?;
        let mut next = self.cards.clone().unwrap_or_default();
        for (port, card) in &changes {
            match card {
                Some(card) => drop(next.insert(port.clone(), card.clone())),
                None => drop(next.remove(port)),
            }
        }
        // One known card is replaced by itself; everything else is rare enough to write all again.
        let old = self.cards.as_ref().filter(|old| !old.is_empty() && !next.is_empty());
        let small = match (old, changes.as_slice()) {
            (Some(old), [(port, card)]) => Some(replace(old.get(port), card.as_ref())),
            _ => None,
        };
        let done = match small {
            Some(document) => nft::apply(&document).await.is_ok(),
            None => false,
        };
        if !done {
            // Also when somebody else has taken rules of ours away.
            nft::apply(&rebuild(&next.values().collect::<Vec<_>>(), abilities)).await?;
        }
        self.cards = Some(next);
        Ok(())
    }
}

/// Whether bridges hand their packets to IP's connection tracking.
fn hands_over() -> bool {
    let switch = std::fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables");
    switch.is_ok_and(|s| s.trim() == "1")
}
