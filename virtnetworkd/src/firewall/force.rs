//! What is in force, and changing it one network at a time.

use std::collections::BTreeMap;
use std::path::Path;

use uuid::Uuid;
use virt_error::{Domain, Error, Result};
use virt_host::{netfilter, nft};
use virt_object::blocking;

use super::nft::{Placed, TABLE, change, whole};
use super::{Family, Rule};

/// The folder of the host's own daemon.
const SYSTEM: &str = "/run/libvirt/network";
const FAMILIES: [netfilter::Family; 2] = [netfilter::Family::Ip, netfilter::Family::Ip6];

/// The rules that are, or should be, in force. One change at a time.
pub struct Firewall {
    table: String,
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By network.
    placed: BTreeMap<Uuid, Placed>,
    /// The number the kernel gave its rules when these were last known to be there.
    generation: Option<u32>,
}

impl Firewall {
    /// For the daemon with this folder. One that does not serve the host itself (in development) has a table of its own.
    pub fn new(run: &Path) -> Self {
        let own = (run != Path::new(SYSTEM)).then(|| {
            let mark = |sum: u32, b: u8| (sum ^ u32::from(b)).wrapping_mul(0x0100_0193);
            run.as_os_str().as_encoded_bytes().iter().copied().fold(0x811c_9dc5, mark)
        });
        let table = own.map_or_else(|| TABLE.to_string(), |mark| format!("{TABLE}_{mark:08x}"));
        Self { table, state: tokio::sync::Mutex::default() }
    }

    /// The table of these rules.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Whether these are the rules of a network.
    pub async fn has(&self, network: &Uuid, rules: &[Rule]) -> bool {
        self.state.lock().await.placed.get(network).map_or(rules.is_empty(), |p| p.rules == rules)
    }

    /// Puts the rules of a network into force, instead of those it had.
    ///
    /// # Errors
    /// What nft refuses; the network's old rules are kept then.
    pub async fn set(&self, network: Uuid, bridge: &str, rules: Vec<Rule>) -> Result<()> {
        let new = (!rules.is_empty()).then(|| Placed { bridge: bridge.into(), rules });
        self.replace(network, new).await
    }

    /// Takes the rules of a network out of force.
    ///
    /// # Errors
    /// What nft refuses.
    pub async fn remove(&self, network: Uuid) -> Result<()> {
        self.replace(network, None).await
    }

    async fn replace(&self, network: Uuid, new: Option<Placed>) -> Result<()> {
        let mut state = self.state.lock().await;
        let old = state.placed.get(&network).cloned();
        if old == new {
            return Ok(());
        }
        let others: Vec<&Placed> =
            state.placed.iter().filter(|(u, _)| **u != network).map(|(_, p)| p).collect();
        let document = change(&self.table, old.as_ref(), new.as_ref(), &others);
        match new {
            Some(new) => state.placed.insert(network, new),
            None => state.placed.remove(&network),
        };
        let before = generation().await;
        if let Err(error) = nft::apply(&document).await {
            // Somebody took something away that the change stands on.
            tracing::debug!(%error, "rules of networks are written anew");
            if let Err(error) = nft::apply(&whole(&self.table, &state.all())).await {
                match old {
                    Some(old) => state.placed.insert(network, old),
                    None => state.placed.remove(&network),
                };
                return Err(error);
            }
            state.generation = None;
            return Ok(());
        }
        // Only when nobody changed anything at the same time is it known what is there.
        let own = before.is_some() && before == state.generation;
        state.generation =
            generation().await.filter(|now| own && before.map(|b| b.wrapping_add(1)) == Some(*now));
        Ok(())
    }

    /// Sets the rules of all networks anew, whatever there is.
    ///
    /// # Errors
    /// What nft refuses.
    pub async fn start(&self, networks: impl IntoIterator<Item = (Uuid, Placed)>) -> Result<()> {
        let mut state = self.state.lock().await;
        state.placed = networks.into_iter().filter(|(_, p)| !p.rules.is_empty()).collect();
        state.generation = None;
        // Without networks there mostly is no table either, and nothing to do. Who may not look has none: a user's own daemon.
        let table = self.table.clone();
        let left = || {
            blocking::run(move || {
                Ok(FAMILIES.iter().any(|f| {
                    netfilter::has_table(*f, &table)
                        .unwrap_or_else(|e| e.kind() != std::io::ErrorKind::PermissionDenied)
                }))
            })
        };
        if state.placed.is_empty() && !left().await? {
            return Ok(());
        }
        nft::apply(&whole(&self.table, &state.all())).await
    }

    /// Looks whether everything is still there, and puts it back when not. Answers whether anything at all was changed in the
    /// kernel's rules since the last look.
    ///
    /// # Errors
    /// What the kernel or nft says.
    pub async fn look(&self) -> Result<bool> {
        let mut state = self.state.lock().await;
        let now = generation().await;
        if now.is_some() && now == state.generation {
            return Ok(false);
        }
        let placed: Vec<Placed> = state.placed.values().cloned().collect();
        if !placed.is_empty()
            && !{
                let table = self.table.clone();
                blocking::run(move || complete(&table, &placed)).await?
            }
        {
            tracing::warn!("the rules of networks were removed or changed; they are put back");
            nft::apply(&whole(&self.table, &state.all())).await?;
            state.generation = generation().await;
            return Ok(true);
        }
        state.generation = now;
        Ok(true)
    }
}

impl State {
    fn all(&self) -> Vec<&Placed> {
        self.placed.values().collect()
    }
}

async fn generation() -> Option<u32> {
    blocking::run(|| Ok(netfilter::generation().ok())).await.ok().flatten()
}

/// Whether each network's chains hold as many rules as they should, and packets find them.
fn complete(table: &str, placed: &[Placed]) -> Result<bool> {
    let failed = |e| Error::system(Domain::Firewall, "cannot look for rules", e);
    for (family, number) in [(Family::V4, netfilter::Family::Ip), (Family::V6, netfilter::Family::Ip6)] {
        let here: Vec<&Placed> = placed.iter().filter(|p| p.speaks(family)).collect();
        if here.is_empty() {
            continue;
        }
        let found = netfilter::count_rules(number, table).map_err(failed)?;
        let count = |chain: &str| found.get(chain).copied().unwrap_or(0);
        let whole = here.iter().flat_map(|p| p.counts(family)).all(|(chain, rules)| count(&chain) == rules);
        let jumps = |at: usize| here.iter().map(|p| p.jumps(family)[at]).sum::<usize>();
        let (nat, forwards) = (jumps(0), jumps(1));
        let hooks = usize::from(forwards > 0);
        let shared = [
            ("forward", 2),
            ("postrouting", 1),
            ("nat", nat),
            ("forwards", forwards),
            ("prerouting", hooks),
            ("output", hooks),
        ];
        let maps = ["guests_in", "guests_out"];
        let known = |map: &&str| netfilter::count_elements(number, table, map).is_ok_and(|n| n == here.len());
        if !whole || shared.iter().any(|(chain, rules)| count(chain) < *rules) || !maps.iter().all(known) {
            return Ok(false);
        }
    }
    Ok(true)
}
